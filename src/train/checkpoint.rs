//! A run as it stands, in one file: all that it needs to go on to the same bits. Other commands take the file as a model.

use std::io::Write;
use std::path::{Path, PathBuf};

use densenet_arch::{Metadata, Role, Task};
use densenet_converters::{TOOL, write_f32};
use densenet_engine::Convolutions;
use densenet_engine::train::Progress;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::epoch::Epoch;
use super::labelled::{Labelled, Targets};
use super::learner::{Entry, Learner, Named};
use super::recipe::Recipe;
use super::source::Source;
use crate::error::{Error, Result};
use crate::store::{Model, Store};

/// What a checkpoint says beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// How the network is trained.
    pub recipe: Recipe,
    /// What everything is drawn from.
    pub seed: u64,
    /// Whether the 3x3 convolutions are computed as sums of their products.
    pub exact: bool,
    /// What computes it: `engine, avx512, fast`. Another gives other last bits.
    pub learner: String,
    /// Where the images are.
    pub source: Source,
    /// What the labels and their order are, so that a run goes on with no others.
    pub data_sha256: String,
    /// What the first weights were, if not drawn.
    pub origin: Option<Origin>,
    /// Epochs that another program did before.
    #[serde(default)]
    pub earlier: usize,
    /// The epochs that are done.
    pub history: Vec<Epoch>,
    /// The place in the epoch under way.
    pub position: Position,
    /// How long all that took.
    pub seconds: f64,
}

/// The model that a run began from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// As it was asked for.
    pub model: String,
    /// The file's sha256.
    pub sha256: String,
    /// Its licence as its publisher states it.
    pub licence: Option<String>,
}

impl Origin {
    /// Of a model, with the licence that the catalogue has of it.
    pub fn of(model: &Model, store: &Store) -> Self {
        let sha256 = model.source.sha256.clone();
        let weight = store.known(&sha256).or_else(|| store.catalogue.find(&model.name).ok());
        let licence = weight.map(|weight| weight.licence.clone());
        Self { model: model.name.clone(), sha256, licence }
    }
}

/// A place in an epoch, and where the learner is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Steps of it that are done.
    pub step: usize,
    /// Their images.
    pub images: usize,
    /// The sum of their losses.
    pub loss: f64,
    /// Those that were taken for another class.
    pub wrong: Option<usize>,
    /// The rate of its first step.
    pub rate: f64,
    /// How long they took.
    #[serde(default)]
    pub seconds: f64,
    updates: u64,
    passes: u64,
}

impl Position {
    /// The beginning of an epoch.
    pub fn of(progress: Progress) -> Self {
        let mut position = Self::default();
        position.note(progress);
        position
    }

    pub(super) fn note(&mut self, Progress { updates, passes }: Progress) {
        (self.updates, self.passes) = (updates, passes);
    }

    pub(super) fn progress(self) -> Progress {
        Progress { updates: self.updates, passes: self.passes }
    }
}

impl State {
    /// A run that begins.
    pub fn new(recipe: Recipe, settings: &Settings, source: Source, origin: Option<Origin>) -> Self {
        Self {
            recipe,
            seed: settings.seed,
            exact: settings.convolutions == Convolutions::Exact,
            learner: String::new(),
            source,
            data_sha256: String::new(),
            origin,
            earlier: 0,
            history: Vec::new(),
            position: Position::default(),
            seconds: 0.0,
        }
    }

    /// Epochs that are done.
    pub fn done(&self) -> usize {
        self.earlier + self.history.len()
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.recipe.epochs.saturating_sub(self.done())
    }
}

/// A run to be written.
#[derive(Clone, Copy)]
pub struct Checkpoint<'r> {
    pub(super) state: &'r State,
    pub(super) learner: &'r dyn Learner,
    pub(super) classes: &'r [String],
    pub(super) task: Task,
}

