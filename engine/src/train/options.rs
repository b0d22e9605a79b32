//! What a trainer is told.

use std::fmt;

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
    /// What the labels' share of the target goes down by (arXiv 1512.00567, section 7).
    pub label_smoothing: f64,
    /// The first part that is trained. Those before it keep their weights and statistics, run as in evaluation and get
    /// no gradient.
    pub first_trained: Part,
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
            first_trained: Part::Stem,
            average: None,
            seed: 0,
        }
    }
}

impl Options {
    /// Refuses values that make no sense.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let check = |field, value: f64, ok: bool, must| {
            if ok { Ok(()) } else { Err(Error::Setting { field, value: value.to_string(), must }) }
        };
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

    /// Its place among the parts of a network of so many blocks.
    pub(crate) fn index(self, blocks: usize) -> Result<usize, Error> {
        let index = match self {
            Self::Stem => 0,
            Self::Block(number) if (1..=blocks).contains(&number) => 2 * number - 1,
            Self::Transition(number) if (1..blocks).contains(&number) => 2 * number,
            Self::Norm => 2 * blocks,
            Self::Classifier => 2 * blocks + 1,
            Self::Block(_) | Self::Transition(_) => {
                let value = self.to_string();
                return Err(Error::Setting { field: "first_trained", value, must: "a part of the network" });
            }
        };
        Ok(index)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_torchvision_s_names() {
        let parts = [Part::Stem, Part::Block(1), Part::Transition(1), Part::Block(2), Part::Norm, Part::Classifier];
        for (index, part) in parts.into_iter().enumerate() {
            assert_eq!(Part::named(&part.to_string()), Some(part));
            assert_eq!(part.index(2).unwrap(), index);
        }
        assert_eq!(Part::named("denseblock0"), None);
        assert_eq!(Part::named("denseblockx"), None);
        assert_eq!(
            Part::Transition(2).index(2).unwrap_err().to_string(),
            "first_trained is transition2; it must be a part of the network"
        );
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let refused = |options: Options| options.check().unwrap_err().to_string();
        assert_eq!(
            refused(Options { memory_level: 5, ..Options::default() }),
            "memory_level is 5; it must be from 0 to 4"
        );
        let optimiser = Optimiser::Sgd { momentum: 0.0, nesterov: true, dampening: 0.0 };
        assert_eq!(
            refused(Options { optimiser, ..Options::default() }),
            "momentum is 0; it must be above 0 for nesterov, and dampening 0"
        );
        for bad in [
            Options { weight_decay: -1.0, ..Options::default() },
            Options { label_smoothing: 1.0, ..Options::default() },
            Options { clip: Some(0.0), ..Options::default() },
            Options { average: Some(f64::NAN), ..Options::default() },
            Options { schedule: Schedule::constant(f64::INFINITY), ..Options::default() },
            Options { optimiser: Optimiser::AdamW { beta1: 0.9, beta2: 1.0, eps: 1e-8 }, ..Options::default() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert!(Options::default().check().is_ok());
    }
}
