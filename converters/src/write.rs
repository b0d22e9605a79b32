//! safetensors, written so that the same tensors give the same bytes everywhere.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, NamedTensor};
use crate::convert::source_metadata;
use crate::error::Error;

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

/// Writes every tensor of a checkpoint under its own name, whatever it is, and returns the output's sha256.
pub fn write_raw(checkpoint: &Checkpoint, source_sha256: &str, out: &mut dyn Write) -> Result<String, Error> {
    checkpoint.has_tensors()?;
    let metadata = source_metadata(checkpoint.format(), source_sha256).to_map();
    write(&metadata, checkpoint.tensors(), out)
}
