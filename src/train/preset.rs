//! The published recipes: every network of the paper's and of the repository's tables, with each data set that it was
//! trained on. A preset is called `DATA-NETWORK`, as `cifar10+-bc-100-12`; the plus is the paper's for augmented data.

use densenet_arch::{Config, Protocol, Stem, networks};

use super::augment::Augmentation;
use super::recipe::{Falls, Recipe};
use crate::error::{Error, Result};

/// A data set, and how networks are trained on it.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    /// Its name in presets.
    pub name: &'static str,
    /// The data set itself, whether augmented or not: `cifar10`, `imagenet` …
    pub kind: &'static str,
    protocol: &'static str,
    classes: usize,
    epochs: usize,
    batch: usize,
    falls: fn() -> Falls,
    drop_rate: f64,
    augmentation: &'static str,
    /// The networks, by what follows `densenet-` in their names.
    networks: &'static [&'static str],
}

const PAPER: [&str; 6] = ["40-12", "100-12", "100-24", "bc-100-12", "bc-250-24", "bc-190-40"];
/// The last three are the repository's wide ones.
const AUGMENTED: [&str; 9] = [
    "40-12",
    "100-12",
    "100-24",
    "bc-100-12",
    "bc-250-24",
    "bc-190-40",
    "wide-bc-40-36",
    "wide-bc-40-48",
    "wide-bc-40-60",
];

fn half_and_three_quarters() -> Falls {
    Falls::Shares(vec![0.5, 0.75])
}

/// arXiv 1608.06993, section 4.2; dropout of 0.2 without augmentation.
const DATA: [Data; 6] = [
    cifar("cifar10+", "cifar10", 10, 0.0, "cifar", &AUGMENTED),
    cifar("cifar10", "cifar10", 10, 0.2, "none", &PAPER),
    cifar("cifar100+", "cifar100", 100, 0.0, "cifar", &AUGMENTED),
    cifar("cifar100", "cifar100", 100, 0.2, "none", &PAPER),
    Data {
        epochs: 40,
        ..cifar("svhn", "svhn", 10, 0.2, "none", &["40-12", "100-12", "100-24", "bc-100-12", "bc-250-24"])
    },
    Data {
        protocol: "torch7",
        epochs: 90,
        batch: 256,
        falls: || Falls::Every(30),
        networks: &["121", "169", "201", "161", "264", "232", "cosine-264", "cosine-264-k48"],
        ..cifar("imagenet", "imagenet", 1000, 0.0, "imagenet", &[])
    },
];

const fn cifar(
    name: &'static str,
    kind: &'static str,
    classes: usize,
    drop_rate: f64,
    augmentation: &'static str,
    networks: &'static [&'static str],
) -> Data {
    let falls = half_and_three_quarters;
    Data { name, kind, protocol: kind, classes, epochs: 300, batch: 64, falls, drop_rate, augmentation, networks }
}

/// The embedded model's own: the original script's, with depth 22 and growth rate 8, and no flip. Torch7 trained it for 30
/// epochs with two falls; here it is 60 along a cosine, and the weights are averaged.
const DIGITS: &str = "digits";

impl Data {
    /// The names of all.
    pub fn names() -> impl Iterator<Item = &'static str> {
        DATA.iter().map(|data| data.name)
    }

    /// The data set of that name.
    pub fn named(name: &str) -> Option<Self> {
        DATA.into_iter().find(|data| data.name == name)
    }

    /// How any network is trained on it, by the original's rules.
    pub fn recipe(self, name: String, config: Config) -> Result<Recipe> {
        let config = Config { num_classes: self.classes, drop_rate: self.drop_rate, ..config };
        Ok(Recipe {
            epochs: self.epochs,
            batch: self.batch,
            falls: (self.falls)(),
            augmentation: Augmentation::named(self.augmentation)?,
            ..Recipe::original(name, config, Protocol::named(self.protocol)?)
        })
    }
}

impl Recipe {
    /// The preset of that name, and the data set that it is for.
    pub fn preset(name: &str) -> Result<(Self, &'static str)> {
        if name == DIGITS {
            return Ok((digits()?, DIGITS));
        }
        let found = DATA.iter().find_map(|data| {
            let network = name.strip_prefix(data.name)?.strip_prefix('-')?;
            data.networks.contains(&network).then_some((data, network))
        });
        let found =
            found.and_then(|(data, network)| Some((data, network, networks::find(&format!("densenet-{network}"))?)));
        let Some((data, network, known)) = found else {
            return Err(Error::Usage(format!("no preset {name:?}; `train --presets` lists them")));
        };
        let recipe = data.recipe(name.to_owned(), known.config.clone())?;
        let recipe = match network {
            // Section 4.2: the largest at half the batch, for ten epochs more.
            "161" => Recipe { batch: 128, epochs: 100, ..recipe },
            // The technical report (arXiv 1707.06990), section 4.
            _ if network.starts_with("cosine") => Recipe { epochs: 100, falls: Falls::Cosine, ..recipe },
            _ => recipe,
        };
        Ok((recipe, data.kind))
    }

