//! Convolutions over rows, and the two ways back through them.

use candle_core::{Result, Tensor};
use densenet_arch::Rounding;

use super::affine::Affine;
#[cfg(feature = "cuda")]
use super::maps::has_kernels;
use super::maps::{Grid, rows};
#[cfg(feature = "cudnn")]
use super::packed;
use super::pool;
use super::window::Window;
#[cfg(feature = "cuda")]
use crate::gpu;

/// 1x1: (C, M) by a kernel (O, C, 1, 1) to (O, M), one product of matrices.
pub(super) fn one(x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    kernel.flatten_from(1)?.matmul(x)
}

/// The same of what a norm's ReLU makes of (C, M).
pub(super) fn one_behind(norm: &Affine, x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if has_kernels(x) && gpu::multiplies(x, kernel)? {
        return gpu::product(x, [&norm.scale, &norm.shift], kernel);
    }
    one(&norm.relu(x)?, kernel)
}

/// The gradients of [`one`] by its input (C, M) and its kernel (O, C, 1, 1).
pub(super) fn one_backward(x: &Tensor, kernel: &Tensor, gradient: &Tensor) -> Result<(Tensor, Tensor)> {
    let input = kernel.flatten_from(1)?.t()?.matmul(gradient)?;
    Ok((input, gradient.matmul(&x.t()?)?.reshape(kernel.shape())?))
}

/// The same kernel (O, C, side, side) as the device reads it fastest.
pub(super) fn laid(kernel: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if has_kernels(kernel) {
        return packed::laid(kernel);
    }
    kernel.contiguous()
}

/// A dense layer's 3x3.
const THREE: Window = Window { side: 3, stride: 1, padding: 1 };

/// The first convolution, of images (B, C, H, W) by a kernel (O, C, side, side): rows (O, M), and their grid.
pub(super) fn first(images: &Tensor, kernel: &Tensor, window: Window) -> Result<(Tensor, Grid)> {
    let grid = grid_of(images, window)?;
    #[cfg(feature = "cudnn")]
    if has_kernels(images) {
        let (images, kernel) = (packed::images(images)?, packed::images(kernel)?);
        return Ok((packed::rows(&packed::convolve(&images, &kernel, window)?)?, grid));
    }
    Ok((rows(&images.conv2d(kernel, window.padding, window.stride, 1, 1)?)?, grid))
}

/// [`first`], and the max-pool of what a norm's ReLU makes of it: (O, B, rows, columns).
pub(super) fn first_pooled(
    images: &Tensor,
    kernel: &Tensor,
    window: Window,
    norm: &Affine,
    pooling: Rounding,
) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if has_kernels(images) && gpu::channels_last(images.dtype()) && kernel.dim(0)? % 8 == 0 {
        let y = packed::convolve(&packed::images(images)?, &packed::images(kernel)?, window)?;
        return packed::max_behind(norm, &y, pooling);
    }
    let (rows, grid) = first(images, kernel, window)?;
    pool::max_behind(norm, &grid.unfold(&rows)?, pooling)
}

/// 3x3 with a border of zeros: of what a norm's ReLU makes of (C, M), by a kernel (O, C, 3, 3), to (O, M).
pub(super) fn three(norm: &Affine, x: &Tensor, grid: Grid, kernel: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if has_kernels(x) {
        return packed::rows(&packed::convolve(&packed::relu(norm, x, grid)?, &packed::kernel(kernel)?, THREE)?);
    }
    rows(&grid.unfold(&norm.relu(x)?)?.transpose(0, 1)?.conv2d(kernel, 1, 1, 1, 1)?)
}

/// The same into the rows of a buffer from `start` on.
pub(super) fn three_into(
    all: &Tensor,
    start: usize,
    norm: &Affine,
    x: &Tensor,
    grid: Grid,
    kernel: &Tensor,
) -> Result<()> {
    #[cfg(feature = "cudnn")]
    if has_kernels(x) {
        let new = packed::convolve(&packed::relu(norm, x, grid)?, &packed::kernel(kernel)?, THREE)?;
        return packed::rows_into(&new, all, start);
    }
    all.slice_set(&three(norm, x, grid, kernel)?, 0, start)
}

