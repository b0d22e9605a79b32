//! Sixteen lanes in four 128-bit registers. This is compiled only for targets all of whose processors have NEON.

use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vandq_u32, vbicq_u32, vcgtzq_f32, vcltq_f32, vdupq_n_f32, vfmaq_f32, vld1q_f32, vmaxq_f32,
    vmulq_f32, vreinterpretq_f32_u32, vreinterpretq_u32_f32, vst1q_f32,
};
use std::array::from_fn;

use super::Simd;
use crate::lanes::Lanes;

/// Any processor with NEON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon;

impl Simd for Neon {
    type V = [float32x4_t; 4];
    // 24 accumulators, four registers of weights and one of a pixel.
    const PIXELS: usize = 6;
    const VECTORS: usize = 1;

    #[inline(always)]
    fn load(self, from: &Lanes) -> Self::V {
        let parts = from.0.as_chunks::<4>().0;
        // SAFETY: NEON is there, as for all below; each part is four f32.
        from_fn(|i| unsafe { vld1q_f32(parts[i].as_ptr()) })
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut Lanes) {
        for (part, to) in v.into_iter().zip(to.0.as_chunks_mut::<4>().0) {
            // SAFETY: NEON is there; each part is four f32.
            unsafe { vst1q_f32(to.as_mut_ptr(), part) }
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        // SAFETY: NEON is there.
        [unsafe { vdupq_n_f32(value) }; 4]
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: NEON is there.
        from_fn(|i| unsafe { vaddq_f32(a[i], b[i]) })
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: NEON is there.
        from_fn(|i| unsafe { vmulq_f32(a[i], b[i]) })
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: NEON is there.
        from_fn(|i| unsafe { vfmaq_f32(c[i], a[i], b[i]) })
    }

    // The instruction gives NaN where either is.
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: NEON is there.
        from_fn(|i| unsafe { vmaxq_f32(a[i], b[i]) })
    }

    // "Less" does not hold for NaN, which stays.
    #[inline(always)]
    fn relu(self, v: Self::V) -> Self::V {
        // SAFETY: NEON is there.
        from_fn(|i| unsafe {
            let less = vcltq_f32(v[i], vdupq_n_f32(f32::MIN_POSITIVE));
            vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v[i]), less))
        })
    }

    #[inline(always)]
    fn where_positive(self, gate: Self::V, v: Self::V) -> Self::V {
        // SAFETY: NEON is there.
        from_fn(|i| unsafe { vreinterpretq_f32_u32(vandq_u32(vcgtzq_f32(gate[i]), vreinterpretq_u32_f32(v[i]))) })
    }
}
