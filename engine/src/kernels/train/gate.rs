//! The way back through `relu(norm(x))`: where it let x through, the gradient d passes, and the batch norm needs the sums
//! of d and of d times the normalised x.

use super::RUN;
use crate::kernels::{Kernel, Simd};
use crate::lanes::Lanes;
use crate::train::statistics::Sums;

/// A batch norm over some blocks: `scale * x + shift` is what it gives, `inverse * x + offset` the normalised x.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit<'a> {
    pub(crate) scale: &'a [Lanes],
    pub(crate) shift: &'a [Lanes],
    pub(crate) inverse: &'a [Lanes],
    pub(crate) offset: &'a [Lanes],
}

/// One block's vectors of a [`Unit`], in registers.
struct Vectors<S: Simd> {
    simd: S,
    scale: S::V,
    shift: S::V,
    inverse: S::V,
    offset: S::V,
    plain: S::V,
    normalised: S::V,
}

impl<S: Simd> Vectors<S> {
    #[inline(always)]
    fn new(simd: S, unit: Unit, block: usize) -> Self {
        let load = |from: &[Lanes]| simd.load(&from[block]);
        let (scale, shift) = (load(unit.scale), load(unit.shift));
        let (inverse, offset) = (load(unit.inverse), load(unit.offset));
        Self { simd, scale, shift, inverse, offset, plain: simd.splat(0.0), normalised: simd.splat(0.0) }
    }

    /// What of `d` passes the ReLU at `x`, by the expression with which the way forward decided it.
    #[inline(always)]
    fn gate(&mut self, x: &Lanes, d: S::V) -> S::V {
        let simd = self.simd;
        let x = simd.load(x);
        let d = simd.where_positive(simd.mul_add(x, self.scale, self.shift), d);
        self.plain = simd.add(self.plain, d);
        self.normalised = simd.mul_add(d, simd.mul_add(x, self.inverse, self.offset), self.normalised);
        d
    }

    /// Adds what has come together to the sums in f64.
    #[inline(always)]
    fn flush(&mut self, sums: &mut Sums) {
        let (mut plain, mut normalised) = (Lanes::ZERO, Lanes::ZERO);
        self.simd.store(self.plain, &mut plain);
        self.simd.store(self.normalised, &mut normalised);
        sums.add(&plain, &normalised);
        self.plain = self.simd.splat(0.0);
        self.normalised = self.simd.splat(0.0);
    }
}

/// Gates a gradient in place.
pub(crate) struct GateStore<'a> {
    pub(crate) unit: Unit<'a>,
    /// `[block][pitch]`; the pixels come first in each.
    pub(crate) map: &'a [Lanes],
    /// `[block][pitch]`; the pixels come first in each.
    pub(crate) gradient: &'a mut [Lanes],
    pub(crate) pitch: usize,
    pub(crate) count: usize,
    /// For each block.
    pub(crate) sums: &'a mut [Sums],
}

impl Kernel for GateStore<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { unit, map, gradient, pitch, count, sums } = self;
        for (block, sums) in sums.iter_mut().enumerate() {
            let mut vectors = Vectors::new(simd, unit, block);
            let (map, gradient) = (&map[block * pitch..][..count], &mut gradient[block * pitch..][..count]);
            for (map, gradient) in map.chunks(RUN).zip(gradient.chunks_mut(RUN)) {
                for (x, d) in map.iter().zip(gradient) {
                    let gated = vectors.gate(x, simd.load(d));
                    simd.store(gated, d);
                }
                vectors.flush(sums);
            }
        }
    }
}

/// Gates a gradient and adds it, times the norm's scale, to that of the map.
pub(crate) struct GateAdd<'a> {
    pub(crate) unit: Unit<'a>,
    /// `[block][pitch]`; the pixels come first in each.
    pub(crate) map: &'a [Lanes],
    /// The map's, as the map.
    pub(crate) gradient: &'a mut [Lanes],
    pub(crate) pitch: usize,
    pub(crate) count: usize,
    /// What comes back from the ReLU's reader, `[block][incoming_pitch]`.
    pub(crate) incoming: &'a [Lanes],
    pub(crate) incoming_pitch: usize,
    /// For each block.
    pub(crate) sums: &'a mut [Sums],
}

impl Kernel for GateAdd<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { unit, map, gradient, pitch, count, incoming, incoming_pitch, sums } = self;
        for (block, sums) in sums.iter_mut().enumerate() {
            let mut vectors = Vectors::new(simd, unit, block);
            let (map, gradient) = (&map[block * pitch..][..count], &mut gradient[block * pitch..][..count]);
            let incoming = &incoming[block * incoming_pitch..][..count];
            for ((map, gradient), incoming) in map.chunks(RUN).zip(gradient.chunks_mut(RUN)).zip(incoming.chunks(RUN)) {
                for ((x, gradient), d) in map.iter().zip(gradient).zip(incoming) {
                    let gated = vectors.gate(x, simd.load(d));
                    simd.store(simd.mul_add(gated, vectors.scale, simd.load(gradient)), gradient);
                }
                vectors.flush(sums);
            }
        }
    }
}

