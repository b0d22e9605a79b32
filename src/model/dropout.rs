//! Dropout over rows, by the engine's masks.

use candle_core::{Device, Result, Tensor};
use densenet_engine::train::Mask;

use super::maps::Grid;

/// Of rows (C, M): zero where the mask drops, scaled where it keeps.
pub(super) fn dropped(x: &Tensor, grid: Grid, mask: Mask) -> Result<Tensor> {
    let pixels = grid.height * grid.width;
    #[cfg(feature = "cuda")]
    if super::maps::has_kernels(x) {
        return crate::gpu::dropped(x, mask, pixels);
    }
    let scale = mask.scale();
    let channels = x.dim(0)?;
    let mut factors = Vec::with_capacity(channels * grid.pixels());
    for channel in 0..channels {
        for image in 0..grid.batch {
            let factor = |pixel| if mask.keeps(image, channel, pixel, pixels) { scale } else { 0.0 };
            factors.extend((0..pixels).map(factor));
        }
    }
    let factors = Tensor::from_vec(factors, (channels, grid.pixels()), &Device::Cpu)?;
    x * factors.to_dtype(x.dtype())?.to_device(x.device())?
}
