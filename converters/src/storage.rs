//! The memory that tensors are views of. What a file keeps packed or as text is decoded when it is needed, and as far as it
//! is needed: of the gradients and optimiser states in a checkpoint, nothing.

use std::borrow::Cow;
use std::io::{self, Read, Write};
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
    /// Of a zip's entry: `None` once checked, where the bytes themselves are the content.
    decoded: OnceLock<Result<Option<Vec<u8>>, String>>,
}

/// Where the numbers of a text begin: every so many of them.
#[derive(Debug, Default)]
pub(crate) struct Index(Vec<usize>);

impl Index {
    pub(crate) const EVERY: usize = 4096;

    /// Notes that the number of that count begins there.
    pub(crate) fn note(&mut self, number: usize, at: usize) {
        if number.is_multiple_of(Self::EVERY) {
            self.0.push(at);
        }
    }
}

/// How a file keeps a storage.
#[derive(Debug)]
pub(crate) enum Coding {
    /// As it is, with a CRC-32; 0 where the writer left it out, as torch can be told to.
    Checked(u32),
    /// Deflated, with the CRC-32 of the content.
    Deflated(u32),
    /// Decimal numbers between white space.
    Text(DType, Index),
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
            Content::Coded(coded) if matches!(coded.coding, Coding::Text(..)) => {
                coded.len.saturating_sub(2 * coded.bytes.len())
            }
            _ => 0,
        }
    }

    /// Bytes once decoded.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Some of the bytes. Of text and of narrow integers only these are decoded: `from` and `len` are of whole elements.
    pub(crate) fn span(&self, from: usize, len: usize) -> Result<Cow<'_, [u8]>, Error> {
        let outside = || Error::Layout(format!("{len} bytes from {from} lie outside a storage of {}", self.len));
        if from.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(outside());
        }
        let from = self.start + from;
        let cut = |bytes: &'_ [u8]| bytes.get(from..).and_then(|rest| rest.get(..len)).map(<[u8]>::to_vec);
        let borrowed = match &self.content {
            Content::Plain(bytes) => bytes,
            Content::Owned(bytes) => &bytes[..],
            Content::Coded(coded) => match coded.coding {
                Coding::Text(..) | Coding::Widened(_) => return coded.decode_span(from, len).map(Cow::Owned),
                // Nobody else will ask for it: what it inflates to need not be kept.
                Coding::Deflated(_) if Arc::strong_count(coded) == 1 => {
                    let inflated = coded.decode().map_err(|reason| coded.error(reason))?.unwrap_or_default();
                    return cut(&inflated).map(Cow::Owned).ok_or_else(outside);
                }
                Coding::Checked(_) | Coding::Deflated(_) => coded.bytes()?,
            },
        };
        borrowed.get(from..).and_then(|rest| rest.get(..len)).map(Cow::Borrowed).ok_or_else(outside)
    }

    /// Whether a long span is best taken in pieces.
    pub(crate) fn is_decoded_in_pieces(&self) -> bool {
        matches!(&self.content, Content::Coded(coded) if matches!(coded.coding, Coding::Text(..) | Coding::Widened(_)))
    }

    /// A part of it, in bytes; `None` where it would leave it.
    pub(crate) fn part(&self, from: usize, len: usize) -> Option<Self> {
        let inside = from.checked_add(len).is_some_and(|end| end <= self.len);
        inside.then(|| Self { start: self.start + from, len, ..self.clone() })
    }
}

impl Coded<'_> {
    fn error(&self, reason: String) -> Error {
        Error::Malformed { format: self.format, offset: self.offset, reason }
    }

    /// All of a zip's entry.
    fn bytes(&self) -> Result<&[u8], Error> {
        match self.decoded.get_or_init(|| self.decode()) {
            Ok(Some(decoded)) => Ok(decoded),
            Ok(None) => Ok(self.bytes),
            Err(reason) => Err(self.error(reason.clone())),
        }
    }

    /// Some of a text or of narrow integers.
    fn decode_span(&self, from: usize, len: usize) -> Result<Vec<u8>, Error> {
        let mut out = vec_with(len)?;
        match &self.coding {
            Coding::Text(dtype, index) => {
                let (first, count) = (from / dtype.size(), len / dtype.size());
                let at = index.0.get(first / Index::EVERY).copied().unwrap_or_default();
                let rest = self.bytes.get(at..).unwrap_or_default();
                let numbers = rest.split(u8::is_ascii_whitespace).filter(|number| !number.is_empty());
                for number in numbers.skip(first % Index::EVERY).take(count) {
                    parse(number, *dtype, &mut out).ok_or_else(|| {
                        let shown = number.get(..24).unwrap_or(number).escape_ascii();
                        self.error(format!("\"{shown}\" is no {}", dtype.name()))
                    })?;
                }
            }
            Coding::Widened(order) => {
                let narrow = self.bytes.get(from / 2..).unwrap_or_default();
                for &narrow in narrow.as_chunks().0.iter().take(len / 8) {
                    let value = match order {
                        ByteOrder::Little => i32::from_le_bytes(narrow),
                        ByteOrder::Big => i32::from_be_bytes(narrow),
                    };
                    out.extend(i64::from(value).to_le_bytes());
                }
            }
            Coding::Checked(_) | Coding::Deflated(_) => {}
        }
        if out.len() == len { Ok(out) } else { Err(self.error("there are fewer numbers than announced".into())) }
    }

    fn decode(&self) -> Result<Option<Vec<u8>>, String> {
        match self.coding {
            Coding::Checked(crc) => check(crc32fast::hash(self.bytes), crc).map(|()| None),
            Coding::Deflated(crc) => {
                let mut out = vec_with(self.len).map_err(|error| error.to_string())?;
                let found = inflate(self.bytes, self.len, &mut out).map_err(|error| match error {
                    InflateError::Damaged(reason) => reason,
                    InflateError::Write(error) => error.to_string(),
                })?;
                check(found, crc)?;
                Ok(Some(out))
            }
            Coding::Text(..) | Coding::Widened(_) => Ok(None),
        }
    }
}

