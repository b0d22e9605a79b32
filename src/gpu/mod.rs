//! Kernels of our own for CUDA, compiled by NVRTC when they are first launched.

mod affine_relu;

pub(crate) use affine_relu::affine_relu;
