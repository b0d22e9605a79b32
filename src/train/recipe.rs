//! How a network is trained, as data: it is kept with every checkpoint, and a run goes on by it alone.

use densenet_arch::{Config, Protocol};
use densenet_engine::train::{Curve, Options, Part, Schedule};
use serde::{Deserialize, Serialize};

use super::augment::Augmentation;
use crate::error::{Error, Result};

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The preset's name, or what else it is.
    pub name: String,
    /// The network.
    pub config: Config,
    /// How an image becomes its input.
    pub protocol: Protocol,
    /// What is drawn of each image.
    pub augmentation: Augmentation,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images of a step; the last step of an epoch takes what is left.
    pub batch: usize,
    /// What changes the weights.
    pub optimiser: Optimiser,
    /// The learning rate of the first epoch.
    pub rate: f64,
    /// How the rate falls.
    pub falls: Falls,
    /// Epochs over which the rate rises linearly at first.
    pub warm_up: usize,
    /// L2 in SGD, decoupled in AdamW, as in the original on every weight.
    pub weight_decay: f64,
    /// Whether it applies to norms and biases too, as in the original.
    pub decay_norms: bool,
    /// What the label's share of the target goes down by.
    pub label_smoothing: f64,
    /// The longest gradient.
    pub clip: Option<f64>,
    /// The share that averaged weights keep at each step; with it they are what is evaluated and kept.
    pub average: Option<f64>,
    /// What each class counts: for findings, each one's positives.
    pub class_weights: Option<Vec<f32>>,
    /// The parts before it are frozen with their statistics: `conv0` freezes none, `classifier` all but the head.
    pub first_trained: String,
    /// What the rate is multiplied by in some parts.
    pub rates: Vec<(String, f64)>,
    /// Epochs without a better one after which it ends.
    pub patience: Option<usize>,
    /// Whether the error is measured on ten crops of each image.
    pub ten_crop: bool,
}

/// What changes the weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimiser {
    /// Stochastic gradient descent, by Nesterov's momentum where that is above 0 (arXiv 1608.06993, section 4.2).
    Sgd {
        /// Share of the last direction in the next.
        momentum: f64,
    },
    /// Adam with decoupled weight decay, with torch's numbers.
    Adamw,
}

/// How the learning rate falls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Falls {
    /// It does not.
    Never,
    /// To a tenth before the first epoch, counted from 1, that is at least this share of all (train.lua, learningRate).
    Shares(Vec<f64>),
    /// To a tenth after each so many epochs.
    Every(usize),
    /// Along half a cosine to zero, step by step.
    Cosine,
}

impl Recipe {
    /// The original's, for a network and its data: what is not said here is set by the preset.
    pub(super) fn original(name: String, config: Config, protocol: Protocol) -> Self {
        Self {
            name,
            config,
            protocol,
            augmentation: Augmentation::default(),
            epochs: 90,
            batch: 64,
            optimiser: Optimiser::Sgd { momentum: 0.9 },
            rate: 0.1,
            falls: Falls::Shares(vec![0.5, 0.75]),
            warm_up: 0,
            weight_decay: 1e-4,
            decay_norms: true,
            label_smoothing: 0.0,
            clip: None,
            average: None,
            class_weights: None,
            first_trained: Part::Stem.to_string(),
            rates: Vec::new(),
            patience: None,
            ten_crop: false,
        }
    }

    /// The learning rate for epochs of so many steps.
    pub fn schedule(&self, steps: usize) -> Schedule {
        let tenth = |epochs: &mut dyn Iterator<Item = usize>| {
            let at = epochs.map(|epoch| (epoch * steps) as u64).collect();
            Curve::Steps { at, factor: 0.1 }
        };
        let curve = match &self.falls {
            Falls::Never => Curve::Constant,
            Falls::Shares(shares) => {
                let first = |share: &f64| (share * self.epochs as f64).ceil().max(1.0) as usize - 1;
                tenth(&mut shares.iter().map(first))
            }
            Falls::Every(epochs) => tenth(&mut (1..=self.epochs / epochs.max(&1)).map(|times| times * epochs)),
            Falls::Cosine => Curve::Cosine { total: (self.epochs * steps) as u64 },
        };
        Schedule { rate: self.rate, warm_up: (self.warm_up * steps) as u64, curve }
    }

    /// Refuses numbers that make no sense, as a checkpoint may hold them that was not written here.
    pub(super) fn check(&self) -> Result<()> {
        let counts = [("epochs", self.epochs), ("batch", self.batch), ("warm_up", self.warm_up + 1)];
        if let Some((name, count)) = counts.into_iter().find(|(_, count)| !(1..=1 << 16).contains(count)) {
            return Err(Error::Usage(format!("{name} of {count}; from 1 to 65536 makes sense")));
        }
        if self.falls == Falls::Every(0) {
            return Err(Error::Usage("a rate that falls after each 0 epochs".into()));
        }
        self.config.validate().map_err(|error| Error::Usage(error.to_string()))?;
        Protocol::from_text(&self.protocol.to_text())?;
        Augmentation::named(&self.augmentation.to_string()).map(drop)
    }

