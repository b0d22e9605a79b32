//! A reader that knows where it is and never leaves its bytes.

use crate::error::Error;

/// A place in the bytes of a file.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    format: &'static str,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], format: &'static str) -> Self {
        Self { bytes, at: 0, format }
    }

    pub(crate) fn format(&self) -> &'static str {
        self.format
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// All that is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Moves over the next byte if it is this one.
    pub(crate) fn skip_one(&mut self, byte: u8) {
        if self.rest().first() == Some(&byte) {
            self.at += 1;
        }
    }

    /// An error at this place.
    pub(crate) fn error(&self, reason: impl Into<String>) -> Error {
        self.error_at(self.at, reason)
    }

    pub(crate) fn error_at(&self, offset: usize, reason: impl Into<String>) -> Error {
        Error::Malformed { format: self.format, offset, reason: reason.into() }
    }

    /// The same reader at another offset, or at the end.
    pub(crate) fn moved(self, at: usize) -> Self {
        Self { at: at.min(self.bytes.len()), ..self }
    }

    /// Moves to an offset, which may be the end.
    pub(crate) fn seek(&mut self, at: usize) -> Result<(), Error> {
        if at > self.bytes.len() {
            return Err(self.error(format!("offset {at} lies beyond the file's {} bytes", self.bytes.len())));
        }
        self.at = at;
        Ok(())
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let rest = self.rest();
        let Some((taken, _)) = rest.split_at_checked(len) else {
            return Err(self.error(format!("{len} bytes are announced and {} are left", rest.len())));
        };
        self.at += len;
        Ok(taken)
    }

    /// The bytes up to the next line feed, which is swallowed.
    pub(crate) fn line(&mut self) -> Result<&'a [u8], Error> {
        let rest = self.rest();
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| self.error("a line does not end"))?;
        let line = self.take(end)?;
        self.at += 1;
        Ok(line)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| self.error("short read"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Error> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Error> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Error> {
        self.array().map(f64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_past_the_end_names_the_place() {
        let mut cursor = Cursor::new(&[1, 0, 0, 0, 9, 10], "test");
        assert_eq!(cursor.i32().unwrap(), 1);
        assert_eq!(cursor.i64().unwrap_err().to_string(), "test: byte 4: 8 bytes are announced and 2 are left");
        assert_eq!(cursor.line().unwrap(), [9]);
        assert_eq!(cursor.remaining(), 0);
        assert!(cursor.take(usize::MAX).is_err());
        assert!(cursor.seek(7).is_err());
    }
}
