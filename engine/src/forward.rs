//! One image through the network, step by step, by one thread of those that share it.

use std::ops::Range;

use densenet_arch::Stem;

use crate::Precision;
use crate::chunk::{Chunk, Out};
use crate::fold::Norm;
use crate::kernels::{
    Activate, ActivateAndAverage, Backend, CHUNK, FromTiles, Gemm, MOST_INPUTS, MOST_OUTPUTS, MaxPool, Panel, ROOM,
    StemRow, SumRow, Three, Tiling, ToTiles,
};
use crate::lanes::{LANES, Lanes};
use crate::maps::{BlockMaps, Map, Maps};
use crate::packed::Packed;
use crate::plan::{Conv, Layer, Plan, Transition, kernel, stride};
use crate::profile::{Clock, Stage};
use crate::team::Place;
use crate::winograd::{TILES, Winograd, between};

/// What a run gives of each image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Output {
    /// (classes)
    #[default]
    Logits,
    /// The mean of each feature, (channels).
    PreLogits,
    /// The last map after norm and ReLU, (channels, height, width).
    Features,
}

/// What a thread needs for itself.
#[derive(Debug)]
pub(crate) struct Scratch {
    panel: Vec<Lanes>,
    out: Vec<Lanes>,
    /// Transformed tiles, `[position][tile][input block][tile's place]`.
    tiles: Vec<Lanes>,
    /// Their products, `[position][output block][tile's place]`.
    products: Vec<Lanes>,
    /// The mean of each feature, a panel of images.
    features: Vec<Lanes>,
    /// The classifier's output, `[block][image]`.
    logits: Vec<Lanes>,
    pub(crate) clock: Clock,
}

impl Scratch {
    /// What a plan needs for the images that those maps have room for.
    pub(crate) fn new(plan: &Plan, maps: &Maps) -> Self {
        let (tile, _) = plan.backend.tile();
        let (images, tiles_room) = (Tiling::room(maps.images(), tile), Tiling::room(TILES, tile));
        let layers = plan.blocks.iter().flat_map(|block| &block.layers);
        let transitions = plan.blocks.iter().filter_map(|block| block.transition.as_ref());
        let products = layers
            .clone()
            .filter_map(|layer| layer.bottleneck.as_ref())
            .chain(transitions.map(|transition| &transition.conv))
            .chain(layers.clone().map(|layer| layer.conv.packed()));
        let room = |size: fn(&Packed) -> usize| products.clone().map(size).max().unwrap_or(0) * ROOM;
        let tiles = |size: fn(&Packed) -> usize| {
            let most = layers.clone().filter_map(|layer| match &layer.conv {
                Conv::Winograd(winograd) => {
                    Some(winograd.form.positions() * between(size(&winograd.positions[0]), tiles_room))
                }
                Conv::Direct(_) => None,
            });
            most.max().unwrap_or(0)
        };
        Self {
            panel: vec![Lanes::ZERO; room(|packed| packed.input.blocks())],
            out: vec![Lanes::ZERO; room(Packed::blocks)],
            tiles: vec![Lanes::ZERO; tiles(|packed| packed.input.blocks())],
            products: vec![Lanes::ZERO; tiles(Packed::blocks)],
            features: vec![Lanes::ZERO; images * plan.classifier.input.blocks()],
            logits: vec![Lanes::ZERO; images * plan.classifier.blocks()],
            clock: Clock::new(plan.blocks.len()),
        }
    }

    /// Multiplies the panel that holds a chunk by some groups of the weights, into the map.
    fn product(&mut self, product: Product, groups: Range<usize>, chunk: Chunk, tiling: Tiling, out: Out) {
        let Product { backend, weights, relu } = product;
        let panel = &self.panel[..];
        if let Some(part) = out.direct(chunk).filter(|_| tiling.span() == chunk.count) {
            let (mut row, pitch) = (out.map.rows.write(out.row(part.y)), out.map.pitch());
            let out = &mut row[out.first(0, part.x)..];
            backend.run(Gemm { weights, groups, panel, tiling, relu, out, pitch });
            return;
        }
        let (blocks, pitch) = (weights.blocks_of(&groups), tiling.span());
        backend.run(Gemm { weights, groups, panel, tiling, relu, out: &mut self.out, pitch });
        for part in chunk.parts() {
            out.put(&part, blocks.clone(), &self.out[part.at..], pitch);
        }
    }
}

