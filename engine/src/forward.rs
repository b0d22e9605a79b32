//! One image through the network, step by step, by one thread of those that share it.

use densenet_arch::Stem;

use crate::fold::Norm;
use crate::kernels::{
    Activate, ActivateAndAverage, Backend, CHUNK, FromTiles, Gemm, MaxPool, POSITIONS, Panel, ROOM, SumRow, TILE_SIDE,
    Three, Tiling, ToTiles, patches,
};
use crate::lanes::{LANES, Lanes};
use crate::maps::{BlockMaps, Map, Maps};
use crate::packed::Packed;
use crate::plan::{Layer, Plan, Transition, kernel};
use crate::team::Place;
use crate::winograd::{TILES, TILES_ROOM, Winograd, stride};

/// What a thread needs for itself.
#[derive(Debug)]
pub(crate) struct Scratch {
    panel: Vec<Lanes>,
    out: Vec<Lanes>,
    /// Transformed tiles, `[position][tile][input block][tile's place]`.
    tiles: Vec<Lanes>,
    /// Their products, `[position][output block][tile's place]`.
    products: Vec<Lanes>,
    /// A stem's patch.
    window: Vec<f32>,
    /// The mean of each feature.
    features: Vec<Lanes>,
    /// The classifier's output.
    logits: Vec<Lanes>,
}

impl Scratch {
    /// What a plan needs for those maps.
    pub(crate) fn new(plan: &Plan, maps: &Maps) -> Self {
        let layers = plan.blocks.iter().flat_map(|block| &block.layers);
        let transitions = plan.blocks.iter().filter_map(|block| block.transition.as_ref());
        let products = layers
            .filter_map(|layer| layer.bottleneck.as_ref())
            .chain(transitions.map(|transition| &transition.conv))
            .chain([&plan.stem]);
        let room = |size: fn(&Packed) -> usize| products.clone().map(size).max().unwrap_or(0) * ROOM;
        let large = plan.blocks.iter().zip(&maps.blocks).filter(|(_, maps)| Winograd::pays(&maps.all));
        let layers = large.flat_map(|(block, _)| &block.layers).filter(|layer| layer.winograd.is_some());
        let tiles = |size: fn(&Packed) -> usize| {
            let most = layers.clone().map(|layer| size(&layer.conv)).max();
            most.map_or(0, |blocks| POSITIONS * stride(blocks, TILES_ROOM))
        };
        Self {
            panel: vec![Lanes::ZERO; room(|packed| packed.input.blocks())],
            out: vec![Lanes::ZERO; room(Packed::blocks)],
            tiles: vec![Lanes::ZERO; tiles(|packed| packed.input.blocks())],
            products: vec![Lanes::ZERO; tiles(Packed::blocks)],
            window: vec![0.0; plan.stem.input.blocks() * LANES],
            features: vec![Lanes::ZERO; plan.classifier.input.blocks()],
            logits: vec![Lanes::ZERO; plan.classifier.blocks()],
        }
    }

    /// Multiplies the panel that holds a chunk by the weights, into the map.
    fn product(&mut self, backend: Backend, weights: &Packed, tiling: Tiling, relu: bool, chunk: Chunk, to: &Map) {
        let (groups, panel, pitch) = (0..weights.groups.len(), &self.panel[..], to.pitch());
        if let Some(part) = chunk.only_part().filter(|_| tiling.span() == chunk.count) {
            let out = &mut to.rows.write(part.y + to.padding)[to.padding + part.x..];
            backend.run(Gemm { weights, groups, panel, tiling, relu, out, pitch });
            return;
        }
        let pitch = tiling.span();
        backend.run(Gemm { weights, groups, panel, tiling, relu, out: &mut self.out, pitch });
        chunk.scatter(&self.out, pitch, weights.blocks(), to);
    }
}

/// A thread at work on an image.
pub(crate) struct Forward<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) maps: &'a Maps,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) place: Place<'a>,
}

