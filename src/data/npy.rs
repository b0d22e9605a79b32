//! NumPy's .npy arrays, versions 1 and 2: little-endian, in C order. Layout: numpy.lib.format.

use thiserror::Error;

/// Why bytes are not the array asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NpyError {
    /// The first bytes are not NumPy's.
    #[error("not an .npy file: it does not start with \\x93NUMPY")]
    Magic,
    /// Another version of the format.
    #[error(".npy version {0} is not read; save it as version 1 or 2")]
    Version(u8),
    /// The file ends inside its header.
    #[error(".npy file ends inside its header")]
    Truncated,
    /// A header that is not the dictionary of three keys.
    #[error(".npy header is malformed at byte {offset}: expected {expected}")]
    Header {
        /// Offset in the header's text.
        offset: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// Another type of number.
    #[error(".npy array has type {found:?}, not {wanted:?}; convert it first")]
    Type {
        /// The header's descr.
        found: String,
        /// The one that is read.
        wanted: &'static str,
    },
    /// Columns first.
    #[error(".npy array is in Fortran order; save it in C order")]
    FortranOrder,
    /// More or fewer numbers than the shape has.
    #[error(".npy array of shape {shape:?} does not fit its {bytes} bytes of data")]
    Length {
        /// The header's shape.
        shape: Vec<usize>,
        /// Bytes after the header.
        bytes: usize,
    },
}

/// Shape and values of an array of `<f4`.
pub fn read_f32(bytes: &[u8]) -> Result<(Vec<usize>, Vec<f32>), NpyError> {
    let (shape, data) = read(bytes, "<f4", size_of::<f32>())?;
    let (values, _) = data.as_chunks();
    Ok((shape, values.iter().map(|&value| f32::from_le_bytes(value)).collect()))
}

/// Shape and values of an array of `|u1`.
pub fn read_u8(bytes: &[u8]) -> Result<(Vec<usize>, Vec<u8>), NpyError> {
    let (shape, data) = read(bytes, "|u1", size_of::<u8>())?;
    Ok((shape, data.to_vec()))
}

fn read<'a>(bytes: &'a [u8], wanted: &'static str, width: usize) -> Result<(Vec<usize>, &'a [u8]), NpyError> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or(NpyError::Magic)?;
    let (&[major, _minor], rest) = rest.split_first_chunk().ok_or(NpyError::Truncated)?;
    let (length, rest) = match major {
        1 => rest.split_first_chunk().map(|(&length, rest)| (usize::from(u16::from_le_bytes(length)), rest)),
        2 => rest.split_first_chunk().map(|(&length, rest)| (u32::from_le_bytes(length) as usize, rest)),
        _ => return Err(NpyError::Version(major)),
    }
    .ok_or(NpyError::Truncated)?;
    let (header, data) = rest.split_at_checked(length).ok_or(NpyError::Truncated)?;
    let header = Header::parse(header)?;
    if header.descr != wanted {
        return Err(NpyError::Type { found: header.descr.to_owned(), wanted });
    }
    if header.fortran_order {
        return Err(NpyError::FortranOrder);
    }
    let size = header.shape.iter().try_fold(width, |size, &side| size.checked_mul(side));
    if size != Some(data.len()) {
        return Err(NpyError::Length { shape: header.shape, bytes: data.len() });
    }
    Ok((header.shape, data))
}

struct Header<'a> {
    descr: &'a str,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl<'a> Header<'a> {
    fn parse(header: &'a [u8]) -> Result<Self, NpyError> {
        let text = str::from_utf8(header)
            .map_err(|error| NpyError::Header { offset: error.valid_up_to(), expected: "text" })?;
        let mut text = Text { rest: text, length: text.len() };
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        text.expect("{")?;
        while !text.take("}") {
            let key = text.string()?;
            text.expect(":")?;
            match key {
                "descr" => descr = Some(text.string()?),
                "fortran_order" => fortran_order = Some(text.truth()?),
                "shape" => shape = Some(text.tuple()?),
                _ => return Err(text.error("descr, fortran_order or shape")),
            }
            if !text.take(",") {
                text.expect("}")?;
                break;
            }
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => Ok(Self { descr, fortran_order, shape }),
            _ => Err(text.error("all of descr, fortran_order and shape")),
        }
    }
}

/// The part of Python's literals that headers use.
struct Text<'a> {
    rest: &'a str,
    length: usize,
}

impl<'a> Text<'a> {
    fn error(&self, expected: &'static str) -> NpyError {
        NpyError::Header { offset: self.length - self.rest.len(), expected }
    }

    /// Whether the token comes next, after blanks; if so, it is passed.
    fn take(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &'static str) -> Result<(), NpyError> {
        if self.take(token) { Ok(()) } else { Err(self.error(token)) }
    }

