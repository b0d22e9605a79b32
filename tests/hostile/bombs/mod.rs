//! Small files that ask for much: of memory, of the stack, of time. Each is refused or read within the bounds of any file.

mod claims;
mod compression;
mod expansion;
mod many;
mod nesting;

use densenet_converters::ErrorKind;

use crate::harness::{alone, exercise};

/// The input is refused as malformed, with this in the text.
fn refused(name: &str, bytes: &[u8], cause: &str) {
    let text = exercise(name, bytes).refused(name);
    assert!(text.contains(cause), "{name}: {text}");
}

/// Whatever becomes of it, it stays within bounds.
fn bounded(name: &str, bytes: &[u8]) {
    exercise(name, bytes);
}

/// Nothing that is read here is a failure of writing, or of a network that is not complete.
#[test]
fn what_is_refused_is_malformed() {
    let _alone = alone();
    let outcome = exercise("nothing", b"");
    assert_eq!(outcome.raw.expect_err("nothing is in it").kind(), ErrorKind::Malformed);
}
