//! Panels: pixels in the order in which a convolution reads them, normalised on the way.

use super::{Kernel, Simd};
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
}

impl Kernel for Activate<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { norm, row, pitch, x, count, panel } = self;
        let mut done = 0;
        while done < count {
            let (start, run) = panel.run(done, count - done);
            for (block, (scale, shift)) in norm.scale.iter().zip(&norm.shift).enumerate() {
                let (scale, shift) = (simd.load(scale), simd.load(shift));
                let from = &row[block * pitch + x + done..][..run];
                let to = &mut panel.lanes[start + block * panel.tile..][..run];
                for (from, to) in from.iter().zip(to) {
                    simd.store(simd.relu(simd.mul_add(simd.load(from), scale, shift)), to);
                }
            }
            done += run;
        }
    }
}

/// The mean of `relu(x * scale + shift)` over squares of 2x2 pixels: what a transition's 1x1 reads.
pub(crate) struct ActivateAndAverage<'a> {
    pub(crate) norm: &'a Norm,
    /// Two rows, each `[block][pitch]`.
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
                let from = block * pitch + 2 * (x + done);
                let upper = rows[0][from..][..2 * run].as_chunks::<2>().0;
                let lower = rows[1][from..][..2 * run].as_chunks::<2>().0;
                let to = &mut panel.lanes[start + block * panel.tile..][..run];
                for ((upper, lower), to) in upper.iter().zip(lower).zip(to) {
                    let mut sum = simd.splat(0.0);
                    for from in [&upper[0], &upper[1], &lower[0], &lower[1]] {
                        sum = simd.add(sum, simd.relu(simd.mul_add(simd.load(from), scale, shift)));
                    }
                    simd.store(simd.mul(sum, quarter), to);
                }
            }
            done += run;
        }
    }
}

/// Puts what the stem's window sees at one pixel into the panel: the rows' pieces one behind the other.
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
            isa.backend().unwrap().run(Activate { norm: &norm, row: &rows[0], pitch, x, count, panel });
            let mut mean = vec![Lanes::ZERO; 9 * BLOCKS];
            let panel = Panel { lanes: &mut mean, blocks: BLOCKS, tile, at };
            let both = [&rows[0][..], &rows[1]];
            isa.backend().unwrap().run(ActivateAndAverage { norm: &norm, rows: both, pitch, x: 1, count, panel });
            for pixel in 0..count {
                for block in 0..BLOCKS {
                    let index = ((at + pixel) / tile * BLOCKS + block) * tile + (at + pixel) % tile;
                    for lane in 0..LANES {
                        let value =
                            |row: usize, x: usize| activated(&norm, block, lane, rows[row][block * pitch + x].0[lane]);
                        let (got, want) = (plain[index].0[lane], value(0, x + pixel));
                        assert!(close(got, want), "{isa} {pixel} {block} {lane}: {got} {want}");
                        let left = 2 * (1 + pixel);
                        let want = (value(0, left) + value(0, left + 1) + value(1, left) + value(1, left + 1)) / 4.0;
                        let got = mean[index].0[lane];
                        assert!(close(got, want), "{isa} {pixel} {block} {lane}: {got} {want}");
                    }
                }
            }
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
