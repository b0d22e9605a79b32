//! Why a file cannot be read or converted.

use densenet_arch::{ConfigError, MetadataError, RecogniseError};
use thiserror::Error;

use crate::pickle::PickleName;

/// Why a file cannot be read or converted. One line: format, byte, cause.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are none of the known formats.
    #[error("no known format: byte 0: {0}")]
    Unrecognised(&'static str),
    /// The bytes break the rules of their format, or ask for something that is refused.
    #[error("{format}: byte {offset}: {}", line(reason))]
    Malformed {
        /// The format that was being read.
        format: &'static str,
        /// Offset into the file.
        offset: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A pickle that names what could do anything if it were called. Nothing was.
    #[error("{format}: byte {offset}: it names {name}, which no DenseNet checkpoint needs; refused, nothing was run")]
    Unsafe {
        /// The format that was being read.
        format: &'static str,
        /// Where the name comes first.
        offset: usize,
        /// The first such name.
        name: String,
        /// All that the pickle names.
        names: Vec<PickleName>,
    },
    /// A tensor that cannot be had.
    #[error("{format}: byte {offset}: tensor {:?}: {}", cut(tensor), line(reason))]
    Tensor {
        /// The format that was being read.
        format: &'static str,
        /// Where it is described: offset into the file, or into the pickle that lies in it; 0 where that is not known.
        offset: usize,
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A valid file without any tensor.
    #[error("{format}: byte {len}: the file ends and no tensor was in it")]
    Empty {
        /// The format that was being read.
        format: &'static str,
        /// The file's length.
        len: usize,
    },
    /// More memory than there is.
    #[error("{bytes} bytes of memory are needed and cannot be had")]
    Memory {
        /// How many.
        bytes: usize,
    },
    /// Metadata of ours that was spoilt.
    #[error("safetensors: {0}")]
    Metadata(#[from] MetadataError),
    /// The tensors are no DenseNet.
    #[error(transparent)]
    Recognise(#[from] RecogniseError),
    /// The tensors would be a DenseNet of impossible size.
    #[error("not a DenseNet: {0}")]
    Config(#[from] ConfigError),
    /// A network whose modules follow no known layout, or with a part that cannot be converted exactly.
    #[error("not a DenseNet that converts exactly: {}", line(.0))]
    Layout(String),
    /// A run of Torch7 that cannot be gone on from.
    #[error("torch7: {}", line(.0))]
    Run(String),
    /// Not one network but several or none answers what was asked for.
    #[error("{}", line(.0))]
    Choice(String),
    /// The output could not be written.
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
}

/// What sort of answer an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The file is malformed, unsafe, unsupported or empty of tensors.
    Malformed,
    /// The file is sound and holds no complete DenseNet.
    Incomplete,
    /// The output could not be written.
    Write,
}

impl Error {
    /// Where in the file, if that is known.
    pub fn offset(&self) -> usize {
        match self {
            Self::Malformed { offset, .. } | Self::Unsafe { offset, .. } | Self::Tensor { offset, .. } => *offset,
            _ => 0,
        }
    }

    /// What sort of answer it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Recognise(_) | Self::Config(_) | Self::Layout(_) | Self::Choice(_) => ErrorKind::Incomplete,
            Self::Write(_) => ErrorKind::Write,
            _ => ErrorKind::Malformed,
        }
    }
}

/// Text that may hold parts of a file, as one line of reasonable length.
fn line(text: &str) -> String {
    const LONGEST: usize = 600;
    let shown: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() { shown + "…" } else { shown }
}

/// The beginning of a name.
fn cut(name: &str) -> String {
    const LONGEST: usize = 120;
    let shown: String = name.chars().take(LONGEST).collect();
    if name.chars().nth(LONGEST).is_some() { shown + "…" } else { shown }
}
