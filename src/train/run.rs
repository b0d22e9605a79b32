//! A run: epochs of steps, each followed by a look at the validation images.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use densenet_arch::Task;
use densenet_engine::Convolutions;

use super::Draws;
use super::checkpoint::{Checkpoint, Position, State, fingerprint};
use super::draws::Random;
use super::epoch::{Epoch, Score, best};
use super::labelled::{Labelled, Targets};
use super::learner::{Compute, Following, Learner, Tensors};
use super::sets::Sets;
use super::step::{diverged, step};
use crate::data::loader::{BadImage, Next, ahead, makers};
use crate::data::transform::Transform;
use crate::error::{Error, Result};
use crate::eval::{Setup, Shard, Step, evaluate, evaluate_findings};
use crate::memory;
use crate::metrics::Summary;

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
    /// What computes it.
    pub compute: Compute,
}

/// What the first draw is for: parts of the draws' key.
const ORDER: u64 = 1;
const AUGMENT: u64 = 2;

/// A network in training with its data.
pub struct Run {
    state: State,
    threads: usize,
    learner: Box<dyn Learner>,
    transform: Transform,
    /// What the validation images become.
    validated: Transform,
    training: Labelled,
    validation: Labelled,
    /// Since when `state.seconds` has to be added to.
    since: Instant,
}

/// Where an epoch is.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// From 1.
    pub epoch: usize,
    /// Images of it that were shown.
    pub images: usize,
    /// The loss over them.
    pub loss: f64,
    /// The share of them that was taken for another class, in percent.
    pub error: Option<f64>,
    /// Validation images that were looked at, once all others were shown.
    pub validated: usize,
}

impl Moment {
    fn of(epoch: usize, position: &Position, validated: usize) -> Self {
        let Position { images, loss, wrong, .. } = *position;
        let share = |sum: f64| sum / images as f64;
        let error = wrong.map(|wrong| 100.0 * share(wrong as f64));
        Self { epoch, images, loss: share(loss), error, validated }
    }
}

/// How far [`Run::advance`] came.
#[derive(Clone, Debug, PartialEq)]
pub enum Advance {
    /// To the end of an epoch.
    Epoch(Epoch),
    /// To where it was told to pause, within an epoch; its error is measured anew when it goes on.
    Paused,
    /// All epochs are done, or none of the last few was better.
    Done,
}

/// Of a batch's pixels and the numbers of its images.
impl Following for Next<'_, Result<(Vec<f32>, &[usize])>> {
    fn images(&mut self) -> Option<&[f32]> {
        let (pixels, _) = self.ready()?.as_ref().ok()?;
        Some(pixels)
    }
}

impl Run {
    /// Begins a run. `state` is new, or a checkpoint's, whose tensors then come with it.
    ///
    /// # Errors
    ///
    /// Data that are not those of the checkpoint, or tensors that are not this network's.
    pub fn new(
        mut state: State,
        threads: usize,
        mut learner: Box<dyn Learner>,
        Sets { training, validation, .. }: Sets,
        tensors: Option<&mut Tensors>,
    ) -> Result<Self> {
        let transform = Transform::new(&state.recipe.protocol, state.recipe.config.in_channels)?;
        let validated = if state.recipe.ten_crop { transform.clone().with_ten_crops()? } else { transform.clone() };
        let data = fingerprint(&training, &validation);
        if let Some(tensors) = tensors {
            if !state.data_sha256.is_empty() && state.data_sha256 != data {
                let reason =
                    "the images and labels are not those that the checkpoint was trained on; give the same --data";
                return Err(Error::Usage(reason.into()));
            }
            learner.restore(tensors, state.position.progress())?;
        }
        let Position { step, images, .. } = state.position;
        if images != training.len().min(step.saturating_mul(state.recipe.batch)) {
            return Err(Error::Usage(format!(
                "the checkpoint is at {images} images after {step} steps, which cannot be"
            )));
        }
        state.data_sha256 = data;
        Ok(Self { state, threads, learner, transform, validated, training, validation, since: Instant::now() })
    }

