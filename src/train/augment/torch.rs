//! The original's augmentation on ImageNet: fb.resnet.torch's, on floats that nothing clips.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::mirror;
use super::torch_colour::{jitter, lighting};
use crate::data::resize::{CropRule, Rgb8, RgbF32, crop_origin, torch7};
use crate::data::transform::{Transform, TransformError, check_size};
use crate::train::draws::Random;

/// Cut, resized by Torch's bicubic, changed in colour, normalised, mirrored, all drawn in this order (liuzhuang13/DenseNet,
/// datasets/imagenet.lua and transforms.lua). A grey network's image is grey from the start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomSizedCrop {
    /// The least share of the image's area that is cut.
    pub min_area: f64,
    /// How far the factors of brightness, contrast and saturation go from 1; at 0 none is drawn.
    pub jitter: f64,
    /// Deviation of the light along the colours' principal axes; at 0 none is drawn.
    pub lighting: f64,
    /// Whether it is mirrored, half of the time.
    pub flip: bool,
}

impl RandomSizedCrop {
    pub(super) fn append(
        self,
        image: &Rgb8,
        transform: &Transform,
        draws: &mut impl Random,
        pixels: &mut Vec<f32>,
    ) -> Result<(), TransformError> {
        let (_, _, side) = transform.shape();
        let image = transform.colours(image);
        let mut input = match part(&image, self.min_area, draws) {
            Some((columns, rows)) => torch7::scale_bicubic(&RgbF32::from(&image.part(columns, rows)), side, side),
            None => middle(&image, side)?,
        };
        if self.jitter != 0.0 {
            jitter(&mut input, self.jitter, draws);
        }
        if self.lighting != 0.0 {
            lighting(&mut input, self.lighting, draws);
        }
        let start = pixels.len();
        transform.append_floats(&input, CropRule::Torch7, pixels)?;
        if self.flip && draws.half() {
            mirror(&mut pixels[start..], side);
        }
        Ok(())
    }
}

/// Columns and rows of what is cut, or `None` where ten tries lie outside the image. The original stops at a try without
/// any pixel, of an image of a few; here that is one more that does not fit.
fn part(image: &Rgb8, min_area: f64, draws: &mut impl Random) -> Option<(Range<usize>, Range<usize>)> {
    let (width, height) = (image.width(), image.height());
    for _ in 0..10 {
        let area = draws.uniform(min_area, 1.0) * (width * height) as f64;
        let aspect = draws.uniform(3.0 / 4.0, 4.0 / 3.0);
        let mut size = [area * aspect, area / aspect].map(|square| square.sqrt().round() as usize);
        if draws.half() {
            size.reverse();
        }
        let [across, down] = size;
        if (1..=width).contains(&across) && (1..=height).contains(&down) {
            let y = draws.below(height - down + 1);
            let x = draws.below(width - across + 1);
            return Some((x..x + across, y..y + down));
        }
    }
    None
}

/// The middle of the image whose shorter side has become `side`.
fn middle(image: &Rgb8, side: usize) -> Result<RgbF32, TransformError> {
    let (width, height) = torch7::short_side(image.width(), image.height(), side);
    check_size(width, height)?;
    let scaled = torch7::scale_bicubic(&RgbF32::from(image), width, height);
    // The shorter side is as long as the crop's.
    let (x, y) = crop_origin(width, height, side, CropRule::Torch7).unwrap_or_default();
    Ok(scaled.part(x..x + side, y..y + side))
}

#[cfg(test)]
mod tests {
    use densenet_arch::{Protocol, Range};

    use super::super::reference::{Reference, as_it_is};
    use super::*;
    use crate::data::resize::fixtures;
    use crate::train::draws::Draws;

    const PUBLISHED: RandomSizedCrop = RandomSizedCrop { min_area: 0.08, jitter: 0.4, lighting: 0.1, flip: true };
    const CROP: RandomSizedCrop = RandomSizedCrop { jitter: 0.0, lighting: 0.0, flip: false, ..PUBLISHED };

    fn drawn(crop: RandomSizedCrop, transform: &Transform, image: &Rgb8, draws: &mut impl Random) -> Vec<f32> {
        let mut pixels = Vec::new();
        crop.append(image, transform, draws, &mut pixels).unwrap();
        pixels
    }

    fn imagenet(crop: usize) -> Transform {
        Transform::new(&Protocol { crop, ..Protocol::named("torch7").unwrap() }, 3).unwrap()
    }

    #[test]
    fn equals_the_original_on_imagenet() {
        let file = Reference::read("torch_image", "f_train.safetensors");
        let source = &file.images("rsc_src_u8")[0];
        let plain = as_it_is(24, Range::Unit);
        let name = "f_random_sized_crop24";
        file.check((name, name), 0.0, |_, draws| drawn(CROP, &plain, source, draws));
        let strip = source.part(0..90, 0..6);
        let name = "f_random_sized_crop24_strip6";
        file.check((name, name), 0.0, |_, draws| drawn(CROP, &plain, &strip, draws));
        // The original's blending rounds once where it has fused multiplication, and here twice.
        let name = "f_imagenet_train32";
        file.check((name, name), 2e-6, |_, draws| drawn(PUBLISHED, &imagenet(32), source, draws));
    }

    #[test]
    fn equals_the_original_s_own_pipeline_on_a_photograph() {
        let file = Reference::read("torch_image", "f_train.safetensors");
        let photo = fixtures::image("photo_500x375_420.jpg");
        let expected = fixtures::json("torch_image/expected.json");
        let name = "f_imagenet_train224";
        file.check((name, "f_imagenet_train224.corner32"), 2e-6, |case, draws| {
            let input = drawn(PUBLISHED, &imagenet(224), &photo, draws);
            let sum: f64 = input.iter().copied().map(f64::from).sum();
            let expected = expected["imagenet_train224"][case]["sum"].as_f64().unwrap();
            // Of 150,528 values.
            assert!((sum - expected).abs() < 0.02, "{case}: {sum} for {expected}");
            let corner = input.chunks_exact(224 * 224).flat_map(|plane| plane.chunks_exact(224).take(32));
            corner.flat_map(|row| &row[..32]).copied().collect()
        });
    }

    #[test]
    fn any_image_has_a_part() {
        let mut draws = Draws::of(&[5]);
        for (width, height) in [(1, 1), (2, 1), (1, 40), (300, 2), (5, 5)] {
            for _ in 0..50 {
                let input = drawn(PUBLISHED, &imagenet(8), &fixtures::noise(width, height), &mut draws);
                assert!(input.len() == 3 * 8 * 8 && input.iter().all(|value| value.is_finite()), "{width}x{height}");
            }
        }
        let long = PUBLISHED.append(&fixtures::noise(1, 2000), &imagenet(224), &mut draws, &mut Vec::new());
        let error = long.unwrap_err().of("a.png").to_string();
        assert_eq!(error, "a.png: so long an image would be resized to 224x448000 pixels");
    }

    #[test]
    fn a_least_area_bounds_what_is_cut() {
        let mut draws = Draws::of(&[6]);
        let image = fixtures::noise(100, 80);
        let mut areas = (0..500).filter_map(|_| part(&image, 0.5, &mut draws)).map(|(x, y)| x.len() * y.len());
        // Sides are rounded, each by up to half a pixel.
        assert!(areas.all(|area| area > 3900));
    }
}
