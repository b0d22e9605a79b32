//! The trainer.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use densenet_arch::{Config, Role, Rounding};
use rayon::ThreadPool;

use super::batch::{Batch, Sizes, Team};
use super::network::Network;
use super::optimiser::{Change, norm};
use super::pass::{Core, Pass};
use super::store::Store;
use super::{Options, Part, Targets};
use crate::fold::Source;
use crate::{Error, Isa, Plan, Shape};

/// A network in training: weights, gradients, what the optimiser remembers, and every buffer, made once.
pub struct Trainer {
    core: Core,
    pool: ThreadPool,
    shape: Shape,
    options: Options,
    /// The first trained parameter.
    first: usize,
    /// What the optimiser remembers of each parameter.
    memory: Vec<Vec<f32>>,
    /// Averages of parameters and running statistics.
    average: Option<(Vec<f32>, Vec<f32>)>,
    /// Updates of the weights.
    updates: u64,
    /// Batches whose gradients have come together since the last update.
    batches: usize,
}

/// What a batch gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Mean over the batch.
    pub loss: f64,
    /// (n, classes), before the update.
    pub logits: Vec<f32>,
}

impl Trainer {
    /// Takes the weights and makes all buffers. `weights` gives shape and values of a tensor by torchvision's name, as
    /// [`Config::params`](densenet_arch::Config::params) lists them; `num_batches_tracked` is not asked for.
    /// [`initial_weights`](super::initial_weights) gives those of a new network. `shape.batch` is the most images of a
    /// step.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`] and [`Session::new`](crate::Session::new), and options out of range.
    pub fn new(
        config: &Config,
        mut weights: impl FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)>,
        shape: Shape,
        options: &Options,
    ) -> Result<Self, Error> {
        config.validate()?;
        if config.pooling == Rounding::Ceil {
            return Err(Error::Setting { field: "pooling", value: "ceil".into(), must: "floor" });
        }
        options.check(config)?;
        shape.check(config)?;
        let backend = Isa::backend_of(options.isa)?;
        let blocks = config.block_config.len();
        let part = options.first_trained.index("first_trained", config)?;
        let mut source = Source(&mut weights);
        let params = config.params();
        let of = |keep: fn(&Role) -> bool| params.iter().filter(move |param| keep(&param.role)).cloned();
        let parameters = Store::new(of(|role| role.is_parameter()), &mut source)?;
        let running = Store::new(of(|role| matches!(role, Role::RunningMean | Role::RunningVar)), &mut source)?;
        let network = Network::new(config, &parameters, &running);
        let size = (shape.height, shape.width);
        let sizes = Sizes::new(config, &network, size, part, options.memory_level < 4);
        let batch = Batch::new(config, &network, &sizes, shape.batch)?;
        let first = parameters.tensors.iter().find(|(param, _)| Part::of(param) == options.first_trained);
        let first = first.map_or(0, |(_, range)| range.start);
        let count = parameters.values.len();
        let average = options.average.map(|_| (parameters.values.clone(), running.values.clone()));
        let core = Core {
            config: config.clone(),
            backend,
            network,
            parameters,
            running,
            gradients: vec![0.0; count],
            sizes,
            batch,
            pass: Pass::new(blocks),
            team: Team::new(shape.threads),
            seed: options.seed,
            convolutions: options.convolutions,
        };
        let memory = options.optimiser.memories().iter().map(|_| vec![0.0; count]).collect();
        let pool = pool(shape.threads)?;
        Ok(Self { core, pool, shape, options: options.clone(), first, memory, average, updates: 0, batches: 0 })
    }

    /// Trains on a batch: forward, backward, update. Images are (n, channels, height, width) for any n up to the planned
    /// batch, normalised.
    ///
    /// # Errors
    ///
    /// As [`accumulate`](Self::accumulate) and [`update`](Self::update).
    pub fn step(&mut self, images: &[f32], targets: Targets<'_>) -> Result<Step, Error> {
        let step = self.accumulate(images, targets)?;
        self.update()?;
        Ok(step)
    }

    /// Forward and backward: adds the batch's gradients to those that wait for the next update, and moves the running
    /// statistics.
    ///
    /// # Errors
    ///
    /// A batch that does not fit, a loss that is not finite ([`Error::Diverged`]), and a thread that panicked. No weight and
    /// no statistic has changed then.
    pub fn accumulate(&mut self, images: &[f32], targets: Targets<'_>) -> Result<Step, Error> {
        let count = self.check(images, targets)?;
        let Self { core, pool, options, .. } = self;
        core.batch.take(count);
        if self.batches == 0 {
            core.gradients.fill(0.0);
        }
        let step = catch(pool, || {
            core.forward(images);
            let logits = core.classify();
            let mut gradient = logits.clone();
            let loss = targets.loss(&mut gradient, count, options)?;
            core.backward(&gradient);
            core.move_running();
            core.pass.number += 1;
            Ok(Step { loss, logits })
        });
        match step {
            Ok(_) => self.batches += 1,
            // Half a batch's gradients may have come.
            Err(Error::Panicked) => self.batches = 0,
            Err(_) => {}
        }
        step
    }

    /// Changes the weights by the mean of the gradients that wait, at the schedule's rate; gives that gradient's
    /// Euclidean length. Without any it does nothing and gives 0.
    ///
    /// # Errors
    ///
    /// A gradient that is not finite ([`Error::Diverged`]). No weight has changed then, and the gradients are dropped.
    pub fn update(&mut self) -> Result<f64, Error> {
        let batches = std::mem::take(&mut self.batches);
        if batches == 0 {
            return Ok(0.0);
        }
        let Self { core, pool, options, first, memory, average, updates, .. } = self;
        let length = catch(pool, || Ok(norm(&core.gradients[*first..]) / batches as f64))?;
        if !length.is_finite() {
            return Err(Error::Diverged("gradient"));
        }
        let shrink = options.clip.map_or(1.0, |clip| (clip / length).min(1.0));
        let (rate, factor) = (options.schedule.at(*updates), shrink / batches as f64);
        catch(pool, || {
            for (param, range) in core.parameters.tensors.iter().filter(|(_, range)| range.start >= *first) {
                let spared = !options.decay_norms && param.shape.len() == 1;
                let decay = if spared { 0.0 } else { options.weight_decay };
                let rate = rate * options.rate_of(Part::of(param));
                let change = Change { rate, factor, decay, update: *updates };
                let (values, gradients) = (&mut core.parameters.values, &core.gradients);
                options.optimiser.update(range.clone(), values, gradients, memory, change);
            }
            Ok(())
        })?;
        *updates += 1;
        if let (Some(share), Some((parameters, running))) = (options.average, average) {
            move_average(parameters, &core.parameters.values, share);
            move_average(running, &core.running.values, share);
        }
        Ok(length)
    }

    /// How many images a batch has; refuses one that does not fit.
    fn check(&self, images: &[f32], targets: Targets<'_>) -> Result<usize, Error> {
        let Shape { height, width, batch, .. } = self.shape;
        let Config { in_channels, num_classes, .. } = self.core.config;
        let image = in_channels * height * width;
        let count = images.len() / image;
        if !(1..=batch).contains(&count) || count * image != images.len() {
            return Err(Error::InputLength { found: images.len(), image, batch });
        }
        targets.check(count, num_classes)?;
        let last = self.core.config.block_config.len() - 1;
        // Only the classifier does without the batch's statistics.
        if count * self.core.sizes.pixels(last) < 2 && self.options.first_trained != Part::Classifier {
            return Err(Error::FewValues);
        }
        Ok(count)
    }

    /// A weight or a running statistic by torchvision's name: its shape and values.
    pub fn tensor(&self, name: &str) -> Option<(&[usize], &[f32])> {
        let Core { parameters, running, .. } = &self.core;
        [parameters, running].into_iter().find_map(|store| store.tensor(name, &store.values))
    }

    /// The same of the averaged network, where there is one.
    pub fn averaged_tensor(&self, name: &str) -> Option<(&[usize], &[f32])> {
        let Core { parameters, running, .. } = &self.core;
        let (weights, statistics) = self.average.as_ref()?;
        parameters.tensor(name, weights).or_else(|| running.tensor(name, statistics))
    }

    /// The gradient of a weight: the sum over the batches since the last update, or, right after an update, what it was
    /// made by. Zeros in frozen parts.
    pub fn gradient(&self, name: &str) -> Option<(&[usize], &[f32])> {
        self.core.parameters.tensor(name, &self.core.gradients)
    }

    /// The network as it is, for evaluation with the running statistics.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`].
    pub fn plan(&self, options: &crate::Options) -> Result<Plan, Error> {
        Plan::new(&self.core.config, |name| self.tensor(name).map(owned), options)
    }

    /// The averaged network, for evaluation; the network itself where there is no average.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`].
    pub fn averaged_plan(&self, options: &crate::Options) -> Result<Plan, Error> {
        let tensor = |name: &str| self.averaged_tensor(name).or_else(|| self.tensor(name)).map(owned);
        Plan::new(&self.core.config, tensor, options)
    }

    /// Everything that a trainer of the same network and options needs to go on as if it had never stopped, together with
    /// [`progress`](Self::progress): name, shape and values. Weights and running statistics have torchvision's names;
    /// what the optimiser remembers of a weight is `optimiser.momentum.NAME` (SGD), `optimiser.mean.NAME` and
    /// `optimiser.mean_square.NAME` (AdamW); an averaged tensor is `average.NAME`.
    pub fn state(&self) -> impl Iterator<Item = (String, &[usize], &[f32])> {
        let Core { parameters, running, .. } = &self.core;
        let kinds = self.options.optimiser.memories().iter().map(|kind| format!("optimiser.{kind}."));
        let memories = kinds.zip(&self.memory).map(move |(prefix, values)| (prefix, parameters, values));
        let own = [(String::new(), parameters, &parameters.values), (String::new(), running, &running.values)];
        let averages = self.average.iter().flat_map(move |(weights, statistics)| {
            [("average.".to_owned(), parameters, weights), ("average.".to_owned(), running, statistics)]
        });
        own.into_iter().chain(memories).chain(averages).flat_map(|(prefix, store, values)| {
            store.tensors.iter().map(move |(param, range)| {
                (format!("{prefix}{}", param.name), &param.shape[..], &values[range.clone()])
            })
        })
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress { updates: self.updates, passes: self.core.pass.number }
    }

    /// Goes on from a [`state`](Self::state): `tensors` gives shape and values by its names.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has another shape. Nothing has changed then.
    pub fn restore(
        &mut self,
        mut tensors: impl FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)>,
        progress: Progress,
    ) -> Result<(), Error> {
        let mut source = Source(&mut tensors);
        let Core { parameters, running, .. } = &self.core;
        let mut take = |prefix: &str, store: &Store| store.read(prefix, &mut source);
        let (weights, statistics) = (take("", parameters)?, take("", running)?);
        let kinds = self.options.optimiser.memories().iter();
        let memory = kinds.map(|kind| take(&format!("optimiser.{kind}."), parameters)).collect::<Result<_, _>>()?;
        let average = match self.average {
            Some(_) => Some((take("average.", parameters)?, take("average.", running)?)),
            None => None,
        };
        self.core.parameters.values = weights;
        self.core.running.values = statistics;
        (self.memory, self.average, self.batches) = (memory, average, 0);
        (self.updates, self.core.pass.number) = (progress.updates, progress.passes);
        Ok(())
    }

    /// The learning rate of the next update.
    pub fn rate(&self) -> f64 {
        self.options.schedule.at(self.updates)
    }

    /// The sizes that it was built from.
    pub fn config(&self) -> &Config {
        &self.core.config
    }

    /// The kernels that it uses.
    pub fn isa(&self) -> Isa {
        self.core.backend.isa()
    }

    /// What it is planned for.
    pub fn shape(&self) -> Shape {
        self.shape
    }
}

