//! JPEG as libjpeg-turbo decodes it and Pillow shows it, to the byte: baseline and progressive, 8 bits, Huffman-coded.
//!
//! ITU-T T.81 says what a file means; inverse transform, enlargement of the chroma and colour conversion follow libjpeg's
//! arithmetic, since results on published weights were measured through it.

mod bits;
mod colour;
mod frame;
mod idct;
mod marker;
mod scan;

use thiserror::Error;

use super::super::resize::Rgb8;
use bits::Huffman;
use colour::Space;
use frame::Frame;
use scan::{Scan, Tables, place};

/// Why a file cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum JpegError {
    /// It ends too early.
    #[error("the JPEG is truncated")]
    Truncated,
    /// It is no JPEG, or a broken one.
    #[error("byte {at}: not a sound JPEG: {what}")]
    Malformed {
        /// Where.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// It uses what this decoder does not know.
    #[error("the JPEG has {0}, which is not read")]
    Unsupported(&'static str),
}

/// Red, green and blue; grey is repeated, CMYK converted.
pub(super) fn decode(bytes: &[u8]) -> Result<Rgb8, JpegError> {
    let mut file = File::default();
    let (frame, space) = file.read(bytes)?;
    let error = JpegError::Malformed { at: 0, what: "the image has no pixels" };
    Rgb8::new(frame.width, frame.height, colour::rgb(&frame, space)).map_err(|_| error)
}

/// What the segments of a file have said so far.
#[derive(Default)]
struct File {
    tables: Tables,
    frame: Option<Frame>,
    jfif: bool,
    /// The transform that Adobe's segment names.
    adobe: Option<u8>,
    scans: usize,
}

impl File {
    fn read(&mut self, bytes: &[u8]) -> Result<(Frame, Space), JpegError> {
        if !bytes.starts_with(&[0xff, 0xd8]) {
            return Err(JpegError::Malformed { at: 0, what: "no start of image" });
        }
        let mut at = 2;
        loop {
            let Some((marker, body)) = marker::next(bytes, at) else {
                return self.unended();
            };
            // The end of the image.
            if marker == 0xd9 {
                return self.finish(body - 2);
            }
            // Markers without a segment.
            if matches!(marker, 0x01 | 0xd0..=0xd8) {
                at = body;
                continue;
            }
            let length =
                bytes.get(body..body + 2).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
            let length = length.ok_or(JpegError::Truncated)?;
            if length < 2 {
                return Err(JpegError::Malformed { at: body, what: "a segment is shorter than its own length" });
            }
            let segment = bytes.get(body + 2..body + length).ok_or(JpegError::Truncated)?;
            at = self.segment(bytes, marker, segment, body + 2)?;
        }
    }

    /// Takes one segment in; returns where the next marker is searched.
    fn segment(&mut self, bytes: &[u8], marker: u8, segment: &[u8], at: usize) -> Result<usize, JpegError> {
        let malformed = |what| JpegError::Malformed { at, what };
        match marker {
            0xc0..=0xc2 if self.frame.is_some() => return Err(malformed("a second frame header")),
            0xc0..=0xc2 => self.frame = Some(Frame::parse(segment, marker == 0xc2, at, bytes.len())?),
            0xc9 | 0xca => return Err(JpegError::Unsupported("arithmetic coding")),
            0xc3 | 0xc5..=0xc7 | 0xcb | 0xcd..=0xcf => {
                return Err(JpegError::Unsupported("a lossless or hierarchical frame"));
            }
            0xc4 => self.huffman(segment).ok_or_else(|| malformed("a Huffman table makes no code"))?,
            0xdb => self.quantisation(segment).ok_or_else(|| malformed("a quantisation table is short"))?,
            0xdd => match segment {
                [high, low] => self.tables.restart = usize::from(u16::from_be_bytes([*high, *low])),
                _ => return Err(malformed("a restart interval has two bytes")),
            },
            0xe0 => self.jfif |= segment.starts_with(b"JFIF\0") && segment.len() >= 14,
            0xee if segment.starts_with(b"Adobe") && segment.len() >= 12 => self.adobe = Some(segment[11]),
            0xda => {
                let frame = self.frame.as_mut().ok_or_else(|| malformed("a scan before the frame header"))?;
                let scan = scan_header(segment, frame).ok_or_else(|| malformed("a scan header makes no sense"))?;
                self.scans += 1;
                return scan::read(bytes, at + segment.len(), frame, &scan, &self.tables);
            }
            // Comments, EXIF, colour profiles.
            _ => {}
        }
        Ok(at + segment.len())
    }

    /// Any number of tables (T.81, B.2.4.2).
    fn huffman(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let symbols = rest.get(..counts.iter().map(|&count| usize::from(count)).sum())?;
            let table = Huffman::new(counts, symbols)?;
            match head >> 4 {
                0 if table.fits_dc() => *self.tables.dc.get_mut(usize::from(head))? = Some(table),
                1 => *self.tables.ac.get_mut(usize::from(head & 15))? = Some(table),
                _ => return None,
            }
            segment = &rest[symbols.len()..];
        }
        Some(())
    }

    /// Any number of tables (T.81, B.2.4.1).
    fn quantisation(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = segment.split_first() {
            let wide = head >> 4 > 0;
            let values = rest.get(..if wide { 128 } else { 64 })?;
            let mut table = [0; 64];
            for k in 0..64 {
                table[place(k)] =
                    if wide { u16::from_be_bytes([values[2 * k], values[2 * k + 1]]) } else { u16::from(values[k]) };
            }
            *self.tables.quantisation.get_mut(usize::from(head & 15))? = Some(table);
            segment = &rest[values.len()..];
        }
        Some(())
    }

    /// A file that lacks its end marker, and nothing else, is whole; libjpeg warns and takes it.
    fn unended(&mut self) -> Result<(Frame, Space), JpegError> {
        let whole =
            |frame: &Frame| !frame.progressive && frame.components.iter().all(|part| part.quantisation.is_some());
        if self.frame.as_ref().is_some_and(whole) { self.finish(0) } else { Err(JpegError::Truncated) }
    }

    fn finish(&mut self, at: usize) -> Result<(Frame, Space), JpegError> {
        let malformed = |what| JpegError::Malformed { at, what };
        let mut frame = self.frame.take().ok_or_else(|| malformed("no frame header before the end"))?;
        if self.scans == 0 {
            return Err(malformed("no scan before the end"));
        }
        frame.finish();
        let space = self.space(&frame);
        Ok((frame, space))
    }

    /// What the components mean, by libjpeg's rules.
    fn space(&self, frame: &Frame) -> Space {
        let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
        match (ids.len(), self.adobe) {
            (1, _) => Space::Grey,
            (3, _) if self.jfif => Space::YCbCr,
            (3, Some(0)) => Space::Rgb,
            (3, None) if ids == *b"RGB" => Space::Rgb,
            (3, _) => Space::YCbCr,
            (_, Some(2)) => Space::Ycck,
            _ => Space::Cmyk,
        }
    }
}

