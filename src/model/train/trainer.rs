//! The trainer.

use candle_core::{DType, Device, Tensor};
use densenet_arch::{Config, Param, Role, Rounding};
use densenet_engine::train::{Dropout, Options, Part, Progress, Step, Targets};

use super::network::Network;
use super::optimiser::{Change, updated};
use super::pass::Pass;
use super::store::Store;
use super::values::Values;
use crate::device::computes;
use crate::error::Result;
use crate::model::maps::wide;
use crate::model::{Inference, Source};

/// Share of a new batch in the running statistics, as Torch and PyTorch have it.
const MOMENTUM: f64 = 0.1;

/// A network in training on a device.
#[derive(Debug)]
pub struct Trainer {
    config: Config,
    options: Options,
    network: Network,
    /// Type of the maps.
    dtype: DType,
    device: Device,
    state: State,
    /// What the learning rate of each weight is multiplied by, and its weight decay, (n).
    rates: Tensor,
    decay: Tensor,
    /// The sum over the batches since the last update, or what that was made by, (n).
    gradient: Tensor,
    /// Batches since the last update.
    batches: usize,
}

/// What training changes.
#[derive(Clone, Debug)]
struct State {
    weights: Values,
    running: Values,
    /// What the optimiser remembers, (n) each.
    memory: Vec<Tensor>,
    /// Averages of weights and running statistics, (n) each.
    average: Option<(Tensor, Tensor)>,
    progress: Progress,
}

