//! Figures from predictions: errors with their intervals, cross-entropy, calibration, and two runs compared.
//!
//! Every sum is formed in f64 in the order of the data, so the same predictions give the same bits however they were made.

mod auroc;
mod findings;

use serde::{Deserialize, Serialize};

pub use auroc::Auroc;
pub use findings::{Finding, FindingsSummary};

/// What the network said of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The image.
    pub image: String,
    /// The network's classes any of which is right.
    pub labels: Vec<usize>,
    /// The five best classes, best first; fewer if there are fewer classes.
    pub top: Vec<usize>,
    /// The softmax probability of the best class.
    pub confidence: f64,
    /// -ln of the probability of the right class, of all right ones together.
    pub loss: f64,
    /// What the network gave each class, where that was asked for; of ten crops, the sums.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<f32>,
}

impl Prediction {
    /// Whether the best class is right.
    pub fn top1(&self) -> bool {
        self.top.first().is_some_and(|class| self.labels.contains(class))
    }

    /// Whether a right class is among the five best.
    pub fn top5(&self) -> bool {
        self.top.iter().any(|class| self.labels.contains(class))
    }
}

/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A share of images that is wrong, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Wrong images.
    pub wrong: usize,
    /// Of so many.
    pub of: usize,
    /// In percent.
    pub percent: f64,
    /// The 95 % interval, in percent (Wilson 1927).
    pub low: f64,
    /// See `low`.
    pub high: f64,
}

impl Rate {
    /// `wrong` of `of`.
    pub fn new(wrong: usize, of: usize) -> Self {
        if of == 0 {
            return Self { wrong, of, percent: 0.0, low: 0.0, high: 100.0 };
        }
        let (n, share) = (of as f64, wrong as f64 / of as f64);
        let centre = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        let percent = |value: f64| 100.0 * value.clamp(0.0, 1.0);
        // The ends are exact, which rounding would miss.
        let low = if wrong == 0 { 0.0 } else { percent(centre - half) };
        let high = if wrong == of { 100.0 } else { percent(centre + half) };
        Self { wrong, of, percent: 100.0 * wrong as f64 / n, low, high }
    }
}

/// Bins of the calibration error (Guo et al. 2017).
const BINS: usize = 15;

/// All figures of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Images counted.
    pub images: usize,
    /// The best class is wrong.
    pub top1_error: Rate,
    /// No right class among the five best.
    pub top5_error: Rate,
    /// Mean -ln of the right class's probability.
    pub cross_entropy: f64,
    /// Expected calibration error over 15 bins, from 0 to 1.
    pub calibration_error: f64,
    /// What the calibration error sums up, by rising confidence; bins without images are left out.
    pub calibration: Vec<Bin>,
    /// Right class, predicted class, how often: the ten commonest errors.
    pub confusions: Vec<Confusion>,
    /// Class, wrong images, images; every class that the data has.
    pub per_class: Vec<ClassError>,
}

/// Images of like confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Images in it.
    pub images: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share of them whose best class is right.
    pub accuracy: f64,
}

/// A common error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// The (first) right class.
    pub label: usize,
    /// What the network said.
    pub predicted: usize,
    /// How often.
    pub count: usize,
}

/// The top-1 errors of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassError {
    /// The (first) right class.
    pub label: usize,
    /// Images of it that are wrong.
    pub wrong: usize,
    /// Images of it.
    pub of: usize,
}

impl Summary {
    /// Figures of these predictions.
    pub fn of(predictions: &[Prediction]) -> Self {
        let images = predictions.len();
        let wrong = |right: fn(&Prediction) -> bool| predictions.iter().filter(|p| !right(p)).count();
        let mean = |sum: f64| if images == 0 { 0.0 } else { sum / images as f64 };
        let mut confusions = std::collections::BTreeMap::new();
        let mut classes = std::collections::BTreeMap::new();
        for prediction in predictions {
            let Some(&label) = prediction.labels.first() else { continue };
            let class = classes.entry(label).or_insert(ClassError { label, wrong: 0, of: 0 });
            class.of += 1;
            if let Some(&predicted) = prediction.top.first().filter(|_| !prediction.top1()) {
                class.wrong += 1;
                *confusions.entry((label, predicted)).or_insert(0) += 1;
            }
        }
        let mut confusions: Vec<_> =
            confusions.into_iter().map(|((label, predicted), count)| Confusion { label, predicted, count }).collect();
        confusions.sort_by_key(|confusion| (std::cmp::Reverse(confusion.count), confusion.label, confusion.predicted));
        confusions.truncate(10);
        let calibration = calibration(predictions);
        let distance = |bin: &Bin| bin.images as f64 * (bin.accuracy - bin.confidence).abs();
        Self {
            images,
            top1_error: Rate::new(wrong(Prediction::top1), images),
            top5_error: Rate::new(wrong(Prediction::top5), images),
            cross_entropy: mean(predictions.iter().map(|p| p.loss).sum()),
            calibration_error: mean(calibration.iter().map(distance).sum()),
            calibration,
            confusions,
            per_class: classes.into_values().collect(),
        }
    }
}

