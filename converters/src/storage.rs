//! The memory that tensors are views of. What a file keeps packed or as text is decoded when it is first needed: of the
//! gradients and optimiser states in a checkpoint, never.

use std::borrow::Cow;
use std::io::Read;
use std::sync::{Arc, OnceLock};

use half::f16;

use crate::alloc::vec_with;
use crate::error::Error;
use crate::tensor::DType;

/// Order of the bytes of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    Little,
    Big,
}

/// The memory that tensors are views of.
#[derive(Clone, Debug)]
pub(crate) struct Storage<'a> {
    content: Content<'a>,
    /// Where in the content it begins, once that is decoded, and how long it is: in bytes.
    start: usize,
    len: usize,
    pub(crate) order: ByteOrder,
}

#[derive(Clone, Debug)]
enum Content<'a> {
    Plain(&'a [u8]),
    Owned(Arc<[u8]>),
    Coded(Arc<Coded<'a>>),
}

#[derive(Debug)]
struct Coded<'a> {
    bytes: &'a [u8],
    coding: Coding,
    /// Bytes once decoded.
    len: usize,
    /// Where in which file, for errors.
    format: &'static str,
    offset: usize,
    /// `None` once checked, where the bytes themselves are the content.
    decoded: OnceLock<Result<Option<Vec<u8>>, String>>,
}

/// How a file keeps a storage.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Coding {
    /// As it is, with a CRC-32; 0 where the writer left it out, as torch can be told to.
    Checked(u32),
    /// Deflated, with the CRC-32 of the content.
    Deflated(u32),
    /// Decimal numbers between white space.
    Text(DType),
    /// Integers of 32 bits that stand for 64.
    Widened(ByteOrder),
}

impl<'a> Storage<'a> {
    pub(crate) fn plain(bytes: &'a [u8]) -> Self {
        Self { content: Content::Plain(bytes), start: 0, len: bytes.len(), order: ByteOrder::Little }
    }

    pub(crate) fn owned(bytes: Vec<u8>) -> Self {
        Self { start: 0, len: bytes.len(), content: Content::Owned(bytes.into()), order: ByteOrder::Little }
    }

    /// `bytes` at `offset` of a file, to be decoded into `len` bytes.
    pub(crate) fn coded(bytes: &'a [u8], coding: Coding, len: usize, format: &'static str, offset: usize) -> Self {
        let coded = Coded { bytes, coding, len, format, offset, decoded: OnceLock::new() };
        Self { content: Content::Coded(Arc::new(coded)), start: 0, len, order: ByteOrder::Little }
    }

    pub(crate) fn with_order(self, order: ByteOrder) -> Self {
        Self { order, ..self }
    }

    /// Bytes that decoding takes beyond twice what stands in the file: a digit of text may stand for eight.
    pub(crate) fn growth(&self) -> usize {
        match &self.content {
            Content::Coded(coded) if matches!(coded.coding, Coding::Text(_)) => {
                coded.len.saturating_sub(2 * coded.bytes.len())
            }
            _ => 0,
        }
    }

    /// Bytes once decoded.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bytes, decoded and checked the first time.
    pub(crate) fn bytes(&self) -> Result<&[u8], Error> {
        let content = match &self.content {
            Content::Plain(bytes) => bytes,
            Content::Owned(bytes) => &bytes[..],
            Content::Coded(coded) => coded.bytes()?,
        };
        Ok(content.get(self.start..).and_then(|rest| rest.get(..self.len)).unwrap_or_default())
    }

    /// All of the bytes, borrowed from the file where they lie in it as they are.
    pub(crate) fn into_bytes(self) -> Result<Cow<'a, [u8]>, Error> {
        self.bytes()?;
        match self.content {
            Content::Plain(bytes) if self.start == 0 && self.len == bytes.len() => Ok(Cow::Borrowed(bytes)),
            Content::Coded(coded) if self.start == 0 && self.len == coded.len => match Arc::try_unwrap(coded) {
                Ok(Coded { bytes, decoded, .. }) => match decoded.into_inner() {
                    Some(Ok(Some(decoded))) => Ok(Cow::Owned(decoded)),
                    _ => Ok(Cow::Borrowed(bytes)),
                },
                Err(shared) => Ok(Cow::Owned(shared.bytes()?.to_vec())),
            },
            _ => Ok(Cow::Owned(self.bytes()?.to_vec())),
        }
    }

    /// A part of it, in bytes; `None` where it would leave it.
    pub(crate) fn part(&self, from: usize, len: usize) -> Option<Self> {
        let inside = from.checked_add(len).is_some_and(|end| end <= self.len);
        inside.then(|| Self { start: self.start + from, len, ..self.clone() })
    }
}