/// From the body of a scan header (T.81, B.2.3).
fn scan_header(segment: &[u8], frame: &Frame) -> Option<Scan> {
    let (&count, rest) = segment.split_first()?;
    let (specs, rest) = rest.split_at_checked(2 * usize::from(count))?;
    let &[first, last, bits] = rest else { return None };
    let components = specs.as_chunks::<2>().0.iter().map(|&[id, tables]| {
        let index = frame.components.iter().position(|component| component.id == id)?;
        Some((index, usize::from(tables >> 4), usize::from(tables & 15)))
    });
    let components = components.collect::<Option<Vec<_>>>()?;
    let mut seen: Vec<_> = components.iter().map(|component| component.0).collect();
    seen.sort_unstable();
    seen.dedup();
    if components.is_empty() || seen.len() != components.len() {
        return None;
    }
    // A unit holds at most ten blocks.
    let blocks = |&(index, ..): &(usize, usize, usize)| frame.components[index].h * frame.components[index].v;
    if components.len() > 1 && components.iter().map(blocks).sum::<usize>() > 10 {
        return None;
    }
    let scan = Scan {
        components,
        first: usize::from(first),
        last: usize::from(last),
        high: u32::from(bits >> 4),
        low: u32::from(bits & 15),
    };
    // A sequential scan has all of a block, whatever the header says.
    if !frame.progressive {
        return Some(scan);
    }
    let band = match scan.first {
        0 => scan.last == 0,
        _ => scan.first <= scan.last && scan.last < 64 && scan.components.len() == 1,
    };
    let step = scan.high == 0 || scan.high == scan.low + 1;
    (band && step && scan.low <= 13).then_some(scan)
}
