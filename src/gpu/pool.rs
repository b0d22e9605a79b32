//! The two poolings behind a norm's ReLU, and the way back through the stem's max-pool: in one pass over the map, where candle
//! takes some six and sixty.

use candle_core::{DType, Result, Tensor};

use super::launch::{Argument, Kernel, Pool, Sides, empty, pointer};

/// What a window gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The largest of 3x3, with a cell of padding.
    Most,
    /// The mean of those of 2x2 that are on the map.
    Mean,
}

/// relu(scale·x + shift) of x (C, B, H, W) in f32, f16 or bf16, pooled at steps of 2 to (C, B, rows, columns); scale and shift are
/// (C, 1) in f32.
pub(crate) fn pooled(
    x: &Tensor,
    [scale, shift]: [&Tensor; 2],
    pooling: Pooling,
    (rows, columns): (usize, usize),
) -> Result<Tensor> {
    let (x, scale, shift) = (x.contiguous()?, scale.contiguous()?, shift.contiguous()?);
    let (channels, batch, height, width) = x.dims4()?;
    let (dtype, device) = (x.dtype(), x.device());
    let out = empty((channels, batch, rows, columns), dtype, device)?;
    let (side, before) = if pooling == Pooling::Most { (3, 1) } else { (2, 0) };
    let [height, width, rows, columns] = [height, width, rows, columns].map(|size| size as u32);
    let arguments = [
        pointer(&x, dtype)?,
        pointer(&scale, DType::F32)?,
        pointer(&shift, DType::F32)?,
        Argument::Pool(Pool { height, width, rows, columns, side, before }),
        Argument::Count((pooling == Pooling::Mean).into()),
        pointer(&out, dtype)?,
    ];
    let kernel = Kernel::over("pooled", (channels, out.elem_count() / channels));
    kernel.launch(device, dtype, &arguments)?;
    Ok(out)
}

/// The largest of 3x3 of relu(scale·x + shift), as [`pooled`], of x (B, H, W, C) in f16 or bf16 to (B, rows, columns, C), for C in
/// eights.
#[cfg(feature = "cudnn")]
pub(crate) fn pooled_last(x: &Tensor, affine: [&Tensor; 2], (rows, columns): (usize, usize)) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (batch, height, width, channels) = x.dims4()?;
    if channels % 8 != 0 {
        candle_core::bail!("{channels} channels are not eights");
    }
    let (dtype, device) = (x.dtype(), x.device());
    let out = empty((batch, rows, columns, channels), dtype, device)?;
    let [height, width, rows, columns] = [height, width, rows, columns].map(|size| size as u32);
    let [scale, shift] = affine;
    let arguments = [
        pointer(&x, dtype)?,
        pointer(scale, DType::F32)?,
        pointer(shift, DType::F32)?,
        Argument::Pool(Pool { height, width, rows, columns, side: 3, before: 1 }),
        Argument::Count(channels as u64),
        pointer(&out, dtype)?,
    ];
    Kernel::over("pooled_last", (1, out.elem_count() / 8)).launch(device, dtype, &arguments)?;
    Ok(out)
}

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
    let sides = Sides { height: height as u32, width: width as u32 };
    let arguments = [pointer(&x, dtype)?, pointer(&gradient, dtype)?, Argument::Sides(sides), pointer(&out, dtype)?];
    let kernel = Kernel::over("max_pool_back", (channels, gradient.elem_count() / channels));
    kernel.launch(device, dtype, &arguments)?;
    Ok(out)
}
