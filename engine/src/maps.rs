//! The buffers of one image on its way through the network.
//!
//! Each row of a map has a lock of its own. The barriers between the steps order what the threads write and read; the
//! locks, which nobody waits for, are what lets the compiler check that.

use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use densenet_arch::{Config, Rounding, Stem};

use crate::Error;
use crate::lanes::{Lanes, flush};
use crate::plan::{Plan, kernel, stride};

/// Rows of anything.
#[derive(Debug)]
pub(crate) struct Rows<T>(Vec<RwLock<Vec<T>>>);

impl<T: Clone + Default> Rows<T> {
    fn new(rows: usize, length: usize) -> Result<Self, Error> {
        Ok(Self((0..rows).map(|_| zeros(length).map(RwLock::new)).collect::<Result<_, _>>()?))
    }

    pub(crate) fn read(&self, y: usize) -> RwLockReadGuard<'_, Vec<T>> {
        self.0[y].read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self, y: usize) -> RwLockWriteGuard<'_, Vec<T>> {
        self.0[y].write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer of that many zeros, or the error that says how large it would be.
pub(crate) fn zeros<T: Clone + Default>(length: usize) -> Result<Vec<T>, Error> {
    let mut buffer = Vec::new();
    let bytes = length.saturating_mul(size_of::<T>());
    buffer.try_reserve_exact(length).map_err(|_| Error::Memory { bytes })?;
    buffer.resize(length, T::default());
    Ok(buffer)
}

/// Maps of channel blocks for some images, one below the other: each row is `[block][padding, pixels, padding]`.
#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) rows: Rows<Lanes>,
    /// Of one image.
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Zeros on each side, which nothing writes to.
    pub(crate) padding: usize,
}

impl Map {
    fn new(blocks: usize, (height, width): (usize, usize), padding: usize, images: usize) -> Result<Self, Error> {
        let rows = Rows::new(images * (height + 2 * padding), blocks * (width + 2 * padding))?;
        Ok(Self { rows, height, width, padding })
    }

    /// Where row `y` lies, counted through all images without their padding.
    pub(crate) fn row(&self, y: usize) -> usize {
        y + (2 * (y / self.height) + 1) * self.padding
    }

    /// Pixels of a row with its padding.
    pub(crate) fn pitch(&self) -> usize {
        self.width + 2 * self.padding
    }
}

/// The input, padded, in the order in which the stem reads it.
///
/// A row is `[column modulo the stem's stride][channel][column]`, so that what neighbouring outputs multiply by the same
/// weight lies side by side.
#[derive(Debug)]
pub(crate) struct Planes {
    pub(crate) rows: Rows<f32>,
    /// Where in a row the first output finds what it multiplies: column by column, channel by channel.
    pub(crate) offsets: Vec<usize>,
    channels: usize,
    pub(crate) height: usize,
    width: usize,
    padding: usize,
    stride: usize,
    /// Columns of a plane.
    plane: usize,
}

impl Planes {
    pub(crate) fn new(
        channels: usize,
        (height, width): (usize, usize),
        kernel: usize,
        stride: usize,
    ) -> Result<Self, Error> {
        let padding = kernel / 2;
        let plane = (width + 2 * padding).div_ceil(stride);
        let rows = Rows::new(height + 2 * padding, stride * channels * plane)?;
        let offset = |value| {
            let (column, channel) = (value / channels, value % channels);
            (column % stride * channels + channel) * plane + column / stride
        };
        let offsets = (0..kernel * channels).map(offset).collect();
        Ok(Self { rows, offsets, channels, height, width, padding, stride, plane })
    }

