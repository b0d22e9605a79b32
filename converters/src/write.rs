//! safetensors, written so that the same tensors give the same bytes everywhere.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use densenet_arch::Metadata;
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, NamedTensor};
use crate::convert::source_metadata;
use crate::error::Error;
use crate::source::Source;
use crate::storage::Storage;
use crate::tensor::{DType, Tensor};

/// The sha256 of some bytes, in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_ref())
}

/// The sha256 of all that a reader gives, in lower-case hexadecimal.
pub fn sha256_of(reader: &mut dyn Read) -> io::Result<String> {
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hex(sha256.finalize().as_ref())),
            Ok(read) => sha256.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Passes bytes on and hashes them.
struct Hashing<'w> {
    out: &'w mut dyn Write,
    sha256: Sha256,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sha256.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes header and data, and returns their sha256. Tensors are ordered by element size, then name, so that each lies
/// aligned.
pub(crate) fn write(
    metadata: &BTreeMap<String, String>,
    tensors: &[NamedTensor],
    out: &mut dyn Write,
) -> Result<String, Error> {
    let mut out = Hashing { out, sha256: Sha256::new() };
    let mut ordered: Vec<_> = tensors.iter().collect();
    ordered.sort_by(|a, b| (b.tensor.dtype().size(), &a.name).cmp(&(a.tensor.dtype().size(), &b.name)));
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let mut entries = Vec::new();
    if !metadata.is_empty() {
        let pairs: Vec<_> = metadata.iter().map(|(key, value)| format!("{}:{}", quote(key), quote(value))).collect();
        entries.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    let mut at = 0;
    for NamedTensor { name, tensor } in &ordered {
        let sizes: Vec<_> = tensor.shape().iter().map(ToString::to_string).collect();
        let end = at + tensor.byte_len();
        entries.push(format!(
            "{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{at},{end}]}}",
            quote(name),
            tensor.dtype().name(),
            sizes.join(",")
        ));
        at = end;
    }
    let mut header = format!("{{{}}}", entries.join(","));
    // Spaces up to a multiple of eight, so that the data is aligned in the file too.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for named in ordered {
        named.tensor.write_to(&mut out)?;
    }
    out.flush()?;
    Ok(hex(out.sha256.finalize().as_ref()))
}

/// Writes every tensor of the source's checkpoint under its own name, whatever it is, and returns the output's sha256.
pub fn write_raw(checkpoint: &Checkpoint, source: &Source, out: &mut dyn Write) -> Result<String, Error> {
    checkpoint.has_tensors()?;
    let metadata = source_metadata(checkpoint.format(), source).to_map();
    write(&metadata, checkpoint.tensors(), out)
}

/// Writes tensors of single precision, each with name, shape and values, and returns the output's sha256. The same tensors
/// and metadata give the same bytes.
pub fn write_f32<'t>(
    metadata: &Metadata,
    tensors: impl IntoIterator<Item = (String, &'t [usize], &'t [f32])>,
    out: &mut dyn Write,
) -> Result<String, Error> {
    let named = tensors.into_iter().map(|(name, shape, values)| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = Tensor::contiguous(DType::F32, shape.to_vec(), Storage::owned(bytes));
        let tensor = tensor.map_err(|reason| Error::Layout(format!("{name}: {reason}")))?;
        Ok(NamedTensor { name, tensor })
    });
    write(&metadata.to_map(), &named.collect::<Result<Vec<_>, Error>>()?, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_safetensors_and_must_fill_their_shape() {
        let metadata = Metadata { num_classes: Some(2), ..Metadata::default() };
        let tensors = |values| [("b".to_owned(), &[2, 2][..], values), ("a".to_owned(), &[1][..], &[-0.5_f32][..])];
        let mut out = Vec::new();
        let sha = write_f32(&metadata, tensors(&[1.0, 2.0, 3.0, f32::NAN]), &mut out).unwrap();
        assert_eq!(sha, sha256(&out));
        let file = safetensors::SafeTensors::deserialize(&out).unwrap();
        let (a, b) = (file.tensor("a").unwrap(), file.tensor("b").unwrap());
        assert_eq!((a.shape(), a.data()), (&[1][..], &(-0.5_f32).to_le_bytes()[..]));
        assert_eq!((b.shape(), &b.data()[8..12]), (&[2, 2][..], &3.0_f32.to_le_bytes()[..]));
        let refused = write_f32(&metadata, tensors(&[1.0]), &mut Vec::new()).unwrap_err().to_string();
        assert!(refused.contains("b: shape [2, 2]"), "{refused}");
    }
}
