//! The numbers and strings that everything in a `.t7` is made of: binary in either byte order with longs of 32 or 64 bits,
//! or text (torch7 814ea4a, lib/TH/THDiskFile.c).

use super::FORMAT;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::source::Release;
use crate::storage::{ByteOrder, Coding, Index, Storage};
use crate::tensor::DType;

/// How a file writes its primitives. Nothing in the file says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Binary { order: ByteOrder, long: Long },
    Ascii,
}

/// Width of the writing machine's `long`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Long {
    Bits64,
    Bits32,
}

impl Encoding {
    /// What the first bytes leave possible, likeliest first. A file begins with a tag from 0 to 8.
    pub(super) fn candidates(bytes: &[u8]) -> Vec<Self> {
        let binary = |order| [Long::Bits64, Long::Bits32].map(|long| Self::Binary { order, long }).to_vec();
        match bytes {
            [0..=8, 0, 0, 0, ..] => binary(ByteOrder::Little),
            [0, 0, 0, 1..=8, ..] => binary(ByteOrder::Big),
            [b'0'..=b'8', b'\n', ..] => vec![Self::Ascii],
            _ => Vec::new(),
        }
    }
}

/// Reads primitives one after the other.
#[derive(Debug)]
pub(super) struct Primitives<'a, 'r> {
    pub(super) cursor: Cursor<'a>,
    encoding: Encoding,
    /// Of text every byte is looked at; how many since memory was last given back.
    release: Release<'r>,
    looked_at: usize,
}

impl<'a, 'r> Primitives<'a, 'r> {
    pub(super) fn new(bytes: &'a [u8], encoding: Encoding, release: Release<'r>) -> Self {
        Self { cursor: Cursor::new(bytes, FORMAT), encoding, release, looked_at: 0 }
    }

    pub(super) fn int(&mut self) -> Result<i32, Error> {
        match self.encoding {
            Encoding::Binary { order: ByteOrder::Little, .. } => self.cursor.i32(),
            Encoding::Binary { order: ByteOrder::Big, .. } => self.cursor.array().map(i32::from_be_bytes),
            Encoding::Ascii => self.number("integer"),
        }
    }

    pub(super) fn double(&mut self) -> Result<f64, Error> {
        match self.encoding {
            Encoding::Binary { order: ByteOrder::Little, .. } => self.cursor.f64(),
            Encoding::Binary { order: ByteOrder::Big, .. } => self.cursor.array().map(f64::from_be_bytes),
            Encoding::Ascii => self.number("number"),
        }
    }

    fn long(&mut self) -> Result<i64, Error> {
        match self.encoding {
            Encoding::Ascii => self.number("integer"),
            Encoding::Binary { long: Long::Bits32, .. } => self.int().map(i64::from),
            Encoding::Binary { order: ByteOrder::Little, long: Long::Bits64 } => self.cursor.i64(),
            Encoding::Binary { order: ByteOrder::Big, long: Long::Bits64 } => {
                self.cursor.array().map(i64::from_be_bytes)
            }
        }
    }

    /// A `long` that counts something.
    pub(super) fn size(&mut self) -> Result<usize, Error> {
        let at = self.cursor.at();
        let long = self.long()?;
        usize::try_from(long).map_err(|_| self.cursor.error_at(at, format!("negative size {long}")))
    }

    /// An `int` that counts something.
    pub(super) fn count(&mut self) -> Result<usize, Error> {
        let at = self.cursor.at();
        let int = self.int()?;
        usize::try_from(int).map_err(|_| self.cursor.error_at(at, format!("negative length {int}")))
    }