/// Compares a CRC-32 with the one that was written; 0 where the writer left it out.
pub(crate) fn check(found: u32, crc: u32) -> Result<(), String> {
    let same = crc == 0 || found == crc;
    same.then_some(()).ok_or_else(|| format!("its CRC-32 is {found:08x} and should be {crc:08x}: it is damaged"))
}

/// Why a stream does not inflate.
pub(crate) enum InflateError {
    Damaged(String),
    /// What came out could not be written.
    Write(io::Error),
}

/// Inflates to exactly `len` bytes, and gives their CRC-32.
pub(crate) fn inflate(bytes: &[u8], len: usize, out: &mut dyn Write) -> Result<u32, InflateError> {
    // One byte more than announced shows a stream that is longer.
    let mut stream = flate2::read::DeflateDecoder::new(bytes).take(len as u64 + 1);
    let mut crc = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut written = 0;
    loop {
        let read =
            stream.read(&mut buffer).map_err(|error| InflateError::Damaged(format!("it does not inflate: {error}")))?;
        let piece = buffer.get(..read).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        written += read;
        if written > len {
            break;
        }
        crc.update(piece);
        out.write_all(piece).map_err(InflateError::Write)?;
    }
    if written == len {
        Ok(crc.finalize())
    } else {
        Err(InflateError::Damaged(format!("it does not inflate to the {len} bytes that are announced")))
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
        let len = count * dtype.size();
        let storage = Storage::coded(bytes, Coding::Text(dtype, Index(vec![0])), len, "test", 7);
        storage.span(0, len).map(Cow::into_owned).map_err(|error| error.to_string())
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
    fn a_span_of_a_long_text_is_found_by_its_index() {
        let numbers: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
        let (mut text, mut index) = (String::new(), Index::default());
        for (count, number) in numbers.iter().enumerate() {
            index.note(count, text.len());
            text += number;
            text.push(' ');
        }
        let storage = Storage::coded(text.as_bytes(), Coding::Text(DType::I32, index), 40_000, "test", 0);
        for (first, count) in [(0, 1), (4095, 2), (4096, 1), (8191, 1809), (9999, 1)] {
            let expected: Vec<u8> = (first..first + count).flat_map(|number: i32| number.to_le_bytes()).collect();
            assert_eq!(*storage.span(4 * first as usize, 4 * count as usize).unwrap(), expected);
        }
        assert!(storage.span(39_996, 8).is_err());
    }

    #[test]
    fn damage_is_found_when_the_content_is_first_needed() {
        let good = Storage::coded(b"123456789", Coding::Checked(0xcbf4_3926), 9, "test", 3);
        assert_eq!(*good.span(0, 9).unwrap(), *b"123456789");
        assert_eq!(*good.part(3, 4).unwrap().span(1, 2).unwrap(), *b"56");
        let bad = Storage::coded(b"123456780", Coding::Checked(0xcbf4_3926), 9, "test", 3);
        let text = bad.span(0, 9).unwrap_err().to_string();
        assert!(text.starts_with("test: byte 3: its CRC-32 is "), "{text}");
        // Nine stored bytes of a deflate stream (RFC 1951, 3.2.4).
        let stream = [&[1, 9, 0, !9, 0xff][..], b"123456789"].concat();
        let inflated = |len| {
            let storage = Storage::coded(&stream, Coding::Deflated(0xcbf4_3926), len, "test", 0);
            let shared = storage.clone();
            let kept = shared.span(0, len).map(Cow::into_owned);
            drop(shared);
            // Alone, it is inflated anew.
            assert_eq!(storage.span(0, len).map(Cow::into_owned).ok(), kept.as_ref().ok().cloned());
            kept
        };
        assert_eq!(inflated(9).unwrap(), b"123456789");
        assert!(inflated(8).is_err() && inflated(10).is_err());
    }
}
