//! From an error to the exit code, in this one place.

use std::process::ExitCode;

use densenet_converters::ErrorKind as ConvertKind;
use densenet_registry::ErrorKind as RegistryKind;
use densenet_zoo::Error;

const NEGATIVE: u8 = 1;
const USAGE: u8 = 2;
const NETWORK: u8 = 3;
const DISK: u8 = 4;
const MALFORMED: u8 = 5;
const DEVICE: u8 = 6;
const INTERRUPTED: u8 = 130;

/// 1 a negative result, 2 usage, 3 network, 4 disk or file, 5 malformed input, 6 device, 130 interrupted.
pub(super) fn code(error: &Error) -> ExitCode {
    ExitCode::from(match error {
        Error::Registry(error) => match error.kind() {
            RegistryKind::Negative => NEGATIVE,
            RegistryKind::Usage => USAGE,
            RegistryKind::Network => NETWORK,
            RegistryKind::Disk => DISK,
            RegistryKind::Malformed => MALFORMED,
        },
        Error::Checkpoint { source, .. } => match source.kind() {
            ConvertKind::Incomplete => NEGATIVE,
            ConvertKind::Malformed => MALFORMED,
            ConvertKind::Write => DISK,
        },
        Error::Incomplete { .. } | Error::Negative(_) | Error::Diverged { .. } => NEGATIVE,
        Error::Usage(_)
        | Error::Protocol(_)
        | Error::Engine(densenet_engine::Error::UnknownIsa(_) | densenet_engine::Error::Setting { .. }) => USAGE,
        Error::Io { .. } | Error::Exists { .. } | Error::Predictions { .. } => DISK,
        Error::Interrupted(_) => INTERRUPTED,
        Error::Device { .. }
        | Error::DeviceMemory
        | Error::Engine(densenet_engine::Error::Unsupported(_) | densenet_engine::Error::NoBf16(_)) => DEVICE,
        _ => MALFORMED,
    })
}
