//! One published weight file, as the catalogue describes it.

use densenet_arch::{Config, Protocol, networks};
use serde::{Deserialize, Serialize};

use crate::{Digest, Error};

/// A published weight file and what is known of it.
#[derive(Clone, Debug)]
pub struct Weight {
    /// `arch.tag`: `densenet-169.tv`.
    pub name: String,
    /// Its network.
    pub network: Network,
    /// Whether the bare architecture's name means this file.
    pub recommended: bool,
    /// Who wrote the file.
    pub format: SourceFormat,
    /// The file itself.
    pub file: WeightFile,
    /// How an image becomes the input.
    pub protocol: Protocol,
    /// The licence as its source states it.
    pub licence: String,
    /// Ported from what, by whom.
    pub provenance: String,
    /// Errors that were published for these weights.
    pub published: Vec<Published>,
    /// Anything else worth knowing.
    pub notes: Option<String>,
    /// Names of the classes, where they are not ImageNet's.
    pub labels: Option<Vec<String>>,
    /// Embedded file with logits that the original framework gave, for [`embedded`](crate::embedded).
    pub reference: Option<String>,
    /// Whether the converters read it.
    pub convertible: bool,
}

/// A network by name or by its sizes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Network {
    /// A row of the table of networks, or a network that is listed only.
    Named(String),
    /// A free one.
    Free(Config),
}

/// The family of file formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceFormat {
    /// `.t7`.
    Torch7,
    /// `.pth`, `.pt`, `.bin`.
    Pytorch,
    /// `.safetensors`.
    Safetensors,
}

/// Where a file is and how it is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightFile {
    /// A readable name.
    pub name: String,
    /// `https:`, `http:`, `file:`, `embedded:PATH` or `hf:org/repo@revision/file`, tried in order.
    pub urls: Vec<String>,
    /// Bytes, where known exactly.
    pub size: Option<u64>,
    /// The strongest digest known.
    pub digest: Option<Digest>,
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

impl SourceFormat {
    /// `torch7`, `pytorch`, `safetensors`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Torch7 => "torch7",
            Self::Pytorch => "pytorch",
            Self::Safetensors => "safetensors",
        }
    }
}

impl Weight {
    /// The network's sizes; an error where the file is listed but cannot be converted.
    pub fn config(&self) -> Result<Config, Error> {
        let config = match &self.network {
            _ if !self.convertible => None,
            Network::Named(name) => networks::find(name).map(|network| network.config.clone()),
            Network::Free(config) => Some(config.clone()),
        };
        config.ok_or_else(|| Error::NotConvertible { name: self.name.clone() })
    }

    /// How much is known of the file's digest: `sha256` … `none`.
    pub fn digest_strength(&self) -> &'static str {
        self.file.digest.as_ref().map_or("none", Digest::strength)
    }

    /// The part of the name before the tag.
    pub(crate) fn arch(&self) -> &str {
        self.name.split_once('.').map_or(&self.name, |(arch, _)| arch)
    }
}
