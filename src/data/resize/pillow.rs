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
