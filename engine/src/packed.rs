//! Weights in the order in which a kernel reads them.

use std::ops::Range;

use crate::Precision;
use crate::kernels::Backend;
use crate::lanes::{LANES, Lanes, Layout, flush, pair};

/// A convolution's weights, or the classifier's.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Where the input's channels lie.
    pub(crate) input: Layout,
    /// Channels out.
    pub(crate) outputs: usize,
    pub(crate) precision: Precision,
    /// The outputs, a tile's vectors at a time.
    pub(crate) groups: Vec<Group>,
}

/// The weights of one or two vectors of outputs.
#[derive(Debug)]
pub(crate) struct Group {
    /// The first output block.
    pub(crate) first: usize,
    /// What the sums start from, for each output block.
    pub(crate) bias: Vec<Lanes>,
    /// For each input block, each tap of the kernel and each used lane, or two of them where they are bf16: a vector for
    /// each output block.
    pub(crate) weights: Vec<Lanes>,
}

impl Packed {
    /// Packs `weight(output, input channel, tap)`, already scaled, for a kernel of `taps` taps.
    pub(crate) fn new(
        backend: Backend,
        sizes: (Layout, usize, usize),
        bias: &[f64],
        weight: impl Fn(usize, usize, usize) -> f64,
    ) -> Self {
        Self::with_precision(backend, Precision::F32, sizes, bias, weight)
    }

    /// The same in f32 or bf16, which a [`Gemm`](crate::kernels::Gemm) over pairs reads.
    pub(crate) fn with_precision(
        backend: Backend,
        precision: Precision,
        (input, outputs, taps): (Layout, usize, usize),
        bias: &[f64],
        weight: impl Fn(usize, usize, usize) -> f64,
    ) -> Self {
        let (_, vectors) = backend.tile();
        let blocks = outputs.div_ceil(LANES);
        let vector = |block: usize, value: &dyn Fn(usize) -> f32| {
            let mut lanes = Lanes::ZERO;
            for (lane, output) in lanes.0.iter_mut().zip(block * LANES..outputs) {
                *lane = value(output);
            }
            lanes
        };
        let group = |first: usize| {
            let own = first..(first + vectors).min(blocks);
            let mut weights = Vec::with_capacity(input.channels() * taps * own.len());
            let mut channel = 0;
            for &used in input.used() {
                let used = usize::from(used);
                for tap in 0..taps {
                    let at = |o, lane: usize| flush(weight(o, channel + lane, tap) as f32);
                    match precision {
                        Precision::F32 => {
                            for lane in 0..used {
                                weights.extend(own.clone().map(|block| vector(block, &|o| at(o, lane))));
                            }
                        }
                        Precision::Bf16 => {
                            for lane in (0..used).step_by(2) {
                                let second = |o| if lane + 1 < used { at(o, lane + 1) } else { 0.0 };
                                let both = |o| pair(at(o, lane), second(o));
                                weights.extend(own.clone().map(|block| vector(block, &both)));
                            }
                        }
                    }
                }
                channel += used;
            }
            let bias = own.map(|block| vector(block, &|o| flush(bias.get(o).copied().unwrap_or(0.0) as f32))).collect();
            Group { first, bias, weights }
        };
        let groups = (0..blocks).step_by(vectors).map(group).collect();
        Self { input, outputs, precision, groups }
    }

    /// Blocks of some groups' outputs.
    pub(crate) fn blocks_of(&self, groups: &Range<usize>) -> Range<usize> {
        let groups = &self.groups[groups.clone()];
        let first = groups.first().map_or(0, |group| group.first);
        first..groups.last().map_or(0, |group| group.first + group.bias.len())
    }

    /// Blocks of outputs.
    pub(crate) fn blocks(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn subnormal_weights_are_none() {
        let backend = Isa::Portable.backend().unwrap();
        let values = [1e-40, -1e-40, f64::from(f32::MIN_POSITIVE)];
        let packed = Packed::new(backend, (Layout::of(1), 3, 1), &values, |output, _, _| values[output]);
        let group = &packed.groups[0];
        for lanes in [group.weights[0], group.bias[0]] {
            assert_eq!(lanes.0[..4], [0.0, 0.0, f32::MIN_POSITIVE, 0.0]);
        }
    }

    #[test]
    fn weights_follow_the_used_lanes() {
        let mut input = Layout::of(1);
        input.push(2);
        let backend = Isa::Portable.backend().unwrap();
        let packed = Packed::new(backend, (input, 33, 2), &[0.5; 33], |output, channel, tap| {
            (100 * output + 10 * channel + tap) as f64
        });
        // Three blocks of outputs: two vectors and one.
        assert_eq!(packed.groups.len(), 2);
        let last = &packed.groups[1];
        assert_eq!((last.first, last.bias[0].0[..2].to_vec()), (2, vec![0.5, 0.0]));
        // Channel 0 at taps 0 and 1, then channels 1 and 2 at tap 0, then at tap 1.
        let first_lane: Vec<f32> = last.weights.iter().map(|lanes| lanes.0[0]).collect();
        assert_eq!(first_lane, [3200.0, 3201.0, 3210.0, 3220.0, 3211.0, 3221.0]);
        assert!(last.weights.iter().all(|lanes| lanes.0[1..] == [0.0; 15]));
    }
}
