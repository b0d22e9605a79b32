//! A network with its weights packed.

use std::fmt;

use densenet_arch::{Config, Stem};

use crate::fold::{Norm, Source};
use crate::kernels::Backend;
use crate::lanes::Layout;
use crate::packed::Packed;
use crate::winograd::Winograd;
use crate::{Error, Isa};

/// How to pack.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The kernels to use; `None`: what `DENSENET_ZOO_ISA` says, else the fastest that the processor can run.
    pub isa: Option<Isa>,
    /// How to compute the 3x3 convolutions.
    pub convolutions: Convolutions,
}

/// How the 3x3 convolutions are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Convolutions {
    /// Each output as the sum of its products.
    #[default]
    Exact,
    /// By Winograd's F(4x4, 3x3) on maps with both sides of twelve or more, exactly on smaller ones: a quarter of the
    /// products for a larger rounding error, some 1e-6 of the largest logit, and five times the memory for
    /// their weights.
    Fast,
}

/// A network ready to run: batch norms folded, weights in the kernels' order. Sessions share it.
pub struct Plan {
    pub(crate) config: Config,
    pub(crate) backend: Backend,
    convolutions: Convolutions,
    /// The stem's convolution over patches; ImageNet's with its batch norm in it.
    pub(crate) stem: Packed,
    pub(crate) blocks: Vec<Block>,
    /// The last batch norm, read with the last block's map.
    pub(crate) norm5: Norm,
    pub(crate) classifier: Packed,
}

/// A dense block and the transition after it.
#[derive(Debug)]
pub(crate) struct Block {
    /// Where the channels of the whole block's map lie: its input's, then each layer's.
    pub(crate) layout: Layout,
    pub(crate) layers: Vec<Layer>,
    /// None after the last block.
    pub(crate) transition: Option<Transition>,
}

/// A dense layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Blocks of the map that it reads; what it adds begins behind them.
    pub(crate) reads: usize,
    pub(crate) norm: Norm,
    /// The 1x1 with the second batch norm in it; none in plain networks.
    pub(crate) bottleneck: Option<Packed>,
    /// The 3x3.
    pub(crate) conv: Packed,
    /// The same for large maps, in fast plans.
    pub(crate) winograd: Option<Winograd>,
}

/// Norm, ReLU, average and 1x1 between two blocks.
#[derive(Debug)]
pub(crate) struct Transition {
    pub(crate) norm: Norm,
    pub(crate) conv: Packed,
}

impl Plan {
    /// Packs a network. `weights` gives shape and values of a tensor by torchvision's name, as
    /// [`Config::params`](densenet_arch::Config::params) lists them; `num_batches_tracked` is not asked for.
    ///
    /// # Errors
    ///
    /// Sizes that no network can have, a tensor that is missing or has another shape (its name is in the message), an
    /// instruction set that is unknown or that the processor lacks.
    pub fn new(
        config: &Config,
        mut weights: impl FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)>,
        options: &Options,
    ) -> Result<Self, Error> {
        config.validate()?;
        let backend = Isa::backend_of(options.isa)?;
        let convolutions = options.convolutions;
        let mut packer = Packer { config, backend, convolutions, source: Source(&mut weights) };

        let stem = packer.stem()?;
        let mut blocks = Vec::new();
        let mut channels = config.num_init_features;
        for (number, out) in (1..).zip(config.block_outputs()) {
            blocks.push(packer.block(number, channels)?);
            channels = config.transition_output(out);
        }
        let last = blocks.last().map(|block| block.layout.clone()).unwrap_or_default();
        let norm5 = packer.source.norm("features.norm5", last.channels(), config.eps)?.spread(&last);
        let classifier = packer.classifier(last)?;
        Ok(Self { config: config.clone(), backend, convolutions, stem, blocks, norm5, classifier })
    }

    /// The sizes it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The kernels that it uses.
    pub fn isa(&self) -> Isa {
        self.backend.isa()
    }

    /// How it computes the 3x3 convolutions.
    pub fn convolutions(&self) -> Convolutions {
        self.convolutions
    }
}

impl fmt::Debug for Plan {
    // Without millions of weights.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter
            .debug_struct("Plan")
            .field("config", &self.config)
            .field("isa", &self.isa())
            .field("convolutions", &self.convolutions)
            .finish_non_exhaustive()
    }
}

struct Packer<'a> {
    config: &'a Config,
    backend: Backend,
    convolutions: Convolutions,
    source: Source<'a>,
}

