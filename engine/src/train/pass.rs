//! The buffers and numbers of a pass, there and back.

use densenet_arch::Config;

use super::batch::{Batch, Sizes, Team};
use super::deferred::Deferred;
use super::dropout::{Dropout, Mask, Site};
use super::network::{BatchNorm, Network};
use super::statistics::Statistics;
use super::store::Store;
use crate::kernels::Backend;
use crate::kernels::train::Terms;
use crate::lanes::LANES;
use crate::plan::Convolutions;

/// The least side of a map for which Winograd's algorithm pays: the tiles at the edge of a smaller one are mostly empty.
const LEAST_SIDE: usize = 12;
/// Share of a new batch in the running statistics, as Torch and PyTorch have it.
const MOMENTUM: f64 = 0.1;

/// A network on its way through a batch.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) backend: Backend,
    pub(crate) network: Network,
    pub(crate) parameters: Store,
    /// Running means and variances.
    pub(crate) running: Store,
    /// One for each parameter.
    pub(crate) gradients: Vec<f32>,
    pub(crate) sizes: Sizes,
    pub(crate) batch: Batch,
    pub(crate) pass: Pass,
    pub(crate) team: Team,
    /// What dropout is drawn from.
    pub(crate) seed: u64,
    /// How the 3x3s are computed.
    pub(crate) convolutions: Convolutions,
}

/// What a pass finds out.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// Counts the passes.
    pub(crate) number: u64,
    /// Of ImageNet's stem.
    pub(crate) stem: Statistics,
    pub(crate) blocks: Vec<BlockPass>,
    /// What makes the gradient of what the 1x1 in work gave.
    pub(crate) inner: Terms,
}

impl Pass {
    /// The first, of a network of so many blocks.
    pub(crate) fn new(blocks: usize) -> Self {
        Self { blocks: (0..blocks).map(|_| BlockPass::default()).collect(), ..Self::default() }
    }
}

/// What a pass finds out about a block.
#[derive(Debug, Default)]
pub(crate) struct BlockPass {
    /// Of the block's map.
    pub(crate) map: Statistics,
    /// Of what each layer's 1x1 gives.
    pub(crate) inner: Vec<Statistics>,
    pub(crate) deferred: Deferred,
}

impl Core {
    /// Whether a block's 3x3s go by Winograd's algorithm.
    pub(crate) fn fast(&self, block: usize) -> bool {
        let (height, width) = self.sizes.blocks[block];
        self.convolutions == Convolutions::Fast && height.min(width) >= LEAST_SIDE
    }

    /// What the dropout behind a convolution of part `part` is drawn from, where there is dropout.
    pub(crate) fn mask(&self, site: Site, part: usize) -> Option<Mask> {
        let dropout = Dropout::new(self.config.drop_rate, self.seed, self.pass.number);
        dropout.filter(|_| part >= self.sizes.first).map(|dropout| dropout.at(site))
    }

    /// Moves the running statistics of the trained parts towards the batch's.
    pub(crate) fn move_running(&mut self) {
        let Self { network, pass, running, sizes, .. } = self;
        let mut part = 0;
        let mut next = |norms: Vec<(&BatchNorm, &Statistics)>| {
            if part >= sizes.first {
                for (norm, statistics) in norms {
                    move_towards(&mut running.values, norm, statistics);
                }
            }
            part += 1;
        };
        next(network.norm0.iter().map(|norm| (norm, &pass.stem)).collect());
        let mut map = None;
        for (block, pass) in network.blocks.iter().zip(&pass.blocks) {
            let outer = block.layers.iter().map(|layer| (&layer.norm, &pass.map));
            let inner = block.layers.iter().zip(&pass.inner);
            let inner = inner.filter_map(|(layer, own)| layer.bottleneck.as_ref().map(|(_, norm)| (norm, own)));
            next(outer.chain(inner).collect());
            if let Some((norm, _)) = &block.transition {
                next(vec![(norm, &pass.map)]);
            }
            map = Some(&pass.map);
        }
        next(map.into_iter().map(|map| (&network.norm5, map)).collect());
    }
}

/// Moves a norm's running statistics, the variance by the unbiased one of the batch.
fn move_towards(running: &mut [f32], norm: &BatchNorm, statistics: &Statistics) {
    let unbiased = statistics.count / (statistics.count - 1.0);
    debug_assert!(statistics.mean.len() >= norm.layout.blocks() * LANES);
    let mut towards = |at: usize, value: f64| {
        running[at] = ((1.0 - MOMENTUM) * f64::from(running[at]) + MOMENTUM * value) as f32;
    };
    for (channel, lane) in norm.layout.lanes().enumerate() {
        towards(norm.mean.start + channel, statistics.mean[lane]);
        towards(norm.variance.start + channel, statistics.variance[lane] * unbiased);
    }
}
