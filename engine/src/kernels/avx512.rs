//! Sixteen lanes in one 512-bit register.

use std::arch::x86_64::{
    __m512, _CMP_GT_OQ, _CMP_UNORD_Q, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_mask_mov_ps, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use super::{Kernel, Simd};
use crate::lanes::Lanes;

/// Proof that the processor has AVX-512F: only [`detect`](Self::detect) makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    /// Runs a kernel, compiled for AVX-512.
    pub(crate) fn run<K: Kernel>(self, kernel: K) {
        #[target_feature(enable = "avx512f")]
        fn inner<K: Kernel>(simd: Avx512, kernel: K) {
            kernel.run(simd);
        }
        // SAFETY: `self` exists, so the processor has AVX-512F.
        unsafe { inner(self, kernel) }
    }
}

impl Simd for Avx512 {
    type V = __m512;
    // 28 accumulators and two vectors of weights; pixels are broadcast from memory.
    const PIXELS: usize = 14;
    const VECTORS: usize = 2;

    #[inline(always)]
    fn load(self, from: &Lanes) -> __m512 {
        // SAFETY: AVX-512F is there, as for all below; the reference is to sixteen f32.
        unsafe { _mm512_loadu_ps(from.0.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, v: __m512, to: &mut Lanes) {
        // SAFETY: AVX-512F is there; the reference is to sixteen f32.
        unsafe { _mm512_storeu_ps(to.0.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    // The instruction gives its second operand where either is NaN; a NaN in the first is put back.
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), a) }
    }

    // Zero first: a NaN in the second operand stays.
    #[inline(always)]
    fn relu(self, v: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), v) }
    }

    #[inline(always)]
    fn where_positive(self, gate: __m512, v: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), v) }
    }
}
