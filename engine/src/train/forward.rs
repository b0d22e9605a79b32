//! The way forward with the batch's statistics.

use super::Core;
use super::band::Band;
use super::batch::{Scratch, block_part, room};
use super::dropout::Site;
use super::dropped::Dropped;
use super::network::{BatchNorm, Block};
use super::statistics::Statistics;
use super::three::Weights;
use crate::Precision;
use crate::fold::Norm;
use crate::kernels::train::{Drop, Measure};
use crate::kernels::{Activate, ActivateAndAverage, Backend, CHUNK, Gemm, Panel, Tiling};
use crate::lanes::Lanes;
use crate::packed::Packed;
use crate::plan::kernel;

impl Core {
    /// From the images, (n, channels, height, width), to the mean of each feature.
    pub(crate) fn forward(&mut self, images: &[f32]) {
        self.load(images);
        self.stem();
        for block in 0..self.network.blocks.len() {
            for layer in 0..self.network.blocks[block].layers.len() {
                if self.network.blocks[block].layers[layer].bottleneck.is_some() {
                    self.bottleneck(block, layer, true);
                }
                self.three(block, layer);
            }
            if self.network.blocks[block].transition.is_some() {
                self.transition(block);
            }
        }
        self.features();
    }

    /// Copies the images into their padded buffers, channels last.
    fn load(&mut self, images: &[f32]) {
        let (channels, padding) = (self.config.in_channels, kernel(self.config.stem) / 2);
        let (height, width) = (self.sizes.height, self.sizes.width);
        let pitch = (width + 2 * padding) * channels;
        for (image, values) in self.batch.images_mut().iter_mut().zip(images.chunks_exact(channels * height * width)) {
            for (channel, plane) in values.chunks_exact(height * width).enumerate() {
                for (y, row) in plane.chunks_exact(width).enumerate() {
                    let to = &mut image.input[(padding + y) * pitch + padding * channels..][..width * channels];
                    for (pixel, &value) in to.chunks_exact_mut(channels).zip(row) {
                        pixel[channel] = value;
                    }
                }
            }
        }
    }

    /// The norm's vectors as part `part` of the network has them in training.
    pub(crate) fn norm(&self, norm: &BatchNorm, part: usize, statistics: &Statistics) -> Norm {
        if part >= self.sizes.first {
            norm.by_batch(&self.parameters.values, statistics)
        } else {
            norm.by_running(&self.parameters.values, &self.running.values, self.config.eps)
        }
    }

    /// The statistics of a block's input, from the images' moments.
    pub(crate) fn begin_block(&mut self, block: usize) {
        self.pass.blocks[block].map.clear();
        self.pass.blocks[block].inner.clear();
        self.append(block, self.network.blocks[block].input);
    }

    /// The statistics of the next `blocks` blocks of a block's map, from the images' moments.
    fn append(&mut self, block: usize, blocks: usize) {
        let images = self.batch.images().iter().map(|image| &image.moments[..]);
        self.pass.blocks[block].map.append(blocks, images, self.config.eps);
    }

