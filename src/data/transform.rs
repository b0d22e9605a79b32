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
        if self.channels == 1 {
            return self.append_colour(&luma(image), pixels);
        }
        self.append_colour(image, pixels)
    }

    fn append_colour(&self, image: &Rgb8, pixels: &mut Vec<f32>) -> Result<(), TransformError> {
        let crop = self.protocol.crop;
        let Some(resize) = self.protocol.resize else {
            if (image.width(), image.height()) != (crop, crop) {
                return Err(TransformError(format!(
                    "the image is {}x{}; protocol {} takes {crop}x{crop} as they are",
                    image.width(),
                    image.height(),
                    self.protocol.name
                )));
            }
            return self.normalise(image, (0, 0), pixels);
        };
        let (width, height) = match resize.fit {
            Fit::ShortSide => short_side(image.width(), image.height(), resize.size),
            Fit::Stretch => (resize.size, resize.size),
        };
        match resize.interpolation {
            Interpolation::PilBilinear => {
                let resized = pillow::resize(image, width, height, pillow::Filter::Bilinear);
                self.normalise(&resized, self.origin(width, height, CropRule::Pillow)?, pixels)
            }
            Interpolation::PilBicubic => {
                let resized = pillow::resize(image, width, height, pillow::Filter::Bicubic);
                self.normalise(&resized, self.origin(width, height, CropRule::Pillow)?, pixels)
            }
            Interpolation::OpencvBilinear => {
                let resized = opencv::resize_bilinear(image, width, height);
                self.normalise(&resized, self.origin(width, height, CropRule::Opencv)?, pixels)
            }
            Interpolation::Torch7Bicubic => {
                let resized = torch7::scale_bicubic(&RgbF32::from(image), width, height);
                self.normalise(&resized, self.origin(width, height, CropRule::Torch7)?, pixels)
            }
        }
    }
}
