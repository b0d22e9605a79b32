//! candle's trainer behind the learner's trait: any device.

use std::borrow::Cow;

use candle_core::{DType, Tensor};
use densenet_arch::Config;
use densenet_engine::train::{Progress, Step, Targets};

use super::learner::{Entry, Following, Learner, Tensors};
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
    /// The next step's images, by where they were.
    ahead: Option<(Place, Tensor)>,
}

/// Where images are: address and count.
type Place = (usize, usize);

fn place(images: &[f32]) -> Place {
    (images.as_ptr().addr(), images.len())
}

impl Candle {
    /// For images of that height and width.
    pub(super) fn new(trainer: Trainer, size: (usize, usize)) -> Self {
        Self { feed: Feed::new(trainer.device()), trainer, size, ahead: None }
    }
}

impl Learner for Candle {
    fn step(&mut self, images: &[f32], targets: Targets) -> Result<Step> {
        self.step_before(images, targets, &mut ())
    }

    fn step_before(&mut self, images: &[f32], targets: Targets, next: &mut dyn Following) -> Result<Step> {
        let Self { trainer, size: (height, width), feed, ahead } = self;
        let channels = trainer.config().in_channels;
        let mut push = |images: &[f32]| {
            let count = images.len() / (channels * *height * *width).max(1);
            feed.push(images, &[count, channels, *height, *width])
        };
        let here = ahead.take().filter(|(known, _)| *known == place(images));
        let images = here.map_or_else(|| push(images), |(_, images)| Ok(images))?;
        trainer.step_while(&images, targets, &mut || {
            // Where it fails now, the next step says so.
            *ahead = next.images().and_then(|images| Some((place(images), push(images).ok()?)));
        })
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
