//! A gradient whose batch norm's terms come in while it is read.

use crate::kernels::{Kernel, Panel, Simd};
use crate::lanes::Lanes;

/// Factors of `a * gradient + b * map + c`, for each block.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) a: Vec<Lanes>,
    pub(crate) b: Vec<Lanes>,
    pub(crate) c: Vec<Lanes>,
}

/// `a * gradient + b * map + c` of some pixels, put into a panel.
pub(crate) struct Affine<'a> {
    pub(crate) terms: &'a Terms,
    /// `[block][pitch]`.
    pub(crate) gradient: &'a [Lanes],
    /// `[block][pitch]`.
    pub(crate) map: &'a [Lanes],
    pub(crate) pitch: usize,
    /// The first pixel.
    pub(crate) x: usize,
    pub(crate) count: usize,
    pub(crate) panel: Panel<'a>,
}

impl Kernel for Affine<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { terms, gradient, map, pitch, x, count, panel } = self;
        let mut done = 0;
        while done < count {
            let (start, run) = panel.run(done, count - done);
            for (block, ((a, b), c)) in terms.a.iter().zip(&terms.b).zip(&terms.c).enumerate() {
                let (a, b, c) = (simd.load(a), simd.load(b), simd.load(c));
                let from = block * pitch + x + done;
                let pixels = gradient[from..][..run].iter().zip(&map[from..][..run]);
                let to = &mut panel.lanes[start + block * panel.tile..][..run];
                for ((gradient, value), to) in pixels.zip(to) {
                    let offset = simd.mul_add(simd.load(value), b, c);
                    simd.store(simd.mul_add(simd.load(gradient), a, offset), to);
                }
            }
            done += run;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::testing::{Numbers, close};
    use crate::lanes::LANES;

    #[test]
    fn pixels_come_out_of_plain_arithmetic() {
        for isa in Isa::available() {
            let mut numbers = Numbers::default();
            let (blocks, pitch, x, count, tile, at) = (2, 13, 3, 9, 4, 1);
            let terms = Terms { a: numbers.lanes(blocks), b: numbers.lanes(blocks), c: numbers.lanes(blocks) };
            let (gradient, map) = (numbers.lanes(blocks * pitch), numbers.lanes(blocks * pitch));
            let mut lanes = vec![Lanes::ZERO; 3 * blocks * tile];
            let panel = Panel { lanes: &mut lanes, blocks, tile, at };
            isa.backend().unwrap().run(Affine {
                terms: &terms,
                gradient: &gradient,
                map: &map,
                pitch,
                x,
                count,
                panel,
            });
            for (block, pixel) in (0..blocks).flat_map(|block| (0..count).map(move |pixel| (block, pixel))) {
                for lane in 0..LANES {
                    let of = |from: &[Lanes], index: usize| f64::from(from[index].0[lane]);
                    let from = block * pitch + x + pixel;
                    let want = of(&terms.a, block) * of(&gradient, from)
                        + of(&terms.b, block) * of(&map, from)
                        + of(&terms.c, block);
                    let place = at + pixel;
                    let got = lanes[(place / tile * blocks + block) * tile + place % tile].0[lane];
                    assert!(close(got, want), "{isa} {block} {pixel} {lane}: {got} {want}");
                }
            }
        }
    }
}