impl Packer<'_> {
    /// The stem as a product over patches, whose values come row by row, pixel by pixel, channel by channel.
    fn stem(&mut self) -> Result<Packed, Error> {
        let (inputs, outputs) = (self.config.in_channels, self.config.num_init_features);
        let kernel = kernel(self.config.stem);
        let taps = kernel * kernel;
        let weight = self.source.tensor("features.conv0.weight", &[outputs, inputs, kernel, kernel])?;
        let (scale, shift) = match self.config.stem {
            Stem::Imagenet => {
                let norm = self.source.norm("features.norm0", outputs, self.config.eps)?;
                (norm.scale, norm.shift)
            }
            Stem::Cifar => (vec![1.0; outputs], Vec::new()),
        };
        let at = |output: usize, value: usize, _| {
            let (tap, input) = (value / inputs, value % inputs);
            f64::from(weight[(output * inputs + input) * taps + tap]) * scale[output]
        };
        Ok(Packed::new(self.backend, (Layout::of(taps * inputs), outputs, 1), &shift, at))
    }

    /// Block `number`, from 1, over `channels` channels, and its transition.
    fn block(&mut self, number: usize, channels: usize) -> Result<Block, Error> {
        let (growth, eps) = (self.config.growth_rate, self.config.eps);
        let mut layout = Layout::of(channels);
        let mut layers = Vec::new();
        for layer in 1..=self.config.block_config[number - 1] {
            let path = format!("features.denseblock{number}.denselayer{layer}");
            let norm = self.source.norm(&format!("{path}.norm1"), layout.channels(), eps)?.spread(&layout);
            let (bottleneck, (conv, winograd)) = match self.config.bn_size.map(|size| size * growth) {
                Some(width) => {
                    let one = self.one(&format!("{path}.conv1"), &layout, width, Some(&format!("{path}.norm2")))?;
                    (Some(one), self.three(&format!("{path}.conv2"), Layout::of(width))?)
                }
                None => (None, self.three(&format!("{path}.conv1"), layout.clone())?),
            };
            layers.push(Layer { reads: layout.blocks(), norm, bottleneck, conv, winograd });
            layout.push(growth);
        }
        let transition = if number < self.config.block_config.len() {
            let path = format!("features.transition{number}");
            let norm = self.source.norm(&format!("{path}.norm"), layout.channels(), eps)?.spread(&layout);
            let outputs = self.config.transition_output(layout.channels());
            Some(Transition { norm, conv: self.one(&format!("{path}.conv"), &layout, outputs, None)? })
        } else {
            None
        };
        Ok(Block { layout, layers, transition })
    }

    /// A 1x1 convolution, with the batch norm that follows it in its weights and bias.
    fn one(&mut self, path: &str, input: &Layout, outputs: usize, norm: Option<&str>) -> Result<Packed, Error> {
        let inputs = input.channels();
        let weight = self.source.tensor(&format!("{path}.weight"), &[outputs, inputs, 1, 1])?;
        let norm = norm.map(|path| self.source.norm(path, outputs, self.config.eps)).transpose()?;
        let at = |output: usize, channel: usize, _| {
            let scale = norm.as_ref().map_or(1.0, |norm| norm.scale[output]);
            f64::from(weight[output * inputs + channel]) * scale
        };
        let shift = norm.as_ref().map_or(&[][..], |norm| &norm.shift);
        Ok(Packed::new(self.backend, (input.clone(), outputs, 1), shift, at))
    }

    /// The 3x3 convolution of a layer, and its form for large maps in fast plans.
    fn three(&mut self, path: &str, input: Layout) -> Result<(Packed, Option<Winograd>), Error> {
        let (inputs, outputs) = (input.channels(), self.config.growth_rate);
        let weight = self.source.tensor(&format!("{path}.weight"), &[outputs, inputs, 3, 3])?;
        let at = |output, channel, tap| f64::from(weight[(output * inputs + channel) * 9 + tap]);
        let winograd = match self.convolutions {
            Convolutions::Exact => None,
            Convolutions::Fast => Some(Winograd::new(self.backend, (&input, outputs), at)),
        };
        Ok((Packed::new(self.backend, (input, outputs, 9), &[], at), winograd))
    }

    fn classifier(&mut self, input: Layout) -> Result<Packed, Error> {
        let (inputs, outputs) = (input.channels(), self.config.num_classes);
        let weight = self.source.tensor("classifier.weight", &[outputs, inputs])?;
        let bias: Vec<f64> = self.source.tensor("classifier.bias", &[outputs])?.into_iter().map(f64::from).collect();
        let at = |output, channel, _| f64::from(weight[output * inputs + channel]);
        Ok(Packed::new(self.backend, (input, outputs, 1), &bias, at))
    }
}

/// Side of the stem's kernel.
pub(crate) fn kernel(stem: Stem) -> usize {
    match stem {
        Stem::Imagenet => 7,
        Stem::Cifar => 3,
    }
}
