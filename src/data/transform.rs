//! A protocol applied: from decoded pixels to the network's input.

use std::path::Path;

use densenet_arch::{Channels, Fit, Interpolation, Protocol, Range};

use super::resize::{CropRule, Rgb8, RgbF32, center_crop_origin, opencv, pillow, short_side, torch7};
use crate::error::{Error, Result};

/// A protocol for a network of so many input channels.
#[derive(Clone, Debug)]
pub struct Transform {
    protocol: Protocol,
    channels: usize,
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
            1 | 3 => Ok(Self { protocol: protocol.clone(), channels }),
            _ => Err(Error::Usage(format!("the network reads {channels} channels; images have 3 or 1"))),
        }
    }

    /// The protocol.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Shape of one image: (channels, crop, crop).
    pub fn shape(&self) -> (usize, usize, usize) {
        (self.channels, self.protocol.crop, self.protocol.crop)
    }

    /// Appends the input of one image, channel after channel.
    pub fn append(&self, image: &Rgb8, pixels: &mut Vec<f32>) -> Result<(), TransformError> {
        let grey;
        let image = if self.channels == 1 {
            grey = luma(image);
            &grey
        } else {
            image
        };
        let unit = match self.protocol.range {
            Range::Unit => 255.0,
            Range::Byte => 1.0,
        };
        match self.interpolation() {
            // Torch resizes floats from 0 to 1, so they are brought back to 0..255 for the common step.
            Some((Interpolation::Torch7Bicubic, size, fit)) => {
                let image = RgbF32::from_rgb8(image);
                let (width, height) = target(&image_size(image.width(), image.height()), size, fit);
                let resized = torch7::scale_bicubic(&image, width, height);
                let crop = self.crop(resized.width(), resized.height(), CropRule::Torch7)?;
                self.normalise(|x, y, channel| resized.at(crop.0 + x, crop.1 + y, channel) * 255.0 / unit, pixels);
            }
            Some((interpolation, size, fit)) => {
                let (width, height) = target(&image_size(image.width(), image.height()), size, fit);
                let (resized, rule) = match interpolation {
                    Interpolation::PilBilinear => {
                        (pillow::resize(image, width, height, pillow::Filter::Bilinear), CropRule::Pil)
                    }
                    Interpolation::PilBicubic => {
                        (pillow::resize(image, width, height, pillow::Filter::Bicubic), CropRule::Pil)
                    }
                    _ => (opencv::resize_bilinear(image, width, height), CropRule::Opencv),
                };
                let crop = self.crop(resized.width(), resized.height(), rule)?;
                self.normalise(|x, y, channel| f32::from(resized.at(crop.0 + x, crop.1 + y, channel)) / unit, pixels);
            }
            None => todo!(),
        }
        Ok(())
    }
}