    fn string(&mut self) -> Result<&'a str, NpyError> {
        let quote = if self.take("\"") { '"' } else { self.expect("'").map(|()| '\'')? };
        let (string, rest) = self.rest.split_once(quote).ok_or(self.error("the end of a string"))?;
        self.rest = rest;
        Ok(string)
    }

    fn truth(&mut self) -> Result<bool, NpyError> {
        let truth = self.take("True");
        if truth || self.take("False") { Ok(truth) } else { Err(self.error("True or False")) }
    }

    fn tuple(&mut self) -> Result<Vec<usize>, NpyError> {
        let mut values = Vec::new();
        self.expect("(")?;
        while !self.take(")") {
            self.rest = self.rest.trim_start();
            let end = self.rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(self.rest.len());
            let (digits, rest) = self.rest.split_at(end);
            values.push(digits.parse().map_err(|_| self.error("a size"))?);
            self.rest = rest;
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(values)
    }
}

/// Writes version 1.0 of the format, little-endian, in C order (NumPy's lib/format.py).
pub fn write_f32(shape: &[usize], values: &[f32]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect::<Vec<_>>().concat();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", sizes.trim_end());
    // Magic, version and length take ten bytes; the data begins at a multiple of 64, after a line feed.
    let padding = (10 + header.len() + 1).next_multiple_of(64) - (10 + header.len() + 1);
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/fixtures/preproc/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// A file of version 1 with that header.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), data].concat()
    }

    #[test]
    fn reads_what_numpy_wrote() {
        // The corner of this crop after ToTensor and Normalize, by torchvision.
        let (_, crop) = read_u8(&fixture("photo_320x240_444_jpg.bilinear.crop224.u8.npy")).unwrap();
        let (shape, values) = read_f32(&fixture("one_full.f32_corner.npy")).unwrap();
        assert_eq!(shape, [3, 32, 32]);
        assert_eq!(values.len(), 3 * 32 * 32);
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        for (index, value) in values.into_iter().enumerate() {
            let (channel, y, x) = (index / 1024, index / 32 % 32, index % 32);
            let byte = f32::from(crop[3 * (224 * y + x) + channel]);
            assert!((value - (byte / 255.0 - mean[channel]) / std[channel]).abs() < 1e-6, "{index}: {value}");
        }
        let (shape, values) = read_u8(&fixture("one_pixel_png.bilinear.r64c56.u8.npy")).unwrap();
        assert_eq!(shape, [56, 56, 3]);
        assert_eq!(values, [10, 200, 90].repeat(56 * 56));
    }

    #[test]
    fn reads_the_header_however_it_is_written() {
        let data = [0, 0, 128, 63, 0, 0, 0, 192];
        let one = file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }  \n", &data);
        assert_eq!(read_f32(&one), Ok((vec![2], vec![1.0, -2.0])));
        let other = file("{\"shape\":(1,2),\"fortran_order\":False,\"descr\":\"<f4\"}", &data);
        assert_eq!(read_f32(&other), Ok((vec![1, 2], vec![1.0, -2.0])));
        let scalar = file("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", &data[..4]);
        assert_eq!(read_f32(&scalar), Ok((vec![], vec![1.0])));
        let empty = file("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 0), }", &[]);
        assert_eq!(read_u8(&empty), Ok((vec![3, 0], vec![])));
        let mut two = one.clone();
        two[6] = 2;
        two.splice(10..10, [0, 0]);
        assert_eq!(read_f32(&two), Ok((vec![2], vec![1.0, -2.0])));
    }

    #[test]
    fn what_it_does_not_read_is_named() {
        let good = file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", &[0; 8]);
        let read = |header| read_f32(&file(header, &[0; 8])).unwrap_err();
        assert_eq!(read_f32(b"PK\x03\x04").unwrap_err(), NpyError::Magic);
        let mut three = good.clone();
        three[6] = 3;
        assert_eq!(read_f32(&three).unwrap_err(), NpyError::Version(3));
        assert_eq!(read_f32(&good[..30]).unwrap_err(), NpyError::Truncated);
        assert_eq!(read_u8(&good).unwrap_err(), NpyError::Type { found: "<f4".into(), wanted: "|u1" });
        let fortran = "{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }";
        assert_eq!(read(fortran), NpyError::FortranOrder);
        let short = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
        assert_eq!(read(short), NpyError::Length { shape: vec![3], bytes: 8 });
        let vast = "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2), }";
        assert!(matches!(read(vast), NpyError::Length { .. }));
        let structured = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }";
        assert_eq!(read(structured), NpyError::Header { offset: 10, expected: "'" });
        let missing = "{'descr': '<f4', 'fortran_order': False}";
        assert_eq!(read(missing), NpyError::Header { offset: 40, expected: "all of descr, fortran_order and shape" });
        let huge = "{'shape': (99999999999999999999,)}";
        assert_eq!(read(huge), NpyError::Header { offset: 11, expected: "a size" });
    }

    #[test]
    fn a_cut_file_is_an_error_at_every_length() {
        let good = fixture("one_full.f32_corner.npy");
        for length in (0..256).chain([good.len() - 1]) {
            assert!(read_f32(&good[..length]).is_err(), "{length}");
        }
    }
}
