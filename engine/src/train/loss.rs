//! Losses, and their gradients by the logits.

use super::Targets;

/// What the loss is computed by, beside the targets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss<'a> {
    pub(crate) classes: usize,
    /// One a class; none: 1.
    pub(crate) class_weights: Option<&'a [f32]>,
    /// Of labels.
    pub(crate) smoothing: f64,
}

impl Loss<'_> {
    /// Mean loss of a batch, and its gradient in place of the logits, (n, classes).
    pub(crate) fn of(&self, logits: &mut [f32], targets: Targets) -> f64 {
        match targets {
            Targets::Labels(labels) => self.softmax(logits, labels),
            Targets::Findings(findings) => self.binary(logits, findings),
        }
    }

    fn weight(&self, class: usize) -> f64 {
        self.class_weights.map_or(1.0, |weights| f64::from(weights[class]))
    }

    /// Softmax cross-entropy, as torch's `CrossEntropyLoss(weight, label_smoothing)`: the sum over the batch divided by the
    /// weights of its labels.
    ///
    /// With label smoothing ε (Szegedy et al. 2016) a label's share of the target is 1 - ε + ε/classes, every other class's
    /// ε/classes. A share counts by its class's weight.
    fn softmax(&self, logits: &mut [f32], labels: &[usize]) -> f64 {
        let rest = self.smoothing / self.classes as f64;
        let count = divisor(labels.iter().map(|&label| self.weight(label)).sum());
        let mut total = 0.0;
        for (logits, &label) in logits.chunks_exact_mut(self.classes).zip(labels) {
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let distance = |logit: f32| f64::from(logit) - f64::from(most);
            let sum: f64 = logits.iter().map(|&logit| distance(logit).exp()).sum();
            let target = |class: usize| {
                let share = rest + if class == label { 1.0 - self.smoothing } else { 0.0 };
                share * self.weight(class)
            };
            let targets: f64 = (0..self.classes).map(target).sum();
            for (class, logit) in logits.iter_mut().enumerate() {
                let distance = distance(*logit);
                total += target(class) * (sum.ln() - distance);
                *logit = ((targets * distance.exp() / sum - target(class)) / count) as f32;
            }
        }
        total / count
    }

    /// Binary cross-entropy, as torch's `BCEWithLogitsLoss(pos_weight)` over the values that are known.
    fn binary(&self, logits: &mut [f32], findings: &[f32]) -> f64 {
        let count = divisor(findings.iter().filter(|finding| !finding.is_nan()).count() as f64);
        let mut total = 0.0;
        for (index, (logit, &finding)) in logits.iter_mut().zip(findings).enumerate() {
            let z = f64::from(*logit);
            // Not known: both are 0, and a logit that is not finite stays visible.
            let (present, absent) = if finding.is_nan() {
                (0.0, 0.0)
            } else {
                (self.weight(index % self.classes) * f64::from(finding), 1.0 - f64::from(finding))
            };
            total += present * softplus(-z) + absent * softplus(z);
            *logit = ((absent * sigmoid(z) - present * sigmoid(-z)) / count) as f32;
        }
        total / count
    }
}

/// What the sum is divided by; 1 in place of 0, where no value counts.
fn divisor(count: f64) -> f64 {
    if count > 0.0 { count } else { 1.0 }
}

/// ln(1 + exp(z)), for any z.
fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

