//! The two poolings of a DenseNet, both rounded down.

use candle_core::{Result, Tensor};

/// Max-pool 3x3 with stride 2 and one cell of padding: (B, C, H, W) -> (B, C, (H-1)/2+1, (W-1)/2+1).
///
/// The padding is zeros, which is right because every input here comes out of a ReLU.
pub(super) fn max_3x3(x: &Tensor) -> Result<Tensor> {
    x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?.max_pool2d_with_stride(3, 2)
}

/// Average-pool 2x2: (B, C, H, W) -> (B, C, H/2, W/2).
pub(super) fn average_2x2(x: &Tensor) -> Result<Tensor> {
    x.avg_pool2d(2)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn odd_sides_are_rounded_down() {
        let x = Tensor::arange(0.0_f32, 15.0, &Device::Cpu).unwrap().reshape((1, 1, 3, 5)).unwrap();
        let max = max_3x3(&x).unwrap().squeeze(0).unwrap().squeeze(0).unwrap();
        assert_eq!(max.to_vec2::<f32>().unwrap(), [[6.0, 8.0, 9.0], [11.0, 13.0, 14.0]]);
        let average = average_2x2(&x).unwrap().squeeze(0).unwrap().squeeze(0).unwrap();
        assert_eq!(average.to_vec2::<f32>().unwrap(), [[3.0, 5.0]]);
    }
}
