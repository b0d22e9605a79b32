//! The loops that take the time, written once over a logical vector of sixteen `f32` and compiled for each
//! instruction set.
//!
//! A kernel is a struct of slices. Its `run` is generic over [`Simd`], and [`Backend::run`] compiles it into a function
//! that may use the instruction set's registers. Slices are checked once for a row or a tile; the only `unsafe` here is
//! in `avx2.rs`, `avx512.rs` and `neon.rs`, around the intrinsics.

mod gemm;
mod pack;
mod peak;
mod pool;
mod portable;
mod stem;
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
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
#[allow(unsafe_code)]
mod neon;

pub(crate) use gemm::{CHUNK, Gemm, ROOM};
pub(crate) use pack::{Activate, ActivateAndAverage, Panel, patches};
pub(crate) use pool::{MaxPool, SumRow};
pub(crate) use stem::StemRow;
pub(crate) use three::Three;
pub(crate) use tile::Tiling;
pub(crate) use winograd::{FAR, FromTiles, MOST_INPUTS, MOST_OUTPUTS, NEAR, ToTiles};

use crate::Isa;
use crate::lanes::{LANES, Lanes, pair, unpair};

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
    /// Each two neighbours as bf16 in a lane, in the first eight; see [`lanes::pair`](crate::lanes::pair).
    #[inline(always)]
    fn pairs(self, v: Self::V) -> Self::V {
        let mut lanes = Lanes::ZERO;
        self.store(v, &mut lanes);
        let pairs: [f32; LANES / 2] = std::array::from_fn(|lane| pair(lanes.0[2 * lane], lanes.0[2 * lane + 1]));
        lanes.0[..LANES / 2].copy_from_slice(&pairs);
        self.load(&lanes)
    }

    /// Adds the products of each lane's two pairs of bf16 to its sum. This one is right and slow.
    #[inline(always)]
    fn dot(self, a: Self::V, b: Self::V, sum: Self::V) -> Self::V {
        let mut lanes = [Lanes::ZERO; 3];
        for (v, lanes) in [a, b, sum].into_iter().zip(&mut lanes) {
            self.store(v, lanes);
        }
        let [a, b, mut sum] = lanes;
        for ((&a, &b), sum) in a.0.iter().zip(&b.0).zip(&mut sum.0) {
            let (a, b) = (unpair(a), unpair(b));
            *sum += a[0] * b[0] + a[1] * b[1];
        }
        self.load(&sum)
    }

    /// Zero where negative or subnormal; NaN stays NaN.
    fn relu(self, v: Self::V) -> Self::V;
    /// Brings a cache line near that is read soon, where the processor can be told.
    #[inline(always)]
    fn prefetch(self, _line: &Lanes) {}
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
    Avx512(avx512::Avx512<false>),
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(avx512::Avx512<true>),
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    Neon(neon::Neon),
}

impl Isa {
    /// The kernels of this set, if the processor can run them.
    pub(crate) fn backend(self) -> Option<Backend> {
        match self {
            Self::Portable => Some(Backend::Portable(portable::Portable)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::detect().map(Backend::Avx2),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Avx512::<false>::detect().map(Backend::Avx512),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Self::Neon => Some(Backend::Neon(neon::Neon)),
            #[allow(unreachable_patterns)]
            _ => None,
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
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(simd) => simd.run(kernel),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Self::Neon(simd) => kernel.run(simd),
        }
    }

    /// The same set with products in bf16, if the processor has them. The portable kernels emulate them.
    pub(crate) fn with_bf16(self) -> Option<Self> {
        match self {
            Self::Portable(_) => Some(self),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => avx512::Avx512::<true>::detect().map(Self::Avx512Bf16),
            _ => None,
        }
    }

    /// The set's name in public.
    pub(crate) fn isa(self) -> Isa {
        match self {
            Self::Portable(_) => Isa::Portable,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Isa::Avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) | Self::Avx512Bf16(_) => Isa::Avx512,
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Self::Neon(_) => Isa::Neon,
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
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(simd) => of(simd),
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Self::Neon(simd) => of(simd),
        }
    }
}
