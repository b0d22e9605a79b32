//! A network as the list of its layers, and what follows from that list: parameters, counts, multiply-adds.

use crate::{Config, Rounding, Stem};

/// One operation with its place in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// torchvision's module path, as `features.denseblock1.denselayer1.norm1`.
    pub name: String,
    /// What it does.
    pub op: Op,
}

/// What a layer does. ReLUs and concatenations hold nothing and are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Square convolution without bias: (B, input, H, W) -> (B, output, H', W').
    Conv {
        /// Channels in.
        input: usize,
        /// Channels out.
        output: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Step in both directions.
        stride: usize,
        /// Zeros added on each side.
        padding: usize,
    },
    /// Batch norm over the channels.
    Norm {
        /// Channels.
        channels: usize,
    },
    /// Pooling, its map's size rounded as [`Config::pooling`] says.
    Pool {
        /// Side of the window.
        kernel: usize,
        /// Step in both directions.
        stride: usize,
        /// Cells added on each side.
        padding: usize,
    },
    /// Fully connected: (B, input) -> (B, output).
    Linear {
        /// Features in.
        input: usize,
        /// Features out.
        output: usize,
    },
}

/// One tensor of the network's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// torchvision's name, as `features.norm5.running_mean`.
    pub name: String,
    /// Its shape; convolutions (out, in, height, width), linear (out, in).
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A convolution's kernel.
    ConvWeight,
    /// A batch norm's scale (γ).
    NormWeight,
    /// A batch norm's shift (β).
    NormBias,
    /// A batch norm's running mean.
    RunningMean,
    /// A batch norm's running variance.
    RunningVar,
    /// How many batches a batch norm has seen (i64, a scalar).
    NumBatchesTracked,
    /// The classifier's matrix.
    LinearWeight,
    /// The classifier's bias.
    LinearBias,
}

impl Role {
    /// Whether an optimiser changes it: it counts as a parameter.
    pub fn is_parameter(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVar | Self::NumBatchesTracked)
    }
}

impl Param {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Config {
    /// Every layer that holds parameters or changes the map's size, in the order of computation, which is also torchvision's.
    pub fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        let mut push = |name: String, op| layers.push(Layer { name, op });
        let conv = |input, output, kernel, stride| Op::Conv { input, output, kernel, stride, padding: kernel / 2 };

        let mut channels = self.num_init_features;
        match self.stem {
            Stem::Imagenet => {
                push("features.conv0".into(), conv(self.in_channels, channels, 7, 2));
                push("features.norm0".into(), Op::Norm { channels });
                push("features.pool0".into(), Op::Pool { kernel: 3, stride: 2, padding: 1 });
            }
            Stem::Cifar => push("features.conv0".into(), conv(self.in_channels, channels, 3, 1)),
        }
        for (block, &count) in (1..).zip(&self.block_config) {
            for layer in 1..=count {
                let path = format!("features.denseblock{block}.denselayer{layer}");
                push(format!("{path}.norm1"), Op::Norm { channels });
                if let Some(bn_size) = self.bn_size {
                    let width = bn_size * self.growth_rate;
                    push(format!("{path}.conv1"), conv(channels, width, 1, 1));
                    push(format!("{path}.norm2"), Op::Norm { channels: width });
                    push(format!("{path}.conv2"), conv(width, self.growth_rate, 3, 1));
                } else {
                    push(format!("{path}.conv1"), conv(channels, self.growth_rate, 3, 1));
                }
                channels += self.growth_rate;
            }
            if block < self.block_config.len() {
                let path = format!("features.transition{block}");
                let output = self.transition_output(channels);
                push(format!("{path}.norm"), Op::Norm { channels });
                push(format!("{path}.conv"), conv(channels, output, 1, 1));
                push(format!("{path}.pool"), Op::Pool { kernel: 2, stride: 2, padding: 0 });
                channels = output;
            }
        }
        push("features.norm5".into(), Op::Norm { channels });
        push("classifier".into(), Op::Linear { input: channels, output: self.num_classes });
        layers
    }

