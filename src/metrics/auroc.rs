//! The area under the receiver operating characteristic, with its interval.

use serde::{Deserialize, Serialize};

/// How well a score tells those that have something from those that do not: the chance that it is higher for one of the first
/// than for one of the others, equal scores counting half (Mann and Whitney 1947).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Auroc {
    /// From 0 to 1; 0.5 is chance.
    pub area: f64,
    /// The 95 % interval, by the normal distribution with the variance of DeLong, DeLong and Clarke-Pearson (1988). None
    /// where either side has a single score, which has no variance.
    pub interval: Option<(f64, f64)>,
}

impl Auroc {
    /// Of the scores of those that have it, and of those that do not. None without both, or with a score that is no number.
    ///
    /// The variance comes from midranks (Sun and Xu 2014, doi 10.1109/LSP.2014.2337313), in O(n log n).
    pub fn of(positives: &[f64], negatives: &[f64]) -> Option<Self> {
        let all = [positives, negatives].concat();
        if positives.is_empty() || negatives.is_empty() || all.iter().any(|score| score.is_nan()) {
            return None;
        }
        let (m, n) = (positives.len() as f64, negatives.len() as f64);
        let ranks = midranks(&all);
        // How many of the other side each score is above: its rank among all, less that among its own.
        let above = |range: std::ops::Range<usize>, own: &[f64]| -> Vec<f64> {
            ranks[range].iter().zip(midranks(own)).map(|(all, own)| all - own).collect()
        };
        let positive: Vec<f64> = above(0..positives.len(), positives).iter().map(|above| above / n).collect();
        let negative: Vec<f64> =
            above(positives.len()..all.len(), negatives).iter().map(|above| 1.0 - above / m).collect();
        let area = positive.iter().sum::<f64>() / m;
        let interval = variance(&positive).zip(variance(&negative)).map(|(of_positives, of_negatives)| {
            let half = super::Z * (of_positives / m + of_negatives / n).sqrt();
            ((area - half).max(0.0), (area + half).min(1.0))
        });
        Some(Self { area, interval })
    }
}

/// The rank of each value from 1, equal ones sharing their mean.
fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = below as f64 + f64::midpoint(equal.len() as f64, 1.0);
        for &at in equal {
            ranks[at] = rank;
        }
        below += equal.len();
    }
    ranks
}

/// Of a sample; none of a single value.
fn variance(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| squares / (count - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_count_half() {
        // scikit-learn 1.9: roc_auc_score([1, 0, 1, 0, 1, 0, 0, 1], [.8, .8, .5, .5, .5, .1, .9, .9]) = 0.5625
        let auroc = Auroc::of(&[0.8, 0.5, 0.5, 0.9], &[0.8, 0.5, 0.1, 0.9]).unwrap();
        assert!((auroc.area - 0.5625).abs() < 1e-12, "{auroc:?}");
        assert_eq!(midranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert_eq!(Auroc::of(&[0.0], &[-0.0, 0.0]).unwrap().area, 0.5);
    }

    #[test]
    fn ends_and_sides_without_scores() {
        let perfect = Auroc::of(&[2.0, 3.0], &[0.0, 1.0]).unwrap();
        assert_eq!((perfect.area, perfect.interval), (1.0, Some((1.0, 1.0))));
        assert_eq!(Auroc::of(&[0.0, 1.0], &[2.0, 3.0]).unwrap().area, 0.0);
        assert_eq!(Auroc::of(&[1.0], &[0.0, 2.0]), Some(Auroc { area: 0.5, interval: None }));
        assert_eq!(
            (Auroc::of(&[], &[1.0]), Auroc::of(&[1.0], &[]), Auroc::of(&[f64::NAN], &[1.0])),
            (None, None, None)
        );
    }

    /// Albumin, total protein and K-G score of patients with ovarian cancer who were helped by surgery (DeLong, DeLong and
    /// Clarke-Pearson 1988, as the documentation of SAS/STAT's PROC LOGISTIC has them).
    const HELPED: [[f64; 3]; 31] = [
        [3.2, 6.3, 5.0],
        [3.9, 6.8, 3.0],
        [3.2, 5.8, 3.0],
        [1.6, 5.6, 5.0],
        [3.8, 5.7, 5.0],
        [3.7, 6.7, 6.0],
        [3.2, 5.4, 4.0],
        [3.8, 6.6, 6.0],
        [4.1, 6.6, 5.0],
        [3.6, 5.7, 5.0],
        [4.3, 7.0, 4.0],
        [2.3, 4.4, 6.0],
        [3.5, 5.8, 6.0],
        [3.8, 6.8, 7.0],
        [4.5, 7.4, 5.0],
        [3.7, 7.4, 5.0],
        [3.1, 6.6, 6.0],
        [4.1, 8.2, 6.0],
        [4.3, 7.0, 5.0],
        [4.3, 6.5, 4.0],
        [3.2, 5.1, 5.0],
        [2.6, 4.7, 6.0],
        [3.7, 6.1, 5.0],
        [3.3, 6.3, 7.0],
        [4.2, 7.7, 6.0],
        [3.5, 6.2, 5.0],
        [2.1, 4.8, 7.0],
        [4.0, 7.0, 7.0],
        [3.3, 5.7, 6.0],
        [3.7, 6.9, 5.0],
        [3.6, 6.6, 5.0],
    ];
    /// The same of those who were not.
    const NOT_HELPED: [[f64; 3]; 12] = [
        [3.0, 5.8, 10.0],
        [2.8, 4.8, 6.0],
        [0.9, 4.0, 5.0],
        [2.5, 5.7, 8.0],
        [3.6, 6.7, 4.0],
        [4.2, 7.6, 4.0],
        [4.0, 6.6, 6.0],
        [3.0, 4.7, 8.0],
        [3.3, 6.8, 6.0],
        [1.7, 4.0, 7.0],
        [2.9, 5.7, 9.0],
        [2.8, 6.2, 8.0],
    ];

    #[test]
    fn delong_s_patients_have_their_areas_and_intervals() {
        // DeLong's definition over all pairs, in numpy; the areas are scikit-learn's roc_auc_score too.
        let expected = [
            (0.736_559_139_784_946_2, 0.554_881_559_951_744_5, 0.918_236_719_618_148),
            (0.647_849_462_365_591_4, 0.451_760_209_473_705_2, 0.843_938_715_257_477_5),
            (0.725_806_451_612_903_2, 0.524_279_801_179_549_6, 0.927_333_102_046_256_9),
        ];
        for (test, (area, low, high)) in expected.into_iter().enumerate() {
            // A high K-G score is a bad sign.
            let score = |patient: &[f64; 3]| if test == 2 { -patient[test] } else { patient[test] };
            let auroc =
                Auroc::of(&HELPED.map(|patient| score(&patient)), &NOT_HELPED.map(|patient| score(&patient))).unwrap();
            let found = auroc.interval.unwrap();
            assert!((auroc.area - area).abs() < 1e-12, "{auroc:?}");
            assert!((found.0 - low).abs() < 1e-12 && (found.1 - high).abs() < 1e-12, "{auroc:?}");
        }
    }
}
