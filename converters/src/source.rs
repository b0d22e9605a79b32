//! The bytes of one file, with what is found out about them once.

use std::sync::OnceLock;

use crate::write::sha256;

/// The bytes of one file. What is read from it borrows from here, also what a zip around a single checkpoint inflates to.
#[derive(Debug)]
pub struct Source<'b> {
    bytes: &'b [u8],
    sha256: OnceLock<String>,
    unpacked_file: OnceLock<Vec<u8>>,
    unpacked_pickle: OnceLock<Vec<u8>>,
}

impl<'b> Source<'b> {
    /// A file's bytes, to be hashed when that is asked for.
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, sha256: OnceLock::new(), unpacked_file: OnceLock::new(), unpacked_pickle: OnceLock::new() }
    }

    /// A file's bytes whose sha256 (lower-case hexadecimal) is known already.
    pub fn hashed(bytes: &'b [u8], sha256: String) -> Self {
        Self { sha256: sha256.into(), ..Self::new(bytes) }
    }

    /// The bytes.
    pub fn bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// Their sha256, in lower-case hexadecimal.
    pub fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| sha256(self.bytes))
    }

    /// Keeps the one file that was packed in this one.
    pub(crate) fn keep_file(&self, unpacked: Vec<u8>) -> &[u8] {
        self.unpacked_file.get_or_init(|| unpacked)
    }

    /// Keeps the one pickle that was packed in this file.
    pub(crate) fn keep_pickle(&self, unpacked: Vec<u8>) -> &[u8] {
        self.unpacked_pickle.get_or_init(|| unpacked)
    }
}