impl Checkpoint<'_> {
    /// Writes all of it, to go on from.
    pub fn write(&self, path: &Path, out: &mut dyn Write) -> Result<String> {
        let state = serde_json::to_string(self.state).map_err(|error| Error::data(path, error.to_string()))?;
        let metadata = Metadata { training: Some(state), ..self.metadata() };
        write(path, &metadata, &self.learner.state()?, out)
    }

    /// Writes the network alone, to be used.
    pub fn write_model(&self, path: &Path, out: &mut dyn Write) -> Result<String> {
        let params = self.state.recipe.config.params();
        let kept = params.iter().filter(|param| param.role != Role::NumBatchesTracked);
        let entries =
            kept.filter_map(|param| self.learner.weight(&param.name).transpose()).collect::<Result<Vec<_>>>()?;
        write(path, &self.metadata(), &entries, out)
    }

    fn metadata(&self) -> Metadata {
        let Recipe { config, protocol, .. } = &self.state.recipe;
        Metadata {
            architecture: Some(config.name()),
            num_classes: Some(config.num_classes),
            eps: Some(config.eps),
            head: Some(config.head),
            protocol: Some(protocol.clone()),
            labels: Some(self.classes.to_vec()),
            task: self.task,
            tool: Some(TOOL.to_owned()),
            ..Metadata::default()
        }
    }
}

/// The file's sha256.
fn write(path: &Path, metadata: &Metadata, entries: &[Entry], out: &mut dyn Write) -> Result<String> {
    let tensors = entries.iter().map(|Entry { name, shape, values }| (name.clone(), &shape[..], &values[..]));
    write_f32(metadata, tensors, out).map_err(|source| Error::Checkpoint { path: path.to_owned(), source })
}

/// A run that was read back.
#[derive(Debug)]
pub struct Stored {
    /// What it is and where.
    pub state: State,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Stored {
    /// Reads a checkpoint.
    ///
    /// # Errors
    ///
    /// A file that is none, and one that another version of this program wrote in a form that this one does not know.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let malformed = |reason: String| Error::data(path, reason);
        let cut = |error| malformed(format!("no whole safetensors file ({error}); take another copy, or train anew"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(cut)?;
        let metadata = header.metadata().as_ref();
        let metadata = Metadata::from_map(|key| metadata?.get(key).map(String::as_str));
        let training = metadata.map_err(|error| malformed(error.to_string()))?.training;
        let text =
            training.ok_or_else(|| malformed("a model, and no checkpoint of a run: it has no `training`".into()))?;
        let state: State = serde_json::from_str(&text).map_err(|error| {
            malformed(format!(
                "its `training` is not what this version writes: {error}; go on with the version that wrote it"
            ))
        })?;
        state.recipe.check().map_err(|error| malformed(error.to_string()))?;
        let stored = Self { state, path: path.to_owned(), bytes };
        stored.file()?;
        Ok(stored)
    }

    /// Shape and values of each tensor, by its name in [`Learner::state`].
    pub fn tensors(&self) -> Result<Named> {
        let file = self.file()?;
        let tensors = file.iter().filter(|(_, tensor)| tensor.dtype() == Dtype::F32);
        let tensors = tensors.map(|(name, tensor)| {
            let values = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            (name.to_owned(), (tensor.shape().to_vec(), values))
        });
        Ok(tensors.collect())
    }

    fn file(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| Error::data(&self.path, error.to_string()))
    }
}

/// The sha256 of all labels in their order, with the names of the images, wherever their folder lies.
pub(super) fn fingerprint(training: &Labelled, validation: &Labelled) -> String {
    let mut bytes = Vec::new();
    for Labelled { dataset, targets } in [training, validation] {
        bytes.extend(dataset.classes.join("\n").into_bytes());
        for sample in &dataset.samples {
            let names: Vec<_> = Path::new(&sample.id).components().rev().take(2).collect();
            for name in names {
                bytes.extend(name.as_os_str().as_encoded_bytes());
            }
            bytes.push(0);
        }
        match targets {
            Targets::Classes(classes) => bytes.extend(classes.iter().flat_map(|class| (*class as u64).to_le_bytes())),
            Targets::Findings(findings) => bytes.extend(findings.iter().flat_map(|value| value.to_le_bytes())),
        }
    }
    densenet_converters::sha256(&bytes)
}
