//! The way back.

use super::Core;
use super::band::Band;
use super::batch::{Image, Scratch, block_part, of_block, room};
use super::deferred::paid;
use super::dropout::Site;
use super::dropped::Dropped;
use super::forward::{average, chunks, rows_of};
use super::network::{BatchNorm, Block, Conv};
use super::statistics::{Statistics, Sums};
use super::three::Weights;
use crate::Precision;
use crate::fold::Norm;
use crate::kernels::train::{Affine, Drop, GateAdd, GateSet, GateStore, Grid, Outer, Terms, Unit};
use crate::kernels::{Activate, Backend, Gemm, Panel, Tiling};
use crate::lanes::{LANES, Lanes};
use crate::packed::Packed;

impl Core {
    /// From the gradient of the logits, (n, classes), to those of all weights from the first trained part on.
    pub(crate) fn backward(&mut self, logits: &[f32]) {
        let last = self.network.blocks.len() - 1;
        let norm5 = block_part(last) + 1;
        self.classifier(logits);
        if norm5 < self.sizes.first {
            return;
        }
        self.head(last);
        for block in (0..self.network.blocks.len()).rev() {
            if block_part(block) < self.sizes.first {
                return;
            }
            for layer in (0..self.network.blocks[block].layers.len()).rev() {
                self.layer(block, layer);
            }
            let Some(before) = block.checked_sub(1).filter(|&before| block_part(before) + 1 >= self.sizes.first) else {
                break;
            };
            self.transition_back(before);
        }
        if self.sizes.first == 0 {
            self.stem_back();
        }
    }

    /// The images' sums of the first `blocks` blocks, in the images' order.
    pub(crate) fn sums(&self, blocks: usize) -> Vec<Sums> {
        let mut all = vec![Sums::default(); blocks];
        for image in self.batch.images() {
            for (all, one) in all.iter_mut().zip(&image.sums) {
                for lane in 0..LANES {
                    all.plain[lane] += one.plain[lane];
                    all.normalised[lane] += one.normalised[lane];
                }
            }
        }
        all
    }

    /// A dense layer. What it read gets its share of the gradient.
    fn layer(&mut self, block: usize, layer: usize) {
        let own = &self.network.blocks[block].layers[layer];
        if own.bottleneck.is_none() {
            self.three_back(block, layer);
            return;
        }
        if !self.sizes.keeps(own.number) {
            self.bottleneck(block, layer, false);
        }
        self.three_back(block, layer);
        self.bottleneck_back(block, layer);
    }

    /// A layer's 3x3, and ReLU and norm in front of it: that of the map in plain networks, else that of the 1x1.
    fn three_back(&mut self, block: usize, layer: usize) {
        let own = &self.network.blocks[block].layers[layer];
        let pass = &self.pass.blocks[block];
        let norm = self.norm_of_three(block, layer);
        let (batch_norm, statistics) = match &own.bottleneck {
            Some((_, batch_norm)) => (batch_norm, &pass.inner[layer]),
            None => (&own.norm, &pass.map),
        };
        let reads = own.reads();
        let new = reads..reads + own.conv.output.blocks();
        let task = ThreeBack {
            backend: self.backend,
            unit: unit(&norm, statistics),
            norm: &norm,
            weights: Weights::new(own.conv.backward(self.backend, &self.parameters.values), self.fast(block)),
            step: Weights::step(self.fast(block)),
            terms: pass.deferred.terms(&pass.map, new),
            conv: &own.conv,
            block,
            slot: own.bottleneck.as_ref().map(|_| self.sizes.inner[own.number]),
            size: self.sizes.blocks[block],
            reads,
            rate: self.config.drop_rate,
        };
        let drop = self.mask(Site::Three(own.number), block_part(block));
        let length = own.conv.sums();
        let blocks = own.conv.input.blocks();
        self.team.each(self.batch.parts(), |mut part, scratch| {
            let (images, sums) = part.begin(length);
            for (number, image) in images {
                image.clear_sums(blocks);
                task.run(image, sums, drop.map(|key| key.of(number)), scratch);
            }
        });
        let sums = self.sums(blocks);
        own.conv.add_gradient(self.batch.sums(length), &mut self.gradients);
        add_norm_gradient(batch_norm, &sums, &mut self.gradients);
        if own.bottleneck.is_none() {
            let count = self.pass.blocks[block].map.count;
            self.pass.blocks[block].deferred.add(&norm, &sums, count);
        } else {
            self.pass.inner = paid(&norm, &self.pass.blocks[block].inner[layer], &sums);
        }
    }

