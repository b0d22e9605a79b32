//! A protocol applied: from decoded pixels to the network's input.

use std::borrow::Cow;
use std::path::Path;

use densenet_arch::{Channels, Fit, Interpolation, Protocol, Range};

use super::resize::{CropRule, Rgb8, RgbF32, crop_origin, opencv, pillow, short_side, torch7};
use crate::error::{Error, Result};

/// A resized image of more pixels than this (an image 1024 times as long as wide) is no photograph.
const MOST_PIXELS: usize = 1 << 26;

/// A protocol for a network of so many input channels.
#[derive(Clone, Debug)]
pub struct Transform {
    protocol: Protocol,
    channels: usize,
    ten: bool,
    /// What each byte becomes, channel by channel.
    bytes: Box<[[f32; 256]; 3]>,
}

/// An image that the protocol cannot take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformError(String);

impl TransformError {
    /// The error with the image's name before it.
    pub fn of(self, image: &str) -> Error {
        Error::data(Path::new(image), self.0)
    }
}

impl Transform {
    /// Networks read colour (3 channels) or grey (1: Pillow's luma, with the first mean and deviation).
    pub fn new(protocol: &Protocol, channels: usize) -> Result<Self> {
        match channels {
            1 | 3 => Ok(Self { protocol: protocol.clone(), channels, ten: false, bytes: byte_table(protocol) }),
            _ => Err(Error::Usage(format!("the network reads {channels} channels; images have 3 or 1"))),
        }
    }

    /// Ten crops an image instead of one: the middle and the four corners, then the same of the mirrored image
    /// (liuzhuang13/DenseNet, datasets/transforms.lua, TenCrop).
    pub fn with_ten_crops(self) -> Result<Self> {
        if self.protocol.resize.is_none() {
            let name = &self.protocol.name;
            return Err(Error::Usage(format!("protocol {name} takes images as they are; ten crops need a larger one")));
        }
        Ok(Self { ten: true, ..self })
    }

    /// Crops of each image.
    pub fn crops(&self) -> usize {
        if self.ten { 10 } else { 1 }
    }

    /// Bytes of an image's input, all crops.
    pub fn bytes(&self) -> usize {
        let (channels, height, width) = self.shape();
        size_of::<f32>() * self.crops() * channels * height * width
    }

    /// The protocol.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Shape of one image: (channels, crop, crop).
    pub fn shape(&self) -> (usize, usize, usize) {
        (self.channels, self.protocol.crop, self.protocol.crop)
    }

    /// The picture that one crop's input shows: normalisation undone, and rounded to bytes. Grey is repeated.
    pub fn picture(&self, input: &[f32]) -> Rgb8 {
        let Protocol { crop, channels, range, mean, std, .. } = &self.protocol;
        let unit = match range {
            Range::Unit => 255.0,
            Range::Byte => 1.0,
        };
        let plane = crop * crop;
        let byte = |at: usize, colour: usize| {
            let source = if self.channels == 1 { 0 } else { colour };
            let stored = match channels {
                Channels::Bgr if self.channels == 3 => 2 - source,
                _ => source,
            };
            let value = input.get(stored * plane + at).copied().unwrap_or_default() * std[stored] + mean[stored];
            (value * unit).round().clamp(0.0, 255.0) as u8
        };
        let data = (0..plane).flat_map(|at| [0, 1, 2].map(|colour| byte(at, colour))).collect();
        // A protocol's crop has at least one pixel.
        Rgb8::new(*crop, *crop, data).unwrap_or_else(|_| Rgb8::black_pixel())
    }

    /// Appends the input of one image, channel after channel.
    pub fn append(&self, image: &Rgb8, pixels: &mut Vec<f32>) -> Result<(), TransformError> {
        let image = self.colours(image);
        let (width, height) = (image.width(), image.height());
        let Some(resize) = self.protocol.resize else {
            let crop = self.protocol.crop;
            if (width, height) != (crop, crop) {
                let name = &self.protocol.name;
                let reason = format!("the image is {width}x{height}; protocol {name} takes {crop}x{crop} as they are");
                return Err(TransformError(reason));
            }
            return self.append_bytes(&image, CropRule::Pillow, pixels);
        };
        let (width, height) = match (resize.fit, resize.interpolation) {
            (Fit::Stretch, _) => (resize.size, resize.size),
            (Fit::ShortSide, Interpolation::Torch7Bicubic) => torch7::short_side(width, height, resize.size),
            (Fit::ShortSide, _) => short_side(width, height, resize.size),
        };
        let size = check_size(width, height)?;
        match resize.interpolation {
            Interpolation::PilBilinear => self.pillow(&image, size, pillow::Filter::Bilinear, pixels),
            Interpolation::PilBicubic => self.pillow(&image, size, pillow::Filter::Bicubic, pixels),
            Interpolation::OpencvBilinear => {
                self.append_bytes(&opencv::resize_bilinear(&image, width, height), CropRule::Opencv, pixels)
            }
            Interpolation::Torch7Bicubic => {
                let resized = torch7::scale_bicubic(&RgbF32::from(&*image), width, height);
                self.append_floats(&resized, CropRule::Torch7, pixels)
            }
        }
    }

