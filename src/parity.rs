//! A network's output against a stored one.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

use crate::error::{Error, Result};
use crate::runner::Runner;

/// An input, (B, channels, H, W), and the output, (B, classes), that another program computed from it.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The tensor `input`.
    pub input: Tensor,
    /// The tensor `output`.
    pub output: Tensor,
}

/// How far two outputs are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Values compared.
    pub values: usize,
    /// The largest absolute difference; NaN if either side holds a NaN.
    pub absolute: f64,
    /// The largest absolute value of the reference.
    pub scale: f64,
}

impl Difference {
    /// The largest absolute difference as a share of the reference's largest value.
    pub fn relative(&self) -> f64 {
        if self.absolute == 0.0 { 0.0 } else { self.absolute / self.scale }
    }

    /// Whether it is within `tolerance` times the reference's largest value. NaN never is.
    pub fn within(&self, tolerance: f64) -> bool {
        self.relative() <= tolerance
    }

    /// Compares value by value; both of the same length.
    pub fn between(output: &[f32], reference: &[f32]) -> Self {
        let largest = |most: f64, value: f64| if value > most || value.is_nan() { value } else { most };
        let pairs = output.iter().zip(reference);
        Self {
            values: reference.len(),
            absolute: pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).fold(0.0, largest),
            scale: reference.iter().map(|&value| f64::from(value).abs()).fold(0.0, largest),
        }
    }
}

impl Reference {
    /// Reads `input` and `output` from a safetensors file; other tensors are passed over.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| Error::data(path, format!("not a safetensors file: {error}")))?;
        let names: Vec<_> = tensors.names().into_iter().map(ToString::to_string).collect();
        let absent: Vec<_> = ["input", "output"].into_iter().filter(|&name| !names.iter().any(|n| n == name)).collect();
        if !absent.is_empty() {
            return Err(Error::Usage(format!(
                "{}: a reference needs the tensors `input` and `output`; missing: {}",
                path.display(),
                absent.join(", ")
            )));
        }
        let loaded = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
        Ok(Self { input: loaded["input"].clone(), output: loaded["output"].clone() })
    }

    /// Runs the network on the input.
    pub fn compare(&self, runner: &mut Runner) -> Result<Difference> {
        let (channels, classes) = (runner.config().in_channels, runner.config().num_classes);
        let &[batch, found, height, width] = self.input.dims() else {
            return Err(Error::Negative(format!(
                "the reference's input is {:?}, not of four dimensions",
                self.input.dims()
            )));
        };
        if found != channels {
            return Err(Error::Negative(format!("the network reads {channels} channels, the reference has {found}")));
        }
        if self.output.dims() != [batch, classes] {
            let found = self.output.dims();
            return Err(Error::Negative(format!(
                "the network's output is {:?}, the reference's {found:?}",
                [batch, classes]
            )));
        }
        let values =
            |tensor: &Tensor| -> Result<Vec<f32>> { Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?) };
        let output = runner.run(&values(&self.input)?, (height, width))?;
        Ok(Difference::between(&output, &values(&self.output)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tolerance_is_a_share_of_the_largest_value() {
        let difference = Difference::between(&[1.0, -3.5], &[1.25, -4.0]);
        assert_eq!(difference, Difference { values: 2, absolute: 0.5, scale: 4.0 });
        assert!(difference.within(0.125) && !difference.within(0.124));
    }

    #[test]
    fn nan_is_never_within_and_equal_zeros_always_are() {
        assert!(!Difference::between(&[f32::NAN, 1.0], &[1.0, 1.0]).within(1e9));
        assert!(!Difference::between(&[1.0, 1.0], &[1.0, f32::NAN]).within(1e9));
        assert!(!Difference::between(&[1.0], &[0.0]).within(1e9));
        assert!(Difference::between(&[0.0], &[0.0]).within(0.0));
    }
}