    /// Trains to the end of the epoch under way, each image shown once in a new order, and measures the error.
    /// `observe` is told of every step and of every batch of validation images, and ends it between two by `false`.
    ///
    /// # Errors
    ///
    /// [`Error::Diverged`] where the numbers leave the range of floats, and an image that cannot be read.
    pub fn advance(&mut self, mut observe: impl FnMut(&Moment) -> bool) -> Result<Advance> {
        if self.is_done() {
            return Ok(Advance::Done);
        }
        if self.state.position.step == 0 {
            self.state.position.rate = self.learner.rate();
        }
        let begun = Instant::now();
        let outcome = self.train(&mut observe);
        self.state.position.note(self.learner.progress());
        self.state.position.seconds += begun.elapsed().as_secs_f64();
        if !outcome? {
            self.clock();
            return Ok(Advance::Paused);
        }
        let epoch = self.state.done() + 1;
        let judged = self.validate(|validated| observe(&Moment::of(epoch, &self.state.position, validated)))?;
        self.clock();
        let Some((validation_loss, score)) = judged else { return Ok(Advance::Paused) };
        if !validation_loss.is_finite() {
            let source = densenet_engine::Error::Diverged("validation loss");
            return Err(Error::Diverged { epoch, step: self.state.position.step, source });
        }
        let Moment { loss, error: train_error, .. } = Moment::of(epoch, &self.state.position, 0);
        let epoch = Epoch {
            epoch,
            rate: self.state.position.rate,
            loss,
            train_error,
            validation_loss,
            score,
            images_per_s: self.training.len() as f64 / self.state.position.seconds,
            seconds: self.state.seconds,
            memory_mib: memory::peak_mib(),
        };
        self.state.position = Position::of(self.learner.progress());
        self.state.history.push(epoch.clone());
        Ok(Advance::Epoch(epoch))
    }

    /// Whether all epochs are done, or none of the last few was better.
    fn is_done(&self) -> bool {
        let late = |patience| self.best().is_some_and(|best| self.state.done() - best.epoch >= patience);
        self.state.left() == 0 || self.state.recipe.patience.is_some_and(late)
    }

    /// Takes the steps that are left of the epoch; whether all of them.
    fn train(&mut self, observe: &mut dyn FnMut(&Moment) -> bool) -> Result<bool> {
        let Self { state, threads, learner, transform, training, .. } = self;
        let (samples, epoch) = (&training.dataset.samples, state.done() + 1);
        let State { recipe, position, seed, .. } = state;
        let key = [*seed, epoch as u64];
        let order = Draws::of(&[ORDER, key[0], key[1]]).permutation(samples.len());
        let batches: Vec<&[usize]> = order.chunks(recipe.batch).skip(position.step).collect();
        // What is prepared ahead is not worth it once the run ends.
        let ended = AtomicBool::new(false);
        let make = |number: usize, mut pixels: Vec<f32>| -> Result<(Vec<f32>, &[usize])> {
            pixels.clear();
            for &index in batches[number] {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let sample = &samples[index];
                let image = sample.image.pixels()?;
                let mut draws = Draws::of(&[AUGMENT, key[0], key[1], index as u64]);
                let appended = recipe.augmentation.append(&image, transform, &mut draws, &mut pixels);
                appended.map_err(|error| error.of(&sample.id))?;
            }
            Ok((pixels, batches[number]))
        };
        let mut going = true;
        let makers = makers(*threads, recipe.batch * transform.bytes());
        ahead(batches.len(), makers, make, |batch, next| {
            let (pixels, batch) = batch?;
            let (loss, wrong) = step(learner.as_mut(), &pixels, batch, &training.targets, next)
                .map_err(|error| diverged(error, epoch, position.step + 1))
                .inspect_err(|_| ended.store(true, Ordering::Relaxed))?;
            position.step += 1;
            position.images += batch.len();
            position.loss += loss * batch.len() as f64;
            position.wrong = wrong.map(|wrong| wrong + position.wrong.unwrap_or(0));
            going = observe(&Moment::of(epoch, position, 0));
            ended.store(!going, Ordering::Relaxed);
            Ok(going.then_some(pixels))
        })?;
        Ok(going)
    }

