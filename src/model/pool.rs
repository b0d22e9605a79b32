//! The two poolings of a DenseNet, and the way back through them.

use candle_core::{D, Result, Tensor};
use densenet_arch::Rounding;

use super::affine::Affine;
use super::window::Window;

/// The stem's max-pool.
const MAX: Window = Window { side: 3, stride: 2, padding: 1 };

/// [`max_3x3`] of what a norm's ReLU makes of x (C, B, H, W).
pub(super) fn max_behind(norm: &Affine, x: &Tensor, pooling: Rounding) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::maps::has_kernels(x) {
        let size = max_places((x.dim(2)?, x.dim(3)?), pooling);
        return crate::gpu::pooled(x, [&norm.scale, &norm.shift], crate::gpu::Pooling::Most, size);
    }
    max_3x3(&activated(norm, x)?, pooling)
}

/// Rows and columns that [`max_3x3`] makes of so many.
#[cfg(feature = "cuda")]
pub(super) fn max_places((height, width): (usize, usize), pooling: Rounding) -> (usize, usize) {
    let places = |pixels: usize| if pooling == Rounding::Floor { pixels.div_ceil(2) } else { pixels / 2 + 1 };
    (places(height), places(width))
}

/// [`average_2x2`] of what a norm's ReLU makes of x (C, B, H, W).
pub(super) fn average_behind(norm: &Affine, x: &Tensor, pooling: Rounding) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::maps::has_kernels(x) {
        let (_, _, height, width) = x.dims4()?;
        let places = |pixels: usize| if pooling == Rounding::Floor { pixels / 2 } else { pixels.div_ceil(2) };
        let size = (places(height), places(width));
        return crate::gpu::pooled(x, [&norm.scale, &norm.shift], crate::gpu::Pooling::Mean, size);
    }
    average_2x2(&activated(norm, x)?, pooling)
}

fn activated(norm: &Affine, x: &Tensor) -> Result<Tensor> {
    norm.relu(&x.flatten_from(1)?)?.reshape(x.shape())
}

/// Max-pool 3x3 with stride 2 and one cell of padding: (B, C, H, W) -> (B, C, (H-1)/2+1, (W-1)/2+1), or H/2+1 by W/2+1 rounded
/// up.
///
/// The padding is zeros, which is right because every input here comes out of a ReLU.
pub(super) fn max_3x3(x: &Tensor, pooling: Rounding) -> Result<Tensor> {
    let behind = match pooling {
        Rounding::Floor => 1,
        Rounding::Ceil => 2,
    };
    x.pad_with_zeros(2, 1, behind)?.pad_with_zeros(3, 1, behind)?.max_pool2d_with_stride(3, 2)
}

/// Average-pool 2x2: (B, C, H, W) -> (B, C, H/2, W/2). Rounded up, the mean of a window that hangs over the edge is that of
/// its part on the map: the same as if the last row or column came twice.
pub(super) fn average_2x2(x: &Tensor, pooling: Rounding) -> Result<Tensor> {
    match pooling {
        Rounding::Floor => x.avg_pool2d(2),
        Rounding::Ceil => {
            let (_, _, height, width) = x.dims4()?;
            x.pad_with_same(2, 0, height % 2)?.pad_with_same(3, 0, width % 2)?.avg_pool2d(2)
        }
    }
}

/// The gradient of [`max_3x3`], rounded down, by its input: that of a place goes to the first of its largest values, row by row, as in cuDNN
/// and torch. Where all are zero it may go to the border; a ReLU before it stops it in any case.
pub(super) fn max_3x3_backward(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if super::maps::has_kernels(x) {
        return crate::gpu::max_3x3_backward(x, gradient);
    }
    let view = MAX.over(x)?;
    let most = max_3x3(x, Rounding::Floor)?;
    let mut left = gradient.clone();
    view.write(|tap| {
        let here = view.read(tap)?.eq(&most)?;
        let none = left.zeros_like()?;
        let value = here.where_cond(&left, &none)?;
        left = here.where_cond(&none, &left)?;
        Ok(value)
    })
}

