//! Rows as columns: from a channel a row, (C, M), to the channels of a pixel side by side, (M, C), and back.

use candle_core::{DType, Result, Tensor};

use super::launch::{Argument, BLOCKS, Kernel, empty, pointer};

/// Values along a side of what a block turns at a time.
const TILE: usize = 32;

/// (M, C) of (C, M) in f32, f16 or bf16.
pub(crate) fn turned(x: &Tensor) -> Result<Tensor> {
    run("turned", &x.contiguous()?, &[])
}

/// relu(scale·x + shift) of rows (C, M) as (M, C), in f32, f16 or bf16; scale and shift are (C, 1) in f32.
pub(crate) fn affine_relu_turned(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let (scale, shift) = (scale.contiguous()?, shift.contiguous()?);
    run("affine_relu_turned", &x.contiguous()?, &[pointer(&scale, DType::F32)?, pointer(&shift, DType::F32)?])
}

fn run(name: &'static str, x: &Tensor, affine: &[Argument]) -> Result<Tensor> {
    let (rows, length) = x.dims2()?;
    let (dtype, device) = (x.dtype(), x.device());
    let out = empty((length, rows), dtype, device)?;
    let tiles = rows.div_ceil(TILE) * length.div_ceil(TILE);
    let kernel = Kernel { name, rows: 1, length, blocks: tiles.clamp(1, BLOCKS * TILE) };
    let mut arguments = vec![pointer(x, dtype)?];
    arguments.extend(affine);
    arguments.extend([Argument::Count(rows as u64), pointer(&out, dtype)?]);
    kernel.launch(device, dtype, &arguments)?;
    Ok(out)
}