fn calibration(predictions: &[Prediction]) -> Vec<Bin> {
    let mut bins = [(0_usize, 0_usize, 0.0_f64); BINS];
    for prediction in predictions {
        // Bins are half open from below, as (0, 1/15].
        let bin = ((prediction.confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        if let Some((images, right, confidence)) = bins.get_mut(bin) {
            *images += 1;
            *right += usize::from(prediction.top1());
            *confidence += prediction.confidence;
        }
    }
    let filled = bins.iter().filter(|bin| bin.0 > 0);
    let bin = |&(images, right, confidence): &(usize, usize, f64)| Bin {
        images,
        confidence: confidence / images as f64,
        accuracy: right as f64 / images as f64,
    };
    filled.map(bin).collect()
}

/// Two runs over the same images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Images in both.
    pub images: usize,
    /// Right in the first and wrong in the second.
    pub only_first: usize,
    /// Wrong in the first and right in the second.
    pub only_second: usize,
    /// The second's error less the first's, in points of percent, with its 95 % interval.
    pub difference: f64,
    /// See `difference`.
    pub low: f64,
    /// See `difference`.
    pub high: f64,
    /// McNemar's exact test: how likely so uneven a split is between equals (two-sided).
    pub p: f64,
}

impl Comparison {
    /// Compares top-1 hits, image by image; both must be of the same images in the same order.
    pub fn of(first: &[Prediction], second: &[Prediction]) -> Self {
        let hits = || first.iter().zip(second).map(|(a, b)| (a.top1(), b.top1()));
        let only_first = hits().filter(|hit| *hit == (true, false)).count();
        let only_second = hits().filter(|hit| *hit == (false, true)).count();
        let images = first.len().min(second.len());
        let n = images.max(1) as f64;
        let (b, c) = (only_first as f64, only_second as f64);
        let difference = (b - c) / n;
        let half = Z * (b + c - (b - c) * (b - c) / n).max(0.0).sqrt() / n;
        let percent = |value: f64| 100.0 * value;
        Self {
            images,
            only_first,
            only_second,
            difference: percent(difference),
            low: percent(difference - half),
            high: percent(difference + half),
            p: mcnemar(only_first, only_second),
        }
    }
}

/// The two-sided exact binomial test of `b` against `c` at one half.
fn mcnemar(b: usize, c: usize) -> f64 {
    let n = b + c;
    let log_half = n as f64 * 0.5_f64.ln();
    // ln of n over k, term by term.
    let mut log_choose = 0.0;
    let mut sum = 0.0;
    for k in 0..=b.min(c) {
        if k > 0 {
            log_choose += ((n - k + 1) as f64).ln() - (k as f64).ln();
        }
        sum += (log_choose + log_half).exp();
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(label: usize, top: &[usize], confidence: f64, loss: f64) -> Prediction {
        Prediction { image: "x".into(), labels: vec![label], top: top.to_vec(), confidence, loss, outputs: Vec::new() }
    }

    #[test]
    fn intervals_are_wilson_s() {
        // statsmodels: proportion_confint(8, 360, method="wilson") = (0.0113024, 0.0432308)
        let rate = Rate::new(8, 360);
        assert!((rate.percent - 2.222_222).abs() < 1e-6);
        assert!((rate.low - 1.130_243).abs() < 1e-6 && (rate.high - 4.323_083).abs() < 1e-6, "{rate:?}");
        assert_eq!((Rate::new(0, 10).low, Rate::new(10, 10).high), (0.0, 100.0));
    }

    #[test]
    fn errors_are_counted_by_place_and_any_right_label_counts() {
        let mut predictions: Vec<_> =
            [0, 4, 9].iter().map(|&label| prediction(label, &[0, 1, 2, 3, 4], 0.9, 1.0)).collect();
        predictions[2].labels = vec![9, 1];
        let summary = Summary::of(&predictions);
        assert_eq!((summary.top1_error.wrong, summary.top5_error.wrong), (2, 0));
        assert_eq!(summary.cross_entropy, 1.0);
        assert_eq!(summary.confusions.len(), 2);
        assert_eq!(summary.per_class[0], ClassError { label: 0, wrong: 0, of: 1 });
        assert_eq!(Summary::of(&[]).images, 0);
    }

    #[test]
    fn calibration_is_the_gap_between_confidence_and_accuracy() {
        // Two bins: (0.6, one right of two) and (0.95, one of one): (|1 - 1.2| + |1 - 0.95|) / 3.
        let predictions =
            [prediction(0, &[0], 0.6, 0.0), prediction(1, &[0], 0.6, 0.0), prediction(0, &[0], 0.95, 0.0)];
        let summary = Summary::of(&predictions);
        assert!((summary.calibration_error - 0.25 / 3.0).abs() < 1e-12);
        let bins: Vec<_> = summary.calibration.iter().map(|bin| (bin.images, bin.accuracy)).collect();
        assert_eq!(bins, [(2, 0.5), (1, 1.0)]);
    }

    #[test]
    fn mcnemar_s_test_is_the_binomial_s() {
        // scipy: binomtest(3, 14).pvalue = 0.057373, binomtest(0, 5) = 0.0625, binomtest(4, 8) = 1
        assert!((mcnemar(3, 11) - 0.057_373_046_875).abs() < 1e-12);
        assert!((mcnemar(5, 0) - 0.0625).abs() < 1e-12);
        assert_eq!(mcnemar(4, 4), 1.0);
        assert_eq!(mcnemar(0, 0), 1.0);
        let right = prediction(0, &[0], 0.9, 0.1);
        let wrong = prediction(0, &[1], 0.9, 0.1);
        let first = vec![right.clone(), right.clone(), wrong.clone(), right.clone()];
        let second = vec![wrong, right.clone(), right.clone(), right];
        let comparison = Comparison::of(&first, &second);
        assert_eq!((comparison.only_first, comparison.only_second, comparison.difference), (1, 1, 0.0));
    }
}