    /// The names of all presets.
    pub fn presets() -> impl Iterator<Item = String> {
        let published =
            DATA.iter().flat_map(|data| data.networks.iter().map(|network| format!("{}-{network}", data.name)));
        std::iter::once(DIGITS.to_owned()).chain(published)
    }
}

fn digits() -> Result<Recipe> {
    let config = Config { stem: Stem::Cifar, num_classes: 10, ..Config::imagenet(&[3, 3, 3], 8, 16) };
    let recipe = Recipe::original(DIGITS.to_owned(), config, Protocol::named(DIGITS)?);
    Ok(Recipe {
        epochs: 60,
        falls: Falls::Cosine,
        average: Some(0.99),
        augmentation: Augmentation::named("crop")?,
        ..recipe
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_have_the_network_that_torch7_trained() {
        let (recipe, data) = Recipe::preset("digits").unwrap();
        // results.json of the Torch7 run: parameters, final_channels.
        assert_eq!((recipe.config.parameter_count(), recipe.config.num_features(), data), (32_606, 46, "digits"));
        // Its schedule, in epochs from 1, is a change away.
        let original = Recipe { epochs: 30, falls: half_and_three_quarters(), ..recipe };
        rates(&original, 23, &[(1, 0.1), (14, 0.1), (15, 0.01), (22, 0.01), (23, 0.001), (30, 0.001)]);
        let unknown = Recipe::preset("digit").unwrap_err().to_string();
        assert_eq!(unknown, "no preset \"digit\"; `train --presets` lists them");
    }

    /// The rate of the first and the last step of epochs.
    fn rates(recipe: &Recipe, steps: u64, expected: &[(u64, f64)]) {
        let schedule = recipe.schedule(steps as usize);
        for &(epoch, rate) in expected {
            let (first, last) = (schedule.at((epoch - 1) * steps), schedule.at(epoch * steps - 1));
            assert!((first - rate).abs() < 1e-12 && (last - rate).abs() < 1e-12, "epoch {epoch}: {first} {last}");
        }
    }

    #[test]
    fn presets_are_those_of_the_paper() {
        assert_eq!(Recipe::presets().count(), 1 + 2 * 9 + 2 * 6 + 5 + 8);
        for name in Recipe::presets() {
            let (recipe, _) = Recipe::preset(&name).unwrap();
            assert_eq!((recipe.config.validate(), recipe.name), (Ok(()), name));
        }
        // arXiv 1608.06993, section 4.2, and table 2's parameters.
        let (recipe, data) = Recipe::preset("cifar100-bc-100-12").unwrap();
        assert_eq!((recipe.epochs, recipe.batch, recipe.config.drop_rate, data), (300, 64, 0.2, "cifar100"));
        assert_eq!((recipe.protocol.name.as_str(), recipe.config.num_classes), ("cifar100", 100));
        rates(&recipe, 782, &[(149, 0.1), (150, 0.01), (224, 0.01), (225, 0.001), (300, 0.001)]);
        let (recipe, _) = Recipe::preset("cifar10+-bc-100-12").unwrap();
        assert_eq!((recipe.config.parameter_count(), recipe.config.drop_rate), (769_162, 0.0));
        let (recipe, _) = Recipe::preset("svhn-40-12").unwrap();
        assert_eq!((recipe.epochs, recipe.config.drop_rate), (40, 0.2));
        let (recipe, _) = Recipe::preset("imagenet-121").unwrap();
        assert_eq!((recipe.epochs, recipe.batch, recipe.protocol.name.as_str()), (90, 256, "torch7"));
        rates(&recipe, 5005, &[(30, 0.1), (31, 0.01), (60, 0.01), (61, 0.001), (90, 0.001)]);
        let (recipe, _) = Recipe::preset("imagenet-161").unwrap();
        assert_eq!((recipe.epochs, recipe.batch), (100, 128));
        rates(&recipe, 10010, &[(90, 0.001), (91, 0.0001)]);
        let (recipe, _) = Recipe::preset("imagenet-cosine-264").unwrap();
        assert!((recipe.schedule(10).at(500) - 0.05).abs() < 1e-12);
    }
}