    /// The image as the network knows it: for a grey one, its luma in all three channels.
    pub(crate) fn colours<'i>(&self, image: &'i Rgb8) -> Cow<'i, Rgb8> {
        if self.channels == 1 { Cow::Owned(grey(image)) } else { Cow::Borrowed(image) }
    }

    /// Of one crop, only that part is resized.
    fn pillow(
        &self,
        image: &Rgb8,
        (width, height): (usize, usize),
        filter: pillow::Filter,
        pixels: &mut Vec<f32>,
    ) -> Result<(), TransformError> {
        let crop = self.protocol.crop;
        let part = match crop_origin(width, height, crop, CropRule::Pillow) {
            Some((left, top)) if !self.ten => (left..left + crop, top..top + crop),
            _ => (0..width, 0..height),
        };
        let resized = pillow::resize_part(image, (width, height), filter, part);
        self.append_bytes(&resized, CropRule::Pillow, pixels)
    }

    /// Appends the middle of an image that is resized already, normalised.
    pub(crate) fn append_bytes(
        &self,
        image: &Rgb8,
        rule: CropRule,
        pixels: &mut Vec<f32>,
    ) -> Result<(), TransformError> {
        let of = |channel: usize, byte: u8| self.bytes[channel][usize::from(byte)];
        self.crop(image.data(), (image.width(), image.height()), rule, of, pixels)
    }

    /// The same of floats from 0 to 1.
    pub(crate) fn append_floats(
        &self,
        image: &RgbF32,
        rule: CropRule,
        pixels: &mut Vec<f32>,
    ) -> Result<(), TransformError> {
        let full = match self.protocol.range {
            Range::Unit => 1.0,
            Range::Byte => 255.0,
        };
        let Protocol { mean, std, .. } = &self.protocol;
        let of = |channel: usize, unit: f32| (unit * full - mean[channel]) / std[channel];
        self.crop(image.data(), (image.width(), image.height()), rule, of, pixels)
    }

    /// Cuts the middle out of interleaved values and normalises it; `of` gives what a value becomes in a channel.
    fn crop<T: Copy>(
        &self,
        data: &[T],
        (width, height): (usize, usize),
        rule: CropRule,
        of: impl Fn(usize, T) -> f32,
        pixels: &mut Vec<f32>,
    ) -> Result<(), TransformError> {
        let Protocol { crop, channels, name, .. } = &self.protocol;
        let crop = *crop;
        let Some((left, top)) = crop_origin(width, height, crop, rule) else {
            return Err(TransformError(format!(
                "{width}x{height} pixels are too few for protocol {name}'s crop of {crop}"
            )));
        };
        let (right, bottom) = (width - crop, height - crop);
        let corners = [(left, top), (0, 0), (right, 0), (0, bottom), (right, bottom)];
        let views = [false, true].into_iter().flat_map(|mirrored| corners.map(|corner| (mirrored, corner)));
        let sources = match channels {
            Channels::Rgb => [0, 1, 2],
            Channels::Bgr => [2, 1, 0],
        };
        for (mirrored, (left, top)) in views.take(self.crops()) {
            // The mirrored image's column `left` is column `width - 1 - left` of this one, and on from there backwards.
            let first = if mirrored { width - left - crop } else { left };
            let start = pixels.len();
            pixels.resize(start + self.channels * crop * crop, 0.0);
            for (channel, plane) in pixels[start..].chunks_exact_mut(crop * crop).enumerate() {
                let source = sources[channel];
                for (y, target) in plane.chunks_exact_mut(crop).enumerate() {
                    let row = &data[3 * (width * (top + y) + first)..][..3 * crop];
                    for (value, pixel) in target.iter_mut().zip(row.as_chunks::<3>().0) {
                        *value = of(channel, pixel[source]);
                    }
                    if mirrored {
                        target.reverse();
                    }
                }
            }
        }
        Ok(())
    }
}

