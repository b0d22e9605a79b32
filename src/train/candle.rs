//! candle's trainer behind the learner's trait: any device.

use std::borrow::Cow;

use candle_core::{DType, Tensor};
use densenet_arch::Config;
use densenet_engine::train::{Progress, Step, Targets};

use super::learner::{Entry, Learner, Tensors};
use crate::error::Result;
use crate::model::feed::Feed;
use crate::model::train::Trainer;
use crate::runner::{Runner, candle_name};

/// A network in training on a device.
#[derive(Debug)]
pub(super) struct Candle {
    trainer: Trainer,
    /// Height and width of the images.
    size: (usize, usize),
    feed: Feed,
}

impl Candle {
    /// For images of that height and width.
    pub(super) fn new(trainer: Trainer, size: (usize, usize)) -> Self {
        Self { feed: Feed::new(trainer.device()), trainer, size }
    }
}

impl Learner for Candle {
    fn step(&mut self, images: &[f32], targets: Targets) -> Result<Step> {
        let (channels, (height, width)) = (self.trainer.config().in_channels, self.size);
        let count = images.len() / (channels * height * width).max(1);
        let images = self.feed.push(images, &[count, channels, height, width])?;
        self.trainer.step(&images, targets)
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
