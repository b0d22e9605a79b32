//! What a trainer is told.

use std::fmt;

use densenet_arch::{Config, Param};

use super::{Optimiser, Schedule};
use crate::{Convolutions, Error, Isa};

/// How to train.
#[derive(Clone, Debug)]
pub struct Options {
    /// The kernels to use; `None`: what `DENSENET_ZOO_ISA` says, else the fastest that the processor can run.
    pub isa: Option<Isa>,
    /// How to compute the 3x3 convolutions and the gradients of their inputs; those of their weights are always exact. Fast ones round
    /// some times more.
    pub convolutions: Convolutions,
    /// How much of a pass is kept for the way back, by the original's numbers (`-optMemory`). 3: the blocks' maps and what
    /// the 1x1s give. 4: the blocks' maps; what the 1x1s give is computed again. 0 to 2 mean 3: what they keep besides,
    /// concatenations and normalised maps, does not exist here. The results are the same, bit for bit.
    pub memory_level: u8,
    /// How a gradient changes the weights.
    pub optimiser: Optimiser,
    /// The learning rate.
    pub schedule: Schedule,
    /// Weight decay: L2 in SGD, decoupled in AdamW.
    pub weight_decay: f64,
    /// Whether it applies to norms and biases too, as in the original.
    pub decay_norms: bool,
    /// The longest gradient: a longer one, over all weights, is scaled down to it.
    pub clip: Option<f64>,
    /// What the labels' share of the target goes down by (arXiv 1512.00567, section 7). Findings are taken as they are.
    pub label_smoothing: f64,
    /// How much each class counts in the loss; `None`: 1. Of labels the weight of the image's, by which the mean is taken,
    /// as in torch's `CrossEntropyLoss(weight)`; of findings that are present, as in its `BCEWithLogitsLoss(pos_weight)`.
    pub class_weights: Option<Vec<f32>>,
    /// The first part that is trained. Those before it keep their weights and statistics, run as in evaluation and get
    /// no gradient.
    pub first_trained: Part,
    /// What the learning rate of a part is multiplied by, 1 for those that are not named. A rate of 0 stops the weights,
    /// `first_trained` the statistics too.
    pub rates: Vec<(Part, f64)>,
    /// The share that the averaged weights keep at each update, 0.999 or so; `None`: there are none.
    pub average: Option<f64>,
    /// What dropout is drawn from.
    pub seed: u64,
}

impl Default for Options {
    /// The paper's (section 4.2): Nesterov's momentum, weight decay of 1e-4 on everything, here at a constant rate of 0.1.
    fn default() -> Self {
        Self {
            isa: None,
            convolutions: Convolutions::Exact,
            memory_level: 3,
            optimiser: Optimiser::NESTEROV,
            schedule: Schedule::constant(0.1),
            weight_decay: 1e-4,
            decay_norms: true,
            clip: None,
            label_smoothing: 0.0,
            class_weights: None,
            first_trained: Part::Stem,
            rates: Vec::new(),
            average: None,
            seed: 0,
        }
    }
}

impl Options {
    /// What the learning rate of a part is multiplied by.
    pub fn rate_of(&self, part: Part) -> f64 {
        self.rates.iter().find(|&&(named, _)| named == part).map_or(1.0, |&(_, factor)| factor)
    }

    /// Refuses values that make no sense.
    pub fn check(&self, config: &Config) -> Result<(), Error> {
        let check = |field, value: f64, ok: bool, must| if ok { Ok(()) } else { refuse(field, value, must) };
        let level = self.memory_level;
        check("memory_level", f64::from(level), level <= 4, "from 0 to 4")?;
        let share = |field, value: f64| check(field, value, (0.0..1.0).contains(&value), "at least 0 and below 1");
        let positive = |field, value: f64| check(field, value, value > 0.0 && value.is_finite(), "above 0");
        let at_least_0 = |field, value: f64| check(field, value, value >= 0.0 && value.is_finite(), "at least 0");
        at_least_0("weight_decay", self.weight_decay)?;
        at_least_0("rate", self.schedule.rate)?;
        share("label_smoothing", self.label_smoothing)?;
        self.clip.map_or(Ok(()), |clip| positive("clip", clip))?;
        self.average.map_or(Ok(()), |average| share("average", average))?;
        if let Some(weights) = &self.class_weights {
            let (found, classes) = (weights.len(), config.num_classes);
            if found != classes {
                return refuse("class_weights", format!("{found} values for {classes} classes"), "one value a class");
            }
            weights.iter().try_for_each(|&weight| at_least_0("class_weights", f64::from(weight)))?;
        }
        for (at, &(part, factor)) in self.rates.iter().enumerate() {
            part.index("rates", config)?;
            at_least_0("rates", factor)?;
            if self.rates[..at].iter().any(|&(other, _)| other == part) {
                return refuse("rates", format!("two factors for {part}"), "one factor a part");
            }
        }
        match self.optimiser {
            Optimiser::Sgd { momentum, dampening, nesterov } => {
                share("momentum", momentum)?;
                share("dampening", dampening)?;
                let plain = !nesterov || (momentum > 0.0 && dampening == 0.0);
                check("momentum", momentum, plain, "above 0 for nesterov, and dampening 0")
            }
            Optimiser::AdamW { beta1, beta2, eps } => {
                share("beta1", beta1)?;
                share("beta2", beta2)?;
                positive("eps", eps)
            }
        }
    }
}

