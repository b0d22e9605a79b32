//! Maps and kernels as cuDNN takes them: with the channels of a pixel side by side, (B, H, W, C), or in planes, (B, C, H, W), as
//! their type has it.

use candle_core::{Result, Tensor};
use densenet_arch::Rounding;

use super::affine::Affine;
use super::maps::{self, Grid};
use super::pool::max_places;
use super::window::Window;
use crate::gpu::{self, Convolution, affine_relu_turned, channels_last, turned, turned_into};

/// Of rows (C, M).
pub(super) fn map(rows: &Tensor, grid: Grid) -> Result<Tensor> {
    if channels_last(rows.dtype()) {
        return turned(rows)?.reshape((grid.batch, grid.height, grid.width, ()));
    }
    grid.unfold(rows)?.transpose(0, 1)?.contiguous()
}

/// What a norm's ReLU makes of rows (C, M).
pub(super) fn relu(norm: &Affine, rows: &Tensor, grid: Grid) -> Result<Tensor> {
    if channels_last(rows.dtype()) {
        let turned = affine_relu_turned(rows, &norm.scale, &norm.shift)?;
        return turned.reshape((grid.batch, grid.height, grid.width, ()));
    }
    map(&norm.relu(rows)?, grid)
}

/// Of rows (C, M): a norm, its ReLU and a 1x1, then a shift and its ReLU.
pub(super) fn narrow((norm, kernel): (&Affine, &Tensor), shift: &Tensor, x: &Tensor, grid: Grid) -> Result<Tensor> {
    let y = gpu::product_relu(x, [&norm.scale, &norm.shift], kernel, shift)?;
    y.reshape((grid.batch, grid.height, grid.width, ()))
}

/// Of images (B, C, H, W), or of the kernel (O, C, side, side) by which they are convolved: few channels, with channels of zeros
/// behind them where those of a pixel lie side by side.
pub(super) fn images(images: &Tensor) -> Result<Tensor> {
    if channels_last(images.dtype()) && images.dim(1)? <= gpu::PACKED { gpu::packed(images) } else { kernel(images) }
}

/// Of a kernel (O, C, side, side).
pub(super) fn kernel(kernel: &Tensor) -> Result<Tensor> {
    if channels_last(kernel.dtype()) { kernel.permute((0, 2, 3, 1))?.contiguous() } else { kernel.contiguous() }
}

/// A kernel (O, C, side, side) that lies as [`kernel`] packs it, so that nothing is left to do.
pub(super) fn laid(kernel: &Tensor) -> Result<Tensor> {
    let packed = self::kernel(kernel)?;
    if channels_last(kernel.dtype()) { packed.permute((0, 3, 1, 2)) } else { Ok(packed) }
}

/// Rows (C, M) of a packed map.
pub(super) fn rows(packed: &Tensor) -> Result<Tensor> {
    if channels_last(packed.dtype()) { turned(&packed.flatten_to(2)?) } else { maps::rows(packed) }
}

/// The same into some rows of a buffer.
pub(super) fn rows_into(packed: &Tensor, all: &Tensor, start: usize) -> Result<()> {
    if channels_last(packed.dtype()) {
        let columns = packed.flatten_to(2)?;
        return turned_into(&columns, &all.narrow(0, start, columns.dim(1)?)?);
    }
    all.slice_set(&maps::rows(packed)?, 0, start)
}

/// A packed map by a packed kernel.
pub(super) fn convolve(x: &Tensor, kernel: &Tensor, window: Window) -> Result<Tensor> {
    of(sizes(x)?, sizes(kernel)?, window).forward(x, kernel)
}

/// The stem's max-pool of what a norm's ReLU makes of a packed map, whose channels are eights and lie side by side: (C, B, rows,
/// columns).
pub(super) fn max_behind(norm: &Affine, x: &Tensor, pooling: Rounding) -> Result<Tensor> {
    let pooled = gpu::pooled_last(x, [&norm.scale, &norm.shift], max_places((x.dim(1)?, x.dim(2)?), pooling))?;
    let (batch, height, width, _) = pooled.dims4()?;
    Grid { batch, height, width }.unfold(&rows(&pooled)?)
}

/// The gradient by the packed x, of that by what [`convolve`] gave with the packed kernel.
pub(super) fn by_input(x: &Tensor, kernel: &Tensor, gradient: &Tensor, window: Window) -> Result<Tensor> {
    of(sizes(x)?, sizes(kernel)?, window).by_input(kernel, gradient)
}

/// The gradient by the kernel, (O, C, side, side).
pub(super) fn by_kernel(x: &Tensor, gradient: &Tensor, window: Window) -> Result<Tensor> {
    let (x_sizes, [_, outputs, ..]) = (sizes(x)?, sizes(gradient)?);
    let kernel = [outputs, x_sizes[1], window.side, window.side];
    let found = of(x_sizes, kernel, window).by_kernel(x, gradient)?;
    if channels_last(x.dtype()) { found.permute((0, 3, 1, 2))?.contiguous() } else { Ok(found) }
}

fn of(x: [usize; 4], kernel: [usize; 4], window: Window) -> Convolution {
    Convolution { x, kernel, stride: window.stride, padding: window.padding }
}

/// (B, C, H, W), or (O, C, side, side), of what is packed.
fn sizes(packed: &Tensor) -> Result<[usize; 4]> {
    let (a, b, c, d) = packed.dims4()?;
    Ok(if channels_last(packed.dtype()) { [a, d, b, c] } else { [a, b, c, d] })
}
