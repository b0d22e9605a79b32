//! candle's trainer behind the learner's trait: any device.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use densenet_arch::Config;
use densenet_engine::train::{Progress, Step, Targets};

use super::learner::{Entry, Learner, Tensors};
use crate::error::Result;
use crate::model::train::Trainer;
use crate::runner::{Runner, candle_name};

/// A network in training on a device.
#[derive(Debug)]
pub(super) struct Candle {
    pub(super) trainer: Trainer,
    /// Height and width of the images.
    pub(super) size: (usize, usize),
}

impl Learner for Candle {
    fn step(&mut self, images: &[f32], targets: Targets) -> Result<Step> {
        let shape = ((), self.trainer.config().in_channels, self.size.0, self.size.1);
        self.trainer.step(&Tensor::from_slice(images, shape, &Device::Cpu)?, targets)
    }

    fn runner(&self) -> Result<Runner> {
        Ok(Runner::of_inference(self.trainer.inference()?))
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
