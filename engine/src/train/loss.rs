//! Softmax cross-entropy.

/// Mean loss of a batch, and its gradient in place of the logits, (n, classes).
///
/// With label smoothing ε (Szegedy et al. 2016) a label's share of the target is 1 - ε + ε/classes, every other class's
/// ε/classes.
pub(crate) fn cross_entropy(logits: &mut [f32], labels: &[usize], smoothing: f64) -> f64 {
    let classes = logits.len() / labels.len();
    let (count, rest) = (labels.len() as f64, smoothing / classes as f64);
    let mut total = 0.0;
    for (logits, &label) in logits.chunks_exact_mut(classes).zip(labels) {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let distance = |logit: f32| f64::from(logit) - f64::from(most);
        let sum: f64 = logits.iter().map(|&logit| distance(logit).exp()).sum();
        let negative_log = |logit: f32| sum.ln() - distance(logit);
        let mean: f64 = logits.iter().map(|&logit| negative_log(logit)).sum::<f64>() / classes as f64;
        total += (1.0 - smoothing) * negative_log(logits[label]) + smoothing * mean;
        for (class, logit) in logits.iter_mut().enumerate() {
            let target = rest + if class == label { 1.0 - smoothing } else { 0.0 };
            *logit = ((distance(*logit).exp() / sum - target) / count) as f32;
        }
    }
    total / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_gradient_are_torch_s() {
        // torch.nn.functional.cross_entropy(logits, [2, 0], label_smoothing=s) and its gradient.
        let logits = [0.5, -1.0, 2.0, 0.25, 1.5, -0.75];
        let cases: [(f64, f64, [f64; 6]); 2] = [
            (
                0.0,
                0.910_991_953_032_190_6,
                [0.087_645_196, 0.019_556_287, -0.107_201_483, -0.397_081_698, 0.359_220_176, 0.037_861_527],
            ),
            (
                0.1,
                0.981_825_286_365_523_9,
                [0.070_978_529, 0.002_889_620, -0.073_868_149, -0.363_748_365, 0.342_553_504, 0.021_194_861],
            ),
        ];
        for (smoothing, loss, gradient) in cases {
            let mut found = logits;
            let got = cross_entropy(&mut found, &[2, 0], smoothing);
            assert!((got - loss).abs() < 1e-6, "{got}");
            for (got, want) in found.iter().zip(gradient) {
                assert!((f64::from(*got) - want).abs() < 1e-7, "{got} {want}");
            }
        }
    }

    #[test]
    fn nan_and_infinity_stay_visible() {
        assert!(!cross_entropy(&mut [f32::NAN, 0.0], &[1], 0.0).is_finite());
        assert!(!cross_entropy(&mut [f32::INFINITY, 0.0], &[1], 0.0).is_finite());
        assert!(cross_entropy(&mut [1e30, 0.0], &[1], 0.0).is_finite());
    }
}
