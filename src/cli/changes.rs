//! What is changed of a recipe, and what a run is told of the machine: options of every command that trains.

use clap::Args;
use densenet_zoo::runner::Convolutions;
use densenet_zoo::train::{Augmentation, Falls, Optimiser, Recipe, Settings};
use densenet_zoo::{Error, Result};

use super::{BackendArg, ComputeArgs, MemoryLevel, PrecisionArg, threads};

/// Changes of a recipe.
#[derive(Args, Default, PartialEq)]
pub(super) struct Changes {
    /// What the first weights, the images' order and their augmentation are drawn from [default: 0].
    #[arg(long, alias = "manualSeed")]
    seed: Option<u64>,
    /// Passes over the training images.
    #[arg(long, alias = "nEpochs", value_parser = clap::value_parser!(u16).range(1..))]
    epochs: Option<u16>,
    /// Images of a step.
    #[arg(long, alias = "batchSize", value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch_size: Option<u16>,
    /// The learning rate of the first epoch.
    #[arg(long, value_name = "RATE", alias = "LR")]
    lr: Option<f64>,
    /// How the rate falls: never, multistep (to a tenth at half and three quarters, but for ImageNet after each 30 epochs, as in
    /// the original), every-N (to a tenth after each N epochs) or cosine.
    #[arg(long, value_name = "SHAPE", alias = "lrShape", value_parser = falls)]
    lr_shape: Option<Falls>,
    /// Epochs over which the rate rises at first.
    #[arg(long, value_name = "EPOCHS")]
    warm_up: Option<u16>,
    /// sgd (with Nesterov's momentum) or adamw.
    #[arg(long, value_parser = ["sgd", "adamw"])]
    optimiser: Option<String>,
    /// The share of the last direction in the next.
    #[arg(long, value_name = "SHARE")]
    momentum: Option<f64>,
    /// Weight decay.
    #[arg(long, value_name = "SHARE", alias = "weightDecay")]
    weight_decay: Option<f64>,
    /// Let norms and biases keep their size.
    #[arg(long)]
    no_norm_decay: bool,
    /// The dropout probability after each convolution but the first.
    #[arg(long, value_name = "SHARE", alias = "dropRate")]
    drop_rate: Option<f64>,
    /// What the label's share of the target goes down by.
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f64>,
    /// The longest gradient; a longer one is scaled down.
    #[arg(long, value_name = "LENGTH")]
    clip: Option<f64>,
    /// Average the weights: the share that is kept at each step, 0.999 or so in runs of many thousand. The average is evaluated
    /// and kept.
    #[arg(long, value_name = "SHARE")]
    average: Option<f64>,
    /// What is drawn of each image: none, flip, crop, cifar, imagenet, random-resized-crop or random-resized-crop+jitter.
    #[arg(long, value_name = "NAME", value_parser = |name: &str| Augmentation::named(name))]
    augmentation: Option<Augmentation>,
    /// Measure the error on ten crops of each image.
    #[arg(long, alias = "tenCrop")]
    ten_crop: bool,
    /// Every output of a convolution as the sum of its products, instead of Winograd's algorithm.
    #[arg(long)]
    exact: bool,
}

fn falls(text: &str) -> Result<Falls, String> {
    match text.strip_prefix("every-").map(str::parse) {
        Some(Ok(epochs)) if epochs > 0 => Ok(Falls::Every(epochs)),
        _ if text == "never" => Ok(Falls::Never),
        _ if text == "multistep" => Ok(Falls::Shares(vec![0.5, 0.75])),
        _ if text == "cosine" => Ok(Falls::Cosine),
        _ => Err("never, multistep, every-N or cosine is expected".into()),
    }
}

impl Changes {
    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    pub(super) fn exact(&self) -> bool {
        self.exact
    }

    /// Whether anything was asked for.
    pub(super) fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Changes what was asked for.
    pub(super) fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        fn set<T: Clone>(to: &mut T, asked: Option<&T>) {
            if let Some(asked) = asked {
                to.clone_from(asked);
            }
        }
        set(&mut recipe.epochs, self.epochs.map(usize::from).as_ref());
        set(&mut recipe.batch, self.batch_size.map(usize::from).as_ref());
        set(&mut recipe.rate, self.lr.as_ref());
        // The original's multistep is the data set's own.
        let own = matches!((&self.lr_shape, &recipe.falls), (Some(Falls::Shares(_)), Falls::Every(_)));
        set(&mut recipe.falls, self.lr_shape.as_ref().filter(|_| !own));
        set(&mut recipe.warm_up, self.warm_up.map(usize::from).as_ref());
        set(&mut recipe.weight_decay, self.weight_decay.as_ref());
        set(&mut recipe.config.drop_rate, self.drop_rate.as_ref());
        set(&mut recipe.label_smoothing, self.label_smoothing.as_ref());
        set(&mut recipe.augmentation, self.augmentation.as_ref());
        recipe.decay_norms &= !self.no_norm_decay;
        recipe.ten_crop |= self.ten_crop;
        recipe.clip = self.clip.or(recipe.clip);
        // None of it kept is no average.
        recipe.average = self.average.or(recipe.average).filter(|&share| share != 0.0);
        match self.optimiser.as_deref() {
            Some("adamw") => recipe.optimiser = Optimiser::Adamw,
            Some(_) => recipe.optimiser = Optimiser::Sgd { momentum: 0.9 },
            None => {}
        }
        match (&mut recipe.optimiser, self.momentum) {
            (Optimiser::Sgd { momentum }, Some(asked)) => *momentum = asked,
            (Optimiser::Adamw, Some(_)) => return Err(Error::Usage("--momentum is sgd's; AdamW has none".into())),
            _ => {}
        }
        Ok(())
    }
}

/// What changes how long a run takes and what memory, and nothing that comes out.
#[derive(Args)]
pub(super) struct Machine {
    /// Threads that work at once; all cores otherwise. They do not change what comes out.
    #[arg(long, alias = "nThreads", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Begin without decoding every image first.
    #[arg(long)]
    pub(super) no_check: bool,
    #[command(flatten)]
    memory: MemoryLevel,
    #[command(flatten)]
    compute: ComputeArgs,
    /// What computes it; the engine on the CPU, candle elsewhere, unless told. Each gives bits of its own.
    #[arg(long, value_enum)]
    backend: Option<BackendArg>,
    /// The type of candle's maps: f32, f16 or bf16; weights, sums and the loss are f32, and the engine trains in f32 alone.
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    precision: PrecisionArg,
}

impl Machine {
    pub(super) fn settings(&self, seed: u64, exact: bool) -> Result<Settings> {
        let compute = self.compute.of_training(self.backend, self.precision)?;
        Ok(Settings {
            seed,
            threads: threads(self.threads),
            memory_level: self.memory.level(),
            convolutions: if exact { Convolutions::Exact } else { Convolutions::Fast },
            compute,
        })
    }
}
