//! Panels: pixels in the order in which a convolution reads them, normalised on the way.

use super::{Kernel, Simd};
use crate::Precision;
use crate::fold::Norm;
use crate::lanes::{LANES, Lanes};

/// Where pixels are put: `[tile][block][pixel of the tile]`.
///
/// A tile as wide as a padded row makes it `[block][x]`, a row of a map.
pub(crate) struct Panel<'a> {
    pub(crate) lanes: &'a mut [Lanes],
    /// Channel blocks.
    pub(crate) blocks: usize,
    /// Pixels in a tile.
    pub(crate) tile: usize,
    /// The first pixel to write.
    pub(crate) at: usize,
}

impl Panel<'_> {
    /// Where block 0 of pixel `at + done` is, and how many of `left` pixels follow it in the same tile.
    #[inline(always)]
    pub(super) fn run(&self, done: usize, left: usize) -> (usize, usize) {
        let (tile, pixel) = ((self.at + done) / self.tile, (self.at + done) % self.tile);
        (tile * self.blocks * self.tile + pixel, left.min(self.tile - pixel))
    }
}

/// `relu(x * scale + shift)` of some pixels of a row.
pub(crate) struct Activate<'a> {
    pub(crate) norm: &'a Norm,
    /// `[block][pitch]`.
    pub(crate) row: &'a [Lanes],
    pub(crate) pitch: usize,
    /// The first pixel.
    pub(crate) x: usize,
    pub(crate) count: usize,
    pub(crate) panel: Panel<'a>,
    /// Whether the panel holds f32 or pairs of bf16.
    pub(crate) precision: Precision,
}

impl Kernel for Activate<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { norm, row, pitch, x, count, panel, precision } = self;
        let mut done = 0;
        while done < count {
            let (start, run) = panel.run(done, count - done);
            for (block, (scale, shift)) in norm.scale.iter().zip(&norm.shift).enumerate() {
                let (scale, shift) = (simd.load(scale), simd.load(shift));
                let from = &row[block * pitch + x + done..][..run];
                let to = &mut panel.lanes[start + block * panel.tile..][..run];
                for (from, to) in from.iter().zip(to) {
                    let activated = simd.relu(simd.mul_add(simd.load(from), scale, shift));
                    match precision {
                        Precision::F32 => simd.store(activated, to),
                        Precision::Bf16 => simd.store(simd.pairs(activated), to),
                    }
                }
            }
            done += run;
        }
    }
}

/// The mean of `relu(x * scale + shift)` over squares of 2x2 pixels: what a transition's 1x1 reads. A square that hangs over
/// the edge is filled up with its own pixels, so that its mean is theirs.
pub(crate) struct ActivateAndAverage<'a> {
    pub(crate) norm: &'a Norm,
    /// Two rows, each `[block][pitch]`; the same twice below the last.
    pub(crate) rows: [&'a [Lanes]; 2],
    pub(crate) pitch: usize,
    /// The first pixel of the average.
    pub(crate) x: usize,
    pub(crate) count: usize,
    pub(crate) panel: Panel<'a>,
}

impl Kernel for ActivateAndAverage<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { norm, rows, pitch, x, count, panel } = self;
        let quarter = simd.splat(0.25);
        let mut done = 0;
        while done < count {
            let (start, run) = panel.run(done, count - done);
            for (block, (scale, shift)) in norm.scale.iter().zip(&norm.shift).enumerate() {
                let (scale, shift) = (simd.load(scale), simd.load(shift));
                let [upper, lower] =
                    rows.map(|row| &row[block * pitch..][2 * (x + done)..pitch.min(2 * (x + done + run))]);
                let to = &mut panel.lanes[start + block * panel.tile..][..run];
                let ((upper, over), (lower, under)) = (upper.as_chunks::<2>(), lower.as_chunks::<2>());
                for ((upper, lower), to) in upper.iter().zip(lower).zip(&mut *to) {
                    let sum = activated_sum(simd, [&upper[0], &upper[1], &lower[0], &lower[1]], scale, shift);
                    simd.store(simd.mul(sum, quarter), to);
                }
                if let ([upper], [lower], Some(to)) = (over, under, to.last_mut()) {
                    let sum = activated_sum(simd, [upper, upper, lower, lower], scale, shift);
                    simd.store(simd.mul(sum, quarter), to);
                }
            }
            done += run;
        }
    }
}

/// The sum of `relu(x * scale + shift)` over four pixels.
#[inline(always)]
fn activated_sum<S: Simd>(simd: S, square: [&Lanes; 4], scale: S::V, shift: S::V) -> S::V {
    let mut sum = simd.splat(0.0);
    for pixel in square {
        sum = simd.add(sum, simd.relu(simd.mul_add(simd.load(pixel), scale, shift)));
    }
    sum
}

