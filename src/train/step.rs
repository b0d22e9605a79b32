//! A step of a run: what a batch's images show, told to the learner.

use densenet_engine::train;

use super::labelled::Targets;
use super::learner::{Following, Learner};
use crate::error::{Error, Result};

/// A batch's loss, and how many of its images were taken for another class.
pub(super) fn step(
    learner: &mut dyn Learner,
    pixels: &[f32],
    batch: &[usize],
    targets: &Targets,
    next: &mut dyn Following,
) -> Result<(f64, Option<usize>)> {
    match targets {
        Targets::Classes(classes) => {
            let labels: Vec<usize> = batch.iter().map(|&index| classes[index]).collect();
            let step = learner.step_before(pixels, train::Targets::Labels(&labels), next)?;
            let rows = step.logits.chunks_exact(step.logits.len() / labels.len());
            let wrong = rows.zip(&labels).filter(|(row, label)| row.iter().any(|value| *value > row[**label])).count();
            Ok((step.loss, Some(wrong)))
        }
        Targets::Findings(findings) => {
            let classes = learner.config().num_classes;
            let rows = batch.iter().flat_map(|index| &findings[index * classes..][..classes]);
            let rows: Vec<f32> = rows.copied().collect();
            let step = learner.step_before(pixels, train::Targets::Findings(&rows), next)?;
            Ok((step.loss, None))
        }
    }
}

/// A number that left the range of floats, with its place in the run.
pub(super) fn diverged(error: Error, epoch: usize, step: usize) -> Error {
    match error {
        Error::Engine(source @ densenet_engine::Error::Diverged(_)) => Error::Diverged { epoch, step, source },
        other => other,
    }
}