    /// A layer's 1x1, and ReLU and norm in front of it.
    fn bottleneck_back(&mut self, block: usize, layer: usize) {
        let own = &self.network.blocks[block].layers[layer];
        let Some((conv, _)) = &own.bottleneck else { return };
        let (backend, pixels) = (self.backend, self.sizes.pixels(block));
        let norm = self.norm(&own.norm, block_part(block), &self.pass.blocks[block].map);
        let weights = conv.backward(backend, &self.parameters.values);
        let (terms, statistics) = (&self.pass.inner, &self.pass.blocks[block].map);
        let slot = self.sizes.inner[own.number];
        let (drop, rate) = (self.mask(Site::One(own.number), block_part(block)), self.config.drop_rate);
        let (length, blocks, width) = (conv.sums(), conv.input.blocks(), conv.output.blocks());
        self.team.each(self.batch.parts(), |mut part, scratch| {
            let (images, sums) = part.begin(length);
            for (number, image) in images {
                image.clear_sums(blocks);
                for (first, count) in chunks(pixels) {
                    let tiling = Tiling::cover(count, backend.tile().0);
                    let lanes = room(&mut scratch.gradient_panel, width * tiling.span());
                    clear_end(lanes, tiling, count);
                    let panel = Panel { lanes, blocks: width, tile: tiling.tile, at: 0 };
                    let (gradient, map) = (&image.inner_gradient, &image.inner[slot]);
                    backend.run(Affine { terms, gradient, map, pitch: pixels, x: first, count, panel });
                    if let Some(key) = drop {
                        let key = key.of(number);
                        for (tile, map) in lanes.chunks_exact_mut(width * tiling.tile).enumerate() {
                            let (pitch, first) = (tiling.tile, first + tile * tiling.tile);
                            backend.run(Drop { key, rate, map, pitch, first, count: pitch, blocks: width, pixels });
                        }
                    }
                    let lanes = room(&mut scratch.panel, blocks * tiling.span());
                    clear_end(lanes, tiling, count);
                    let panel = Panel { lanes, blocks, tile: tiling.tile, at: 0 };
                    let row = &image.maps[block];
                    backend.run(Activate {
                        norm: &norm,
                        row,
                        pitch: pixels,
                        x: first,
                        count,
                        panel,
                        precision: Precision::F32,
                    });
                    let out = one_back(backend, conv, &weights, tiling, sums, scratch);
                    backend.run(GateAdd {
                        unit: unit(&norm, statistics),
                        map: &image.maps[block][first..],
                        gradient: &mut image.gradients[block % 2][first..],
                        pitch: pixels,
                        count,
                        incoming: out,
                        incoming_pitch: tiling.span(),
                        sums: &mut image.sums,
                    });
                }
            }
        });
        let sums = self.sums(blocks);
        conv.add_gradient(self.batch.sums(length), &mut self.gradients);
        add_norm_gradient(&own.norm, &sums, &mut self.gradients);
        let count = self.pass.blocks[block].map.count;
        self.pass.blocks[block].deferred.add(&norm, &sums, count);
    }

