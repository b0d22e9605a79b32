//! The network as a trainer walks it: which tensors a layer has, and where its channels lie.

use std::ops::Range;

use densenet_arch::{Config, Stem};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::statistics::Statistics;
use super::store::Store;
use crate::Precision;
use crate::fold::Norm;
use crate::kernels::Backend;
use crate::lanes::{LANES, Lanes, Layout};
use crate::packed::{Group, Packed};
use crate::plan::kernel;

/// All layers.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) stem: Conv,
    /// Behind ImageNet's stem.
    pub(crate) norm0: Option<BatchNorm>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm5: BatchNorm,
    pub(crate) classifier: Conv,
    pub(crate) bias: Range<usize>,
}

/// A dense block and the transition after it.
#[derive(Debug)]
pub(crate) struct Block {
    /// Where the channels of the block's map lie.
    pub(crate) layout: Layout,
    /// Blocks of its input.
    pub(crate) input: usize,
    pub(crate) layers: Vec<Layer>,
    /// None after the last block.
    pub(crate) transition: Option<(BatchNorm, Conv)>,
}

/// A dense layer. What it adds to the map begins behind what its first norm reads.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) norm: BatchNorm,
    /// The 1x1 and the norm behind it; none in plain networks.
    pub(crate) bottleneck: Option<(Conv, BatchNorm)>,
    /// The 3x3.
    pub(crate) conv: Conv,
    /// The network's layers in front of it.
    pub(crate) number: usize,
}

/// A batch norm.
#[derive(Debug)]
pub(crate) struct BatchNorm {
    /// Where its channels lie.
    pub(crate) layout: Layout,
    /// Among the parameters.
    pub(crate) weight: Range<usize>,
    /// Among the parameters.
    pub(crate) bias: Range<usize>,
    /// Among the running statistics.
    pub(crate) mean: Range<usize>,
    /// Among the running statistics.
    pub(crate) variance: Range<usize>,
}

/// A convolution, or the classifier, which is a 1x1 over a map whose pixels are images.
#[derive(Debug)]
pub(crate) struct Conv {
    /// Among the parameters.
    weight: Range<usize>,
    pub(crate) input: Layout,
    pub(crate) output: Layout,
    pub(crate) taps: usize,
    /// Of a stem, which is a 1x1 over patches, the image's channels: a patch has its values row by row, pixel by pixel,
    /// channel by channel.
    patch_channels: Option<usize>,
}

impl Network {
    pub(crate) fn new(config: &Config, parameters: &Store, running: &Store) -> Self {
        let norm = |path: &str, layout: &Layout| BatchNorm {
            layout: layout.clone(),
            weight: parameters.range(&format!("{path}.weight")),
            bias: parameters.range(&format!("{path}.bias")),
            mean: running.range(&format!("{path}.running_mean")),
            variance: running.range(&format!("{path}.running_var")),
        };
        let conv = |path: &str, input: &Layout, outputs: usize, taps: usize| Conv {
            weight: parameters.range(&format!("{path}.weight")),
            input: input.clone(),
            output: Layout::of(outputs),
            taps,
            patch_channels: None,
        };
        let side = kernel(config.stem);
        let window = Layout::of(side * side * config.in_channels);
        let stem = Conv {
            patch_channels: Some(config.in_channels),
            ..conv("features.conv0", &window, config.num_init_features, 1)
        };
        let norm0 = match config.stem {
            Stem::Imagenet => Some(norm("features.norm0", &stem.output)),
            Stem::Cifar => None,
        };
        let mut layout = stem.output.clone();
        let mut blocks = Vec::new();
        let mut count = 0;
        for (number, &layers) in (1..).zip(&config.block_config) {
            let input = layout.blocks();
            let layers = (1..=layers).map(|layer| {
                let path = format!("features.denseblock{number}.denselayer{layer}");
                let norm1 = norm(&format!("{path}.norm1"), &layout);
                let (bottleneck, conv) = match config.bn_size.map(|size| Layout::of(size * config.growth_rate)) {
                    Some(width) => {
                        let one = conv(&format!("{path}.conv1"), &layout, width.channels(), 1);
                        let three = conv(&format!("{path}.conv2"), &width, config.growth_rate, 9);
                        (Some((one, norm(&format!("{path}.norm2"), &width))), three)
                    }
                    None => (None, conv(&format!("{path}.conv1"), &layout, config.growth_rate, 9)),
                };
                layout.push(config.growth_rate);
                count += 1;
                Layer { norm: norm1, bottleneck, conv, number: count - 1 }
            });
            let layers = layers.collect();
            let whole = layout.clone();
            let transition = (number < config.block_config.len()).then(|| {
                let path = format!("features.transition{number}");
                let outputs = config.transition_output(whole.channels());
                layout = Layout::of(outputs);
                (norm(&format!("{path}.norm"), &whole), conv(&format!("{path}.conv"), &whole, outputs, 1))
            });
            blocks.push(Block { layout: whole, input, layers, transition });
        }
        let norm5 = norm("features.norm5", &layout);
        let classifier = conv("classifier", &layout, config.num_classes, 1);
        Self { stem, norm0, blocks, norm5, classifier, bias: parameters.range("classifier.bias") }
    }
}

impl Layer {
    /// Blocks of the map that it reads.
    pub(crate) fn reads(&self) -> usize {
        self.norm.layout.blocks()
    }
}

impl BatchNorm {
    /// Scale and shift by the batch's statistics.
    pub(crate) fn by_batch(&self, parameters: &[f32], statistics: &Statistics) -> Norm {
        self.vectors(parameters, |_, lane| (statistics.mean[lane], statistics.inverse[lane]))
    }

