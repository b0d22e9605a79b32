//! Kernels of our own for CUDA, compiled by NVRTC when they are first launched.

mod dropout;
mod launch;
mod norm;
mod pool;

pub(crate) use dropout::dropped;
pub(crate) use norm::{affine_relu, gated};
pub(crate) use pool::max_3x3_backward;
