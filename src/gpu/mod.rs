//! CUDA beyond candle: kernels of our own, compiled by NVRTC when they are first launched, and cuDNN.

#[cfg(feature = "cudnn")]
mod convolution;
#[cfg(feature = "cudnn")]
mod cudnn;
mod device;
mod dropout;
mod feed;
mod graph;
mod launch;
mod norm;
mod pool;
mod product;
#[cfg(feature = "cudnn")]
mod turn;

#[cfg(feature = "cudnn")]
pub(crate) use convolution::{Convolution, channels_last};
pub(crate) use device::open;
pub(crate) use dropout::dropped;
pub(crate) use feed::Feed;
pub(crate) use graph::Recorder;
pub(crate) use launch::empty;
pub(crate) use norm::{affine_of, affine_relu, gated, moments_into, noted_into, resolved, widened_into};
#[cfg(feature = "cudnn")]
pub(crate) use pool::pooled_last;
pub(crate) use pool::{Pooling, max_3x3_backward, pooled};
#[cfg(feature = "cudnn")]
pub(crate) use product::product_relu;
pub(crate) use product::{multiplies, product};
#[cfg(feature = "cudnn")]
pub(crate) use turn::{PACKED, affine_relu_turned, packed, turned, turned_into};