    /// Values of an image.
    pub(crate) fn size(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Takes some rows of an image, (channels, height, width).
    pub(crate) fn load(&self, image: &[f32], rows: Range<usize>) {
        let Self { channels, width, padding, stride, plane, .. } = *self;
        let size = image.len() / channels;
        for y in rows {
            let row = &mut self.rows.write(padding + y)[..];
            for phase in 0..stride {
                let first = (phase + stride * padding - padding) % stride;
                let at = (first + padding) / stride;
                for channel in 0..channels {
                    let from = &image[channel * size + y * width..][..width];
                    let to = &mut row[(phase * channels + channel) * plane + at..];
                    to.iter_mut()
                        .zip(from.iter().skip(first).step_by(stride))
                        .for_each(|(to, from)| *to = flush(*from));
                }
            }
        }
    }
}

/// The maps of a dense block.
#[derive(Debug)]
pub(crate) struct BlockMaps {
    /// All the block's channels; each layer writes its own behind those that it reads.
    pub(crate) all: Map,
    /// What the 3x3 reads, padded.
    pub(crate) inner: Map,
    /// Images that there is room for, a power of two: small maps are computed for several at once, so that the weights are
    /// read once for all.
    pub(crate) images: usize,
}

/// Pixels below which several images' maps are computed at once: as many as make a panel's weights worth their reading.
const PIXELS: usize = 400;

/// All buffers of an image or a few.
#[derive(Debug)]
pub(crate) struct Maps {
    pub(crate) input: Planes,
    /// The ImageNet stem's map before its max-pool.
    pub(crate) stem: Option<Map>,
    pub(crate) blocks: Vec<BlockMaps>,
}

impl Maps {
    /// Buffers for up to `images` images of a size that [`sides`] accepts.
    pub(crate) fn new(plan: &Plan, (height, width): (usize, usize), images: usize) -> Result<Self, Error> {
        let config = &plan.config;
        let input = Planes::new(config.in_channels, (height, width), kernel(config.stem), stride(config.stem))?;
        let stem = match config.stem {
            Stem::Imagenet => Some(Map::new(plan.stem.blocks(), (height.div_ceil(2), width.div_ceil(2)), 0, 1)?),
            Stem::Cifar => None,
        };
        let sizes = sides(config, height).zip(sides(config, width));
        let blocks = plan.blocks.iter().zip(sizes).map(|(block, size)| {
            let reads = block.layers.iter().map(|layer| layer.conv.packed().input.blocks()).max().unwrap_or(0);
            let images = power_below(images.min(PIXELS / (size.0 * size.1)));
            let all = Map::new(block.layout.blocks(), size, 0, images)?;
            Ok(BlockMaps { all, inner: Map::new(reads, size, 1, images)?, images })
        });
        Ok(Self { input, stem, blocks: blocks.collect::<Result<_, Error>>()? })
    }
}

/// The largest power of two up to a number, 1 at least.
fn power_below(number: usize) -> usize {
    1 << number.max(1).ilog2()
}

impl Maps {
    /// Images that the last block has room for.
    pub(crate) fn images(&self) -> usize {
        self.blocks.last().map_or(0, |last| last.images)
    }
}

/// Sides of the blocks' maps for an input's side.
pub(crate) fn sides(config: &Config, side: usize) -> impl Iterator<Item = usize> {
    let pooling = config.pooling;
    let first = match (config.stem, pooling) {
        (Stem::Imagenet, Rounding::Floor) => side.div_ceil(2).div_ceil(2),
        // The max-pool's window begins one pixel outside.
        (Stem::Imagenet, Rounding::Ceil) => side.div_ceil(2) / 2 + 1,
        (Stem::Cifar, _) => side,
    };
    let transition = move |side: &usize| match pooling {
        Rounding::Floor => Some(side / 2),
        Rounding::Ceil => Some(side.div_ceil(2)),
    };
    std::iter::successors(Some(first), transition).take(config.block_config.len())
}

/// The smallest side of an input for which no map is empty.
pub(crate) fn least_side(config: &Config) -> usize {
    let first = 1 << (config.block_config.len() - 1);
    match (config.pooling, config.stem) {
        (Rounding::Ceil, _) => 1,
        (Rounding::Floor, Stem::Imagenet) => 4 * first - 3,
        (Rounding::Floor, Stem::Cifar) => first,
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
        let ceil = Config { pooling: Rounding::Ceil, ..imagenet };
        assert_eq!(sides(&ceil, 224).collect::<Vec<_>>(), [57, 29, 15, 8]);
        assert_eq!(sides(&ceil, 53).collect::<Vec<_>>(), [14, 7, 4, 2]);
        assert_eq!((least_side(&ceil), sides(&ceil, 1).last()), (1, Some(1)));
        let cifar = Config::cifar(10, 4).unwrap();
        assert_eq!(sides(&cifar, 33).collect::<Vec<_>>(), [33, 16, 8]);
        assert_eq!(least_side(&cifar), 4);
    }

    #[test]
    fn a_buffer_past_all_memory_is_an_error() {
        assert_eq!(
            zeros::<Lanes>(usize::MAX / 2).unwrap_err().to_string(),
            format!(
                "{} bytes of memory for a buffer are not to be had; take smaller images, batches or fewer threads",
                usize::MAX
            )
        );
        assert_eq!(zeros::<f32>(2).unwrap(), [0.0, 0.0]);
    }
}
