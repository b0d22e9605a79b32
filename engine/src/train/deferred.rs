//! The terms of batch norm's way back that are paid when a channel's turn comes.

use super::statistics::{Statistics, Sums};
use crate::fold::Norm;
use crate::kernels::train::Terms;
use crate::lanes::{LANES, Lanes};

/// What the batch norms that have been gone back through still owe to a map's gradient: `gradient - mean - slope * x̂`.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    mean: Vec<f64>,
    slope: Vec<f64>,
}

impl Deferred {
    /// Owes nothing for that many lanes.
    pub(crate) fn clear(&mut self, lanes: usize) {
        for values in [&mut self.mean, &mut self.slope] {
            values.clear();
            values.resize(lanes, 0.0);
        }
    }

    /// The debt of a norm over the first channels of the map.
    pub(crate) fn add(&mut self, norm: &Norm, sums: &[Sums], count: f64) {
        for (block, sums) in sums.iter().enumerate() {
            for lane in 0..LANES {
                let scale = f64::from(norm.scale[block].0[lane]) / count;
                self.mean[block * LANES + lane] += scale * sums.plain[lane];
                self.slope[block * LANES + lane] += scale * sums.normalised[lane];
            }
        }
    }

    /// Pays for some blocks: what makes their gradient of what has come together and of the map.
    pub(crate) fn terms(&self, statistics: &Statistics, blocks: std::ops::Range<usize>) -> Terms {
        let mut terms = Terms::default();
        for block in blocks {
            let lane = |lane: usize| block * LANES + lane;
            let [mean, slope] = [&self.mean, &self.slope].map(|values| |at: usize| values[lane(at)]);
            let inverse = |at: usize| statistics.inverse[lane(at)];
            let centre = |at: usize| statistics.mean[lane(at)];
            terms.a.push(Lanes([1.0; LANES]));
            terms.b.push(Lanes(std::array::from_fn(|at| (-slope(at) * inverse(at)) as f32)));
            terms.c.push(Lanes(std::array::from_fn(|at| (slope(at) * inverse(at) * centre(at) - mean(at)) as f32)));
        }
        terms
    }
}

/// What makes the gradient of a norm's input of the gated one, where nothing else reads the input.
pub(crate) fn paid(norm: &Norm, statistics: &Statistics, sums: &[Sums]) -> Terms {
    let mut deferred = Deferred::default();
    deferred.clear(sums.len() * LANES);
    deferred.add(norm, sums, statistics.count);
    let terms = deferred.terms(statistics, 0..sums.len());
    Terms { a: norm.scale.clone(), ..terms }
}
