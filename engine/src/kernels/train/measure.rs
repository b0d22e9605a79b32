//! Mean and variance of what a convolution has just written.

use super::RUN;
use crate::kernels::{Kernel, Simd};
use crate::lanes::Lanes;
use crate::train::statistics::Moments;

/// Adds some pixels of a map to the moments of its channels.
pub(crate) struct Measure<'a> {
    /// `[block][pitch]`; the pixels come first in each.
    pub(crate) map: &'a [Lanes],
    pub(crate) pitch: usize,
    pub(crate) count: usize,
    /// For each block.
    pub(crate) into: &'a mut [Moments],
}

impl Kernel for Measure<'_> {
    // The mean of a run first, then the distances from it and their squares: no digits cancel.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { map, pitch, count, into } = self;
        for (block, moments) in into.iter_mut().enumerate() {
            for run in map[block * pitch..][..count].chunks(RUN) {
                let mut sum = simd.splat(0.0);
                for pixel in run {
                    sum = simd.add(sum, simd.load(pixel));
                }
                let mean = simd.mul(sum, simd.splat(1.0 / run.len() as f32));
                let minus = simd.mul(mean, simd.splat(-1.0));
                let (mut distances, mut squares) = (simd.splat(0.0), simd.splat(0.0));
                for pixel in run {
                    let distance = simd.add(simd.load(pixel), minus);
                    distances = simd.add(distances, distance);
                    squares = simd.mul_add(distance, distance, squares);
                }
                let mut run_of = [Lanes::ZERO; 3];
                for (lanes, vector) in run_of.iter_mut().zip([mean, distances, squares]) {
                    simd.store(vector, lanes);
                }
                moments.merge(&Moments::of(run.len(), &run_of));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::testing::Numbers;
    use crate::lanes::LANES;

    #[test]
    fn moments_far_from_zero_are_those_of_f64() {
        for isa in Isa::available() {
            let mut numbers = Numbers::default();
            let (blocks, pitch, count) = (2, 151, 149);
            // A deviation of some 0.6 around up to 15,000: squares of more than a million times the variance.
            let map: Vec<Lanes> = (0..blocks * pitch)
                .map(|_| Lanes(std::array::from_fn(|lane| 1000.0 * lane as f32 + numbers.take(1)[0])))
                .collect();
            let mut into = vec![Moments::default(); blocks];
            isa.backend().unwrap().run(Measure { map: &map, pitch, count, into: &mut into });
            for (block, moments) in into.iter().enumerate() {
                for lane in 0..LANES {
                    let values = || map[block * pitch..][..count].iter().map(|pixel| f64::from(pixel.0[lane]));
                    let mean = values().sum::<f64>() / count as f64;
                    let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
                    assert!((moments.mean[lane] - mean).abs() < 1e-6, "{isa} {lane}");
                    let error = (moments.squares[lane] / count as f64 - variance).abs();
                    assert!(error < 1e-6 * variance, "{isa} {lane}: {error} {variance}");
                }
            }
        }
    }
}
