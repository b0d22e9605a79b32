//! The weights that training begins from.

use std::collections::HashMap;
use std::f64::consts::TAU;

use densenet_arch::{Config, Role};

use crate::kernels::train::mix;

/// Weights as the original code makes them, by torchvision's names: for [`Trainer::new`](super::Trainer::new).
///
/// Convolutions are normal with a deviation of √(2 / (kernel height · kernel width · outputs)) (He et al., arXiv 1502.01852, over
/// the outputs), norms 1 and 0, running statistics 0 and 1, the classifier's weights uniform within 1 / √inputs and its
/// bias 0. The same seed gives the same weights.
pub fn initial_weights(config: &Config, seed: u64) -> impl FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)> + use<> {
    let params: HashMap<_, _> = config.params().into_iter().map(|param| (param.name.clone(), param)).collect();
    move |name| {
        let param = params.get(name)?;
        let (shape, count) = (&param.shape, param.elements());
        let key = name.bytes().fold(mix(seed), |key, byte| mix(key ^ u64::from(byte)));
        let uniform = |index: usize| (mix(key ^ mix(index as u64)) >> 11) as f64 / 2.0_f64.powi(53);
        let values = match param.role {
            Role::ConvWeight => {
                let fan_out = shape[0] * shape[2..].iter().product::<usize>();
                let deviation = (2.0 / fan_out as f64).sqrt();
                // Box and Muller; the first number is above zero.
                let normal = |index: usize| {
                    let radius = (-2.0 * f64::ln(1.0 - uniform(2 * index))).sqrt();
                    (deviation * radius * (TAU * uniform(2 * index + 1)).cos()) as f32
                };
                (0..count).map(normal).collect()
            }
            Role::LinearWeight => {
                let most = 1.0 / (shape[1] as f64).sqrt();
                (0..count).map(|index| (most * (2.0 * uniform(index) - 1.0)) as f32).collect()
            }
            Role::NormWeight | Role::RunningVar => vec![1.0; count],
            _ => vec![0.0; count],
        };
        Some((shape.clone(), values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_spread_as_the_original_s() {
        let config = Config::imagenet(&[2, 2], 32, 64);
        let mut weights = initial_weights(&config, 5);
        for (name, deviation) in [
            // √(2 / (49 * 64)), √(2 / 128), √(2 / (9 * 32))
            ("features.conv0.weight", 0.025_254),
            ("features.denseblock1.denselayer1.conv1.weight", 0.125),
            ("features.denseblock1.denselayer1.conv2.weight", 0.083_333),
            // 1 / √(128 * 3)
            ("classifier.weight", 0.051_031),
        ] {
            let (_, values) = weights(name).unwrap();
            let count = values.len() as f64;
            let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
            let square = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / count;
            assert!(mean.abs() < 4.0 * deviation / count.sqrt(), "{name} {mean}");
            assert!((square.sqrt() / deviation - 1.0).abs() < 3.0 / count.sqrt(), "{name} {}", square.sqrt());
        }
        assert_eq!(weights("features.norm5.weight").unwrap().1, vec![1.0; 128]);
        assert_eq!(weights("classifier.bias").unwrap(), (vec![1000], vec![0.0; 1000]));
        assert!(weights("classifier").is_none());
        let first = weights("features.conv0.weight").unwrap();
        assert_eq!(initial_weights(&config, 5)("features.conv0.weight").unwrap(), first);
        assert_ne!(initial_weights(&config, 6)("features.conv0.weight").unwrap(), first);
    }
}
