//! Everything that can go wrong in the program, one line each.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::device::is_out_of_memory;

/// An error of the library or the program. Its text is one line: what, where, what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The catalogue, the cache or a download.
    #[error(transparent)]
    Registry(#[from] densenet_registry::Error),
    /// A checkpoint that cannot be read or holds no DenseNet.
    #[error("{}: {source}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why.
        source: densenet_converters::Error,
    },
    /// A checkpoint that lacks tensors, or has some that fit nowhere.
    #[error("{}: {summary}", path.display())]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// What is missing, misshapen or unused.
        summary: String,
    },
    /// A file that cannot be read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// `read`, `write`, `create` …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file that is there and must not be overwritten.
    #[error("{} exists; --force overwrites it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The predictions of a run, which another must not overwrite.
    #[error("{} exists; --resume goes on with it, --force overwrites it", path.display())]
    Predictions {
        /// The file.
        path: PathBuf,
    },
    /// An image, data set or reference file whose content is not what it should be.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Images that could not be read.
    #[error("{count} images could not be read; --skip-bad leaves them out")]
    Unreadable {
        /// How many.
        count: usize,
    },
    /// A request that makes no sense as it stands.
    #[error("{0}")]
    Usage(String),
    /// A comparison that failed: the answer is no.
    #[error("{0}")]
    Negative(String),
    /// A run that was asked to stop, by Ctrl-C or SIGTERM; says how it goes on.
    #[error("{0}")]
    Interrupted(String),
    /// A device that is not there or gave up.
    #[error("{device}: {reason}")]
    Device {
        /// As asked for: `cuda:0`.
        device: String,
        /// What the driver says.
        reason: String,
    },
    /// The network could not be built or run.
    #[error("the network cannot run: {}", first_line(.0))]
    Compute(#[source] candle_core::Error),
    /// A batch, or a network, that is too large for the device.
    #[error("the device's memory is full; take a smaller batch")]
    DeviceMemory,
    /// The engine cannot take the network or the input.
    #[error("the engine: {0}")]
    Engine(#[from] densenet_engine::Error),
    /// A training whose numbers have left the range of floats.
    #[error("epoch {epoch}, step {step}: {source}")]
    Diverged {
        /// From 1.
        epoch: usize,
        /// From 1, in the epoch.
        step: usize,
        /// What is not finite.
        source: densenet_engine::Error,
    },
    /// The protocol asked for.
    #[error(transparent)]
    Protocol(#[from] densenet_arch::ProtocolError),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        if is_out_of_memory(&error) { Self::DeviceMemory } else { Self::Compute(error) }
    }
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn data(path: &Path, reason: impl Into<String>) -> Self {
        Self::Data { path: path.to_owned(), reason: reason.into() }
    }
}

/// candle puts a backtrace behind its message where one is enabled.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