    /// Every tensor of the network's state dict, in torchvision's order.
    pub fn params(&self) -> Vec<Param> {
        let mut params = Vec::new();
        for layer in self.layers() {
            let mut push =
                |field, shape, role| params.push(Param { name: format!("{}.{field}", layer.name), shape, role });
            match layer.op {
                Op::Conv { input, output, kernel, .. } => {
                    push("weight", vec![output, input, kernel, kernel], Role::ConvWeight);
                }
                Op::Norm { channels } => {
                    push("weight", vec![channels], Role::NormWeight);
                    push("bias", vec![channels], Role::NormBias);
                    push("running_mean", vec![channels], Role::RunningMean);
                    push("running_var", vec![channels], Role::RunningVar);
                    push("num_batches_tracked", vec![], Role::NumBatchesTracked);
                }
                Op::Linear { input, output } => {
                    push("weight", vec![output, input], Role::LinearWeight);
                    push("bias", vec![output], Role::LinearBias);
                }
                Op::Pool { .. } => {}
            }
        }
        params
    }

    /// Number of trainable parameters.
    pub fn parameter_count(&self) -> usize {
        self.params().iter().filter(|param| param.role.is_parameter()).map(Param::elements).sum()
    }

    /// Multiply-adds of the convolutions and the classifier for one image of `height` x `width` pixels.
    pub fn multiply_adds(&self, height: usize, width: usize) -> u64 {
        let (mut h, mut w) = (height as u64, width as u64);
        let mut total = 0;
        for layer in self.layers() {
            match layer.op {
                Op::Conv { input, output, kernel, stride, padding } => {
                    let steps = |side| steps(side, kernel, stride, padding, Rounding::Floor);
                    (h, w) = (steps(h), steps(w));
                    total += h * w * (input * output * kernel * kernel) as u64;
                }
                Op::Pool { kernel, stride, padding } => {
                    let steps = |side| steps(side, kernel, stride, padding, self.pooling);
                    (h, w) = (steps(h), steps(w));
                }
                Op::Linear { input, output } => total += (input * output) as u64,
                Op::Norm { .. } => {}
            }
        }
        total
    }
}

/// Positions of a window along a side; 0 where it does not fit.
fn steps(side: u64, kernel: usize, stride: usize, padding: usize, rounding: Rounding) -> u64 {
    let stride = stride as u64;
    match ((side + 2 * padding as u64).checked_sub(kernel as u64), rounding) {
        (Some(room), Rounding::Floor) => room / stride + 1,
        (Some(room), Rounding::Ceil) => room.div_ceil(stride) + 1,
        (None, _) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_dict_order_and_shapes_are_torchvision_s() {
        let params = Config::imagenet(&[2, 2, 2, 2], 4, 8).with_classes(10).params();
        let shown: Vec<_> = params[..8].iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
        assert_eq!(
            shown,
            [
                ("features.conv0.weight", [8, 3, 7, 7].as_slice()),
                ("features.norm0.weight", &[8]),
                ("features.norm0.bias", &[8]),
                ("features.norm0.running_mean", &[8]),
                ("features.norm0.running_var", &[8]),
                ("features.norm0.num_batches_tracked", &[]),
                ("features.denseblock1.denselayer1.norm1.weight", &[8]),
                ("features.denseblock1.denselayer1.norm1.bias", &[8]),
            ]
        );
        assert_eq!(params.last().unwrap().name, "classifier.bias");
    }

    #[test]
    fn poolings_that_round_up_have_larger_maps() {
        let config = Config { pooling: Rounding::Ceil, ..Config::imagenet(&[1, 1, 1, 1], 4, 8) };
        // 224 pixels: 112 behind the stem, then 57, 29, 15 and 8, as Caffe has them.
        let layers = |side: u64, input: u64| side * side * (input * 16 + 16 * 4 * 9);
        let transition = |side: u64, input: u64| side * side * input * (input / 2);
        let blocks = layers(57, 8) + layers(29, 6) + layers(15, 5) + layers(8, 4);
        let transitions = transition(57, 12) + transition(29, 10) + 15 * 15 * 9 * 4;
        assert_eq!(config.multiply_adds(224, 224), 112 * 112 * 8 * 3 * 49 + blocks + transitions + 8 * 1000);
    }

    #[test]
    fn an_input_smaller_than_the_network_counts_nothing_past_its_end() {
        let config = Config::imagenet(&[1, 1], 4, 8);
        // 1x1 pixel: the stem keeps one position, the transition's pool none.
        let stem = 8 * 3 * 49;
        let block = 8 * 16 + 16 * 4 * 9;
        let transition = 12 * 6;
        let linear = 10 * 1000;
        assert_eq!(config.multiply_adds(1, 1), stem + block + transition + linear);
    }
}
