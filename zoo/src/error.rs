//! Everything that can go wrong here, a line each.

use std::io;
use std::path::{Path, PathBuf};

/// What went wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each variant's message says what its fields hold")]
pub enum Error {
    #[error("no weight is called {name:?}{hint}; `list` shows them all")]
    Unknown { name: String, hint: String },
    #[error("{name:?} could be any of {}; name one", candidates.join(", "))]
    Ambiguous { name: String, candidates: Vec<String> },
    #[error("{name} is listed, but `convert` does not read its format or network yet; `info {name}` shows where it is")]
    NotConvertible { name: String },
    #[error("{name} is not in the cache; run `fetch {name}` first")]
    NotCached { name: String },
    #[error("no home directory to keep a cache in; set DENSENET_ZOO_CACHE to a folder")]
    NoHome,
    #[error("{}: no such file or folder; --zoo and DENSENET_ZOO_PATH take TOML files and folders of them", path.display())]
    NoCatalogue { path: PathBuf },
    #[error("{name} is in both {first} and {second}; rename one")]
    Clash { name: String, first: String, second: String },
    #[error("{source_name}: wrong {strength}: expected {expected}, computed {computed}; nothing of it is trusted")]
    WrongDigest { source_name: String, strength: &'static str, expected: String, computed: String },
    #[error(
        "{name}: no digest is known for this file, so it cannot be verified. `fetch {name} --from FILE` with a file you \
         have is the expected way{hint}; `fetch {name} --trust-on-first-use` takes what the server sends"
    )]
    NoDigest { name: String, hint: &'static str },
    #[error(
        "{name}: differs from the file first fetched: pinned sha256 {pinned}, computed {computed}; if the new file is \
         the right one, remove {} and fetch again", path.display()
    )]
    Pin { name: String, pinned: String, computed: String, path: PathBuf },
    #[error("{source_name}: expected {expected} bytes, received {received}")]
    Length { source_name: String, expected: u64, received: String, local: bool },
    #[error("{url}: a web page instead of a model; download it in a browser and give it with --from FILE")]
    WebPage { url: String },
    #[error("{url}: the server answers {status}")]
    Status { url: String, status: String },
    #[error("{url}: {reason}")]
    Transfer { url: String, reason: String },
    #[error("{name}: it is not at hand, and --offline opens no connection; `fetch {name} --from FILE` takes a file")]
    Offline { name: String },
    #[error("{name}: no address is known where it can be had; `fetch {name} --from FILE` takes a file that you have")]
    NoAddress { name: String },
    #[error(
        "{}: {free} bytes are free and {needed} are needed; make room, or set DENSENET_ZOO_CACHE to a folder elsewhere",
        dir.display()
    )]
    NoSpace { dir: PathBuf, free: u64, needed: u64 },
    #[error("{key:?} is no minisign public key, and no file that holds one")]
    BadKey { key: String },
    #[error("{}: not as it was signed: {reason}; nothing of it is used", file.display())]
    Signature { file: PathBuf, reason: String },
    #[error(
        "{name}: every source failed: {}; `fetch {name} --from FILE` takes a file that you have",
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    AllFailed { name: String, errors: Vec<Error> },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{name}: cannot write the converted file: {reason}")]
    Converted { name: String, reason: String },
    #[error("{file}: {reason}")]
    Malformed { file: String, reason: String },
}

/// What an error means to a caller; each has its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The answer is no: a wrong digest, none known, another file than before.
    Negative,
    /// Asked for something that is not there.
    Usage,
    /// The network or the server at its end.
    Network,
    /// A disk or a file.
    Disk,
    /// A catalogue that does not parse.
    Malformed,
}

impl Error {
    /// What it means to a caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. }
            | Self::Ambiguous { .. }
            | Self::NotConvertible { .. }
            | Self::NotCached { .. }
            | Self::BadKey { .. }
            | Self::Clash { .. } => ErrorKind::Usage,
            Self::WrongDigest { .. }
            | Self::Signature { .. }
            | Self::NoAddress { .. }
            | Self::NoDigest { .. }
            | Self::Pin { .. }
            | Self::Length { local: true, .. } => ErrorKind::Negative,
            Self::Offline { .. }
            | Self::Length { .. }
            | Self::WebPage { .. }
            | Self::Status { .. }
            | Self::Transfer { .. } => ErrorKind::Network,
            // A wrong file weighs more than an absent one.
            Self::AllFailed { errors, .. } => {
                let kinds = || errors.iter().map(Self::kind);
                kinds().find(|kind| *kind == ErrorKind::Negative).or(kinds().next_back()).unwrap_or(ErrorKind::Network)
            }
            Self::NoHome
            | Self::NoCatalogue { .. }
            | Self::NoSpace { .. }
            | Self::Io { .. }
            | Self::Converted { .. } => ErrorKind::Disk,
            Self::Malformed { .. } => ErrorKind::Malformed,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
