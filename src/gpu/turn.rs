//! Rows as columns: from a channel a row, (C, M), to the channels of a pixel side by side, (M, C), and back.

use candle_core::{DType, Result, Tensor};

use super::launch::{Argument, Kernel, empty, pointer};

/// Values along a side of what a block turns at a time.
const TILE: usize = 64;

/// Channels of a packed image: the tensor cores take them by eights.
pub(crate) const PACKED: usize = 8;

/// (M, C) of (C, M) in f16 or bf16.
pub(crate) fn turned(x: &Tensor) -> Result<Tensor> {
    let (rows, length) = x.dims2()?;
    let out = empty((length, rows), x.dtype(), x.device())?;
    turned_into(x, &out)?;
    Ok(out)
}

/// The same into a contiguous tensor or part of one.
pub(crate) fn turned_into(x: &Tensor, out: &Tensor) -> Result<()> {
    run("turned", &x.contiguous()?, &[], out)
}

/// relu(scale·x + shift) of rows (C, M) as (M, C), in f16 or bf16; scale and shift are (C, 1) in f32.
pub(crate) fn affine_relu_turned(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let (x, scale, shift) = (x.contiguous()?, scale.contiguous()?, shift.contiguous()?);
    let (rows, length) = x.dims2()?;
    let out = empty((length, rows), x.dtype(), x.device())?;
    run("affine_relu_turned", &x, &[pointer(&scale, DType::F32)?, pointer(&shift, DType::F32)?], &out)?;
    Ok(out)
}

/// Images (B, C, H, W) of up to [`PACKED`] channels, in f16 or bf16, as (B, H, W, `PACKED`): the channels of a pixel side by
/// side, and zeros behind them.
pub(crate) fn packed(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (batch, channels, height, width) = x.dims4()?;
    if channels > PACKED {
        candle_core::bail!("{channels} channels are more than {PACKED}");
    }
    let out = empty((batch, height, width, PACKED), x.dtype(), x.device())?;
    let arguments = [pointer(&x, x.dtype())?, Argument::Count(channels as u64), pointer(&out, x.dtype())?];
    Kernel::over("packed", (batch, height * width)).launch(x.device(), x.dtype(), &arguments)?;
    Ok(out)
}

fn run(name: &'static str, x: &Tensor, affine: &[Argument], out: &Tensor) -> Result<()> {
    let (rows, length) = x.dims2()?;
    if out.dims() != [length, rows] {
        candle_core::bail!("{:?} turned is not {:?}", x.dims(), out.dims());
    }
    let dtype = x.dtype();
    let kernel = Kernel { blocks: rows.div_ceil(TILE) * length.div_ceil(TILE), ..Kernel::of_rows(name, 1, length) };
    let mut arguments = vec![pointer(x, dtype)?];
    arguments.extend(affine);
    arguments.extend([Argument::Count(rows as u64), pointer(out, dtype)?]);
    kernel.launch(x.device(), dtype, &arguments)
}