/// A dense layer with bottleneck, of the first channels of a buffer into its rows from `start` on: norm and 1x1, norm and 3x3. The
/// second norm's scale is in the 1x1.
pub(super) fn narrow_three_into(
    all: &Tensor,
    start: usize,
    grid: Grid,
    (norm1, narrow): (&Affine, &Tensor),
    (norm2, new): (&Affine, &Tensor),
) -> Result<()> {
    let x = all.narrow(0, 0, start)?;
    #[cfg(feature = "cudnn")]
    if has_kernels(&x) && gpu::multiplies(&x, narrow)? {
        let y = packed::narrow((norm1, narrow), &norm2.shift, &x, grid)?;
        return packed::rows_into(&packed::convolve(&y, &packed::kernel(new)?, THREE)?, all, start);
    }
    three_into(all, start, norm2, &one_behind(norm1, &x, narrow)?, grid, new)
}

/// The gradients of [`three`] by what the norm's ReLU gave, (C, M), and by its kernel (O, C, 3, 3).
///
/// Without cuDNN the former is the convolution by the kernel turned around, with inputs and outputs exchanged.
pub(super) fn three_backward(
    norm: &Affine,
    x: &Tensor,
    grid: Grid,
    kernel: &Tensor,
    gradient: &Tensor,
) -> Result<(Tensor, Tensor)> {
    #[cfg(feature = "cudnn")]
    if has_kernels(x) {
        let (z, gradient) = (packed::relu(norm, x, grid)?, packed::map(gradient, grid)?);
        let input = packed::rows(&packed::by_input(&z, &packed::kernel(kernel)?, &gradient, THREE)?)?;
        return Ok((input, packed::by_kernel(&z, &gradient, THREE)?));
    }
    let turned = kernel.flip(&[2, 3])?.transpose(0, 1)?.contiguous()?; // (C, O, 3, 3)
    let input = rows(&grid.unfold(gradient)?.transpose(0, 1)?.conv2d(&turned, 1, 1, 1, 1)?)?;
    Ok((input, taps(&grid.unfold(&norm.relu(x)?)?, gradient, THREE)?))
}

/// The gradient by the kernel of [`first`], of the images and that by what it gave, (O, M).
pub(super) fn first_backward(images: &Tensor, gradient: &Tensor, window: Window) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if has_kernels(images) {
        let gradient = packed::map(gradient, grid_of(images, window)?)?;
        let found = packed::by_kernel(&packed::images(images)?, &gradient, window)?;
        return found.narrow(1, 0, images.dim(1)?)?.contiguous();
    }
    taps(&images.transpose(0, 1)?, gradient, window)
}

/// Of what [`first`] gives.
fn grid_of(images: &Tensor, window: Window) -> Result<Grid> {
    let (batch, _, height, width) = images.dims4()?;
    Ok(Grid { batch, height: window.places(height), width: window.places(width) })
}

