//! How an image becomes the network's input. A protocol is part of a model: the same weights have been published with
//! five different errors because five resizers were used.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// From a decoded image to the input tensor: resize, centre crop, channel order, normalisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Its name, printed with every result.
    pub name: String,
    /// How the image is resized first; `None`: it already has the input's size.
    #[serde(default)]
    pub resize: Option<Resize>,
    /// Side of the square cut from the middle, in pixels.
    pub crop: usize,
    /// Order of the channels.
    #[serde(default)]
    pub channels: Channels,
    /// What a byte of 255 becomes before mean and deviation apply.
    #[serde(default)]
    pub range: Range,
    /// Subtracted from each channel, in the order of `channels` and the scale of `range`.
    pub mean: [f32; 3],
    /// Each channel is divided by it.
    pub std: [f32; 3],
}

/// How an image is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Pixels of the side that `fit` speaks of.
    pub size: usize,
    /// Which side gets that size.
    #[serde(default)]
    pub fit: Fit,
    /// Whose arithmetic.
    pub interpolation: Interpolation,
}

/// Which side of the image a resize sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// The shorter one; the other follows, truncated to whole pixels.
    #[default]
    ShortSide,
    /// Both, whatever the image's form.
    Stretch,
}

/// Whose resizing arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Pillow's bilinear: antialiased, fixed point, bytes between the passes.
    PilBilinear,
    /// Pillow's bicubic: antialiased, fixed point, bytes between the passes.
    PilBicubic,
    /// Torch7's `image.scale` bicubic: corners aligned, four taps, no antialiasing, float.
    Torch7Bicubic,
    /// OpenCV's `INTER_LINEAR`: no antialiasing, fixed point.
    OpencvBilinear,
}

/// Order of the input's channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channels {
    /// Red first.
    #[default]
    Rgb,
    /// Blue first, as Caffe.
    Bgr,
}

/// The scale on which mean and deviation are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Range {
    /// 0 to 1: bytes are divided by 255 first.
    #[default]
    Unit,
    /// 0 to 255.
    Byte,
}

/// A protocol that cannot be used.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// No such name, and not a description either.
    #[error("no protocol is called {name:?}; there are {}", Protocol::names().join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// A description in JSON that does not parse.
    #[error("a protocol's description is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// A description with sizes that make no sense.
    #[error("protocol {name:?}: {reason}")]
    Size {
        /// The protocol.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
const NAMES: [&str; 9] = [
    "torch7",
    "pil-bilinear",
    "pil-bicubic",
    "opencv-bilinear",
    "stretch-256",
    "cifar10",
    "cifar100",
    "svhn",
    "digits",
];

impl Protocol {
    /// Every named protocol.
    pub fn names() -> &'static [&'static str] {
        &NAMES
    }

    /// The protocol of that name.
    pub fn named(name: &str) -> Result<Self, ProtocolError> {
        use Interpolation::{OpencvBilinear, PilBicubic, PilBilinear, Torch7Bicubic};
        let imagenet = |fit, interpolation| Self {
            name: name.to_owned(),
            resize: Some(Resize { size: 256, fit, interpolation }),
            crop: 224,
            channels: Channels::Rgb,
            range: Range::Unit,
            mean: IMAGENET.0,
            std: IMAGENET.1,
        };
        let caffe = |fit| Self {
            channels: Channels::Bgr,
            range: Range::Byte,
            mean: [103.94, 116.78, 123.68],
            std: [1.0 / 0.017; 3],
            ..imagenet(fit, OpencvBilinear)
        };
        let bytes = |mean, std| Self {
            name: name.to_owned(),
            resize: None,
            crop: 32,
            channels: Channels::Rgb,
            range: Range::Byte,
            mean,
            std,
        };
        Ok(match name {
            "torch7" => imagenet(Fit::ShortSide, Torch7Bicubic),
            "pil-bilinear" => imagenet(Fit::ShortSide, PilBilinear),
            "pil-bicubic" => imagenet(Fit::ShortSide, PilBicubic),
            "opencv-bilinear" => caffe(Fit::ShortSide),
            "stretch-256" => caffe(Fit::Stretch),
            "cifar10" => bytes([125.3, 123.0, 113.9], [63.0, 62.1, 66.7]),
            "cifar100" => bytes([129.3, 124.1, 112.4], [68.2, 65.4, 70.4]),
            "svhn" => bytes([0.0; 3], [255.0; 3]),
            "digits" => bytes([77.9; 3], [95.7; 3]),
            _ => return Err(ProtocolError::Unknown { name: name.to_owned() }),
        })
    }

    /// A protocol from what [`to_text`](Self::to_text) gave: a name, or a description in JSON.
    pub fn from_text(text: &str) -> Result<Self, ProtocolError> {
        if !text.trim_start().starts_with('{') {
            return Self::named(text);
        }
        let protocol: Self =
            serde_json::from_str(text).map_err(|error| ProtocolError::Malformed { reason: error.to_string() })?;
        protocol.validate()?;
        Ok(protocol)
    }

    /// Its name where that says everything, else its description in JSON.
    pub fn to_text(&self) -> String {
        match Self::named(&self.name) {
            Ok(named) if named == *self => self.name.clone(),
            _ => serde_json::to_string(self).unwrap_or_else(|_| self.name.clone()),
        }
    }

    fn validate(&self) -> Result<(), ProtocolError> {
        const MOST: usize = 1 << 14;
        let refuse = |reason| Err(ProtocolError::Size { name: self.name.clone(), reason });
        if !(1..=MOST).contains(&self.crop) {
            return refuse("crop must be from 1 to 16384 pixels");
        }
        if self.resize.is_some_and(|resize| !(1..=MOST).contains(&resize.size)) {
            return refuse("resize must be from 1 to 16384 pixels");
        }
        if self.std.iter().any(|std| !std.is_finite() || *std == 0.0) || self.mean.iter().any(|mean| !mean.is_finite())
        {
            return refuse("mean must be finite, and std finite and not 0");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_text_and_descriptions_too() {
        for name in Protocol::names() {
            let protocol = Protocol::named(name).unwrap();
            assert_eq!(protocol.name, *name);
            assert_eq!(protocol.to_text(), *name);
            assert_eq!(Protocol::from_text(name), Ok(protocol));
        }
        let own = Protocol { crop: 288, name: "own".into(), ..Protocol::named("pil-bicubic").unwrap() };
        assert_eq!(Protocol::from_text(&own.to_text()), Ok(own));
    }

    #[test]
    fn what_is_no_protocol_is_refused() {
        assert!(
            Protocol::from_text("pil")
                .unwrap_err()
                .to_string()
                .starts_with("no protocol is called \"pil\"; there are torch7, pil-bilinear")
        );
        assert!(matches!(Protocol::from_text("{"), Err(ProtocolError::Malformed { .. })));
        let zero = Protocol { std: [1.0, 0.0, 1.0], name: "own".into(), ..Protocol::named("svhn").unwrap() };
        assert!(matches!(Protocol::from_text(&zero.to_text()), Err(ProtocolError::Size { .. })));
    }
}
