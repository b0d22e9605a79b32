//! What training adds to the kernels: statistics of what was just written, the way of a gradient back through norm and
//! ReLU, and the gradients of weights.
//!
//! They run over pixels that the convolution before them left in a near cache, which is why none of them is part of a
//! convolution's tile.

mod affine;
mod drop;
mod gate;
mod max_pool;
mod measure;
mod outer;

pub(crate) use affine::{Affine, Terms};
pub(crate) use drop::{Drop, bits, limit, mix, scale};
pub(crate) use gate::{GateAdd, GateSet, GateStore, Unit};
pub(crate) use max_pool::MaxPoolGradient;
pub(crate) use measure::Measure;
pub(crate) use outer::{Grid, Outer};

/// Most pixels whose sums are taken in `f32` before they are added up in `f64`.
const RUN: usize = 64;