    /// Scale and shift by the running statistics.
    pub(crate) fn by_running(&self, parameters: &[f32], running: &[f32], eps: f64) -> Norm {
        let (mean, variance) = (&running[self.mean.clone()], &running[self.variance.clone()]);
        self.vectors(parameters, |channel, _| {
            (f64::from(mean[channel]), 1.0 / (f64::from(variance[channel]) + eps).sqrt())
        })
    }

    /// Of mean and inverse deviation of a channel at a lane.
    fn vectors(&self, parameters: &[f32], of: impl Fn(usize, usize) -> (f64, f64)) -> Norm {
        let blocks = self.layout.blocks();
        let mut norm = Norm { scale: vec![Lanes::ZERO; blocks], shift: vec![Lanes::ZERO; blocks] };
        let affine = parameters[self.weight.clone()].iter().zip(&parameters[self.bias.clone()]);
        for ((channel, lane), (&weight, &bias)) in self.layout.lanes().enumerate().zip(affine) {
            let (mean, inverse) = of(channel, lane);
            let scale = f64::from(weight) * inverse;
            norm.scale[lane / LANES].0[lane % LANES] = scale as f32;
            norm.shift[lane / LANES].0[lane % LANES] = (f64::from(bias) - mean * scale) as f32;
        }
        norm
    }
}

impl Conv {
    /// A weight's place among the convolution's, by output, channel and tap.
    fn places(&self) -> impl Fn(usize, usize, usize) -> usize + use<> {
        let (channels, taps, inputs) = (self.input.channels(), self.taps, self.patch_channels);
        move |output, channel, tap| match inputs {
            Some(inputs) => output * channels + channel % inputs * (channels / inputs) + channel / inputs,
            None => (output * channels + channel) * taps + tap,
        }
    }

    /// The weights as the way forward reads them.
    pub(crate) fn forward(&self, backend: Backend, parameters: &[f32]) -> Packed {
        let (weights, at) = (&parameters[self.weight.clone()], self.places());
        pack(backend, (&self.input, &self.output, self.taps), |output, channel, tap| weights[at(output, channel, tap)])
    }

    /// Transposed, as the gradient of the input reads them: outputs and inputs change places and a 3x3 turns by half.
    pub(crate) fn backward(&self, backend: Backend, parameters: &[f32]) -> Packed {
        let (weights, at, last) = (&parameters[self.weight.clone()], self.places(), self.taps - 1);
        pack(backend, (&self.output, &self.input, self.taps), |channel, output, tap| {
            weights[at(output, channel, last - tap)]
        })
    }

    /// Vectors of a gradient as `Outer` sums it: `[tap][output][input block]`.
    pub(crate) fn sums(&self) -> usize {
        self.taps * self.output.channels() * self.input.blocks()
    }

    /// Adds sums to the gradient, one after the other.
    pub(crate) fn add_gradient<'a>(&self, sums: impl Iterator<Item = &'a [Lanes]>, gradients: &mut [f32]) {
        let sums: Vec<_> = sums.collect();
        let (outputs, blocks, taps) = (self.output.channels(), self.input.blocks(), self.taps);
        let (channels, at) = (self.input.channels_at(), self.places());
        let gradient = &mut gradients[self.weight.clone()];
        let row = gradient.len() / outputs;
        let rows = gradient.par_chunks_exact_mut(row).with_min_len(outputs.div_ceil(16)).enumerate();
        rows.for_each_init(
            || vec![Lanes::ZERO; blocks],
            |total, (output, gradient)| {
                for tap in 0..taps {
                    total.fill(Lanes::ZERO);
                    for sums in &sums {
                        for (total, sum) in total.iter_mut().zip(&sums[(tap * outputs + output) * blocks..]) {
                            for (total, value) in total.0.iter_mut().zip(sum.0) {
                                *total += value;
                            }
                        }
                    }
                    for (channels, total) in channels.iter().zip(&*total) {
                        for (channel, value) in channels.clone().zip(total.0) {
                            gradient[at(0, channel, tap)] += value;
                        }
                    }
                }
            },
        );
    }
}

/// Packs `weight(output, channel, tap)` for a kernel whose outputs lie as in a layout too.
fn pack(
    backend: Backend,
    (input, output, taps): (&Layout, &Layout, usize),
    weight: impl Fn(usize, usize, usize) -> f32 + Sync,
) -> Packed {
    let (_, vectors) = backend.tile();
    let blocks = output.blocks();
    let channels = output.channels_at();
    let group = |index: usize| {
        let own = index * vectors..((index + 1) * vectors).min(blocks);
        let mut weights = Vec::with_capacity(input.channels() * taps * own.len());
        let mut first = 0;
        for &used in input.used() {
            let used = usize::from(used);
            for tap in 0..taps {
                for channel in first..first + used {
                    weights.extend(own.clone().map(|block| {
                        let mut lanes = Lanes::ZERO;
                        for (lane, output) in lanes.0.iter_mut().zip(channels[block].clone()) {
                            *lane = weight(output, channel, tap);
                        }
                        lanes
                    }));
                }
            }
            first += used;
        }
        Group { first: own.start, bias: vec![Lanes::ZERO; own.len()], weights }
    };
    let groups = (0..blocks.div_ceil(vectors)).into_par_iter().map(group).collect();
    Packed { input: input.clone(), outputs: blocks * LANES, precision: Precision::F32, groups }
}