    /// The transition behind a block.
    fn transition_back(&mut self, block: usize) {
        let Block { transition: Some((batch_norm, conv)), .. } = &self.network.blocks[block] else { return };
        let backend = self.backend;
        let norm = self.norm(batch_norm, block_part(block) + 1, &self.pass.blocks[block].map);
        let (statistics, next) = (&self.pass.blocks[block].map, &self.pass.blocks[block + 1]);
        let terms = next.deferred.terms(&next.map, 0..conv.output.blocks());
        let (size, to_size) = (self.sizes.blocks[block], self.sizes.blocks[block + 1]);
        let (pixels, to_pixels) = (size.0 * size.1, to_size.0 * to_size.1);
        let (length, blocks, width) = (conv.sums(), conv.input.blocks(), conv.output.blocks());
        let drop = self.mask(Site::Transition(block), block_part(block) + 1);
        let dropped = Dropped {
            backend,
            block,
            norm: &norm,
            weights: conv.backward(backend, &self.parameters.values),
            sizes: [size, to_size],
            rate: self.config.drop_rate,
        };
        self.team.each(self.batch.parts(), |mut part, scratch| {
            let (images, sums) = part.begin(length);
            for (number, image) in images {
                image.clear_sums(blocks);
                if let Some(key) = drop {
                    dropped.backward(image, (conv, statistics, &terms), (key.of(number), sums), scratch);
                    continue;
                }
                let (gradient, incoming) = of_block(&mut image.gradients, block);
                clear_edges(gradient, blocks, size);
                for (first, count) in chunks(to_pixels) {
                    let tiling = Tiling::cover(count, backend.tile().0);
                    let lanes = room(&mut scratch.gradient_panel, width * tiling.span());
                    clear_end(lanes, tiling, count);
                    let panel = Panel { lanes, blocks: width, tile: tiling.tile, at: 0 };
                    let map = &image.maps[block + 1];
                    let terms = &terms;
                    backend.run(Affine { terms, gradient: incoming, map, pitch: to_pixels, x: first, count, panel });
                    let lanes = room(&mut scratch.panel, blocks * tiling.span());
                    clear_end(lanes, tiling, count);
                    average(backend, &norm, &image.maps[block], size, (first, count), tiling.tile, lanes);
                    let out = one_back(backend, conv, &dropped.weights, tiling, sums, scratch);
                    for (y, x, count, at) in rows_of((first, count), to_size.1) {
                        for row in [2 * y, 2 * y + 1] {
                            let first = row * size.1 + 2 * x;
                            backend.run(GateSet {
                                unit: unit(&norm, statistics),
                                map: &image.maps[block][first..],
                                gradient: &mut gradient[first..],
                                pitch: pixels,
                                count: 2 * count,
                                incoming: &out[at..],
                                incoming_pitch: tiling.span(),
                                halvings: 1,
                                share: 0.25,
                                sums: &mut image.sums,
                            });
                        }
                    }
                }
            }
        });
        let sums = self.sums(blocks);
        conv.add_gradient(self.batch.sums(length), &mut self.gradients);
        add_norm_gradient(batch_norm, &sums, &mut self.gradients);
        let (lanes, count) = (blocks * LANES, self.pass.blocks[block].map.count);
        self.pass.blocks[block].deferred.clear(lanes);
        self.pass.blocks[block].deferred.add(&norm, &sums, count);
    }
}

/// A 3x3 on its way back.
struct ThreeBack<'a> {
    backend: Backend,
    /// Norm and ReLU in front of it.
    norm: &'a Norm,
    unit: Unit<'a>,
    /// Transposed.
    weights: Weights,
    /// Rows that a band has a multiple of.
    step: usize,
    /// What makes the gradient of the layer's own channels.
    terms: Terms,
    conv: &'a Conv,
    block: usize,
    /// Where the 1x1's output is; none in plain networks.
    slot: Option<usize>,
    size: (usize, usize),
    /// Blocks of the map in front of the layer's own.
    reads: usize,
    rate: f64,
}

impl ThreeBack<'_> {
    /// One image, band by band.
    fn run(&self, image: &mut Image, sums: &mut [Lanes], drop: Option<u64>, scratch: &mut Scratch) {
        let Self { backend, unit, size, block, .. } = *self;
        let pixels = size.0 * size.1;
        let (new, blocks) = (self.conv.output.blocks(), self.conv.input.blocks());
        let map = &image.maps[block][..];
        let (read, own) = image.gradients[block % 2].split_at_mut(self.reads * pixels);
        let (from, incoming) = match self.slot {
            Some(slot) => (&image.inner[slot][..], Some(&mut image.inner_gradient)),
            None => (map, None),
        };
        let mut incoming = incoming;
        for band in Band::all(size, blocks, self.step) {
            let gradient = band.of(new);
            let lanes = room(&mut scratch.gradient_band, gradient.length());
            gradient.fill(lanes, |panel, x| {
                let (terms, map) = (&self.terms, &map[self.reads * pixels..]);
                let Panel { lanes, blocks, tile, at } = panel;
                let panel = Panel { lanes: &mut *lanes, blocks, tile, at };
                backend.run(Affine { terms, gradient: own, map, pitch: pixels, x, count: size.1, panel });
                if let Some(key) = drop {
                    let (rate, map, pitch, first, count) = (self.rate, &mut lanes[at..], tile, x, size.1);
                    backend.run(Drop { key, rate, map, pitch, first, count, blocks, pixels });
                }
            });
            let lanes = room(&mut scratch.band, band.length());
            band.fill(lanes, |panel, x| {
                backend.run(Activate {
                    norm: self.norm,
                    row: from,
                    pitch: pixels,
                    x,
                    count: size.1,
                    panel,
                    precision: Precision::F32,
                });
            });
            self.weights_of(band, scratch, sums);
            let (first, count) = (band.first(), band.count());
            let lanes = &scratch.gradient_band[..gradient.length()];
            if let Some(incoming) = &mut incoming {
                let to = &mut incoming[first..];
                self.weights.convolve(backend, gradient, lanes, (&mut *to, pixels), &mut scratch.tiles);
                let (map, sums) = (&from[first..], &mut image.sums);
                backend.run(GateStore { unit, map, gradient: to, pitch: pixels, count, sums });
            } else {
                let out = room(&mut scratch.out, blocks * count);
                self.weights.convolve(backend, gradient, lanes, (&mut *out, count), &mut scratch.tiles);
                let (map, gradient, sums) = (&map[first..], &mut read[first..], &mut image.sums);
                let (incoming, incoming_pitch) = (&*out, count);
                backend.run(GateAdd { unit, map, gradient, pitch: pixels, count, incoming, incoming_pitch, sums });
            }
        }
    }

    /// Adds a band's share of the weights' gradient.
    fn weights_of(&self, band: Band, scratch: &Scratch, sums: &mut [Lanes]) {
        let gradient = band.of(self.conv.output.blocks());
        let (outputs, blocks) = (self.conv.output.channels(), self.conv.input.blocks());
        for (tap, sums) in sums.chunks_exact_mut(outputs * blocks).enumerate() {
            let seen = tap / 3 * band.row() + tap % 3;
            self.backend.run(Outer {
                gradient: Grid {
                    lanes: &scratch.gradient_band[gradient.row() + 1..],
                    block: gradient.pitch(),
                    row: gradient.row(),
                },
                input: Grid { lanes: &scratch.band[seen..], block: band.pitch(), row: band.row() },
                rows: band.rows(),
                width: band.width(),
                outputs,
                blocks,
                sums,
            });
        }
    }
}

