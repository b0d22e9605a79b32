//! Where a run leaves what it made: the best network, a checkpoint to go on from, and its figures.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::epoch::Score;
use super::figures::{CSV, Figures};
use super::recipe::Recipe;
use super::run::Run;
use super::tensorboard;
use crate::card::{Class, Training, of_training};
use crate::error::{Error, Result};
use crate::report::curves::{Curve, FIGURES, save};
use crate::{files, hf};

/// A folder of `model.safetensors`, `last.safetensors`, the figures as `metrics.jsonl`, `metrics.csv` and event files of
/// TensorBoard, and the curves as `curves.svg` and `curves.png`. Each is replaced whole but for the event files, which grow.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    figures: Figures,
    /// The text of `split.csv`, until it is written with the first of the others.
    split: Option<String>,
    /// Whether the run has a split of its own.
    is_split: bool,
    /// Whether another run's files may be there, until the first of this one's replace them.
    replaces: bool,
}

/// The names of the curves.
const CURVES: [&str; 2] = ["curves.svg", "curves.png"];

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

    /// Refuses one that holds a run's files, unless they may be replaced.
    pub fn check(path: &Path, replace: bool) -> Result<()> {
        let mut taken = Self::files(path).filter(|path| path.exists());
        let events = || tensorboard::files(path).map(|files| files.into_iter().next());
        match if replace { None } else { taken.next().map_or_else(events, |path| Ok(Some(path)))? } {
            Some(path) => Err(Error::Exists { path }),
            None => Ok(()),
        }
    }

    /// Makes the folder, if it passes the [`check`](Self::check). What may be replaced is when the first checkpoint is written.
    pub fn create(path: &Path, replace: bool) -> Result<Self> {
        Self::check(path, replace)?;
        std::fs::create_dir_all(path).map_err(Error::io("create", path))?;
        Ok(Self { replaces: replace, ..Self::open(path) })
    }

    /// The folder of a run that goes on.
    pub fn open(path: &Path) -> Self {
        let figures = Figures::new(path, Value::Null, Vec::new());
        Self { path: path.to_owned(), figures, split: None, is_split: false, replaces: false }
    }

    /// With which images are on which side, written with the first checkpoint.
    #[must_use]
    pub fn with_split(self, split: Option<String>) -> Self {
        Self { is_split: split.is_some(), split, ..self }
    }

    /// All that a run leaves, but for the event files.
    fn files(path: &Path) -> impl Iterator<Item = PathBuf> {
        let files = [Kept::Best.file(), Kept::Last.file(), hf::CONFIG, hf::CARD, FIGURES, CSV, Self::SPLIT];
        files.into_iter().chain(CURVES).map(|file| path.join(file))
    }

    /// Says what the run is made by, and what the epochs came to that it has done: none, or a checkpoint's. What the folder
    /// holds of later ones is dropped.
    pub fn begin(&mut self, header: Value, epochs: Vec<Value>) -> Result<()> {
        self.figures = Figures::new(&self.path, header, epochs);
        self.figures.write()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of what is kept.
    pub fn file(&self, which: Kept) -> PathBuf {
        self.path.join(which.file())
    }

    /// Adds an epoch to the figures and writes them.
    pub fn add(&mut self, epoch: Value) -> Result<()> {
        self.figures.add(epoch)
    }

    /// Draws the figures.
    pub fn save_curves(&self) -> Result<()> {
        let curve = Curve::new(self.name(), self.figures.epochs());
        CURVES.iter().try_for_each(|file| save(&self.path.join(file), std::slice::from_ref(&curve)))
    }

    /// Writes the run as it stands, to go on from.
    pub fn save(&mut self, run: &Run) -> Result<()> {
        self.save_split()?;
        let path = self.file(Kept::Last);
        files::replace(&path, |out| run.checkpoint().write(&path, out))?;
        if std::mem::take(&mut self.replaces) { self.remove_others() } else { Ok(()) }
    }

    /// Removes what another run left, once this one has a checkpoint: the two would be taken for one.
    fn remove_others(&self) -> Result<()> {
        let own = [self.file(Kept::Last), self.path.join(Self::SPLIT)];
        let own = if self.is_split { &own[..] } else { &own[..1] };
        for path in Self::files(&self.path).filter(|path| path.exists() && !own.contains(path)) {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        tensorboard::remove(&self.path)
    }

    /// Writes the network as it is after the last epoch, with its description and its card: the folder is a model.
    pub fn save_model(&mut self, run: &Run) -> Result<()> {
        if self.replaces {
            self.save(run)?;
        }
        self.save_split()?;
        let path = self.file(Kept::Best);
        let Recipe { config, protocol, .. } = &run.state().recipe;
        let description = hf::config_json(config, protocol, Some(run.classes()));
        let weights = |out: &mut dyn Write| run.checkpoint().write_model(&path, out);
        hf::write(&self.path, &description, weights, |sha256| card(run, &self.name(), sha256)).map(drop)
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Writes which images are on which side, once.
    fn save_split(&mut self) -> Result<()> {
        let Some(split) = &self.split else { return Ok(()) };
        files::write(&self.path.join(Self::SPLIT), split.as_bytes())?;
        self.split = None;
        Ok(())
    }
}

/// The card of the network after the last epoch.
fn card(run: &Run, name: &str, sha256: &str) -> String {
    let state = run.state();
    let Some(last) = state.history.last() else { return String::new() };
    let counts = run.counts();
    let classes = run.classes().iter().zip(&counts).enumerate().map(|(at, (name, &images))| {
        let auroc = match &last.score {
            Score::Findings { auroc } => auroc.per_class.get(at).and_then(|finding| finding.auroc),
            Score::Error { .. } => None,
        };
        Class { name, images, auroc }
    });
    let training = Training {
        name,
        config: &state.recipe.config,
        protocol: &state.recipe.protocol,
        origin: state.origin.as_ref(),
        data: &state.source.name(),
        images: run.images(),
        split: state.source.split(),
        seed: state.seed,
        classes: classes.collect(),
        recipe: state.recipe.rows(),
        epoch: (last.epoch, state.recipe.epochs),
        score: &last.score,
    };
    of_training(&training, sha256)
}
