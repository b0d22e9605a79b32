//! A norm, its ReLU and the 1x1 convolution behind them in one, on the tensor cores: what the norm makes, the largest of a dense
//! layer's maps, is neither written nor read.

use candle_core::{DType, Result, Tensor};

use super::launch::{Argument, Kernel, card, empty, pointer};

/// Pixels and outputs of a block.
const TILE: usize = 128;

/// Channels at a time, and how often that many are on their way at once.
const DEPTH: usize = 32;
const STAGES: usize = 4;

/// Values of half types behind each row in shared memory.
const APART: usize = 8;

/// The most shared memory that a block has on every card since 8.0, in bytes.
const MOST_SHARED: usize = 99 << 10;

/// Whether `product` and `product_relu` take rows (C, M) and a kernel (O, C, 1, 1): half types in whole runs of 16 bytes, on a
/// card of compute capability 8.0 or later.
pub(crate) fn multiplies(x: &Tensor, kernel: &Tensor) -> Result<bool> {
    let (channels, pixels) = x.dims2()?;
    let sizes = [channels, pixels, kernel.dim(0)?];
    if x.dtype() == DType::F32 || sizes.iter().any(|size| size % 8 != 0) || shared(channels) > MOST_SHARED {
        return Ok(false);
    }
    let even = |tensor| Ok::<_, candle_core::Error>(pointer(tensor, x.dtype())?.is_even());
    Ok(card(x.device())?.cuda_stream().context().compute_capability().is_ok_and(|(major, _)| major >= 8)
        && even(x)?
        && even(kernel)?)
}

/// relu(scale·x + shift) of rows (C, M) by a kernel (O, C, 1, 1): rows (O, M). Scale and shift are (C, 1) in f32.
pub(crate) fn product(x: &Tensor, [scale, shift]: [&Tensor; 2], kernel: &Tensor) -> Result<Tensor> {
    let out = empty((kernel.dim(0)?, x.dim(1)?), x.dtype(), x.device())?;
    run("product", x, [scale, shift], kernel, None, &out)?;
    Ok(out)
}

/// relu(bias + what [`product`] gives), with the outputs of a pixel side by side: (M, O). The bias is (O, 1) in f32.
#[cfg(feature = "cudnn")]
pub(crate) fn product_relu(x: &Tensor, affine: [&Tensor; 2], kernel: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let out = empty((x.dim(1)?, kernel.dim(0)?), x.dtype(), x.device())?;
    run("product_relu", x, affine, kernel, Some(bias), &out)?;
    Ok(out)
}

fn run(
    name: &'static str,
    x: &Tensor,
    [scale, shift]: [&Tensor; 2],
    kernel: &Tensor,
    bias: Option<&Tensor>,
    out: &Tensor,
) -> Result<()> {
    let ((channels, pixels), outputs, dtype) = (x.dims2()?, kernel.dim(0)?, x.dtype());
    if kernel.elem_count() != outputs * channels {
        candle_core::bail!("a 1x1 kernel of {:?} over {channels} channels", kernel.dims());
    }
    let mut arguments =
        vec![pointer(x, dtype)?, pointer(scale, DType::F32)?, pointer(shift, DType::F32)?, pointer(kernel, dtype)?];
    if let Some(bias) = bias {
        arguments.push(pointer(bias, DType::F32)?);
    }
    arguments.extend([Argument::Count(channels as u64), Argument::Count(outputs as u64), pointer(out, dtype)?]);
    let tiles = Kernel {
        name,
        rows: outputs.div_ceil(TILE),
        length: pixels,
        blocks: pixels.div_ceil(TILE),
        shared: shared(channels),
    };
    tiles.launch(x.device(), dtype, &arguments)
}

/// Bytes of shared memory: what is on its way, then scale and shift.
fn shared(channels: usize) -> usize {
    let stage = 2 * (DEPTH * (TILE + APART) + TILE * (DEPTH + APART));
    STAGES * stage + 2 * 4 * channels.next_multiple_of(DEPTH)
}