    /// Norm, ReLU, 1x1. `anew`: takes the statistics too; otherwise they are there and the values come out as before.
    pub(crate) fn bottleneck(&mut self, block: usize, layer: usize, anew: bool) {
        let own = &self.network.blocks[block].layers[layer];
        let Some((conv, _)) = &own.bottleneck else { return };
        let backend = self.backend;
        let norm = self.norm(&own.norm, block_part(block), &self.pass.blocks[block].map);
        let weights = conv.forward(backend, &self.parameters.values);
        let (pixels, blocks) = (self.sizes.pixels(block), conv.output.blocks());
        let (slot, drop) = (self.sizes.inner[own.number], self.mask(Site::One(own.number), block_part(block)));
        let rate = self.config.drop_rate;
        self.team.each(self.batch.parts(), |part, scratch| {
            for (number, image) in (part.first..).zip(part.images) {
                if anew {
                    image.clear_moments(blocks);
                }
                let (from, to) = (&image.maps[block], &mut image.inner[slot]);
                for (first, count) in chunks(pixels) {
                    let tiling = Tiling::cover(count, backend.tile().0);
                    let lanes = room(&mut scratch.panel, weights.input.blocks() * tiling.span());
                    let panel = Panel { lanes, blocks: weights.input.blocks(), tile: tiling.tile, at: 0 };
                    backend.run(Activate {
                        norm: &norm,
                        row: from,
                        pitch: pixels,
                        x: first,
                        count,
                        panel,
                        precision: Precision::F32,
                    });
                    let to = &mut to[first..];
                    product(backend, &weights, tiling, count, to, pixels, scratch);
                    if let Some(key) = drop {
                        let key = key.of(number);
                        backend.run(Drop { key, rate, map: to, pitch: pixels, first, count, blocks, pixels });
                    }
                    if anew {
                        backend.run(Measure { map: to, pitch: pixels, count, into: &mut image.moments });
                    }
                }
            }
        });
        if anew {
            let mut statistics = Statistics::default();
            let images = self.batch.images().iter().map(|image| &image.moments[..]);
            statistics.append(blocks, images, self.config.eps);
            self.pass.blocks[block].inner.push(statistics);
        }
    }

    /// The norm in front of a layer's 3x3.
    pub(crate) fn norm_of_three(&self, block: usize, layer: usize) -> Norm {
        let own = &self.network.blocks[block].layers[layer];
        let pass = &self.pass.blocks[block];
        match &own.bottleneck {
            Some((_, norm)) => self.norm(norm, block_part(block), &pass.inner[layer]),
            None => self.norm(&own.norm, block_part(block), &pass.map),
        }
    }

    /// Norm, ReLU, 3x3: the layer's channels behind those that it read.
    fn three(&mut self, block: usize, layer: usize) {
        let own = &self.network.blocks[block].layers[layer];
        let backend = self.backend;
        let norm = self.norm_of_three(block, layer);
        let (size, pixels, fast) = (self.sizes.blocks[block], self.sizes.pixels(block), self.fast(block));
        let weights = Weights::new(own.conv.forward(backend, &self.parameters.values), fast);
        let (slot, blocks, new) = (self.sizes.inner[own.number], own.conv.input.blocks(), own.conv.output.blocks());
        let (reads, inner) = (own.reads(), own.bottleneck.is_some());
        let (drop, rate) = (self.mask(Site::Three(own.number), block_part(block)), self.config.drop_rate);
        self.team.each(self.batch.parts(), |part, scratch| {
            for (number, image) in (part.first..).zip(part.images) {
                image.clear_moments(new);
                let (read, write) = image.maps[block].split_at_mut(reads * pixels);
                let from = if inner { &image.inner[slot][..] } else { read };
                for band in Band::all(size, blocks, Weights::step(fast)) {
                    let lanes = room(&mut scratch.band, band.length());
                    band.fill(lanes, |panel, x| {
                        let row = Activate {
                            norm: &norm,
                            row: from,
                            pitch: pixels,
                            x,
                            count: size.1,
                            panel,
                            precision: Precision::F32,
                        };
                        backend.run(row);
                    });
                    let to = (&mut write[band.first()..], pixels);
                    weights.convolve(backend, band, lanes, to, &mut scratch.tiles);
                    let (first, count) = (band.first(), band.count());
                    let map = &mut write[first..];
                    if let Some(key) = drop {
                        let key = key.of(number);
                        backend.run(Drop { key, rate, map, pitch: pixels, first, count, blocks: new, pixels });
                    }
                    let map = &write[first..];
                    backend.run(Measure { map, pitch: pixels, count, into: &mut image.moments });
                }
            }
        });
        self.append(block, new);
    }

