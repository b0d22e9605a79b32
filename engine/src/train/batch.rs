//! The buffers of a batch's images, and the threads that work on them.

use std::sync::{Mutex, PoisonError};

use densenet_arch::{Config, Stem};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::network::Network;
use super::statistics::{Moments, Sums};
use super::three::Tiles;
use crate::Error;
use crate::lanes::Lanes;
use crate::maps::{sides, zeros};
use crate::plan::kernel;

/// Parts of a large batch: each sums its own gradients of weights, which are then added up in the parts' order.
const PARTS: usize = 8;
/// Images in a part of a batch that is larger still, up to four times the parts.
const IMAGES: usize = 4;

/// What is kept of one image between the steps of a pass. Maps are `[block][pixel]`.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// The image, padded, channels last.
    pub(crate) input: Vec<f32>,
    /// What ImageNet's stem convolves it to.
    pub(crate) stem: Vec<Lanes>,
    /// The map of each block.
    pub(crate) maps: Vec<Vec<Lanes>>,
    /// What the 1x1 of a layer gives, by [`Sizes::inner`].
    pub(crate) inner: Vec<Vec<Lanes>>,
    /// The gradients of two consecutive blocks' maps, by the block's number modulo 2.
    pub(crate) gradients: [Vec<Lanes>; 2],
    /// That of what a 1x1 gives.
    pub(crate) inner_gradient: Vec<Lanes>,
    /// The mean of each feature, then its gradient.
    pub(crate) features: Vec<Lanes>,
    /// Of the blocks that a step writes.
    pub(crate) moments: Vec<Moments>,
    /// Of the blocks that a step goes back through.
    pub(crate) sums: Vec<Sums>,
}

/// The sizes of everything.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Height and width of the stem's own map.
    pub(crate) stem: (usize, usize),
    /// Of each block's map.
    pub(crate) blocks: Vec<(usize, usize)>,
    /// For each layer of the network which of [`Image::inner`] is its 1x1's.
    pub(crate) inner: Vec<usize>,
    /// The first part of the network that is trained.
    pub(crate) first: usize,
}

impl Sizes {
    /// `kept`: what the 1x1 gives is kept for each layer that is trained, from part `first` of the network on.
    pub(crate) fn new(
        config: &Config,
        network: &Network,
        (height, width): (usize, usize),
        first: usize,
        kept: bool,
    ) -> Self {
        let stem = match config.stem {
            Stem::Imagenet => (height.div_ceil(2), width.div_ceil(2)),
            Stem::Cifar => (height, width),
        };
        let blocks = sides(config, height).zip(sides(config, width)).collect();
        let mut next = 0;
        let mut inner = Vec::new();
        for (number, block) in network.blocks.iter().enumerate() {
            let own = kept && block_part(number) >= first;
            for layer in &block.layers {
                let keep = own && layer.bottleneck.is_some();
                next += usize::from(keep);
                // The first is shared by all that are not kept.
                inner.push(if keep { next } else { 0 });
            }
        }
        Self { height, width, stem, blocks, inner, first }
    }

    /// Whether what a layer's 1x1 gives is still there on the way back.
    pub(crate) fn keeps(&self, layer: usize) -> bool {
        self.inner[layer] > 0
    }

    /// Pixels of a block's map.
    pub(crate) fn pixels(&self, block: usize) -> usize {
        let (height, width) = self.blocks[block];
        height * width
    }
}

/// A block's number among the network's parts: stem, block, transition, block and so on, norm, classifier.
pub(crate) fn block_part(number: usize) -> usize {
    2 * number + 1
}

impl Image {
    fn new(config: &Config, network: &Network, sizes: &Sizes) -> Result<Self, Error> {
        let padding = kernel(config.stem) / 2;
        let input = zeros((sizes.height + 2 * padding) * (sizes.width + 2 * padding) * config.in_channels)?;
        let stem = match config.stem {
            Stem::Imagenet => zeros(network.stem.output.blocks() * sizes.stem.0 * sizes.stem.1)?,
            Stem::Cifar => Vec::new(),
        };
        let mut image = Self { input, stem, ..Self::default() };
        let mut inner = vec![0; 1 + sizes.inner.iter().max().copied().unwrap_or(0)];
        let (mut gradients, mut inner_gradient) = ([0; 2], 0);
        for (number, block) in network.blocks.iter().enumerate() {
            let map = block.layout.blocks() * sizes.pixels(number);
            image.maps.push(zeros(map)?);
            let goes_back = block_part(number) + 1 >= sizes.first;
            if goes_back {
                gradients[number % 2] = map.max(gradients[number % 2]);
            }
            for layer in &block.layers {
                let Some((conv, _)) = &layer.bottleneck else { continue };
                let own = conv.output.blocks() * sizes.pixels(number);
                let at = &mut inner[sizes.inner[layer.number]];
                *at = own.max(*at);
                if goes_back {
                    inner_gradient = own.max(inner_gradient);
                }
            }
        }
        image.inner = inner.into_iter().map(zeros).collect::<Result<_, _>>()?;
        for (buffer, length) in image.gradients.iter_mut().zip(gradients) {
            *buffer = zeros(length)?;
        }
        image.inner_gradient = zeros(inner_gradient)?;
        image.features = zeros(network.classifier.input.blocks())?;
        Ok(image)
    }

    /// Moments of that many blocks, of nothing yet.
    pub(crate) fn clear_moments(&mut self, blocks: usize) {
        self.moments.clear();
        self.moments.resize(blocks, Moments::default());
    }

