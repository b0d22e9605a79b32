//! Networks on candle, on the device that DENSENET_ZOO_TEST_DEVICE names (the CPU without it).

mod inference;
mod learner;
mod training;

use candle_core::{DType, Device, Tensor};
use densenet_arch::Config;
use densenet_zoo::device::DeviceChoice;
use densenet_zoo::parity::Difference;

/// Where these tests compute.
fn here() -> Device {
    let choice = std::env::var("DENSENET_ZOO_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    choice.parse::<DeviceChoice>().unwrap().open().unwrap()
}

fn images(values: &[f32], config: &Config, side: (usize, usize)) -> Tensor {
    Tensor::from_slice(values, ((), config.in_channels, side.0, side.1), &Device::Cpu).unwrap()
}

fn values(tensor: candle_core::Result<Tensor>) -> Vec<f32> {
    tensor.unwrap().to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// As a share of the reference's largest value.
fn apart(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    Difference::between(found, expected).relative()
}
