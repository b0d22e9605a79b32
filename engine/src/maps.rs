//! The buffers of one image on its way through the network.
//!
//! Each row of a map has a lock of its own. The barriers between the steps order what the threads write and read; the
//! locks, which nobody waits for, are what lets the compiler check that.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use densenet_arch::{Config, Stem};

use crate::lanes::Lanes;
use crate::plan::{Plan, kernel};

/// Rows of anything.
#[derive(Debug)]
pub(crate) struct Rows<T>(Vec<RwLock<Vec<T>>>);

impl<T: Clone> Rows<T> {
    fn new(rows: usize, row: &[T]) -> Self {
        Self((0..rows).map(|_| RwLock::new(row.to_vec())).collect())
    }

    pub(crate) fn read(&self, y: usize) -> RwLockReadGuard<'_, Vec<T>> {
        self.0[y].read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self, y: usize) -> RwLockWriteGuard<'_, Vec<T>> {
        self.0[y].write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A map of channel blocks: each row is `[block][padding, pixels, padding]`.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) rows: Rows<Lanes>,
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Zeros on each side, which nothing writes to.
    pub(crate) padding: usize,
}

impl Map {
    fn new(blocks: usize, (height, width): (usize, usize), padding: usize) -> Self {
        let row = vec![Lanes::ZERO; blocks * (width + 2 * padding)];
        Self { rows: Rows::new(height + 2 * padding, &row), height, width, padding }
    }

    /// Pixels of a row with its padding.
    pub(crate) fn pitch(&self) -> usize {
        self.width + 2 * self.padding
    }
}

/// The maps of a dense block.
#[derive(Debug)]
pub(crate) struct BlockMaps {
    /// All the block's channels; each layer writes its own behind those that it reads.
    pub(crate) all: Map,
    /// What the 3x3 reads, padded. The layers take turns, so that one thread may begin a layer while another ends the
    /// one before.
    pub(crate) inner: Vec<Map>,
}

/// All buffers of one image.
#[derive(Debug)]
pub(crate) struct Maps {
    /// The input, padded, channels last.
    pub(crate) input: Rows<f32>,
    /// The ImageNet stem's map before its max-pool.
    pub(crate) stem: Option<Map>,
    pub(crate) blocks: Vec<BlockMaps>,
}

impl Maps {
    /// Buffers for an image that [`sides`] accepts. `shared`: several threads work on it.
    pub(crate) fn new(plan: &Plan, (height, width): (usize, usize), shared: bool) -> Self {
        let config = &plan.config;
        let padding = kernel(config.stem) / 2;
        let row = vec![0.0; (width + 2 * padding) * config.in_channels];
        let stem = (config.stem == Stem::Imagenet)
            .then(|| Map::new(plan.stem.blocks(), (height.div_ceil(2), width.div_ceil(2)), 0));
        let sizes = sides(config, height).zip(sides(config, width));
        let blocks = plan.blocks.iter().zip(sizes).map(|(block, size)| {
            let reads = block.layers.iter().map(|layer| layer.conv.input.blocks()).max().unwrap_or(0);
            let inner = (0..if shared { 2 } else { 1 }).map(|_| Map::new(reads, size, 1)).collect();
            BlockMaps { all: Map::new(block.layout.blocks(), size, 0), inner }
        });
        Self { input: Rows::new(height + 2 * padding, &row), stem, blocks: blocks.collect() }
    }
}

/// Sides of the blocks' maps for an input's side.
pub(crate) fn sides(config: &Config, side: usize) -> impl Iterator<Item = usize> {
    let first = match config.stem {
        Stem::Imagenet => side.div_ceil(2).div_ceil(2),
        Stem::Cifar => side,
    };
    (0..config.block_config.len()).map(move |block| first >> block)
}

/// The smallest side of an input for which no map is empty.
pub(crate) fn least_side(config: &Config) -> usize {
    let first = 1 << (config.block_config.len() - 1);
    match config.stem {
        Stem::Imagenet => 4 * first - 3,
        Stem::Cifar => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_those_of_the_poolings() {
        let imagenet = Config::imagenet(&[1; 4], 4, 8);
        assert_eq!(sides(&imagenet, 224).collect::<Vec<_>>(), [56, 28, 14, 7]);
        assert_eq!(sides(&imagenet, 53).collect::<Vec<_>>(), [14, 7, 3, 1]);
        assert_eq!(least_side(&imagenet), 29);
        assert_eq!(sides(&imagenet, 29).last(), Some(1));
        assert_eq!(sides(&imagenet, 28).last(), Some(0));
        let cifar = Config::cifar(10, 4).unwrap();
        assert_eq!(sides(&cifar, 33).collect::<Vec<_>>(), [33, 16, 8]);
        assert_eq!(least_side(&cifar), 4);
    }
}