/// 1 / (1 + exp(-z)).
fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (2, 3)
    const LOGITS: [f32; 6] = [0.5, -1.0, 2.0, 0.25, 1.5, -0.75];

    fn check(class_weights: Option<&[f32]>, smoothing: f64, targets: Targets, loss: f64, gradient: [f64; 6]) {
        let mut found = LOGITS;
        let got = Loss { classes: 3, class_weights, smoothing }.of(&mut found, targets);
        assert!((got - loss).abs() < 1e-12, "{got} {loss}");
        for (got, want) in found.iter().zip(gradient) {
            assert!((f64::from(*got) - want).abs() < 3e-8, "{got} {want}");
        }
    }

    #[test]
    fn labels_give_torch_s_loss_and_gradient() {
        // torch.nn.CrossEntropyLoss(weight=w, label_smoothing=s)(logits, [2, 0]) and its gradient, in float64.
        let labels = Targets::Labels(&[2, 0]);
        let weights: Option<&[f32]> = Some(&[0.5, 1.0, 2.0]);
        check(
            None,
            0.0,
            labels,
            0.910_991_953_032_190_6,
            [
                0.087_645_196_070,
                0.019_556_286_635,
                -0.107_201_482_705,
                -0.397_081_698_001,
                0.359_220_170_576,
                0.037_861_527_426,
            ],
        );
        check(
            None,
            0.1,
            labels,
            0.981_825_286_365_523_9,
            [
                0.070_978_529_403,
                0.002_889_619_969,
                -0.073_868_149_372,
                -0.363_748_364_668,
                0.342_553_503_909,
                0.021_194_860_759,
            ],
        );
        check(
            weights,
            0.0,
            labels,
            0.509_183_559_207_170_4,
            [
                0.140_232_313_712,
                0.031_290_058_617,
                -0.171_522_372_329,
                -0.158_832_679_200,
                0.143_688_068_230,
                0.015_144_610_970,
            ],
        );
        check(
            weights,
            0.1,
            labels,
            0.603_291_118_902_791_2,
            [
                0.127_722_633_974,
                0.016_652_972_841,
                -0.144_375_606_815,
                -0.140_010_369_761,
                0.149_513_143_994,
                -0.009_502_774_234,
            ],
        );
    }

    #[test]
    fn findings_give_torch_s_loss_and_gradient_over_what_is_known() {
        // torch.nn.BCEWithLogitsLoss(pos_weight=w, reduction="none") of the four known ones, its mean and the gradient, in
        // float64.
        let findings = Targets::Findings(&[1.0, 0.0, f32::NAN, f32::NAN, 0.75, 1.0]);
        check(
            None,
            0.0,
            findings,
            0.625_155_738_948_995_5,
            [-0.094_385_167_2, 0.067_235_355_342, 0.0, 0.0, 0.016_893_619_048, -0.169_794_674_794],
        );
        check(
            Some(&[0.5, 3.0, 2.0]),
            0.0,
            findings,
            0.925_643_846_698_739_2,
            [-0.047_192_583_6, 0.067_235_355_342, 0.0, 0.0, -0.051_515_952_379, -0.339_589_349_588],
        );
    }

    #[test]
    fn nothing_that_counts_gives_no_loss_and_no_gradient() {
        check(None, 0.0, Targets::Findings(&[f32::NAN; 6]), 0.0, [0.0; 6]);
        check(Some(&[0.0, 1.0, 0.0]), 0.0, Targets::Labels(&[2, 0]), 0.0, [0.0; 6]);
    }

    #[test]
    fn large_logits_are_exact_and_what_is_not_finite_stays_visible() {
        let loss = |mut logits: [f32; 2], targets: Targets| {
            let loss = Loss { classes: 2, class_weights: None, smoothing: 0.0 }.of(&mut logits, targets);
            (loss, logits)
        };
        let label = Targets::Labels(&[1]);
        let (here, unknown) = (Targets::Findings(&[0.0, 1.0]), Targets::Findings(&[f32::NAN, 1.0]));
        assert_eq!(loss([1000.0, 0.0], label), (1000.0, [1.0, -1.0]));
        assert_eq!(loss([1000.0, -3000.0], here), (2000.0, [0.5, -0.5]));
        assert_eq!(loss([-1000.0, 3000.0], here), (0.0, [0.0, 0.0]));
        for logit in [f32::NAN, f32::INFINITY] {
            for targets in [label, here, unknown] {
                assert!(!loss([logit, 0.0], targets).0.is_finite(), "{logit} {targets:?}");
            }
        }
    }
}