/// The size that an image is resized to, unless that takes too much memory.
pub(crate) fn check_size(width: usize, height: usize) -> Result<(usize, usize), TransformError> {
    if width.saturating_mul(height) > MOST_PIXELS {
        return Err(TransformError(format!("so long an image would be resized to {width}x{height} pixels")));
    }
    Ok((width, height))
}

/// What a value on the scale of bytes becomes in a channel.
fn normalised(protocol: &Protocol, channel: usize, byte: f32) -> f32 {
    let unit = match protocol.range {
        Range::Unit => 255.0,
        Range::Byte => 1.0,
    };
    (byte / unit - protocol.mean[channel]) / protocol.std[channel]
}

fn byte_table(protocol: &Protocol) -> Box<[[f32; 256]; 3]> {
    Box::new([0, 1, 2].map(|channel| std::array::from_fn(|byte| normalised(protocol, channel, byte as f32))))
}

/// Its luma in all three channels.
fn grey(image: &Rgb8) -> Rgb8 {
    let mut image = image.clone();
    for pixel in image.pixels_mut() {
        *pixel = [luma(*pixel); 3];
    }
    image
}

/// Pillow's integer luma.
pub(crate) fn luma(pixel: [u8; 3]) -> u8 {
    let [red, green, blue] = pixel.map(u32::from);
    ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(protocol: &str, channels: usize, image: &Rgb8) -> Result<Vec<f32>, TransformError> {
        let mut pixels = Vec::new();
        let transform = Transform::new(&Protocol::named(protocol).unwrap(), channels).unwrap();
        transform.append(image, &mut pixels).map(|()| pixels)
    }

    fn plain(width: usize, height: usize, colour: [u8; 3]) -> Rgb8 {
        Rgb8::new(width, height, colour.repeat(width * height)).unwrap()
    }

    #[test]
    fn channels_are_normalised_each_by_its_own() {
        let pixels = apply("cifar10", 3, &plain(32, 32, [255, 0, 128])).unwrap();
        assert_eq!(pixels.len(), 3 * 32 * 32);
        assert_eq!(pixels[0], (255.0 - 125.3) / 63.0);
        assert_eq!(pixels[1024], -123.0 / 62.1);
        assert_eq!(pixels[2048], (128.0 - 113.9) / 66.7);
        let caffe = apply("opencv-bilinear", 3, &plain(300, 260, [10, 20, 30])).unwrap();
        assert!((caffe[0] - (30.0 - 103.94) * 0.017).abs() < 1e-6);
        for protocol in ["torch7", "pil-bilinear", "pil-bicubic"] {
            let pixels = apply(protocol, 3, &plain(300, 260, [255, 0, 0])).unwrap();
            assert_eq!(pixels.len(), 3 * 224 * 224);
            assert!((pixels[0] - (1.0 - 0.485) / 0.229).abs() < 1e-5, "{protocol}");
        }
    }

    #[test]
    fn a_picture_is_what_was_cut() {
        let colours = [[200, 10, 60], [0, 255, 7]];
        for protocol in ["pil-bilinear", "opencv-bilinear", "torch7"] {
            for colour in colours {
                let transform = Transform::new(&Protocol::named(protocol).unwrap(), 3).unwrap();
                let picture = transform.picture(&apply(protocol, 3, &plain(300, 260, colour)).unwrap());
                assert!(picture == plain(224, 224, colour), "{protocol}");
            }
        }
    }

    #[test]
    fn grey_networks_read_pillow_s_luma() {
        let pixels = apply("svhn", 1, &plain(32, 32, [255, 0, 0])).unwrap();
        // (255 * 19595 + 32768) >> 16 = 76
        assert_eq!((pixels.len(), pixels[0]), (1024, 76.0 / 255.0));
        assert!(Transform::new(&Protocol::named("svhn").unwrap(), 2).is_err());
    }

    #[test]
    fn an_image_of_another_size_is_refused_where_nothing_resizes() {
        let error = apply("digits", 3, &plain(28, 32, [0; 3])).unwrap_err().of("a.png");
        let thin = apply("pil-bilinear", 3, &plain(1, 2000, [0; 3])).unwrap_err().of("a.png").to_string();
        assert!(thin.contains("would be resized to 256x512000"), "{thin}");
        assert_eq!(error.to_string(), "a.png: the image is 28x32; protocol digits takes 32x32 as they are");
    }
}
