//! Exact image resizing: what Pillow, OpenCV and Torch7 compute, to the byte or the float, and where each cuts the crop.

pub mod opencv;
pub mod pillow;
pub mod torch7;

use std::ops::Range;

use thiserror::Error;

/// An image of bytes: rows from the top, pixels from the left, red, green and blue of each. It has at least one pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct Rgb8 {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

/// An image of floats from 0 to 1, laid out as [`Rgb8`]. Resizing may go outside that range.
#[derive(Clone, Debug, PartialEq)]
pub struct RgbF32 {
    width: usize,
    height: usize,
    data: Vec<f32>,
}

/// Bytes that are no image of the size given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{length} bytes are no {width}x{height} RGB image: that takes three bytes a pixel, and at least one pixel")]
pub struct SizeError {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes given.
    pub length: usize,
}

impl Rgb8 {
    /// An image from 3 * width * height bytes.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Result<Self, SizeError> {
        let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if bytes == Some(data.len()) && !data.is_empty() {
            Ok(Self { width, height, data })
        } else {
            Err(SizeError { width, height, length: data.len() })
        }
    }

    /// One black pixel.
    pub(super) fn black_pixel() -> Self {
        Self { width: 1, height: 1, data: vec![0; 3] }
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, row after row.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Those columns and rows; the ranges are not empty and lie in the image.
    pub(crate) fn part(&self, columns: Range<usize>, rows: Range<usize>) -> Self {
        let (width, height) = (columns.len(), rows.len());
        Self { width, height, data: part(&self.data, self.width, columns, rows) }
    }

    /// The pixels, row after row, to be changed.
    pub(crate) fn pixels_mut(&mut self) -> &mut [[u8; 3]] {
        self.data.as_chunks_mut().0
    }
}

impl RgbF32 {
    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The floats, row after row.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Those columns and rows; the ranges are not empty and lie in the image.
    pub(crate) fn part(&self, columns: Range<usize>, rows: Range<usize>) -> Self {
        let (width, height) = (columns.len(), rows.len());
        Self { width, height, data: part(&self.data, self.width, columns, rows) }
    }

    /// The pixels, row after row, to be changed.
    pub(crate) fn pixels_mut(&mut self) -> &mut [[f32; 3]] {
        self.data.as_chunks_mut().0
    }
}

fn part<T: Copy>(data: &[T], width: usize, columns: Range<usize>, rows: Range<usize>) -> Vec<T> {
    let rows = data[3 * width * rows.start..3 * width * rows.end].chunks_exact(3 * width);
    rows.flat_map(|row| &row[3 * columns.start..3 * columns.end]).copied().collect()
}

/// Bytes times the rounded reciprocal of 255, as Torch's `image.load`; a division differs in the last bit of half of them.
impl From<&Rgb8> for RgbF32 {
    fn from(image: &Rgb8) -> Self {
        let data = image.data.iter().map(|&byte| f32::from(byte) * (1.0 / 255.0)).collect();
        Self { width: image.width, height: image.height, data }
    }
}

/// The (width, height) whose shorter side is `size`; the longer one is size * long / short, truncated.
///
/// That is torchvision's `Resize`; Torch's is [`torch7::short_side`].
pub fn short_side(width: usize, height: usize, size: usize) -> (usize, usize) {
    let (short, long) = (width.min(height), width.max(height));
    if short == size {
        return (width, height);
    }
    let follow = size.saturating_mul(long) / short.max(1);
    if width <= height { (size, follow) } else { (follow, size) }
}

/// Whose way of placing a crop in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CropRule {
    /// torchvision: half the margin, rounded half to even.
    Pillow,
    /// Torch7: half the margin, rounded up.
    Torch7,
    /// Half the margin, rounded down.
    Opencv,
}

/// Where the middle square of side `crop` begins, as (x, y); `None` if the image is smaller.
pub fn crop_origin(width: usize, height: usize, crop: usize, rule: CropRule) -> Option<(usize, usize)> {
    let start = |length: usize| {
        let margin = length.checked_sub(crop)?;
        let floor = margin / 2;
        Some(match rule {
            CropRule::Pillow => floor + (margin % 2) * (floor % 2),
            CropRule::Torch7 => margin.div_ceil(2),
            CropRule::Opencv => floor,
        })
    };
    Some((start(width)?, start(height)?))
}

/// Reference images and results for the tests of the resizers.
#[cfg(test)]
pub(in super::super) mod fixtures {
    use std::path::PathBuf;

    use serde_json::Value;
    use sha2::{Digest, Sha256};

    use super::Rgb8;

