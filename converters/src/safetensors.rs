//! safetensors: eight bytes of header length, a JSON header, the data without gaps or overlaps.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::alloc::Budget;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::storage::Storage;
use crate::tensor::{DType, Tensor};

const FORMAT: &str = "safetensors";
/// A header of 1600 tensors and 1000 class names takes 200 kB.
const MOST_HEADER: u64 = 8 << 20;
const METADATA: &str = "__metadata__";

type Metadata = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// Tensors in a file.
const MOST_TENSORS: usize = 32_768;
/// Entries in the metadata.
const MOST_METADATA: usize = 4096;

/// Metadata and tensors.
pub(crate) type Found<'a> = (Metadata, Vec<(String, Tensor<'a>)>);

/// Metadata of a bounded number of entries.
struct Bounded(Metadata);

impl<'de> Deserialize<'de> for Bounded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Bounded;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bounded, A::Error> {
                let mut texts = Metadata::new();
                while let Some((key, value)) = map.next_entry()? {
                    texts.insert(key, value);
                    if texts.len() > MOST_METADATA {
                        return Err(A::Error::custom(format!("more than {MOST_METADATA} entries of metadata")));
                    }
                }
                Ok(Bounded(texts))
            }
        }
        deserializer.deserialize_map(Texts)
    }
}

/// The JSON header, read into what it has to be: no more memory than it justifies.
#[derive(Default)]
struct Header {
    metadata: Metadata,
    entries: BTreeMap<String, Entry>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        header.metadata = map.next_value::<Bounded>()?.0;
                        continue;
                    }
                    if header.entries.len() == MOST_TENSORS {
                        return Err(A::Error::custom(format!("more than {MOST_TENSORS} tensors")));
                    }
                    let entry = map.next_value()?;
                    if header.entries.contains_key(&name) {
                        return Err(A::Error::custom(format!("tensor {name:?} comes twice")));
                    }
                    header.entries.insert(name, entry);
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Whether the bytes begin with a plausible length and a JSON object.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    let mut cursor = Cursor::new(bytes, FORMAT);
    matches!((cursor.u64(), cursor.u8()), (Ok(2..=MOST_HEADER), Ok(b'{')))
}

/// Reads header and views.
pub(crate) fn read<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Found<'a>, Error> {
    let mut cursor = Cursor::new(bytes, FORMAT);
    let length = usize::try_from(cursor.u64()?).unwrap_or(usize::MAX);
    let header = cursor.take(length)?;
    let header: Header = serde_json::from_slice(header).map_err(|error| {
        cursor.error_at(8 + error.column().saturating_sub(1), format!("its header is wrong: {error}"))
    })?;
    let start = cursor.at();
    let data = cursor.take(cursor.remaining())?;
    let mut tensors = Vec::new();
    let mut spans = Vec::new();
    for (name, entry) in header.entries {
        let refuse = |reason: String| Error::Tensor { format: FORMAT, offset: 8, tensor: name.clone(), reason };
        let dtype = DType::from_name(&entry.dtype);
        let dtype = dtype.ok_or_else(|| refuse(format!("type {} is not supported", entry.dtype)))?;
        budget.spend_tensor(&name).map_err(|reason| refuse(reason.to_owned()))?;
        let (from, to) = entry.data_offsets;
        let bytes = data.get(from..to).ok_or_else(|| refuse(format!("bytes {from}..{to} lie outside the file")))?;
        let tensor = Tensor::contiguous(dtype, entry.shape, Storage::plain(bytes)).map_err(refuse)?;
        spans.push((from, to));
        tensors.push((name, tensor));
    }
    spans.sort_unstable();
    let end = spans.iter().try_fold(0, |at, &(from, to)| (from == at).then_some(to));
    if end != Some(data.len()) {
        return Err(cursor.error_at(start, "the tensors overlap or leave bytes that belong to none"));
    }
    Ok((header.metadata, tensors))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn overlaps_gaps_and_false_sizes_are_refused() {
        let entry = |from: usize, to: usize| {
            format!(r#"{{"dtype":"U8","shape":[{}],"data_offsets":[{from},{to}]}}"#, to - from)
        };
        let two = |a: String, b: String, data: &[u8]| {
            let bytes = file(&format!(r#"{{"a":{a},"b":{b}}}"#), data);
            read(&bytes, &mut Budget::unlimited()).map(|(_, tensors)| tensors.len()).map_err(|error| error.to_string())
        };
        assert_eq!(two(entry(0, 2), entry(2, 3), &[0; 3]), Ok(2));
        assert!(two(entry(0, 2), entry(1, 3), &[0; 3]).unwrap_err().contains("overlap"));
        assert!(two(entry(0, 1), entry(2, 3), &[0; 3]).unwrap_err().contains("overlap or leave"));
        assert!(two(entry(0, 2), entry(2, 3), &[0; 4]).is_err());
        assert!(two(entry(0, 2), entry(2, 9), &[0; 3]).unwrap_err().contains("outside the file"));
        let wrong = file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, &[0; 4]);
        assert!(
            read(&wrong, &mut Budget::unlimited())
                .unwrap_err()
                .to_string()
                .starts_with("safetensors: byte 8: tensor \"a\": ")
        );
        assert!(read(&file("{", &[]), &mut Budget::unlimited()).is_err());
        assert!(read(&[9, 0, 0, 0, 0, 0, 0, 0, b'{'], &mut Budget::unlimited()).is_err());
    }
}
