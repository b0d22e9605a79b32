//! A network's sizes.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What stands before the first dense block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// 7x7 convolution with stride 2, batch norm, ReLU, 3x3 max-pool with stride 2: ImageNet, input 224x224.
    #[default]
    Imagenet,
    /// 3x3 convolution with stride 1 and nothing else: CIFAR, input 32x32.
    Cifar,
}

/// What stands after the classifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// The network ends in logits.
    #[default]
    Logits,
    /// A log-softmax follows the classifier, as at the end of some `.t7`.
    LogSoftmax,
    /// A softmax follows the classifier, as in the Keras ports.
    Softmax,
}

impl Head {
    /// The name in metadata: `logits`, `log-softmax`, `softmax`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::LogSoftmax => "log-softmax",
            Self::Softmax => "softmax",
        }
    }

    /// The head of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Logits, Self::LogSoftmax, Self::Softmax].into_iter().find(|head| head.name() == name)
    }
}

/// How a pooling treats a window that hangs over the edge of its map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// The window is left out: 56, 28, 14 and 7 for an input of 224, as in Torch, PyTorch and TensorFlow.
    #[default]
    Floor,
    /// The window counts with the part of it that lies on the map: 57, 29, 15 and 8, as in Caffe and its ports to MXNet.
    Ceil,
}

impl Rounding {
    /// The name in metadata: `floor`, `ceil`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Ceil => "ceil",
        }
    }

    /// The rounding of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Floor, Self::Ceil].into_iter().find(|rounding| rounding.name() == name)
    }
}

/// The sizes of one DenseNet, published or free. Field names are torchvision's where it has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Dense layers in each dense block.
    pub block_config: Vec<usize>,
    /// Channels that each dense layer adds (k in the paper).
    pub growth_rate: usize,
    /// Channels of the stem's convolution.
    pub num_init_features: usize,
    /// What stands before the first block.
    #[serde(default)]
    pub stem: Stem,
    /// Width of the 1x1 bottleneck in growth rates (4 in the paper); `None`: no bottleneck (the paper's plain DenseNet).
    #[serde(default)]
    pub bn_size: Option<usize>,
    /// Share of the channels that a transition keeps, rounded down (θ in the paper; 1 without compression).
    #[serde(default = "one")]
    pub compression: f64,
    /// Dropout probability after each convolution but the first, in training.
    #[serde(default)]
    pub drop_rate: f64,
    /// Outputs of the classifier.
    #[serde(default = "imagenet_classes")]
    pub num_classes: usize,
    /// Channels of the input: 3, or 1 for grey images.
    #[serde(default = "rgb")]
    pub in_channels: usize,
    /// Added to the variance in every batch norm.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// What stands after the classifier.
    #[serde(default)]
    pub head: Head,
    /// Which windows the poolings count.
    #[serde(default)]
    pub pooling: Rounding,
}

fn one() -> f64 {
    1.0
}
fn imagenet_classes() -> usize {
    1000
}
fn rgb() -> usize {
    3
}
fn default_eps() -> f64 {
    Config::EPS
}

/// Sizes that no network can have.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A size is zero, not finite, or beyond any use.
    #[error("{field} is {value}; it must be {must}")]
    Size {
        /// The field of [`Config`].
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        must: &'static str,
    },
    /// A depth that does not split into equal blocks.
    #[error("depth {depth} does not give {blocks} equal blocks; use depth = {blocks} * n * {convs} + {rest}")]
    Depth {
        /// The depth asked for.
        depth: usize,
        /// Equal blocks.
        blocks: usize,
        /// Convolutions in a dense layer.
        convs: usize,
        /// Layers outside the blocks.
        rest: usize,
    },
}

impl Config {
    /// The eps of every Torch and PyTorch batch norm here.
    pub const EPS: f64 = 1e-5;

    /// An ImageNet network: bottleneck 4, compression 0.5, 1000 classes.
    pub fn imagenet(block_config: &[usize], growth_rate: usize, num_init_features: usize) -> Self {
        Self {
            block_config: block_config.to_vec(),
            growth_rate,
            num_init_features,
            stem: Stem::Imagenet,
            bn_size: Some(4),
            compression: 0.5,
            drop_rate: 0.0,
            num_classes: 1000,
            in_channels: 3,
            eps: Self::EPS,
            head: Head::Logits,
            pooling: Rounding::Floor,
        }
    }

    /// A plain CIFAR network of the paper: three equal blocks, no bottleneck, no compression, 16 stem channels, 10 classes.
    ///
    /// The current Torch script starts from `2 * growth_rate` instead: set `num_init_features`.
    pub fn cifar(depth: usize, growth_rate: usize) -> Result<Self, ConfigError> {
        Self::equal_blocks(depth, growth_rate, None, 1.0, 16)
    }

    /// A CIFAR DenseNet-BC: three equal blocks, bottleneck 4, compression 0.5, `2 * growth_rate` stem channels, 10 classes.
    pub fn cifar_bc(depth: usize, growth_rate: usize) -> Result<Self, ConfigError> {
        Self::equal_blocks(depth, growth_rate, Some(4), 0.5, 2 * growth_rate)
    }

    fn equal_blocks(
        depth: usize,
        growth_rate: usize,
        bn_size: Option<usize>,
        compression: f64,
        num_init_features: usize,
    ) -> Result<Self, ConfigError> {
        // Stem, two transitions and classifier are the 4 layers outside the blocks.
        let (blocks, rest) = (3, 4);
        let convs = if bn_size.is_some() { 2 } else { 1 };
        let layers = depth.saturating_sub(rest) / (blocks * convs);
        if layers == 0 || layers * blocks * convs + rest != depth {
            return Err(ConfigError::Depth { depth, blocks, convs, rest });
        }
        let config = Self {
            block_config: vec![layers; blocks],
            growth_rate,
            num_init_features,
            stem: Stem::Cifar,
            bn_size,
            compression,
            num_classes: 10,
            ..Self::imagenet(&[], growth_rate, num_init_features)
        };
        config.validate().map(|()| config)
    }

