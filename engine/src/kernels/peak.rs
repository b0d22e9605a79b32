//! What no kernel can exceed.

use std::time::Instant;

use super::tile::{Sums, for_tile};
use super::{Backend, Kernel, Simd};
use crate::lanes::{LANES, Lanes};

/// A tile's accumulators, multiplied and added to in registers alone.
struct MultiplyAdds<'a> {
    rounds: usize,
    /// x becomes `x * factor + 1`.
    factor: f32,
    out: &'a mut Lanes,
}

impl Kernel for MultiplyAdds<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { rounds, factor, out } = self;
        for_tile!(S::PIXELS, S::VECTORS, chains::<S>(simd, rounds, factor, out));
    }
}

#[inline(always)]
fn chains<S: Simd, const P: usize, const N: usize>(simd: S, rounds: usize, factor: f32, out: &mut Lanes) {
    let (factor, one) = (simd.splat(factor), simd.splat(1.0));
    let mut sums: Sums<S, P, N> = [[one; N]; P];
    for _ in 0..rounds {
        for row in &mut sums {
            for sum in row {
                *sum = simd.mul_add(*sum, factor, one);
            }
        }
    }
    let mut all = simd.splat(0.0);
    for row in sums {
        for sum in row {
            all = simd.add(all, sum);
        }
    }
    simd.store(all, out);
}

impl Backend {
    /// Multiplications and additions a second of one thread that does nothing else: the best of some tries.
    pub(crate) fn peak(self) -> f64 {
        const ROUNDS: usize = 100_000;
        let (pixels, vectors) = self.tile();
        let operations = 2 * pixels * vectors * LANES * ROUNDS;
        let mut best = 0.0_f64;
        for _ in 0..20 {
            let mut out = Lanes::ZERO;
            let start = Instant::now();
            self.run(MultiplyAdds { rounds: ROUNDS, factor: std::hint::black_box(0.5), out: &mut out });
            std::hint::black_box(&mut out);
            best = best.max(operations as f64 / start.elapsed().as_secs_f64());
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn every_accumulator_counts_every_round() {
        for backend in Isa::available().filter_map(Isa::backend) {
            let (pixels, vectors) = backend.tile();
            let mut out = Lanes::ZERO;
            backend.run(MultiplyAdds { rounds: 3, factor: 2.0, out: &mut out });
            // 1, 3, 7, 15.
            assert_eq!(out, Lanes([15.0 * (pixels * vectors) as f32; LANES]), "{}", backend.isa());
        }
    }
}