/// A part of a network, in the order of computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `conv0` and, in ImageNet networks, `norm0`.
    Stem,
    /// `denseblockN`, from 1.
    Block(usize),
    /// `transitionN`, from 1.
    Transition(usize),
    /// `norm5`.
    Norm,
    /// `classifier`.
    Classifier,
}

impl Part {
    /// The part of torchvision's name: `conv0`, `denseblock2`, `transition2`, `norm5`, `classifier`.
    pub fn named(name: &str) -> Option<Self> {
        let number = |prefix| name.strip_prefix(prefix)?.parse().ok().filter(|&number: &usize| number > 0);
        match name {
            "conv0" => Some(Self::Stem),
            "norm5" => Some(Self::Norm),
            "classifier" => Some(Self::Classifier),
            _ => number("denseblock").map(Self::Block).or_else(|| number("transition").map(Self::Transition)),
        }
    }

    /// The part that has a tensor.
    pub fn of(param: &Param) -> Self {
        let module = param.name.split('.').find(|&module| module != "features").unwrap_or_default();
        // Of the rest there is norm0, which is the stem's.
        Self::named(module).unwrap_or(Self::Stem)
    }

    /// Its place among the parts of a network; an error that names the option where it has no such part.
    pub fn index(self, field: &'static str, config: &Config) -> Result<usize, Error> {
        let blocks = config.block_config.len();
        match self {
            Self::Stem => Ok(0),
            Self::Block(number) if (1..=blocks).contains(&number) => Ok(2 * number - 1),
            Self::Transition(number) if (1..blocks).contains(&number) => Ok(2 * number),
            Self::Norm => Ok(2 * blocks),
            Self::Classifier => Ok(2 * blocks + 1),
            Self::Block(_) | Self::Transition(_) => refuse(field, self, "a part of the network"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Stem => formatter.write_str("conv0"),
            Self::Block(number) => write!(formatter, "denseblock{number}"),
            Self::Transition(number) => write!(formatter, "transition{number}"),
            Self::Norm => formatter.write_str("norm5"),
            Self::Classifier => formatter.write_str("classifier"),
        }
    }
}

fn refuse<T>(field: &'static str, value: impl fmt::Display, must: &'static str) -> Result<T, Error> {
    Err(Error::Setting { field, value: value.to_string(), must })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_torchvision_s_names() {
        let config = Config::imagenet(&[1, 2], 12, 20);
        let parts = [Part::Stem, Part::Block(1), Part::Transition(1), Part::Block(2), Part::Norm, Part::Classifier];
        for (index, part) in parts.into_iter().enumerate() {
            assert_eq!(Part::named(&part.to_string()), Some(part));
            assert_eq!(part.index("first_trained", &config).unwrap(), index);
        }
        assert_eq!(Part::named("denseblock0"), None);
        assert_eq!(Part::named("denseblockx"), None);
        assert_eq!(
            Part::Transition(2).index("first_trained", &config).unwrap_err().to_string(),
            "first_trained is transition2; it must be a part of the network"
        );
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let config = Config::imagenet(&[1, 2], 12, 20).with_classes(3);
        let refused = |options: Options| options.check(&config).unwrap_err().to_string();
        assert_eq!(
            refused(Options { memory_level: 5, ..Options::default() }),
            "memory_level is 5; it must be from 0 to 4"
        );
        let optimiser = Optimiser::Sgd { momentum: 0.0, nesterov: true, dampening: 0.0 };
        assert_eq!(
            refused(Options { optimiser, ..Options::default() }),
            "momentum is 0; it must be above 0 for nesterov, and dampening 0"
        );
        let class_weights = Some(vec![1.0; 4]);
        assert_eq!(
            refused(Options { class_weights, ..Options::default() }),
            "class_weights is 4 values for 3 classes; it must be one value a class"
        );
        let of = |rates: &[(Part, f64)]| refused(Options { rates: rates.to_vec(), ..Options::default() });
        assert_eq!(
            of(&[(Part::Norm, 0.1), (Part::Block(3), 0.1)]),
            "rates is denseblock3; it must be a part of the network"
        );
        assert_eq!(
            of(&[(Part::Norm, 0.1), (Part::Norm, 0.2)]),
            "rates is two factors for norm5; it must be one factor a part"
        );
        assert_eq!(of(&[(Part::Norm, -1.0)]), "rates is -1; it must be at least 0");
        for bad in [
            Options { weight_decay: -1.0, ..Options::default() },
            Options { label_smoothing: 1.0, ..Options::default() },
            Options { class_weights: Some(vec![1.0, f32::NAN, 1.0]), ..Options::default() },
            Options { class_weights: Some(vec![1.0, 1.0, -1.0]), ..Options::default() },
            Options { clip: Some(0.0), ..Options::default() },
            Options { average: Some(f64::NAN), ..Options::default() },
            Options { schedule: Schedule::constant(f64::INFINITY), ..Options::default() },
            Options { optimiser: Optimiser::AdamW { beta1: 0.9, beta2: 1.0, eps: 1e-8 }, ..Options::default() },
        ] {
            assert!(bad.check(&config).is_err(), "{bad:?}");
        }
        assert!(Options::default().check(&config).is_ok());
    }
}
