//! Training: a recipe, run epoch by epoch on the engine's trainer.
//!
//! What is drawn depends on seed, epoch and image alone, and the trainer gives the same bits for any number of threads: so
//! does a run.

mod augment;
mod draws;
mod folder;
mod recipe;

use std::time::Instant;

use densenet_engine::train::{Options, Trainer, initial_weights};
use densenet_engine::{Convolutions, Shape};
use serde::Serialize;

pub use augment::Augmentation;
pub use draws::Draws;
pub use folder::{Checkpoint, Folder};
pub use recipe::Recipe;

use crate::data::Dataset;
use crate::data::loader::ahead;
use crate::data::transform::Transform;
use crate::error::{Error, Result};
use crate::eval::{Setup, Shard, evaluate};
use crate::metrics::{Rate, Summary};
use crate::runner::Runner;

/// What a run is told beside its recipe. The seed alone changes what comes out, and the convolutions its last bits.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What the first weights, the order of the images and their augmentation are drawn from.
    pub seed: u64,
    /// Threads that work at once.
    pub threads: usize,
    /// As the engine's options have it, 0 to 4.
    pub memory_level: u8,
    /// How 3x3 convolutions are computed in training; the error is measured with the fast ones, as `eval` does.
    pub convolutions: Convolutions,
}

/// What the first draw is for: parts of the draws' key.
const ORDER: u64 = 1;
const AUGMENT: u64 = 2;

/// A pass over the training images, and what the network made of the others then.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// The learning rate of its first step.
    pub rate: f64,
    /// The loss over the training images as they were shown.
    pub loss: f64,
    /// The loss over the validation images, and their error, by the running statistics.
    pub validation_loss: f64,
    /// See `validation_loss`.
    pub error: Rate,
    /// Training images a second.
    pub images_per_s: f64,
    /// Seconds since the run began.
    pub seconds: f64,
}

/// A network in training with its data.
#[derive(Debug)]
pub struct Run {
    recipe: Recipe,
    settings: Settings,
    trainer: Trainer,
    transform: Transform,
    training: Dataset,
    validation: Dataset,
    done: usize,
    start: Instant,
}

impl Run {
    /// Makes the first weights and all buffers.
    pub fn new(recipe: Recipe, settings: Settings) -> Result<Self> {
        let (training, validation) = recipe.data()?;
        let transform = Transform::new(&recipe.protocol, recipe.config.in_channels)?;
        let (_, height, width) = transform.shape();
        let steps = training.samples.len().div_ceil(recipe.batch);
        let options = Options {
            convolutions: settings.convolutions,
            memory_level: settings.memory_level,
            schedule: recipe.schedule(steps),
            seed: settings.seed,
            ..Options::default()
        };
        let shape = Shape { height, width, batch: recipe.batch, threads: settings.threads };
        let weights = initial_weights(&recipe.config, settings.seed);
        let trainer = Trainer::new(&recipe.config, weights, shape, &options)?;
        Ok(Self { recipe, settings, trainer, transform, training, validation, done: 0, start: Instant::now() })
    }

    /// Trains on every image once, in a new order, and measures the error. `None` when all epochs are done.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`] where the numbers leave the range of floats, and an image that cannot be read.
    pub fn epoch(&mut self) -> Result<Option<Epoch>> {
        if self.done == self.recipe.epochs {
            return Ok(None);
        }
        let epoch = self.done + 1;
        let (begun, rate) = (Instant::now(), self.trainer.rate());
        let loss = self.train(epoch)?;
        let images_per_s = self.training.samples.len() as f64 / begun.elapsed().as_secs_f64();
        let summary = self.validate()?;
        self.done = epoch;
        Ok(Some(Epoch {
            epoch,
            rate,
            loss,
            validation_loss: summary.cross_entropy,
            error: summary.top1_error,
            images_per_s,
            seconds: self.start.elapsed().as_secs_f64(),
        }))
    }

    /// The mean loss of an epoch.
    fn train(&mut self, epoch: usize) -> Result<f64> {
        let Self { recipe, settings, trainer, transform, training, .. } = self;
        let samples = &training.samples;
        let key = [settings.seed, epoch as u64];
        let order = Draws::of(&[ORDER, key[0], key[1]]).permutation(samples.len());
        let batches: Vec<&[usize]> = order.chunks(recipe.batch).collect();
        let side = recipe.protocol.crop;
        let make = |number: usize, mut pixels: Vec<f32>| -> Result<(Vec<f32>, Vec<usize>)> {
            pixels.clear();
            let (mut labels, mut image) = (Vec::new(), Vec::new());
            for &index in batches[number] {
                let sample = &samples[index];
                image.clear();
                let source = sample.image.pixels()?;
                transform.append(&source, &mut image).map_err(|error| error.of(&sample.id))?;
                let mut draws = Draws::of(&[AUGMENT, key[0], key[1], index as u64]);
                recipe.augmentation.append(&image, side, &mut draws, &mut pixels);
                labels.extend(sample.labels.first());
            }
            Ok((pixels, labels))
        };
        let (mut sum, mut step) = (0.0, 0);
        ahead(batches.len(), settings.threads, make, |batch| {
            let (pixels, labels) = batch?;
            step += 1;
            let done = trainer.step(&pixels, &labels).map_err(|source| match source {
                densenet_engine::Error::Diverged(_) => Error::Diverged { epoch, step, source },
                other => other.into(),
            })?;
            sum += done.loss * labels.len() as f64;
            Ok(pixels)
        })?;
        Ok(sum / samples.len() as f64)
    }

    /// The validation images' figures, computed as `eval` computes them.
    fn validate(&self) -> Result<Summary> {
        let side = self.recipe.protocol.crop;
        let options = densenet_engine::Options {
            convolutions: Convolutions::Fast,
            input: Some((side, side)),
            ..densenet_engine::Options::default()
        };
        let mut runner = Runner::of_plan(self.trainer.plan(&options)?, self.settings.threads);
        let classes: Vec<usize> = (0..self.validation.classes.len()).collect();
        let setup = Setup {
            dataset: &self.validation,
            classes: &classes,
            transform: &self.transform,
            batch: self.recipe.batch,
            threads: self.settings.threads,
            shard: Shard::WHOLE,
            keep_outputs: false,
            skip: 0,
        };
        Ok(Summary::of(&evaluate(&mut runner, &setup, |_| Ok(()))?.predictions))
    }

    /// Writes the network as it is.
    pub fn save(&self, folder: &Folder, which: Checkpoint) -> Result<()> {
        folder.save(which, &self.trainer, &self.recipe, &self.training.classes)
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Images to train on, and to measure the error on.
    pub fn images(&self) -> (usize, usize) {
        (self.training.samples.len(), self.validation.samples.len())
    }

    /// Epochs done.
    pub fn done(&self) -> usize {
        self.done
    }

    /// The kernels in use.
    pub fn isa(&self) -> densenet_engine::Isa {
        self.trainer.isa()
    }
}