/// How far a trainer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Updates of the weights: where the schedule is.
    pub updates: u64,
    /// Batches: what dropout is drawn from, and torch's `num_batches_tracked` of every trained norm.
    pub passes: u64,
}

impl fmt::Debug for Trainer {
    // Without the buffers.
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter
            .debug_struct("Trainer")
            .field("config", &self.core.config)
            .field("isa", &self.isa())
            .field("shape", &self.shape)
            .field("options", &self.options)
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}

/// Runs work on the pool's threads. A thread's panic ends it with an error.
fn catch<T: Send>(pool: &ThreadPool, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(|| pool.install(work))).unwrap_or(Err(Error::Panicked))
}

/// Threads that work on parts of a batch.
fn pool(threads: usize) -> Result<ThreadPool, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    let pool = pool.thread_name(|index| format!("densenet-train-{index}")).build();
    pool.map_err(|error| Error::Thread(std::io::Error::other(error)))
}

fn move_average(average: &mut [f32], values: &[f32], share: f64) {
    for (average, &value) in average.iter_mut().zip(values) {
        *average = (share * f64::from(*average) + (1.0 - share) * f64::from(value)) as f32;
    }
}

fn owned((shape, values): (&[usize], &[f32])) -> (Vec<usize>, Vec<f32>) {
    (shape.to_vec(), values.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::initial_weights;

    #[test]
    fn a_thread_s_panic_is_an_error_and_the_weights_stay() {
        let config = Config::cifar_bc(10, 12).unwrap();
        let shape = Shape { height: 8, width: 8, batch: 8, threads: 3 };
        let mut trainer = Trainer::new(&config, initial_weights(&config, 1), shape, &Options::default()).unwrap();
        let (images, labels) = (vec![0.5; 8 * 3 * 64], Targets::Labels(&[0, 1, 2, 3, 4, 5, 6, 7]));
        let map = std::mem::take(&mut trainer.core.batch.images_mut()[5].maps[1]);
        let weights = trainer.core.parameters.values.clone();
        assert!(matches!(trainer.step(&images, labels), Err(Error::Panicked)));
        assert_eq!(trainer.core.parameters.values, weights);
        // The threads are still there.
        trainer.core.batch.images_mut()[5].maps[1] = map;
        trainer.step(&images, labels).unwrap();
    }
}
