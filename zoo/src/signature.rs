//! Signed catalogues: a minisign signature (Ed25519) beside a TOML file.

use std::fs;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};

use crate::Error;

/// The key that catalogues must be signed with.
#[derive(Debug)]
pub struct Key(PublicKey);

impl Key {
    /// A public key as minisign prints it (`RW…`), or a file that holds it.
    pub fn of(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadKey { key: text.to_owned() };
        let key = match PublicKey::from_base64(text) {
            Ok(key) => key,
            Err(_) => PublicKey::decode(&fs::read_to_string(text).map_err(|_| bad())?).map_err(|_| bad())?,
        };
        Ok(Self(key))
    }

    /// Checks `FILE.minisig` against the content of `FILE`.
    pub(crate) fn check(&self, file: &Path, content: &[u8]) -> Result<(), Error> {
        let mut name = file.as_os_str().to_owned();
        name.push(".minisig");
        let signature = PathBuf::from(name);
        let refuse = |reason: &str| Error::Signature { file: file.to_owned(), reason: reason.to_owned() };
        let text = fs::read_to_string(&signature)
            .map_err(|error| refuse(&format!("{} cannot be read: {error}", signature.display())))?;
        let signature = Signature::decode(&text).map_err(|error| refuse(&format!("its signature is none: {error}")))?;
        self.0.verify(content, &signature, false).map_err(|error| refuse(&error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/minisign/");

    #[test]
    fn only_the_signed_bytes_and_the_right_key_pass() {
        let file = Path::new(FOLDER).join("signed.toml");
        let content = fs::read(&file).unwrap();
        let key = Key::of(&format!("{FOLDER}zoo.pub")).unwrap();
        key.check(&file, &content).unwrap();
        for at in [0, content.len() / 2, content.len() - 1] {
            let mut tampered = content.clone();
            tampered[at] ^= 1;
            let error = key.check(&file, &tampered).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Negative, "{error}");
        }
        assert!(Key::of(&format!("{FOLDER}other.pub")).unwrap().check(&file, &content).is_err());
        let unsigned = Path::new(FOLDER).join("zoo.pub");
        assert!(key.check(&unsigned, b"").unwrap_err().to_string().contains("zoo.pub.minisig cannot be read"));
        assert!(Key::of("RWnonsense").is_err());
    }
}
