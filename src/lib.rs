//! DenseNet weights of any origin, ready to use: the catalogue of what was published, the network on candle, images by the
//! original preprocessing, evaluation.
//!
//! [`store::Store`] opens a model by name or path; [`store::Model::network`] builds it on a device.
#![deny(unsafe_code)]

pub mod card;
pub mod data;
pub mod device;
mod error;
pub mod eval;
pub mod explain;
pub mod files;
#[cfg(feature = "cuda")]
mod gpu;
pub mod hf;
pub mod input;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod parity;
pub mod predictions;
pub mod report;
pub mod runner;
pub mod store;
pub mod train;

pub use error::{Error, Result};
