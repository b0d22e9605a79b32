//! The loops that take the time, written once over a logical vector of sixteen `f32` and compiled for each
//! instruction set.
//!
//! A kernel is a struct of slices. Its `run` is generic over [`Simd`], and [`Backend::run`] compiles it into a function
//! that may use the instruction set's registers. Slices are checked once for a row or a tile; the only `unsafe` here is
//! in `avx2.rs` and `avx512.rs`, around the intrinsics.

mod gemm;
mod pack;
mod pool;
mod portable;
#[cfg(test)]
mod testing;
mod three;
mod tile;
pub(crate) mod train;
mod winograd;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;

pub(crate) use gemm::{CHUNK, Gemm, ROOM};
pub(crate) use pack::{Activate, ActivateAndAverage, Panel, patches};
pub(crate) use pool::{MaxPool, SumRow};
pub(crate) use three::Three;
pub(crate) use tile::Tiling;
pub(crate) use winograd::{FAR, FromTiles, NEAR, POSITIONS, TILE_SIDE, ToTiles};

use crate::Isa;
use crate::lanes::Lanes;

/// Arithmetic on sixteen lanes. A value of the type is the proof that the processor can do it.
pub(crate) trait Simd: Copy {
    /// Sixteen `f32` in registers.
    type V: Copy;
    /// Pixels in a tile: together with `VECTORS`, as many accumulators as the registers hold.
    const PIXELS: usize;
    /// Output vectors in a tile: 1 or 2.
    const VECTORS: usize;

    fn load(self, from: &Lanes) -> Self::V;
    fn store(self, v: Self::V, to: &mut Lanes);
    fn splat(self, value: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the processor can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; NaN where either is.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// Zero where negative; NaN stays NaN.
    fn relu(self, v: Self::V) -> Self::V;
    /// `v` where `gate` is above zero, else zero: how a gradient passes a ReLU.
    fn where_positive(self, gate: Self::V, v: Self::V) -> Self::V;
}

/// Work that can be compiled for any instruction set.
pub(crate) trait Kernel {
    /// Must be `#[inline(always)]`, and so must what it calls with vectors.
    fn run<S: Simd>(self, simd: S);
}

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Backend {
    Portable(portable::Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
}

impl Isa {
    /// The kernels of this set, if the processor can run them.
    pub(crate) fn backend(self) -> Option<Backend> {
        match self {
            Self::Portable => Some(Backend::Portable(portable::Portable)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::detect().map(Backend::Avx2),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Avx512::detect().map(Backend::Avx512),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => None,
        }
    }
}

impl Backend {
    /// Runs a kernel.
    pub(crate) fn run(self, kernel: impl Kernel) {
        match self {
            Self::Portable(simd) => kernel.run(simd),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.run(kernel),
        }
    }

    /// The set's name in public.
    pub(crate) fn isa(self) -> Isa {
        match self {
            Self::Portable(_) => Isa::Portable,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Isa::Avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Isa::Avx512,
        }
    }

    /// Pixels and output vectors of a tile.
    pub(crate) fn tile(self) -> (usize, usize) {
        fn of<S: Simd>(_: S) -> (usize, usize) {
            (S::PIXELS, S::VECTORS)
        }
        match self {
            Self::Portable(simd) => of(simd),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => of(simd),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => of(simd),
        }
    }
}