    /// Refuses what would be asked for in vain: of targets that are findings or classes, for epochs of so many steps.
    pub fn check_for(&self, findings: bool, steps: usize) -> Result<()> {
        self.check()?;
        let options = self.options(steps)?;
        options.check(&self.config)?;
        let refuse = |reason: String| Err(Error::Usage(reason));
        let place = |part: Part| part.index("part", &self.config);
        let first = place(options.first_trained)?;
        if findings && self.label_smoothing > 0.0 {
            return refuse("label smoothing is for classes; findings are learned as they are".into());
        }
        for (part, factor) in options.rates {
            if place(part)? < first {
                return refuse(format!("a rate of {factor} for {part}, which is frozen; leave one of the two out"));
            }
        }
        if self.config.drop_rate > 0.0 && first > 0 && options.first_trained == Part::Classifier {
            return refuse("dropout in front of the classifier, where all is frozen; leave one of the two out".into());
        }
        if self.warm_up > 0 && self.warm_up >= self.epochs {
            return refuse(format!(
                "the rate rises for {} epochs of {}; let it rise for fewer",
                self.warm_up, self.epochs
            ));
        }
        Ok(())
    }

    /// How much of the first weights is left in their average at the end, of epochs of so many steps.
    pub fn share_of_first(&self, steps: usize) -> f64 {
        self.average.map_or(0.0, |share| share.powf((self.epochs * steps) as f64))
    }

    /// What it says, for people: names and values. What is not used is left out.
    pub fn rows(&self) -> Vec<(String, String)> {
        let optimiser = match self.optimiser {
            Optimiser::Sgd { momentum } => format!("SGD, Nesterov's momentum {momentum}"),
            Optimiser::Adamw => "AdamW".to_owned(),
        };
        let falls = match &self.falls {
            Falls::Never => String::new(),
            Falls::Shares(shares) => {
                let shares: Vec<_> = shares.iter().map(|share| format!("{:.0} %", 100.0 * share)).collect();
                format!(", to a tenth at {} of the epochs", shares.join(" and "))
            }
            Falls::Every(epochs) => format!(", to a tenth after each {epochs} epochs"),
            Falls::Cosine => ", along half a cosine to zero".to_owned(),
        };
        let parts: Vec<_> = self.rates.iter().map(|(part, factor)| format!("{part} {factor}")).collect();
        let unless = |none: bool, value: String| (!none).then_some(value);
        let rows = [
            ("recipe", Some(self.name.clone())),
            ("epochs", Some(self.epochs.to_string())),
            ("batch", Some(self.batch.to_string())),
            ("optimiser", Some(optimiser)),
            ("learning rate", Some(format!("{}{falls}", self.rate))),
            ("epochs of warm-up", unless(self.warm_up == 0, self.warm_up.to_string())),
            ("rates by part", unless(parts.is_empty(), parts.join(", "))),
            ("trained from", unless(self.first_trained == Part::Stem.to_string(), self.first_trained.clone())),
            ("weight decay", Some(self.weight_decay.to_string())),
            ("dropout", unless(self.config.drop_rate == 0.0, self.config.drop_rate.to_string())),
            ("label smoothing", unless(self.label_smoothing == 0.0, self.label_smoothing.to_string())),
            ("longest gradient", self.clip.map(|clip| clip.to_string())),
            ("weights averaged, share kept", self.average.map(|share| share.to_string())),
            ("classes", self.class_weights.as_ref().map(|_| "balanced".to_owned())),
            ("norms and biases", unless(self.decay_norms, "no weight decay".to_owned())),
            ("ends after epochs without a better one", self.patience.map(|epochs| epochs.to_string())),
            ("error measured on", unless(!self.ten_crop, "ten crops".to_owned())),
            ("augmentation", Some(self.augmentation.to_string())),
        ];
        rows.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// What the engine is told, for epochs of so many steps.
    pub fn options(&self, steps: usize) -> Result<Options> {
        let part = |name: &str| {
            let part = Part::named(name);
            part.ok_or_else(|| Error::Usage(format!("no part {name:?} of a DenseNet; there is conv0, denseblock1, …")))
        };
        let optimiser = match self.optimiser {
            Optimiser::Sgd { momentum } => {
                densenet_engine::train::Optimiser::Sgd { momentum, nesterov: momentum > 0.0, dampening: 0.0 }
            }
            Optimiser::Adamw => densenet_engine::train::Optimiser::ADAMW,
        };
        Ok(Options {
            optimiser,
            schedule: self.schedule(steps),
            weight_decay: self.weight_decay,
            decay_norms: self.decay_norms,
            clip: self.clip,
            label_smoothing: self.label_smoothing,
            class_weights: self.class_weights.clone(),
            first_trained: part(&self.first_trained)?,
            rates: self.rates.iter().map(|(name, factor)| Ok((part(name)?, *factor))).collect::<Result<_>>()?,
            average: self.average,
            ..Options::default()
        })
    }
}
