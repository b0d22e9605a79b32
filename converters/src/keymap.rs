//! From the names of PyTorch code bases to torchvision's.

use densenet_arch::Stem;

use crate::error::Error;

/// The tensor by which a state dict is found in whatever wraps it.
const ANCHOR: &str = "features.conv0.weight";
/// Dictionaries that hold a second, averaged copy of the weights.
const AVERAGED: &str = "model_ema";

/// Where the state dict lies: the prefix of its names, as `state_dict.module.`; empty for a plain one.
pub(crate) fn prefix<'n>(names: impl Iterator<Item = &'n str>) -> Result<Option<String>, Error> {
    let all: Vec<&str> = names.filter_map(|name| name.strip_suffix(ANCHOR)).collect();
    let first: Vec<&str> = all.iter().copied().filter(|prefix| !prefix.starts_with(AVERAGED)).collect();
    let candidates = if first.is_empty() { all } else { first };
    match candidates[..] {
        [] => Ok(None),
        [only] => Ok(Some(only.to_owned())),
        _ => Err(Error::Layout(format!("several networks are in the file: {}", candidates.join(", ")))),
    }
}

/// torchvision's name for a name of the state dict.
///
/// Old torchvision files say `denselayer1.norm.1.weight` for `denselayer1.norm1.weight`; gpleiss's network calls the last
/// norm `norm_final`.
pub(crate) fn rename(name: &str) -> String {
    if let Some(field) = name.strip_prefix("features.norm_final.") {
        return format!("features.norm5.{field}");
    }
    for (old, new) in
        [(".norm.1.", ".norm1."), (".norm.2.", ".norm2."), (".conv.1.", ".conv1."), (".conv.2.", ".conv2.")]
    {
        if name.contains(".denselayer") && name.contains(old) {
            return name.replacen(old, new, 1);
        }
    }
    name.to_owned()
}

/// The protocol of a network whose file names none.
pub(crate) fn default_protocol(torch7: bool, stem: Stem, num_classes: usize) -> &'static str {
    match (stem, torch7) {
        (Stem::Cifar, _) if num_classes == 100 => "cifar100",
        (Stem::Cifar, _) => "cifar10",
        (Stem::Imagenet, true) => "torch7",
        (Stem::Imagenet, false) => "pil-bilinear",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_become_new_ones_and_new_ones_stay() {
        let cases = [
            ("features.denseblock1.denselayer12.norm.1.weight", "features.denseblock1.denselayer12.norm1.weight"),
            ("features.denseblock1.denselayer2.conv.2.weight", "features.denseblock1.denselayer2.conv2.weight"),
            ("features.norm_final.running_var", "features.norm5.running_var"),
            ("features.transition1.norm.weight", "features.transition1.norm.weight"),
            ("features.transition1.conv.weight", "features.transition1.conv.weight"),
            ("features.denseblock1.denselayer1.norm1.bias", "features.denseblock1.denselayer1.norm1.bias"),
        ];
        for (old, new) in cases {
            assert_eq!(rename(old), new);
        }
    }

    #[test]
    fn the_state_dict_is_found_by_its_first_convolution() {
        let find = |names: &[&str]| prefix(names.iter().copied());
        assert_eq!(find(&["features.conv0.weight"]).unwrap().unwrap(), "");
        let wrapped = ["best_acc1", "state_dict.module.features.conv0.weight"];
        assert_eq!(find(&wrapped).unwrap().unwrap(), "state_dict.module.");
        let averaged = ["model.features.conv0.weight", "model_ema.module.module.features.conv0.weight"];
        assert_eq!(find(&averaged).unwrap().unwrap(), "model.");
        assert!(
            find(&["a.features.conv0.weight", "b.features.conv0.weight"]).unwrap_err().to_string().contains("a., b.")
        );
        assert_eq!(find(&["fc.weight"]).unwrap(), None);
    }
}
