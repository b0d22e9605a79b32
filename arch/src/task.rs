//! What the outputs of a network stand for.

use serde::{Deserialize, Serialize};

/// What the outputs of a network stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Classes of which an image has one: their softmax are probabilities.
    #[default]
    SingleLabel,
    /// Findings of which an image may have any: each one's sigmoid is its probability.
    MultiLabel,
}

impl Task {
    /// The name in metadata: `single-label`, `multi-label`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleLabel => "single-label",
            Self::MultiLabel => "multi-label",
        }
    }

    /// The task of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::SingleLabel, Self::MultiLabel].into_iter().find(|task| task.name() == name)
    }
}
