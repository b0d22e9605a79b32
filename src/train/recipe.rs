//! The published recipes: a network, its data, and how it was trained.

use densenet_arch::{Config, Protocol};
use densenet_engine::train::{Curve, Schedule};

use super::augment::Augmentation;
use crate::data::{Dataset, digits};
use crate::error::{Error, Result};

/// How a network is trained.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The preset's name.
    pub name: &'static str,
    /// The network.
    pub config: Config,
    /// How an image becomes its input.
    pub protocol: Protocol,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images of a step; the last step of an epoch takes what is left.
    pub batch: usize,
    /// The learning rate of the first epoch.
    pub rate: f64,
    /// Shares of the epochs at which the rate falls to a tenth.
    pub falls: &'static [f64],
    /// What is drawn of each image.
    pub augmentation: Augmentation,
}

/// A recipe as it was published. Optimiser and weight decay are the paper's in all of them (arXiv 1608.06993, section 4.2).
struct Preset {
    name: &'static str,
    config: fn() -> Config,
    protocol: &'static str,
    epochs: usize,
    batch: usize,
    rate: f64,
    falls: &'static [f64],
    pad: usize,
}

const PRESETS: &[Preset] = &[
    // The embedded model's own: liuzhuang13/DenseNet's script with depth 22 and growth rate 8, and no flip.
    Preset {
        name: "digits",
        config: || Config {
            block_config: vec![3, 3, 3],
            stem: densenet_arch::Stem::Cifar,
            num_classes: 10,
            ..Config::imagenet(&[], 8, 16)
        },
        protocol: "digits",
        epochs: 30,
        batch: 64,
        rate: 0.1,
        falls: &[0.5, 0.75],
        pad: 4,
    },
];

impl Recipe {
    /// The recipe of that name.
    pub fn named(name: &str) -> Result<Self> {
        let preset = PRESETS.iter().find(|preset| preset.name == name);
        let Some(preset) = preset else {
            let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
            return Err(Error::Usage(format!("no preset {name:?}; there is {}", names.join(", "))));
        };
        let &Preset { name, config, protocol, epochs, batch, rate, falls, pad } = preset;
        Ok(Self {
            name,
            config: config(),
            protocol: Protocol::named(protocol)?,
            epochs,
            batch,
            rate,
            falls,
            augmentation: Augmentation { pad },
        })
    }

    /// The images to train on, and those to measure the error on.
    pub fn data(&self) -> Result<(Dataset, Dataset)> {
        Ok((digits::training()?, digits::validation()?))
    }

    /// The learning rate for epochs of so many steps. It falls as in the original (train.lua, learningRate): before the
    /// first epoch whose number, from 1, is at least that share of all.
    pub fn schedule(&self, steps: usize) -> Schedule {
        let epoch = |share: f64| (share * self.epochs as f64).ceil().max(1.0) as u64 - 1;
        let at = self.falls.iter().map(|&share| epoch(share) * steps as u64).collect();
        Schedule { rate: self.rate, warm_up: 0, curve: Curve::Steps { at, factor: 0.1 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_trained_as_torch7_trained_them() {
        let recipe = Recipe::named("digits").unwrap();
        // results.json of the Torch7 run: parameters, final_channels, and the schedule in epochs from 1.
        assert_eq!((recipe.config.parameter_count(), recipe.config.num_features()), (32_606, 46));
        let schedule = recipe.schedule(23);
        for (epoch, rate) in [(1, 0.1), (14, 0.1), (15, 0.01), (22, 0.01), (23, 0.001), (30, 0.001)] {
            let (first, last) = (schedule.at((epoch - 1) * 23), schedule.at(epoch * 23 - 1));
            assert!((first - rate).abs() < 1e-12 && (last - rate).abs() < 1e-12, "epoch {epoch}: {first} {last}");
        }
        assert_eq!(Recipe::named("digit").unwrap_err().to_string(), "no preset \"digit\"; there is digits");
    }
}