impl Trainer {
    /// Takes the weights by torchvision's names, as [`Config::params`] lists them; `num_batches_tracked` is not asked for.
    /// Maps are of the type `dtype`.
    ///
    /// # Errors
    ///
    /// Tensors that are missing or have another shape, options out of range, and poolings that round up.
    pub fn new(
        config: &Config,
        weights: &mut Source,
        device: &Device,
        dtype: DType,
        options: &Options,
    ) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        options.check(config)?;
        computes(device, dtype)?;
        if config.pooling == Rounding::Ceil {
            let (field, value, must) = ("pooling", "ceil".into(), "floor");
            return Err(densenet_engine::Error::Setting { field, value, must }.into());
        }
        let place = |param: &Param| Part::of(param).index("first_trained", config);
        let first = options.first_trained.index("first_trained", config)?;
        let mut values = |keep: fn(Role) -> bool| -> Result<Values> {
            let store = Store::new(config.params().into_iter().filter(|param| keep(param.role)));
            let frozen = store.params().take_while(|param| place(param).is_ok_and(|place| place < first));
            let count = frozen.map(Param::elements).sum();
            Ok(Values { all: store.load(weights, wide(dtype), device)?, store, first: count })
        };
        let weights = values(Role::is_parameter)?;
        let running = values(|role| matches!(role, Role::RunningMean | Role::RunningVar))?;
        let decay = |param: &Param| match param.shape.len() {
            1 if !options.decay_norms => 0.0,
            _ => options.weight_decay,
        };
        let zeros = weights.all.zeros_like()?;
        Ok(Self {
            config: config.clone(),
            options: options.clone(),
            network: Network::new(config, first),
            dtype,
            device: device.clone(),
            rates: weights.store.spread(|param| options.rate_of(Part::of(param)), &zeros)?,
            decay: weights.store.spread(decay, &zeros)?,
            state: State {
                memory: options.optimiser.memories().iter().map(|_| zeros.clone()).collect(),
                average: options.average.map(|_| (weights.all.clone(), running.all.clone())),
                weights,
                running,
                progress: Progress { updates: 0, passes: 0 },
            },
            gradient: zeros,
            batches: 0,
        })
    }

    /// Trains on a batch: forward, backward, update.
    ///
    /// # Errors
    ///
    /// As [`accumulate`](Self::accumulate) and [`update`](Self::update).
    pub fn step(&mut self, images: &Tensor, targets: Targets) -> Result<Step> {
        self.step_while(images, targets, &mut || ())
    }

    /// The same; `meanwhile` is called while the device computes the way forward.
    pub(crate) fn step_while(
        &mut self,
        images: &Tensor,
        targets: Targets,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Step> {
        let batch = self.batch(images, targets, meanwhile)?;
        let gradient = self.mean(&batch.gradient, self.batches + 1)?;
        // One wait for the device.
        let [running, squares] = scalars([batch.running.sum_all()?, gradient.sqr()?.sum_all()?])?;
        let step = self.keep(batch, running)?;
        self.change(&gradient, squares)?;
        Ok(step)
    }

    /// Forward and backward: adds the batch's gradients to those that wait for the next update, and moves the running
    /// statistics. Images are (n, channels, height, width), normalised, on any device.
    ///
    /// # Errors
    ///
    /// Targets that do not fit, a loss or a variance that is not finite ([`densenet_engine::Error::Diverged`]), and a batch
    /// that the device cannot take. No weight and no statistic has changed then.
    pub fn accumulate(&mut self, images: &Tensor, targets: Targets) -> Result<Step> {
        let batch = self.batch(images, targets, &mut || ())?;
        let [running] = scalars([batch.running.sum_all()?])?;
        self.keep(batch, running)
    }

    /// Forward and backward; nothing of the trainer changes.
    fn batch(&self, images: &Tensor, targets: Targets, meanwhile: &mut dyn FnMut()) -> Result<Batch> {
        let Self { config, options, network, dtype, device, state, .. } = self;
        let count = images.dim(0)?;
        let images = images.to_device(device)?.to_dtype(*dtype)?;
        let dropout = Dropout::new(config.drop_rate, options.seed, state.progress.passes);
        let mut pass = Pass::new(&state.weights, &state.running, *dtype, config.eps, dropout)?;
        let (logits, kept) = network.forward(&mut pass, &images, options.memory_level >= 4)?;
        meanwhile();
        let logits: Vec<f32> = logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let mut gradient = logits.clone();
        let loss = targets.loss(&mut gradient, count, options)?;
        let gradient = Tensor::from_vec(gradient, (count, config.num_classes), device)?;
        network.backward(&mut pass, kept, &gradient.to_dtype(wide(*dtype))?)?;
        let gradient = if self.batches == 0 { pass.gradient } else { (&self.gradient + pass.gradient)? };
        Ok(Batch { step: Step { loss, logits }, gradient, running: state.moved(&pass.statistics)? })
    }

    /// Takes over what a batch has found, if the sum of its running statistics is finite: a ReLU takes what is not a number for
    /// 0, so that the loss may not show it.
    fn keep(&mut self, batch: Batch, running: f64) -> Result<Step> {
        if !running.is_finite() {
            return Err(densenet_engine::Error::Diverged("variance of a map").into());
        }
        self.state.running.all = batch.running;
        self.state.progress.passes += 1;
        self.gradient = batch.gradient;
        self.batches += 1;
        Ok(batch.step)
    }

    /// The mean, by so many batches, of what of a gradient is trained.
    fn mean(&self, gradient: &Tensor, batches: usize) -> candle_core::Result<Tensor> {
        self.state.weights.trained(gradient)? / batches as f64
    }

    /// Changes the weights by the mean of the gradients that wait, at the schedule's rate; gives that gradient's Euclidean
    /// length. Without any it does nothing and gives 0.
    ///
    /// # Errors
    ///
    /// A gradient that is not finite ([`densenet_engine::Error::Diverged`]). No weight has changed then, and the gradients
    /// are dropped.
    pub fn update(&mut self) -> Result<f64> {
        if self.batches == 0 {
            return Ok(0.0);
        }
        let gradient = self.mean(&self.gradient, self.batches)?;
        let [squares] = scalars([gradient.sqr()?.sum_all()?])?;
        self.change(&gradient, squares)
    }

    /// Changes the weights by a gradient of which the sum of squares is known.
    fn change(&mut self, gradient: &Tensor, squares: f64) -> Result<f64> {
        self.batches = 0;
        let Self { options, state: State { weights, running, memory, average, progress }, .. } = self;
        let length = squares.sqrt();
        if !length.is_finite() {
            return Err(densenet_engine::Error::Diverged("gradient").into());
        }
        let shrink = options.clip.map_or(1.0, |clip| (clip / length).min(1.0));
        let remembered =
            memory.iter().map(|memory| weights.trained(memory)).collect::<candle_core::Result<Vec<_>>>()?;
        let (rates, decay) = (weights.trained(&self.rates)?, weights.trained(&self.decay)?);
        let change = Change {
            rate: options.schedule.at(progress.updates),
            rates: &rates,
            decay: &decay,
            update: progress.updates,
        };
        let trained = weights.trained(&weights.all)?;
        let (trained, changed) = updated(options.optimiser, &trained, &(gradient * shrink)?, &remembered, change)?;
        for (memory, changed) in memory.iter_mut().zip(changed) {
            *memory = weights.replaced(memory, &changed)?;
        }
        weights.all = weights.replaced(&weights.all, &trained)?;
        progress.updates += 1;
        if let (Some(share), Some((average, statistics))) = (options.average, average) {
            *average = (&*average + ((&weights.all - &*average)? * (1.0 - share))?)?;
            *statistics = ((&*statistics * share)? + (&running.all * (1.0 - share))?)?;
        }
        Ok(length)
    }

    /// A weight or a running statistic by torchvision's name.
    pub fn tensor(&self, name: &str) -> Option<candle_core::Result<Tensor>> {
        let State { weights, running, .. } = &self.state;
        [weights, running].into_iter().find_map(|values| values.store.get(&values.all, name))
    }

    /// The same of the averaged network, where there is one.
    pub fn averaged_tensor(&self, name: &str) -> Option<candle_core::Result<Tensor>> {
        let State { weights, running, average, .. } = &self.state;
        let (average, statistics) = average.as_ref()?;
        weights.store.get(average, name).or_else(|| running.store.get(statistics, name))
    }

    /// The gradient of a weight: the sum over the batches since the last update, or, right after an update, what it was made
    /// by. Zeros in parts that are not trained.
    pub fn gradient(&self, name: &str) -> Option<candle_core::Result<Tensor>> {
        self.state.weights.store.get(&self.gradient, name)
    }

    /// The network for evaluation: the averaged one, where weights are averaged.
    pub fn inference(&self) -> Result<Inference> {
        let tensor = |name: &str| {
            let tensor = self.averaged_tensor(name).or_else(|| self.tensor(name))?.ok()?;
            Some((tensor.dims().to_vec(), tensor.to_dtype(DType::F32).ok()?.flatten_all().ok()?.to_vec1().ok()?))
        };
        Ok(Inference::new(&self.config, &mut { tensor }, &self.device, self.dtype)?)
    }

    /// Everything that a trainer of the same network and options needs to go on, together with
    /// [`progress`](Self::progress), by the names that the engine's trainer gives it
    /// ([`state`](densenet_engine::train::Trainer::state)).
    pub fn state(&self) -> candle_core::Result<Vec<(String, Tensor)>> {
        let mut named = Vec::new();
        for (prefix, store, all) in self.state.parts(&self.options) {
            for Param { name, .. } in store.params() {
                if let Some(tensor) = store.get(all, name) {
                    named.push((format!("{prefix}{name}"), tensor?));
                }
            }
        }
        Ok(named)
    }

    /// Goes on from a state.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has another shape. Nothing has changed then.
    pub fn restore(&mut self, tensors: &mut Source, progress: Progress) -> Result<()> {
        let dtype = wide(self.dtype);
        let mut read =
            self.state.parts(&self.options).into_iter().map(|(prefix, store, _)| {
                store.load(&mut |name| tensors(&format!("{prefix}{name}")), dtype, &self.device)
            });
        let mut next = || read.next().unwrap_or_else(|| candle_core::bail!("a state without all its parts"));
        let (weights, running) = (next()?, next()?);
        let memory = self.state.memory.iter().map(|_| next()).collect::<candle_core::Result<_>>()?;
        let average = self.state.average.as_ref().map(|_| Ok::<_, candle_core::Error>((next()?, next()?)));
        let average = average.transpose()?;
        drop(read);
        let State { weights: all, running: statistics, .. } = &self.state;
        let weights = Values { all: weights, ..all.clone() };
        let running = Values { all: running, ..statistics.clone() };
        self.state = State { weights, running, memory, average, progress };
        self.batches = 0;
        Ok(())
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.state.progress
    }

    /// The learning rate of the next update.
    pub fn rate(&self) -> f64 {
        self.options.schedule.at(self.state.progress.updates)
    }

    /// The sizes that it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Type of the maps.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
}

