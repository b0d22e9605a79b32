//! The whole network, forward and backward.

use candle_core::{D, Result, Tensor};
use densenet_arch::{Config, Rounding, Stem};
use densenet_engine::train::Site;

use super::block::{self, Block};
use super::norm::{Deferred, Moments};
use super::pass::Pass;
use super::unit::{Step, Unit};
use crate::model::convolution;
use crate::model::maps::Grid;
use crate::model::pool;
use crate::model::window::Window;

const NORM0: &str = "features.norm0";
const NORM5: &str = "features.norm5";

/// The parts in their order.
#[derive(Clone, Debug)]
pub(super) struct Network {
    stem: Stem,
    blocks: Vec<Block>,
    /// One between each two blocks.
    transitions: Vec<Unit>,
    /// The parts before it are not trained.
    first: usize,
}

/// What is kept for the way back.
#[derive(Debug)]
pub(super) struct Kept {
    /// (B, C, H, W)
    images: Tensor,
    /// What the first convolution gave of an ImageNet network, (C, M), with its moments.
    stem: Option<(Tensor, Moments, Grid)>,
    blocks: Vec<block::Kept>,
    /// What the classifier read, (features, B).
    features: Tensor,
}

impl Network {
    pub(super) fn new(config: &Config, first: usize) -> Self {
        let mut channels = config.num_init_features;
        let (mut blocks, mut transitions) = (Vec::new(), Vec::new());
        for (number, out) in (1..).zip(config.block_outputs()) {
            blocks.push(Block::new(config, number, channels));
            channels = config.transition_output(out);
            if number < config.block_config.len() {
                let path = format!("features.transition{number}");
                transitions.push(Unit {
                    norm: format!("{path}.norm"),
                    conv: format!("{path}.conv"),
                    step: Step::PooledOne,
                    site: Site::Transition(number - 1),
                });
            }
        }
        Self { stem: config.stem, blocks, transitions, first }
    }

    /// Logits (B, classes) of images (B, C, H, W), and what is kept. `again`: what the 1x1s give is not.
    pub(super) fn forward(&self, pass: &mut Pass, images: &Tensor, again: bool) -> Result<(Tensor, Kept)> {
        let last = self.blocks.len();
        let trained = |part| part >= self.first;
        pass.trained = trained(0);
        let kernel = pass.weight("features.conv0.weight")?;
        let (mut x, mut grid) = convolution::first(images, &kernel, Window::first(self.stem))?;
        let mut stem = None;
        if self.stem == Stem::Imagenet {
            let moments = pass.moments(&x)?;
            pass.note(NORM0, &moments, grid.pixels())?;
            let norm = pass.norm(NORM0, &moments)?;
            let pooled = pool::max_behind(norm.affine(), &grid.unfold(&x)?, Rounding::Floor)?; // (C, B, H, W)
            stem = Some((x, moments, grid));
            grid = Grid { height: pooled.dim(2)?, width: pooled.dim(3)?, ..grid };
            x = pooled.flatten_from(1)?;
        }
        let mut blocks = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            pass.trained = trained(2 * index + 1);
            let kept = block.forward(pass, &x, grid, again || !trained(2 * index + 1))?;
            if let Some(transition) = self.transitions.get(index) {
                pass.trained = trained(2 * index + 2);
                x = transition.forward(pass, &kept.x, &kept.moments, grid)?;
                grid = grid.halved();
            } else {
                x = kept.x.clone();
            }
            blocks.push(kept);
        }
        pass.trained = trained(2 * last);
        let moments = blocks.last().map(|kept| kept.moments.clone());
        let moments = moments.ok_or_else(|| candle_core::Error::Msg("a network without blocks".into()))?;
        pass.note(NORM5, &moments, grid.pixels())?;
        let z = grid.unfold(&pass.norm(NORM5, &moments)?.relu(&x)?)?;
        let (weight, bias) = (pass.weight("classifier.weight")?, pass.weight("classifier.bias")?);
        let features = z.flatten_from(2)?.to_dtype(weight.dtype())?.mean(D::Minus1)?; // (features, B)
        let logits = features.t()?.matmul(&weight.t()?)?.broadcast_add(&bias)?; // (B, classes)
        Ok((logits, Kept { images: images.clone(), stem, blocks, features }))
    }

    /// From the gradient by the logits (B, classes) to those of all trained weights, which the pass keeps.
    pub(super) fn backward(&self, pass: &mut Pass, kept: Kept, gradient: &Tensor) -> Result<()> {
        let Kept { images, stem, mut blocks, features } = kept;
        pass.trained = true;
        let turned = gradient.t()?.contiguous()?; // (classes, B)
        pass.keep("classifier.weight", &turned.matmul(&features.t()?)?)?;
        pass.keep("classifier.bias", &gradient.sum(0)?)?;
        let weight = pass.weight("classifier.weight")?;
        let mut next = Next::Features(weight.t()?.matmul(&turned)?); // (features, B)
        for (index, block) in self.blocks.iter().enumerate().rev() {
            // What reads the block: norm5 or a transition.
            if self.first > 2 * index + 2 {
                return Ok(());
            }
            let Some(kept) = blocks.pop() else { return Ok(()) };
            let deferred = match next {
                Next::Features(by_features) => head_backward(pass, &kept, &by_features)?,
                Next::Rows(by_rows) => match self.transitions.get(index) {
                    Some(unit) => unit.backward(pass, (&kept.x, &kept.moments), kept.grid, &by_rows, None)?,
                    None => return Ok(()),
                },
            };
            if self.first > 2 * index + 1 {
                return Ok(());
            }
            next = Next::Rows(block.backward(pass, kept, &deferred)?);
        }
        match next {
            Next::Rows(by_rows) if self.first == 0 => self.stem_backward(pass, &images, stem, by_rows),
            _ => Ok(()),
        }
    }

    fn stem_backward(
        &self,
        pass: &Pass,
        images: &Tensor,
        stem: Option<(Tensor, Moments, Grid)>,
        by_rows: Tensor,
    ) -> Result<()> {
        let by_conv = match stem {
            Some((x, moments, grid)) => {
                let norm = pass.norm(NORM0, &moments)?;
                let map = grid.unfold(&norm.relu(&x)?)?;
                let by_pooled = by_rows.reshape(((), grid.batch, grid.height.div_ceil(2), grid.width.div_ceil(2)))?;
                let by_z = pool::max_3x3_backward(&map, &by_pooled)?.flatten_from(1)?;
                pass.backward(NORM0, &norm, &x, &by_z, None)?.resolve(&x, &moments)?
            }
            None => by_rows,
        };
        let by_kernel = convolution::first_backward(images, &by_conv, Window::first(self.stem))?;
        pass.keep("features.conv0.weight", &by_kernel)
    }
}

/// What goes back to the next part before.
enum Next {
    /// By what the classifier read, (features, B).
    Features(Tensor),
    /// By a map, (C, M).
    Rows(Tensor),
}

/// Norm5, its ReLU and the average over the map.
fn head_backward(pass: &Pass, kept: &block::Kept, by_features: &Tensor) -> Result<Deferred> {
    let block::Kept { x, moments, grid, .. } = kept;
    let norm = pass.norm(NORM5, moments)?;
    let pixels = grid.height * grid.width;
    let spread = (by_features / pixels as f64)?.unsqueeze(2)?; // (features, B, 1)
    let spread = spread.broadcast_as((x.dim(0)?, grid.batch, pixels))?.flatten_from(1)?;
    pass.backward(NORM5, &norm, x, &spread, None)
}
