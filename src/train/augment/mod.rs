//! What a training image is drawn from its file's pixels: the original's ways, and torchvision's.

mod pillow_colour;
#[cfg(test)]
mod reference;
mod shift;
mod torch;
mod torch_colour;
mod torchvision;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use shift::Shift;
pub use torch::RandomSizedCrop;
pub use torchvision::RandomResizedCrop;

use super::draws::Random;
use crate::data::resize::Rgb8;
use crate::data::transform::{Transform, TransformError};
use crate::error::{Error, Result};

/// Changes of an image that its class survives, drawn anew each time that it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augmentation {
    /// What evaluation sees, moved and mirrored.
    Shift(Shift),
    /// A part of the image, its colours changed, as the original trains on ImageNet.
    RandomSizedCrop(RandomSizedCrop),
    /// A part of the image, its colours changed, as torchvision does it.
    RandomResizedCrop(RandomResizedCrop),
}

const TORCHVISION: RandomResizedCrop = RandomResizedCrop { min_area: 0.08, flip: true, jitter: 0.0 };

const NAMED: [(&str, Augmentation); 7] = [
    ("none", Augmentation::Shift(Shift { flip: false, pad: 0 })),
    ("flip", Augmentation::Shift(Shift { flip: true, pad: 0 })),
    ("crop", Augmentation::Shift(Shift { flip: false, pad: 4 })),
    // liuzhuang13/DenseNet, datasets/cifar10.lua and imagenet.lua.
    ("cifar", Augmentation::Shift(Shift { flip: true, pad: 4 })),
    (
        "imagenet",
        Augmentation::RandomSizedCrop(RandomSizedCrop { min_area: 0.08, jitter: 0.4, lighting: 0.1, flip: true }),
    ),
    // torchvision's references/classification/presets.py; the jitter is ColorJitter(0.4, 0.4, 0.4) after it.
    ("random-resized-crop", Augmentation::RandomResizedCrop(TORCHVISION)),
    ("random-resized-crop+jitter", Augmentation::RandomResizedCrop(RandomResizedCrop { jitter: 0.4, ..TORCHVISION })),
];

impl Augmentation {
    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, _)| *name)
    }

    /// The one of that name, or what [`Display`](fmt::Display) wrote of another.
    pub fn named(text: &str) -> Result<Self> {
        if let Some((_, known)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(*known);
        }
        if let Ok(described) = serde_json::from_str::<Self>(text) {
            return described.check();
        }
        let names: Vec<_> = Self::names().collect();
        Err(Error::Usage(format!("no augmentation {text:?}; there is {}", names.join(", "))))
    }

    /// With another least share of the image's area in what is cut from it: 0.08 as published, more where what matters
    /// is small, as in medical images.
    pub fn with_min_area(self, min_area: f64) -> Result<Self> {
        match self {
            Self::Shift(_) => Err(Error::Usage(format!("augmentation {self} cuts no areas of other sizes"))),
            Self::RandomSizedCrop(crop) => Self::RandomSizedCrop(RandomSizedCrop { min_area, ..crop }).check(),
            Self::RandomResizedCrop(crop) => Self::RandomResizedCrop(RandomResizedCrop { min_area, ..crop }).check(),
        }
    }

    /// Itself, if its numbers make sense.
    fn check(self) -> Result<Self> {
        let (min_area, jitter, lighting) = match self {
            Self::Shift(_) => return Ok(self),
            Self::RandomSizedCrop(crop) => (crop.min_area, crop.jitter, crop.lighting),
            Self::RandomResizedCrop(crop) => (crop.min_area, crop.jitter, 0.0),
        };
        let refuse = |what, value, range| Err(Error::Usage(format!("{what} of {value}; it is {range}")));
        if !(min_area > 0.0 && min_area <= 1.0) {
            return refuse("a least area", min_area, "a share above 0, of at most 1");
        }
        if !(0.0..=1.0).contains(&jitter) {
            return refuse("a jitter", jitter, "from 0 to 1");
        }
        if !(0.0..=1.0).contains(&lighting) {
            return refuse("a lighting", lighting, "from 0 to 1");
        }
        Ok(self)
    }

    /// Appends what is drawn of an image: one normalised input, (channels, crop, crop). The transform has one crop.
    ///
    /// # Errors
    ///
    /// An image that evaluation cannot take, where that comes first; one so long that it would take too much memory resized.
    pub fn append(
        &self,
        image: &Rgb8,
        transform: &Transform,
        draws: &mut impl Random,
        pixels: &mut Vec<f32>,
    ) -> Result<(), TransformError> {
        match self {
            Self::Shift(shift) => shift.append(image, transform, draws, pixels),
            Self::RandomSizedCrop(crop) => crop.append(image, transform, draws, pixels),
            Self::RandomResizedCrop(crop) => crop.append(image, transform, draws, pixels),
        }
    }
}

impl Default for Augmentation {
    /// `none`.
    fn default() -> Self {
        Self::Shift(Shift::default())
    }
}

