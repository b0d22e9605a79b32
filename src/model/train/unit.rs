//! Norm, ReLU, convolution: the unit of which dense layers and transitions are made, forward and backward.

use candle_core::{Result, Tensor};
use densenet_arch::Rounding;

use super::norm::{Deferred, Moments};
use super::pass::Pass;
use crate::model::convolution as conv;
use crate::model::maps::Grid;
use crate::model::pool;

/// What follows the norm's ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A 1x1 convolution.
    One,
    /// A 3x3 convolution.
    Three,
    /// A transition's average-pool 2x2, then its 1x1: the same as the other way round, on a quarter of the pixels.
    PooledOne,
}

/// Where a unit's tensors are, and what it does.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// `features.denseblock1.denselayer1.norm1`
    pub(super) norm: String,
    /// `features.denseblock1.denselayer1.conv1`
    pub(super) conv: String,
    pub(super) step: Step,
}

impl Unit {
    /// From rows x (C, M) to (O, M), or (O, M/4) behind the average.
    pub(super) fn forward(&self, pass: &mut Pass, x: &Tensor, moments: &Moments, grid: Grid) -> Result<Tensor> {
        pass.note(&self.norm, moments, grid.pixels())?;
        self.again(pass, x, moments, grid)
    }

    /// The same for the second time: no running statistic hears of it.
    pub(super) fn again(&self, pass: &Pass, x: &Tensor, moments: &Moments, grid: Grid) -> Result<Tensor> {
        let z = self.read(&pass.norm(&self.norm, moments)?.relu(x)?, grid)?;
        let kernel = self.kernel(pass)?;
        match self.step {
            Step::One | Step::PooledOne => conv::one(&z, &kernel),
            Step::Three => conv::three(&z, grid, &kernel),
        }
    }

    /// From the gradient by what [`forward`](Self::forward) gave to that by x; those of the weights are kept in the pass.
    pub(super) fn backward(
        &self,
        pass: &mut Pass,
        (x, moments): (&Tensor, &Moments),
        grid: Grid,
        gradient: &Tensor,
    ) -> Result<Deferred> {
        let norm = pass.norm(&self.norm, moments)?;
        let z = norm.relu(x)?;
        let kernel = self.kernel(pass)?;
        let (by_read, by_kernel) = match self.step {
            Step::Three => conv::three_backward(&z, grid, &kernel, gradient)?,
            Step::One | Step::PooledOne => conv::one_backward(&self.read(&z, grid)?, &kernel, gradient)?,
        };
        let by_z = match self.step {
            Step::PooledOne => {
                let by_read = grid.halved().unfold(&by_read)?;
                pool::average_2x2_backward(&by_read, (grid.height, grid.width))?.flatten_from(1)?
            }
            Step::One | Step::Three => by_read,
        };
        pass.keep(format!("{}.weight", self.conv), by_kernel);
        pass.backward(&self.norm, &norm, (x, &z), &by_z)
    }

    fn kernel(&self, pass: &Pass) -> Result<Tensor> {
        pass.weight(&format!("{}.weight", self.conv))
    }

    /// What the convolution reads of z.
    fn read(&self, z: &Tensor, grid: Grid) -> Result<Tensor> {
        match self.step {
            Step::PooledOne => pool::average_2x2(&grid.unfold(z)?, Rounding::Floor)?.flatten_from(1),
            Step::One | Step::Three => Ok(z.clone()),
        }
    }
}
