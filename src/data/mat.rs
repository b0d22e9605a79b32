//! MATLAB's files of version 5 (MAT-File Format, MathWorks 1999 and later), as far as data sets need them: numbers, text and
//! structures, compressed or not, in either byte order.

use std::io::Read;

use flate2::read::ZlibDecoder;

/// Structures in structures are read down to this depth.
const DEPTH: usize = 8;

/// An array.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Array {
    /// Bytes, the first dimension running fastest.
    Bytes(Vec<usize>, Vec<u8>),
    /// Any other real numbers, in the same order.
    Numbers(Vec<usize>, Vec<f64>),
    /// Characters.
    Text(String),
    /// Field names, and the fields of one element after the other.
    Struct(Vec<String>, Vec<Array>),
    /// What no data set here has.
    Other,
}

impl Array {
    /// Its shape and its values, where it has numbers.
    pub(super) fn numbers(&self) -> Option<(&[usize], Vec<f64>)> {
        match self {
            Self::Bytes(shape, values) => Some((shape, values.iter().map(|&value| f64::from(value)).collect())),
            Self::Numbers(shape, values) => Some((shape, values.clone())),
            _ => None,
        }
    }
}

/// The named arrays of a file.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<(String, Array)>, String> {
    let header = bytes.get(..128).ok_or("no MATLAB file: shorter than its header")?;
    let little = match &header[126..] {
        b"IM" => true,
        b"MI" => false,
        _ => return Err("no MATLAB file of version 5 (versions 7.3 and later are HDF5: save with -v7)".into()),
    };
    let mut reader = Reader { bytes, at: 128, little };
    let mut arrays = Vec::new();
    while reader.at < bytes.len() {
        let (kind, body) = reader.element()?;
        match kind {
            COMPRESSED => {
                // Deflate reaches a thousandfold at most, so the file bounds what comes out.
                let mut inflated = Vec::new();
                let failed = |error| format!("byte {}: not deflated data: {error}", reader.at);
                ZlibDecoder::new(body).read_to_end(&mut inflated).map_err(failed)?;
                let (kind, body) = Reader { bytes: &inflated, at: 0, little }.element()?;
                if kind == MATRIX {
                    arrays.push(Reader { bytes: body, at: 0, little }.matrix(DEPTH)?);
                }
            }
            MATRIX => arrays.push(Reader { bytes: body, at: 0, little }.matrix(DEPTH)?),
            _ => {}
        }
    }
    Ok(arrays)
}

