//! One published weight file, as the catalogue describes it.

use densenet_arch::{Config, Protocol, Rounding, networks};
use serde::{Deserialize, Serialize};

use crate::{Digest, Error};

/// A published weight file and what is known of it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says a thing of its own")]
pub struct Weight {
    /// `arch.tag`: `densenet-169.tv`.
    pub name: String,
    /// Its network.
    pub network: Network,
    /// Whether the bare architecture's name means this file.
    pub recommended: bool,
    /// What nobody has verified of it, in words; such a file is never recommended.
    pub unverified: Option<String>,
    /// Who wrote the file.
    pub format: SourceFormat,
    /// The file itself.
    pub file: WeightFile,
    /// How an image becomes the input.
    pub protocol: Protocol,
    /// Whether no source states the protocol, so that the likeliest stands here.
    pub protocol_assumed: bool,
    /// Whether the batch norms' eps is known.
    pub bn_eps_stated: bool,
    /// The licence as its source states it, with its caveats.
    pub licence: String,
    /// The licence's own name, where the statement says more than that.
    pub licence_id: Option<String>,
    /// Ported from what, by whom.
    pub provenance: String,
    /// Errors that were published for these weights.
    pub published: Vec<Published>,
    /// Anything else worth knowing.
    pub notes: Option<String>,
    /// Where all this was published.
    pub sources: Vec<String>,
    /// Names of the classes, where they are not ImageNet's.
    pub labels: Option<Vec<String>>,
    /// Embedded file with logits that the original framework gave, for [`embedded`](crate::embedded).
    pub reference: Option<String>,
    /// Whether the converters read it.
    pub convertible: bool,
}

/// A network by name or by its sizes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "a network is its name, { like = NAME, num_classes = N, in_channels = N, eps = X, pooling = floor|ceil }, or its \
                 sizes: block_config, growth_rate, num_init_features, stem, bn_size, compression, num_classes, in_channels, eps, \
                 pooling"
)]
pub enum Network {
    /// A row of the table of networks, or a network that is listed only.
    Named(String),
    /// A row of the table with other ends.
    Like(Like),
    /// A free one.
    Free(Config),
}

/// A network of the table that differs in what does not change its name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Like {
    /// The row's name.
    pub like: String,
    /// Outputs of the classifier.
    pub num_classes: Option<usize>,
    /// Channels of the input.
    pub in_channels: Option<usize>,
    /// Added to the variance in every batch norm.
    pub eps: Option<f64>,
    /// How its poolings round.
    pub pooling: Option<Rounding>,
}

/// The family of file formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceFormat {
    /// `.t7`.
    Torch7,
    /// `.pth`, `.pt`, `.bin`.
    Pytorch,
    /// `.safetensors`.
    Safetensors,
    /// `.caffemodel`, `.prototxt`.
    Caffe,
    /// `init_net.pb`, `predict_net.pb`.
    Caffe2,
    /// `.h5`, `.keras`.
    Keras,
    /// `.params`.
    Mxnet,
    /// `.onnx`.
    Onnx,
    /// `.pdparams`.
    Paddle,
    /// Checkpoints of TensorFlow.
    Tensorflow,
    /// `.tflite`.
    Tflite,
    /// `.bin` with `.xml`.
    Openvino,
    /// Julia's BSON.
    Flux,
}

/// Where a file is and how it is known again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightFile {
    /// A readable name.
    pub name: String,
    /// `https:`, `http:`, `file:`, `embedded:PATH`, `hf:org/repo@revision/file` or `gdrive:ID`, tried in order.
    pub urls: Vec<String>,
    /// Where it once was. Nothing tries them.
    pub historic_urls: Vec<String>,
    /// Pages about it. Nothing tries them.
    pub pages: Vec<String>,
    /// Bytes, where known exactly.
    pub size: Option<u64>,
    /// What is said of its size otherwise, rounded.
    pub size_note: Option<String>,
    /// The strongest digest known.
    pub digest: Option<Digest>,
    /// Further digests: kind and digits.
    pub further_digests: Vec<(&'static str, String)>,
    /// The file inside it whose digest was published, where it is an archive.
    pub member: Option<Member>,
}

/// A file inside an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
}

/// How much is known of a file's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// All of its sha256.
    Full,
    /// Less: a part, a weaker kind, or that of a file inside it.
    Partial,
    /// Nothing.
    None,
}

/// An error that was published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// `imagenet-val`, `digits-val` …
    pub dataset: String,
    /// Per cent.
    pub top1_error: f64,
    /// Per cent.
    #[serde(default)]
    pub top5_error: Option<f64>,
    /// The protocol's name, in words where it has none.
    pub protocol: String,
    /// Crops an image: 1 or 10.
    pub crops: u32,
    /// Where it was published.
    pub source: String,
}

impl Network {
    /// The table's name, or the sizes of a free network.
    pub fn name(&self) -> String {
        match self {
            Self::Named(name) | Self::Like(Like { like: name, .. }) => name.clone(),
            Self::Free(config) => config.name(),
        }
    }

