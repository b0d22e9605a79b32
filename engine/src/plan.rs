//! A network with its weights packed.

use std::fmt;

use densenet_arch::{Config, Stem};

use crate::fold::{Fold, Norm, Source};
use crate::kernels::Backend;
use crate::lanes::Layout;
use crate::maps::sides;
use crate::packed::Packed;
use crate::winograd::{Form, Winograd};
use crate::{Error, Isa, rounding};

/// How to pack.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The kernels to use; `None`: what `DENSENET_ZOO_ISA` says, else the fastest that the processor can run.
    pub isa: Option<Isa>,
    /// How to compute the 3x3 convolutions.
    pub convolutions: Convolutions,
    /// Height and width of the images to expect; `None`: [`Config::input_size`](densenet_arch::Config::input_size). They
    /// decide which of Winograd's algorithms each layer is packed for. Other sizes run as well, if perhaps slower.
    pub input: Option<(usize, usize)>,
    /// What the 1x1 convolutions multiply.
    pub precision: Precision,
}

/// What the 1x1 convolutions of dense layers multiply; all else is f32, and so are all sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// bfloat16, eight bits of mantissa, where the processor multiplies them (AVX512_BF16); about two thirds of the time for
    /// an error of a third of a percent of the logits' deviation, one and a half at worst. The portable kernels emulate it slowly.
    Bf16,
}

/// How the 3x3 convolutions are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Convolutions {
    /// Each output as the sum of its products.
    #[default]
    Exact,
    /// By Winograd's F(4x4, 3x3) on large maps and F(2x2, 3x3) on small ones: a quarter or four ninths of the products,
    /// for a larger rounding error, some 1e-6 of the largest logit, and four times or 1.8 times the memory for their
    /// weights.
    Fast,
}

/// A network ready to run: batch norms folded, weights in the kernels' order. Sessions share it.
pub struct Plan {
    pub(crate) config: Config,
    pub(crate) backend: Backend,
    convolutions: Convolutions,
    precision: Precision,
    /// The stem's convolution over what a pixel sees; ImageNet's with its batch norm in it.
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
    pub(crate) conv: Conv,
}

/// A 3x3 convolution.
#[derive(Debug)]
pub(crate) enum Conv {
    /// Nine taps.
    Direct(Packed),
    /// By Winograd's algorithm.
    Winograd(Winograd),
}

impl Conv {
    /// Its weights, or those of one position, which have the same channels.
    pub(crate) fn packed(&self) -> &Packed {
        match self {
            Self::Direct(packed) => packed,
            Self::Winograd(winograd) => &winograd.positions[0],
        }
    }
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
        let Options { convolutions, precision, input, .. } = *options;
        let input = input.unwrap_or_else(|| (config.input_size(), config.input_size()));
        let backend = match precision {
            Precision::F32 => backend,
            Precision::Bf16 => backend.with_bf16().ok_or(Error::NoBf16(backend.isa()))?,
        };
        let mut packer = Packer { config, backend, convolutions, input, precision, source: Source(&mut weights) };

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
        Ok(Self { config: config.clone(), backend, convolutions, precision, stem, blocks, norm5, classifier })
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

    /// What the 1x1 convolutions multiply.
    pub fn precision(&self) -> Precision {
        self.precision
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
            .field("precision", &self.precision)
            .finish_non_exhaustive()
    }
}

struct Packer<'a> {
    config: &'a Config,
    backend: Backend,
    convolutions: Convolutions,
    input: (usize, usize),
    precision: Precision,
    source: Source<'a>,
}