    /// The validation images' loss and score as the network stands, computed as `eval` computes them. `observe` is told how
    /// many it has looked at after each batch, and ends it by `false`: then there is nothing.
    pub fn validate(&self, mut observe: impl FnMut(usize) -> bool) -> Result<Option<(f64, Score)>> {
        let mut runner = self.learner.runner()?;
        let classes: Vec<usize> = (0..self.validation.dataset.classes.len()).collect();
        let setup = Setup {
            dataset: &self.validation.dataset,
            classes: &classes,
            transform: &self.validated,
            // The original divides the batch as well (dataloader.lua).
            batch: self.state.recipe.batch.div_ceil(self.validated.crops()),
            threads: self.threads,
            shard: Shard::WHOLE,
            keep_outputs: false,
            skip: 0,
        };
        let readable = |bad: &[BadImage]| match bad.first() {
            Some(bad) => Err(Error::Negative(bad.reason.clone())),
            None => Ok(()),
        };
        let mut ended = false;
        let mut goes_on = |images| {
            ended = !observe(images);
            // Whatever ends it.
            if ended { Err(Error::Interrupted(String::new())) } else { Ok(()) }
        };
        let judged = match &self.validation.targets {
            Targets::Classes(_) => evaluate(&mut runner, &setup, |Step { evaluation, .. }| {
                goes_on(evaluation.images() + evaluation.bad.len())
            })
            .and_then(|evaluation| {
                readable(&evaluation.bad)?;
                let Summary { cross_entropy, top1_error, top5_error, .. } = Summary::of(&evaluation.predictions);
                Ok((cross_entropy, Score::Error { error: top1_error, top5_error }))
            }),
            Targets::Findings(values) => evaluate_findings(&mut runner, &setup, &mut goes_on).and_then(|findings| {
                readable(&findings.bad)?;
                let auroc = findings.summary(&self.validation.dataset.classes, values);
                Ok((auroc.loss, Score::Findings { auroc }))
            }),
        };
        if ended { Ok(None) } else { judged.map(Some) }
    }

    /// Adds the time that has passed.
    fn clock(&mut self) {
        self.state.seconds += self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
    }

