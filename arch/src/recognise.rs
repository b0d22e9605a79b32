//! From the names and shapes of a file's tensors to the network they belong to.

use thiserror::Error;

use crate::{Config, Stem};

/// Why the tensors are no DenseNet that is known here.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum RecogniseError {
    /// A tensor that every DenseNet has is absent.
    #[error("not a complete DenseNet: tensor {0:?} is missing")]
    Missing(String),
    /// A tensor's shape fits no network.
    #[error("not a DenseNet: tensor {name:?} has shape {shape:?}, {expected} is expected")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// What would fit.
        expected: &'static str,
    },
    /// A stem of three convolutions, as timm's `densenetblur121d`.
    #[error("a DenseNet with a deep stem (timm's densenetblur121d, densenet264d): not supported")]
    DeepStem,
    /// The transitions' widths follow from no single compression.
    #[error("not a DenseNet: no single compression gives the transitions' widths {0:?}")]
    Compression(Vec<(usize, usize)>),
}

/// Finds the network from its tensors, torchvision's names. `shape` gives a tensor's shape.
///
/// eps, head and the poolings' rounding stay at their defaults: no tensor shows them. The result says which tensors must be there; it does not
/// say that they all are.
pub fn recognise(shape: impl Fn(&str) -> Option<Vec<usize>>) -> Result<Config, RecogniseError> {
    let need = |name: &str| shape(name).ok_or_else(|| RecogniseError::Missing(name.to_owned()));
    let misfit = |name: &str, shape: &[usize], expected| RecogniseError::Shape {
        name: name.to_owned(),
        shape: shape.to_vec(),
        expected,
    };

    let name = "features.conv0.weight";
    let conv0 = need(name)?;
    if shape("features.conv1.weight").is_some() {
        return Err(RecogniseError::DeepStem);
    }
    let (stem, num_init_features, in_channels) = match conv0[..] {
        [out, input, 7, 7] => (Stem::Imagenet, out, input),
        [out, input, 3, 3] => (Stem::Cifar, out, input),
        _ => return Err(misfit(name, &conv0, "(out, in, 7, 7) or (out, in, 3, 3)")),
    };

    let first = "features.denseblock1.denselayer1";
    let conv1_name = format!("{first}.conv1.weight");
    let conv1 = need(&conv1_name)?;
    let conv2_name = format!("{first}.conv2.weight");
    let (growth_rate, bn_size) = match shape(&conv2_name) {
        None => match conv1[..] {
            [growth, _, 3, 3] => (growth, None),
            _ => return Err(misfit(&conv1_name, &conv1, "(growth rate, in, 3, 3)")),
        },
        Some(conv2) => match conv2[..] {
            [growth, width, 3, 3] if growth > 0 && width % growth == 0 => (growth, Some(width / growth)),
            _ => return Err(misfit(&conv2_name, &conv2, "(growth rate, a multiple of it, 3, 3)")),
        },
    };

    let mut block_config = Vec::new();
    loop {
        let block = block_config.len() + 1;
        // A layer counts if any of its norms or convolutions is there, so that a gap is reported as missing tensors.
        let has = |layer: usize| {
            ["norm1.weight", "conv1.weight", "conv2.weight"]
                .iter()
                .any(|field| shape(&format!("features.denseblock{block}.denselayer{layer}.{field}")).is_some())
        };
        let mut layers = 0;
        while has(layers + 1) || has(layers + 2) {
            layers += 1;
        }
        if layers == 0 {
            break;
        }
        block_config.push(layers);
    }

    let mut widths = Vec::new();
    let mut channels = num_init_features;
    for (block, layers) in (1..block_config.len()).zip(&block_config) {
        let name = format!("features.transition{block}.conv.weight");
        let conv = need(&name)?;
        let input = channels.saturating_add(layers.saturating_mul(growth_rate));
        match conv[..] {
            [out, _, 1, 1] if out > 0 && out <= input => {
                widths.push((input, out));
                channels = out;
            }
            _ => return Err(misfit(&name, &conv, "(out, in, 1, 1) with out no larger than in")),
        }
    }
    let compression = compression(&widths).ok_or(RecogniseError::Compression(widths))?;

    let name = "classifier.weight";
    let classifier = need(name)?;
    let [num_classes, _] = classifier[..] else {
        return Err(misfit(name, &classifier, "(classes, features)"));
    };
    Ok(Config {
        block_config,
        growth_rate,
        num_init_features,
        stem,
        bn_size,
        compression,
        num_classes,
        in_channels,
        ..Config::imagenet(&[], growth_rate, num_init_features)
    })
}

