//! Where a run leaves what it made: the best and the last network, and its figures.

use std::io::Write;
use std::path::{Path, PathBuf};

use densenet_arch::{Metadata, Role};
use densenet_converters::{TOOL, write_f32};
use densenet_engine::train::Trainer;
use serde_json::Value;

use super::recipe::Recipe;
use crate::error::{Error, Result};

/// A folder of `best.safetensors`, `last.safetensors` and `metrics.jsonl`. Each file is replaced whole.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// What `metrics.jsonl` holds: a line that describes the run, then one an epoch.
    lines: String,
}

const METRICS: &str = "metrics.jsonl";

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// After the epoch of the lowest error.
    Best,
    /// After the last epoch.
    Last,
}

impl Checkpoint {
    fn file(self) -> &'static str {
        match self {
            Self::Best => "best.safetensors",
            Self::Last => "last.safetensors",
        }
    }
}

impl Folder {
    /// Makes the folder. One that holds a run's files is refused, unless they may be replaced; they are when the first epoch
    /// is done.
    pub fn create(path: &Path, replace: bool) -> Result<Self> {
        let taken = [Checkpoint::Best.file(), Checkpoint::Last.file(), METRICS].map(|file| path.join(file));
        if let Some(path) = taken.into_iter().find(|path| path.exists() && !replace) {
            return Err(Error::Exists { path });
        }
        std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
        Ok(Self { path: path.to_owned(), lines: String::new() })
    }

    /// The path of a network.
    pub fn checkpoint(&self, which: Checkpoint) -> PathBuf {
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

    /// Writes the network as it is, with all that other commands need to use it.
    pub fn save(&self, which: Checkpoint, trainer: &Trainer, recipe: &Recipe, classes: &[String]) -> Result<()> {
        let path = self.checkpoint(which);
        let config = trainer.config();
        let metadata = Metadata {
            architecture: Some(config.name()),
            num_classes: Some(config.num_classes),
            eps: Some(config.eps),
            head: Some(config.head),
            pooling: Some(config.pooling),
            protocol: Some(recipe.protocol.clone()),
            labels: Some(classes.to_vec()),
            tool: Some(TOOL.to_owned()),
            ..Metadata::default()
        };
        let params = config.params().into_iter().filter(|param| param.role != Role::NumBatchesTracked);
        let tensors = params.filter_map(|param| {
            let (shape, values) = trainer.tensor(&param.name)?;
            Some((param.name, shape, values))
        });
        self.replace(&path, |out| {
            write_f32(&metadata, tensors, out).map_err(|source| Error::Checkpoint { path: path.clone(), source })?;
            Ok(())
        })
    }

    /// Writes beside the file, then renames: it is replaced whole or not at all.
    fn replace(&self, path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let mut file = densenet_registry::temporary_in(&self.path).map_err(Error::io("write into", &self.path))?;
        write(&mut file)?;
        file.as_file().sync_all().map_err(Error::io("write", path))?;
        file.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
        Ok(())
    }
}