    /// All that it needs to go on from here.
    pub fn checkpoint(&self) -> Checkpoint<'_> {
        let task = match self.training.targets {
            Targets::Classes(_) => Task::SingleLabel,
            Targets::Findings(_) => Task::MultiLabel,
        };
        Checkpoint { state: &self.state, learner: self.learner.as_ref(), classes: self.classes(), task }
    }

    /// What it is and where.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The first epoch of those with the best score so far.
    pub fn best(&self) -> Option<&Epoch> {
        best(&self.state.history)
    }

    /// What computes it.
    pub fn learner(&self) -> &dyn Learner {
        self.learner.as_ref()
    }

    /// Images to train on, and to measure the error on.
    pub fn images(&self) -> (usize, usize) {
        (self.training.len(), self.validation.len())
    }

    /// Images of each class, or with each finding: to train on, and for the score.
    pub fn counts(&self) -> Vec<(usize, usize)> {
        let (training, validation) = (self.training.counts(), self.validation.counts());
        let measured = |class: usize| validation.get(class).map_or(0, |count| count.positives);
        training.iter().enumerate().map(|(class, count)| (count.positives, measured(class))).collect()
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.training.dataset.classes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::{Source, Stored, initial_weights};
    use super::*;

    /// The digits in steps of 144, ten an epoch, for two epochs.
    fn state() -> (State, Settings) {
        let recipe =
            super::super::Recipe { epochs: 2, batch: 144, ..super::super::Recipe::preset("digits").unwrap().0 };
        let settings = Settings {
            seed: 5,
            threads: 2,
            memory_level: 3,
            convolutions: Convolutions::Fast,
            compute: Compute::Engine,
        };
        (State::new(recipe, &settings, Source::Digits, None), settings)
    }

    fn run(state: State, settings: Settings, from: Option<&mut Tensors>) -> Run {
        let data = state.source.open().unwrap();
        let mut weights = initial_weights(&state.recipe.config, settings.seed);
        let learner = Compute::Engine.learner(&state.recipe, &settings, 10, &mut weights).unwrap();
        Run::new(state, settings.threads, learner, data, from).unwrap()
    }

    /// Every tensor of the state, bit by bit, and what the epochs came to.
    type Outcome = (HashMap<String, Vec<u32>>, Vec<(f64, Option<f64>, f64, Score)>);

    fn outcome(run: &Run) -> Outcome {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
        let tensors =
            run.learner().state().unwrap().into_iter().map(|entry| (entry.name.clone(), bits(&entry.values))).collect();
        let of = |epoch: &Epoch| (epoch.loss, epoch.train_error, epoch.validation_loss, epoch.score.clone());
        (tensors, run.state().history.iter().map(of).collect())
    }

    #[test]
    fn a_run_that_stopped_goes_on_to_the_same_bits() {
        let (begin, settings) = state();
        let mut straight = run(begin.clone(), settings, None);
        let mut steps = 0;
        while straight
            .advance(|moment| {
                steps += usize::from(moment.validated == 0);
                true
            })
            .unwrap()
            != Advance::Done
        {}
        assert_eq!((steps, straight.state().history.len()), (20, 2));
        let expected = outcome(&straight);
        assert_eq!(expected.0["optimiser.momentum.classifier.bias"].len(), 10);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        // After 10 the validation images are looked at, three batches of them, and after 13 the second epoch has begun.
        for stop in [1, 9, 10, 11, 16] {
            // By other threads, and at the other memory level.
            let mut first = run(begin.clone(), Settings { threads: 1, memory_level: 4, ..settings }, None);
            let mut left = stop;
            while left > 0 {
                first
                    .advance(|_| {
                        left -= 1;
                        left > 0
                    })
                    .unwrap();
            }
            let mut file = std::fs::File::create(&path).unwrap();
            first.checkpoint().write(&path, &mut file).unwrap();
            let stored = Stored::open(&path).unwrap();
            let place = (stored.state.history.len(), stored.state.position.step);
            assert_eq!(place, if stop > 13 { (1, stop - 13) } else { (0, stop.min(10)) });
            let tensors = stored.tensors().unwrap();
            let mut second = run(stored.state, settings, Some(&mut |name: &str| tensors.get(name).cloned()));
            while second.advance(|_| true).unwrap() != Advance::Done {}
            assert!(outcome(&second) == expected, "stopped after {stop}");
            assert!(second.state().history.iter().all(|epoch| epoch.images_per_s > 0.0), "stopped after {stop}");
        }
        // Other labels are other data.
        let stored = Stored::open(&path).unwrap();
        let mut sets = stored.state.source.open().unwrap();
        sets.training.dataset.classes.swap(0, 1);
        let tensors = stored.tensors().unwrap();
        let mut weights = initial_weights(&stored.state.recipe.config, 0);
        let learner = Compute::Engine.learner(&stored.state.recipe, &settings, 10, &mut weights).unwrap();
        let from: &mut Tensors = &mut |name: &str| tensors.get(name).cloned();
        let error = Run::new(stored.state, 1, learner, sets, Some(from)).err().unwrap();
        assert!(error.to_string().contains("not those that the checkpoint was trained on"), "{error}");
    }

    #[test]
    fn it_ends_early_where_no_epoch_gets_better() {
        let (mut begin, settings) = state();
        begin.recipe.epochs = 9;
        begin.recipe.patience = Some(2);
        // Weights that stay as they are: the first epoch is the best for good.
        begin.recipe.rate = 0.0;
        let mut run = run(begin, settings, None);
        while run.advance(|_| true).unwrap() != Advance::Done {}
        let epochs = run.state().history.len();
        assert_eq!(epochs - run.best().unwrap().epoch, 2, "{epochs}");
    }
}
