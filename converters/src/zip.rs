//! zip: stored and deflated entries, with or without zip64 (PKWARE APPNOTE 4.3), each with its CRC-32.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

use crate::alloc::vec_with;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::source::Release;
use crate::storage::{Coding, InflateError, Storage, check, inflate};

pub(crate) const FORMAT: &str = "zip";
const END: &[u8] = b"PK\x05\x06";
const END_SIZE: usize = 22;
/// The comment behind the end record is at most this long.
const MOST_COMMENT: usize = u16::MAX as usize;

/// Entries of an archive; DenseNet-264 with its optimiser has 5000.
const MOST_ENTRIES: usize = 65_536;

/// What the deflated entries of a file may take together: weights hardly shrink, so much more than the file is an attack on
/// memory.
pub(crate) fn most_inflated(bytes: &[u8]) -> usize {
    (bytes.len() / 2).saturating_mul(3).saturating_add(16 << 20)
}

/// A file in the archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    bytes: &'a [u8],
    crc: u32,
    is_deflated: bool,
    /// Bytes once decoded.
    size: usize,
    /// Where its data begins.
    offset: usize,
}

impl<'a> Entry<'a> {
    /// Its content, decoded and checked when it is first needed.
    pub(crate) fn storage(&self) -> Storage<'a> {
        let coding = if self.is_deflated { Coding::Deflated(self.crc) } else { Coding::Checked(self.crc) };
        Storage::coded(self.bytes, coding, self.size, FORMAT, self.offset)
    }

    /// Its content, where it lies in the file as it is.
    pub(crate) fn stored(&self, release: Release) -> Result<Option<&'a [u8]>, Error> {
        if self.is_deflated {
            return Ok(None);
        }
        let mut crc = crc32fast::Hasher::new();
        for piece in self.bytes.chunks(Release::EVERY) {
            crc.update(piece);
            release.now();
        }
        check(crc.finalize(), self.crc).map_err(|reason| self.error(reason))?;
        Ok(Some(self.bytes))
    }

    /// Where its data begins.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn is_deflated(&self) -> bool {
        self.is_deflated
    }

    /// Bytes of its content.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Writes its content, piece by piece.
    pub(crate) fn inflate(&self, out: &mut dyn Write) -> Result<(), Error> {
        let found = inflate(self.bytes, self.size, out).map_err(|error| match error {
            InflateError::Damaged(reason) => self.error(reason),
            InflateError::Write(error) => Error::Write(error),
        })?;
        check(found, self.crc).map_err(|reason| self.error(reason))
    }

    /// All of its content.
    pub(crate) fn content(&self) -> Result<Cow<'a, [u8]>, Error> {
        if let Some(stored) = self.stored(Release::default())? {
            return Ok(Cow::Borrowed(stored));
        }
        let mut content = vec_with(self.size)?;
        self.inflate(&mut content)?;
        Ok(Cow::Owned(content))
    }

    fn error(&self, reason: String) -> Error {
        Error::Malformed { format: FORMAT, offset: self.offset, reason }
    }
}

/// Whether the bytes begin as a zip file.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// Whether an entry has that name; an archive that cannot be read has none.
pub(crate) fn has(bytes: &[u8], name: &str) -> bool {
    read(bytes, usize::MAX).is_ok_and(|entries| entries.contains_key(name))
}

/// Every entry by its name. All that is deflated may inflate to `most` bytes.
pub(crate) fn read(bytes: &[u8], most: usize) -> Result<BTreeMap<&str, Entry<'_>>, Error> {
    let mut cursor = Cursor::new(bytes, FORMAT);
    let (count, start) = directory(bytes, &mut cursor)?;
    cursor.seek(start)?;
    // A directory record takes 46 bytes at least.
    if count > cursor.remaining() / 46 {
        return Err(cursor.error(format!("a directory of {count} entries does not fit the file")));
    }
    if count > MOST_ENTRIES {
        return Err(cursor.error(format!("a directory of {count} entries; no checkpoint has so many")));
    }
    let mut inflated = most;
    let mut entries = BTreeMap::new();
    let mut spans = Vec::new();
    for _ in 0..count {
        let at = cursor.at();
        let (name, entry) = entry(bytes, &mut cursor)?;
        if entry.is_deflated {
            let rest = inflated.checked_sub(entry.size);
            inflated = rest.ok_or_else(|| {
                let size = entry.size;
                cursor.error_at(
                    at,
                    format!("entry {name:?} would inflate to {size} bytes; refused, weights hardly shrink"),
                )
            })?;
        }
        spans.push((entry.offset, entry.bytes.len()));
        if entries.insert(name, entry).is_some() {
            return Err(cursor.error_at(at, format!("two entries are called {name:?}")));
        }
    }
    // Entries that share their data could be checked again and again.
    spans.sort_unstable();
    for (&(from, len), &(next, _)) in spans.iter().zip(spans.iter().skip(1)) {
        if from + len > next {
            return Err(cursor.error_at(next, "two entries overlap"));
        }
    }
    if !cursor.take(4)?.starts_with(b"PK") {
        return Err(cursor.error("the directory holds more than its end record says"));
    }
    Ok(entries)
}

