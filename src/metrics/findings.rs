//! Figures of a network that says of several findings whether they are there.

use serde::{Deserialize, Serialize};

use super::auroc::Auroc;

/// All figures of a run over images with findings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindingsSummary {
    /// Images counted.
    pub images: usize,
    /// The mean area under the curve of the findings that have one.
    pub mean_auroc: Option<f64>,
    /// Mean binary cross-entropy over all that is known.
    pub loss: f64,
    /// Each finding, in the network's order.
    pub per_class: Vec<Finding>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Its name.
    pub name: String,
    /// Images that have it.
    pub positives: usize,
    /// Images that do not; of the rest it is not known.
    pub negatives: usize,
    /// The area under the curve; none where either kind is missing.
    pub auroc: Option<f64>,
    /// Its 95 % interval.
    pub low: Option<f64>,
    /// See `low`.
    pub high: Option<f64>,
}

impl FindingsSummary {
    /// Of logits and findings (1, 0 or NaN for unknown), both (images, findings) row by row.
    pub fn of(names: &[String], logits: &[f32], findings: &[f32]) -> Self {
        let classes = names.len().max(1);
        let pairs = || logits.iter().zip(findings).map(|(&logit, &finding)| (f64::from(logit), finding));
        let per_class: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(class, name)| {
                let side = |kind| -> Vec<f64> {
                    let column = pairs().skip(class).step_by(classes);
                    column.filter(|&(_, finding)| finding == kind).map(|(logit, _)| logit).collect()
                };
                let (positives, negatives) = (side(1.0), side(0.0));
                let auroc = Auroc::of(&positives, &negatives);
                let interval = auroc.and_then(|auroc| auroc.interval);
                Finding {
                    name: name.clone(),
                    positives: positives.len(),
                    negatives: negatives.len(),
                    auroc: auroc.map(|auroc| auroc.area),
                    low: interval.map(|(low, _)| low),
                    high: interval.map(|(_, high)| high),
                }
            })
            .collect();
        let known: Vec<f64> = pairs()
            .filter(|(_, finding)| !finding.is_nan())
            .map(|(logit, finding)| softplus(logit) - logit * f64::from(finding))
            .collect();
        let areas: Vec<f64> = per_class.iter().filter_map(|finding| finding.auroc).collect();
        Self { images: logits.len() / classes, mean_auroc: mean(&areas), loss: mean(&known).unwrap_or(0.0), per_class }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// ln(1 + e^x), for any x.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_findings_count_for_neither_area_nor_loss() {
        let names = ["edema", "mass", "hernia"].map(str::to_owned);
        let unknown = f32::NAN;
        let logits = [2.0, -1.0, 0.5, -3.0, 0.5, 0.0, 0.25, 4.0, 1.0, 1.0, -2.0, 3.0];
        let findings = [1.0, 0.0, 0.0, 0.0, unknown, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0];
        let summary = FindingsSummary::of(&names, &logits, &findings);
        // scikit-learn 1.9: roc_auc_score of the known values; torch's binary_cross_entropy_with_logits, computed in numpy
        // in double precision.
        let areas: Vec<_> = summary.per_class.iter().map(|finding| finding.auroc).collect();
        assert_eq!(areas, [Some(1.0), Some(0.5), None]);
        assert_eq!((summary.images, summary.mean_auroc), (4, Some(0.75)));
        assert!((summary.loss - 0.891_102_663_665_891_1).abs() < 1e-12, "{}", summary.loss);
        let mass = &summary.per_class[1];
        assert_eq!((mass.name.as_str(), mass.positives, mass.negatives, mass.low), ("mass", 2, 1, None));
    }

    #[test]
    fn the_loss_of_a_wrong_and_certain_logit_is_finite() {
        let loss = |logit: f32, finding| FindingsSummary::of(&["x".into()], &[logit], &[finding]).loss;
        assert_eq!((loss(1000.0, 0.0), loss(-1000.0, 1.0), loss(1000.0, 1.0)), (1000.0, 1000.0, 0.0));
    }
}