    /// Bytes of a file of the fixtures.
    pub(in super::super::super) fn read(path: &str) -> Vec<u8> {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(path);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(in super::super::super) fn json(path: &str) -> Value {
        serde_json::from_slice(&read(path)).unwrap()
    }

    /// `photo.jpg` as it is called in file names.
    pub(in super::super::super) fn stem(name: &str) -> String {
        name.replace('.', "_")
    }

    /// The pixels that Pillow decoded, checked against their hash.
    pub(in super::super::super) fn image(name: &str) -> Rgb8 {
        let path = match name.rsplit_once('.') {
            Some((_, "png")) => format!("preproc/{name}"),
            _ => format!("preproc/decoded/{}.png", stem(name)),
        };
        let pixels = image::load_from_memory(&read(&path)).unwrap().to_rgb8();
        let image = Rgb8::new(pixels.width() as usize, pixels.height() as usize, pixels.into_raw()).unwrap();
        assert_eq!(sha256(image.data()), json("preproc/expected.json")[name]["decoded_sha256"], "{name}");
        image
    }

    /// The square of side `crop` that begins at (x, y).
    pub(in super::super::super) fn cut<T: Copy>(
        data: &[T],
        width: usize,
        (x, y): (usize, usize),
        crop: usize,
    ) -> Vec<T> {
        data.chunks_exact(3 * width).skip(y).take(crop).flat_map(|row| &row[3 * x..3 * (x + crop)]).copied().collect()
    }

    pub(in super::super::super) fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    /// An image without structure, the same at each call.
    pub(in super::super::super) fn noise(width: usize, height: usize) -> Rgb8 {
        let mut state = 1_u32;
        let data = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        Rgb8::new(width, height, data.take(3 * width * height).collect()).unwrap()
    }

    /// Source and output sizes: enlarged, shrunk, one axis of each, one kept, single rows, columns and pixels.
    pub(in super::super::super) const SHAPES: [[usize; 4]; 12] = [
        [7, 5, 23, 19],
        [23, 19, 7, 5],
        [64, 3, 5, 40],
        [31, 17, 31, 6],
        [31, 17, 12, 17],
        [31, 17, 31, 17],
        [1, 9, 4, 3],
        [9, 1, 3, 4],
        [1, 1, 3, 2],
        [13, 11, 1, 1],
        [40, 30, 20, 15],
        [101, 37, 100, 38],
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_three_bytes_a_pixel_and_a_pixel() {
        let image = Rgb8::new(2, 1, vec![0, 51, 255, 1, 2, 3]).unwrap();
        assert_eq!((image.width(), image.height()), (2, 1));
        let floats = RgbF32::from(&image);
        assert_eq!((floats.width(), floats.height()), (2, 1));
        assert_eq!((floats.data()[0], floats.data()[2]), (0.0, 1.0));
        // 51 / 255 is 0.2; the product is the next float.
        assert_eq!(floats.data()[1].to_bits(), 0.2_f32.to_bits() + 1);
        for (width, height, length) in [(2, 1, 5), (0, 0, 0), (usize::MAX, 2, 6)] {
            let error = Rgb8::new(width, height, vec![0; length]).unwrap_err();
            assert_eq!(error, SizeError { width, height, length });
        }
    }

    #[test]
    fn the_short_side_gets_the_size() {
        let expected = fixtures::json("torch_image/expected.json");
        let sizes = expected["sizes"].as_array().unwrap();
        assert!(sizes.len() > 10);
        for size in sizes {
            let number = |key: &str| size[key].as_u64().unwrap() as usize;
            for rule in [short_side, torch7::short_side] {
                let got = rule(number("w"), number("h"), number("size"));
                assert_eq!(got, (number("out_w"), number("out_h")), "{size}");
            }
        }
        for trap in expected["sizes_trap"].as_array().unwrap() {
            for example in trap["examples_short_long_got_exact"].as_array().unwrap() {
                let [short, long, got, exact] = [0, 1, 2, 3].map(|at| example[at].as_u64().unwrap() as usize);
                let size = trap["size"].as_u64().unwrap() as usize;
                assert_eq!(torch7::short_side(short, long, size), (size, got), "{example}");
                assert_eq!(short_side(short, long, size), (size, exact), "{example}");
            }
        }
        assert_eq!(short_side(255, 257, 256), (256, 258));
        assert_eq!(short_side(10, 300, 256), (256, 7680));
        assert_eq!(short_side(256, 1000, 256), (256, 1000));
        // Exact; Torch divides first.
        assert_eq!(short_side(61, 28, 224), (488, 224));
        assert_eq!(torch7::short_side(61, 28, 224), (487, 224));
    }

    #[test]
    fn crops_lie_in_the_middle() {
        let rules = [CropRule::Pillow, CropRule::Torch7, CropRule::Opencv];
        let at = |width, height, crop| rules.map(|rule| crop_origin(width, height, crop, rule));
        assert_eq!(at(85, 64, 56), [Some((14, 4)), Some((15, 4)), Some((14, 4))]);
        assert_eq!(at(341, 257, 224), [Some((58, 16)), Some((59, 17)), Some((58, 16))]);
        // Half to even: 1.5 becomes 2, where OpenCV's users cut at 1.
        assert_eq!(at(59, 56, 56), [Some((2, 0)), Some((2, 0)), Some((1, 0))]);
        assert_eq!(at(55, 64, 56), [None; 3]);
        assert_eq!(at(64, 55, 56), [None; 3]);
    }
}
