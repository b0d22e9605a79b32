//! What changes the weights.

use std::ops::Range;

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

/// Values that one thread changes at a time.
const RUN: usize = 1 << 14;

/// How a gradient changes the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimiser {
    /// Stochastic gradient descent with momentum, as `torch.optim.SGD` and Torch7's `optim.sgd` have it.
    Sgd {
        /// Share of the last direction in the next; 0: none.
        momentum: f64,
        /// Looks ahead along the direction.
        nesterov: bool,
        /// Share of the gradient that is left out of the direction, after the first update.
        dampening: f64,
    },
    /// Adam with decoupled weight decay (arXiv 1711.05101), as `torch.optim.AdamW` has it.
    AdamW {
        /// Share of the last mean in the next.
        beta1: f64,
        /// Share of the last mean square in the next.
        beta2: f64,
        /// Added to the root of the mean square.
        eps: f64,
    },
}

impl Optimiser {
    /// The paper's: Nesterov's momentum of 0.9 (arXiv 1608.06993, section 4.2).
    pub const NESTEROV: Self = Self::Sgd { momentum: 0.9, nesterov: true, dampening: 0.0 };

    /// torch's defaults.
    pub const ADAMW: Self = Self::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };

    /// The names of what it remembers of each weight, in the state's tensors.
    pub fn memories(self) -> &'static [&'static str] {
        match self {
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } => &["momentum"],
            Self::AdamW { .. } => &["mean", "mean_square"],
        }
    }

    /// Changes the weights in `range`. `memory` is as long as the weights for each of [`memories`](Self::memories);
    /// `factor` multiplies the gradient, `decay` is the weight decay and `update` counts from 0.
    pub(crate) fn update(
        self,
        range: Range<usize>,
        weights: &mut [f32],
        gradients: &[f32],
        memory: &mut [Vec<f32>],
        Change { rate, factor, decay, update }: Change,
    ) {
        let weights = weights[range.clone()].par_chunks_mut(RUN);
        let gradients = gradients[range.clone()].par_chunks(RUN);
        let both = weights.zip(gradients);
        let (rate32, factor, decay32) = (rate as f32, factor as f32, decay as f32);
        match (self, memory) {
            (Self::Sgd { momentum, nesterov, dampening }, [memory]) => {
                let (momentum, fresh) = (momentum as f32, if update == 0 { 1.0 } else { (1.0 - dampening) as f32 });
                let (direct, ahead) = if nesterov { (1.0, momentum) } else { (0.0, 1.0) };
                both.zip(memory[range].par_chunks_mut(RUN)).for_each(|((weights, gradients), memory)| {
                    for ((weight, &gradient), memory) in weights.iter_mut().zip(gradients).zip(memory) {
                        let gradient = gradient * factor + decay32 * *weight;
                        *memory = momentum * *memory + fresh * gradient;
                        *weight -= rate32 * (direct * gradient + ahead * *memory);
                    }
                });
            }
            (Self::AdamW { beta1, beta2, eps }, [mean, square]) => {
                let count = update as f64 + 1.0;
                let stride = (rate / (1.0 - beta1.powf(count))) as f32;
                let root = (1.0 / (1.0 - beta2.powf(count)).sqrt()) as f32;
                let keep = (1.0 - rate * decay) as f32;
                let (new1, new2, eps) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32, eps as f32);
                let (beta1, beta2) = (beta1 as f32, beta2 as f32);
                let memory = mean[range.clone()].par_chunks_mut(RUN).zip(square[range].par_chunks_mut(RUN));
                both.zip(memory).for_each(|((weights, gradients), (mean, square))| {
                    for (((weight, &gradient), mean), square) in weights.iter_mut().zip(gradients).zip(mean).zip(square)
                    {
                        let gradient = gradient * factor;
                        *mean = beta1 * *mean + new1 * gradient;
                        *square = beta2 * *square + new2 * gradient * gradient;
                        *weight = keep * *weight - stride * *mean / (square.sqrt() * root + eps);
                    }
                });
            }
            _ => both.for_each(|(weights, gradients)| {
                for (weight, &gradient) in weights.iter_mut().zip(gradients) {
                    *weight -= rate32 * (gradient * factor + decay32 * *weight);
                }
            }),
        }
    }
}

/// One update's numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) rate: f64,
    pub(crate) factor: f64,
    pub(crate) decay: f64,
    pub(crate) update: u64,
}

/// Euclidean length of the gradients, in f64.
pub(crate) fn norm(gradients: &[f32]) -> f64 {
    let squares = gradients.par_chunks(RUN).map(|run| run.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>());
    squares.collect::<Vec<_>>().into_iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three updates of two weights by the gradients (1, -2), (0.5, 0.25), (-1, 3) at a rate of 0.1 with a decay of 0.01.
    fn three(optimiser: Optimiser) -> [f32; 2] {
        let mut weights = [1.0, -0.5];
        let mut memory = vec![vec![0.0; 2]; optimiser.memories().len()];
        for (update, gradients) in [[1.0, -2.0], [0.5, 0.25], [-1.0, 3.0]].iter().enumerate() {
            let step = Change { rate: 0.1, factor: 1.0, decay: 0.01, update: update as u64 };
            optimiser.update(0..2, &mut weights, gradients, &mut memory, step);
        }
        weights
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
                assert!((f64::from(got) - want).abs() < 1e-6, "{optimiser:?}: {got} {want}");
            }
        }
    }
}
