//! torchvision's augmentation on ImageNet, on Pillow's bytes.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::mirror;
use super::pillow_colour::jitter;
use crate::data::resize::{CropRule, Rgb8, pillow};
use crate::data::transform::{Transform, TransformError};
use crate::train::draws::Random;

/// Cut, resized by Pillow's bilinear, mirrored, changed in colour, all drawn in this order, and normalised (torchvision,
/// transforms/transforms.py, RandomResizedCrop, RandomHorizontalFlip and ColorJitter). A grey network's image is grey from
/// the start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// The least share of the image's area that is cut.
    pub min_area: f64,
    /// Whether it is mirrored, half of the time.
    pub flip: bool,
    /// How far the factors of brightness, contrast and saturation go from 1; at 0 none is drawn.
    pub jitter: f64,
}

impl RandomResizedCrop {
    pub(super) fn append(
        self,
        image: &Rgb8,
        transform: &Transform,
        draws: &mut impl Random,
        pixels: &mut Vec<f32>,
    ) -> Result<(), TransformError> {
        let (_, _, side) = transform.shape();
        let image = transform.colours(image);
        let (columns, rows) = part(&image, self.min_area, draws);
        let mut input = pillow::resize(&image.part(columns, rows), side, side, pillow::Filter::Bilinear);
        let flip = self.flip && draws.half();
        if self.jitter != 0.0 {
            jitter(&mut input, self.jitter, draws);
        }
        let start = pixels.len();
        transform.append_bytes(&input, CropRule::Pillow, pixels)?;
        // The colours' changes are the same in the mirror.
        if flip {
            mirror(&mut pixels[start..], side);
        }
        Ok(())
    }
}

/// The narrowest and the widest form of what is cut.
const ASPECTS: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];

/// Columns and rows of what is cut: after ten tries that lie outside the image, the most of its middle that has one of those
/// forms.
fn part(image: &Rgb8, min_area: f64, draws: &mut impl Random) -> (Range<usize>, Range<usize>) {
    let (width, height) = (image.width(), image.height());
    let [narrowest, widest] = ASPECTS;
    for _ in 0..10 {
        let area = draws.uniform(min_area, 1.0) * (width * height) as f64;
        let aspect = draws.uniform(narrowest.ln(), widest.ln()).exp();
        let [across, down] = [area * aspect, area / aspect].map(|square| round(square.sqrt()));
        if (1..=width).contains(&across) && (1..=height).contains(&down) {
            let y = draws.below(height - down + 1);
            let x = draws.below(width - across + 1);
            return (x..x + across, y..y + down);
        }
    }
    let across = round(height as f64 * widest).min(width);
    let down = round(width as f64 / narrowest).min(height);
    let (x, y) = ((width - across) / 2, (height - down) / 2);
    (x..x + across, y..y + down)
}

/// As Python rounds.
fn round(length: f64) -> usize {
    length.round_ties_even() as usize
}

#[cfg(test)]
mod tests {
    use densenet_arch::{Protocol, Range};

    use super::super::reference::{Reference, as_it_is};
    use super::*;
    use crate::data::resize::fixtures;
    use crate::train::draws::Draws;

    #[test]
    fn equals_torchvision_to_the_byte() {
        let file = Reference::read("torchvision", "train.safetensors");
        let plain = as_it_is(24, Range::Byte);
        for (name, source, min_area, jitter) in [
            ("crop", "source", 0.08, 0.0),
            ("least_area", "source", 0.3, 0.0),
            ("strip", "strip_source", 0.08, 0.0),
            ("tower", "tower_source", 0.08, 0.0),
            ("jitter", "source", 0.08, 0.4),
        ] {
            let source = &file.images(source)[0];
            file.check((name, name), 0.0, |_, draws| {
                let mut pixels = Vec::new();
                let crop = RandomResizedCrop { min_area, flip: true, jitter };
                crop.append(source, &plain, draws, &mut pixels).unwrap();
                pixels
            });
        }
    }

    #[test]
    fn any_image_has_a_part_in_any_protocol() {
        let mut draws = Draws::of(&[5]);
        for (protocol, channels) in [("opencv-bilinear", 3), ("pil-bilinear", 1), ("svhn", 1)] {
            let transform = Transform::new(&Protocol::named(protocol).unwrap(), channels).unwrap();
            let (_, side, _) = transform.shape();
            for (width, height) in [(1, 1), (1, 2000), (300, 2)] {
                let mut pixels = Vec::new();
                let crop = RandomResizedCrop { min_area: 0.08, flip: true, jitter: 0.4 };
                crop.append(&fixtures::noise(width, height), &transform, &mut draws, &mut pixels).unwrap();
                assert_eq!(pixels.len(), channels * side * side, "{protocol}, {width}x{height}");
            }
        }
    }
}
