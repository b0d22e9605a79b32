//! Maps as training and inference have them: a channel a row.

use candle_core::{DType, Device, Result, Tensor};

/// Shape of a batch's map, channels aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) batch: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Grid {
    /// Values of a channel.
    pub(super) fn pixels(self) -> usize {
        self.batch * self.height * self.width
    }

    /// Behind an average-pool 2x2.
    pub(super) fn halved(self) -> Self {
        Self { height: self.height / 2, width: self.width / 2, ..self }
    }

    /// Side by side in rows: (C, B, H, W) of (C, B*H*W).
    pub(super) fn unfold(self, rows: &Tensor) -> Result<Tensor> {
        rows.reshape(((), self.batch, self.height, self.width))
    }
}

/// (B, C, H, W) as rows (C, B*H*W).
pub(super) fn rows(map: &Tensor) -> Result<Tensor> {
    map.transpose(0, 1)?.contiguous()?.flatten_from(1)
}

/// Rows to be written all of: on a card of whatever its memory held.
pub(super) fn room(shape: (usize, usize), dtype: DType, device: &Device) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() && dtype != DType::F64 {
        return crate::gpu::empty(shape, dtype, device);
    }
    Tensor::zeros(shape, dtype, device)
}

/// The type in which sums are taken and statistics kept: half types are too short for both.
pub(super) fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// Whether our kernels for CUDA take such a map.
#[cfg(feature = "cuda")]
pub(super) fn has_kernels(x: &Tensor) -> bool {
    x.device().is_cuda() && x.dtype() != DType::F64
}
