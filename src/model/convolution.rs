//! Convolutions over rows, and the two ways back through them.

use candle_core::{Result, Tensor};

use super::maps::{Grid, rows};
use super::window::Window;

/// 1x1: (C, M) by a kernel (O, C, 1, 1) to (O, M), one product of matrices.
pub(super) fn one(x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
    kernel.flatten_from(1)?.matmul(x)
}

/// The gradients of [`one`] by its input (C, M) and its kernel (O, C, 1, 1).
pub(super) fn one_backward(x: &Tensor, kernel: &Tensor, gradient: &Tensor) -> Result<(Tensor, Tensor)> {
    let input = kernel.flatten_from(1)?.t()?.matmul(gradient)?;
    Ok((input, gradient.matmul(&x.t()?)?.reshape(kernel.shape())?))
}

/// 3x3 with a border of zeros: (C, M) by a kernel (O, C, 3, 3) to (O, M).
pub(super) fn three(x: &Tensor, grid: Grid, kernel: &Tensor) -> Result<Tensor> {
    rows(&grid.unfold(x)?.transpose(0, 1)?.conv2d(kernel, 1, 1, 1, 1)?)
}

/// The gradients of [`three`] by its input (C, M) and its kernel (O, C, 3, 3).
///
/// The input's is the convolution by the kernel turned around, with inputs and outputs exchanged.
pub(super) fn three_backward(x: &Tensor, grid: Grid, kernel: &Tensor, gradient: &Tensor) -> Result<(Tensor, Tensor)> {
    let turned = kernel.flip(&[2, 3])?.transpose(0, 1)?.contiguous()?; // (C, O, 3, 3)
    let input = three(gradient, grid, &turned)?;
    Ok((input, kernel_gradient(&grid.unfold(x)?, gradient, Window { side: 3, stride: 1, padding: 1 })?))
}

/// The gradient (O, C, side, side) by a convolution's kernel: for each of its taps the products of the output's gradient
/// (O, M) and of what the tap reads of the input (C, B, H, W).
pub(super) fn kernel_gradient(x: &Tensor, gradient: &Tensor, window: Window) -> Result<Tensor> {
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
        let (by_x, by_kernel) = candle(&x, &kernel, &gradient, 1, 1);
        let x = rows(&x).unwrap();
        let (found_x, found_kernel) = three_backward(&x, grid, &kernel, &rows(&gradient).unwrap()).unwrap();
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
            let x = x.transpose(0, 1).unwrap();
            let found = kernel_gradient(&x, &rows(&gradient).unwrap(), window).unwrap();
            assert!(most(found - by_kernel) < 1e-12, "{height}x{width}");
        }
    }

    #[test]
    fn half_types_stay_half() {
        let grid = Grid { batch: 1, height: 2, width: 2 };
        let half = |x: Tensor| x.to_dtype(DType::F16).unwrap();
        let (x, kernel) = (half(waves(&[2, 4], 0.7)), half(waves(&[3, 2, 3, 3], 1.3)));
        assert_eq!(three(&x, grid, &kernel).unwrap().dtype(), DType::F16);
    }
}
