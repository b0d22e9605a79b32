//! Images to learn from.

use crate::data::Dataset;

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
    /// (images, classes): 1 present, 0 absent, NaN unknown.
    Findings(Vec<f32>),
}

impl From<Dataset> for Labelled {
    fn from(dataset: Dataset) -> Self {
        let targets = Targets::Classes(dataset.samples.iter().filter_map(|s| s.labels.first().copied()).collect());
        Self { dataset, targets }
    }
}

impl Labelled {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Images.
    pub fn len(&self) -> usize {
        self.dataset.samples.len()
    }
}
