//! Checkpoints in, named tensors out, safetensors written. Nothing that is read is ever executed.
//!
//! - [`read`] parses a file of any known format into a [`Checkpoint`]: its tensors under their own names, and its tree.
//! - [`convert`] maps a checkpoint to torchvision's names and accounts for every tensor; [`Conversion::write`] writes it.
//!
//! Untrusted bytes are the normal case: every length is checked against the bytes that are there before it is believed,
//! nesting has a budget, and an error says format, byte and cause.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod alloc;
mod caffe;
mod checkpoint;
mod convert;
mod cursor;
mod error;
mod float;
mod fold;
mod graph;
mod keras;
mod keymap;
mod mapping;
mod mxnet;
mod names;
mod npz;
mod onnx;
mod pickle;
mod pytorch;
mod report;
mod safetensors;
mod source;
mod storage;
pub mod t7;
mod tensor;
mod wire;
mod write;
mod zip;

pub use checkpoint::{Checkpoint, Format, NamedTensor, Node, Packed, detect, member, neighbours, packed, read};
pub use convert::{Conversion, Options, TOOL, convert};
pub use error::{Error, ErrorKind};
pub use keras::Kernels;
pub use keymap::Choice;
pub use npz::Layout;
pub use onnx::{Export, OPSETS};
pub use pickle::{PickleName, Verdict};
pub use report::{Change, Entry, Fate, Made, Report};
pub use source::Source;
pub use tensor::{DType, Tensor};
pub use write::{sha256, sha256_of, write_f32, write_raw};