impl Packer<'_> {
    /// The stem as a product over what a pixel sees, row by row, column by column, channel by channel.
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
        let form = match self.convolutions {
            Convolutions::Exact => None,
            Convolutions::Fast => {
                let [height, width] = [self.input.0, self.input.1].map(|side| sides(self.config, side).nth(number - 1));
                Form::cheapest(height.unwrap_or(0), width.unwrap_or(0))
            }
        };
        for layer in 1..=self.config.block_config[number - 1] {
            let path = format!("features.denseblock{number}.denselayer{layer}");
            let norm = self.source.norm(&format!("{path}.norm1"), layout.channels(), eps)?.spread(&layout);
            let (bottleneck, conv) = match self.config.bn_size.map(|size| size * growth) {
                Some(width) => (
                    Some(self.one(&path, &layout, width)?),
                    self.three(&format!("{path}.conv2"), Layout::of(width), form)?,
                ),
                None => (None, self.three(&format!("{path}.conv1"), layout.clone(), form)?),
            };
            layers.push(Layer { reads: layout.blocks(), norm, bottleneck, conv });
            layout.push(growth);
        }
        let transition = if number < self.config.block_config.len() {
            Some(self.transition(&format!("features.transition{number}"), &layout)?)
        } else {
            None
        };
        Ok(Block { layout, layers, transition })
    }

    fn transition(&mut self, path: &str, input: &Layout) -> Result<Transition, Error> {
        let (inputs, outputs) = (input.channels(), self.config.transition_output(input.channels()));
        let norm = self.source.norm(&format!("{path}.norm"), inputs, self.config.eps)?.spread(input);
        let weight = self.source.tensor(&format!("{path}.conv.weight"), &[outputs, inputs, 1, 1])?;
        let at = |output, channel, _| f64::from(weight[output * inputs + channel]);
        Ok(Transition { norm, conv: Packed::new(self.backend, (input.clone(), outputs, 1), &[], at) })
    }

    /// A layer's 1x1 convolution, with the batch norm that follows it in its weights and bias.
    fn one(&mut self, path: &str, input: &Layout, outputs: usize) -> Result<Packed, Error> {
        let inputs = input.channels();
        let weight = self.source.tensor(&format!("{path}.conv1.weight"), &[outputs, inputs, 1, 1])?;
        let Fold { scale, mut shift } = self.source.norm(&format!("{path}.norm2"), outputs, self.config.eps)?;
        let at = |output: usize, channel: usize, _| f64::from(weight[output * inputs + channel]) * scale[output];
        if self.precision == Precision::Bf16 {
            let mut vector = |field| self.source.tensor(&format!("{path}.norm1.{field}"), &[inputs]);
            let means = rounding::means(&vector("weight")?, &vector("bias")?);
            for (output, shift) in shift.iter_mut().enumerate() {
                *shift -= rounding::shift((0..inputs).map(|channel| at(output, channel, 0)), &means);
            }
        }
        Ok(Packed::with_precision(self.backend, self.precision, (input.clone(), outputs, 1), &shift, at))
    }

    /// The 3x3 convolution of a layer.
    fn three(&mut self, path: &str, input: Layout, form: Option<Form>) -> Result<Conv, Error> {
        let (inputs, outputs) = (input.channels(), self.config.growth_rate);
        let weight = self.source.tensor(&format!("{path}.weight"), &[outputs, inputs, 3, 3])?;
        let at = |output, channel, tap| f64::from(weight[(output * inputs + channel) * 9 + tap]);
        Ok(match form {
            None => Conv::Direct(Packed::new(self.backend, (input, outputs, 9), &[], at)),
            Some(form) => Conv::Winograd(Winograd::new(self.backend, form, (&input, outputs), at)),
        })
    }

    fn classifier(&mut self, input: Layout) -> Result<Packed, Error> {
        let (inputs, outputs) = (input.channels(), self.config.num_classes);
        let weight = self.source.tensor("classifier.weight", &[outputs, inputs])?;
        let bias: Vec<f64> = self.source.tensor("classifier.bias", &[outputs])?.into_iter().map(f64::from).collect();
        let at = |output, channel, _| f64::from(weight[output * inputs + channel]);
        Ok(Packed::new(self.backend, (input, outputs, 1), &bias, at))
    }
}

/// From one output of the stem's convolution to the next, in pixels.
pub(crate) fn stride(stem: Stem) -> usize {
    match stem {
        Stem::Imagenet => 2,
        Stem::Cifar => 1,
    }
}

/// Side of the stem's kernel.
pub(crate) fn kernel(stem: Stem) -> usize {
    match stem {
        Stem::Imagenet => 7,
        Stem::Cifar => 3,
    }
}