/// The gradient of [`average_2x2`], rounded down, by its input of so many rows and columns.
pub(super) fn average_2x2_backward(gradient: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let (rows, columns) = (gradient.dim(D::Minus2)?, gradient.dim(D::Minus1)?);
    let spread = (gradient * 0.25)?.upsample_nearest2d(2 * rows, 2 * columns)?;
    spread.pad_with_zeros(2, 0, height - 2 * rows)?.pad_with_zeros(3, 0, width - 2 * columns)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn map(height: usize, width: usize) -> Tensor {
        let end = (height * width) as f32;
        Tensor::arange(0.0_f32, end, &Device::Cpu).unwrap().reshape((1, 1, height, width)).unwrap()
    }

    fn values(x: Tensor) -> Vec<Vec<f32>> {
        x.squeeze(0).unwrap().squeeze(0).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn odd_sides_are_rounded_down() {
        let max = max_3x3(&map(3, 5), Rounding::Floor).unwrap();
        assert_eq!(values(max), [[6.0, 8.0, 9.0], [11.0, 13.0, 14.0]]);
        assert_eq!(values(average_2x2(&map(3, 5), Rounding::Floor).unwrap()), [[3.0, 5.0]]);
    }

    #[test]
    fn rounded_up_a_window_over_the_edge_counts_what_it_sees() {
        // torch.nn.functional.max_pool2d(x, 3, 2, 1, ceil_mode=True) and avg_pool2d(x, 2, ceil_mode=True).
        let max = max_3x3(&map(4, 4), Rounding::Ceil).unwrap();
        assert_eq!(values(max), [[5.0, 7.0, 7.0], [13.0, 15.0, 15.0], [13.0, 15.0, 15.0]]);
        assert_eq!(values(max_3x3(&map(3, 3), Rounding::Ceil).unwrap()), [[4.0, 5.0], [7.0, 8.0]]);
        let average = average_2x2(&map(3, 5), Rounding::Ceil).unwrap();
        assert_eq!(values(average), [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]);
        assert_eq!(values(average_2x2(&map(2, 2), Rounding::Ceil).unwrap()), [[1.5]]);
    }

    fn of(values: &[f32], height: usize, width: usize) -> Tensor {
        Tensor::from_slice(values, (1, 1, height, width), &Device::Cpu).unwrap()
    }

    fn all(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_maximum_s_gradient_goes_to_the_first_of_equals() {
        // torch.nn.functional.max_pool2d(x, 3, 2, 1) and the gradient of (y * g).sum() by x, on the CPU.
        #[rustfmt::skip]
        let x = of(&[
            1.0, 2.0, 2.0, 0.5, 0.0,
            2.0, 3.0, 3.0, 1.0, 4.0,
            3.0, 3.0, 1.0, 4.0, 4.0,
            0.5, 0.0, 2.0, 4.0, 1.0,
        ], 4, 5);
        let gradient = of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3);
        assert_eq!(all(&max_3x3(&x, Rounding::Floor).unwrap()), [3.0, 3.0, 4.0, 3.0, 4.0, 4.0]);
        #[rustfmt::skip]
        assert_eq!(all(&max_3x3_backward(&x, &gradient).unwrap()), [
            0.0, 0.0, 0.0, 0.0, 0.0,
            0.0, 7.0, 0.0, 0.0, 9.0,
            0.0, 0.0, 0.0, 5.0, 0.0,
            0.0, 0.0, 0.0, 0.0, 0.0,
        ]);
    }

    #[test]
    fn an_average_s_gradient_is_spread_and_what_it_never_read_gets_none() {
        let gradient = of(&[4.0, 8.0], 1, 2);
        #[rustfmt::skip]
        assert_eq!(all(&average_2x2_backward(&gradient, (3, 5)).unwrap()), [
            1.0, 1.0, 2.0, 2.0, 0.0,
            1.0, 1.0, 2.0, 2.0, 0.0,
            0.0, 0.0, 0.0, 0.0, 0.0,
        ]);
    }
}
