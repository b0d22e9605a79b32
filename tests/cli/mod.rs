//! Runs the binary.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a command left.
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `densenet-zoo` with a cache of its own.
pub(crate) fn run(cache: &Path, arguments: &[&str]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"))
        .env("DENSENET_ZOO_CACHE", cache)
        .args(arguments)
        .output()
        .expect("the binary runs");
    Outcome {
        code: output.status.code().expect("it was not killed"),
        stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

/// A file under tests/fixtures; where cargo does not run the tests, of the folder that the variable names.
pub(crate) fn fixture(name: &str) -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&root).join("tests/fixtures").join(name)
}

/// Its path as text.
pub(crate) fn path(name: &str) -> String {
    fixture(name).to_str().expect("the path is UTF-8").to_owned()
}