/// Puts what a window sees at one pixel into a panel: the rows' pieces one behind the other.
///
/// `window` has sixteen values for each of the panel's blocks; those past the pieces must be zero.
pub(crate) fn patches<'a>(panel: &mut Panel, pieces: impl Iterator<Item = &'a [f32]>, window: &mut [f32]) {
    let mut at = 0;
    for piece in pieces {
        window[at..][..piece.len()].copy_from_slice(piece);
        at += piece.len();
    }
    let (start, _) = panel.run(0, 1);
    for (block, values) in window.as_chunks::<LANES>().0.iter().enumerate() {
        panel.lanes[start + block * panel.tile] = Lanes(*values);
    }
    panel.at += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::testing::{Numbers, close};
    use crate::lanes::pair;

    fn activated(norm: &Norm, block: usize, lane: usize, x: f32) -> f64 {
        (f64::from(x) * f64::from(norm.scale[block].0[lane]) + f64::from(norm.shift[block].0[lane])).max(0.0)
    }

    #[test]
    fn panels_hold_the_activated_pixels() {
        const BLOCKS: usize = 3;
        for isa in Isa::available() {
            let mut numbers = Numbers::default();
            let norm = Norm { scale: numbers.lanes(BLOCKS), shift: numbers.lanes(BLOCKS) };
            let (pitch, x, count, tile, at) = (11, 2, 4, 3, 2);
            let rows = [numbers.lanes(BLOCKS * pitch), numbers.lanes(BLOCKS * pitch)];
            let mut plain = vec![Lanes::ZERO; 9 * BLOCKS];
            let panel = Panel { lanes: &mut plain, blocks: BLOCKS, tile, at };
            isa.backend().unwrap().run(Activate {
                norm: &norm,
                row: &rows[0],
                pitch,
                x,
                count,
                panel,
                precision: Precision::F32,
            });
            let mut mean = vec![Lanes::ZERO; 9 * BLOCKS];
            let panel = Panel { lanes: &mut mean, blocks: BLOCKS, tile, at };
            let both = [&rows[0][..], &rows[1]];
            // Squares 2 to 5 of rows of 11 pixels: the last hangs over the edge.
            isa.backend().unwrap().run(ActivateAndAverage { norm: &norm, rows: both, pitch, x: 2, count, panel });
            for pixel in 0..count {
                for block in 0..BLOCKS {
                    let index = ((at + pixel) / tile * BLOCKS + block) * tile + (at + pixel) % tile;
                    for lane in 0..LANES {
                        let value =
                            |row: usize, x: usize| activated(&norm, block, lane, rows[row][block * pitch + x].0[lane]);
                        let (got, want) = (plain[index].0[lane], value(0, x + pixel));
                        assert!(close(got, want), "{isa} {pixel} {block} {lane}: {got} {want}");
                        let (left, right) = (2 * (2 + pixel), (2 * (2 + pixel) + 1).min(pitch - 1));
                        let want = (value(0, left) + value(0, right) + value(1, left) + value(1, right)) / 4.0;
                        let got = mean[index].0[lane];
                        assert!(close(got, want), "{isa} {pixel} {block} {lane}: {got} {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn panels_in_bf16_hold_the_same_rounded() {
        for backend in Isa::available().filter_map(|isa| isa.backend()?.with_bf16()) {
            let mut numbers = Numbers::default();
            let norm = Norm { scale: numbers.lanes(1), shift: numbers.lanes(1) };
            let row = numbers.lanes(3);
            let [plain, pairs] = [Precision::F32, Precision::Bf16].map(|precision| {
                let mut out = vec![Lanes::ZERO; 3];
                let panel = Panel { lanes: &mut out, blocks: 1, tile: 3, at: 0 };
                backend.run(Activate { norm: &norm, row: &row, pitch: 3, x: 0, count: 3, panel, precision });
                out
            });
            for (plain, pairs) in plain.iter().zip(&pairs) {
                for (two, both) in plain.0.as_chunks::<2>().0.iter().zip(pairs.0) {
                    assert_eq!(both.to_bits(), pair(two[0], two[1]).to_bits(), "{}", backend.isa());
                }
            }
        }
    }

    #[test]
    fn what_is_activated_is_never_negative_nor_subnormal() {
        const LEAST: f32 = f32::MIN_POSITIVE;
        for isa in Isa::available() {
            let norm = Norm { scale: vec![Lanes([0.5; LANES])], shift: vec![Lanes::ZERO] };
            let values = [2.0, -2.0, 2.0 * LEAST, LEAST, 1e-44, -1e-40, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
            let mut row = [Lanes::ZERO];
            row[0].0[..values.len()].copy_from_slice(&values);
            let mut out = [Lanes::ZERO];
            let panel = Panel { lanes: &mut out, blocks: 1, tile: 1, at: 0 };
            isa.backend().unwrap().run(Activate {
                norm: &norm,
                row: &row,
                pitch: 1,
                x: 0,
                count: 1,
                panel,
                precision: Precision::F32,
            });
            assert_eq!(out[0].0[..8], [1.0, 0.0, LEAST, 0.0, 0.0, 0.0, f32::INFINITY, 0.0], "{isa}");
            assert!(out[0].0[8].is_nan(), "{isa}");
        }
    }

    #[test]
    fn a_patch_is_the_rows_one_behind_the_other() {
        let mut lanes = vec![Lanes::ZERO; 2 * 2 * 2];
        let mut panel = Panel { lanes: &mut lanes, blocks: 2, tile: 2, at: 1 };
        let (first, second) = ([1.0; 10], [2.0; 10]);
        patches(&mut panel, [&first[..], &second[..]].into_iter(), &mut [0.0; 32]);
        assert_eq!(panel.at, 2);
        assert_eq!(lanes[1].0[8..12], [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(lanes[3].0[2..6], [2.0, 2.0, 0.0, 0.0]);
        assert_eq!(lanes[0], Lanes::ZERO);
    }
}
