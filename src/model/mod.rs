//! The network on candle: any device, any float type, inference and training.
//!
//! The code follows the weight names: `vb.pp("features").pp("denseblock1")` is the key map, torchvision's
//! (`torchvision/models/densenet.py`), for the CIFAR networks too.

mod affine;
mod block;
mod convolution;
mod dropout;
pub(crate) mod feed;
mod inference;
mod maps;
mod norm;
#[cfg(feature = "cudnn")]
mod packed;
mod pool;
pub mod train;
mod window;

use candle_core::{D, DType, Module, Result, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, Linear, ModuleT, VarBuilder};
use densenet_arch::{Config, Head, Stem};

use block::{DenseBlock, Transition};
pub use inference::Inference;
use norm::Norm;

/// Gives shape and values of a tensor by torchvision's name, if there is one.
pub type Source<'s> = dyn FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)> + 's;

/// A DenseNet. Inputs are (B, channels, H, W), normalised as the weights' protocol says.
#[derive(Clone, Debug)]
pub struct DenseNet {
    config: Config,
    dtype: DType,
    conv0: Conv2d,
    /// Only behind the ImageNet stem.
    norm0: Option<Norm>,
    blocks: Vec<DenseBlock>,
    /// One between each two blocks.
    transitions: Vec<Transition>,
    norm5: Norm,
    classifier: Linear,
}

impl DenseNet {
    /// Takes the weights by torchvision's names from `vb`, which also sets device and float type.
    ///
    /// A `vb` over a `VarMap` makes new weights instead: convolutions by He et al. (arXiv 1502.01852), norms 1 and 0.
    /// Errors name the tensor that is missing or has another shape.
    pub fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let features = vb.pp("features");
        let (kernel, stride) = match config.stem {
            Stem::Imagenet => (7, 2),
            Stem::Cifar => (3, 1),
        };
        let mut channels = config.num_init_features;
        let conv0 = conv(config.in_channels, channels, kernel, stride, features.pp("conv0"))?;
        let norm0 = match config.stem {
            Stem::Imagenet => Some(Norm::new(channels, config.eps, features.pp("norm0"))?),
            Stem::Cifar => None,
        };
        let mut blocks = Vec::new();
        let mut transitions = Vec::new();
        for (number, out) in (1..).zip(config.block_outputs()) {
            blocks.push(DenseBlock::new(config, number, channels, features.pp(format!("denseblock{number}")))?);
            channels = out;
            if number < config.block_config.len() {
                transitions.push(Transition::new(config, channels, features.pp(format!("transition{number}")))?);
                channels = config.transition_output(channels);
            }
        }
        Ok(Self {
            config: config.clone(),
            dtype: vb.dtype(),
            conv0,
            norm0,
            blocks,
            transitions,
            norm5: Norm::new(channels, config.eps, features.pp("norm5"))?,
            classifier: candle_nn::linear(channels, config.num_classes, vb.pp("classifier"))?,
        })
    }

    /// The sizes it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The float type it computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Logits (B, classes), or what the config's head makes of them. `train` uses and updates batch
    /// statistics and applies dropout.
    pub fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward_head(&self.forward_features(x, train)?)
    }

    /// What the head reads: (B, features, H/32, W/32) after the last norm and ReLU (H/4 for CIFAR networks).
    pub fn forward_features(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut last = None;
        self.run(x, train, |map| last = Some(map.clone()))?;
        last.ok_or_else(|| candle_core::Error::Msg("a network without blocks".into()))
    }

    /// The map of every dense block, as a backbone gives them to a detector: (B, C, H/4, W/4) to (B, C, H/32, W/32) for
    /// ImageNet networks. All but the last are taken before the transition; the last after norm and ReLU, as in timm.
    pub fn features(&self, x: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        let mut maps = Vec::new();
        self.run(x, train, |map| maps.push(map.clone()))?;
        Ok(maps)
    }

    /// The mean of each feature over the map: (B, features), what the classifier reads.
    pub fn pre_logits(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        global_average(&self.forward_features(x, train)?)
    }

    /// From `forward_features`' map (B, features, h, w) to the output (B, classes).
    pub fn forward_head(&self, features: &Tensor) -> Result<Tensor> {
        let logits = self.classifier.forward(&global_average(features)?)?; // (B, classes)
        output(self.config.head, logits)
    }

    /// Replaces the classifier by one of another width, from `vb` (`classifier.weight`, `classifier.bias`).
    pub fn reset_classifier(&mut self, num_classes: usize, vb: VarBuilder) -> Result<()> {
        self.classifier = candle_nn::linear(self.config.num_features(), num_classes, vb.pp("classifier"))?;
        self.config.num_classes = num_classes;
        Ok(())
    }

    /// Runs the body and shows each block's map, the last one after norm and ReLU.
    fn run(&self, x: &Tensor, train: bool, mut show: impl FnMut(&Tensor)) -> Result<()> {
        let mut x = self.conv0.forward(x)?; // (B, stem, H/2, W/2), CIFAR (B, stem, H, W)
        if let Some(norm0) = &self.norm0 {
            x = pool::max_3x3(&norm0.forward_t(&x, train)?.relu()?, self.config.pooling)?; // (B, stem, H/4, W/4)
        }
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward_t(&x, train)?; // (B, C + layers * growth, h, w)
            let Some(transition) = self.transitions.get(index) else { break };
            show(&x);
            x = transition.forward_t(&x, train)?; // (B, C * compression, h/2, w/2)
        }
        show(&self.norm5.forward_t(&x, train)?.relu()?);
        Ok(())
    }
}

impl ModuleT for DenseNet {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, train)
    }
}

/// What the head makes of logits (B, classes).
fn output(head: Head, logits: Tensor) -> Result<Tensor> {
    match head {
        Head::Logits => Ok(logits),
        Head::LogSoftmax => candle_nn::ops::log_softmax(&logits, D::Minus1),
        Head::Softmax => candle_nn::ops::softmax(&logits, D::Minus1),
    }
}

/// A convolution without bias that keeps the map's size up to its stride.
fn conv(input: usize, output: usize, kernel: usize, stride: usize, vb: VarBuilder) -> Result<Conv2d> {
    let config = Conv2dConfig { padding: kernel / 2, stride, ..Conv2dConfig::default() };
    candle_nn::conv2d_no_bias(input, output, kernel, config, vb)
}

/// (B, C, h, w) -> (B, C)
fn global_average(x: &Tensor) -> Result<Tensor> {
    x.flatten_from(2)?.mean(D::Minus1)
}
