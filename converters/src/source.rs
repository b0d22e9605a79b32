//! The bytes of one file, with what is found out about them once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use crate::write::sha256;

/// The bytes of one file. What is read from it borrows from here, also what a zip around a single checkpoint inflates to.
#[derive(Debug)]
pub struct Source<'b> {
    bytes: &'b [u8],
    sha256: OnceLock<String>,
    unpacked_file: OnceLock<Vec<u8>>,
    unpacked_pickle: OnceLock<Vec<u8>>,
    member: Option<&'b [u8]>,
    beside: &'b [(String, &'b [u8])],
    release: Release<'b>,
}

/// Gives back the memory of what was read, where the caller can do that: of a file that is mapped.
#[derive(Clone, Copy, Default)]
pub(crate) struct Release<'b>(Option<&'b dyn Fn()>);

impl Release<'_> {
    /// How much may be read before it is worth while.
    pub(crate) const EVERY: usize = 8 << 20;

    pub(crate) fn now(self) {
        if let Some(release) = self.0 {
            release();
        }
    }
}

impl fmt::Debug for Release<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Release")
    }
}

impl<'b> Source<'b> {
    /// A file's bytes, to be hashed when that is asked for.
    pub fn new(bytes: &'b [u8]) -> Self {
        Self {
            bytes,
            sha256: OnceLock::new(),
            unpacked_file: OnceLock::new(),
            unpacked_pickle: OnceLock::new(),
            member: None,
            beside: &[],
            release: Release::default(),
        }
    }

    /// A file's bytes whose sha256 (lower-case hexadecimal) is known already.
    pub fn hashed(bytes: &'b [u8], sha256: String) -> Self {
        Self { sha256: sha256.into(), ..Self::new(bytes) }
    }

    /// The same file, whose memory `release` gives back: what was read comes again when it is needed again.
    #[must_use]
    pub fn releasing(self, release: &'b dyn Fn()) -> Self {
        Self { release: Release(Some(release)), ..self }
    }

    /// The same file, of which [`Packed::inflate`](crate::Packed::inflate) gave this.
    #[must_use]
    pub fn with_member(self, member: &'b [u8]) -> Self {
        Self { member: Some(member), ..self }
    }

    /// The same file with those beside it that [`neighbours`](crate::neighbours) named, as far as they are there.
    #[must_use]
    pub fn with_neighbours(self, beside: &'b [(String, &'b [u8])]) -> Self {
        Self { beside, ..self }
    }

    /// A file beside this one, by the name that this one gives it.
    pub(crate) fn beside(&self, name: &str) -> Option<&'b [u8]> {
        self.neighbours().find(|(known, _)| *known == name).map(|(_, bytes)| bytes)
    }

    /// All files beside this one.
    pub(crate) fn neighbours(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.beside.iter().map(|(name, bytes)| (name.as_str(), *bytes))
    }

    /// The sha256 of all files beside this one, in lower-case hexadecimal, by their names.
    pub fn sha256_beside(&self) -> BTreeMap<String, String> {
        self.neighbours().map(|(name, bytes)| (name.to_owned(), sha256(bytes))).collect()
    }

    /// Bytes of all files beside this one.
    pub(crate) fn len_beside(&self) -> usize {
        self.neighbours().map(|(_, bytes)| bytes.len()).sum()
    }

    pub(crate) fn release(&self) -> Release<'b> {
        self.release
    }

    pub(crate) fn member(&self) -> Option<&'b [u8]> {
        self.member
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

    /// Keeps the one pickle, or the one file of weights, that was packed in this file.
    pub(crate) fn keep_pickle(&self, unpacked: Vec<u8>) -> &[u8] {
        self.unpacked_pickle.get_or_init(|| unpacked)
    }
}
