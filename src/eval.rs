//! Top-1 and top-5 error over a data set.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use crate::data::loader::{Batch, each_batch};
use crate::data::transform::Transform;
use crate::data::{Dataset, Sample};
use crate::error::{Error, Result};
use crate::model::DenseNet;

/// How many classes count as a hit in the top-5 error.
const TOP: usize = 5;

/// What has been counted so far.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// What the network said of each image, in the data's order.
    pub predictions: Vec<Prediction>,
    /// Images whose class was not the first.
    pub top1_wrong: usize,
    /// Images whose class was not among the first five.
    pub top5_wrong: usize,
    /// Wall time, decoding included.
    pub seconds: f64,
}

/// What the network said of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prediction {
    /// The network's class that is right.
    pub label: usize,
    /// The five best classes, best first; fewer if there are fewer classes.
    pub top: Vec<usize>,
}

impl Evaluation {
    /// Images counted.
    pub fn images(&self) -> usize {
        self.predictions.len()
    }

    /// Share of images whose class was not the first, in percent.
    pub fn top1_error(&self) -> f64 {
        percent(self.top1_wrong, self.images())
    }

    /// Share of images whose class was not among the first five, in percent.
    pub fn top5_error(&self) -> f64 {
        percent(self.top5_wrong, self.images())
    }

    /// Images a second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.images() as f64 / self.seconds } else { 0.0 }
    }

    fn count(&mut self, prediction: Prediction) {
        let place = prediction.top.iter().position(|&class| class == prediction.label);
        self.top1_wrong += usize::from(place != Some(0));
        self.top5_wrong += usize::from(place.is_none());
        self.predictions.push(prediction);
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// Everything that `evaluate` needs beside the network.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The images.
    pub dataset: &'a Dataset,
    /// The network's class for each of the data set's classes.
    pub classes: &'a [usize],
    /// The protocol.
    pub transform: &'a Transform,
    /// Where the network lives.
    pub device: &'a Device,
    /// Images in a batch.
    pub batch: usize,
    /// Threads that decode ahead of the network.
    pub threads: usize,
}

/// Runs the network over the data set. After each batch `observe` sees the counts so far and the batch's outputs,
/// (images, classes) row by row.
pub fn evaluate(network: &DenseNet, setup: &Setup, mut observe: impl FnMut(&Evaluation, &[f32])) -> Result<Evaluation> {
    let start = Instant::now();
    let samples = &setup.dataset.samples;
    let mut evaluation = Evaluation::default();
    each_batch(samples, setup.transform, setup.batch, setup.threads, |batch| {
        let of_batch = &samples[batch.start..batch.start + batch.len];
        let logits = run(network, setup.transform, batch, setup.device)?;
        let classes = network.config().num_classes;
        for (sample, row) in of_batch.iter().zip(logits.chunks_exact(classes)) {
            evaluation.count(Prediction { label: label(sample, setup.classes)?, top: best(row, TOP, &sample.id)? });
        }
        evaluation.seconds = start.elapsed().as_secs_f64();
        observe(&evaluation, &logits);
        Ok(())
    })?;
    Ok(evaluation)
}

/// The outputs of a batch, (images, classes) row by row.
pub fn run(network: &DenseNet, transform: &Transform, batch: Batch, device: &Device) -> Result<Vec<f32>> {
    let (channels, height, width) = transform.shape();
    let x = Tensor::from_vec(batch.pixels, (batch.len, channels, height, width), device)?.to_dtype(network.dtype())?;
    Ok(network.forward(&x, false)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn label(sample: &Sample, classes: &[usize]) -> Result<usize> {
    classes
        .get(sample.label)
        .copied()
        .ok_or_else(|| Error::Usage(format!("{}: label {} is outside the network's classes", sample.id, sample.label)))
}

/// The `count` largest of a row, largest first, the lower class first among equals.
pub fn best(row: &[f32], count: usize, image: &str) -> Result<Vec<usize>> {
    if row.iter().any(|value| value.is_nan()) {
        let reason = "the network's output is not a number; the weights are damaged or belong to another protocol";
        return Err(Error::Negative(format!("{image}: {reason}")));
    }
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    order.truncate(count);
    Ok(order)
}

/// The softmax of a row, which a log-softmax leaves as it is.
pub fn probabilities(row: &[f32]) -> Vec<f32> {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = row.iter().map(|value| (value - most).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_ordered_and_nan_is_refused() {
        assert_eq!(best(&[0.5, -1.0, 3.0, 0.5], 3, "x").unwrap(), [2, 0, 3]);
        assert_eq!(best(&[1.0, 2.0], 5, "x").unwrap(), [1, 0]);
        assert!(best(&[1.0, f32::NAN], 5, "row 7").unwrap_err().to_string().starts_with("row 7: "));
    }

    #[test]
    fn errors_are_counted_by_place() {
        let mut evaluation = Evaluation::default();
        for (label, top) in [(0, [0, 1, 2, 3, 4]), (4, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])] {
            evaluation.count(Prediction { label, top: top.to_vec() });
        }
        assert_eq!((evaluation.top1_wrong, evaluation.top5_wrong), (2, 1));
        assert!((evaluation.top1_error() - 66.666_666).abs() < 1e-5);
        assert!((evaluation.top5_error() - 33.333_333).abs() < 1e-5);
        assert!(Evaluation::default().top1_error() < f64::EPSILON);
    }
}
