//! Names of layers and their weights in frameworks that do not call them by a path, as paths that a row of rules can read.

/// What the frameworks call a layer's tensors, and torchvision's word for each. Keras 1 called the variance a deviation.
const FIELDS: [(&str, &str); 14] = [
    ("gamma", "weight"),
    ("beta", "bias"),
    ("moving_mean", "running_mean"),
    ("moving_variance", "running_var"),
    ("moving_var", "running_var"),
    ("running_mean", "running_mean"),
    ("running_variance", "running_var"),
    ("running_var", "running_var"),
    ("running_std", "running_var"),
    ("kernel", "weight"),
    ("weight", "weight"),
    ("bias", "bias"),
    ("W", "weight"),
    ("b", "bias"),
];

/// `conv1_bn_gamma` as `conv1_bn.weight`: a layer's name with its tensor behind it.
pub(crate) fn joined(name: &str) -> Option<String> {
    FIELDS.iter().find_map(|(theirs, ours)| {
        let layer = name.strip_suffix(theirs)?.strip_suffix(['_', '.'])?;
        Some(format!("{layer}.{ours}"))
    })
}

/// Whether these are names of Gluon's model zoo: it counts from 0.
pub(crate) fn is_gluon<'n>(mut names: impl Iterator<Item = &'n str>) -> bool {
    names.any(|name| gluon(name).as_deref() == Some("gluon.conv0.weight"))
}

/// A name of Gluon's model zoo, by its counters or by its place in the modules, as torchvision's behind `gluon.`.
pub(crate) fn gluon(joined: &str) -> Option<String> {
    let scoped = joined.strip_prefix("densenet").and_then(|rest| rest.split_once('_'));
    let name = scoped.filter(|(count, _)| count.bytes().all(|b| b.is_ascii_digit())).map_or(joined, |(_, name)| name);
    let (layer, field) = name.rsplit_once('.')?;
    let number = |text: &str| text.parse::<usize>().ok();
    let in_layer = |block: usize, index: usize, kind: &str| {
        Some(format!("denseblock{block}.denselayer{}.{kind}{}", index / 2 + 1, index % 2 + 1))
    };
    let module = |kind: &str, index: usize| match (kind, index) {
        (_, 0) => format!("{kind}0"),
        _ => format!("transition{index}.{kind}"),
    };
    let kind = |word: &str| if word == "batchnorm" { "norm" } else { "conv" };
    let at = |word: &'static str, text: &str| text.strip_prefix(word).and_then(number);
    let counter = |text: &str| ["batchnorm", "conv"].into_iter().find_map(|word| Some((kind(word), at(word, text)?)));
    let place: Vec<_> = layer.split('.').collect();
    let target = match place[..] {
        ["dense0" | "output"] => "classifier".to_owned(),
        [layer] => {
            let staged = layer.strip_prefix("stage").and_then(|rest| rest.split_once('_'));
            let (kind, index) = counter(staged.map_or(layer, |(_, rest)| rest))?;
            match staged {
                Some((stage, _)) => in_layer(number(stage)?, index, kind)?,
                None => module(kind, index),
            }
        }
        // HybridSequential of conv, norm, ReLU, pool, then stage and transition in turn, and the last norm.
        ["features", "0"] => "conv0".to_owned(),
        ["features", "1"] => "norm0".to_owned(),
        ["features", stage, index, "1", inner] => {
            let (kind, inner) = match inner {
                "0" => ("norm", 0),
                "2" => ("conv", 0),
                "3" => ("norm", 1),
                "5" => ("conv", 1),
                _ => return None,
            };
            in_layer(number(stage)?.checked_sub(2)? / 2, 2 * number(index)? + inner, kind)?
        }
        ["features", transition, inner] => {
            let kind = match inner {
                "0" => "norm",
                "2" => "conv",
                _ => return None,
            };
            module(kind, number(transition)?.checked_sub(3)? / 2)
        }
        // The last norm, which no convolution follows.
        ["features", norm] => module("norm", number(norm)?.checked_sub(3)? / 2),
        _ => return None,
    };
    Some(format!("gluon.{target}.{field}"))
}

/// Which transition's norm is the last norm: the one that no convolution follows.
pub(crate) fn last_norm<'t>(targets: impl Iterator<Item = &'t str> + Clone) -> Option<String> {
    let of = |target: &'t str| target.strip_prefix("features.transition")?.split_once('.');
    let convs: Vec<_> = targets.clone().filter_map(of).filter(|(_, rest)| rest.starts_with("conv.")).collect();
    let mut norms = targets.filter_map(of).filter(|(_, rest)| rest.starts_with("norm."));
    let (number, _) = norms.find(|(number, _)| convs.iter().all(|(other, _)| other != number))?;
    Some(format!("features.transition{number}.norm."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gluon_s_two_ways_of_naming_are_one() {
        // python/mxnet/gluon/model_zoo/vision/densenet.py: four stages with three transitions between them.
        for (counted, placed, ours) in [
            ("densenet0_conv0_weight", "features.0.weight", "conv0.weight"),
            ("densenet0_batchnorm0_gamma", "features.1.gamma", "norm0.weight"),
            ("densenet0_stage1_batchnorm0_beta", "features.4.0.1.0.beta", "denseblock1.denselayer1.norm1.bias"),
            ("densenet0_stage1_conv1_weight", "features.4.0.1.5.weight", "denseblock1.denselayer1.conv2.weight"),
            ("densenet0_stage3_conv46_weight", "features.8.23.1.2.weight", "denseblock3.denselayer24.conv1.weight"),
            ("densenet0_batchnorm1_running_mean", "features.5.0.running_mean", "transition1.norm.running_mean"),
            ("densenet0_conv3_weight", "features.9.2.weight", "transition3.conv.weight"),
            ("densenet0_batchnorm4_running_var", "features.11.running_var", "transition4.norm.running_var"),
            ("densenet0_dense0_bias", "output.bias", "classifier.bias"),
            ("conv0_weight", "features.0.weight", "conv0.weight"),
        ] {
            for name in [counted, placed] {
                assert_eq!(gluon(&joined(name).unwrap()), Some(format!("gluon.{ours}")), "{name}");
            }
        }
    }

    #[test]
    fn the_last_norm_is_the_one_before_no_convolution() {
        let targets =
            ["features.transition1.norm.weight", "features.transition1.conv.weight", "features.transition2.norm.bias"];
        assert_eq!(last_norm(targets.into_iter()).as_deref(), Some("features.transition2.norm."));
        assert_eq!(last_norm(targets.into_iter().take(2)), None);
    }
}
