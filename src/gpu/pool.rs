//! The way back through the stem's max-pool, in one pass over the map, where candle takes some sixty.

use candle_core::{Result, Tensor};

use super::launch::{Argument, BLOCKS, Kernel, Sides, empty, pointer};

/// From x (C, B, H, W) and the gradient by its max-pool 3x3 with stride 2 and padding 1, (C, B, (H+1)/2, (W+1)/2), in f32, f16
/// or bf16, to that by x: each place's goes to the first of its largest values, row by row.
pub(crate) fn max_3x3_backward(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (x, gradient) = (x.contiguous()?, gradient.contiguous()?);
    let (channels, batch, height, width) = x.dims4()?;
    let expected = [channels, batch, height.div_ceil(2), width.div_ceil(2)];
    if gradient.dims() != expected {
        candle_core::bail!("a gradient of {:?}, not {expected:?}", gradient.dims());
    }
    let (dtype, device) = (x.dtype(), x.device());
    let out = empty(x.shape(), dtype, device)?;
    let sides = Sides { height: height as u64, width: width as u64 };
    let arguments = [pointer(&x, dtype)?, pointer(&gradient, dtype)?, Argument::Sides(sides), pointer(&out, dtype)?];
    let kernel = Kernel::over("max_pool_back", (channels, batch * height * width), BLOCKS);
    kernel.launch(device, dtype, &arguments)?;
    Ok(out)
}
