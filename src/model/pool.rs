//! The two poolings of a DenseNet.

use candle_core::{Result, Tensor};
use densenet_arch::Rounding;

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
}
