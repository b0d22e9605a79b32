//! Kernels of our own for CUDA, compiled by NVRTC when they are first launched.

mod launch;
mod norm;

pub(crate) use norm::{affine_relu, gated};
