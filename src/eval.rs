//! A network over a data set: what it says of each image, from which every figure follows.

use std::time::Instant;

use densenet_arch::{Config, Head};
use serde::{Deserialize, Serialize};

use crate::data::loader::{BadImage, Batch, each_batch};
use crate::data::transform::Transform;
use crate::data::{Dataset, Sample};
use crate::error::{Error, Result};
use crate::metrics::{FindingsSummary, Prediction};
use crate::runner::{Begun, Runner};

/// How many classes count as a hit in the top-5 error.
const TOP: usize = 5;

/// What a run has come to.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// What the network said of each image, in the data's order.
    pub predictions: Vec<Prediction>,
    /// Images that could not be read.
    pub bad: Vec<BadImage>,
    /// Images whose best class was wrong.
    pub top1_wrong: usize,
    /// Images with no right class among the first five.
    pub top5_wrong: usize,
    /// Wall time, decoding included.
    pub seconds: f64,
}

impl Evaluation {
    /// Images counted.
    pub fn images(&self) -> usize {
        self.predictions.len()
    }

    /// Share of images whose best class was wrong, in percent.
    pub fn top1_error(&self) -> f64 {
        percent(self.top1_wrong, self.images())
    }

    /// Share of images with no right class among the first five, in percent.
    pub fn top5_error(&self) -> f64 {
        percent(self.top5_wrong, self.images())
    }

    /// Images a second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.images() as f64 / self.seconds } else { 0.0 }
    }

    /// Adds what was said of one image.
    pub fn count(&mut self, prediction: Prediction) {
        self.top1_wrong += usize::from(!prediction.top1());
        self.top5_wrong += usize::from(!prediction.top5());
        self.predictions.push(prediction);
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// A part of a data set, in whole batches, so that the parts compute what the whole would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which, from 0.
    pub index: usize,
    /// Of how many.
    pub of: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Its images, of so many in batches of `batch`.
    pub fn range(self, images: usize, batch: usize) -> std::ops::Range<usize> {
        let batches = images.div_ceil(batch.max(1));
        let bound = |index: usize| (batches * index / self.of.max(1) * batch.max(1)).min(images);
        bound(self.index)..bound(self.index + 1)
    }
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
    /// Images in a batch.
    pub batch: usize,
    /// Threads that decode ahead of the network.
    pub threads: usize,
    /// The part of the data set to run.
    pub shard: Shard,
    /// Whether every prediction keeps the network's outputs.
    pub keep_outputs: bool,
    /// Images of that part to pass over: whole batches that an earlier run did.
    pub skip: usize,
}

/// What `observe` is shown after each batch.
#[derive(Debug)]
pub struct Step<'a> {
    /// The run so far.
    pub evaluation: &'a Evaluation,
    /// What was said of this batch's images.
    pub predictions: &'a [Prediction],
    /// This batch's images that could not be read.
    pub bad: &'a [BadImage],
    /// The outputs for the images that could, (images, classes) row by row; of ten crops, their sums.
    pub outputs: &'a [f32],
}

/// Runs the network over the data set. An image that cannot be read is noted and passed over.
pub fn evaluate(
    runner: &mut Runner,
    setup: &Setup,
    mut observe: impl FnMut(&Step) -> Result<()>,
) -> Result<Evaluation> {
    let start = Instant::now();
    let samples = &setup.dataset.samples;
    let classes = runner.config().num_classes;
    let mut evaluation = Evaluation::default();
    each_output(runner, setup, |good, outputs, bad| {
        let (counted, named) = (evaluation.predictions.len(), evaluation.bad.len());
        evaluation.bad.extend(bad);
        for (&image, row) in good.iter().zip(outputs.chunks_exact(classes)) {
            let mut said = prediction(&samples[image], row, setup.classes)?;
            if setup.keep_outputs {
                said.outputs = row.to_vec();
            }
            evaluation.count(said);
        }
        evaluation.seconds = start.elapsed().as_secs_f64();
        observe(&Step {
            predictions: &evaluation.predictions[counted..],
            bad: &evaluation.bad[named..],
            outputs,
            evaluation: &evaluation,
        })
    })?;
    Ok(evaluation)
}