impl Forward<'_> {
    /// Runs an image, (channels, height, width). `show` gets this thread's share of the outputs, each time with the
    /// class of the first.
    pub(crate) fn run(&mut self, image: &[f32], (height, width): (usize, usize), show: impl FnMut(usize, &[f32])) {
        self.load(image, height, width);
        self.place.meet();
        self.stem();
        let (plan, maps) = (self.plan, self.maps);
        for (index, (block, own)) in plan.blocks.iter().zip(&maps.blocks).enumerate() {
            for (number, layer) in block.layers.iter().enumerate() {
                self.layer(layer, &own.all, &own.inner[number % own.inner.len()]);
            }
            if let (Some(transition), Some(next)) = (&block.transition, maps.blocks.get(index + 1)) {
                self.place.meet();
                self.transition(transition, &own.all, &next.all);
            }
        }
        self.place.meet();
        self.head(show);
    }

    /// Copies this thread's rows of the image into the padded map, channels last.
    fn load(&self, image: &[f32], height: usize, width: usize) {
        let channels = self.plan.config.in_channels;
        let padding = kernel(self.plan.config.stem) / 2;
        for y in self.place.share(height) {
            let mut row = self.maps.input.write(padding + y);
            let row = &mut row[padding * channels..][..width * channels];
            for (channel, plane) in image.chunks_exact(height * width).enumerate() {
                for (pixel, &value) in row.chunks_exact_mut(channels).zip(&plane[y * width..]) {
                    pixel[channel] = value;
                }
            }
        }
    }

    /// The stem's convolution, and behind ImageNet's its max-pool, into the first block's map.
    fn stem(&mut self) {
        let Some(first) = self.maps.blocks.first().map(|block| &block.all) else { return };
        let Some(map) = &self.maps.stem else { return self.stem_convolution(first) };
        self.stem_convolution(map);
        self.place.meet();
        for y in self.place.share(first.height) {
            // Rows 2y - 1 to 2y + 1.
            let rows = [-1, 0, 1].map(|offset| (2 * y).checked_add_signed(offset).filter(|&row| row < map.height));
            let rows = rows.map(|row| row.map(|row| map.rows.read(row)));
            let rows = rows.each_ref().map(|row| row.as_ref().map(|row| &row[..]));
            let out = &mut first.rows.write(y)[..];
            self.plan.backend.run(MaxPool { rows, width: map.width, blocks: self.plan.stem.blocks(), out });
        }
    }

    fn stem_convolution(&mut self, to: &Map) {
        let Self { plan, maps, scratch, place } = self;
        let (stem, channels) = (plan.config.stem, plan.config.in_channels);
        let stride = if stem == Stem::Imagenet { 2 } else { 1 };
        let (kernel, run) = (kernel(stem), kernel(stem) * channels);
        let rows = place.share(to.height);
        for chunk in Chunk::all(rows, to.width, CHUNK) {
            let tiling = Tiling::cover(chunk.count, plan.backend.tile().0);
            let blocks = plan.stem.input.blocks();
            let mut panel = Panel { lanes: &mut scratch.panel, blocks, tile: tiling.tile, at: 0 };
            for part in chunk.parts() {
                // The guards hold the rows for all pixels of the part; a 3x3 needs only the first three.
                let guards: [_; 7] =
                    std::array::from_fn(|row| (row < kernel).then(|| maps.input.read(stride * part.y + row)));
                for x in part.x..part.x + part.count {
                    let pieces = guards.iter().flatten().map(|row| &row[stride * x * channels..][..run]);
                    patches(&mut panel, pieces, &mut scratch.window);
                }
            }
            scratch.product(plan.backend, &plan.stem, tiling, stem == Stem::Imagenet, chunk, to);
        }
    }

    /// A dense layer: its new channels go behind those that it read.
    fn layer(&mut self, layer: &Layer, all: &Map, inner: &Map) {
        match &layer.bottleneck {
            Some(bottleneck) => self.bottleneck(&layer.norm, bottleneck, all, inner),
            None => self.activate(&layer.norm, layer.reads, all, inner),
        }
        self.place.meet();
        if let Some(winograd) = layer.winograd.as_ref().filter(|_| Winograd::pays(all)) {
            self.fast(winograd, layer, inner, all);
            // The next layer's bands are of rows and not of tiles.
            self.place.meet();
            return;
        }
        for y in self.place.share(all.height) {
            let rows = [y, y + 1, y + 2].map(|row| inner.rows.read(row));
            let rows = rows.each_ref().map(|row| &row[..]);
            let out = &mut all.rows.write(y)[layer.reads * all.width..];
            let (weights, width) = (&layer.conv, all.width);
            self.plan.backend.run(Three { weights, rows, width, out, pitch: width });
        }
    }

    /// The 3x3 by Winograd's algorithm, some tiles at a time.
    fn fast(&mut self, winograd: &Winograd, layer: &Layer, from: &Map, to: &Map) {
        let Self { plan, scratch, place, .. } = self;
        let (blocks, out_blocks) = (layer.conv.input.blocks(), layer.conv.blocks());
        let (down, across) = Winograd::grid(to);
        let tile_rows = place.share(down);
        // Each tile's sums are the same in any chunk.
        let chunk = Tiling::cover(tile_rows.len() * across, TILES).tile;
        for chunk in Chunk::all(tile_rows, across, chunk) {
            let tiling = Tiling::cover(chunk.count, plan.backend.tile().0);
            let (span, tile) = (tiling.span(), tiling.tile);
            let (between, out_between) = (stride(blocks, span), stride(out_blocks, span));
            for part in chunk.parts() {
                let guards: [_; 6] = std::array::from_fn(|row| {
                    let y = TILE_SIDE * part.y + row;
                    (y < from.height + 2).then(|| from.rows.read(y))
                });
                let rows = guards.each_ref().map(|row| row.as_ref().map(|row| &row[..]));
                let panel = Panel { lanes: &mut scratch.tiles, blocks, tile, at: part.at };
                let (pitch, x, count) = (from.pitch(), part.x, part.count);
                plan.backend.run(ToTiles { rows, pitch, x, count, panel, stride: between });
            }
            for (position, weights) in winograd.positions.iter().enumerate() {
                let panel = &scratch.tiles[position * between..][..blocks * span];
                let out = &mut scratch.products[position * out_between..];
                let groups = 0..weights.groups.len();
                plan.backend.run(Gemm { weights, groups, panel, tiling, relu: false, out, pitch: span });
            }
            for part in chunk.parts() {
                let mut guards: [_; TILE_SIDE] = std::array::from_fn(|row| {
                    let y = TILE_SIDE * part.y + row;
                    (y < to.height).then(|| to.rows.write(y))
                });
                let first = layer.reads * to.width;
                let rows = guards.each_mut().map(|row| row.as_mut().map(|row| &mut row[first..]));
                let (products, blocks, width) = (&scratch.products[..], out_blocks, to.width);
                let (stride, at, x, count) = (out_between, part.at, part.x, part.count);
                plan.backend.run(FromTiles { products, stride, span, at, blocks, rows, width, x, count });
            }
        }
    }

    /// Norm, ReLU, 1x1, norm, ReLU.
    fn bottleneck(&mut self, norm: &Norm, conv: &Packed, from: &Map, to: &Map) {
        let Self { plan, scratch, place, .. } = self;
        for chunk in Chunk::all(place.share(to.height), to.width, CHUNK) {
            let tiling = Tiling::cover(chunk.count, plan.backend.tile().0);
            for part in chunk.parts() {
                let lanes = &mut scratch.panel[..];
                let panel = Panel { lanes, blocks: conv.input.blocks(), tile: tiling.tile, at: part.at };
                let row = &from.rows.read(part.y)[..];
                plan.backend.run(Activate { norm, row, pitch: from.width, x: part.x, count: part.count, panel });
            }
            scratch.product(plan.backend, conv, tiling, true, chunk, to);
        }
    }

    /// Norm and ReLU of a plain layer.
    fn activate(&self, norm: &Norm, blocks: usize, from: &Map, to: &Map) {
        for y in self.place.share(from.height) {
            let (row, mut padded) = (from.rows.read(y), to.rows.write(y + 1));
            let panel = Panel { lanes: &mut padded, blocks, tile: to.pitch(), at: 1 };
            let (row, width) = (&row[..], from.width);
            self.plan.backend.run(Activate { norm, row, pitch: width, x: 0, count: width, panel });
        }
    }

    /// Norm, ReLU, average and 1x1: the average comes first, as the two commute, and leaves a quarter of the products.
    fn transition(&mut self, transition: &Transition, from: &Map, to: &Map) {
        let Self { plan, scratch, place, .. } = self;
        let Transition { norm, conv } = transition;
        for chunk in Chunk::all(place.share(to.height), to.width, CHUNK) {
            let tiling = Tiling::cover(chunk.count, plan.backend.tile().0);
            for part in chunk.parts() {
                let lanes = &mut scratch.panel[..];
                let panel = Panel { lanes, blocks: conv.input.blocks(), tile: tiling.tile, at: part.at };
                let rows = [from.rows.read(2 * part.y), from.rows.read(2 * part.y + 1)];
                let rows = rows.each_ref().map(|row| &row[..]);
                let (pitch, x, count) = (from.width, part.x, part.count);
                plan.backend.run(ActivateAndAverage { norm, rows, pitch, x, count, panel });
            }
            scratch.product(plan.backend, conv, tiling, false, chunk, to);
        }
    }

    /// Norm, ReLU, mean and classifier. Every thread takes the mean, which is little, then its share of the classes.
    fn head(&mut self, mut show: impl FnMut(usize, &[f32])) {
        let Self { plan, maps, scratch, place } = self;
        let Some(BlockMaps { all, .. }) = maps.blocks.last() else { return };
        scratch.features.fill(Lanes::ZERO);
        for y in 0..all.height {
            let row = &all.rows.read(y)[..];
            plan.backend.run(SumRow { norm: &plan.norm5, row, width: all.width, sums: &mut scratch.features });
        }
        let share = 1.0 / (all.height * all.width) as f32;
        scratch.features.iter_mut().flat_map(|lanes| &mut lanes.0).for_each(|sum| *sum *= share);

        let weights = &plan.classifier;
        let groups = place.share(weights.groups.len());
        let tiling = Tiling { tile: 1, tiles: 1 };
        let (panel, out) = (&scratch.features[..], &mut scratch.logits[..]);
        plan.backend.run(Gemm { weights, groups: groups.clone(), panel, tiling, relu: false, out, pitch: 1 });
        for group in &weights.groups[groups] {
            for block in group.first..group.first + group.bias.len() {
                let class = block * LANES;
                show(class, &scratch.logits[block].0[..LANES.min(weights.outputs - class)]);
            }
        }
    }
}

