//! From the names of PyTorch code bases to torchvision's. A code base is a row of rules, found by a tensor that it always
//! has; what wraps its state dict is whatever stands before that tensor's name.

use densenet_arch::Stem;

use crate::checkpoint::Format;
use crate::error::Error;

/// Which network to take where a file holds several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The one under this path, as `state_dict.module` or `teacher`.
    pub prefix: Option<String>,
    /// The averaged weights (`model_ema`, `state_dict_ema` …) instead of the plain ones.
    pub ema: bool,
}

impl Choice {
    /// Chooses among the paths of networks; `None` where there is none.
    pub(crate) fn of(&self, mut candidates: Vec<String>) -> Result<Option<String>, Error> {
        candidates.sort();
        candidates.dedup();
        if let Some(prefix) = &self.prefix {
            let prefix = prefix.trim_end_matches('.');
            return match candidates.iter().position(|path| path == prefix) {
                Some(found) => Ok(Some(candidates.swap_remove(found))),
                None => Err(Error::Choice(format!("no network lies under {prefix:?}; found: {}", listed(&candidates)))),
            };
        }
        let (averaged, plain): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|path| is_averaged(path));
        let mut wanted = match (self.ema, averaged.is_empty(), plain.is_empty()) {
            (true, true, false) => {
                return Err(Error::Choice(format!("no averaged weights are in the file; found: {}", listed(&plain))));
            }
            (true, ..) | (false, _, true) => averaged,
            (false, _, false) => plain,
        };
        if wanted.len() > 1 {
            let listed = listed(&wanted);
            return Err(Error::Choice(format!(
                "several networks are in the file: {listed}; --prefix NAME chooses one"
            )));
        }
        Ok(wanted.pop())
    }
}

/// The paths of networks, for a message.
fn listed(paths: &[String]) -> String {
    let shown: Vec<_> = paths
        .iter()
        .map(|path| if path.is_empty() { "one without a prefix".into() } else { format!("{path:?}") })
        .collect();
    if shown.is_empty() { "none".into() } else { shown.join(", ") }
}

/// Whether a step of the path says that its weights are an average of those of the training.
fn is_averaged(path: &str) -> bool {
    path.split(['.', '_']).any(|word| matches!(word, "ema" | "swa" | "averaged"))
}

/// The names of one code base.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Names of the first convolution, one of which is always there: behind any path, or behind none where it begins with `^`.
    anchors: &'static [&'static str],
    /// From its names to torchvision's; the first that fits counts. `#` is a number, in the target with what is added to
    /// it; `?` one that is left out; `*`, which ends every rule, the rest.
    rules: &'static [(&'static str, &'static str)],
    /// What its networks add to the variance, where its files do not say.
    pub(crate) eps: Option<f64>,
    /// How its networks take an image, where that is not the format's usual way.
    pub(crate) protocol: Option<&'static str>,
}

impl Layout {
    const fn plain(anchors: &'static [&'static str], rules: &'static [(&'static str, &'static str)]) -> Self {
        Self { anchors, rules, eps: None, protocol: None }
    }
}

/// The names of PyTorch's code bases, and of what is written here.
pub(crate) const PYTORCH: &[Layout] = &[
    // torchvision and timm; before 2018 with `norm.1` for `norm1`; gpleiss's network ends in `norm_final`.
    Layout::plain(
        &["features.conv0.weight"],
        &[
            ("features.norm_final.*", "features.norm5.*"),
            ("features.denseblock#.denselayer#.norm.#.*", "features.denseblock#+0.denselayer#+0.norm#+0.*"),
            ("features.denseblock#.denselayer#.conv.#.*", "features.denseblock#+0.denselayer#+0.conv#+0.*"),
            ("features.*", "features.*"),
            ("classifier.*", "classifier.*"),
        ],
    ),
    // pytorchcv (osmr/imgclsmob): ImageNet stem, CIFAR stem, layers with and without bottleneck.
    Layout::plain(
        &["features.init_block.conv.weight", "features.init_block.weight"],
        &[
            ("features.init_block.conv.*", "features.conv0.*"),
            ("features.init_block.bn.*", "features.norm0.*"),
            ("features.init_block.*", "features.conv0.*"),
            ("features.stage#.unit#.conv#.bn.*", "features.denseblock#+0.denselayer#+0.norm#+0.*"),
            ("features.stage#.unit#.conv#.conv.*", "features.denseblock#+0.denselayer#+0.conv#+0.*"),
            ("features.stage#.unit#.conv.bn.*", "features.denseblock#+0.denselayer#+0.norm1.*"),
            ("features.stage#.unit#.conv.conv.*", "features.denseblock#+0.denselayer#+0.conv1.*"),
            ("features.stage#.trans#.conv.bn.*", "features.transition#-1.norm.*"),
            ("features.stage#.trans#.conv.conv.*", "features.transition#-1.conv.*"),
            ("features.post_activ.bn.*", "features.norm5.*"),
            ("output.*", "classifier.*"),
        ],
    ),
    // mmpretrain: a backbone and a head, counted from 0; the last "transition" is the last norm.
    Layout::plain(
        &["backbone.stem.0.weight"],
        &[
            ("backbone.stem.0.*", "features.conv0.*"),
            ("backbone.stem.1.*", "features.norm0.*"),
            ("backbone.stages.#.block.#.*", "features.denseblock#+1.denselayer#+1.*"),
            ("backbone.transitions.#.0.*", "features.norm5.*"),
            ("backbone.transitions.#.*", "features.transition#+1.*"),
            ("head.fc.*", "classifier.*"),
        ],
    ),
];

