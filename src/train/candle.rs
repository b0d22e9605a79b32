//! candle's trainer behind the learner's trait: any device.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use densenet_arch::Config;
use densenet_engine::train::{Options, Progress, Step, Targets};

use super::learner::{Entry, Learner, Tensors};
use super::{Recipe, Settings};
use crate::error::Result;
use crate::model::train::Trainer;
use crate::runner::{Runner, candle_name};

/// A network in training on a device.
#[derive(Debug)]
pub struct Candle {
    trainer: Trainer,
    side: usize,
}

impl Candle {
    /// Takes the first weights; an epoch has so many steps. Maps are of the type `dtype`.
    pub fn new(
        recipe: &Recipe,
        settings: &Settings,
        steps: usize,
        weights: &mut Tensors,
        (device, dtype): (&Device, DType),
    ) -> Result<Self> {
        let options = Options { memory_level: settings.memory_level, seed: settings.seed, ..recipe.options(steps)? };
        let trainer = Trainer::new(&recipe.config, weights, device, dtype, &options)?;
        Ok(Self { trainer, side: recipe.protocol.crop })
    }
}

impl Learner for Candle {
    fn step(&mut self, images: &[f32], targets: Targets) -> Result<Step> {
        let shape = ((), self.trainer.config().in_channels, self.side, self.side);
        self.trainer.step(&Tensor::from_slice(images, shape, &Device::Cpu)?, targets)
    }

    fn runner(&self) -> Result<Runner> {
        Ok(Runner::of_network(self.trainer.network()?, self.trainer.device()))
    }

    fn weight(&self, name: &str) -> Result<Option<Entry<'_>>> {
        let tensor = self.trainer.averaged_tensor(name).or_else(|| self.trainer.tensor(name));
        tensor.map(|tensor| fetched(name.to_owned(), &tensor?)).transpose()
    }

    fn state(&self) -> Result<Vec<Entry<'_>>> {
        self.trainer.state()?.into_iter().map(|(name, tensor)| fetched(name, &tensor)).collect()
    }

    fn progress(&self) -> Progress {
        self.trainer.progress()
    }

    fn restore(&mut self, tensors: &mut Tensors, progress: Progress) -> Result<()> {
        self.trainer.restore(tensors, progress)
    }

    fn rate(&self) -> f64 {
        self.trainer.rate()
    }

    fn config(&self) -> &Config {
        self.trainer.config()
    }

    fn name(&self) -> String {
        candle_name(self.trainer.device(), self.trainer.dtype())
    }
}

/// A tensor's values, brought from the device.
fn fetched(name: String, tensor: &Tensor) -> Result<Entry<'static>> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    Ok(Entry { name, shape: Cow::Owned(tensor.dims().to_vec()), values: Cow::Owned(values) })
}
