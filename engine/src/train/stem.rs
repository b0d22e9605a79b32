//! The stem, there and back.

use densenet_arch::Stem;

use super::Core;
use super::backward::{add_norm_gradient, clear_end, outer, unit};
use super::batch::{Image, Scratch, room};
use super::deferred::paid;
use super::forward::{chunks, product, rows_of};
use crate::Precision;
use crate::fold::Norm;
use crate::kernels::train::{Affine, MaxPoolGradient, Measure, Terms, Unit};
use crate::kernels::{Activate, Backend, MaxPool, Panel, Tiling, patches};
use crate::lanes::{LANES, Lanes};
use crate::plan::kernel;

impl Core {
    /// Convolution and, behind ImageNet's, norm, ReLU and max-pool: the input of the first block.
    pub(crate) fn stem(&mut self) {
        let (backend, sizes, config) = (self.backend, &self.sizes, &self.config);
        let weights = self.network.stem.forward(backend, &self.parameters.values);
        let blocks = self.network.stem.output.blocks();
        let view = Patches::new(config.stem, config.in_channels, sizes.width);
        let (height, width) = sizes.stem;
        self.team.each(self.batch.parts(), |part, scratch| {
            for image in part.images {
                image.clear_moments(blocks);
                let to = if config.stem == Stem::Cifar { &mut image.maps[0] } else { &mut image.stem };
                for (first, count) in chunks(height * width) {
                    let tiling = Tiling::cover(count, backend.tile().0);
                    let (input, shape) = (&weights.input, (tiling.tile, tiling.span()));
                    view.pack(&image.input, (first, count, width), input.blocks(), shape, scratch);
                    product(backend, &weights, tiling, count, &mut to[first..], height * width, scratch);
                    let (map, pitch) = (&to[first..], height * width);
                    backend.run(Measure { map, pitch, count, into: &mut image.moments });
                }
            }
        });
        if let Some(norm0) = &self.network.norm0 {
            self.pass.stem.clear();
            let images = self.batch.images().iter().map(|image| &image.moments[..]);
            self.pass.stem.append(blocks, images, config.eps);
            let norm = self.norm(norm0, 0, &self.pass.stem);
            let pooled = sizes.blocks[0];
            self.team.each(self.batch.parts(), |part, scratch| {
                for image in part.images {
                    image.clear_moments(blocks);
                    max_pool(backend, &norm, &image.stem, sizes.stem, pooled, &mut image.maps[0], scratch);
                    let (map, pitch) = (&image.maps[0][..], pooled.0 * pooled.1);
                    backend.run(Measure { map, pitch, count: pitch, into: &mut image.moments });
                }
            });
        }
        self.begin_block(0);
    }

    /// The stem, whose input needs no gradient.
    pub(crate) fn stem_back(&mut self) {
        let backend = self.backend;
        let pass = &self.pass.blocks[0];
        let blocks = self.network.stem.output.blocks();
        let terms = pass.deferred.terms(&pass.map, 0..blocks);
        let Some(norm0) = &self.network.norm0 else {
            self.stem_weights(&terms, None);
            return;
        };
        let statistics = std::mem::take(&mut self.pass.stem);
        let norm = self.norm(norm0, 0, &statistics);
        let pool = PoolBack {
            backend,
            unit: unit(&norm, &statistics),
            terms: &terms,
            size: self.sizes.blocks[0],
            from: self.sizes.stem,
        };
        self.team.each(self.batch.parts(), |part, scratch| {
            for image in part.images {
                pool.run(image, scratch);
            }
        });
        let sums = self.sums(blocks);
        add_norm_gradient(norm0, &sums, &mut self.gradients);
        let paid = paid(&norm, &statistics, &sums);
        self.stem_weights(&paid, Some(&pool));
        self.pass.stem = statistics;
    }

    /// The gradient of the stem's weights: its map's comes by `terms` out of the max-pool, else as it is.
    fn stem_weights(&mut self, terms: &Terms, pool: Option<&PoolBack>) {
        let (backend, conv, config) = (self.backend, &self.network.stem, &self.config);
        let view = Patches::new(config.stem, config.in_channels, self.sizes.width);
        let (length, blocks, width) = (conv.sums(), conv.input.blocks(), conv.output.blocks());
        let (rows, columns) = self.sizes.stem;
        self.team.each(self.batch.parts(), |mut part, scratch| {
            let (images, sums) = part.begin(length);
            for (_, image) in images {
                if let Some(pool) = pool {
                    pool.run(image, scratch);
                }
                let stem = std::mem::take(&mut scratch.stem);
                let (gradient, map) =
                    if pool.is_some() { (&stem, &image.stem) } else { (&image.gradients[0], &image.maps[0]) };
                for (first, count) in chunks(rows * columns) {
                    let tiling = Tiling::cover(count, backend.tile().0);
                    let lanes = room(&mut scratch.gradient_panel, width * tiling.span());
                    clear_end(lanes, tiling, count);
                    let panel = Panel { lanes, blocks: width, tile: tiling.tile, at: 0 };
                    backend.run(Affine { terms, gradient, map, pitch: rows * columns, x: first, count, panel });
                    clear_end(room(&mut scratch.panel, blocks * tiling.span()), tiling, count);
                    let shape = (tiling.tile, tiling.span());
                    view.pack(&image.input, (first, count, columns), blocks, shape, scratch);
                    outer(backend, conv, tiling, sums, scratch);
                }
                scratch.stem = stem;
            }
        });
        conv.add_gradient(self.batch.sums(length), &mut self.gradients);
    }
}