/// Shows `consume` each batch: the images that could be read, by their place in the data; their outputs, (images, classes) row
/// by row; and the others.
fn each_output(
    runner: &mut Runner,
    setup: &Setup,
    mut consume: impl FnMut(&[usize], &[f32], Vec<BadImage>) -> Result<()>,
) -> Result<()> {
    let range = setup.shard.range(setup.dataset.samples.len(), setup.batch);
    let first = (range.start + setup.skip).min(range.end);
    let samples = &setup.dataset.samples[first..range.end];
    let config = runner.config().clone();
    let mut finish = |(good, begun, bad): (Vec<usize>, Option<Begun>, Vec<BadImage>)| {
        let outputs = begun.map_or_else(|| Ok(Vec::new()), Begun::finish)?;
        consume(&good, &summed(&config, setup.transform, outputs), bad)
    };
    // A device computes one batch while the next one is made and copied.
    let mut under_way = None;
    each_batch(samples, setup.transform, setup.batch, setup.threads, |batch| {
        let good: Vec<usize> = batch.good().map(|index| first + index).collect();
        let begun = if good.is_empty() { None } else { Some(begin(runner, setup.transform, batch)?) };
        let waits = begun.as_ref().is_some_and(Begun::is_under_way);
        let this = (good, begun, batch.bad_images(samples).collect());
        under_way.take().map(&mut finish).transpose()?;
        if waits {
            under_way = Some(this);
        } else {
            finish(this)?;
        }
        Ok(())
    })?;
    under_way.map(finish).transpose()?;
    Ok(())
}

/// What a network said of images with findings.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// The images that could be read, by their place in the data.
    pub images: Vec<usize>,
    /// (images, the data's findings) row by row; the sigmoid of each is a probability.
    pub logits: Vec<f32>,
    /// Images that could not be read.
    pub bad: Vec<BadImage>,
    /// Wall time, decoding included.
    pub seconds: f64,
}

impl Findings {
    /// The figures; `values` are the findings of all of the data's images, 1, 0 or NaN for unknown, row by row.
    pub fn summary(&self, names: &[String], values: &[f32]) -> FindingsSummary {
        let row = |&image: &usize| values.iter().skip(image * names.len()).take(names.len());
        let values: Vec<f32> = self.images.iter().flat_map(row).copied().collect();
        FindingsSummary::of(names, &self.logits, &values)
    }
}

/// Runs the network over images with findings. An image that cannot be read is noted and passed over; `observe` is told after
/// each batch how many are done, and an error of its own ends it. Of ten crops, the mean counts.
pub fn evaluate_findings(
    runner: &mut Runner,
    setup: &Setup,
    mut observe: impl FnMut(usize) -> Result<()>,
) -> Result<Findings> {
    let start = Instant::now();
    let (classes, crops) = (runner.config().num_classes, setup.transform.crops() as f32);
    let mut findings = Findings::default();
    each_output(runner, setup, |good, outputs, bad| {
        for (&image, row) in good.iter().zip(outputs.chunks_exact(classes)) {
            best(row, 1, &setup.dataset.samples[image].id)?;
            findings.logits.extend(setup.classes.iter().map(|&class| row[class] / crops));
        }
        findings.images.extend_from_slice(good);
        findings.bad.extend(bad);
        observe(findings.images.len() + findings.bad.len())
    })?;
    findings.seconds = start.elapsed().as_secs_f64();
    Ok(findings)
}

/// What a row of outputs says of an image.
fn prediction(sample: &Sample, row: &[f32], classes: &[usize]) -> Result<Prediction> {
    let labels = sample.labels.iter().map(|&label| {
        let class = classes.get(label).copied();
        class.ok_or_else(|| Error::Usage(format!("{}: label {label} is outside the network's classes", sample.id)))
    });
    let labels = labels.collect::<Result<Vec<_>>>()?;
    let top = best(row, TOP, &sample.id)?;
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let power = |value: f32| (f64::from(value) - f64::from(most)).exp();
    let sum: f64 = row.iter().map(|&value| power(value)).sum();
    // The right classes' share may be too small for a number; its logarithm is not.
    let right = || labels.iter().filter_map(|&class| row.get(class)).copied();
    let likeliest = right().fold(f32::NEG_INFINITY, f32::max);
    let others: f64 = right().map(|value| (f64::from(value) - f64::from(likeliest)).exp()).sum();
    let (confidence, loss) = (1.0 / sum, sum.ln() + f64::from(most) - f64::from(likeliest) - others.ln());
    Ok(Prediction { image: sample.id.clone(), labels, top, confidence, loss, outputs: Vec::new() })
}

