//! The trainer.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use densenet_arch::{Config, Role, Rounding};
use densenet_engine::train::{Options, Part, Step};

use super::maps::wide;
use super::network::{self, Network};
use super::optimiser::{Change, memories, updated};
use super::pass::Pass;
use super::store::Store;
use crate::error::{Error, Result};
use crate::model::DenseNet;

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
    parameters: Values,
    running: Values,
    /// What the optimiser remembers, (n) each.
    memory: Vec<Tensor>,
    /// Weight decay of each weight (n).
    decay: Tensor,
    /// The sum over the batches since the last update, or what that was made by, (n).
    gradient: Tensor,
    /// Averages of weights and statistics, (n) each.
    average: Option<(Tensor, Tensor)>,
    updates: u64,
    /// Batches since the last update.
    batches: usize,
}

/// Named values end to end, those that are not trained first.
#[derive(Debug)]
struct Values {
    store: Store,
    /// (n)
    all: Tensor,
    /// Where the trained ones begin.
    first: usize,
}

impl Values {
    fn trained(&self, all: &Tensor) -> candle_core::Result<Tensor> {
        all.narrow(0, self.first, all.dim(0)? - self.first)
    }

    /// Replaces the trained ones.
    fn set(&mut self, trained: &Tensor) -> candle_core::Result<()> {
        self.all = replaced(&self.all, trained, self.first)?;
        Ok(())
    }
}

/// `all` with its end, from `first` on, replaced.
fn replaced(all: &Tensor, end: &Tensor, first: usize) -> candle_core::Result<Tensor> {
    Tensor::cat(&[&all.narrow(0, 0, first)?, end], 0)
}