/// Some pixels of a band of rows, as many as a panel takes, in reading order.
#[derive(Clone, Copy)]
struct Chunk {
    /// The first pixel, counted from the map's first.
    first: usize,
    count: usize,
    width: usize,
}

/// The pixels of a chunk that lie in one row.
struct Part {
    y: usize,
    x: usize,
    count: usize,
    /// Its first pixel's place in the chunk.
    at: usize,
}

impl Chunk {
    /// All chunks of the rows, each of at most `most` pixels.
    fn all(rows: std::ops::Range<usize>, width: usize, most: usize) -> impl Iterator<Item = Self> {
        let end = rows.end * width;
        (rows.start * width..end).step_by(most).map(move |first| Self { first, count: most.min(end - first), width })
    }

    /// Row by row.
    fn parts(self) -> impl Iterator<Item = Part> {
        let end = self.first + self.count;
        (self.first / self.width..end.div_ceil(self.width)).map(move |y| {
            let start = self.first.max(y * self.width);
            let count = end.min((y + 1) * self.width) - start;
            Part { y, x: start - y * self.width, count, at: start - self.first }
        })
    }

    /// The only part, where the chunk lies in one row.
    fn only_part(self) -> Option<Part> {
        self.parts().next().filter(|part| part.count == self.count)
    }

    /// Puts a product's pixels, `[block][span]`, where they belong in the map.
    fn scatter(self, out: &[Lanes], span: usize, blocks: usize, to: &Map) {
        for part in self.parts() {
            let mut row = to.rows.write(part.y + to.padding);
            for block in 0..blocks {
                row[block * to.pitch() + to.padding + part.x..][..part.count]
                    .copy_from_slice(&out[block * span + part.at..][..part.count]);
            }
        }
    }
}
