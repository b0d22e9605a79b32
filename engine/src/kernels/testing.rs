//! Numbers for the kernels' tests.

use crate::lanes::{LANES, Lanes};

/// Numbers between -1 and 1, the same in every run.
pub(crate) struct Numbers(u64);

impl Default for Numbers {
    fn default() -> Self {
        Self(1)
    }
}

impl Numbers {
    pub(crate) fn take(&mut self, count: usize) -> Vec<f32> {
        let mut next = || {
            // Knuth's MMIX generator; the upper bits are the good ones.
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// So many vectors of them.
    pub(crate) fn lanes(&mut self, count: usize) -> Vec<Lanes> {
        self.take(count * LANES).as_chunks().0.iter().map(|&values| Lanes(values)).collect()
    }
}

/// Whether a sum of at most some hundred products of such numbers is right up to f32's rounding.
pub(crate) fn close(got: f32, want: f64) -> bool {
    (f64::from(got) - want).abs() <= 1e-5 * want.abs().max(1.0)
}

/// The cases to test; the first `few` of them under Miri, which takes a thousand times as long.
pub(crate) fn cases<T, const N: usize>(all: [T; N], few: usize) -> impl Iterator<Item = T> {
    all.into_iter().take(if cfg!(miri) { few } else { N })
}