/// The gradient (O, C, side, side) by a convolution's kernel: for each of its taps the products of the output's gradient
/// (O, M) and of what the tap reads of the input (C, B, H, W).
fn taps(x: &Tensor, gradient: &Tensor, window: Window) -> Result<Tensor> {
    let view = window.over(x)?;
    let taps = window.taps().map(|tap| gradient.matmul(&view.read(tap)?.flatten_from(1)?.t()?));
    let taps = Tensor::stack(&taps.collect::<Result<Vec<_>>>()?, 2)?; // (O, C, side * side)
    taps.reshape((gradient.dim(0)?, x.dim(0)?, window.side, window.side))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;

    /// As random as its tests need.
    fn waves(shape: &[usize], pace: f64) -> Tensor {
        let count = shape.iter().product::<usize>() as f64;
        let angles = Tensor::arange(0.0, count, &Device::Cpu).unwrap().affine(pace, 0.3).unwrap();
        angles.sin().unwrap().reshape(shape).unwrap()
    }

    fn most(difference: Result<Tensor>) -> f64 {
        difference.unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    /// candle's own way back through its convolution of (B, C, H, W).
    fn candle(x: &Tensor, kernel: &Tensor, gradient: &Tensor, padding: usize, stride: usize) -> (Tensor, Tensor) {
        let (x, kernel) = (Var::from_tensor(x).unwrap(), Var::from_tensor(kernel).unwrap());
        let y = x.conv2d(&kernel, padding, stride, 1, 1).unwrap();
        let store = (y * gradient).unwrap().sum_all().unwrap().backward().unwrap();
        (store.get(&x).unwrap().clone(), store.get(&kernel).unwrap().clone())
    }

    #[test]
    fn three_by_three_goes_back_as_in_candle() {
        let grid = Grid { batch: 2, height: 5, width: 4 };
        let (x, kernel, gradient) = (waves(&[2, 3, 5, 4], 0.7), waves(&[6, 3, 3, 3], 1.3), waves(&[2, 6, 5, 4], 2.1));
        // A norm that opens every ReLU.
        let one = |value| Tensor::full(value, (3, 1), &Device::Cpu).unwrap();
        let norm = Affine { scale: one(1.0), shift: one(2.0) };
        let (by_x, by_kernel) = candle(&(&x + 2.0).unwrap(), &kernel, &gradient, 1, 1);
        let (x, gradient) = (rows(&x).unwrap(), rows(&gradient).unwrap());
        let (found_x, found_kernel) = three_backward(&norm, &x, grid, &kernel, &gradient).unwrap();
        assert!(most(found_x - rows(&by_x).unwrap()) < 1e-13);
        assert!(most(found_kernel - by_kernel) < 1e-13);
    }

    #[test]
    fn one_by_one_goes_back_as_in_candle() {
        let (x, kernel, gradient) = (waves(&[2, 3, 5, 4], 0.7), waves(&[6, 3, 1, 1], 1.3), waves(&[2, 6, 5, 4], 2.1));
        let (by_x, by_kernel) = candle(&x, &kernel, &gradient, 0, 1);
        let (found_x, found_kernel) = one_backward(&rows(&x).unwrap(), &kernel, &rows(&gradient).unwrap()).unwrap();
        assert!(most(found_x - rows(&by_x).unwrap()) < 1e-13);
        assert!(most(found_kernel - by_kernel) < 1e-13);
    }

    #[test]
    fn a_stem_s_kernel_gets_candle_s_gradient_on_even_and_odd_maps() {
        for (height, width) in [(12, 10), (9, 13)] {
            let (x, kernel) = (waves(&[2, 3, height, width], 0.7), waves(&[4, 3, 7, 7], 1.3));
            let gradient = waves(&[2, 4, height.div_ceil(2), width.div_ceil(2)], 2.1);
            let (_, by_kernel) = candle(&x, &kernel, &gradient, 3, 2);
            let window = Window { side: 7, stride: 2, padding: 3 };
            let found = first_backward(&x, &rows(&gradient).unwrap(), window).unwrap();
            assert!(most(found - by_kernel) < 1e-12, "{height}x{width}");
        }
    }

    #[test]
    fn half_types_stay_half() {
        let grid = Grid { batch: 1, height: 2, width: 2 };
        let half = |x: Tensor| x.to_dtype(DType::F16).unwrap();
        let (x, kernel) = (half(waves(&[2, 4], 0.7)), half(waves(&[3, 2, 3, 3], 1.3)));
        let one = |value| Tensor::full(value, (2, 1), &Device::Cpu).unwrap();
        let norm = Affine { scale: one(1_f32), shift: one(0.0) };
        assert_eq!(three(&norm, &x, grid, &kernel).unwrap().dtype(), DType::F16);
    }
}