/// The scores of a batch's good images, (images, classes) row by row. Those of ten crops are summed, as the original does
/// (train.lua, computeScore).
pub fn run(runner: &mut Runner, transform: &Transform, batch: &Batch) -> Result<Vec<f32>> {
    let outputs = begin(runner, transform, batch)?.finish()?;
    Ok(summed(runner.config(), transform, outputs))
}

fn begin(runner: &mut Runner, transform: &Transform, batch: &Batch) -> Result<Begun> {
    let (_, height, width) = transform.shape();
    runner.begin(&batch.pixels, (height, width))
}

/// The scores of images from the outputs for their crops.
fn summed(config: &Config, transform: &Transform, outputs: Vec<f32>) -> Vec<f32> {
    if transform.crops() == 1 {
        return scores(config.head, outputs);
    }
    let sums = outputs.chunks_exact(config.num_classes * transform.crops()).flat_map(|crops| {
        let mut sum = vec![0.0_f32; config.num_classes];
        for crop in crops.chunks_exact(config.num_classes) {
            sum.iter_mut().zip(crop).for_each(|(sum, value)| *sum += value);
        }
        sum
    });
    scores(config.head, sums.collect())
}

/// Outputs whose softmax is that of the network: of one that ends in a softmax, their logarithms.
pub fn scores(head: Head, mut outputs: Vec<f32>) -> Vec<f32> {
    if head == Head::Softmax {
        for output in &mut outputs {
            *output = output.ln();
        }
    }
    outputs
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

/// The sigmoid of each of a row.
pub fn sigmoids(row: &[f32]) -> Vec<f32> {
    row.iter().map(|value| 1.0 / (1.0 + (-value).exp())).collect()
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
    fn shards_are_whole_batches_and_together_the_whole() {
        for (images, batch, of) in [(360, 32, 7), (360, 100, 2), (5, 32, 3), (0, 4, 2), (64, 1, 1)] {
            let ranges: Vec<_> = (0..of).map(|index| Shard { index, of }.range(images, batch)).collect();
            assert_eq!((ranges[0].start, ranges[of - 1].end), (0, images));
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(ranges.iter().all(|range| range.start % batch == 0 || range.start == images));
        }
    }

    #[test]
    fn shares_of_a_network_that_ends_in_a_softmax_are_its_outputs() {
        let outputs = vec![0.125, 0.25, 0.625, 0.0];
        let shares = probabilities(&scores(Head::Softmax, outputs.clone()));
        assert!(shares.iter().zip(&outputs).all(|(share, output)| (share - output).abs() <= 1e-7), "{shares:?}");
        assert_eq!(scores(Head::LogSoftmax, outputs.clone()), outputs);
    }

    #[test]
    fn loss_and_confidence_are_those_of_the_softmax() {
        let sample = Sample { id: "x".into(), labels: vec![0, 1], image: crate::data::Image::File("x".into()) };
        // Softmax of (0, ln 2, ln 5): 1/8, 2/8, 5/8.
        let row = [0.0, 2_f32.ln(), 5_f32.ln()];
        let said = prediction(&sample, &row, &[0, 1, 2]).unwrap();
        assert_eq!(said.top, [2, 1, 0]);
        assert!((said.confidence - 0.625).abs() < 1e-7 && (said.loss - (8.0_f64 / 3.0).ln()).abs() < 1e-7);
        // However far behind the best.
        let said = prediction(&sample, &[-2000.0, -2000.0, 0.0], &[0, 1, 2]).unwrap();
        assert!((said.loss - (2000.0 - 2_f64.ln())).abs() < 1e-9, "{}", said.loss);
        assert!(prediction(&sample, &row, &[0]).unwrap_err().to_string().contains("label 1 is outside"));
    }
}