    /// A string with its length before it.
    pub(super) fn text(&mut self) -> Result<&'a [u8], Error> {
        let length = self.count()?;
        self.raw(length)
    }

    /// How many objects the rest of the file can hold at most: a binary one takes four bytes, one of text two.
    pub(super) fn room(&self) -> usize {
        self.cursor.remaining() / if self.encoding == Encoding::Ascii { 2 } else { 4 }
    }

    /// The contents of a storage.
    pub(super) fn elements(&mut self, dtype: DType, count: usize) -> Result<Storage<'a>, Error> {
        let too_many = || self.cursor.error(format!("a storage of {count} elements"));
        let len = count.checked_mul(dtype.size()).ok_or_else(too_many)?;
        let at = self.cursor.at();
        match self.encoding {
            _ if dtype.size() == 1 => Ok(Storage::plain(self.raw(count)?)),
            Encoding::Binary { order, long: Long::Bits32 } if dtype == DType::I64 => {
                Ok(Storage::coded(self.cursor.take(len / 2)?, Coding::Widened(order), len, FORMAT, at))
            }
            Encoding::Binary { order, .. } => Ok(Storage::plain(self.cursor.take(len)?).with_order(order)),
            Encoding::Ascii => {
                let mut index = Index::default();
                let words = self.words(count, &mut index)?;
                Ok(Storage::coded(words, Coding::Text(dtype, index), len, FORMAT, at))
            }
        }
    }

    /// Bytes as they are, in text too.
    fn raw(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let bytes = self.cursor.take(length)?;
        if self.encoding == Encoding::Ascii && length > 0 {
            self.cursor.skip_one(b'\n');
        }
        Ok(bytes)
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, Error> {
        let at = self.cursor.at();
        let word = self.words(1, &mut Index::default())?.trim_ascii();
        let parsed = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
        parsed.ok_or_else(|| {
            let shown = word.get(..24).unwrap_or(word).escape_ascii();
            self.cursor.error_at(at, format!("\"{shown}\" is no {what}"))
        })
    }

    /// `count` numbers with white space before each; the line feed behind the last belongs to them.
    fn words(&mut self, count: usize, index: &mut Index) -> Result<&'a [u8], Error> {
        let rest = self.cursor.rest();
        let mut end = 0;
        for number in 0..count {
            index.note(number, end);
            if self.looked_at >= Release::EVERY {
                self.release.now();
                self.looked_at = 0;
            }
            let space = rest.iter().skip(end).take_while(|byte| byte.is_ascii_whitespace()).count();
            let word = rest.iter().skip(end + space).take_while(|byte| !byte.is_ascii_whitespace()).count();
            if word == 0 {
                return Err(self.cursor.error(format!("{count} numbers are announced and the file ends")));
            }
            end += space + word;
            self.looked_at += space + word;
        }
        if count > 0 && end == rest.len() {
            return Err(self.cursor.error_at(self.cursor.at() + end, "the file ends within a number"));
        }
        let words = self.cursor.take(end)?;
        if count > 0 {
            self.cursor.skip_one(b'\n');
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_swallows_one_line_feed_and_keeps_raw_bytes() {
        let mut text = Primitives::new(b"7\n3\n\n a\n0\n2\n1.5 -2\nx", Encoding::Ascii, Release::default());
        assert_eq!(text.int().unwrap(), 7);
        assert_eq!(text.text().unwrap(), b"\n a");
        assert_eq!(text.text().unwrap(), b"");
        assert_eq!(text.size().unwrap(), 2);
        let pair = text.elements(DType::F32, 2).unwrap();
        assert_eq!(*pair.span(0, 8).unwrap(), [1.5_f32, -2.0].map(f32::to_le_bytes).concat());
        assert_eq!(text.int().unwrap_err().to_string(), "torch7: byte 20: the file ends within a number");
        let mut text = Primitives::new(b"x\n", Encoding::Ascii, Release::default());
        assert_eq!(text.int().unwrap_err().to_string(), "torch7: byte 0: \"x\" is no integer");
    }

    #[test]
    fn longs_have_the_width_and_order_of_the_writing_machine() {
        let bytes = [0, 0, 0, 5, 0, 0, 0, 9];
        let big = |long| Encoding::Binary { order: ByteOrder::Big, long };
        assert_eq!(Primitives::new(&bytes, big(Long::Bits32), Release::default()).size().unwrap(), 5);
        assert_eq!(Primitives::new(&bytes, big(Long::Bits64), Release::default()).size().unwrap(), 5 << 32 | 9);
        let pair = Primitives::new(&bytes, big(Long::Bits32), Release::default()).elements(DType::I64, 2).unwrap();
        assert_eq!(*pair.span(0, 16).unwrap(), [5_i64, 9].map(i64::to_le_bytes).concat());
        assert_eq!(*pair.span(8, 8).unwrap(), 9_i64.to_le_bytes());
        assert_eq!(Encoding::candidates(&bytes).len(), 2);
        assert_eq!(Encoding::candidates(b"4\n1\n"), [Encoding::Ascii]);
        assert!(Encoding::candidates(b"9\n").is_empty());
    }
}