/// The roundest share c with floor(input * c) = output for each transition.
fn compression(widths: &[(usize, usize)]) -> Option<f64> {
    let fits = |c: f64| widths.iter().all(|&(input, output)| (input as f64 * c).floor() as usize == output);
    // One decimal first, then two, and so on: 0.5 before 0.51. Without transitions, 1.
    (0..=6).map(|digits| 10_f64.powi(digits)).find_map(|scale| {
        // Only the multiples of 1/scale between the first transition's bounds need a look.
        let (low, high) = widths
            .first()
            .map_or((1.0, 1.0), |&(input, output)| (output as f64 / input as f64, (output + 1) as f64 / input as f64));
        let first = (low * scale).floor() as u32;
        let last = ((high * scale).ceil() as u32).min(scale as u32);
        (first..=last).rev().map(|n| f64::from(n) / scale).find(|&c| c > 0.0 && fits(c))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::networks;

    fn shapes(config: &Config) -> BTreeMap<String, Vec<usize>> {
        config.params().into_iter().map(|param| (param.name, param.shape)).collect()
    }

    fn of(shapes: &BTreeMap<String, Vec<usize>>) -> Result<Config, RecogniseError> {
        recognise(|name| shapes.get(name).cloned())
    }

    #[test]
    fn every_published_network_is_recognised() {
        for network in networks::all() {
            assert_eq!(of(&shapes(&network.config)).as_ref(), Ok(&network.config), "{}", network.name);
        }
    }

    #[test]
    fn free_networks_are_recognised() {
        for config in [
            Config { compression: 0.7, in_channels: 1, ..Config::cifar_bc(22, 8).unwrap() },
            Config { compression: 0.25, ..Config::imagenet(&[2, 3, 4], 6, 10) },
            Config { bn_size: Some(2), num_classes: 14, ..Config::imagenet(&[2, 2, 2, 2], 4, 8) },
            Config { compression: 1.0, ..Config::imagenet(&[2], 4, 8) },
        ] {
            let found = of(&shapes(&config)).unwrap();
            // Several compressions may give the same widths, and one is as good as another.
            assert_eq!(found.params(), config.params());
            assert!(found.same_network(&config), "{found:?}");
        }
    }

    #[test]
    fn what_is_missing_or_misshapen_is_named() {
        let good = shapes(&Config::imagenet(&[2, 2], 4, 8));
        let without = |name: &str| {
            let mut shapes = good.clone();
            shapes.remove(name);
            of(&shapes).unwrap_err().to_string()
        };
        assert_eq!(
            without("features.conv0.weight"),
            "not a complete DenseNet: tensor \"features.conv0.weight\" is missing"
        );
        assert_eq!(without("classifier.weight"), "not a complete DenseNet: tensor \"classifier.weight\" is missing");
        let with = |name: &str, shape: &[usize]| {
            let mut shapes = good.clone();
            shapes.insert(name.to_owned(), shape.to_vec());
            of(&shapes).unwrap_err()
        };
        assert!(matches!(with("features.conv0.weight", &[8, 3, 5, 5]), RecogniseError::Shape { .. }));
        assert!(matches!(with("features.transition1.conv.weight", &[0, 16, 1, 1]), RecogniseError::Shape { .. }));
        assert_eq!(with("features.conv1.weight", &[8, 3, 3, 3]), RecogniseError::DeepStem);
    }

    #[test]
    fn a_gap_in_a_block_still_counts_its_layers() {
        let mut gap = shapes(&Config::imagenet(&[3, 2], 4, 8));
        gap.retain(|name, _| !name.contains("denseblock1.denselayer2."));
        assert_eq!(of(&gap).unwrap().block_config, [3, 2]);
    }
}