/// What multiplies.
#[derive(Clone, Copy)]
struct Product<'a> {
    backend: Backend,
    weights: &'a Packed,
    relu: bool,
}

/// A thread at work on an image or a few.
pub(crate) struct Forward<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) maps: &'a Maps,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) place: Place<'a>,
}

impl Forward<'_> {
    /// Runs images, (n, channels, height, width) for any n that the last block's maps have room for. `write` is given an
    /// image's number and what puts this thread's share of the output into the whole.
    pub(crate) fn run(&mut self, images: &[f32], output: Output, write: impl FnMut(usize, &dyn Fn(&mut [f32]))) {
        let last = self.plan.blocks.len() - 1;
        self.block(last, images);
        let images = images.len() / self.maps.input.size();
        match output {
            Output::Logits => self.head(images, write),
            Output::PreLogits => self.pre_logits(images, write),
            Output::Features => self.features(images, write),
        }
        self.meet(Stage::Head);
    }

    /// Waits for the others, after a stage.
    fn meet(&mut self, stage: Stage) {
        self.scratch.clock.lap(stage);
        self.place.meet();
        self.scratch.clock.lap(Stage::Waiting);
    }

    /// Brings images through the network up to the end of a block: as many as its maps have room for, a block of larger
    /// maps several times for fewer.
    fn block(&mut self, index: usize, images: &[f32]) {
        let (plan, own, size) = (self.plan, &self.maps.blocks[index], self.maps.input.size());
        if index == 0 {
            self.scratch.clock.block = 0;
            for (number, image) in images.chunks_exact(size).enumerate() {
                self.stem(image, number * own.all.height);
            }
        } else {
            let before = &self.maps.blocks[index - 1];
            for (number, part) in images.chunks(before.images * size).enumerate() {
                self.block(index - 1, part);
                if let Some(transition) = &plan.blocks[index - 1].transition {
                    let y = number * before.images * own.all.height;
                    self.transition(transition, &before.all, self.out(&own.all, y, 0), part.len() / size);
                }
            }
        }
        self.scratch.clock.block = index;
        for layer in &plan.blocks[index].layers {
            self.layer(layer, own, images.len() / size);
        }
    }

    fn out<'a>(&self, map: &'a Map, y: usize, blocks: usize) -> Out<'a> {
        Out { map, y, blocks, alone: self.place.is_alone() }
    }

    /// The stem's convolution, and behind ImageNet's its max-pool, into the first block's map from row `y` on.
    fn stem(&mut self, image: &[f32], y: usize) {
        let (plan, maps) = (self.plan, self.maps);
        let first = &maps.blocks[0].all;
        maps.input.load(image, self.place.share(maps.input.height));
        self.meet(Stage::Stem);
        match &maps.stem {
            None => self.stem_convolution(first, y),
            Some(map) => {
                self.stem_convolution(map, 0);
                for row in self.place.share(first.height) {
                    // Rows 2 row - 1 to 2 row + 1.
                    let rows = [-1, 0, 1].map(|offset| (2 * row).checked_add_signed(offset));
                    let rows = rows.map(|row| row.filter(|&row| row < map.height).map(|row| map.rows.read(row)));
                    let rows = rows.each_ref().map(|row| row.as_ref().map(|row| &row[..]));
                    let out = &mut first.rows.write(y + row)[..];
                    let (width, blocks, out_width) = (map.width, plan.stem.blocks(), first.width);
                    plan.backend.run(MaxPool { rows, width, blocks, out_width, out });
                }
                self.meet(Stage::Stem);
            }
        }
    }

    fn stem_convolution(&mut self, to: &Map, first: usize) {
        let Self { plan, maps: Maps { input, .. }, .. } = self;
        let (kernel, step) = (kernel(plan.config.stem), stride(plan.config.stem));
        let (weights, offsets) = (&plan.stem, &input.offsets[..]);
        for y in self.place.share(to.height) {
            // The guards hold the rows; a 3x3 needs only the first three.
            let guards: [_; 7] = std::array::from_fn(|row| (row < kernel).then(|| input.rows.read(step * y + row)));
            let rows = guards.each_ref().map(|row| row.as_ref().map_or(&[][..], |row| &row[..]));
            let (rows, out) = (&rows[..kernel], &mut to.rows.write(first + y)[..]);
            let relu = plan.config.stem == Stem::Imagenet;
            plan.backend.run(StemRow { weights, rows, offsets, relu, width: to.width, out });
        }
        self.meet(Stage::Stem);
    }

    /// A dense layer of some images: its new channels go behind those that it read.
    fn layer(&mut self, layer: &Layer, BlockMaps { all, inner, .. }: &BlockMaps, images: usize) {
        match &layer.bottleneck {
            Some(bottleneck) => self.bottleneck(&layer.norm, bottleneck, all, inner, images),
            None => self.activate(&layer.norm, layer.reads, all, inner, images),
        }
        match &layer.conv {
            Conv::Direct(weights) => self.direct(weights, inner, self.out(all, 0, layer.reads), images),
            Conv::Winograd(winograd) => self.winograd(winograd, layer.reads, inner, all, images),
        }
    }

    /// The 3x3, tap by tap.
    fn direct(&mut self, weights: &Packed, from: &Map, to: Out, images: usize) {
        let Self { plan, scratch, place, .. } = self;
        let pixels = place.share(images * to.map.height * to.map.width);
        for part in Chunk::all(pixels, to.map.width, CHUNK).flat_map(Chunk::parts) {
            let row = from.row(part.y);
            let rows = [row - 1, row, row + 1].map(|row| from.rows.read(row));
            let rows = rows.each_ref().map(|row| &row[..]);
            let (pitch, x, count) = (from.pitch(), part.x, part.count);
            if to.alone || count == to.map.width {
                let (mut row, out_pitch) = (to.map.rows.write(to.row(part.y)), to.map.pitch());
                let out = &mut row[to.first(0, x)..];
                plan.backend.run(Three { weights, rows, pitch, x, count, out, out_pitch });
            } else {
                let out = &mut scratch.out[..];
                plan.backend.run(Three { weights, rows, pitch, x, count, out, out_pitch: count });
                to.put(&part, 0..weights.blocks(), &scratch.out, count);
            }
        }
        self.meet(Stage::Three);
    }

    /// The 3x3 by Winograd's algorithm, some tiles at a time, behind the `reads` blocks of the map.
    fn winograd(&mut self, winograd: &Winograd, reads: usize, from: &Map, to: &Map, images: usize) {
        let Self { plan, scratch, place, .. } = self;
        let (form, first) = (winograd.form, &winograd.positions[0]);
        let (blocks, out_blocks) = (first.input.blocks(), first.blocks());
        let (down, across) = form.grid(to.height, to.width);
        let all = place.share(images * down * across);
        // Each tile's sums are the same in any chunk.
        let chunk = Tiling::cover(all.len(), TILES).tile;
        for chunk in Chunk::all(all, across, chunk) {
            let tiling = Tiling::cover(chunk.count, plan.backend.tile().0);
            let (span, tile) = (tiling.span(), tiling.tile);
            let (next, out_next) = (between(blocks, span), between(out_blocks, span));
            for part in chunk.parts() {
                let guards: [_; MOST_INPUTS] = std::array::from_fn(|row| {
                    let y = form.outputs() * (part.y % down) + row;
                    let above = from.row(part.y / down * from.height) - 1;
                    (row < form.inputs() && y < from.height + 2).then(|| from.rows.read(above + y))
                });
                let rows = guards.each_ref().map(|row| row.as_ref().map(|row| &row[..]));
                let panel = Panel { lanes: &mut scratch.tiles, blocks, tile, at: part.at };
                let (pitch, x, count) = (from.pitch(), part.x, part.count);
                plan.backend.run(ToTiles { form, rows, pitch, x, count, panel, stride: next });
            }
            scratch.clock.lap(Stage::Transforms);
            for (position, weights) in winograd.positions.iter().enumerate() {
                let panel = &scratch.tiles[position * next..][..blocks * span];
                let out = &mut scratch.products[position * out_next..];
                let groups = 0..weights.groups.len();
                plan.backend.run(Gemm { weights, groups, panel, tiling, relu: false, out, pitch: span });
            }
            scratch.clock.lap(Stage::Three);
            for part in chunk.parts() {
                let mut guards: [_; MOST_OUTPUTS] = std::array::from_fn(|row| {
                    let y = form.outputs() * (part.y % down) + row;
                    (row < form.outputs() && y < to.height).then(|| to.rows.write(part.y / down * to.height + y))
                });
                let first = reads * to.width;
                let rows = guards.each_mut().map(|row| row.as_mut().map(|row| &mut row[first..]));
                let (products, blocks, width) = (&scratch.products[..], out_blocks, to.width);
                let (stride, at, x, count) = (out_next, part.at, part.x, part.count);
                plan.backend.run(FromTiles { form, products, stride, span, at, blocks, rows, width, x, count });
            }
            scratch.clock.lap(Stage::Transforms);
        }
        self.meet(Stage::Transforms);
    }

    /// Norm, ReLU, 1x1, norm, ReLU.
    fn bottleneck(&mut self, norm: &Norm, weights: &Packed, from: &Map, to: &Map, images: usize) {
        let to = self.out(to, 0, 0);
        let Self { plan, scratch, place, .. } = self;
        let backend = plan.backend;
        let (most, _) = backend.tile();
        let (pixels, groups) = place.split(images * from.height * from.width, most, weights.groups.len());
        for chunk in Chunk::all(pixels, from.width, CHUNK) {
            let tiling = Tiling::cover(chunk.count, most);
            for part in chunk.parts() {
                let lanes = &mut scratch.panel[..];
                let panel = Panel { lanes, blocks: weights.input.blocks(), tile: tiling.tile, at: part.at };
                let row = &from.rows.read(from.row(part.y))[..];
                let (pitch, x, count, precision) = (from.width, part.x, part.count, weights.precision);
                backend.run(Activate { norm, row, pitch, x, count, panel, precision });
            }
            scratch.clock.lap(Stage::Packing);
            scratch.product(Product { backend, weights, relu: true }, groups.clone(), chunk, tiling, to);
            scratch.clock.lap(Stage::One);
        }
        self.meet(Stage::One);
    }

    /// Norm and ReLU of a plain layer.
    fn activate(&mut self, norm: &Norm, blocks: usize, from: &Map, to: &Map, images: usize) {
        for y in self.place.share(images * from.height) {
            let (row, mut padded) = (from.rows.read(from.row(y)), to.rows.write(to.row(y)));
            let panel = Panel { lanes: &mut padded, blocks, tile: to.pitch(), at: 1 };
            let (row, width, precision) = (&row[..], from.width, Precision::F32);
            self.plan.backend.run(Activate { norm, row, pitch: width, x: 0, count: width, panel, precision });
        }
        self.meet(Stage::Packing);
    }

    /// Norm, ReLU, average and 1x1: the average comes first, as the two commute, and leaves a quarter of the products.
    fn transition(&mut self, transition: &Transition, from: &Map, to: Out, images: usize) {
        let Self { plan, scratch, place, .. } = self;
        let (Transition { norm, conv: weights }, backend) = (transition, plan.backend);
        let (most, _) = backend.tile();
        let (height, width) = (to.map.height, to.map.width);
        let (pixels, groups) = place.split(images * height * width, most, weights.groups.len());
        for chunk in Chunk::all(pixels, width, CHUNK) {
            let tiling = Tiling::cover(chunk.count, most);
            for part in chunk.parts() {
                let lanes = &mut scratch.panel[..];
                let panel = Panel { lanes, blocks: weights.input.blocks(), tile: tiling.tile, at: part.at };
                let (image, y) = (part.y / height, 2 * (part.y % height));
                let rows = [y, (y + 1).min(from.height - 1)].map(|y| from.rows.read(image * from.height + y));
                let rows = rows.each_ref().map(|row| &row[..]);
                let (pitch, x, count) = (from.width, part.x, part.count);
                backend.run(ActivateAndAverage { norm, rows, pitch, x, count, panel });
            }
            scratch.product(Product { backend, weights, relu: false }, groups.clone(), chunk, tiling, to);
        }
        self.meet(Stage::Transition);
    }

    /// Norm and ReLU of this thread's pixels of the last map.
    fn features(&mut self, images: usize, mut write: impl FnMut(usize, &dyn Fn(&mut [f32]))) {
        let Self { plan, maps, scratch, place } = self;
        let Some(BlockMaps { all, .. }) = maps.blocks.last() else { return };
        let (norm, size) = (&plan.norm5, all.height * all.width);
        for pixel in place.share(images * size) {
            let (y, x) = (pixel / all.width, pixel % all.width);
            let panel = Panel { lanes: &mut scratch.features, blocks: norm.scale.len(), tile: 1, at: 0 };
            let row = &all.rows.read(y)[..];
            let precision = Precision::F32;
            plan.backend.run(Activate { norm, row, pitch: all.width, x, count: 1, panel, precision });
            write(pixel / size, &|out| {
                for (plane, value) in out.chunks_exact_mut(size).zip(plan.classifier.input.gather(&scratch.features)) {
                    plane[pixel % size] = value;
                }
            });
        }
    }

    /// The means of the features, by the first thread.
    fn pre_logits(&mut self, images: usize, mut write: impl FnMut(usize, &dyn Fn(&mut [f32]))) {
        if self.place.index > 0 {
            return;
        }
        let Tiling { tile, .. } = self.average(images);
        let input = &self.plan.classifier.input;
        for image in 0..images {
            let first = image / tile * tile * input.blocks() + image % tile;
            let values = || input.gather(self.scratch.features[first..].iter().step_by(tile));
            write(image, &|out| out.iter_mut().zip(values()).for_each(|(to, value)| *to = value));
        }
    }

    /// Norm, ReLU and mean, into a panel of images.
    fn average(&mut self, images: usize) -> Tiling {
        let Self { plan, maps, scratch, .. } = self;
        let tiling = Tiling::cover(images, plan.backend.tile().0);
        let Some(BlockMaps { all, .. }) = maps.blocks.last() else { return tiling };
        scratch.features.fill(Lanes::ZERO);
        for row in 0..images * all.height {
            let (lanes, blocks) = (&mut scratch.features[..], plan.classifier.input.blocks());
            let panel = Panel { lanes, blocks, tile: tiling.tile, at: row / all.height };
            let row = &all.rows.read(row)[..];
            plan.backend.run(SumRow { norm: &plan.norm5, row, width: all.width, panel });
        }
        let share = 1.0 / (all.height * all.width) as f32;
        scratch.features.iter_mut().flat_map(|lanes| &mut lanes.0).for_each(|sum| *sum *= share);
        tiling
    }

    /// Means and classifier. Every thread takes the means, which is little, then its share of the classes.
    fn head(&mut self, images: usize, mut write: impl FnMut(usize, &dyn Fn(&mut [f32]))) {
        let tiling = self.average(images);
        let Self { plan, scratch, place, .. } = self;
        let weights = &plan.classifier;
        let groups = place.share(weights.groups.len());
        let (panel, out, pitch) = (&scratch.features[..], &mut scratch.logits[..], tiling.span());
        plan.backend.run(Gemm { weights, groups: groups.clone(), panel, tiling, relu: false, out, pitch });
        for block in weights.blocks_of(&groups) {
            let class = block * LANES;
            for image in 0..images {
                let logits = &scratch.logits[block * pitch + image].0[..LANES.min(weights.outputs - class)];
                write(image, &|out| out[class..][..logits.len()].copy_from_slice(logits));
            }
        }
    }
}
