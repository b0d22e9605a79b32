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
struct Layout {
    /// Names of the first convolution, one of which is always there.
    anchors: &'static [&'static str],
    /// From its names to torchvision's; the first that fits counts. `#` is a number, in the target with what is added to
    /// it; `*` the rest.
    rules: &'static [(&'static str, &'static str)],
}

const LAYOUTS: [Layout; 3] = [
    // torchvision and timm; before 2018 with `norm.1` for `norm1`; gpleiss's network ends in `norm_final`.
    Layout {
        anchors: &["features.conv0.weight"],
        rules: &[
            ("features.norm_final.*", "features.norm5.*"),
            ("features.denseblock#.denselayer#.norm.#.*", "features.denseblock#+0.denselayer#+0.norm#+0.*"),
            ("features.denseblock#.denselayer#.conv.#.*", "features.denseblock#+0.denselayer#+0.conv#+0.*"),
            ("features.*", "features.*"),
            ("classifier.*", "classifier.*"),
        ],
    },
    // pytorchcv (osmr/imgclsmob): ImageNet stem, CIFAR stem, layers with and without bottleneck.
    Layout {
        anchors: &["features.init_block.conv.weight", "features.init_block.weight"],
        rules: &[
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
    },
    // mmpretrain: a backbone and a head, counted from 0; the last "transition" is the last norm.
    Layout {
        anchors: &["backbone.stem.0.weight"],
        rules: &[
            ("backbone.stem.0.*", "features.conv0.*"),
            ("backbone.stem.1.*", "features.norm0.*"),
            ("backbone.stages.#.block.#.*", "features.denseblock#+1.denselayer#+1.*"),
            ("backbone.transitions.#.0.*", "features.norm5.*"),
            ("backbone.transitions.#.*", "features.transition#+1.*"),
            ("head.fc.*", "classifier.*"),
        ],
    },
];

/// A state dict in a file.
#[derive(Debug)]
pub(crate) struct StateDict {
    /// What stands before its names: empty, or a path with a dot at its end.
    pub(crate) prefix: String,
    layout: &'static Layout,
    /// What stands before the names of the file's other networks.
    others: Vec<String>,
}

impl StateDict {
    /// Finds the one that is asked for.
    pub(crate) fn find(names: &[&str], choice: &Choice) -> Result<Option<Self>, Error> {
        let mut candidates = Vec::new();
        for layout in &LAYOUTS {
            for anchor in layout.anchors {
                let prefixes = names.iter().filter_map(|name| name.strip_suffix(anchor));
                let whole = prefixes.filter(|prefix| prefix.is_empty() || prefix.ends_with('.'));
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
    let mut steps = name.split('.');
    let mut numbers = Vec::new();
    let mut rest = None;
    for pattern in from.split('.') {
        if pattern == "*" {
            let remaining: Vec<_> = steps.by_ref().collect();
            rest = (!remaining.is_empty()).then(|| remaining.join("."));
            rest.as_ref()?;
            continue;
        }
        let step = steps.next()?;
        match pattern.strip_suffix('#') {
            Some(word) => numbers.push(number(step.strip_prefix(word)?)?),
            None if step == pattern => {}
            None => return None,
        }
    }
    let mut numbers = numbers.into_iter();
    let target = to.split('.').map(|step| match (step, step.split_once('#')) {
        ("*", _) => rest.clone(),
        (_, Some((word, shift))) => Some(format!("{word}{}", numbers.next()?.checked_add(shift.parse().ok()?)?)),
        _ => Some(step.to_owned()),
    });
    target.collect::<Option<Vec<_>>>().map(|steps| steps.join("."))
}

/// A number as a module's name: digits without a leading zero.
fn number(text: &str) -> Option<i64> {
    let plain = text == "0" || !text.starts_with('0');
    (plain && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The protocol of a network whose file names none.
pub(crate) fn default_protocol(format: Format, stem: Stem, num_classes: usize) -> &'static str {
    match (stem, format) {
        (Stem::Cifar, _) if num_classes == 100 => "cifar100",
        (Stem::Cifar, _) => "cifar10",
        (Stem::Imagenet, Format::Torch7) => "torch7",
        (Stem::Imagenet, Format::Caffe) => "opencv-bilinear",
        (Stem::Imagenet, _) => "pil-bilinear",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(names: &[&str], choice: &Choice) -> Result<String, String> {
        match StateDict::find(names, choice) {
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
            let dict = StateDict::find(&[anchor], &Choice::default()).unwrap().unwrap();
            assert_eq!(dict.target(old).as_deref(), Some(new), "{old}");
        }
        let dict = StateDict::find(&["features.conv0.weight"], &Choice::default()).unwrap().unwrap();
        assert_eq!(dict.target("fc.weight"), None);
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
