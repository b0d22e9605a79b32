//! The learning rate as a function of the iteration.

use std::f64::consts::PI;

/// A learning rate for each update of the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The rate that the curve multiplies.
    pub rate: f64,
    /// Updates over which the rate rises linearly: the first of n takes 1/n of it.
    pub warm_up: u64,
    /// How it falls.
    pub curve: Curve,
}

/// How a learning rate falls.
#[derive(Clone, Debug, PartialEq)]
pub enum Curve {
    /// It does not.
    Constant,
    /// It is multiplied by `factor` at each of the iterations. The paper: 0.1 at half and at three quarters of the
    /// epochs (CIFAR), at epochs 30 and 60 (ImageNet); arXiv 1608.06993, section 4.2.
    Steps {
        /// Updates before each fall.
        at: Vec<u64>,
        /// What the rate is multiplied by.
        factor: f64,
    },
    /// Half a cosine from the rate to zero after `total` updates, those of the warm-up among them
    /// (Loshchilov and Hutter, arXiv 1608.03983, without restarts), as the cosine networks were trained.
    Cosine {
        /// Updates in all.
        total: u64,
    },
}

impl Schedule {
    /// The same rate throughout.
    pub fn constant(rate: f64) -> Self {
        Self { rate, warm_up: 0, curve: Curve::Constant }
    }

    /// The rate of update `iteration`, from 0.
    pub fn at(&self, iteration: u64) -> f64 {
        if iteration < self.warm_up {
            return self.rate * (iteration + 1) as f64 / self.warm_up as f64;
        }
        let share = match &self.curve {
            Curve::Constant => 1.0,
            Curve::Steps { at, factor } => factor.powi(at.iter().filter(|&&at| at <= iteration).count() as i32),
            Curve::Cosine { total } => {
                let left = total.saturating_sub(self.warm_up).max(1);
                let done = (iteration - self.warm_up).min(left) as f64 / left as f64;
                0.5 * (1.0 + (PI * done).cos())
            }
        };
        self.rate * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fall_at_their_iterations() {
        let curve = Curve::Steps { at: vec![150, 225], factor: 0.1 };
        let schedule = Schedule { rate: 0.1, warm_up: 0, curve };
        let rates = [0, 149, 150, 224, 225, 299].map(|iteration| schedule.at(iteration));
        for (rate, want) in rates.into_iter().zip([0.1, 0.1, 0.01, 0.01, 0.001, 0.001]) {
            assert!((rate - want).abs() < 1e-15, "{rate} {want}");
        }
    }

    #[test]
    fn a_cosine_begins_at_the_rate_and_ends_at_zero() {
        let schedule = Schedule { rate: 0.2, warm_up: 0, curve: Curve::Cosine { total: 100 } };
        for (iteration, want) in [(0, 0.2), (25, 0.170_710_678), (50, 0.1), (100, 0.0), (101, 0.0)] {
            assert!((schedule.at(iteration) - want).abs() < 1e-9, "{iteration}");
        }
        let warm = Schedule { warm_up: 4, ..schedule };
        for (iteration, want) in (0..).zip([0.05, 0.1, 0.15, 0.2, 0.2]) {
            assert!((warm.at(iteration) - want).abs() < 1e-12, "{iteration}");
        }
        // Half of the 96 that are left.
        assert!((warm.at(52) - 0.1).abs() < 1e-9 && warm.at(100) < 1e-9);
        assert_eq!(Schedule::constant(0.3).at(1 << 40), 0.3);
    }
}
