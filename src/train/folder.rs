//! Where a run leaves what it made: the best network, a checkpoint to go on from, and its figures.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::hf;

/// A folder of `model.safetensors`, `last.safetensors` and `metrics.jsonl`. Each file is replaced whole.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// What `metrics.jsonl` holds: a line that describes the run, then one an epoch.
    lines: String,
}

const METRICS: &str = "metrics.jsonl";

/// What is kept of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The network after the best epoch. The folder is a model by it.
    Best,
    /// All of the run as it stands.
    Last,
}

impl Kept {
    fn file(self) -> &'static str {
        match self {
            Self::Best => hf::WEIGHTS,
            Self::Last => "last.safetensors",
        }
    }
}

impl Folder {
    /// The file that says which images are on which side.
    pub const SPLIT: &str = "split.csv";

    /// Makes the folder. One that holds a run's files is refused, unless they may be replaced; they are when the first epoch
    /// is done.
    pub fn create(path: &Path, replace: bool) -> Result<Self> {
        let taken = [Kept::Best.file(), Kept::Last.file(), METRICS].map(|file| path.join(file));
        if let Some(path) = taken.into_iter().find(|path| path.exists() && !replace) {
            return Err(Error::Exists { path });
        }
        std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
        Ok(Self { path: path.to_owned(), lines: String::new() })
    }

    /// The folder of a run that goes on.
    pub fn open(path: &Path) -> Self {
        Self { path: path.to_owned(), lines: String::new() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of what is kept.
    pub fn file(&self, which: Kept) -> PathBuf {
        self.path.join(which.file())
    }

    /// Adds a line to the figures, which are written with the next [`Self::save_metrics`].
    pub fn note(&mut self, line: &Value) {
        self.lines.push_str(&line.to_string());
        self.lines.push('\n');
    }

    /// Writes the figures.
    pub fn save_metrics(&self) -> Result<()> {
        let path = self.path.join(METRICS);
        self.replace(&path, |out| out.write_all(self.lines.as_bytes()).map_err(Error::io("write", &path)))
    }

    /// Writes the run as it stands, and gives the file's sha256.
    pub fn save(&self, which: Kept, run: Checkpoint) -> Result<String> {
        let path = self.file(which);
        self.replace(&path, |out| match which {
            Kept::Best => run.write_model(&path, out),
            Kept::Last => run.write(&path, out),
        })
    }

    /// Writes which images are on which side.
    pub fn save_split(&self, split: &str) -> Result<()> {
        let path = self.path.join(Self::SPLIT);
        self.replace(&path, |out| out.write_all(split.as_bytes()).map_err(Error::io("write", &path)))
    }

    /// Writes beside the file, then renames: it is replaced whole or not at all.
    fn replace<T>(&self, path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
        let mut file = densenet_registry::temporary_in(&self.path).map_err(Error::io("write into", &self.path))?;
        let written = write(&mut file)?;
        file.as_file().sync_all().map_err(Error::io("write", path))?;
        file.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
        Ok(written)
    }
}