    /// Norm, ReLU, average and 1x1, in this order, as the two commute.
    fn transition(&mut self, block: usize) {
        let Block { transition: Some((norm, conv)), .. } = &self.network.blocks[block] else { return };
        let backend = self.backend;
        let norm = self.norm(norm, block_part(block) + 1, &self.pass.blocks[block].map);
        let weights = conv.forward(backend, &self.parameters.values);
        let (from_size, to_size) = (self.sizes.blocks[block], self.sizes.blocks[block + 1]);
        let (pixels, blocks) = (to_size.0 * to_size.1, conv.output.blocks());
        let drop = self.mask(Site::Transition(block), block_part(block) + 1);
        let (sizes, rate) = ([from_size, to_size], self.config.drop_rate);
        let dropped = Dropped { backend, block, norm: &norm, weights, sizes, rate };
        self.team.each(self.batch.parts(), |part, scratch| {
            for (number, image) in (part.first..).zip(part.images) {
                image.clear_moments(blocks);
                if let Some(key) = drop {
                    dropped.forward(image, key.of(number), scratch);
                    continue;
                }
                let weights = &dropped.weights;
                let (from, to) = image.maps.split_at_mut(block + 1);
                let (from, to) = (&from[block], &mut to[0]);
                for (first, count) in chunks(pixels) {
                    let tiling = Tiling::cover(count, backend.tile().0);
                    let lanes = room(&mut scratch.panel, weights.input.blocks() * tiling.span());
                    average(backend, &norm, from, from_size, (first, count), tiling.tile, lanes);
                    product(backend, weights, tiling, count, &mut to[first..], pixels, scratch);
                    let map = &to[first..];
                    backend.run(Measure { map, pitch: pixels, count, into: &mut image.moments });
                }
            }
        });
        self.begin_block(block + 1);
    }
}

/// Some pixels of a map at a time: the first and their number.
pub(crate) fn chunks(pixels: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..pixels).step_by(CHUNK).map(move |first| (first, CHUNK.min(pixels - first)))
}

/// The pixels of a chunk that lie in one row: row, first column, number and place in the chunk.
pub(crate) fn rows_of(
    (first, count): (usize, usize),
    width: usize,
) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (y, x) = ((first + at) / width, (first + at) % width);
        let run = (count - at).min(width - x);
        at += run;
        (run > 0).then_some((y, x, run, at - run))
    })
}

/// Multiplies the scratch's panel, a chunk of `count` pixels, by the weights, into a map from the chunk's first pixel on.
pub(crate) fn product(
    backend: Backend,
    weights: &Packed,
    tiling: Tiling,
    count: usize,
    to: &mut [Lanes],
    pitch: usize,
    scratch: &mut Scratch,
) {
    let groups = 0..weights.groups.len();
    let span = tiling.span();
    let panel = &scratch.panel[..weights.input.blocks() * span];
    if span == count {
        backend.run(Gemm { weights, groups, panel, tiling, relu: false, out: to, pitch });
        return;
    }
    let out = room(&mut scratch.out, weights.blocks() * span);
    backend.run(Gemm { weights, groups, panel, tiling, relu: false, out, pitch: span });
    for (block, out) in out.chunks_exact(span).enumerate() {
        to[block * pitch..][..count].copy_from_slice(&out[..count]);
    }
}

/// What a transition's 1x1 reads: a chunk of pixels of the average, `[tile][block][pixel of the tile]`.
pub(crate) fn average(
    backend: Backend,
    norm: &Norm,
    map: &[Lanes],
    (height, width): (usize, usize),
    chunk: (usize, usize),
    tile: usize,
    lanes: &mut [Lanes],
) {
    let blocks = norm.scale.len();
    for (y, x, count, at) in rows_of(chunk, width / 2) {
        let rows = [&map[2 * y * width..], &map[(2 * y + 1) * width..]];
        let panel = Panel { lanes, blocks, tile, at };
        backend.run(ActivateAndAverage { norm, rows, pitch: height * width, x, count, panel });
    }
}
