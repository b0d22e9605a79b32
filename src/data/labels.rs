//! Class names: a model's own, or ImageNet's.

use std::sync::LazyLock;

use crate::error::{Error, Result};

/// Index, WordNet id, lemmas of the 1000 classes of ILSVRC2012, sorted by WordNet id.
static IMAGENET: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
    let rows = include_str!("imagenet_classes.tsv").lines().skip(1);
    rows.filter_map(|row| row.split_once('\t')?.1.split_once('\t')).collect()
});

/// The class of a WordNet id.
pub(super) fn imagenet_class(id: &str) -> Option<usize> {
    IMAGENET.binary_search_by(|(known, _)| (*known).cmp(id)).ok()
}

/// All WordNet ids of ILSVRC2012, sorted.
pub(super) fn imagenet_ids() -> Vec<String> {
    IMAGENET.iter().map(|(id, _)| (*id).to_owned()).collect()
}

/// The name of each output of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// The model's own.
    Own(Vec<String>),
    /// The 1000 of ILSVRC2012.
    Imagenet,
    /// So many without names.
    Numbered(usize),
}

impl Labels {
    /// The model's own names where there is one a class, else ImageNet's for 1000 classes, else numbers.
    pub fn new(own: Option<Vec<String>>, classes: usize) -> Self {
        match own {
            Some(names) if names.len() == classes => Self::Own(names),
            _ if classes == IMAGENET.len() => Self::Imagenet,
            _ => Self::Numbered(classes),
        }
    }

    /// How many classes there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Own(names) => names.len(),
            Self::Imagenet => IMAGENET.len(),
            Self::Numbered(classes) => *classes,
        }
    }

    /// The name of a class: `tench, Tinca tinca`.
    pub fn name(&self, class: usize) -> String {
        match self {
            Self::Own(names) => names.get(class).cloned(),
            Self::Imagenet => IMAGENET.get(class).map(|(_, name)| (*name).to_owned()),
            Self::Numbered(_) => None,
        }
        .unwrap_or_else(|| format!("class {class}"))
    }

    /// The class of that name (a WordNet id for ImageNet).
    pub fn find(&self, name: &str) -> Option<usize> {
        match self {
            Self::Own(own) => own.iter().position(|known| known == name),
            Self::Imagenet => imagenet_class(name),
            Self::Numbered(_) => None,
        }
    }

    /// The network's class for each of a data set's classes: by name (WordNet id for ImageNet), by number if all are numbers
    /// (as in ImageNet-V2, whose folders sorted as text would come in another order), else by position if the counts agree.
    /// Fewer classes than the network's are fine if each has a name that the network knows.
    pub fn match_classes(&self, names: &[String]) -> Result<Vec<usize>> {
        let found: Vec<_> = names.iter().map(|name| self.find(name)).collect();
        let number = |name: &String| name.parse().ok().filter(|&index: &usize| index < self.count() && name.len() < 9);
        let numbers: Option<Vec<usize>> = names.iter().map(number).collect();
        match (found.iter().position(Option::is_none), numbers) {
            (None, _) => Ok(found.into_iter().flatten().collect()),
            (Some(_), Some(numbers)) if found.iter().all(Option::is_none) => Ok(numbers),
            // No name at all is known, but the count agrees: sorted order, as torchvision has it.
            (Some(_), _) if names.len() == self.count() && found.iter().all(Option::is_none) => {
                Ok((0..names.len()).collect())
            }
            (Some(unknown), _) => Err(Error::Usage(format!(
                "the data has {} classes and the network {}, and {:?} is none of the network's names; --class-map FILE says \
                 which each is",
                names.len(),
                self.count(),
                names[unknown]
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn imagenet_s_thousand_names_are_in_wordnet_order() {
        let labels = Labels::new(None, 1000);
        assert_eq!(labels, Labels::Imagenet);
        assert_eq!(labels.name(0), "tench, Tinca tinca");
        assert_eq!(labels.name(999), "toilet tissue, toilet paper, bathroom tissue");
        assert!(IMAGENET.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn folders_are_matched_by_name_before_position() {
        let imagenet = Labels::Imagenet;
        assert_eq!(imagenet.match_classes(&names(&["n01443537", "n01440764"])).unwrap(), [1, 0]);
        assert!(imagenet.match_classes(&names(&["n01443537", "cat"])).unwrap_err().to_string().contains("\"cat\""));
        let own = Labels::new(Some(names(&["normal", "ill"])), 2);
        assert_eq!(own.match_classes(&names(&["ill", "normal"])).unwrap(), [1, 0]);
        assert_eq!(own.match_classes(&names(&["a", "b"])).unwrap(), [0, 1]);
        // One known name shows that names count: the other is an error, not a position.
        assert!(own.match_classes(&names(&["ill", "b"])).is_err());
        // ImageNet-V2's folders are class numbers, sorted as text.
        assert_eq!(imagenet.match_classes(&names(&["0", "1", "10", "2"])).unwrap(), [0, 1, 10, 2]);
        assert!(imagenet.match_classes(&names(&["0", "1000"])).is_err());
    }

    #[test]
    fn a_wrong_number_of_own_names_is_not_used() {
        assert_eq!(Labels::new(Some(names(&["a"])), 14), Labels::Numbered(14));
        assert_eq!(Labels::Numbered(14).name(3), "class 3");
    }
}
