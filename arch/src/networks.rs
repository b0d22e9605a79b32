//! The published networks, as rows of one table.

use std::sync::LazyLock;

use crate::Config;

/// A published network.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its name: `densenet-169`, `densenet-bc-100-12` (depth, growth rate).
    pub name: &'static str,
    /// Its sizes, with 1000 classes (ImageNet) or 10 (CIFAR).
    pub config: Config,
    /// Where it was published.
    pub source: &'static str,
}

const PAPER: &str = "arXiv 1608.06993";
const REPORT: &str = "technical report 2017; its footnote misprints the second block of 264 and 232 as 32";
const README: &str = "README of liuzhuang13/DenseNet, wide DenseNet-BC";

static TABLE: LazyLock<Vec<Network>> = LazyLock::new(|| {
    let imagenet = |name, blocks: [usize; 4], growth_rate, stem, source| Network {
        name,
        config: Config::imagenet(&blocks, growth_rate, stem),
        source,
    };
    let plain = |name, layers, growth_rate| Network {
        name,
        config: Config { bn_size: None, compression: 1.0, num_init_features: 16, ..cifar_bc(layers, growth_rate) },
        source: PAPER,
    };
    let bc = |name, layers, growth_rate, source| Network { name, config: cifar_bc(layers, growth_rate), source };
    vec![
        imagenet("densenet-121", [6, 12, 24, 16], 32, 64, PAPER),
        imagenet("densenet-169", [6, 12, 32, 32], 32, 64, PAPER),
        imagenet("densenet-201", [6, 12, 48, 32], 32, 64, PAPER),
        imagenet("densenet-161", [6, 12, 36, 24], 48, 96, PAPER),
        imagenet("densenet-264", [6, 12, 64, 48], 32, 64, REPORT),
        imagenet("densenet-232", [6, 12, 48, 48], 48, 96, REPORT),
        imagenet("densenet-cosine-264", [6, 12, 64, 48], 32, 64, REPORT),
        imagenet("densenet-cosine-264-k48", [6, 12, 64, 48], 48, 96, REPORT),
        plain("densenet-40-12", 12, 12),
        plain("densenet-100-12", 32, 12),
        plain("densenet-100-24", 32, 24),
        bc("densenet-bc-100-12", 16, 12, PAPER),
        bc("densenet-bc-250-24", 41, 24, PAPER),
        bc("densenet-bc-190-40", 31, 40, PAPER),
        bc("densenet-wide-bc-40-36", 6, 36, README),
        bc("densenet-wide-bc-40-48", 6, 48, README),
        bc("densenet-wide-bc-40-60", 6, 60, README),
    ]
});

fn cifar_bc(layers: usize, growth_rate: usize) -> Config {
    Config { stem: crate::Stem::Cifar, num_classes: 10, ..Config::imagenet(&[layers; 3], growth_rate, 2 * growth_rate) }
}

/// Every published network: eight for ImageNet, nine for CIFAR.
pub fn all() -> &'static [Network] {
    &TABLE
}

/// The network of that name; `densenet169`, `DenseNet_169` and `densenet-169` are the same.
pub fn find(name: &str) -> Option<&'static Network> {
    let plain = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let wanted = plain(name);
    all().iter().find(|network| network.name == name).or_else(|| all().iter().find(|n| plain(n.name) == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (name, count) in [
            ("densenet-121", 7_978_856),
            ("densenet-169", 14_149_480),
            ("densenet-201", 20_013_928),
            ("densenet-161", 28_681_000),
            ("densenet-264", 33_337_704),
            ("densenet-232", 55_570_984),
            ("densenet-cosine-264", 33_337_704),
            ("densenet-cosine-264-k48", 72_686_632),
            ("densenet-40-12", 1_019_722),
            ("densenet-100-12", 6_979_642),
            ("densenet-100-24", 27_249_082),
            ("densenet-bc-100-12", 769_162),
            ("densenet-bc-250-24", 15_324_406),
            ("densenet-bc-190-40", 25_624_430),
            ("densenet-wide-bc-40-36", 1_542_682),
            ("densenet-wide-bc-40-48", 2_733_130),
            ("densenet-wide-bc-40-60", 4_261_690),
        ] {
            assert_eq!(find(name).unwrap().config.parameter_count(), count, "{name}");
        }
        assert_eq!(all().len(), 17);
    }

    #[test]
    fn multiply_adds_at_224_are_the_published_ones() {
        // In units of 1e9, to the digits that are printed.
        for (name, giga, digits) in [
            ("densenet-121", "2.8342", 4),
            ("densenet-169", "3.3598", 4),
            ("densenet-201", "4.2914", 4),
            ("densenet-161", "7.7279", 4),
            ("densenet-264", "5.7517", 4),
            ("densenet-232", "10.119", 3),
            ("densenet-cosine-264-k48", "12.851", 3),
        ] {
            let count = find(name).unwrap().config.multiply_adds(224, 224) as f64 / 1e9;
            assert_eq!(format!("{count:.digits$}"), giga, "{name}");
        }
    }

    #[test]
    fn the_torch_script_s_wider_stem_can_be_expressed() {
        // weights.json, cifar_models, params_C10_torch_code.
        for (depth, growth_rate, count) in [(40, 12, 1_059_298), (100, 12, 7_083_538), (100, 24, 28_071_706)] {
            let paper = Config::cifar(depth, growth_rate).unwrap();
            let script = Config { num_init_features: 2 * growth_rate, ..paper };
            assert_eq!(script.parameter_count(), count, "({depth}, {growth_rate})");
        }
    }

    #[test]
    fn rows_equal_the_constructors_and_are_found_however_written() {
        assert_eq!(find("densenet-40-12").unwrap().config, Config::cifar(40, 12).unwrap());
        assert_eq!(find("densenet-bc-250-24").unwrap().config, Config::cifar_bc(250, 24).unwrap());
        assert_eq!(find("densenet169").unwrap().name, "densenet-169");
        assert_eq!(find("DenseNet_BC_100_12").unwrap().name, "densenet-bc-100-12");
        assert!(find("densenet-170").is_none());
        for network in all() {
            assert_eq!(network.config.validate(), Ok(()), "{}", network.name);
        }
    }
}