    /// The same network with another number of classes.
    #[must_use]
    pub fn with_classes(self, num_classes: usize) -> Self {
        Self { num_classes, ..self }
    }

    /// Channels of the first block's input, then of each block's output.
    pub fn block_outputs(&self) -> Vec<usize> {
        let mut channels = self.num_init_features;
        let last = self.block_config.len();
        (1..=last)
            .zip(&self.block_config)
            .map(|(block, layers)| {
                let out = channels + layers * self.growth_rate;
                channels = if block == last { out } else { self.transition_output(out) };
                out
            })
            .collect()
    }

    /// Channels after the transition that follows a block of `channels` outputs.
    pub fn transition_output(&self, channels: usize) -> usize {
        (channels as f64 * self.compression).floor() as usize
    }

    /// Channels that the classifier reads.
    pub fn num_features(&self) -> usize {
        self.block_outputs().last().copied().unwrap_or(self.num_init_features)
    }

    /// The input's side for which the network was published: 224 or 32.
    pub fn input_size(&self) -> usize {
        match self.stem {
            Stem::Imagenet => 224,
            Stem::Cifar => 32,
        }
    }

    /// Whether both have the same parameters up to the classifier's width and the input's channels.
    pub fn same_network(&self, other: &Self) -> bool {
        self.block_config == other.block_config
            && self.growth_rate == other.growth_rate
            && self.num_init_features == other.num_init_features
            && self.stem == other.stem
            && self.bn_size == other.bn_size
            && self.block_config.len() == other.block_config.len()
            && self.block_outputs() == other.block_outputs()
    }

    /// The published name (`densenet-169`), or the sizes of a free network:
    /// `densenet-bc(3,3,3)-k8-s16`, with `bc` for bottleneck, `k` the growth rate and `s` the stem width.
    pub fn name(&self) -> String {
        if let Some(network) = crate::networks::all().iter().find(|network| network.config.same_network(self)) {
            return network.name.to_owned();
        }
        let blocks = self.block_config.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let kind = match (self.bn_size.is_some(), self.compression < 1.0) {
            (true, true) => "-bc",
            (true, false) => "-b",
            (false, true) => "-c",
            (false, false) => "",
        };
        format!("densenet{kind}({blocks})-k{}-s{}", self.growth_rate, self.num_init_features)
    }

    /// Refuses sizes that are zero or so large that counting overflows.
    pub fn validate(&self) -> Result<(), ConfigError> {
        const MOST: usize = 1 << 16;
        let size = |field, value: usize| match value {
            1..=MOST => Ok(()),
            _ => Err(ConfigError::Size { field, value: value.to_string(), must: "from 1 to 65536" }),
        };
        size("the number of blocks", self.block_config.len())?;
        if self.block_config.len() > 16 {
            let value = self.block_config.len().to_string();
            return Err(ConfigError::Size { field: "the number of blocks", value, must: "at most 16" });
        }
        for &layers in &self.block_config {
            size("block_config", layers)?;
            // The largest published block has 83.
            if layers > 1024 {
                let value = layers.to_string();
                return Err(ConfigError::Size { field: "block_config", value, must: "at most 1024" });
            }
        }
        size("growth_rate", self.growth_rate)?;
        size("num_init_features", self.num_init_features)?;
        size("bn_size", self.bn_size.unwrap_or(1))?;
        size("num_classes", self.num_classes)?;
        size("in_channels", self.in_channels)?;
        let share = |field, value: f64, ok: bool, must| {
            if ok { Ok(()) } else { Err(ConfigError::Size { field, value: value.to_string(), must }) }
        };
        let compression = self.compression;
        share("compression", compression, compression > 0.0 && compression <= 1.0, "above 0 and at most 1")?;
        share("drop_rate", self.drop_rate, (0.0..1.0).contains(&self.drop_rate), "at least 0 and below 1")?;
        share("eps", self.eps, self.eps > 0.0 && self.eps < 1.0, "above 0 and below 1")?;
        for &channels in &self.block_outputs() {
            size("a transition's output", self.transition_output(channels).min(MOST))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_that_does_not_split_is_refused() {
        let error = Config::cifar(41, 12).unwrap_err();
        assert_eq!(error.to_string(), "depth 41 does not give 3 equal blocks; use depth = 3 * n * 1 + 4");
        assert!(Config::cifar_bc(4, 12).is_err());
        assert_eq!(Config::cifar_bc(100, 12).unwrap().block_config, [16, 16, 16]);
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let good = Config::imagenet(&[6, 12, 24, 16], 32, 64);
        assert_eq!(good.validate(), Ok(()));
        for bad in [
            Config { growth_rate: 0, ..good.clone() },
            Config { block_config: vec![], ..good.clone() },
            Config { block_config: vec![1; 17], ..good.clone() },
            Config { block_config: vec![6, usize::MAX], ..good.clone() },
            Config { compression: f64::NAN, ..good.clone() },
            Config { compression: 1e-9, ..good.clone() },
            Config { eps: 0.0, ..good.clone() },
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn free_networks_are_named_by_their_sizes() {
        assert_eq!(Config::imagenet(&[6, 12, 32, 32], 32, 64).with_classes(2).name(), "densenet-169");
        assert_eq!(Config::cifar_bc(22, 8).unwrap().name(), "densenet-bc(3,3,3)-k8-s16");
        assert_eq!(Config::cifar(13, 4).unwrap().name(), "densenet(3,3,3)-k4-s16");
    }
}
