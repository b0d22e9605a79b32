//! What an epoch came to.

use serde::{Deserialize, Serialize};

use crate::metrics::{FindingsSummary, Rate};

/// A pass over the training images, and what the network made of the others then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// The learning rate of its first step.
    pub rate: f64,
    /// The loss over the training images as they were shown.
    pub loss: f64,
    /// The share of them that was taken for another class, in percent; none where an image may have several.
    pub train_error: Option<f64>,
    /// The loss over the validation images, by the running statistics.
    pub validation_loss: f64,
    /// How good the network is on them.
    #[serde(flatten)]
    pub score: Score,
    /// Training images a second.
    pub images_per_s: f64,
    /// Seconds since the run began, over all its parts.
    pub seconds: f64,
    /// The most memory that the process has had, in MiB, where the system tells.
    pub memory_mib: Option<f64>,
}

/// How good a network is on images that it was not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Score {
    /// One class an image.
    Error {
        /// The best class is wrong.
        error: Rate,
        /// No right class among the best five.
        top5_error: Rate,
    },
    /// Any findings an image.
    Findings {
        /// The areas under their curves.
        auroc: FindingsSummary,
    },
}

impl Score {
    /// Whether it is better, and not only as good.
    pub fn is_better_than(&self, other: &Self) -> bool {
        self.cost() < other.cost()
    }

    /// What the best network has the least of.
    fn cost(&self) -> f64 {
        match self {
            Self::Error { error, .. } => error.wrong as f64,
            Self::Findings { auroc } => 1.0 - auroc.mean_auroc.unwrap_or(0.0),
        }
    }
}

/// The first of the best.
pub(super) fn best(history: &[Epoch]) -> Option<&Epoch> {
    history.iter().reduce(|best, next| if next.score.is_better_than(&best.score) { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equals_the_first_is_best() {
        let epoch = |(number, wrong): (usize, usize)| Epoch {
            epoch: number,
            rate: 0.1,
            loss: 1.0,
            train_error: None,
            validation_loss: 1.0,
            score: Score::Error { error: Rate::new(wrong, 100), top5_error: Rate::new(0, 100) },
            images_per_s: 1.0,
            seconds: 1.0,
            memory_mib: None,
        };
        let history: Vec<_> = [(1, 9), (2, 4), (3, 7), (4, 4)].map(epoch).into();
        assert_eq!(best(&history).map(|epoch| epoch.epoch), Some(2));
        assert_eq!(best(&[]), None);
        // As a line of JSON and back.
        let line = serde_json::to_string(&history[1]).unwrap();
        assert!(line.contains(r#""error":{"wrong":4,"of":100,"percent":4.0"#), "{line}");
        assert_eq!(serde_json::from_str::<Epoch>(&line).unwrap(), history[1]);
    }
}
