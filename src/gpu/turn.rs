//! Rows as columns: from a channel a row, (C, M), to the channels of a pixel side by side, (M, C), and back.

use candle_core::{DType, Result, Tensor};

use super::launch::{Argument, BLOCKS, Kernel, empty, pointer};

/// Values along a side of what a block turns at a time.
const TILE: usize = 32;

/// (M, C) of (C, M) in f32, f16 or bf16.
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

/// relu(scale·x + shift) of rows (C, M) as (M, C), in f32, f16 or bf16; scale and shift are (C, 1) in f32.
pub(crate) fn affine_relu_turned(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let (x, scale, shift) = (x.contiguous()?, scale.contiguous()?, shift.contiguous()?);
    let (rows, length) = x.dims2()?;
    let out = empty((length, rows), x.dtype(), x.device())?;
    run("affine_relu_turned", &x, &[pointer(&scale, DType::F32)?, pointer(&shift, DType::F32)?], &out)?;
    Ok(out)
}

fn run(name: &'static str, x: &Tensor, affine: &[Argument], out: &Tensor) -> Result<()> {
    let (rows, length) = x.dims2()?;
    if out.dims() != [length, rows] {
        candle_core::bail!("{:?} turned is not {:?}", x.dims(), out.dims());
    }
    let dtype = x.dtype();
    let tiles = rows.div_ceil(TILE) * length.div_ceil(TILE);
    let kernel = Kernel { name, rows: 1, length, blocks: tiles.clamp(1, BLOCKS * TILE) };
    let mut arguments = vec![pointer(x, dtype)?];
    arguments.extend(affine);
    arguments.extend([Argument::Count(rows as u64), pointer(out, dtype)?]);
    kernel.launch(x.device(), dtype, &arguments)
}
