//! An update of all weights at once, on the device.

use candle_core::{Result, Tensor};
use densenet_engine::train::Optimiser;

/// One update's numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    pub(super) rate: f64,
    /// What the rate is multiplied by, for each weight (n).
    pub(super) rates: &'a Tensor,
    /// For each weight (n): L2 in SGD, decoupled in AdamW.
    pub(super) decay: &'a Tensor,
    /// Counts from 0.
    pub(super) update: u64,
}

/// The weights (n) after an update by the gradient (n), and what is remembered then; as `torch.optim.SGD` and `AdamW`.
/// `memory` has a tensor (n) for each of [`Optimiser::memories`].
pub(super) fn updated(
    optimiser: Optimiser,
    weights: &Tensor,
    gradient: &Tensor,
    memory: &[Tensor],
    Change { rate, rates, decay, update }: Change,
) -> Result<(Tensor, Vec<Tensor>)> {
    let decayed = (decay * weights)?;
    let (step, memory) = match (optimiser, memory) {
        (Optimiser::Sgd { momentum, nesterov, dampening }, [direction]) => {
            let gradient = (gradient + decayed)?;
            let fresh = if update == 0 { 1.0 } else { 1.0 - dampening };
            let direction = ((direction * momentum)? + (&gradient * fresh)?)?;
            let step = if nesterov { (gradient + (&direction * momentum)?)? } else { direction.clone() };
            (step, vec![direction])
        }
        (Optimiser::AdamW { beta1, beta2, eps }, [mean, square]) => {
            let count = update as f64 + 1.0;
            let (bias1, bias2) = (1.0 - beta1.powf(count), 1.0 - beta2.powf(count));
            let mean = ((mean * beta1)? + (gradient * (1.0 - beta1))?)?;
            let square = ((square * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
            let root = ((square.sqrt()? / bias2.sqrt())? + eps)?;
            (((&mean / root)? / bias1 + decayed)?, vec![mean, square])
        }
        _ => ((gradient + decayed)?, Vec::new()),
    };
    Ok(((weights - ((step * rates)? * rate)?)?, memory))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Three updates of two weights by the gradients (1, -2), (0.5, 0.25), (-1, 3) at a rate of 0.1 with a decay of 0.01.
    fn three(optimiser: Optimiser) -> Vec<f64> {
        let pair = |values: [f64; 2]| Tensor::new(&values, &Device::Cpu).unwrap();
        let (mut weights, decay) = (pair([1.0, -0.5]), pair([0.01; 2]));
        let rates = pair([1.0; 2]);
        let mut memory = vec![pair([0.0; 2]); optimiser.memories().len()];
        for (update, gradient) in [[1.0, -2.0], [0.5, 0.25], [-1.0, 3.0]].into_iter().enumerate() {
            let change = Change { rate: 0.1, rates: &rates, decay: &decay, update: update as u64 };
            (weights, memory) = updated(optimiser, &weights, &pair(gradient), &memory, change).unwrap();
        }
        weights.to_vec1().unwrap()
    }

    #[test]
    fn updates_are_torch_s() {
        // torch.optim.SGD and AdamW on the same numbers, in float64.
        for (optimiser, want) in [
            (Optimiser::Sgd { momentum: 0.0, nesterov: false, dampening: 0.0 }, [0.947_252_899, -0.623_876_299_5]),
            (Optimiser::Sgd { momentum: 0.9, nesterov: false, dampening: 0.0 }, [0.728_824_699, -0.303_432_199_5]),
            (Optimiser::Sgd { momentum: 0.9, nesterov: false, dampening: 0.5 }, [0.727_544_624_75, -0.130_044_774_875]),
            (Optimiser::NESTEROV, [0.703_774_515_241, -0.447_900_428_770_5]),
            (Optimiser::ADAMW, [0.792_999_848_254_574_6, -0.369_882_428_853_829_3]),
        ] {
            for (got, want) in three(optimiser).into_iter().zip(want) {
                assert!((got - want).abs() < 1e-12, "{optimiser:?}: {got} {want}");
            }
        }
    }
}