/// Number of entries and offset of the directory.
fn directory(bytes: &[u8], cursor: &mut Cursor) -> Result<(usize, usize), Error> {
    let from = bytes.len().saturating_sub(END_SIZE + MOST_COMMENT);
    let tail = bytes.get(from..).unwrap_or_default();
    let at = tail.windows(END.len()).rposition(|window| window == END);
    let end = from + at.ok_or_else(|| cursor.error_at(bytes.len(), "no end of directory; the file is truncated"))?;
    cursor.seek(end + 8)?;
    let (here, total) = (cursor.u16()?, cursor.u16()?);
    let (_, start) = (cursor.u32()?, cursor.u32()?);
    let comment = usize::from(cursor.u16()?);
    if cursor.remaining() != comment {
        return Err(cursor.error("the end record does not end the file"));
    }
    if here == u16::MAX || start == u32::MAX {
        // zip64: a locator of 20 bytes stands before the end record.
        let locator = end.checked_sub(20).ok_or_else(|| cursor.error("no zip64 locator"))?;
        cursor.seek(locator)?;
        if cursor.take(4)? != b"PK\x06\x07" {
            return Err(cursor.error_at(locator, "no zip64 locator"));
        }
        cursor.u32()?;
        let record = usize::try_from(cursor.u64()?).unwrap_or(usize::MAX);
        cursor.seek(record)?;
        if cursor.take(4)? != b"PK\x06\x06" {
            return Err(cursor.error_at(record, "no zip64 end record"));
        }
        cursor.take(20)?;
        let (_, total) = (cursor.u64()?, cursor.u64()?);
        let (_, start) = (cursor.u64()?, cursor.u64()?);
        let whole = |value| usize::try_from(value).unwrap_or(usize::MAX);
        return Ok((whole(total), whole(start)));
    }
    if here != total {
        return Err(cursor.error("a zip file in several volumes"));
    }
    Ok((usize::from(total), start as usize))
}

/// One record of the directory, and the entry that it stands for.
fn entry<'a>(bytes: &'a [u8], cursor: &mut Cursor<'a>) -> Result<(&'a str, Entry<'a>), Error> {
    let at = cursor.at();
    if cursor.take(4)? != b"PK\x01\x02" {
        return Err(cursor.error_at(at, "no directory record where one is announced"));
    }
    cursor.take(4)?;
    let flags = cursor.u16()?;
    let method = cursor.u16()?;
    cursor.take(4)?;
    let crc = cursor.u32()?;
    let (mut stored, mut size) = (u64::from(cursor.u32()?), u64::from(cursor.u32()?));
    let (name_len, extra_len, comment_len) = (cursor.u16()?, cursor.u16()?, cursor.u16()?);
    cursor.take(8)?;
    let mut local = u64::from(cursor.u32()?);
    let name = cursor.take(usize::from(name_len))?;
    let name = std::str::from_utf8(name).map_err(|_| cursor.error_at(at, "an entry's name is no UTF-8"))?;
    let mut extra = Cursor::new(cursor.take(usize::from(extra_len))?, FORMAT);
    while extra.remaining() >= 4 {
        let (id, len) = (extra.u16()?, extra.u16()?);
        let mut field = Cursor::new(extra.take(usize::from(len))?, FORMAT);
        if id == 1 {
            for value in [&mut size, &mut stored, &mut local] {
                if *value == u64::from(u32::MAX) {
                    *value = field.u64()?;
                }
            }
        }
    }
    cursor.take(usize::from(comment_len))?;
    let refuse = |reason: &str| Err(cursor.error_at(at, format!("entry {name:?} {reason}")));
    if flags & 1 != 0 {
        return refuse("is encrypted");
    }
    let is_deflated = match method {
        0 if stored != size => return refuse("is stored and yet says two sizes"),
        0 => false,
        8 => true,
        _ => return refuse("is compressed otherwise than by deflate; unpack and pack it again"),
    };
    let mut local_cursor = Cursor::new(bytes, FORMAT);
    local_cursor.seek(usize::try_from(local).unwrap_or(usize::MAX))?;
    if local_cursor.take(4)? != b"PK\x03\x04" {
        return refuse("has no local header where the directory says");
    }
    local_cursor.take(22)?;
    let (name_len, extra_len) = (local_cursor.u16()?, local_cursor.u16()?);
    if local_cursor.take(usize::from(name_len))? != name.as_bytes() {
        return refuse("has another name in its local header");
    }
    local_cursor.take(usize::from(extra_len))?;
    let offset = local_cursor.at();
    let data = local_cursor.take(usize::try_from(stored).unwrap_or(usize::MAX))?;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    Ok((name, Entry { bytes: data, crc, is_deflated, size, offset }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A real file with one byte of its first directory record changed.
    fn spoilt(offset: usize, byte: u8) -> String {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/pytorch/cifar_gpleiss_zip.pt");
        let mut bytes = std::fs::read(fixture).unwrap();
        assert!(read(&bytes, 0).is_ok());
        let record = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
        bytes[record + offset] = byte;
        let entries = match read(&bytes, 1 << 20) {
            Ok(entries) => entries,
            Err(error) => return error.to_string(),
        };
        let contents = entries.values().map(|entry| entry.content().map(|_| ()));
        contents.collect::<Result<Vec<_>, _>>().unwrap_err().to_string()
    }

    #[test]
    fn records_that_lie_are_refused_with_their_place() {
        // APPNOTE 4.3.12: flags at 8, method at 10, CRC at 16, stored size at 20, size at 24, local header's offset at 42.
        assert!(spoilt(8, 1).contains("is encrypted"));
        assert!(spoilt(10, 9).contains("otherwise than by deflate"));
        assert!(spoilt(10, 8).contains("does not inflate"));
        assert!(spoilt(16, 0xee).contains("it is damaged"));
        assert!(spoilt(20, 0xee).contains("says two sizes"));
        assert!(spoilt(24, 0xee).contains("says two sizes"));
        assert!(spoilt(42, 1).contains("has no local header"));
        assert!(spoilt(0, b'X').contains("no directory record"));
        assert!(spoilt(46, b'?').contains("another name in its local header"));
        assert!(spoilt(8, 1).starts_with("zip: byte "));
    }
}
