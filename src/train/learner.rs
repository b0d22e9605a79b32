//! What computes a training: the engine on the CPU, or another device behind the same trait.

use std::borrow::Cow;
use std::collections::HashMap;

use candle_core::DType;
use densenet_arch::Config;
use densenet_engine::train::{Options, Progress, Step, Targets, Trainer};
use densenet_engine::{Convolutions, Shape};

use super::candle::Candle;
use super::{Recipe, Settings};
use crate::device::DeviceChoice;
use crate::error::Result;
use crate::model;
use crate::runner::Runner;

/// A network in training.
pub trait Learner {
    /// Trains on a batch: forward, backward, update. Images are (n, channels, height, width), normalised, for any n up to
    /// the recipe's batch.
    ///
    /// # Errors
    ///
    /// [`densenet_engine::Error::Diverged`] where a number leaves the range of floats; no weight has changed then.
    fn step(&mut self, images: &[f32], targets: Targets) -> Result<Step>;

    /// The same; `next` has what the next step is to be given, where that is known by the time it is asked. A device takes it in
    /// while it computes.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    fn step_before(&mut self, images: &[f32], targets: Targets, next: &mut dyn Following) -> Result<Step> {
        let _ = next;
        self.step(images, targets)
    }

    /// The network to be evaluated: the averaged one, where weights are averaged.
    fn runner(&self) -> Result<Runner>;

    /// Shape and values of a tensor of that network, by torchvision's name.
    fn weight(&self, name: &str) -> Result<Option<Entry<'_>>>;

    /// All that it needs to go on as if it had never stopped, together with [`progress`](Self::progress). The weights have
    /// torchvision's names; what an optimiser remembers of one is `optimiser.KIND.NAME`, an averaged one `average.NAME`.
    fn state(&self) -> Result<Vec<Entry<'_>>>;

    /// How far it is.
    fn progress(&self) -> Progress;

    /// Goes on from a state: `tensors` gives shape and values by its names. Nothing has changed after an error.
    fn restore(&mut self, tensors: &mut Tensors, progress: Progress) -> Result<()>;

    /// The learning rate of the next step.
    fn rate(&self) -> f64;

    /// The sizes that it was built from.
    fn config(&self) -> &Config;

    /// What computes it, recorded with the run: `engine, avx512, fast`.
    fn name(&self) -> String;
}

/// The images of the step behind one.
pub trait Following {
    /// Those that the next step is given, in the same place; nothing where they are not there yet, or there is none.
    fn images(&mut self) -> Option<&[f32]>;
}

/// None.
impl Following for () {
    fn images(&mut self) -> Option<&[f32]> {
        None
    }
}

/// Always the same.
impl Following for &[f32] {
    fn images(&mut self) -> Option<&[f32]> {
        Some(self)
    }
}

/// What computes a run.
#[derive(Clone, Copy, Debug, Default)]
pub enum Compute {
    /// The engine, on the CPU.
    #[default]
    Engine,
    /// candle.
    Candle {
        /// Where.
        device: DeviceChoice,
        /// Type of the maps; weights, sums and the loss are f32 at least.
        dtype: DType,
    },
}

impl Compute {
    /// A learner of the recipe, from these weights; an epoch has so many steps.
    pub fn learner(
        self,
        recipe: &Recipe,
        settings: &Settings,
        steps: usize,
        weights: &mut Tensors,
    ) -> Result<Box<dyn Learner>> {
        let side = recipe.protocol.crop;
        let options = Options {
            convolutions: settings.convolutions,
            memory_level: settings.memory_level,
            seed: settings.seed,
            ..recipe.options(steps)?
        };
        let shape = Shape { height: side, width: side, batch: recipe.batch, threads: settings.threads };
        self.begin(&recipe.config, shape, &options, weights)
    }

    /// A learner of the network, from these weights, for images and batches up to that shape.
    pub fn begin(
        self,
        config: &Config,
        shape: Shape,
        options: &Options,
        weights: &mut Tensors,
    ) -> Result<Box<dyn Learner>> {
        Ok(match self {
            Self::Engine => {
                let trainer = Trainer::new(config, weights, shape, options)?;
                Box::new(Engine { trainer, convolutions: options.convolutions })
            }
            Self::Candle { device, dtype } => {
                let trainer = model::train::Trainer::new(config, weights, &device.open()?, dtype, options)?;
                Box::new(Candle::new(trainer, (shape.height, shape.width)))
            }
        })
    }
}

/// Shape and values of a tensor by its name, if there is one.
pub type Tensors<'t> = crate::model::Source<'t>;

/// Shapes and values of tensors by their names.
pub type Named = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// A named tensor.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Cow<'a, [usize]>,
    /// Its values, row by row.
    pub values: Cow<'a, [f32]>,
}

/// The engine's trainer.
#[derive(Debug)]
struct Engine {
    trainer: Trainer,
    convolutions: Convolutions,
}

impl Learner for Engine {
    fn step(&mut self, images: &[f32], targets: Targets) -> Result<Step> {
        Ok(self.trainer.step(images, targets)?)
    }

    /// With the fast convolutions, as `eval` has them.
    fn runner(&self) -> Result<Runner> {
        let Shape { height, width, threads, .. } = self.trainer.shape();
        let options = densenet_engine::Options {
            convolutions: Convolutions::Fast,
            input: Some((height, width)),
            ..densenet_engine::Options::default()
        };
        Ok(Runner::of_plan(self.trainer.averaged_plan(&options)?, threads))
    }

    fn weight(&self, name: &str) -> Result<Option<Entry<'_>>> {
        let tensor = self.trainer.averaged_tensor(name).or_else(|| self.trainer.tensor(name));
        Ok(tensor.map(|(shape, values)| borrowed(name.to_owned(), shape, values)))
    }

    fn state(&self) -> Result<Vec<Entry<'_>>> {
        Ok(self.trainer.state().map(|(name, shape, values)| borrowed(name, shape, values)).collect())
    }

    fn progress(&self) -> Progress {
        self.trainer.progress()
    }

    fn restore(&mut self, tensors: &mut Tensors, progress: Progress) -> Result<()> {
        Ok(self.trainer.restore(tensors, progress)?)
    }

    fn rate(&self) -> f64 {
        self.trainer.rate()
    }

    fn config(&self) -> &Config {
        self.trainer.config()
    }

    fn name(&self) -> String {
        let convolutions = match self.convolutions {
            Convolutions::Exact => "exact",
            Convolutions::Fast => "fast",
        };
        format!("engine, {}, {convolutions}", self.trainer.isa())
    }
}

fn borrowed<'a>(name: String, shape: &'a [usize], values: &'a [f32]) -> Entry<'a> {
    Entry { name, shape: Cow::Borrowed(shape), values: Cow::Borrowed(values) }
}
