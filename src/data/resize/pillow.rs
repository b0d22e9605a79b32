//! Pillow's resize of 8-bit images: antialiased when it shrinks, 22-bit fixed-point weights, bytes between the passes.

use std::borrow::Cow;

use super::Rgb8;

/// Fraction bits of a weight: a byte, a sign and an overshoot have to fit above them.
const BITS: u32 = 22;
/// One half, which makes the final shift round.
const HALF: i32 = 1 << (BITS - 1);

/// The interpolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A triangle over two pixels.
    Bilinear,
    /// Keys's cubic with a = -0.5 over four pixels.
    Bicubic,
}

impl Filter {
    /// Pixels that it reaches to either side, at the coarser of the two scales.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    /// Its value at a distance in pixels.
    fn at(self, distance: f64) -> f64 {
        const A: f64 = -0.5;
        let x = distance.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// Equal to the byte to Pillow's `Image.resize((width, height), filter)`; a size of 0 counts as 1.
pub fn resize(image: &Rgb8, width: usize, height: usize, filter: Filter) -> Rgb8 {
    let (width, height) = (width.max(1), height.max(1));
    let rows = if width == image.width {
        Cow::Borrowed(&image.data)
    } else {
        Cow::Owned(horizontal(image, &windows(image.width, width, filter)))
    };
    let data = if height == image.height {
        rows.into_owned()
    } else {
        vertical(&rows, 3 * width, &windows(image.height, height, filter))
    };
    Rgb8 { width, height, data }
}

/// The source pixels of one output pixel along an axis.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

fn windows(from: usize, to: usize, filter: Filter) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    // Shrinking widens the filter, so that every source pixel counts.
    let widening = scale.max(1.0);
    let support = filter.support() * widening;
    let inverse = 1.0 / widening;
    (0..to)
        .map(|index| {
            let center = (index as f64 + 0.5) * scale;
            // A cast to usize cuts at 0.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let weights: Vec<f64> =
                (first..end).map(|source| filter.at((source as f64 - center + 0.5) * inverse)).collect();
            let sum: f64 = weights.iter().sum();
            Window { first, weights: weights.iter().map(|weight| fixed(weight / sum)).collect() }
        })
        .collect()
}

/// To fixed point, rounded half away from zero.
fn fixed(weight: f64) -> i32 {
    (weight * f64::from(1 << BITS) + 0.5_f64.copysign(weight)) as i32
}

fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

fn horizontal(image: &Rgb8, windows: &[Window]) -> Vec<u8> {
    let mut data = vec![0; 3 * windows.len() * image.height];
    let rows = image.data.chunks_exact(3 * image.width);
    for (target, row) in data.chunks_exact_mut(3 * windows.len()).zip(rows) {
        let (pixels, _) = row.as_chunks::<3>();
        let (targets, _) = target.as_chunks_mut::<3>();
        for (target, window) in targets.iter_mut().zip(windows) {
            let mut sums = [HALF; 3];
            for (pixel, &weight) in pixels[window.first..].iter().zip(&window.weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            *target = sums.map(byte);
        }
    }
    data
}

fn vertical(data: &[u8], stride: usize, windows: &[Window]) -> Vec<u8> {
    let mut resized = vec![0; stride * windows.len()];
    let mut sums = vec![0; stride];
    for (target, window) in resized.chunks_exact_mut(stride).zip(windows) {
        sums.fill(HALF);
        for (row, &weight) in data[stride * window.first..].chunks_exact(stride).zip(&window.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        for (target, &sum) in target.iter_mut().zip(&sums) {
            *target = byte(sum);
        }
    }
    resized
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{SHAPES, cut, image, json, noise, read, sha256, stem};
    use super::super::{CropRule, crop_origin, short_side};
    use super::*;
    use crate::data::npy::read_u8;

    const FILTERS: [(&str, Filter); 2] = [("bilinear", Filter::Bilinear), ("bicubic", Filter::Bicubic)];

    fn resized_crop(image: &Rgb8, size: usize, crop: usize, filter: Filter) -> Vec<u8> {
        let (width, height) = short_side(image.width, image.height, size);
        let resized = resize(image, width, height, filter);
        cut(&resized.data, width, crop_origin(width, height, crop, CropRule::Pillow).unwrap(), crop)
    }

    #[test]
    fn equals_pillow_to_the_byte() {
        let expected = json("preproc/expected.json");
        let mut images = 0;
        // Pillow clips 16-bit grey to bytes; that is decoding.
        for (name, expected) in expected.as_object().unwrap().iter().filter(|(name, _)| *name != "gray16.png") {
            if expected["decoded_sha256"].is_null() {
                continue;
            }
            let image = image(name);
            for (word, filter) in FILTERS {
                let (shape, small) = read_u8(&read(&format!("preproc/{}.{word}.r64c56.u8.npy", stem(name)))).unwrap();
                assert_eq!(shape, [56, 56, 3]);
                assert!(resized_crop(&image, 64, 56, filter) == small, "{name}, {word}, 64");
                let full = sha256(&resized_crop(&image, 256, 224, filter));
                assert_eq!(full, expected[format!("{word}_224_sha256")], "{name}, {word}, 256");
            }
            images += 1;
        }
        assert_eq!(images, 14);
    }

    #[test]
    fn equals_the_plain_definition() {
        for [from_width, from_height, width, height] in SHAPES {
            for (word, filter) in FILTERS {
                let image = noise(from_width, from_height);
                let across = plain(&image.data, 3, from_width, width, filter);
                let down = plain(&across, 3 * width, from_height, height, filter);
                let resized = resize(&image, width, height, filter);
                assert_eq!((resized.width, resized.height), (width, height));
                assert!(resized.data == down, "{from_width}x{from_height} to {width}x{height}, {word}");
            }
        }
    }

    /// One axis, whose neighbours lie `step` bytes apart: every output weighs the whole line.
    fn plain(data: &[u8], step: usize, from: usize, to: usize, filter: Filter) -> Vec<u8> {
        if from == to {
            return data.to_vec();
        }
        let scale = from as f64 / to as f64;
        let mut resized = Vec::new();
        for block in data.chunks_exact(step * from) {
            for index in 0..to {
                let center = (index as f64 + 0.5) * scale;
                let weights: Vec<f64> =
                    (0..from).map(|i| filter.at((i as f64 + 0.5 - center) / scale.max(1.0))).collect();
                let sum: f64 = weights.iter().sum();
                for offset in 0..step {
                    let value: f64 = (0..from)
                        .map(|i| (weights[i] / sum * 4_194_304.0).round() * f64::from(block[step * i + offset]))
                        .sum();
                    resized.push((value / 4_194_304.0 + 0.5).floor().clamp(0.0, 255.0) as u8);
                }
            }
        }
        resized
    }
}
