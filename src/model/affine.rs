//! A norm as one multiplication and one addition, and the ReLU behind it.

use candle_core::{Result, Tensor};

/// A scale and a shift for each channel, (C, 1), f32 at least.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub(super) scale: Tensor,
    pub(super) shift: Tensor,
}

impl Affine {
    /// relu(scale·x + shift) of rows (C, M), in their type.
    pub(super) fn relu(&self, x: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if super::maps::has_kernels(x) {
            return crate::gpu::affine_relu(x, &self.scale, &self.shift);
        }
        let wide = x.to_dtype(self.scale.dtype())?;
        wide.broadcast_mul(&self.scale)?.broadcast_add(&self.shift)?.relu()?.to_dtype(x.dtype())
    }
}