impl Trainer {
    /// Takes the weights: `weights` gives shape and values of a tensor by torchvision's name, as [`Config::params`] lists
    /// them; `num_batches_tracked` is not asked for. Maps are of the type `dtype`, sums and weights in f32 (f64 for f64).
    ///
    /// # Errors
    ///
    /// Tensors that are missing or have another shape, and what is trained by the engine alone: dropout, poolings that round
    /// up.
    pub fn new(
        config: &Config,
        mut weights: impl FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)>,
        device: &Device,
        dtype: DType,
        options: &Options,
    ) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let refuse = |what| Err(Error::Usage(format!("{what} is trained on the CPU alone; take --device cpu")));
        if config.drop_rate > 0.0 {
            return refuse("a network with dropout");
        }
        if config.pooling == Rounding::Ceil {
            return refuse("a network whose poolings round up");
        }
        let blocks = config.block_config.len();
        let part = network::index(options.first_trained, blocks);
        let mut values = |keep: fn(Role) -> bool| -> candle_core::Result<Values> {
            let store = Store::new(config.params().into_iter().filter(|param| keep(param.role)));
            let frozen = store.params().take_while(|param| part_of(&param.name, blocks) < part);
            let first = frozen.map(densenet_arch::Param::elements).sum();
            Ok(Values { all: store.load(&mut weights, wide(dtype), device)?, store, first })
        };
        let parameters = values(Role::is_parameter)?;
        let running = values(|role| matches!(role, Role::RunningMean | Role::RunningVar))?;
        let spared = |dims: usize| !options.decay_norms && dims == 1;
        let decay = |param: &densenet_arch::Param| if spared(param.shape.len()) { 0.0 } else { options.weight_decay };
        let zeros = parameters.all.zeros_like()?;
        Ok(Self {
            config: config.clone(),
            options: options.clone(),
            network: Network::new(config, part),
            dtype,
            device: device.clone(),
            memory: memories(options.optimiser).iter().map(|_| zeros.clone()).collect(),
            decay: parameters.store.spread(decay, &parameters.all)?,
            average: options.average.map(|_| (parameters.all.clone(), running.all.clone())),
            gradient: zeros,
            parameters,
            running,
            updates: 0,
            batches: 0,
        })
    }

    /// Trains on a batch: forward, backward, update. See [`accumulate`](Self::accumulate).
    pub fn step(&mut self, images: &Tensor, loss: impl FnOnce(&mut [f32]) -> f64) -> Result<Step> {
        let step = self.accumulate(images, loss)?;
        self.update()?;
        Ok(step)
    }

    /// Forward and backward: adds the batch's gradients to those that wait for the next update, and moves the running
    /// statistics. Images are (n, channels, height, width), normalised, on any device. `loss` gives the loss of the logits
    /// (n, classes), and its gradient in their place.
    ///
    /// # Errors
    ///
    /// A loss that is not finite ([`densenet_engine::Error::Diverged`]), and a batch that the device cannot take. No weight
    /// and no statistic has changed then.
    pub fn accumulate(&mut self, images: &Tensor, loss: impl FnOnce(&mut [f32]) -> f64) -> Result<Step> {
        let images = images.to_device(&self.device)?.to_dtype(self.dtype)?;
        let stores = [&self.parameters, &self.running].map(|values| (&values.store, &values.all));
        let mut pass = Pass::new(stores, self.dtype, self.config.eps)?;
        let (logits, kept) = self.network.forward(&mut pass, &images, self.options.memory_level >= 4)?;
        let shape = logits.dims2()?;
        let logits: Vec<f32> = logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let mut gradient = logits.clone();
        let loss = loss(&mut gradient);
        if !loss.is_finite() {
            return Err(densenet_engine::Error::Diverged("loss").into());
        }
        let gradient = Tensor::from_vec(gradient, shape, &self.device)?.to_dtype(self.gradient.dtype())?;
        self.network.backward(&mut pass, kept, &gradient)?;
        let found = self.parameters.store.join(&pass.gradients, &self.gradient)?;
        let gradient = if self.batches == 0 { found } else { (&self.gradient + found)? };
        self.move_running(&pass.statistics)?;
        self.gradient = gradient;
        self.batches += 1;
        Ok(Step { loss, logits })
    }

    /// Changes the weights by the mean of the gradients that wait, at the schedule's rate; gives that gradient's Euclidean
    /// length. Without any it does nothing and gives 0.
    ///
    /// # Errors
    ///
    /// A gradient that is not finite ([`densenet_engine::Error::Diverged`]). No weight has changed then, and the gradients
    /// are dropped.
    pub fn update(&mut self) -> Result<f64> {
        let batches = std::mem::take(&mut self.batches);
        if batches == 0 {
            return Ok(0.0);
        }
        let Self { options, parameters, .. } = self;
        let gradient = (parameters.trained(&self.gradient)? / batches as f64)?;
        let length: f64 = gradient.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?.sqrt();
        if !length.is_finite() {
            return Err(densenet_engine::Error::Diverged("gradient").into());
        }
        let shrink = options.clip.map_or(1.0, |clip| (clip / length).min(1.0));
        let memory: Vec<Tensor> =
            self.memory.iter().map(|memory| parameters.trained(memory)).collect::<candle_core::Result<_>>()?;
        let decay = parameters.trained(&self.decay)?;
        let change = Change { rate: options.schedule.at(self.updates), decay: &decay, update: self.updates };
        let weights = parameters.trained(&parameters.all)?;
        let (weights, changed) = updated(options.optimiser, &weights, &(gradient * shrink)?, &memory, change)?;
        for (memory, changed) in self.memory.iter_mut().zip(changed) {
            *memory = replaced(memory, &changed, parameters.first)?;
        }
        self.parameters.set(&weights)?;
        self.updates += 1;
        if let (Some(share), Some((weights, statistics))) = (self.options.average, &mut self.average) {
            for (average, now) in [(weights, &self.parameters.all), (statistics, &self.running.all)] {
                *average = ((&*average * share)? + (now * (1.0 - share))?)?;
            }
        }
        Ok(length)
    }

    fn move_running(&mut self, statistics: &HashMap<String, Tensor>) -> candle_core::Result<()> {
        let batch = self.running.store.join(statistics, &self.running.all)?;
        let (running, batch) = (self.running.trained(&self.running.all)?, self.running.trained(&batch)?);
        self.running.set(&((running * (1.0 - MOMENTUM))? + (batch * MOMENTUM)?)?)
    }

    /// A weight or a running statistic by torchvision's name.
    pub fn tensor(&self, name: &str) -> Option<candle_core::Result<Tensor>> {
        [&self.parameters, &self.running].into_iter().find_map(|values| values.store.get(&values.all, name))
    }

    /// The gradient of a weight: the sum over the batches since the last update, or, right after an update, what it was made
    /// by. Zeros in parts that are not trained.
    pub fn gradient(&self, name: &str) -> Option<candle_core::Result<Tensor>> {
        self.parameters.store.get(&self.gradient, name)
    }

    /// The network as it is, for evaluation; the averaged one, where weights are averaged.
    pub fn network(&self) -> Result<DenseNet> {
        let (weights, statistics) = match &self.average {
            Some((weights, statistics)) => (weights, statistics),
            None => (&self.parameters.all, &self.running.all),
        };
        let mut tensors = HashMap::new();
        for (store, all) in [(&self.parameters.store, weights), (&self.running.store, statistics)] {
            for param in store.params() {
                if let Some(tensor) = store.get(all, &param.name) {
                    tensors.insert(param.name.clone(), tensor?);
                }
            }
        }
        Ok(DenseNet::new(&self.config, VarBuilder::from_tensors(tensors, self.dtype, &self.device))?)
    }

    /// The learning rate of the next update.
    pub fn rate(&self) -> f64 {
        self.options.schedule.at(self.updates)
    }

    /// The sizes that it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// The place of a tensor's part in the network.
fn part_of(name: &str, blocks: usize) -> usize {
    let module = name.split('.').find(|&module| module != "features").unwrap_or_default();
    // Of the rest there is norm0, which is the stem's.
    Part::named(module).map_or(0, |part| network::index(part, blocks))
}
