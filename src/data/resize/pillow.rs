//! Pillow's resize of 8-bit images: antialiased when it shrinks, 22-bit fixed-point weights, bytes between the passes.

use std::ops::Range;

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
    resize_part(image, (width, height), filter, (0..width, 0..height))
}

/// Those columns and rows of the same; the ranges are not empty and lie in the resized image. Nothing else is computed.
pub fn resize_part(
    image: &Rgb8,
    (width, height): (usize, usize),
    filter: Filter,
    (columns, rows): (Range<usize>, Range<usize>),
) -> Rgb8 {
    let across = windows(image.width, width, filter, columns);
    let mut down = windows(image.height, height, filter, rows);
    // Only the source rows that the second pass reads go through the first one.
    let top = down.first().map_or(0, |window| window.first);
    let bottom = down.last().map_or(0, |window| window.first + window.weights.len());
    for window in &mut down {
        window.first -= top;
    }
    let source = &image.data[3 * image.width * top..3 * image.width * bottom];
    let (width_out, height_out) = (across.len(), down.len());
    let data = pulp::Arch::new().dispatch(Passes { source, width: image.width, across: &across, down: &down });
    Rgb8 { width: width_out, height: height_out, data }
}

/// Both passes, compiled for each kind of vectors.
struct Passes<'a> {
    source: &'a [u8],
    width: usize,
    across: &'a [Window],
    down: &'a [Window],
}

impl pulp::WithSimd for Passes<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Vec<u8> {
        vertical(&horizontal(self.source, self.width, self.across), 3 * self.across.len(), self.down)
    }
}

/// The source pixels of one output pixel along an axis.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// The windows of some of `to` output pixels.
fn windows(from: usize, to: usize, filter: Filter, part: Range<usize>) -> Vec<Window> {
    // Pillow leaves an axis of the right size alone.
    if from == to {
        return part.map(|first| Window { first, weights: vec![1 << BITS] }).collect();
    }
    let scale = from as f64 / to as f64;
    // Shrinking widens the filter, so that every source pixel counts.
    let widening = scale.max(1.0);
    let support = filter.support() * widening;
    let inverse = 1.0 / widening;
    part.map(|index| {
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

#[inline(always)]
fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Two rows at a time, each with three channels and a fourth for nothing: eight lanes.
#[inline(always)]
fn horizontal(source: &[u8], width: usize, windows: &[Window]) -> Vec<u8> {
    let (stride, target_stride) = (3 * width, 3 * windows.len());
    let mut data = vec![0; target_stride * (source.len() / stride)];
    let mut pair = vec![[0_u8; 8]; width];
    for (targets, rows) in data.chunks_mut(2 * target_stride).zip(source.chunks(2 * stride)) {
        // The last row may stand alone.
        let (upper, lower) = rows.split_at(stride);
        for (at, row) in [(0, upper), (4, lower)] {
            for (lanes, pixel) in pair.iter_mut().zip(row.as_chunks::<3>().0) {
                lanes[at..at + 3].copy_from_slice(pixel);
            }
        }
        let (upper, lower) = targets.split_at_mut(target_stride);
        let (upper, lower) = (upper.as_chunks_mut::<3>().0, lower.as_chunks_mut::<3>().0);
        for (index, window) in windows.iter().enumerate() {
            let mut sums = [HALF; 8];
            for (lanes, &weight) in pair[window.first..].iter().zip(&window.weights) {
                for (sum, &value) in sums.iter_mut().zip(lanes) {
                    *sum += i32::from(value) * weight;
                }
            }
            let mut bytes = [0; 8];
            for (target, &sum) in bytes.iter_mut().zip(&sums) {
                *target = byte(sum);
            }
            upper[index] = [bytes[0], bytes[1], bytes[2]];
            if let Some(target) = lower.get_mut(index) {
                *target = [bytes[4], bytes[5], bytes[6]];
            }
        }
    }
    data
}

#[inline(always)]
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
    fn a_part_is_cut_from_the_whole() {
        for [width, height, to_width, to_height] in SHAPES {
            let image = noise(width, height);
            for (_, filter) in FILTERS {
                let whole = resize(&image, to_width, to_height, filter);
                let (columns, rows) =
                    (to_width / 3..to_width, to_height / 2..to_height.div_ceil(2).max(to_height / 2 + 1));
                let part = resize_part(&image, (to_width, to_height), filter, (columns.clone(), rows.clone()));
                let cut: Vec<u8> = rows
                    .clone()
                    .flat_map(|y| whole.data[3 * to_width * y..][..3 * to_width][3 * columns.start..].to_vec())
                    .collect();
                assert!(part.data == cut, "{width}x{height} to {to_width}x{to_height}");
                assert_eq!((part.width, part.height), (columns.len(), rows.len()));
            }
        }
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