/// What a batch has found.
struct Batch {
    step: Step,
    /// With those of the batches since the last update.
    gradient: Tensor,
    /// All running statistics, moved.
    running: Tensor,
}

/// Some numbers of a device.
fn scalars<const N: usize>(tensors: [Tensor; N]) -> candle_core::Result<[f64; N]> {
    let values = Tensor::stack(&tensors, 0)?.to_dtype(DType::F64)?.to_vec1()?;
    values.try_into().map_err(|_| candle_core::Error::Msg("a sum that is no number".into()))
}

impl State {
    /// All running statistics after a batch.
    fn moved(&self, batch: &Tensor) -> candle_core::Result<Tensor> {
        let running = &self.running;
        let moved = ((running.trained(&running.all)? * (1.0 - MOMENTUM))? + (running.trained(batch)? * MOMENTUM)?)?;
        running.replaced(&running.all, &moved)
    }

    /// Its parts with the prefixes of their names: weights, statistics, what the optimiser remembers, averages of the first two.
    fn parts(&self, options: &Options) -> Vec<(String, &Store, &Tensor)> {
        let Self { weights, running, memory, average, .. } = self;
        let mut parts =
            vec![(String::new(), &weights.store, &weights.all), (String::new(), &running.store, &running.all)];
        let kinds = options.optimiser.memories().iter().zip(memory);
        parts.extend(kinds.map(|(kind, memory)| (format!("optimiser.{kind}."), &weights.store, memory)));
        if let Some((average, statistics)) = average {
            parts.push(("average.".into(), &weights.store, average));
            parts.push(("average.".into(), &running.store, statistics));
        }
        parts
    }
}
