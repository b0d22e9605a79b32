//! Every published DenseNet as one table, and the plain data that the rest of densenet-zoo shares.
//!
//! - [`Config`]: a network's sizes. Its [`layers`](Config::layers) are the one description from which parameter names,
//!   shapes, counts and multiply-adds follow.
//! - [`networks`]: the eight ImageNet and nine CIFAR networks that were published, found by name.
//! - [`recognise`]: from the names and shapes of a file's tensors back to a [`Config`].
//! - [`Protocol`]: how an image becomes the network's input, by name.
//! - [`Metadata`]: what travels in a safetensors header.
//!
//! Networks: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", arXiv 1608.06993, and
//! its technical report of 2017 for 264, 232 and the cosine networks. Parameter names are torchvision's.
#![forbid(unsafe_code)]

mod config;
mod layers;
mod metadata;
pub mod networks;
mod protocol;
mod recognise;
mod task;

pub use config::{Config, ConfigError, Head, Rounding, Stem};
pub use layers::{Layer, Op, Param, Role};
pub use metadata::{Metadata, MetadataError};
pub use protocol::{Channels, Fit, Interpolation, Protocol, ProtocolError, Range, Resize};
pub use recognise::{RecogniseError, recognise};
pub use task::Task;
