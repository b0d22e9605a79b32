//! The stem's max-pool and the head's average.

use super::{Kernel, Panel, Simd};
use crate::fold::Norm;
use crate::lanes::Lanes;

/// One row of a 3x3 max-pool with stride 2 over a map that came out of a ReLU.
pub(crate) struct MaxPool<'a> {
    /// The rows that the window sees, each `[block][width]`; none above the first and below the last.
    pub(crate) rows: [Option<&'a [Lanes]>; 3],
    pub(crate) width: usize,
    pub(crate) blocks: usize,
    /// `(width - 1) / 2 + 1`, or `width / 2 + 1` where a last window may hang over the edge.
    pub(crate) out_width: usize,
    /// `[block][out_width]`.
    pub(crate) out: &'a mut [Lanes],
}

impl Kernel for MaxPool<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { rows, width, blocks, out_width, out } = self;
        for block in 0..blocks {
            for (x, to) in out[block * out_width..][..out_width].iter_mut().enumerate() {
                let (left, right) = ((2 * x).saturating_sub(1), (2 * x + 2).min(width));
                // No value is below zero, so that the padding may be zero too.
                let mut most = simd.splat(0.0);
                for row in rows.into_iter().flatten() {
                    for from in &row[block * width..][left..right] {
                        most = simd.max(most, simd.load(from));
                    }
                }
                simd.store(most, to);
            }
        }
    }
}

/// Adds `relu(x * scale + shift)` of a row's pixels to the sum of each channel, a pixel of a panel.
pub(crate) struct SumRow<'a> {
    pub(crate) norm: &'a Norm,
    /// `[block][width]`.
    pub(crate) row: &'a [Lanes],
    pub(crate) width: usize,
    pub(crate) panel: Panel<'a>,
}

impl Kernel for SumRow<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { norm, row, width, panel } = self;
        let (start, _) = panel.run(0, 1);
        let norms = norm.scale.iter().zip(&norm.shift);
        let sums = panel.lanes[start..].iter_mut().step_by(panel.tile);
        for ((row, (scale, shift)), to) in row.chunks_exact(width).zip(norms).zip(sums) {
            let (scale, shift) = (simd.load(scale), simd.load(shift));
            let mut sum = simd.load(to);
            for from in row {
                sum = simd.add(sum, simd.relu(simd.mul_add(simd.load(from), scale, shift)));
            }
            simd.store(sum, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::testing::{Numbers, close};
    use crate::lanes::LANES;

    #[test]
    fn the_largest_of_each_window_is_found_and_nan_stays() {
        for isa in Isa::available() {
            for (width, out_width) in [(1, 1), (2, 1), (7, 4), (8, 4), (2, 2), (8, 5)] {
                let mut numbers = Numbers::default();
                let row = |numbers: &mut Numbers| -> Vec<Lanes> {
                    numbers.lanes(2 * width).into_iter().map(|lanes| Lanes(lanes.0.map(f32::abs))).collect()
                };
                let (upper, mut lower) = (row(&mut numbers), row(&mut numbers));
                lower[0].0[3] = f32::NAN;
                let mut out = vec![Lanes::ZERO; 2 * out_width];
                let rows = [None, Some(&upper[..]), Some(&lower[..])];
                isa.backend().unwrap().run(MaxPool { rows, width, blocks: 2, out_width, out: &mut out });
                for block in 0..2 {
                    for x in 0..out_width {
                        for lane in 0..LANES {
                            let seen = (2 * x).saturating_sub(1)..(2 * x + 2).min(width);
                            let values: Vec<f32> =
                                seen.flat_map(|x| [&upper, &lower].map(|row| row[block * width + x].0[lane])).collect();
                            let got = out[block * out_width + x].0[lane];
                            if values.iter().any(|value| value.is_nan()) {
                                assert!(got.is_nan(), "{isa} {width} {block} {x} {lane}");
                            } else {
                                assert_eq!(got, values.into_iter().fold(0.0, f32::max), "{isa} {width} {x} {lane}");
                            }
                        }
                    }
                }
                assert!(out[0].0[3].is_nan());
            }
        }
    }

    #[test]
    fn sums_are_those_of_plain_loops() {
        for isa in Isa::available() {
            let mut numbers = Numbers::default();
            let norm = Norm { scale: numbers.lanes(2), shift: numbers.lanes(2) };
            let row = numbers.lanes(2 * 5);
            // The last of three pixels.
            let before = numbers.lanes(2 * 3);
            let mut sums = before.clone();
            let panel = Panel { lanes: &mut sums, blocks: 2, tile: 3, at: 2 };
            isa.backend().unwrap().run(SumRow { norm: &norm, row: &row, width: 5, panel });
            for block in 0..2 {
                for lane in 0..LANES {
                    let (scale, shift) = (f64::from(norm.scale[block].0[lane]), f64::from(norm.shift[block].0[lane]));
                    let pixels = row[block * 5..][..5].iter();
                    let sum: f64 = pixels.map(|pixel| (f64::from(pixel.0[lane]) * scale + shift).max(0.0)).sum();
                    assert!(
                        close(sums[3 * block + 2].0[lane], f64::from(before[3 * block + 2].0[lane]) + sum),
                        "{isa}"
                    );
                }
            }
        }
    }
}
