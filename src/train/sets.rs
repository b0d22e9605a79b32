//! Which images a run trains on and which it validates by, from what a user has.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::labelled::{Labelled, Targets};
use super::split::Split;
use crate::data::pair;
use crate::data::sheet::{Reading, Sheet, is_sheet};
use crate::error::{Error, Result};

/// What the images are chosen by. The same choice gives the same images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// A folder of images, or the CSV file beside them.
    pub data: PathBuf,
    /// The CSV file, where `data` is the folder that its paths are relative to.
    pub labels: Option<PathBuf>,
    /// How the CSV file is read.
    pub reading: Reading,
    /// The file of a split that was made before.
    pub split: Option<PathBuf>,
    /// Otherwise the share of the images that validate, where they are not kept apart already.
    pub share: f64,
    /// What they are drawn from.
    pub seed: u64,
}

/// The images of a run.
#[derive(Clone, Debug)]
pub struct Sets {
    /// Those that it trains on.
    pub training: Labelled,
    /// Those that it validates by.
    pub validation: Labelled,
    /// The text of `split.csv`, where the images were one set.
    pub split: Option<String>,
}

impl Choice {
    /// The share that validates if nothing is said.
    pub const SHARE: f64 = 0.2;

    /// Reads the names and labels of all images, and parts them.
    pub fn open(&self) -> Result<Sets> {
        if !(self.share > 0.0 && self.share < 1.0) {
            return Err(Error::Usage(format!("a share of {} to validate; it lies between 0 and 1", self.share)));
        }
        let (root, sheet) = match (&self.labels, self.data.parent()) {
            (Some(labels), _) => (self.data.as_path(), Some(labels)),
            (None, Some(root)) if is_sheet(&self.data) => (root, Some(&self.data)),
            _ => (self.data.as_path(), None),
        };
        let (labelled, parts, groups) = match sheet {
            Some(file) => {
                let Sheet { dataset, findings, parts, groups } = Sheet::open(file, root, &self.reading)?;
                let labelled = match findings {
                    None => dataset.into(),
                    Some(findings) => Labelled { dataset, targets: Targets::Findings(findings) },
                };
                (labelled, parts, groups)
            }
            None if self.reading != Reading::default() => {
                let reason = "--group, --classes and --uncertain are for labels from a CSV file; --labels FILE.csv";
                return Err(Error::Usage(reason.into()));
            }
            None => match pair::open(None, root)? {
                (training, None) => {
                    let training = Labelled::from(training);
                    training.check_folders()?;
                    (training, None, None)
                }
                (training, Some(validation)) if self.split.is_none() => {
                    let (training, validation) = (training.into(), validation.into());
                    return Ok(Sets { training, validation, split: None });
                }
                (..) => {
                    let reason = "its validation images are kept apart; a split is for a folder of all images";
                    return Err(Error::data(root, reason));
                }
            },
        };
        let split = match (&self.split, parts) {
            (Some(file), _) => Split::open(file, &labelled, root)?,
            (None, Some(parts)) => Split(parts),
            (None, None) => Split::draw(&labelled, groups.as_deref(), self.share, self.seed)?,
        };
        // A group of a published file's own may be meant to be divided; one that was asked for is not.
        let asked = groups.as_deref().filter(|_| self.reading.group.is_some());
        if let Some(group) = asked.and_then(|groups| split.divides(groups)) {
            return Err(Error::Usage(format!("the split that is given divides the group {group:?}")));
        }
        let (training, validation) = split.apply(&labelled);
        Ok(Sets { training, validation, split: Some(split.to_csv(&labelled, root)?) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn choice(data: &Path) -> Choice {
        let (labels, split, reading) = (None, None, Reading::default());
        Choice { data: data.to_owned(), labels, reading, split, share: 0.25, seed: 7 }
    }

    fn ids(labelled: &Labelled) -> Vec<String> {
        labelled.dataset.samples.iter().map(|sample| sample.id.clone()).collect()
    }

    fn folder() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (class, images) in [("ant", 8), ("bee", 4)] {
            std::fs::create_dir_all(root.path().join("all").join(class)).unwrap();
            for image in 0..images {
                std::fs::write(root.path().join(format!("all/{class}/{image}.png")), "").unwrap();
            }
        }
        root
    }

    #[test]
    fn a_split_that_was_kept_gives_the_same_images_as_split_and_as_labels() {
        let root = folder();
        let all = root.path().join("all");
        let sets = choice(&all).open().unwrap();
        assert_eq!((sets.training.len(), sets.validation.len()), (9, 3));
        let kept = root.path().join("split.csv");
        std::fs::write(&kept, sets.split.as_ref().unwrap()).unwrap();
        let as_split = Choice { split: Some(kept.clone()), seed: 8, ..choice(&all) }.open().unwrap();
        let as_labels = Choice { labels: Some(kept.clone()), seed: 8, ..choice(&all) }.open().unwrap();
        std::fs::rename(kept, all.join("split.csv")).unwrap();
        let alone = choice(&all.join("split.csv")).open().unwrap();
        for again in [as_split, as_labels, alone] {
            assert_eq!((ids(&again.training), ids(&again.validation)), (ids(&sets.training), ids(&sets.validation)));
            assert_eq!((&again.training.targets, &again.split), (&sets.training.targets, &sets.split));
        }
    }

    #[test]
    fn a_group_that_a_given_split_divides_is_named() {
        let root = folder();
        let file = root.path().join("all/labels.csv");
        std::fs::write(
            &file,
            "path,label,who,split\nant/0.png,ant,ann,train\nant/1.png,ant,bob,val\nbee/0.png,bee,ann,val\n",
        )
        .unwrap();
        let reading = Reading { group: Some("who".into()), ..Reading::default() };
        let divided = Choice { reading, ..choice(&file) };
        assert_eq!(divided.open().unwrap_err().to_string(), "the split that is given divides the group \"ann\"");
    }

    #[test]
    fn validation_images_that_are_kept_apart_are_not_parted_again() {
        let root = folder();
        std::fs::rename(root.path().join("all"), root.path().join("train")).unwrap();
        std::fs::create_dir_all(root.path().join("val/bee")).unwrap();
        std::fs::write(root.path().join("val/bee/x.png"), "").unwrap();
        let sets = choice(root.path()).open().unwrap();
        assert_eq!((sets.training.len(), sets.validation.targets, sets.split), (12, Targets::Classes(vec![1]), None));
        let split = Choice { split: Some("split.csv".into()), ..choice(root.path()) };
        assert!(split.open().unwrap_err().to_string().ends_with("a split is for a folder of all images"));
        let all = Choice { share: 1.0, ..choice(root.path()) };
        assert!(all.open().unwrap_err().to_string().contains("it lies between 0 and 1"));
    }
}