    /// Its sizes; `None` for a network that is listed only.
    pub fn config(&self) -> Option<Config> {
        let row = |name: &str| networks::find(name).map(|network| network.config.clone());
        match self {
            Self::Named(name) => row(name),
            Self::Like(Like { like, num_classes, in_channels, eps, pooling }) => row(like).map(|config| Config {
                num_classes: num_classes.unwrap_or(config.num_classes),
                in_channels: in_channels.unwrap_or(config.in_channels),
                eps: eps.unwrap_or(config.eps),
                pooling: pooling.unwrap_or(config.pooling),
                ..config
            }),
            Self::Free(config) => Some(config.clone()),
        }
    }
}

impl SourceFormat {
    /// Every format, those that the converters read first.
    pub const ALL: [Self; 13] = [
        Self::Torch7,
        Self::Pytorch,
        Self::Safetensors,
        Self::Caffe,
        Self::Keras,
        Self::Mxnet,
        Self::Onnx,
        Self::Caffe2,
        Self::Paddle,
        Self::Tensorflow,
        Self::Tflite,
        Self::Openvino,
        Self::Flux,
    ];

    /// `torch7`, `pytorch`, `safetensors` …
    pub fn name(self) -> &'static str {
        match self {
            Self::Torch7 => "torch7",
            Self::Pytorch => "pytorch",
            Self::Safetensors => "safetensors",
            Self::Caffe => "caffe",
            Self::Caffe2 => "caffe2",
            Self::Keras => "keras",
            Self::Mxnet => "mxnet",
            Self::Onnx => "onnx",
            Self::Paddle => "paddle",
            Self::Tensorflow => "tensorflow",
            Self::Tflite => "tflite",
            Self::Openvino => "openvino",
            Self::Flux => "flux",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether the converters read it today.
    pub fn is_read(self) -> bool {
        matches!(
            self,
            Self::Torch7 | Self::Pytorch | Self::Safetensors | Self::Caffe | Self::Keras | Self::Mxnet | Self::Onnx
        )
    }
}

impl WeightFile {
    /// How much is known of its digest.
    pub fn known(&self) -> Known {
        match (&self.digest, &self.member) {
            (Some(Digest::Sha256(_)), _) => Known::Full,
            (None, None) => Known::None,
            _ => Known::Partial,
        }
    }
}

impl Weight {
    /// The network's sizes; an error where the file is listed but cannot be converted.
    pub fn config(&self) -> Result<Config, Error> {
        let config = self.network.config().filter(|_| self.convertible);
        config.ok_or_else(|| Error::NotConvertible { name: self.name.clone() })
    }

    /// How much is known of the file's digest: `sha256` … `none`.
    pub fn digest_strength(&self) -> &'static str {
        match (&self.file.digest, self.file.member.as_ref().map(|member| &member.digest)) {
            (Some(digest), _) => digest.strength(),
            (None, Some(Digest::Sha256(_))) => "sha256 of the file inside",
            (None, Some(Digest::Sha256Prefix(_))) => "sha256 prefix of the file inside",
            (None, Some(Digest::Sha1(_))) => "sha1 of the file inside",
            (None, Some(Digest::Md5(_))) => "md5 of the file inside",
            (None, None) => "none",
        }
    }

    /// The licence's name, without the caveats.
    pub fn licence_name(&self) -> &str {
        self.licence_id.as_deref().unwrap_or(&self.licence)
    }

    /// What is added to the variance in every batch norm, where that is known.
    pub fn bn_eps(&self) -> Option<f64> {
        self.network.config().filter(|_| self.bn_eps_stated).map(|config| config.eps)
    }

    /// The published error to show where there is room for one: by the weight's own protocol if there is such a one.
    pub fn headline(&self) -> Option<&Published> {
        let own = |published: &&Published| published.protocol == self.protocol.name;
        self.published.iter().find(own).or(self.published.first())
    }

    /// The part of the name before the tag.
    pub fn arch(&self) -> &str {
        self.name.split_once('.').map_or(&self.name, |(arch, _)| arch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_called_in_toml_as_on_the_command_line() {
        for format in SourceFormat::ALL {
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{}\"", format.name()));
            assert_eq!(SourceFormat::from_name(format.name()), Some(format));
        }
        assert_eq!(SourceFormat::from_name("lua"), None);
    }

    #[test]
    fn a_network_like_another_keeps_its_name_and_changes_its_ends() {
        let like = Like {
            like: "densenet-121".into(),
            num_classes: Some(18),
            in_channels: Some(1),
            eps: Some(1.1e-5),
            pooling: None,
        };
        let network = Network::Like(like);
        let config = network.config().unwrap();
        assert_eq!((config.num_classes, config.in_channels, config.eps), (18, 1, 1.1e-5));
        // torchvision's count, less two input channels of the 7x7 stem and 982 classes.
        assert_eq!(config.parameter_count(), 7_978_856 - 64 * 2 * 49 - 982 * 1025);
        assert_eq!((network.name(), config.name()), ("densenet-121".into(), "densenet-121".into()));
    }
}
