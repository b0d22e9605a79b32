//! Exact image resizing: what Pillow, OpenCV and Torch7 compute, to the byte or the float, and where each cuts the crop.

pub mod opencv;
pub mod pillow;
pub mod torch7;

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
}

/// Bytes times the rounded reciprocal of 255, as Torch's `image.load`; a division differs in the last bit of half of them.
impl From<&Rgb8> for RgbF32 {
    fn from(image: &Rgb8) -> Self {
        let data = image.data.iter().map(|&byte| f32::from(byte) * (1.0 / 255.0)).collect();
        Self { width: image.width, height: image.height, data }
    }
}

/// The (width, height) whose shorter side is `size`; the longer one is size * long / short, truncated.
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
