//! Images to learn from, with what is to be said of each.

use crate::data::{Dataset, Image};
use crate::error::Result;

/// Images with what is to be said of each.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// The images.
    pub dataset: Dataset,
    /// What is to be said of each.
    pub targets: Targets,
}

/// What is to be said of images.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// One class an image.
    Classes(Vec<usize>),
    /// (images, findings) row by row: 1 present, 0 absent, NaN unknown.
    Findings(Vec<f32>),
}

/// How often a class or a finding is to be said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Images that have it.
    pub positives: usize,
    /// Images that do not.
    pub negatives: usize,
    /// Images of which it is not known.
    pub unknown: usize,
}

impl From<Dataset> for Labelled {
    /// Takes the first label of each image.
    fn from(dataset: Dataset) -> Self {
        let labels = dataset.samples.iter().map(|sample| sample.labels.first().copied().unwrap_or_default());
        let targets = Targets::Classes(labels.collect());
        Self { dataset, targets }
    }
}

impl Labelled {
    /// Images.
    pub fn len(&self) -> usize {
        self.dataset.samples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses a class whose folder has no images.
    pub(super) fn check_folders(&self) -> Result<()> {
        let missing = self.dataset.samples.iter().find(|sample| matches!(sample.image, Image::Missing(_)));
        missing.map_or(Ok(()), |sample| sample.image.pixels().map(drop))
    }

    /// How many classes or findings there are: those with a name, or up to the highest label where none has.
    pub fn classes(&self) -> usize {
        match &self.targets {
            Targets::Classes(labels) if self.dataset.classes.is_empty() => {
                labels.iter().max().map_or(0, |most| most + 1)
            }
            _ => self.dataset.classes.len(),
        }
    }

    /// The name of a class.
    pub fn name(&self, class: usize) -> String {
        self.dataset.classes.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
    }

    /// The classes that an image has.
    pub fn of(&self, image: usize) -> Vec<usize> {
        match &self.targets {
            Targets::Classes(labels) => vec![labels[image]],
            Targets::Findings(_) => {
                let row = self.row(image);
                (0..row.len()).filter(|&finding| row[finding] == 1.0).collect()
            }
        }
    }

    /// The findings of an image: 1, 0 or NaN each; none where images have classes.
    pub fn row(&self, image: usize) -> &[f32] {
        match &self.targets {
            Targets::Classes(_) => &[],
            Targets::Findings(findings) => &findings[image * self.classes()..][..self.classes()],
        }
    }

    /// How often each class is to be said.
    pub fn counts(&self) -> Vec<Count> {
        let mut counts = vec![Count::default(); self.classes()];
        match &self.targets {
            Targets::Classes(labels) => {
                for &label in labels {
                    counts[label].positives += 1;
                }
                for count in &mut counts {
                    count.negatives = labels.len() - count.positives;
                }
            }
            Targets::Findings(findings) => {
                for row in findings.chunks_exact(counts.len().max(1)) {
                    for (count, value) in counts.iter_mut().zip(row) {
                        *match value {
                            1.0 => &mut count.positives,
                            0.0 => &mut count.negatives,
                            _ => &mut count.unknown,
                        } += 1;
                    }
                }
            }
        }
        counts
    }

    /// What each class has to count for all to weigh the same: images / (classes x images of the class), as scikit-learn's
    /// `balanced`. What a finding's positives have to count to weigh as its negatives do: negatives / positives. 0 where there
    /// are none.
    pub fn class_weights(&self) -> Vec<f32> {
        let counts = self.counts();
        let classes = counts.len();
        let weight = |count: &Count| match (&self.targets, count.positives) {
            (_, 0) => 0.0,
            (Targets::Classes(labels), positives) => labels.len() as f32 / (classes * positives) as f32,
            (Targets::Findings(_), positives) => count.negatives as f32 / positives as f32,
        };
        counts.iter().map(weight).collect()
    }

    /// Some of the images, in the order given.
    #[must_use]
    pub fn subset(&self, images: &[usize]) -> Self {
        let targets = match &self.targets {
            Targets::Classes(labels) => Targets::Classes(images.iter().map(|&image| labels[image]).collect()),
            Targets::Findings(_) => {
                Targets::Findings(images.iter().flat_map(|&image| self.row(image)).copied().collect())
            }
        };
        let samples = images.iter().map(|&image| self.dataset.samples[image].clone()).collect();
        let (kind, classes) = (self.dataset.kind, self.dataset.classes.clone());
        Self { dataset: Dataset { kind, samples, classes }, targets }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::Sample;

    /// Files `0.png`, `1.png` … with these labels.
    pub(in crate::train) fn classes(names: &[&str], labels: &[usize]) -> Labelled {
        let samples = labels.iter().enumerate().map(|(number, &label)| {
            let id = format!("{number}.png");
            Sample { image: Image::File(id.clone().into()), id, labels: vec![label] }
        });
        let classes = names.iter().map(|&name| name.to_owned()).collect();
        Dataset { kind: "image-folder", samples: samples.collect(), classes }.into()
    }

    pub(in crate::train) fn findings(names: &[&str], values: &[f32]) -> Labelled {
        let labelled = classes(names, &vec![0; values.len() / names.len()]);
        Labelled { targets: Targets::Findings(values.to_vec()), ..labelled }
    }

    #[test]
    fn classes_are_counted_and_weighed_as_scikit_learn_does() {
        let animals = classes(&["ant", "bee", "cow"], &[0, 1, 1, 2, 1, 1, 1, 2]);
        let positives: Vec<_> = animals.counts().iter().map(|count| count.positives).collect();
        assert_eq!((positives, animals.counts()[2].negatives), (vec![1, 5, 2], 6));
        // scikit-learn 1.9: compute_class_weight("balanced", classes=[0, 1, 2], y=[0, 1, 1, 2, 1, 1, 1, 2])
        let expected = [2.666_666_7, 0.533_333_3, 1.333_333_4];
        assert!(
            animals.class_weights().iter().zip(expected).all(|(weight, expected)| (weight - expected).abs() < 1e-6)
        );
        let unnamed = classes(&[], &[3, 0]);
        assert_eq!((unnamed.classes(), unnamed.name(3), unnamed.class_weights()[1]), (4, "class 3".into(), 0.0));
    }

    #[test]
    fn findings_that_are_not_known_count_for_neither_side() {
        let chests = findings(&["edema", "mass"], &[1.0, 0.0, 0.0, f32::NAN, 0.0, 1.0, 0.0, 1.0]);
        let counts =
            [(1, 3, 0), (2, 1, 1)].map(|(positives, negatives, unknown)| Count { positives, negatives, unknown });
        assert_eq!((chests.counts(), chests.class_weights()), (counts.to_vec(), vec![3.0, 0.5]));
        assert_eq!((chests.of(0), chests.of(1)), (vec![0], vec![]));
        let Targets::Findings(values) = chests.subset(&[3, 1]).targets else { panic!() };
        assert!(values[..3] == [0.0, 1.0, 0.0] && values[3].is_nan());
    }

    #[test]
    fn a_subset_keeps_the_order_asked_for() {
        let animals = classes(&["ant", "bee"], &[0, 1, 1]).subset(&[2, 0]);
        let ids: Vec<_> = animals.dataset.samples.iter().map(|sample| sample.id.as_str()).collect();
        assert_eq!((ids, animals.targets), (vec!["2.png", "0.png"], Targets::Classes(vec![1, 0])));
    }
}
