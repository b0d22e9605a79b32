//! Digests: what is known of a file, and what is computed while its bytes move.

use std::io::{self, Write};

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// What is known of a file's content, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Digest {
    /// All 64 digits.
    Sha256(String),
    /// The first digits of the sha256, as in torchvision's file names.
    Sha256Prefix(String),
    /// All 40 digits.
    Sha1(String),
    /// All 32 digits.
    Md5(String),
}

impl Digest {
    /// How much it says, in words.
    pub fn strength(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha256Prefix(digits) if digits.len() == 8 => "sha256 prefix (8 digits)",
            Self::Sha256Prefix(_) => "sha256 prefix",
            Self::Sha1(_) => "sha1",
            Self::Md5(_) => "md5",
        }
    }

    /// The digits themselves.
    pub fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::Sha256Prefix(digits) | Self::Sha1(digits) | Self::Md5(digits) => digits,
        }
    }

    /// The digits of these bytes, of the same kind, if they are others.
    pub fn differs_from(&self, bytes: &[u8]) -> Option<String> {
        let mut hashing = Hashing::new(io::sink(), Some(self));
        hashing.absorb(bytes);
        hashing.hashed().differs(self)
    }

    pub(crate) fn is_well_formed(&self) -> bool {
        let lengths = match self {
            Self::Sha256(_) => 64..=64,
            Self::Sha256Prefix(_) => 8..=63,
            Self::Sha1(_) => 40..=40,
            Self::Md5(_) => 32..=32,
        };
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        lengths.contains(&self.digits().len()) && self.digits().bytes().all(digit)
    }
}

/// Passes bytes on and hashes them: always sha256, and the weaker kind where that is all that is known.
pub(crate) struct Hashing<W> {
    inner: W,
    sha256: Sha256,
    weaker: Weaker,
    bytes: u64,
}

#[derive(Clone)]
enum Weaker {
    None,
    Sha1(Sha1),
    Md5(Md5),
}

/// What came out of a [`Hashing`].
pub(crate) struct Hashed {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    weaker: Option<String>,
}

impl<W> Hashing<W> {
    pub(crate) fn new(inner: W, expected: Option<&Digest>) -> Self {
        Self { inner, sha256: Sha256::new(), weaker: Weaker::of(expected), bytes: 0 }
    }

    /// Forgets what was hashed.
    pub(crate) fn restart(&mut self, expected: Option<&Digest>) {
        (self.sha256, self.weaker, self.bytes) = (Sha256::new(), Weaker::of(expected), 0);
    }

    /// Hashes bytes that need not be passed on.
    pub(crate) fn absorb(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        match &mut self.weaker {
            Weaker::None => {}
            Weaker::Sha1(hasher) => hasher.update(bytes),
            Weaker::Md5(hasher) => hasher.update(bytes),
        }
        self.bytes += bytes.len() as u64;
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn inner(&self) -> &W {
        &self.inner
    }

    /// The digests of what was hashed so far.
    pub(crate) fn hashed(&self) -> Hashed {
        let weaker = match self.weaker.clone() {
            Weaker::None => None,
            Weaker::Sha1(hasher) => Some(hex(&hasher.finalize())),
            Weaker::Md5(hasher) => Some(hex(&hasher.finalize())),
        };
        Hashed { bytes: self.bytes, sha256: hex(&self.sha256.clone().finalize()), weaker }
    }
}

impl<W: Write> Hashing<W> {
    pub(crate) fn finish(mut self) -> io::Result<(W, Hashed)> {
        self.inner.flush()?;
        let hashed = self.hashed();
        Ok((self.inner, hashed))
    }
}

impl Weaker {
    fn of(expected: Option<&Digest>) -> Self {
        match expected {
            Some(Digest::Sha1(_)) => Self::Sha1(Sha1::new()),
            Some(Digest::Md5(_)) => Self::Md5(Md5::new()),
            _ => Self::None,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.absorb(buffer.get(..count).unwrap_or(buffer));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Hashed {
    /// The computed digits of the same kind as `expected`, if they differ from it.
    pub(crate) fn differs(&self, expected: &Digest) -> Option<String> {
        let computed = match expected {
            Digest::Sha256(_) => self.sha256.as_str(),
            Digest::Sha256Prefix(prefix) => self.sha256.get(..prefix.len()).unwrap_or_default(),
            Digest::Sha1(_) | Digest::Md5(_) => self.weaker.as_deref().unwrap_or_default(),
        };
        (computed != expected.digits()).then(|| computed.to_owned())
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // FIPS 180 and RFC 1321 print the digests of "abc".
    #[test]
    fn digests_of_abc_are_the_published_ones() {
        for expected in [
            Digest::Sha256("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into()),
            Digest::Sha256Prefix("ba7816bf".into()),
            Digest::Sha1("a9993e364706816aba3e25717850c26c9cd0d89d".into()),
            Digest::Md5("900150983cd24fb0d6963f7d28e17f72".into()),
        ] {
            let hashed = |bytes: &[u8]| {
                let mut hashing = Hashing::new(Vec::new(), Some(&expected));
                hashing.write_all(bytes).unwrap();
                hashing.finish().unwrap().1
            };
            assert!(expected.is_well_formed());
            assert_eq!(hashed(b"abc").differs(&expected), None, "{expected:?}");
            assert!(hashed(b"abd").differs(&expected).is_some(), "{expected:?}");
        }
    }
}