/// The names of layers in ports to other frameworks, as names.rs makes paths of them.
pub(crate) const PORTS: &[Layout] = &[
    // shicai's Caffe names, as Caffe, MXNet and Keras have them: blocks from 2, a second scale behind each batch norm, and in the
    // largest network a number more before `blk`.
    Layout {
        protocol: Some("opencv-bilinear"),
        ..Layout::plain(
            &["^conv1.weight"],
            &[
                ("conv1_bn.*", "features.norm0.*"),
                ("conv1_scale.*", "features.norm0.second.*"),
                ("conv1.*", "features.conv0.*"),
                ("conv#_#_x#_bn.*", "features.denseblock#-1.denselayer#+0.norm#+0.*"),
                ("conv#_#_x#_scale.*", "features.denseblock#-1.denselayer#+0.norm#+0.second.*"),
                ("conv#_#_x#.*", "features.denseblock#-1.denselayer#+0.conv#+0.*"),
                ("conv#_blk_bn.*", "features.transition#-1.norm.*"),
                ("conv#_?_blk_bn.*", "features.transition#-1.norm.*"),
                ("conv#_blk_scale.*", "features.transition#-1.norm.second.*"),
                ("conv#_?_blk_scale.*", "features.transition#-1.norm.second.*"),
                ("conv#_blk.*", "features.transition#-1.conv.*"),
                ("conv#_?_blk.*", "features.transition#-1.conv.*"),
                ("fc?.*", "classifier.*"),
            ],
        )
    },
    // keras.applications; its pools are the transitions.
    Layout {
        eps: Some(1.001e-5),
        ..Layout::plain(
            &["^conv1_conv.weight"],
            &[
                ("conv1_conv.*", "features.conv0.*"),
                ("conv1_bn.*", "features.norm0.*"),
                ("conv#_block#_0_bn.*", "features.denseblock#-1.denselayer#+0.norm1.*"),
                ("conv#_block#_1_bn.*", "features.denseblock#-1.denselayer#+0.norm2.*"),
                ("conv#_block#_1_conv.*", "features.denseblock#-1.denselayer#+0.conv1.*"),
                ("conv#_block#_2_conv.*", "features.denseblock#-1.denselayer#+0.conv2.*"),
                ("pool#_bn.*", "features.transition#-1.norm.*"),
                ("pool#_conv.*", "features.transition#-1.conv.*"),
                ("bn.*", "features.norm5.*"),
                ("fc?.*", "classifier.*"),
                ("predictions.*", "classifier.*"),
            ],
        )
    },
    // Gluon's model zoo, its counters turned into torchvision's numbers by names.rs.
    Layout {
        eps: Some(1e-5),
        protocol: Some("pil-bilinear"),
        ..Layout::plain(&["^gluon.conv0.weight"], &[("gluon.classifier.*", "classifier.*"), ("gluon.*", "features.*")])
    },
];

/// A state dict in a file.
#[derive(Debug)]
pub(crate) struct StateDict {
    /// What stands before its names: empty, or a path with a dot at its end.
    pub(crate) prefix: String,
    pub(crate) layout: &'static Layout,
    /// What stands before the names of the file's other networks.
    others: Vec<String>,
}