impl Coded<'_> {
    fn bytes(&self) -> Result<&[u8], Error> {
        match self.decoded.get_or_init(|| self.decode(self.len)) {
            Ok(Some(decoded)) => Ok(decoded),
            Ok(None) => Ok(self.bytes),
            Err(reason) => Err(Error::Malformed { format: self.format, offset: self.offset, reason: reason.clone() }),
        }
    }

    fn decode(&self, len: usize) -> Result<Option<Vec<u8>>, String> {
        let check = |bytes: &[u8], crc: u32| {
            let found = crc32fast::hash(bytes);
            let same = crc == 0 || found == crc;
            same.then_some(())
                .ok_or_else(|| format!("its CRC-32 is {found:08x} and should be {crc:08x}: it is damaged"))
        };
        match self.coding {
            Coding::Checked(crc) => check(self.bytes, crc).map(|()| None),
            Coding::Deflated(crc) => {
                let mut out = vec_with(len).map_err(|error| error.to_string())?;
                // One byte more than announced shows a stream that is longer.
                let stream = flate2::read::DeflateDecoder::new(self.bytes).take(len as u64 + 1).read_to_end(&mut out);
                stream.map_err(|error| format!("it does not inflate: {error}"))?;
                if out.len() != len {
                    return Err(format!("it does not inflate to the {len} bytes that are announced"));
                }
                check(&out, crc)?;
                Ok(Some(out))
            }
            Coding::Text(dtype) => {
                let mut out = vec_with(len).map_err(|error| error.to_string())?;
                for number in self.bytes.split(u8::is_ascii_whitespace).filter(|number| !number.is_empty()) {
                    parse(number, dtype, &mut out)
                        .ok_or_else(|| format!("{:?} is no {}", number.escape_ascii().to_string(), dtype.name()))?;
                }
                Ok(Some(out))
            }
            Coding::Widened(order) => {
                let mut out = vec_with(len).map_err(|error| error.to_string())?;
                for &narrow in self.bytes.as_chunks().0 {
                    let value = match order {
                        ByteOrder::Little => i32::from_le_bytes(narrow),
                        ByteOrder::Big => i32::from_be_bytes(narrow),
                    };
                    out.extend(i64::from(value).to_le_bytes());
                }
                Ok(Some(out))
            }
        }
    }
}

/// A decimal number as Torch prints it, appended little-endian.
fn parse(number: &[u8], dtype: DType, out: &mut Vec<u8>) -> Option<()> {
    let text = std::str::from_utf8(number).ok()?;
    match dtype {
        DType::F64 => out.extend(text.parse::<f64>().ok()?.to_le_bytes()),
        DType::F32 => out.extend(text.parse::<f32>().ok()?.to_le_bytes()),
        DType::F16 => out.extend(f16::from_f32(text.parse().ok()?).to_le_bytes()),
        DType::I64 => out.extend(text.parse::<i64>().ok()?.to_le_bytes()),
        DType::I32 => out.extend(text.parse::<i32>().ok()?.to_le_bytes()),
        DType::I16 => out.extend(text.parse::<i16>().ok()?.to_le_bytes()),
        // These are kept as bytes, never as text.
        DType::BF16 | DType::I8 | DType::U8 | DType::Bool => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8], dtype: DType, count: usize) -> Result<Vec<u8>, String> {
        let storage = Storage::coded(bytes, Coding::Text(dtype), count * dtype.size(), "test", 7);
        storage.bytes().map(<[u8]>::to_vec).map_err(|error| error.to_string())
    }

    #[test]
    fn text_is_read_as_torch_prints_it() {
        let floats = text(b"1.5 -0 inf -inf 9.99994610e-41", DType::F32, 5).unwrap();
        let expected = [1.5_f32, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(71_362)];
        assert_eq!(floats, expected.map(f32::to_le_bytes).concat());
        assert_eq!(text(b"-nan", DType::F64, 1).unwrap(), [0, 0, 0, 0, 0, 0, 0xf8, 0xff]);
        assert_eq!(text(b"-9223372036854775808", DType::I64, 1).unwrap(), i64::MIN.to_le_bytes());
        assert_eq!(text(b"1 x", DType::I32, 2).unwrap_err(), "test: byte 7: \"x\" is no I32");
    }

    #[test]
    fn damage_is_found_when_the_content_is_first_needed() {
        let good = Storage::coded(b"123456789", Coding::Checked(0xcbf4_3926), 9, "test", 3);
        assert_eq!(good.bytes().unwrap(), b"123456789");
        let bad = Storage::coded(b"123456780", Coding::Checked(0xcbf4_3926), 9, "test", 3);
        let text = bad.bytes().unwrap_err().to_string();
        assert!(text.starts_with("test: byte 3: its CRC-32 is "), "{text}");
        // Nine stored bytes of a deflate stream (RFC 1951, 3.2.4).
        let stream = [&[1, 9, 0, !9, 0xff][..], b"123456789"].concat();
        let inflated =
            |len| Storage::coded(&stream, Coding::Deflated(0xcbf4_3926), len, "test", 0).bytes().map(<[u8]>::to_vec);
        assert_eq!(inflated(9).unwrap(), b"123456789");
        assert!(inflated(8).is_err() && inflated(10).is_err());
    }
}