    /// Sums of that many blocks, of nothing yet.
    pub(crate) fn clear_sums(&mut self, blocks: usize) {
        self.sums.clear();
        self.sums.resize(blocks, Sums::default());
    }
}

/// The gradients of a block's map and of the next's.
pub(crate) fn of_block([even, odd]: &mut [Vec<Lanes>; 2], block: usize) -> (&mut Vec<Lanes>, &mut Vec<Lanes>) {
    if block.is_multiple_of(2) { (even, odd) } else { (odd, even) }
}

/// A batch's images and the sums of their gradients of weights.
#[derive(Debug)]
pub(crate) struct Batch {
    images: Vec<Image>,
    sums: Vec<Vec<Lanes>>,
    /// Images at work.
    count: usize,
}

/// Consecutive images of a batch. One thread works on a part.
pub(crate) struct Part<'a> {
    /// The first image's number in the batch.
    pub(crate) first: usize,
    pub(crate) images: &'a mut [Image],
    /// The part's gradient of the weights in work.
    pub(crate) sums: &'a mut Vec<Lanes>,
}

impl Batch {
    pub(crate) fn new(config: &Config, network: &Network, sizes: &Sizes, images: usize) -> Result<Self, Error> {
        let images = (0..images).map(|_| Image::new(config, network, sizes)).collect::<Result<Vec<_>, _>>()?;
        let count = images.len();
        let sums = (0..parts(count)).map(|_| Vec::new()).collect();
        Ok(Self { images, sums, count })
    }

    /// Takes the first `count` images to work.
    pub(crate) fn take(&mut self, count: usize) {
        self.count = count;
    }

    /// The images at work.
    pub(crate) fn images(&self) -> &[Image] {
        &self.images[..self.count]
    }

    /// The images at work.
    pub(crate) fn images_mut(&mut self) -> &mut [Image] {
        &mut self.images[..self.count]
    }

    /// The images at work, in parts that depend on their number alone: so do all sums.
    pub(crate) fn parts(&mut self) -> Vec<Part<'_>> {
        let size = self.count.div_ceil(parts(self.count));
        let parts = self.images[..self.count].chunks_mut(size).zip(&mut self.sums).enumerate();
        parts.map(|(part, (images, sums))| Part { first: part * size, images, sums }).collect()
    }

    /// Each part's sums, in order; `length` vectors of each.
    pub(crate) fn sums(&self, length: usize) -> impl Iterator<Item = &[Lanes]> {
        let size = self.count.div_ceil(parts(self.count));
        self.sums.iter().take(self.count.div_ceil(size)).map(move |sums| &sums[..length])
    }
}

/// Into how many parts a batch goes.
fn parts(images: usize) -> usize {
    images.min(PARTS).max((images / IMAGES).min(4 * PARTS)).max(1)
}

impl Part<'_> {
    /// The images with their numbers in the batch, and the sums, `length` of them, zeroed.
    pub(crate) fn begin(&mut self, length: usize) -> (impl Iterator<Item = (usize, &mut Image)>, &mut [Lanes]) {
        if self.sums.len() < length {
            self.sums.resize(length, Lanes::ZERO);
        }
        let sums = &mut self.sums[..length];
        sums.fill(Lanes::ZERO);
        ((self.first..).zip(self.images.iter_mut()), sums)
    }
}

/// What a thread needs for itself: panels and bands that stay in its caches. They grow to what the network needs.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) panel: Vec<Lanes>,
    pub(crate) gradient_panel: Vec<Lanes>,
    pub(crate) out: Vec<Lanes>,
    pub(crate) band: Vec<Lanes>,
    pub(crate) gradient_band: Vec<Lanes>,
    /// A stem's gradient, and what is pooled from it.
    pub(crate) stem: Vec<Lanes>,
    /// A stem's patch.
    pub(crate) window: Vec<f32>,
    pub(crate) tiles: Tiles,
}

/// The first `length` vectors of a buffer that grows.
pub(crate) fn room(buffer: &mut Vec<Lanes>, length: usize) -> &mut [Lanes] {
    if buffer.len() < length {
        buffer.resize(length, Lanes::ZERO);
    }
    &mut buffer[..length]
}

/// The scratch of each thread.
#[derive(Debug)]
pub(crate) struct Team(Vec<Mutex<Scratch>>);

impl Team {
    pub(crate) fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Mutex::default()).collect())
    }

    /// Works on all parts; called by one of the threads.
    pub(crate) fn each<'a>(&self, parts: Vec<Part<'a>>, work: impl Fn(Part<'a>, &mut Scratch) + Sync) {
        parts.into_par_iter().for_each(|part| {
            let thread = rayon::current_thread_index().unwrap_or(0);
            // No two threads have the same index; the lock lets the compiler see it.
            work(part, &mut self.0[thread].lock().unwrap_or_else(PoisonError::into_inner));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_images_once_in_order() {
        for count in 1..=140 {
            let images = (0..count).map(|_| Image::default()).collect();
            let mut batch = Batch { images, sums: vec![Vec::new(); parts(count)], count };
            let mut next = 0;
            for part in batch.parts() {
                assert_eq!(part.first, next);
                next += part.images.len();
            }
            assert_eq!(next, count);
            assert!(batch.parts().len() >= count.min(5), "{count}");
        }
        assert_eq!([1, 8, 16, 64, 256, 1000].map(parts), [1, 8, 8, 16, 32, 32]);
    }
}
