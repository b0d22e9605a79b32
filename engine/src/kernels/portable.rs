//! Sixteen lanes in plain Rust.

use super::Simd;
use crate::lanes::{LANES, Lanes};

/// Any processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Simd for Portable {
    type V = [f32; LANES];
    // Eight SSE registers of sums. The compiler does not keep those of a second pixel in registers.
    const PIXELS: usize = 1;
    const VECTORS: usize = 2;

    #[inline(always)]
    fn load(self, from: &Lanes) -> Self::V {
        from.0
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut Lanes) {
        to.0 = v;
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        [value; LANES]
    }

    #[inline(always)]
    fn add(self, mut a: Self::V, b: Self::V) -> Self::V {
        for lane in 0..LANES {
            a[lane] += b[lane];
        }
        a
    }

    #[inline(always)]
    fn mul(self, mut a: Self::V, b: Self::V) -> Self::V {
        for lane in 0..LANES {
            a[lane] *= b[lane];
        }
        a
    }

    // Two roundings: `f32::mul_add` is a call into the C library where the processor may lack the instruction.
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, mut c: Self::V) -> Self::V {
        for lane in 0..LANES {
            c[lane] += a[lane] * b[lane];
        }
        c
    }

    #[inline(always)]
    fn max(self, a: Self::V, mut b: Self::V) -> Self::V {
        for lane in 0..LANES {
            if a[lane] > b[lane] || a[lane].is_nan() {
                b[lane] = a[lane];
            }
        }
        b
    }

    #[inline(always)]
    fn relu(self, mut v: Self::V) -> Self::V {
        for lane in &mut v {
            if *lane < f32::MIN_POSITIVE {
                *lane = 0.0;
            }
        }
        v
    }

    #[inline(always)]
    fn where_positive(self, gate: Self::V, mut v: Self::V) -> Self::V {
        for lane in 0..LANES {
            v[lane] = if gate[lane] > 0.0 { v[lane] } else { 0.0 };
        }
        v
    }
}
