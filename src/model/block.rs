//! Dense layers, blocks and transitions.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Conv2d, Dropout, ModuleT, VarBuilder};
use densenet_arch::{Config, Rounding};

use super::conv;
use super::norm::Norm;
use super::pool;

/// Norm, ReLU, convolution, dropout: the unit of which dense layers and transitions are made.
#[derive(Clone, Debug)]
struct Unit {
    norm: Norm,
    conv: Conv2d,
    /// Absent where the drop rate is 0.
    dropout: Option<Dropout>,
}

impl Unit {
    fn new(
        config: &Config,
        (input, output, kernel): (usize, usize, usize),
        norm: VarBuilder,
        vb: VarBuilder,
    ) -> Result<Self> {
        Ok(Self {
            norm: Norm::new(input, config.eps, norm)?,
            conv: conv(input, output, kernel, 1, vb)?,
            dropout: (config.drop_rate > 0.0).then(|| Dropout::new(config.drop_rate as f32)),
        })
    }
}

impl ModuleT for Unit {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let x = self.conv.forward(&self.norm.forward_t(x, train)?.relu()?)?;
        match &self.dropout {
            Some(dropout) => dropout.forward_t(&x, train),
            None => Ok(x),
        }
    }
}

/// Layers that each see the maps of all before them (paper, section 3).
#[derive(Clone, Debug)]
pub(super) struct DenseBlock {
    /// Each layer: (1x1, 3x3) with bottleneck, (3x3) without.
    layers: Vec<Vec<Unit>>,
}

impl DenseBlock {
    /// Block `number` (from 1) over `channels` inputs.
    pub(super) fn new(config: &Config, number: usize, channels: usize, vb: VarBuilder) -> Result<Self> {
        let growth = config.growth_rate;
        let layers = (0..config.block_config[number - 1]).map(|index| {
            let vb = vb.pp(format!("denselayer{}", index + 1));
            let input = channels + index * growth;
            let sizes = match config.bn_size.map(|bn_size| bn_size * growth) {
                Some(width) => vec![(input, width, 1), (width, growth, 3)],
                None => vec![(input, growth, 3)],
            };
            let unit = |(n, sizes)| Unit::new(config, sizes, vb.pp(format!("norm{n}")), vb.pp(format!("conv{n}")));
            (1..).zip(sizes).map(unit).collect()
        });
        Ok(Self { layers: layers.collect::<Result<_>>()? })
    }
}

impl ModuleT for DenseBlock {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut all = x.clone(); // (B, C, h, w)
        for layer in &self.layers {
            let mut new = all.clone();
            for unit in layer {
                new = unit.forward_t(&new, train)?;
            }
            all = Tensor::cat(&[&all, &new], 1)?; // (B, C + growth, h, w)
        }
        Ok(all)
    }
}

/// Norm, ReLU, 1x1 convolution, average-pool 2: between two blocks.
#[derive(Clone, Debug)]
pub(super) struct Transition {
    unit: Unit,
    pooling: Rounding,
}

impl Transition {
    pub(super) fn new(config: &Config, channels: usize, vb: VarBuilder) -> Result<Self> {
        let sizes = (channels, config.transition_output(channels), 1);
        Ok(Self { unit: Unit::new(config, sizes, vb.pp("norm"), vb.pp("conv"))?, pooling: config.pooling })
    }
}

impl ModuleT for Transition {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        pool::average_2x2(&self.unit.forward_t(x, train)?, self.pooling)
    }
}
