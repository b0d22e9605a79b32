//! Where to compute: `auto`, `cpu`, `cuda`, `cuda:1`, `metal`.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use candle_core::utils::{cuda_is_available, metal_is_available};

use crate::error::{Error, Result};

/// A device as asked for on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that this build can use and that answers, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA card of that number.
    Cuda(usize),
    /// The Apple GPU of that number.
    Metal(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, number) = text.split_once(':').map_or((text, None), |(name, number)| (name, Some(number)));
        let ordinal = number.unwrap_or("0").parse();
        match (name, ordinal, number) {
            ("auto", _, None) => Ok(Self::Auto),
            ("cpu", _, None) => Ok(Self::Cpu),
            ("cuda", Ok(ordinal), _) => Ok(Self::Cuda(ordinal)),
            ("metal", Ok(ordinal), _) => Ok(Self::Metal(ordinal)),
            _ => Err("auto, cpu, cuda, cuda:N, metal or metal:N is expected".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Metal(ordinal) => write!(f, "metal:{ordinal}"),
        }
    }
}

impl DeviceChoice {
    /// What `auto` stands for on this machine; any other choice is itself.
    #[must_use]
    pub fn resolve(self) -> Self {
        match self {
            Self::Auto if cuda_is_available() && Device::new_cuda(0).is_ok() => Self::Cuda(0),
            Self::Auto if metal_is_available() && Device::new_metal(0).is_ok() => Self::Metal(0),
            Self::Auto => Self::Cpu,
            other => other,
        }
    }

    /// Opens the device. One that this build was not made for is an error that names the feature.
    pub fn open(self) -> Result<Device> {
        let needs =
            |feature| Error::Usage(format!("{self}: this build has no {feature}; build with --features {feature}"));
        let gone = |error: candle_core::Error| Error::Device {
            device: self.to_string(),
            reason: error.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        match self.resolve() {
            Self::Auto | Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !cuda_is_available() => Err(needs("cuda")),
            Self::Cuda(ordinal) => Device::new_cuda(ordinal).map_err(gone),
            Self::Metal(_) if !metal_is_available() => Err(needs("metal")),
            Self::Metal(ordinal) => Device::new_metal(ordinal).map_err(gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_written() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
            ("metal:0", DeviceChoice::Metal(0)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
        }
        for wrong in ["gpu", "cpu:1", "cuda:", "cuda:x", "metal:-1", ""] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    #[test]
    fn a_device_that_was_not_compiled_in_names_its_feature() {
        let error = DeviceChoice::Cuda(1).open().unwrap_err().to_string();
        assert_eq!(error, "cuda:1: this build has no cuda; build with --features cuda");
        assert!(DeviceChoice::Metal(0).open().unwrap_err().to_string().contains("--features metal"));
        assert_eq!(DeviceChoice::Auto.resolve(), DeviceChoice::Cpu);
    }
}
