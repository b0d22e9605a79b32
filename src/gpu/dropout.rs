//! Dropout, whose mask the card draws as the engine does.

use candle_core::{Result, Tensor};
use densenet_engine::train::Mask;

use super::launch::{self, Argument, Kernel, empty, pointer};

/// Of rows (C, M) in f32, f16 or bf16, images of so many pixels: zero where the mask drops, scaled where it keeps.
pub(crate) fn dropped(x: &Tensor, mask: Mask, pixels: usize) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (dtype, device) = (x.dtype(), x.device());
    let out = empty(x.shape(), dtype, device)?;
    let mask = launch::Mask { key: mask.key(), pixels: pixels as u64, limit: mask.limit(), scale: mask.scale() };
    let arguments = [pointer(&x, dtype)?, Argument::Mask(mask), pointer(&out, dtype)?];
    Kernel::over("dropout", x.dims2()?).launch(device, dtype, &arguments)?;
    Ok(out)
}
