//! The way back through the two poolings.

use candle_core::{D, Result, Tensor};

use super::window::Window;

/// The stem's max-pool.
const MAX: Window = Window { side: 3, stride: 2, padding: 1 };

/// Max-pool 3x3/2: (.., H, W) -> (.., (H-1)/2+1, (W-1)/2+1). The border is zeros, which is right behind a ReLU.
pub(super) fn max(x: &Tensor) -> Result<Tensor> {
    let view = MAX.over(x)?;
    let mut taps = MAX.taps().map(|tap| view.read(tap));
    let first = taps.next().ok_or_else(|| candle_core::Error::Msg("a window without taps".into()))??;
    taps.try_fold(first, |most, tap| most.maximum(&tap?))
}

/// The gradient of [`max`] by its input: that of a place goes to the first of its largest values, row by row, as in cuDNN
/// and torch. Where all are zero it may go to the border; a ReLU before it stops it in any case.
pub(super) fn max_backward(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let view = MAX.over(x)?;
    let most = max(x)?;
    let mut left = gradient.clone();
    view.write(|tap| {
        let here = view.read(tap)?.eq(&most)?;
        let none = left.zeros_like()?;
        let value = here.where_cond(&left, &none)?;
        left = here.where_cond(&none, &left)?;
        Ok(value)
    })
}

/// Average-pool 2x2: (A, B, H, W) -> (A, B, H/2, W/2).
pub(super) fn average(x: &Tensor) -> Result<Tensor> {
    x.avg_pool2d(2)
}

/// The gradient of [`average`] by its input of so many rows and columns.
pub(super) fn average_backward(gradient: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let (rows, columns) = (gradient.dim(D::Minus2)?, gradient.dim(D::Minus1)?);
    let spread = (gradient * 0.25)?.upsample_nearest2d(2 * rows, 2 * columns)?;
    spread.pad_with_zeros(2, 0, height - 2 * rows)?.pad_with_zeros(3, 0, width - 2 * columns)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn map(values: &[f32], height: usize, width: usize) -> Tensor {
        Tensor::from_slice(values, (1, 1, height, width), &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_maximum_s_gradient_goes_to_the_first_of_equals() {
        // torch.nn.functional.max_pool2d(x, 3, 2, 1) and the gradient of (y * g).sum() by x, on the CPU.
        #[rustfmt::skip]
        let x = map(&[
            1.0, 2.0, 2.0, 0.5, 0.0,
            2.0, 3.0, 3.0, 1.0, 4.0,
            3.0, 3.0, 1.0, 4.0, 4.0,
            0.5, 0.0, 2.0, 4.0, 1.0,
        ], 4, 5);
        let gradient = map(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3);
        assert_eq!(values(&max(&x).unwrap()), [3.0, 3.0, 4.0, 3.0, 4.0, 4.0]);
        #[rustfmt::skip]
        assert_eq!(values(&max_backward(&x, &gradient).unwrap()), [
            0.0, 0.0, 0.0, 0.0, 0.0,
            0.0, 7.0, 0.0, 0.0, 9.0,
            0.0, 0.0, 0.0, 5.0, 0.0,
            0.0, 0.0, 0.0, 0.0, 0.0,
        ]);
    }

    #[test]
    fn an_average_s_gradient_is_spread_and_what_it_never_read_gets_none() {
        let gradient = map(&[4.0, 8.0], 1, 2);
        #[rustfmt::skip]
        assert_eq!(values(&average_backward(&gradient, (3, 5)).unwrap()), [
            1.0, 1.0, 2.0, 2.0, 0.0,
            1.0, 1.0, 2.0, 2.0, 0.0,
            0.0, 0.0, 0.0, 0.0, 0.0,
        ]);
    }
}
