//! What a training image is drawn from its file's pixels.

use super::draws::Draws;

/// Changes of an image that its class survives, drawn anew each time that it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Augmentation {
    /// Zeros around the normalised image, out of which a piece of the old size is cut (liuzhuang13/DenseNet,
    /// datasets/transforms.lua, RandomCrop).
    pub pad: usize,
}

impl Augmentation {
    pub fn named(_name: &str) -> Result<Self, crate::Error> {
        Ok(Self { pad: 4 })
    }

    pub fn append(
        self,
        source: &crate::data::resize::Rgb8,
        transform: &crate::data::transform::Transform,
        draws: &mut Draws,
        pixels: &mut Vec<f32>,
    ) -> Result<(), crate::data::transform::TransformError> {
        let mut image = Vec::new();
        transform.append(source, &mut image)?;
        self.append_normalised(&image, transform.shape().1, draws, pixels);
        Ok(())
    }

    /// Appends what is drawn of one normalised image, (channels, side, side), to `pixels`.
    pub fn append_normalised(self, image: &[f32], side: usize, draws: &mut Draws, pixels: &mut Vec<f32>) {
        let [left, top] = [0; 2].map(|_| draws.below(2 * self.pad + 1));
        self.crop(image, side, (left, top), pixels);
    }

    /// The crop whose first column and row in the padded image are `left` and `top`.
    fn crop(self, image: &[f32], side: usize, (left, top): (usize, usize), pixels: &mut Vec<f32>) {
        let pad = self.pad;
        let start = pixels.len();
        pixels.resize(start + image.len(), 0.0);
        // The part that is not padding, in the image and in the crop.
        let inside = |first: usize| {
            let from = first.saturating_sub(pad);
            let to = pad.saturating_sub(first);
            (from, to, side.saturating_sub(from + to))
        };
        let ((x, to_x, width), (y, to_y, height)) = (inside(left), inside(top));
        for (plane, crop) in image.chunks_exact(side * side).zip(pixels[start..].chunks_exact_mut(side * side)) {
            let rows = plane.chunks_exact(side).skip(y).zip(crop.chunks_exact_mut(side).skip(to_y));
            for (row, target) in rows.take(height) {
                target[to_x..to_x + width].copy_from_slice(&row[x..x + width]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn crops_are_those_of_the_original() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/torch_image/g_cifar.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let source = file.tensor("cifar_src_u8").unwrap();
        let expected = file.tensor("g_random_crop32_4").unwrap();
        let expected: Vec<f32> = expected.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let source: Vec<f32> = source.data().iter().map(|&byte| f32::from(byte)).collect();
        let mut pixels = Vec::new();
        // Torch7's draws: x1 and y1 of RandomCrop(32, 4) for each image.
        for (image, at) in source.chunks(3072).zip([(4, 3), (0, 8), (8, 4), (4, 2)]) {
            Augmentation { pad: 4 }.crop(image, 32, at, &mut pixels);
        }
        assert!(pixels == expected);
    }

    #[test]
    fn every_place_is_drawn() {
        let mut seen = std::collections::BTreeSet::new();
        let mut draws = Draws::of(&[3]);
        for _ in 0..200 {
            let mut pixels = Vec::new();
            Augmentation { pad: 1 }.append_normalised(&[1.0, 2.0, 3.0, 4.0], 2, &mut draws, &mut pixels);
            seen.insert(pixels.iter().map(|&value| value as u8).collect::<Vec<_>>());
        }
        assert_eq!(seen.len(), 9);
        assert!(seen.contains(&vec![1, 2, 3, 4]) && seen.contains(&vec![4, 0, 0, 0]));
    }
}
