//! A run that the original began and that goes on here: the folder of its checkpoints.

use std::path::{Path, PathBuf};

use densenet_arch::Config;
use densenet_converters::t7::{Latest, OptimState};
use densenet_engine::train::Progress;

use super::learner::Named;
use crate::error::{Error, Result};

/// What `latest.t7` leads to.
#[derive(Clone, Debug)]
pub struct Torch7 {
    /// The model's file.
    pub model: PathBuf,
    /// Epochs that are done.
    pub epochs: usize,
    optimiser: OptimState,
}

impl Torch7 {
    /// Torch's table of a run, beside its checkpoints.
    pub const LATEST: &str = "latest.t7";

    /// Reads the folder; `None` if it has no `latest.t7`.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(Self::LATEST);
        if !path.is_file() {
            return Ok(None);
        }
        let read = |path: &Path| std::fs::read(path).map_err(Error::io("read", path));
        let wrap = |path: &Path| {
            let path = path.to_owned();
            |source| Error::Checkpoint { path, source }
        };
        let latest = Latest::read(&read(&path)?).map_err(wrap(&path))?;
        let (model, state) = (folder.join(latest.model), folder.join(latest.optimiser));
        let optimiser = OptimState::read(&read(&model)?, &read(&state)?).map_err(wrap(&state))?;
        Ok(Some(Self { model, epochs: latest.epoch, optimiser }))
    }

    /// How far a learner of it is, with epochs of so many steps now.
    pub fn progress(&self, steps: usize) -> Progress {
        Progress { updates: (self.epochs * steps) as u64, passes: self.optimiser.updates }
    }

    /// What a learner remembers, by its names of it: the momentum, which is zero before the first update.
    pub fn memory(&self, config: &Config) -> Named {
        let weights = config.params().into_iter().filter(|param| param.role.is_parameter());
        let named = weights.map(|param| {
            let nothing = || (param.shape.clone(), vec![0.0; param.elements()]);
            let momentum = self.optimiser.momentum.get(&param.name).cloned();
            (format!("optimiser.momentum.{}", param.name), momentum.unwrap_or_else(nothing))
        });
        named.collect()
    }
}