/// A norm as the gates need it.
pub(crate) fn unit<'a>(norm: &'a Norm, statistics: &'a Statistics) -> Unit<'a> {
    Unit { scale: &norm.scale, shift: &norm.shift, inverse: &statistics.rate, offset: &statistics.offset }
}

/// The gradients of a norm's scale and shift.
pub(crate) fn add_norm_gradient(norm: &BatchNorm, sums: &[Sums], gradients: &mut [f32]) {
    for (channel, lane) in norm.layout.lanes().enumerate() {
        let Sums { plain, normalised } = &sums[lane / LANES];
        gradients[norm.bias.start + channel] += plain[lane % LANES] as f32;
        gradients[norm.weight.start + channel] += normalised[lane % LANES] as f32;
    }
}

/// Adds a chunk's share of a 1x1's weights: the scratch's two panels are its gradient and its input.
pub(crate) fn outer(backend: Backend, conv: &Conv, tiling: Tiling, sums: &mut [Lanes], scratch: &Scratch) {
    let (blocks, width) = (conv.input.blocks(), conv.output.blocks());
    backend.run(Outer {
        gradient: Grid { lanes: &scratch.gradient_panel, block: tiling.tile, row: width * tiling.tile },
        input: Grid { lanes: &scratch.panel, block: tiling.tile, row: blocks * tiling.tile },
        rows: tiling.tiles,
        width: tiling.tile,
        outputs: conv.output.channels(),
        blocks,
        sums,
    });
}

/// Adds a chunk's share of a 1x1's weights and gives the gradient of its input, `[block][span]`.
pub(crate) fn one_back<'a>(
    backend: Backend,
    conv: &Conv,
    weights: &Packed,
    tiling: Tiling,
    sums: &mut [Lanes],
    scratch: &'a mut Scratch,
) -> &'a [Lanes] {
    outer(backend, conv, tiling, sums, scratch);
    let (groups, span) = (0..weights.groups.len(), tiling.span());
    let panel = &scratch.gradient_panel[..weights.input.blocks() * span];
    let out = room(&mut scratch.out, weights.blocks() * span);
    backend.run(Gemm { weights, groups, panel, tiling, relu: false, out, pitch: span });
    out
}

/// Zeroes the pixels of a panel that the tiles cover beyond the chunk.
pub(crate) fn clear_end(lanes: &mut [Lanes], tiling: Tiling, count: usize) {
    let run = lanes.len() / tiling.tiles;
    for pixel in count..tiling.span() {
        for line in lanes[pixel / tiling.tile * run..][..run].chunks_exact_mut(tiling.tile) {
            line[pixel % tiling.tile] = Lanes::ZERO;
        }
    }
}

/// Zeroes the last row and column where an average over 2x2 left them out.
pub(crate) fn clear_edges(gradient: &mut [Lanes], blocks: usize, (height, width): (usize, usize)) {
    for map in gradient.chunks_exact_mut(height * width).take(blocks) {
        if width % 2 == 1 {
            map.iter_mut().skip(width - 1).step_by(width).for_each(|pixel| *pixel = Lanes::ZERO);
        }
        if height % 2 == 1 {
            map[(height - 1) * width..].fill(Lanes::ZERO);
        }
    }
}
