//! Norm, ReLU, convolution, dropout: the unit of which dense layers and transitions are made, forward and backward.

use candle_core::{Result, Tensor};
use densenet_arch::Rounding;
use densenet_engine::train::Site;

use super::norm::{Deferred, Moments};
use super::pass::Pass;
use crate::model::convolution as conv;
use crate::model::dropout::dropped;
use crate::model::maps::Grid;
use crate::model::pool;

/// What follows the norm's ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A 1x1 convolution.
    One,
    /// A 3x3 convolution.
    Three,
    /// A transition's 1x1 and average-pool 2x2. Unless dropout stands between them the average goes first: the same, on a
    /// quarter of the pixels.
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
    /// Its place for dropout.
    pub(super) site: Site,
}

impl Unit {
    /// From rows x (C, M) to (O, M), or (O, M/4) behind the average.
    pub(super) fn forward(&self, pass: &Pass, x: &Tensor, moments: &Moments, grid: Grid) -> Result<Tensor> {
        pass.note(&self.norm, moments, grid.pixels())?;
        self.again(pass, x, moments, grid)
    }

    /// The same for the second time: no running statistic hears of it.
    pub(super) fn again(&self, pass: &Pass, x: &Tensor, moments: &Moments, grid: Grid) -> Result<Tensor> {
        let norm = pass.norm(&self.norm, moments)?;
        let kernel = self.kernel(pass)?;
        let drop = |y| self.dropped(pass, y, grid);
        match self.step {
            Step::One => drop(conv::one_behind(norm.affine(), x, &kernel)?),
            Step::Three => drop(conv::three(norm.affine(), x, grid, &kernel)?),
            Step::PooledOne if self.drops(pass) => average(&drop(conv::one_behind(norm.affine(), x, &kernel)?)?, grid),
            Step::PooledOne => {
                let mean = pool::average_behind(norm.affine(), &grid.unfold(x)?, Rounding::Floor)?;
                conv::one(&mean.flatten_from(1)?, &kernel)
            }
        }
    }

    /// From the gradient by what [`forward`](Self::forward) gave to that by x, which is added to `onto` where that is given; those
    /// of the weights are kept in the pass.
    pub(super) fn backward(
        &self,
        pass: &Pass,
        (x, moments): (&Tensor, &Moments),
        grid: Grid,
        gradient: &Tensor,
        onto: Option<&Deferred>,
    ) -> Result<Deferred> {
        let norm = pass.norm(&self.norm, moments)?;
        let kernel = self.kernel(pass)?;
        let drop = |y| self.dropped(pass, y, grid);
        let (by_z, by_kernel) = match self.step {
            Step::One => conv::one_backward(&norm.relu(x)?, &kernel, &drop(gradient.clone())?)?,
            Step::Three => conv::three_backward(norm.affine(), x, grid, &kernel, &drop(gradient.clone())?)?,
            Step::PooledOne if self.drops(pass) => {
                conv::one_backward(&norm.relu(x)?, &kernel, &drop(average_backward(gradient, grid)?)?)?
            }
            Step::PooledOne => {
                let mean = pool::average_behind(norm.affine(), &grid.unfold(x)?, Rounding::Floor)?.flatten_from(1)?;
                let (by_average, by_kernel) = conv::one_backward(&mean, &kernel, gradient)?;
                (average_backward(&by_average, grid)?, by_kernel)
            }
        };
        pass.keep(&format!("{}.weight", self.conv), &by_kernel)?;
        pass.backward(&self.norm, &norm, x, &by_z, onto)
    }

    fn drops(&self, pass: &Pass) -> bool {
        pass.mask(self.site).is_some()
    }

    /// What is left of what the convolution gave, or of the gradient by it.
    fn dropped(&self, pass: &Pass, y: Tensor, grid: Grid) -> Result<Tensor> {
        match pass.mask(self.site) {
            Some(mask) => dropped(&y, grid, mask),
            None => Ok(y),
        }
    }

    fn kernel(&self, pass: &Pass) -> Result<Tensor> {
        pass.weight(&format!("{}.weight", self.conv))
    }
}

/// The average-pool 2x2 of rows.
fn average(rows: &Tensor, grid: Grid) -> Result<Tensor> {
    pool::average_2x2(&grid.unfold(rows)?, Rounding::Floor)?.flatten_from(1)
}

/// The gradient of [`average`] by what it read.
fn average_backward(gradient: &Tensor, grid: Grid) -> Result<Tensor> {
    let gradient = grid.halved().unfold(gradient)?;
    pool::average_2x2_backward(&gradient, (grid.height, grid.width))?.flatten_from(1)
}
