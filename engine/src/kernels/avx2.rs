//! Sixteen lanes in two 256-bit registers.

use std::arch::x86_64::{
    __m256, _CMP_GT_OQ, _CMP_NLT_UQ, _CMP_UNORD_Q, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_and_ps,
    _mm256_blendv_ps, _mm256_cmp_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_mul_ps, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::{Kernel, Simd};
use crate::lanes::Lanes;

/// Proof that the processor has AVX2 and FMA: only [`detect`](Self::detect) makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    /// Runs a kernel, compiled for AVX2 and FMA.
    pub(crate) fn run<K: Kernel>(self, kernel: K) {
        #[target_feature(enable = "avx2,fma")]
        fn inner<K: Kernel>(simd: Avx2, kernel: K) {
            kernel.run(simd);
        }
        // SAFETY: `self` exists, so the processor has AVX2 and FMA.
        unsafe { inner(self, kernel) }
    }
}

impl Simd for Avx2 {
    type V = [__m256; 2];
    // Twelve accumulators, two registers of weights and one of a pixel.
    const PIXELS: usize = 6;
    const VECTORS: usize = 1;

    #[inline(always)]
    fn load(self, from: &Lanes) -> Self::V {
        let at = from.0.as_ptr();
        // SAFETY: AVX2 and FMA are there, as for all below; the reference is to sixteen f32, eight from each address.
        unsafe { [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))] }
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut Lanes) {
        let at = to.0.as_mut_ptr();
        // SAFETY: AVX2 is there; the reference is to sixteen f32, eight from each address.
        unsafe {
            _mm256_storeu_ps(at, v[0]);
            _mm256_storeu_ps(at.add(8), v[1]);
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        // SAFETY: AVX2 is there.
        [unsafe { _mm256_set1_ps(value) }; 2]
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX2 is there.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX2 is there.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: FMA is there.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    // The instruction gives its second operand where either is NaN; a NaN in the first is put back.
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX2 is there.
        unsafe {
            let nan = [_mm256_cmp_ps::<_CMP_UNORD_Q>(a[0], a[0]), _mm256_cmp_ps::<_CMP_UNORD_Q>(a[1], a[1])];
            let larger = [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])];
            [_mm256_blendv_ps(larger[0], a[0], nan[0]), _mm256_blendv_ps(larger[1], a[1], nan[1])]
        }
    }

    #[inline(always)]
    fn relu(self, v: Self::V) -> Self::V {
        // SAFETY: AVX2 is there.
        unsafe {
            let least = _mm256_set1_ps(f32::MIN_POSITIVE);
            // "Not less" holds for NaN.
            [
                _mm256_and_ps(v[0], _mm256_cmp_ps::<_CMP_NLT_UQ>(v[0], least)),
                _mm256_and_ps(v[1], _mm256_cmp_ps::<_CMP_NLT_UQ>(v[1], least)),
            ]
        }
    }

    #[inline(always)]
    fn prefetch(self, line: &Lanes) {
        // SAFETY: it only hints, and at memory that is there.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.0.as_ptr().cast()) }
    }

    #[inline(always)]
    fn where_positive(self, gate: Self::V, v: Self::V) -> Self::V {
        // SAFETY: AVX2 is there.
        unsafe {
            let zero = _mm256_setzero_ps();
            let open = [_mm256_cmp_ps::<_CMP_GT_OQ>(gate[0], zero), _mm256_cmp_ps::<_CMP_GT_OQ>(gate[1], zero)];
            [_mm256_and_ps(open[0], v[0]), _mm256_and_ps(open[1], v[1])]
        }
    }
}
