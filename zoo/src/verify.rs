//! The cache hashed again.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::digest::{Hashed, Hashing};
use crate::{Cache, Digest, Error, Object, Progress, Record, Weight};

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The record whose files are as they were.
    pub record: Record,
    /// What the original was compared with, beside its pin.
    pub digest_strength: String,
}

/// Hashes a weight's cached files again, and compares with the record and with the catalogue's digest.
pub fn verify(weight: &Weight, cache: &Cache, progress: &mut dyn Progress) -> Result<Verified, Error> {
    let record = cache.record(&weight.name)?.ok_or_else(|| Error::NotCached { name: weight.name.clone() })?;
    for object in [Some(&record.original), record.converted.as_ref()].into_iter().flatten() {
        let hashed = hash(object, weight.file.digest.as_ref(), progress)?;
        compare(object, &Digest::Sha256(object.sha256.clone()), &hashed)?;
        if let Some(expected) = weight.file.digest.as_ref().filter(|_| *object == record.original) {
            compare(object, expected, &hashed)?;
        }
    }
    Ok(Verified { digest_strength: weight.digest_strength().to_owned(), record })
}

fn compare(object: &Object, expected: &Digest, hashed: &Hashed) -> Result<(), Error> {
    hashed.differs(expected).map_or(Ok(()), |computed| {
        Err(Error::WrongDigest {
            source_name: object.path.display().to_string(),
            strength: expected.strength(),
            expected: expected.digits().to_owned(),
            computed,
        })
    })
}

fn hash(object: &Object, expected: Option<&Digest>, progress: &mut dyn Progress) -> Result<Hashed, Error> {
    let mut file = File::open(&object.path).map_err(Error::io("read", &object.path))?;
    let mut sink = Hashing::new(io::sink(), expected);
    let mut buffer = vec![0; 1 << 16];
    progress.start(&object.path.display().to_string(), Some(object.size));
    let outcome = loop {
        match file.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                if let Err(error) = sink.write_all(buffer.get(..count).unwrap_or_default()) {
                    break Err(error);
                }
                progress.advance(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    progress.finish();
    outcome.and_then(|()| sink.finish()).map(|(_, hashed)| hashed).map_err(Error::io("read", &object.path))
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use super::*;
    use crate::{Catalogue, ErrorKind, FetchOptions, Silent, fetch};

    #[test]
    fn the_embedded_weight_is_fetched_converted_and_verified_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let catalogue = Catalogue::builtin().unwrap();
        let weight = catalogue.find("digits").unwrap();
        assert_eq!(verify(weight, &cache, &mut Silent).unwrap_err().kind(), ErrorKind::Usage);

        let record = fetch(weight, &cache, &FetchOptions::default(), &mut Silent).unwrap();
        assert_eq!(record.original.size, 348_251);
        assert_eq!(fs::read(&record.original.path).unwrap(), crate::embedded("digits/model_best.t7").unwrap());
        let record = cache.add_converted("digits.torch", |out| out.write_all(b"abc")).unwrap();
        let converted = record.converted.clone().unwrap();
        assert_eq!(converted.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(cache.add_converted("digits.torch", |_| Err(io::Error::other("no"))).is_err());
        // Two objects in folders of their own; no partial file beside them.
        assert_eq!(fs::read_dir(folder.path().join("objects")).unwrap().count(), 2);
        assert_eq!(verify(weight, &cache, &mut Silent).unwrap().record, record);

        fs::remove_file(&record.original.path).unwrap();
        assert_eq!(cache.record("digits.torch").unwrap(), None);
        fs::write(&record.original.path, b"damaged").unwrap();
        let error = verify(weight, &cache, &mut Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Negative);
        assert!(error.to_string().contains("expected 5992b6bb"), "{error}");
    }
}