/// Spreads a gradient over the pixels of an average, gates it and sets the map's to it, times the norm's scale.
pub(crate) struct GateSet<'a> {
    pub(crate) unit: Unit<'a>,
    /// `[block][pitch]`; the pixels come first in each.
    pub(crate) map: &'a [Lanes],
    /// The map's, as the map.
    pub(crate) gradient: &'a mut [Lanes],
    pub(crate) pitch: usize,
    pub(crate) count: usize,
    /// What comes back from the average's reader, `[block][incoming_pitch]`: pixel x gets that of `x >> halvings`.
    pub(crate) incoming: &'a [Lanes],
    pub(crate) incoming_pitch: usize,
    pub(crate) halvings: u32,
    /// A pixel's share of the average.
    pub(crate) share: f32,
    /// For each block.
    pub(crate) sums: &'a mut [Sums],
}

impl Kernel for GateSet<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { unit, map, gradient, pitch, count, incoming, incoming_pitch, halvings, share, sums } = self;
        let share = simd.splat(share);
        for (block, sums) in sums.iter_mut().enumerate() {
            let mut vectors = Vectors::new(simd, unit, block);
            let (map, gradient) = (&map[block * pitch..][..count], &mut gradient[block * pitch..][..count]);
            let incoming = &incoming[block * incoming_pitch..];
            let mut at = 0;
            for (map, gradient) in map.chunks(RUN).zip(gradient.chunks_mut(RUN)) {
                for (x, gradient) in map.iter().zip(gradient) {
                    let d = simd.mul(simd.load(&incoming[at >> halvings]), share);
                    let gated = vectors.gate(x, d);
                    simd.store(simd.mul(gated, vectors.scale), gradient);
                    at += 1;
                }
                vectors.flush(sums);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::Backend;
    use crate::kernels::testing::{Numbers, close};
    use crate::lanes::LANES;

    const BLOCKS: usize = 2;
    const PITCH: usize = 83;
    const COUNT: usize = 79;

    /// Runs a gate with an incoming gradient of pixel `x >> halvings` and compares it with plain arithmetic on f64.
    fn check(
        halvings: u32,
        share: f32,
        gate: impl Fn(Backend, Unit, &[Lanes], &mut [Lanes], &[Lanes], &mut [Sums]),
        expected: impl Fn(f64, f64, f64) -> f64,
    ) {
        for isa in Isa::available() {
            let mut numbers = Numbers::default();
            let vectors: [Vec<Lanes>; 4] = std::array::from_fn(|_| numbers.lanes(BLOCKS));
            let [scale, shift, inverse, offset] = &vectors;
            let unit = Unit { scale, shift, inverse, offset };
            let (map, before) = (numbers.lanes(BLOCKS * PITCH), numbers.lanes(BLOCKS * PITCH));
            let (incoming, mut gradient) = (numbers.lanes(BLOCKS * PITCH), before.clone());
            let mut sums = vec![Sums::default(); BLOCKS];
            gate(isa.backend().unwrap(), unit, &map, &mut gradient, &incoming, &mut sums);
            for (block, sums) in sums.iter().enumerate() {
                for lane in 0..LANES {
                    let of = |from: &[Lanes], index: usize| f64::from(from[index].0[lane]);
                    let (mut plain, mut normalised) = (0.0, 0.0);
                    for pixel in 0..COUNT {
                        let x = of(&map, block * PITCH + pixel);
                        let open = x * of(scale, block) + of(shift, block) > 0.0;
                        let d = of(&incoming, block * PITCH + (pixel >> halvings)) * f64::from(share);
                        let d = if open { d } else { 0.0 };
                        plain += d;
                        normalised += d * (x * of(inverse, block) + of(offset, block));
                        let at = block * PITCH + pixel;
                        let want = expected(d, of(scale, block), of(&before, at));
                        assert!(close(gradient[at].0[lane], want), "{isa} {block} {pixel} {lane}");
                    }
                    assert!((sums.plain[lane] - plain).abs() < 1e-5, "{isa} {lane}");
                    assert!((sums.normalised[lane] - normalised).abs() < 1e-5, "{isa} {lane}");
                }
            }
        }
    }

    #[test]
    fn gradients_pass_where_the_relu_was_open() {
        let (pitch, count) = (PITCH, COUNT);
        check(
            0,
            1.0,
            |backend, unit, map, gradient, incoming, sums| {
                gradient.copy_from_slice(incoming);
                backend.run(GateStore { unit, map, gradient, pitch, count, sums });
            },
            |d, _, _| d,
        );
        let incoming_pitch = PITCH;
        check(
            0,
            1.0,
            |backend, unit, map, gradient, incoming, sums| {
                backend.run(GateAdd { unit, map, gradient, pitch, count, incoming, incoming_pitch, sums });
            },
            |d, scale, before| before + d * scale,
        );
        for (halvings, share) in [(1, 0.25), (usize::BITS - 1, 1.0 / COUNT as f32)] {
            check(
                halvings,
                share,
                |backend, unit, map, gradient, incoming, sums| {
                    let gate =
                        GateSet { unit, map, gradient, pitch, count, incoming, incoming_pitch, halvings, share, sums };
                    backend.run(gate);
                },
                |d, scale, _| d * scale,
            );
        }
    }
}