impl StateDict {
    /// Finds the one that is asked for.
    pub(crate) fn find(layouts: &'static [Layout], names: &[&str], choice: &Choice) -> Result<Option<Self>, Error> {
        let mut candidates = Vec::new();
        for layout in layouts {
            for anchor in layout.anchors {
                let (anchor, alone) = anchor.strip_prefix('^').map_or((*anchor, false), |anchor| (anchor, true));
                let prefixes = names.iter().filter_map(|name| name.strip_suffix(anchor));
                let whole = prefixes.filter(|prefix| prefix.is_empty() || !alone && prefix.ends_with('.'));
                candidates.extend(whole.map(|prefix| (prefix.trim_end_matches('.').to_owned(), layout)));
            }
        }
        let Some(chosen) = choice.of(candidates.iter().map(|(path, _)| path.clone()).collect())? else {
            return Ok(None);
        };
        let prefix = |path: &str| if path.is_empty() { String::new() } else { format!("{path}.") };
        let others = candidates.iter().filter(|(path, _)| *path != chosen && !path.is_empty());
        let others = others.map(|(path, _)| prefix(path)).collect();
        let found = candidates.iter().find(|(path, _)| *path == chosen);
        Ok(found.map(|(path, layout)| Self { prefix: prefix(path), layout, others }))
    }

    /// torchvision's name for a name of the file; `None` if it belongs to no part of a DenseNet.
    pub(crate) fn target(&self, name: &str) -> Option<String> {
        let inner = name.strip_prefix(&self.prefix)?;
        self.layout.rules.iter().find_map(|(from, to)| rewrite(inner, from, to))
    }

    /// Why a name that has no place in the network is no loss, if that is so.
    pub(crate) fn rule(&self, name: &str) -> Option<&'static str> {
        let first = self.prefix.split_inclusive('.').next().unwrap_or_default();
        if self.others.iter().any(|other| name.starts_with(other)) {
            Some("another network of the file")
        } else if name.ends_with("n_averaged") {
            Some("count of averaged models")
        } else {
            (!name.starts_with(first)).then_some("beside the state dict (optimiser, counters)")
        }
    }
}

/// Applies one rule, if it fits.
fn rewrite(name: &str, from: &str, to: &str) -> Option<String> {
    let mut left = name;
    let mut numbers = Vec::new();
    for pattern in from.chars() {
        match pattern {
            '*' => return filled(to, &numbers, Some(left).filter(|rest| !rest.is_empty())?),
            '#' | '?' => {
                let end = left.find(|c: char| !c.is_ascii_digit()).unwrap_or(left.len());
                let (digits, rest) = left.split_at(end);
                let number = number(digits)?;
                if pattern == '#' {
                    numbers.push(number);
                }
                left = rest;
            }
            _ => left = left.strip_prefix(pattern)?,
        }
    }
    None
}

/// A target with its numbers, and the rest of the name for `*`.
fn filled(to: &str, numbers: &[i64], rest: &str) -> Option<String> {
    let mut numbers = numbers.iter();
    let target = to.split('.').map(|step| match (step, step.split_once('#')) {
        ("*", _) => Some(rest.to_owned()),
        (_, Some((word, shift))) => Some(format!("{word}{}", numbers.next()?.checked_add(shift.parse().ok()?)?)),
        _ => Some(step.to_owned()),
    });
    target.collect::<Option<Vec<_>>>().map(|steps| steps.join("."))
}

/// A number as a module's name: digits without a leading zero.
fn number(text: &str) -> Option<i64> {
    let plain = text == "0" || !text.starts_with('0');
    plain.then(|| text.parse().ok())?
}

