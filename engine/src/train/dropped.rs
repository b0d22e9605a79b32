//! Transitions with dropout. It stands between the 1x1 and the average, so that the two do not commute: the 1x1 is
//! computed for every pixel, some of two rows at a time.

use super::backward::{clear_edges, clear_end, one_back, unit};
use super::batch::{Image, Scratch, of_block, room};
use super::forward::product;
use super::network::Conv;
use super::statistics::Statistics;
use crate::Precision;
use crate::fold::Norm;
use crate::kernels::train::{Affine, Drop, GateSet, Measure, Terms};
use crate::kernels::{Activate, Backend, CHUNK, Panel, Tiling};
use crate::lanes::Lanes;
use crate::packed::Packed;

/// A transition with dropout, there or back.
pub(super) struct Dropped<'a> {
    pub(super) backend: Backend,
    /// The block in front of it.
    pub(super) block: usize,
    pub(super) norm: &'a Norm,
    /// Forward, or transposed for the way back.
    pub(super) weights: Packed,
    /// Of the block's map and of the next's.
    pub(super) sizes: [(usize, usize); 2],
    /// Share of the values that become zero.
    pub(super) rate: f64,
}

/// Pixels of the average in a row, and what is above them.
#[derive(Clone, Copy)]
struct Run {
    /// The first pixel of the average.
    first: usize,
    count: usize,
    /// The first pixels of the two rows above.
    rows: [usize; 2],
}

impl Dropped<'_> {
    fn runs(&self) -> impl Iterator<Item = Run> + use<> {
        let [(_, width), (rows, columns)] = self.sizes;
        (0..rows).flat_map(move |y| {
            (0..columns).step_by(CHUNK / 2).map(move |x| Run {
                first: y * columns + x,
                count: (CHUNK / 2).min(columns - x),
                rows: [2 * y, 2 * y + 1].map(|row| row * width + 2 * x),
            })
        })
    }

    /// Writes the input of the next block, and its moments.
    pub(super) fn forward(&self, image: &mut Image, key: u64, scratch: &mut Scratch) {
        let Self { backend, block, ref weights, sizes: [size, to_size], rate, .. } = *self;
        let [pixels, to_pixels] = [size, to_size].map(|(height, width)| height * width);
        let blocks = weights.blocks();
        let (from, to) = image.maps.split_at_mut(block + 1);
        let (from, to) = (&from[block], &mut to[0]);
        let mut line = std::mem::take(&mut scratch.stem);
        for run in self.runs() {
            let count = 2 * run.count;
            let line = room(&mut line, blocks * count);
            let tiling = Tiling::cover(count, backend.tile().0);
            for (row, first) in run.rows.into_iter().enumerate() {
                self.activate(from, (first, count), tiling, scratch);
                product(backend, weights, tiling, count, line, count, scratch);
                backend.run(Drop { key, rate, map: line, pitch: count, first, count, blocks, pixels });
                for (block, pairs) in line.chunks_exact(count).enumerate() {
                    let to = &mut to[block * to_pixels + run.first..][..run.count];
                    for (to, pair) in to.iter_mut().zip(pairs.as_chunks::<2>().0) {
                        let before = if row == 0 { Lanes::ZERO } else { *to };
                        let sum = |lane| before.0[lane] + 0.25 * (pair[0].0[lane] + pair[1].0[lane]);
                        *to = Lanes(std::array::from_fn(sum));
                    }
                }
            }
            let (map, pitch, count) = (&to[run.first..], to_pixels, run.count);
            backend.run(Measure { map, pitch, count, into: &mut image.moments });
        }
        scratch.stem = line;
    }

    /// Sets the gradient of the block's map, and adds to that of the weights.
    pub(super) fn backward(
        &self,
        image: &mut Image,
        (conv, statistics, terms): (&Conv, &Statistics, &Terms),
        (key, sums): (u64, &mut [Lanes]),
        scratch: &mut Scratch,
    ) {
        let Self { backend, block, norm, ref weights, sizes: [size, to_size], rate } = *self;
        let [pixels, to_pixels] = [size, to_size].map(|(height, width)| height * width);
        let (blocks, width) = (conv.input.blocks(), conv.output.blocks());
        let (gradient, incoming) = of_block(&mut image.gradients, block);
        clear_edges(gradient, blocks, size);
        for run in self.runs() {
            let count = 2 * run.count;
            let tiling = Tiling::cover(count, backend.tile().0);
            let mut pooled = std::mem::take(&mut scratch.stem);
            let lanes = room(&mut pooled, width * run.count);
            let panel = Panel { lanes: &mut *lanes, blocks: width, tile: run.count, at: 0 };
            let (map, pitch, x) = (&image.maps[block + 1], to_pixels, run.first);
            backend.run(Affine { terms, gradient: incoming, map, pitch, x, count: run.count, panel });
            for first in run.rows {
                let panel = room(&mut scratch.gradient_panel, width * tiling.span());
                clear_end(panel, tiling, count);
                for (tile, panel) in panel.chunks_exact_mut(width * tiling.tile).enumerate() {
                    for (block, panel) in panel.chunks_exact_mut(tiling.tile).enumerate() {
                        for (x, to) in (tile * tiling.tile..count).zip(panel) {
                            *to = Lanes(lanes[block * run.count + x / 2].0.map(|value| 0.25 * value));
                        }
                    }
                    let (map, pitch, first) = (panel, tiling.tile, first + tile * tiling.tile);
                    backend.run(Drop { key, rate, map, pitch, first, count: pitch, blocks: width, pixels });
                }
                self.activate(&image.maps[block], (first, count), tiling, scratch);
                let incoming = one_back(backend, conv, weights, tiling, sums, scratch);
                backend.run(GateSet {
                    unit: unit(norm, statistics),
                    map: &image.maps[block][first..],
                    gradient: &mut gradient[first..],
                    pitch: pixels,
                    count,
                    incoming,
                    incoming_pitch: tiling.span(),
                    halvings: 0,
                    share: 1.0,
                    sums: &mut image.sums,
                });
            }
            scratch.stem = pooled;
        }
    }

    /// Norm and ReLU of some pixels, into the scratch's panel.
    fn activate(&self, map: &[Lanes], (x, count): (usize, usize), tiling: Tiling, scratch: &mut Scratch) {
        let blocks = self.norm.scale.len();
        let lanes = room(&mut scratch.panel, blocks * tiling.span());
        clear_end(lanes, tiling, count);
        let pitch = self.sizes[0].0 * self.sizes[0].1;
        let panel = Panel { lanes, blocks, tile: tiling.tile, at: 0 };
        self.backend.run(Activate { norm: self.norm, row: map, pitch, x, count, panel, precision: Precision::F32 });
    }
}