/// Norm, ReLU and max-pool of a stem's map.
fn max_pool(
    backend: Backend,
    norm: &Norm,
    map: &[Lanes],
    (height, width): (usize, usize),
    (rows, columns): (usize, usize),
    to: &mut [Lanes],
    scratch: &mut Scratch,
) {
    let (blocks, pixels) = (norm.scale.len(), height * width);
    let three = room(&mut scratch.band, 3 * blocks * width);
    let out = room(&mut scratch.out, blocks * columns);
    for y in 0..rows {
        let seen: [Option<usize>; 3] =
            [-1, 0, 1].map(|offset| (2 * y).checked_add_signed(offset).filter(|&row| row < height));
        for (row, lanes) in seen.iter().zip(three.chunks_exact_mut(blocks * width)) {
            let Some(row) = row else { continue };
            let panel = Panel { lanes, blocks, tile: width, at: 0 };
            backend.run(Activate {
                norm,
                row: map,
                pitch: pixels,
                x: row * width,
                count: width,
                panel,
                precision: Precision::F32,
            });
        }
        let mut lines = three.chunks_exact(blocks * width);
        let lines = seen.map(|row| lines.next().filter(|_| row.is_some()));
        backend.run(MaxPool { rows: lines, width, blocks, out_width: columns, out });
        for (block, out) in out.chunks_exact(columns).enumerate() {
            to[(block * rows + y) * columns..][..columns].copy_from_slice(out);
        }
    }
}

/// How a stem sees a padded image.
struct Patches {
    channels: usize,
    kernel: usize,
    stride: usize,
    /// Values of a padded row.
    pitch: usize,
}

impl Patches {
    fn new(stem: Stem, channels: usize, width: usize) -> Self {
        let (kernel, stride) = (kernel(stem), if stem == Stem::Imagenet { 2 } else { 1 });
        Self { channels, kernel, stride, pitch: (width + 2 * (kernel / 2)) * channels }
    }

    /// Packs what the window sees at a chunk of pixels, its first, number and the row's width, into the scratch's panel
    /// of a tile and a span.
    fn pack(
        &self,
        image: &[f32],
        (first, count, width): (usize, usize, usize),
        blocks: usize,
        (tile, span): (usize, usize),
        scratch: &mut Scratch,
    ) {
        scratch.window.clear();
        scratch.window.resize(blocks * LANES, 0.0);
        let mut panel = Panel { lanes: room(&mut scratch.panel, blocks * span), blocks, tile, at: 0 };
        for (y, x, count, _) in rows_of((first, count), width) {
            for x in x..x + count {
                let pieces = (0..self.kernel).map(|row| {
                    let at = (self.stride * y + row) * self.pitch + self.stride * x * self.channels;
                    &image[at..][..self.kernel * self.channels]
                });
                patches(&mut panel, pieces, &mut scratch.window);
            }
        }
    }
}

/// A stem's max-pool, ReLU and norm on their way back.
struct PoolBack<'a> {
    backend: Backend,
    unit: Unit<'a>,
    /// What makes the gradient of what the pool gave.
    terms: &'a Terms,
    /// Of what the pool gave.
    size: (usize, usize),
    /// Of the stem's map.
    from: (usize, usize),
}

impl PoolBack<'_> {
    /// One image: the gradient of what the norm gave goes to the scratch's stem, `[block][pixel]`.
    fn run(&self, image: &mut Image, scratch: &mut Scratch) {
        let Self { backend, unit, terms, size, from: (height, width) } = *self;
        let (blocks, pixels) = (terms.a.len(), size.0 * size.1);
        image.clear_sums(blocks);
        let lanes = room(&mut scratch.gradient_band, blocks * pixels);
        let panel = Panel { lanes: &mut *lanes, blocks, tile: pixels, at: 0 };
        let (gradient, map) = (&image.gradients[0], &image.maps[0]);
        backend.run(Affine { terms, gradient, map, pitch: pixels, x: 0, count: pixels, panel });
        let stem = room(&mut scratch.stem, blocks * height * width);
        let maps = image.stem.chunks_exact(height * width).zip(stem.chunks_exact_mut(height * width));
        let sides = lanes.chunks_exact(pixels).zip(&mut image.sums);
        for (block, ((map, gradient), (incoming, sums))) in maps.zip(sides).enumerate() {
            let unit = Unit {
                scale: &unit.scale[block..],
                shift: &unit.shift[block..],
                inverse: &unit.inverse[block..],
                offset: &unit.offset[block..],
            };
            backend.run(MaxPoolGradient { unit, map, height, width, incoming, gradient, sums });
        }
    }
}