const INT8: u32 = 1;
const UINT8: u32 = 2;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    little: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("byte {}: {count} bytes are expected; the file is truncated", self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u32, String> {
        let word = self.take(4)?;
        let word = [word[0], word[1], word[2], word[3]];
        Ok(if self.little { u32::from_le_bytes(word) } else { u32::from_be_bytes(word) })
    }

    /// A data element: its type and its bytes. Small ones have type, length and bytes in eight.
    fn element(&mut self) -> Result<(u32, &'a [u8]), String> {
        let head = self.word()?;
        if head >> 16 > 0 {
            let body = self.take(4)?;
            let count = (head >> 16) as usize;
            let body =
                body.get(..count).ok_or_else(|| format!("byte {}: a small element of {count} bytes", self.at))?;
            return Ok((head & 0xffff, body));
        }
        let count = self.word()? as usize;
        let body = self.take(count)?;
        if head != COMPRESSED {
            // Filled up to eight bytes, but for the last.
            self.at = self.at.next_multiple_of(8).min(self.bytes.len());
        }
        Ok((head, body))
    }

    /// Name and content of a matrix, whose body these bytes are. An empty body is an empty matrix.
    fn matrix(mut self, depth: usize) -> Result<(String, Array), String> {
        if self.bytes.is_empty() {
            return Ok((String::new(), Array::Other));
        }
        if depth == 0 {
            return Err("structures lie too deep in one another".into());
        }
        let (_, flags) = self.element()?;
        let flags = Reader { bytes: flags, at: 0, little: self.little }.word()?;
        let (kind, dimensions) = self.element()?;
        let shape = self.values(kind, dimensions)?;
        let shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
        let count = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
        let count = count.ok_or("a matrix of absurd size")?;
        let (_, name) = self.element()?;
        let name = String::from_utf8_lossy(name).into_owned();
        let complex = flags & 0x800 != 0;
        let array = match flags & 0xff {
            2 => self.structure(count, depth)?,
            4 => {
                let (kind, body) = self.element()?;
                // UTF-8 comes as bytes, else each number is a character.
                let utf8 = matches!(kind, INT8 | UINT8 | 16);
                let character = |&code: &f64| char::from_u32(code as u32).unwrap_or('\u{fffd}');
                let text = if utf8 {
                    String::from_utf8_lossy(body).into_owned()
                } else {
                    self.values(kind, body)?.iter().map(character).collect()
                };
                Array::Text(text)
            }
            6..=15 if !complex => {
                let (kind, body) = self.element()?;
                let array = if kind == UINT8 {
                    Array::Bytes(shape, body.to_vec())
                } else {
                    Array::Numbers(shape, self.values(kind, body)?)
                };
                let found = match &array {
                    Array::Bytes(_, values) => values.len(),
                    Array::Numbers(_, values) => values.len(),
                    _ => 0,
                };
                if found != count {
                    return Err(format!("{name:?} has {found} values where its shape says {count}"));
                }
                array
            }
            _ => Array::Other,
        };
        Ok((name, array))
    }

    fn structure(&mut self, count: usize, depth: usize) -> Result<Array, String> {
        let (kind, length) = self.element()?;
        let length = self.values(kind, length)?.first().map_or(0, |&length| length as usize);
        let (_, names) = self.element()?;
        let text = |name: &[u8]| {
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(name).into_owned()
        };
        let names: Vec<String> = names.chunks_exact(length.max(1)).map(text).collect();
        let mut fields = Vec::new();
        for _ in 0..count.saturating_mul(names.len()) {
            let (_, body) = self.element()?;
            fields.push(Reader { bytes: body, at: 0, little: self.little }.matrix(depth - 1)?.1);
        }
        Ok(Array::Struct(names, fields))
    }

    /// The numbers of an element of type `kind`.
    fn values(&self, kind: u32, body: &[u8]) -> Result<Vec<f64>, String> {
        macro_rules! numbers {
            ($type:ty) => {{
                let (words, _) = body.as_chunks();
                let of = |&word| if self.little { <$type>::from_le_bytes(word) } else { <$type>::from_be_bytes(word) };
                words.iter().map(|word| of(word) as f64).collect()
            }};
        }
        #[expect(clippy::cast_lossless, reason = "one rule for all types")]
        Ok(match kind {
            INT8 => numbers!(i8),
            UINT8 => numbers!(u8),
            3 => numbers!(i16),
            4 | 17 => numbers!(u16),
            5 => numbers!(i32),
            6 | 18 => numbers!(u32),
            7 => numbers!(f32),
            9 => numbers!(f64),
            12 => numbers!(i64),
            13 => numbers!(u64),
            _ => return Err(format!("values of unknown type {kind}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::resize::fixtures::read as fixture;
    use super::*;

    #[test]
    fn scipy_s_files_are_read() {
        let arrays = read(&fixture("mat/svhn_plain_doubles.mat")).unwrap();
        let names: Vec<_> = arrays.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["y", "X", "note"]);
        assert_eq!(arrays[0].1.numbers().unwrap(), (&[1, 1][..], vec![10.0]));
        assert_eq!(arrays[2].1, Array::Text("one image".into()));
        let meta = read(&fixture("mat/devkit/data/meta.mat")).unwrap();
        let Array::Struct(names, fields) = &meta[0].1 else { panic!("{:?}", meta[0].0) };
        assert_eq!((meta[0].0.as_str(), names.len(), fields.len()), ("synsets", 8, 8 * 1001));
        assert_eq!(fields[8].numbers().unwrap().1, [2.0]);
        assert_eq!(fields[9], Array::Text("n01514668".into()));
    }

    #[test]
    fn damaged_files_are_refused_and_never_panic() {
        assert!(read(b"MATLAB 5.0").unwrap_err().contains("shorter than its header"));
        assert!(read(&[0; 200]).unwrap_err().contains("7.3"));
        for name in ["mat/svhn_plain_doubles.mat", "mat/svhn/test_32x32.mat"] {
            let sound = fixture(name);
            for cut in (128..sound.len()).step_by(7) {
                let _ = read(&sound[..cut]);
            }
            for at in 126..400.min(sound.len()) {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut damaged = sound.clone();
                    damaged[at] = value;
                    let _ = read(&damaged);
                }
            }
        }
    }
}
