//! What rounding the weights of a 1x1 to bf16 does to its outputs.
//!
//! It reads relu(norm(x)), which is never negative, so that what a weight loses does not cancel over the pixels: an output
//! is off by Σ (rounded - weight) · mean over the channels. Over the images that a network was trained on, what a norm gives
//! has its bias β as mean and its weight γ as deviation. As if it were normal, that gives the mean behind the ReLU from γ and
//! β alone (Nagel et al. 2019, arXiv 1906.04721, section 4.2), and the shift goes out of the next bias.

use crate::lanes::{bf16, flush};

/// The normal distribution is summed at its quarters of a deviation, up to this many: the rest is some 1e-9.
const QUARTERS: i32 = 24;

/// The mean of relu(x) for each channel that a batch norm of that weight and bias gives.
pub(crate) fn means(weight: &[f32], bias: &[f32]) -> Vec<f64> {
    let points = (-QUARTERS..=QUARTERS).map(|quarter| {
        let x = f64::from(quarter) / 4.0;
        (x, (-x * x / 2.0).exp())
    });
    let points: Vec<(f64, f64)> = points.collect();
    let total: f64 = points.iter().map(|(_, density)| density).sum();
    let mean = |(&weight, &bias): (&f32, &f32)| {
        let value = |x: f64| (f64::from(bias) + f64::from(weight) * x).max(0.0);
        points.iter().map(|&(x, density)| value(x) * density).sum::<f64>() / total
    };
    weight.iter().zip(bias).map(mean).collect()
}

/// By how much a sum of products with rounded weights is too large on average, where `means` are those of the channels.
pub(crate) fn shift(weights: impl Iterator<Item = f64>, means: &[f64]) -> f64 {
    let rounded = |weight: f64| f64::from(f32::from_bits(u32::from(bf16(flush(weight as f32))) << 16));
    weights.zip(means).map(|(weight, mean)| (rounded(weight) - weight) * mean).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_those_of_the_normal_distribution() {
        // β Φ(β/|γ|) + |γ| φ(β/|γ|), by Python's math.erf.
        let cases = [
            (1.0, 0.0, 0.398_942_280),
            (-1.2, 0.5, 0.769_696_280),
            (0.3, -0.2, 0.045_335_894),
            (2.0, -1.5, 0.262_333_836),
            (0.0, 0.25, 0.25),
            (0.0, -1.0, 0.0),
            (0.1, 4.0, 4.0),
        ];
        for (weight, bias, want) in cases {
            let [mean] = means(&[weight], &[bias])[..] else { panic!("one channel") };
            // A quarter's step squared, at the kink.
            assert!((mean - want).abs() < 3e-3 * f64::from(weight.abs()) + 1e-9, "{weight} {bias}: {mean} {want}");
        }
    }

    #[test]
    fn an_output_shifts_by_what_its_weights_lose() {
        // bf16 has 8 bits: 1 + 2^-8 lies between two and goes down to the even one, 1 + 3 · 2^-8 up.
        let weights = [1.0 + 0.003_906_25, 1.0 + 3.0 * 0.003_906_25, 0.5, 1e-40];
        let shift = shift(weights.into_iter(), &[2.0, 8.0, 100.0, 0.0]);
        assert!((shift - 6.0 * 0.003_906_25).abs() < 1e-12, "{shift}");
    }
}
