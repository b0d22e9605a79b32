//! Evaluation's input, mirrored and moved: the original's augmentation on CIFAR.

use serde::{Deserialize, Serialize};

use super::mirror;
use crate::data::resize::Rgb8;
use crate::data::transform::{Transform, TransformError};
use crate::train::draws::Random;

/// Drawn of the normalised input, in this order, so that what moves in is the mean colour (liuzhuang13/DenseNet,
/// datasets/transforms.lua, HorizontalFlip and RandomCrop).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shift {
    /// Whether it is mirrored, half of the time.
    pub flip: bool,
    /// Zeros put around it, in pixels, before a piece of the old size is cut anywhere.
    pub pad: u8,
}

impl Shift {
    pub(super) fn append(
        self,
        image: &Rgb8,
        transform: &Transform,
        draws: &mut impl Random,
        pixels: &mut Vec<f32>,
    ) -> Result<(), TransformError> {
        let start = pixels.len();
        transform.append(image, pixels)?;
        let (_, _, side) = transform.shape();
        if self.flip && draws.half() {
            mirror(&mut pixels[start..], side);
        }
        if self.pad > 0 {
            let pad = usize::from(self.pad);
            let [left, top] = [0; 2].map(|_| draws.below(2 * pad + 1));
            let input = pixels.split_off(start);
            pixels.resize(start + input.len(), 0.0);
            crop(&input, side, pad, (left, top), &mut pixels[start..]);
        }
        Ok(())
    }
}

/// Fills `target`, which is zero, with the crop whose first column and row in the padded input are `left` and `top`.
fn crop(input: &[f32], side: usize, pad: usize, (left, top): (usize, usize), target: &mut [f32]) {
    // The part that is not padding, in the input and in the crop.
    let inside = |first: usize| {
        let from = first.saturating_sub(pad).min(side);
        let to = pad.saturating_sub(first).min(side);
        (from, to, side.saturating_sub(from + to))
    };
    let ((x, to_x, width), (y, to_y, height)) = (inside(left), inside(top));
    for (plane, crop) in input.chunks_exact(side * side).zip(target.chunks_exact_mut(side * side)) {
        let rows = plane.chunks_exact(side).skip(y).zip(crop.chunks_exact_mut(side).skip(to_y));
        for (row, target) in rows.take(height) {
            target[to_x..to_x + width].copy_from_slice(&row[x..x + width]);
        }
    }
}

#[cfg(test)]
mod tests {
    use densenet_arch::{Protocol, Range};

    use super::super::reference::{Reference, as_it_is};
    use super::*;
    use crate::train::draws::Draws;

    fn drawn(
        shift: Shift,
        transform: &Transform,
        image: &Rgb8,
        draws: &mut impl Random,
    ) -> Result<Vec<f32>, TransformError> {
        let mut pixels = vec![7.0];
        shift.append(image, transform, draws, &mut pixels)?;
        assert_eq!(pixels.remove(0), 7.0);
        Ok(pixels)
    }

    #[test]
    fn equals_the_original_on_cifar() {
        let file = Reference::read("torch_image", "g_cifar.safetensors");
        let sources = file.images("cifar_src_u8");
        let bytes = as_it_is(32, Range::Byte);
        file.check(("g_random_crop32_4", "g_random_crop32_4"), 0.0, |case, draws| {
            drawn(Shift { flip: false, pad: 4 }, &bytes, &sources[case], draws).unwrap()
        });
        for (protocol, train) in [("cifar10", "g_cifar10_train"), ("cifar100", "g_cifar100_train")] {
            let transform = Transform::new(&Protocol::named(protocol).unwrap(), 3).unwrap();
            file.check((train, train), 0.0, |case, draws| {
                drawn(Shift { flip: true, pad: 4 }, &transform, &sources[case % 4], draws).unwrap()
            });
        }
    }

    #[test]
    fn every_place_is_drawn() {
        let image = Rgb8::new(2, 2, [1, 2, 3, 4].map(|grey| [grey; 3]).concat()).unwrap();
        let transform = as_it_is(2, Range::Byte);
        let mut draws = Draws::of(&[3]);
        let mut seen = |flip: bool, pad: u8| {
            let views = (0..400).map(|_| drawn(Shift { flip, pad }, &transform, &image, &mut draws).unwrap());
            views
                .map(|view| view[..4].iter().map(|&value| value as u8).collect::<Vec<_>>())
                .collect::<std::collections::BTreeSet<_>>()
        };
        let places = seen(false, 1);
        assert_eq!((places.len(), seen(true, 1).len(), seen(true, 0).len(), seen(false, 0).len()), (9, 18, 2, 1));
        assert!(places.contains(&vec![1, 2, 3, 4]) && places.contains(&vec![4, 0, 0, 0]));
        // More zeros than image: often nothing of it is left.
        assert!(seen(true, 255).contains(&vec![0; 4]));
    }

    #[test]
    fn nothing_is_appended_of_an_image_of_another_size() {
        let image = Rgb8::new(1, 2, vec![0; 6]).unwrap();
        let found = drawn(Shift { flip: true, pad: 4 }, &as_it_is(2, Range::Byte), &image, &mut Draws::of(&[1]));
        let error = found.unwrap_err().of("a.png").to_string();
        assert_eq!(error, "a.png: the image is 1x2; protocol as it is takes 2x2 as they are");
    }
}
