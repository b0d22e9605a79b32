//! Sixteen lanes in one 512-bit register.

use std::arch::x86_64::{
    __m256, __m256bh, __m512, __m512bh, _CMP_GT_OQ, _CMP_NLT_UQ, _CMP_UNORD_Q, _MM_HINT_T0, _mm_prefetch,
    _mm512_add_ps, _mm512_castps256_ps512, _mm512_cmp_ps_mask, _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_mask_mov_ps, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps,
};

use std::mem::transmute;

use super::{Kernel, Simd};
use crate::lanes::Lanes;

/// Proof that the processor has AVX-512F, and where `BF16`, AVX512_BF16: only [`detect`](Self::detect) makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512<const BF16: bool>(());

impl<const BF16: bool> Avx512<BF16> {
    pub(crate) fn detect() -> Option<Self> {
        let detected = is_x86_feature_detected!("avx512f") && (!BF16 || is_x86_feature_detected!("avx512bf16"));
        detected.then_some(Self(()))
    }

    /// Runs a kernel, compiled for AVX-512.
    pub(crate) fn run<K: Kernel>(self, kernel: K) {
        #[target_feature(enable = "avx512f")]
        fn inner<K: Kernel, const BF16: bool>(simd: Avx512<BF16>, kernel: K) {
            kernel.run(simd);
        }
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn inner_bf16<K: Kernel, const BF16: bool>(simd: Avx512<BF16>, kernel: K) {
            kernel.run(simd);
        }
        // SAFETY: `self` exists, so the processor has AVX-512F, and where `BF16`, AVX512_BF16.
        unsafe { if BF16 { inner_bf16(self, kernel) } else { inner(self, kernel) } }
    }
}

impl<const BF16: bool> Simd for Avx512<BF16> {
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

    #[inline(always)]
    fn pairs(self, v: __m512) -> __m512 {
        assert!(BF16, "no bf16 kernels");
        // SAFETY: AVX512_BF16 is there; sixteen bf16 are as large as eight f32.
        unsafe { _mm512_castps256_ps512(transmute::<__m256bh, __m256>(_mm512_cvtneps_pbh(v))) }
    }

    #[inline(always)]
    fn dot(self, a: __m512, b: __m512, sum: __m512) -> __m512 {
        assert!(BF16, "no bf16 kernels");
        // SAFETY: AVX512_BF16 is there; 32 bf16 are as large as sixteen f32.
        unsafe { _mm512_dpbf16_ps(sum, transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b)) }
    }

    // The instruction gives its second operand where either is NaN; a NaN in the first is put back.
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), a) }
    }

    #[inline(always)]
    fn relu(self, v: __m512) -> __m512 {
        // SAFETY: AVX-512F is there. "Not less" holds for NaN.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(v, _mm512_set1_ps(f32::MIN_POSITIVE)), v) }
    }

    #[inline(always)]
    fn prefetch(self, line: &Lanes) {
        // SAFETY: it only hints, and at memory that is there.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.0.as_ptr().cast()) }
    }

    #[inline(always)]
    fn where_positive(self, gate: __m512, v: __m512) -> __m512 {
        // SAFETY: AVX-512F is there.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(gate, _mm512_setzero_ps()), v) }
    }
}
