//! Where to compute: `auto`, `cpu`, `cuda`, `cuda:1`, `metal`.

use std::fmt;
use std::str::FromStr;

use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{DType, Device, DeviceLocation, Tensor};

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
            Self::Auto if cuda_is_available() && open_cuda(0).is_ok() => Self::Cuda(0),
            Self::Auto if metal_is_available() && Device::new_metal(0).is_ok() => Self::Metal(0),
            Self::Auto => Self::Cpu,
            other => other,
        }
    }

    /// The device that candle has opened.
    #[must_use]
    pub fn of(device: &Device) -> Self {
        match device.location() {
            DeviceLocation::Cpu => Self::Cpu,
            DeviceLocation::Cuda { gpu_id } => Self::Cuda(gpu_id),
            DeviceLocation::Metal { gpu_id } => Self::Metal(gpu_id),
        }
    }

    /// Opens the device, and has it compute something.
    ///
    /// # Errors
    ///
    /// A device that this build was not made for, naming the feature; no card, or not that many; a driver or a card that is
    /// too old for the build.
    pub fn open(self) -> Result<Device> {
        let needs =
            |feature| Error::Usage(format!("{self}: this build has no {feature}; build with --features {feature}"));
        let opened = match self.resolve() {
            Self::Auto | Self::Cpu => return Ok(Device::Cpu),
            Self::Cuda(_) if !cuda_is_available() => return Err(needs("cuda")),
            Self::Cuda(ordinal) => open_cuda(ordinal),
            Self::Metal(_) if !metal_is_available() => return Err(needs("metal")),
            Self::Metal(ordinal) => Device::new_metal(ordinal),
        };
        // A card opens even if none of the build's kernels is for it.
        let tried = |device: Device| Tensor::zeros(1, DType::F32, &device)?.affine(1.0, 1.0).map(|_| device);
        opened.and_then(tried).map_err(|error| Error::Device { device: self.to_string(), reason: reason(&error) })
    }
}

impl DeviceChoice {
    /// Lets the card round to TF32, 11 bits, what it multiplies in f32, from now on and in all of this process.
    ///
    /// # Errors
    ///
    /// It is no NVIDIA card.
    pub fn allow_tf32(self) -> Result<()> {
        match self {
            Self::Cuda(_) => {
                #[cfg(feature = "cuda")]
                candle_core::cuda::set_gemm_reduced_precision_f32(true);
                Ok(())
            }
            _ => Err(Error::Usage(format!("{self}: TF32 is of NVIDIA cards; take --precision f32"))),
        }
    }
}

/// Memory, in MiB, that all programs have of the card on which this thread computes.
#[cfg(feature = "cuda")]
pub fn memory_taken_mib() -> Option<f64> {
    let (free, all) = candle_core::cuda::cudarc::driver::result::mem_get_info().ok()?;
    Some(all.saturating_sub(free) as f64 / f64::from(1 << 20))
}

/// Memory that all programs have of a card: there is none in this build.
#[cfg(not(feature = "cuda"))]
pub fn memory_taken_mib() -> Option<f64> {
    None
}

/// Whether f32 may be rounded to TF32 there.
#[cfg(feature = "cuda")]
pub(crate) fn allows_tf32(device: &Device) -> bool {
    device.is_cuda() && candle_core::cuda::gemm_reduced_precision_f32()
}

/// Whether f32 may be rounded to TF32 there.
#[cfg(not(feature = "cuda"))]
pub(crate) fn allows_tf32(_: &Device) -> bool {
    false
}

#[cfg(feature = "cuda")]
fn open_cuda(ordinal: usize) -> candle_core::Result<Device> {
    crate::gpu::open(ordinal)
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(ordinal: usize) -> candle_core::Result<Device> {
    Device::new_cuda(ordinal)
}

/// Refuses a type that candle cannot multiply there.
pub(crate) fn computes(device: &Device, dtype: DType) -> Result<()> {
    if device.is_cpu() && dtype == DType::BF16 {
        return Err(Error::Usage("candle has no bf16 on the CPU; take --precision f16, or --backend engine".into()));
    }
    Ok(())
}

/// Whether the device's memory is full.
pub(crate) fn is_out_of_memory(error: &candle_core::Error) -> bool {
    error.to_string().contains("OUT_OF_MEMORY")
}

/// What the driver says, by the names of its errors (CUDA's CUresult), and what to do.
const REASONS: [(&str, &str); 9] = [
    ("CUDA_ERROR_NO_DEVICE", "there is no NVIDIA card; take --device cpu"),
    ("CUDA_ERROR_INVALID_DEVICE", "there is no card of that number; nvidia-smi lists them"),
    ("CUDA_ERROR_DEVICE_UNAVAILABLE", "another program has the card to itself; nvidia-smi shows which"),
    ("CUDA_ERROR_STUB_LIBRARY", "libcuda is a stub, not the driver; put the driver's folder first in LD_LIBRARY_PATH"),
    ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "the driver's parts are of two versions; restart the machine"),
    ("CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the driver is older than the toolkit of this build; update the driver"),
    ("CUDA_ERROR_INVALID_PTX", TOO_OLD),
    ("CUDA_ERROR_NO_BINARY_FOR_GPU", TOO_OLD),
    ("OUT_OF_MEMORY", "its memory is full; nvidia-smi shows who has it"),
];

const TOO_OLD: &str = "the card is too old for this build; build with CUDA_COMPUTE_CAP set to the card's \
                       (nvidia-smi --query-gpu=compute_cap --format=csv)";

/// Why a device cannot be used, in one line.
fn reason(error: &candle_core::Error) -> String {
    let text = error.to_string();
    let said = text.lines().next().unwrap_or_default();
    match REASONS.iter().find(|(name, _)| said.contains(name)) {
        Some((_, reason)) => (*reason).to_owned(),
        None => said.to_owned(),
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

    #[test]
    fn what_the_driver_says_becomes_what_to_do() {
        // As cudarc prints a CUresult.
        let said =
            |name: &str| reason(&candle_core::Error::Msg(format!("DriverError({name}, \"some text\")\n  0: at")));
        assert_eq!(said("CUDA_ERROR_NO_DEVICE"), "there is no NVIDIA card; take --device cpu");
        assert!(
            said("CUDA_ERROR_INVALID_PTX")
                .starts_with("the card is too old for this build; build with CUDA_COMPUTE_CAP")
        );
        assert!(said("CUDA_ERROR_UNSUPPORTED_PTX_VERSION").ends_with("update the driver"));
        assert_eq!(said("CUDA_ERROR_ECC"), "DriverError(CUDA_ERROR_ECC, \"some text\")");
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