/// The protocol of a network whose file names none.
pub(crate) fn default_protocol(format: Format, stem: Stem, num_classes: usize) -> &'static str {
    match (stem, format) {
        (Stem::Cifar, _) if num_classes == 100 => "cifar100",
        (Stem::Cifar, _) => "cifar10",
        (Stem::Imagenet, Format::Torch7) => "torch7",
        (Stem::Imagenet, Format::Caffe | Format::Mxnet) => "opencv-bilinear",
        (Stem::Imagenet, _) => "pil-bilinear",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(names: &[&str], choice: &Choice) -> Result<String, String> {
        match StateDict::find(PYTORCH, names, choice) {
            Ok(Some(dict)) => Ok(dict.prefix),
            Ok(None) => Err("none".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn names_of_every_code_base_become_torchvision_s() {
        let cases = [
            (
                "features.conv0.weight",
                "features.denseblock1.denselayer12.norm.1.weight",
                "features.denseblock1.denselayer12.norm1.weight",
            ),
            (
                "features.conv0.weight",
                "features.denseblock1.denselayer2.conv.2.weight",
                "features.denseblock1.denselayer2.conv2.weight",
            ),
            ("features.conv0.weight", "features.norm_final.running_var", "features.norm5.running_var"),
            ("features.conv0.weight", "features.transition1.norm.weight", "features.transition1.norm.weight"),
            (
                "features.conv0.weight",
                "features.denseblock1.denselayer1.norm1.bias",
                "features.denseblock1.denselayer1.norm1.bias",
            ),
            (
                "features.init_block.conv.weight",
                "features.stage2.trans2.conv.bn.bias",
                "features.transition1.norm.bias",
            ),
            (
                "features.init_block.conv.weight",
                "features.stage4.unit16.conv2.conv.weight",
                "features.denseblock4.denselayer16.conv2.weight",
            ),
            (
                "features.init_block.weight",
                "features.stage1.unit2.conv.conv.weight",
                "features.denseblock1.denselayer2.conv1.weight",
            ),
            ("features.init_block.weight", "features.init_block.weight", "features.conv0.weight"),
            (
                "backbone.stem.0.weight",
                "backbone.stages.0.block.5.norm2.weight",
                "features.denseblock1.denselayer6.norm2.weight",
            ),
            ("backbone.stem.0.weight", "backbone.transitions.3.0.running_mean", "features.norm5.running_mean"),
            ("backbone.stem.0.weight", "backbone.transitions.1.conv.weight", "features.transition2.conv.weight"),
            ("backbone.stem.0.weight", "head.fc.bias", "classifier.bias"),
        ];
        for (anchor, old, new) in cases {
            let dict = StateDict::find(PYTORCH, &[anchor], &Choice::default()).unwrap().unwrap();
            assert_eq!(dict.target(old).as_deref(), Some(new), "{old}");
        }
        let dict = StateDict::find(PYTORCH, &["features.conv0.weight"], &Choice::default()).unwrap().unwrap();
        assert_eq!(dict.target("fc.weight"), None);
    }

    #[test]
    fn names_of_every_port_become_torchvision_s() {
        let cases = [
            ("conv1.weight", "conv1_scale.bias", "features.norm0.second.bias"),
            ("conv1.weight", "conv3_12_x2.weight", "features.denseblock2.denselayer12.conv2.weight"),
            ("conv1.weight", "conv5_16_x1_bn.running_var", "features.denseblock4.denselayer16.norm1.running_var"),
            ("conv1.weight", "conv4_blk.weight", "features.transition3.conv.weight"),
            ("conv1.weight", "conv5_32_blk_bn.weight", "features.transition4.norm.weight"),
            ("conv1.weight", "fc6.bias", "classifier.bias"),
            ("conv1_conv.weight", "conv2_block6_0_bn.bias", "features.denseblock1.denselayer6.norm1.bias"),
            ("conv1_conv.weight", "conv5_block16_2_conv.weight", "features.denseblock4.denselayer16.conv2.weight"),
            ("conv1_conv.weight", "pool3_conv.weight", "features.transition2.conv.weight"),
            ("conv1_conv.weight", "bn.running_mean", "features.norm5.running_mean"),
            ("conv1_conv.weight", "fc1000.weight", "classifier.weight"),
        ];
        for (anchor, old, new) in cases {
            let dict = StateDict::find(PORTS, &[anchor], &Choice::default()).unwrap().unwrap();
            assert_eq!(dict.target(old).as_deref(), Some(new), "{old}");
        }
    }

    #[test]
    fn the_state_dict_is_found_by_its_first_convolution() {
        let plain = Choice::default();
        assert_eq!(find(&["features.conv0.weight"], &plain).unwrap(), "");
        let wrapped = ["best_acc1", "state_dict.module.features.conv0.weight"];
        assert_eq!(find(&wrapped, &plain).unwrap(), "state_dict.module.");
        let averaged = ["model.features.conv0.weight", "model_ema.module.module.features.conv0.weight"];
        assert_eq!(find(&averaged, &plain).unwrap(), "model.");
        let ema = Choice { ema: true, ..Choice::default() };
        assert_eq!(find(&averaged, &ema).unwrap(), "model_ema.module.module.");
        assert!(find(&averaged[..1], &ema).unwrap_err().contains("no averaged weights"));
        assert_eq!(find(&averaged[1..], &plain).unwrap(), "model_ema.module.module.");
        assert_eq!(find(&["fc.weight", "myfeatures.conv0.weight"], &plain).unwrap_err(), "none");
    }

    #[test]
    fn several_networks_are_listed_with_the_flag_that_chooses() {
        let two = ["student.features.conv0.weight", "teacher.features.conv0.weight"];
        let text = find(&two, &Choice::default()).unwrap_err();
        assert!(text.contains("\"student\", \"teacher\"; --prefix NAME"), "{text}");
        let chosen = |prefix: &str| find(&two, &Choice { prefix: Some(prefix.into()), ema: false });
        assert_eq!(chosen("teacher").unwrap(), "teacher.");
        assert_eq!(chosen("student.").unwrap(), "student.");
        assert_eq!(chosen("other").unwrap_err(), "no network lies under \"other\"; found: \"student\", \"teacher\"");
        let other = Choice { prefix: Some("other".into()), ema: false };
        let text = find(&["features.conv0.weight"], &other).unwrap_err();
        assert_eq!(text, "no network lies under \"other\"; found: one without a prefix");
    }
}