/// Its name, or its description in JSON.
impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMED.iter().find(|(_, named)| named == self) {
            Some((name, _)) => f.write_str(name),
            None => f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?),
        }
    }
}

/// Mirrors an input of that side, row by row.
fn mirror(input: &mut [f32], side: usize) {
    input.chunks_exact_mut(side).for_each(<[f32]>::reverse);
}

#[cfg(test)]
mod tests {
    use densenet_arch::{Channels, Protocol, Range};

    use super::*;
    use crate::data::resize::fixtures::noise;
    use crate::train::draws::Draws;

    #[test]
    fn names_and_descriptions_survive_text() {
        for name in Augmentation::names() {
            let augmentation = Augmentation::named(name).unwrap();
            assert_eq!(augmentation.to_string(), name);
            let kept = serde_json::to_string(&augmentation).unwrap();
            assert_eq!(serde_json::from_str::<Augmentation>(&kept).unwrap(), augmentation);
        }
        assert_eq!(Augmentation::default().to_string(), "none");
        let medical = Augmentation::named("random-resized-crop").unwrap().with_min_area(0.3).unwrap();
        assert_eq!(medical.to_string(), r#"{"random-resized-crop":{"min_area":0.3,"flip":true,"jitter":0.0}}"#);
        assert_eq!(Augmentation::named(&medical.to_string()).unwrap(), medical);
        let error = |text: &str| Augmentation::named(text).unwrap_err().to_string();
        assert!(
            error("flips").starts_with("no augmentation \"flips\"; there is none, flip, crop, cifar, imagenet, random")
        );
        assert!(error(r#"{"shift":{"flip":true,"pad":0,"turn":1}}"#).contains("there is none"));
        let error = |name: &str, area| Augmentation::named(name).unwrap().with_min_area(area).unwrap_err().to_string();
        assert_eq!(error("cifar", 0.3), "augmentation cifar cuts no areas of other sizes");
        assert_eq!(error("imagenet", 0.0), "a least area of 0; it is a share above 0, of at most 1");
        assert!(error("imagenet", f64::NAN).contains("NaN"));
        for (crop, says) in [
            (r#"{"random-sized-crop":{"min_area":2,"jitter":0,"lighting":0,"flip":true}}"#, "a least area of 2"),
            (r#"{"random-sized-crop":{"min_area":1,"jitter":0,"lighting":-1,"flip":true}}"#, "a lighting of -1"),
            (
                r#"{"random-resized-crop":{"min_area":1,"jitter":1.5,"flip":true}}"#,
                "a jitter of 1.5; it is from 0 to 1",
            ),
        ] {
            assert!(Augmentation::named(crop).unwrap_err().to_string().starts_with(says));
        }
    }

    #[test]
    fn a_key_decides_what_is_drawn() {
        let transform = Transform::new(&Protocol { crop: 16, ..Protocol::named("torch7").unwrap() }, 3).unwrap();
        let drawn = |augmentation: Augmentation, key: u64| {
            let mut pixels = Vec::new();
            augmentation.append(&noise(40, 30), &transform, &mut Draws::of(&[key]), &mut pixels).unwrap();
            pixels
        };
        for name in Augmentation::names() {
            let augmentation = Augmentation::named(name).unwrap();
            assert!(drawn(augmentation, 1) == drawn(augmentation, 1));
            let several = (0..8).any(|key| drawn(augmentation, key) != drawn(augmentation, 9));
            assert_eq!(several, name != "none", "{name}");
        }
    }

    #[test]
    fn grey_and_blue_first_are_as_in_evaluation() {
        let whole = Protocol { crop: 2, range: Range::Byte, ..Protocol::named("svhn").unwrap() };
        let protocol = Protocol { mean: [0.0, 1.0, 2.0], std: [1.0; 3], channels: Channels::Bgr, ..whole };
        let red = Rgb8::new(2, 2, [255, 10, 0].repeat(4)).unwrap();
        let jitter = RandomSizedCrop { min_area: 1.0, jitter: 0.0, lighting: 0.0, flip: true };
        for augmentation in [
            Augmentation::named("flip").unwrap(),
            Augmentation::RandomSizedCrop(jitter),
            Augmentation::named("random-resized-crop").unwrap(),
        ] {
            let drawn = |channels| {
                let mut pixels = Vec::new();
                let transform = Transform::new(&protocol, channels).unwrap();
                augmentation.append(&red, &transform, &mut Draws::of(&[1]), &mut pixels).unwrap();
                pixels
            };
            let colours = [[0.0; 4], [9.0; 4], [253.0; 4]].concat();
            assert!(drawn(3).iter().zip(&colours).all(|(a, b)| (a - b).abs() < 1e-4), "{augmentation}: {:?}", drawn(3));
            // (255 * 19595 + 10 * 38470 + 32768) >> 16
            assert!(drawn(1).iter().all(|value| (value - 82.0).abs() < 1e-4), "{augmentation}: {:?}", drawn(1));
        }
    }
}
