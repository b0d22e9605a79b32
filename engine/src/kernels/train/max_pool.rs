//! The way back through the stem's max-pool.

use super::{RUN, Unit};
use crate::kernels::{Kernel, Simd};
use crate::lanes::{LANES, Lanes};
use crate::train::statistics::Sums;

/// Sends the gradient of one block of a 3x3 max-pool with stride 2 over `relu(norm(x))` to the first largest value of each
/// window, row by row, as PyTorch does. Windows without a positive value pass nothing.
pub(crate) struct MaxPoolGradient<'a> {
    /// The norm's vectors, for this block alone.
    pub(crate) unit: Unit<'a>,
    /// x, `[height * width]`.
    pub(crate) map: &'a [Lanes],
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// The gradient of what the pool gave, `[rows * columns]`, each side (side - 1) / 2 + 1.
    pub(crate) incoming: &'a [Lanes],
    /// The gradient of what the norm gave, as the map.
    pub(crate) gradient: &'a mut [Lanes],
    pub(crate) sums: &'a mut Sums,
}

impl Kernel for MaxPoolGradient<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { unit, map, height, width, incoming, gradient, sums } = self;
        let (scale, shift) = (simd.load(&unit.scale[0]), simd.load(&unit.shift[0]));
        let (inverse, offset) = (&unit.inverse[0].0, &unit.offset[0].0);
        gradient.fill(Lanes::ZERO);
        let columns = width.div_ceil(2);
        for (y, incoming) in incoming.chunks_exact(columns).enumerate() {
            let rows = (2 * y).saturating_sub(1)..(2 * y + 2).min(height);
            for (first, incoming) in incoming.chunks(RUN).enumerate() {
                let (mut plain, mut normalised) = (Lanes::ZERO, Lanes::ZERO);
                for (x, d) in (first * RUN..).zip(incoming) {
                    let seen = (2 * x).saturating_sub(1)..(2 * x + 2).min(width);
                    let (mut most, mut place, mut value) = ([0.0; LANES], [usize::MAX; LANES], [0.0; LANES]);
                    for at in rows.clone().flat_map(|row| seen.clone().map(move |column| row * width + column)) {
                        let mut activated = Lanes::ZERO;
                        simd.store(simd.mul_add(simd.load(&map[at]), scale, shift), &mut activated);
                        for lane in 0..LANES {
                            if activated.0[lane] > most[lane] {
                                most[lane] = activated.0[lane];
                                place[lane] = at;
                                value[lane] = map[at].0[lane];
                            }
                        }
                    }
                    for lane in 0..LANES {
                        if let Some(to) = gradient.get_mut(place[lane]) {
                            let d = d.0[lane];
                            to.0[lane] += d;
                            plain.0[lane] += d;
                            normalised.0[lane] += d * (value[lane] * inverse[lane] + offset[lane]);
                        }
                    }
                }
                sums.add(&plain, &normalised);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::testing::{Numbers, cases, close};

    #[test]
    fn each_window_s_first_largest_value_gets_its_gradient() {
        for isa in Isa::available() {
            let mut numbers = Numbers::default();
            for (height, width) in cases([(1_usize, 1_usize), (2, 5), (7, 8), (5, 131)], 3) {
                let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
                let vectors: [Vec<Lanes>; 4] = std::array::from_fn(|_| numbers.lanes(1));
                let [scale, shift, inverse, offset] = &vectors;
                let unit = Unit { scale, shift, inverse, offset };
                let (mut map, incoming) = (numbers.lanes(height * width), numbers.lanes(rows * columns));
                // Two values that are the same: the first counts.
                if width == 8 {
                    map[9] = map[2];
                }
                let (mut gradient, mut sums) = (numbers.lanes(height * width), Sums::default());
                let map = &map[..];
                isa.backend().unwrap().run(MaxPoolGradient {
                    unit,
                    map,
                    height,
                    width,
                    incoming: &incoming,
                    gradient: &mut gradient,
                    sums: &mut sums,
                });
                for lane in 0..LANES {
                    let activated = |at: usize| map[at].0[lane].mul_add(scale[0].0[lane], shift[0].0[lane]);
                    let mut want = vec![0.0_f64; height * width];
                    let (mut plain, mut normalised) = (0.0, 0.0);
                    for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                        let near =
                            |centre: usize, side: usize| (0..side).filter(move |&at| at.abs_diff(2 * centre) < 2);
                        let mut best: Option<usize> = None;
                        for at in near(y, height).flat_map(|row| near(x, width).map(move |column| row * width + column))
                        {
                            if activated(at) > best.map_or(0.0, activated) {
                                best = Some(at);
                            }
                        }
                        let Some(best) = best else { continue };
                        let d = f64::from(incoming[y * columns + x].0[lane]);
                        want[best] += d;
                        plain += d;
                        let x = f64::from(map[best].0[lane]);
                        normalised += d * (x * f64::from(inverse[0].0[lane]) + f64::from(offset[0].0[lane]));
                    }
                    for (got, want) in gradient.iter().zip(want) {
                        assert!(close(got.0[lane], want), "{isa} {height}x{width} {lane}: {} {want}", got.0[lane]);
                    }
                    assert!(
                        (sums.plain[lane] - plain).abs() < 1e-4 && (sums.normalised[lane] - normalised).abs() < 1e-4
                    );
                }
            }
        }
    }
}
