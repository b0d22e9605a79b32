//! A 3x3 convolution with stride 1 over a padded map, directly.

use super::tile::{accumulate, begin, for_tile};
use super::{Kernel, Simd, Tiling};
use crate::lanes::Lanes;
use crate::packed::{Group, Packed};

/// Some pixels of a row of the output.
pub(crate) struct Three<'a> {
    pub(crate) weights: &'a Packed,
    /// The rows above, at and below, each `[input block][pitch]`.
    pub(crate) rows: [&'a [Lanes]; 3],
    pub(crate) pitch: usize,
    /// The first pixel.
    pub(crate) x: usize,
    pub(crate) count: usize,
    /// `[output block][out_pitch]`, from the first pixel on.
    pub(crate) out: &'a mut [Lanes],
    pub(crate) out_pitch: usize,
}

impl Kernel for Three<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weights, rows, pitch, x: first, count, out, out_pitch } = self;
        let tiling = Tiling::cover(count, S::PIXELS);
        let input = Input { used: weights.input.used(), rows, pitch, out_pitch };
        for group in &weights.groups {
            for index in 0..tiling.tiles {
                // The last tile moves back and computes a few pixels again, to the same values.
                let x = (index * tiling.tile).min(count - tiling.tile);
                let out = &mut out[group.first * out_pitch + x..];
                for_tile!(tiling.tile, group.bias.len(), tile::<S>(simd, group, &input, first + x, out));
            }
        }
    }
}

struct Input<'a> {
    used: &'a [u8],
    rows: [&'a [Lanes]; 3],
    pitch: usize,
    out_pitch: usize,
}

#[inline(always)]
fn tile<S: Simd, const P: usize, const N: usize>(simd: S, group: &Group, input: &Input, x: usize, out: &mut [Lanes]) {
    let mut sums = begin::<S, P, N>(simd, group.bias.as_chunks().0.first().unwrap_or(&[Lanes::ZERO; N]));
    let mut weights = group.weights.as_chunks::<N>().0;
    for (block, &used) in input.used.iter().enumerate() {
        for row in input.rows {
            let line = &row[block * input.pitch + x..][..P + 2];
            for tap in 0..3 {
                let Some(a) = line[tap..].first_chunk::<P>() else { return };
                let (now, rest) = weights.split_at(usize::from(used));
                weights = rest;
                accumulate::<S, P, N, false>(simd, a, now, rest, &mut sums);
            }
        }
    }
    for n in 0..N {
        let out = &mut out[n * input.out_pitch..][..P];
        for p in 0..P {
            simd.store(sums[p][n], &mut out[p]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::testing::{Numbers, cases, close};
    use crate::lanes::{LANES, Layout};

    #[test]
    fn rows_are_those_of_plain_loops() {
        for isa in Isa::available() {
            let backend = isa.backend().unwrap();
            let mut numbers = Numbers::default();
            let all = [(1, 16, 16), (7, 20, 32), (13, 48, 12), (29, 3, 40), (56, 17, 33)];
            for (width, channels, outputs) in cases(all, 2) {
                let layout = Layout::of(channels);
                let weight = numbers.take(outputs * channels * 9);
                let at = |o: usize, c: usize, tap: usize| f64::from(weight[(o * channels + c) * 9 + tap]);
                let packed = Packed::new(backend, (layout.clone(), outputs, 9), &[], at);
                let pitch = width + 2;
                let x = numbers.take(3 * pitch * channels);
                let value = |y: usize, x_: usize, c: usize| x[(y * pitch + x_) * channels + c];
                let rows: Vec<Vec<Lanes>> = (0..3)
                    .map(|y| {
                        let mut row = vec![Lanes::ZERO; layout.blocks() * pitch];
                        for x in 0..pitch {
                            for c in 0..channels {
                                row[c / LANES * pitch + x].0[c % LANES] = value(y, x, c);
                            }
                        }
                        row
                    })
                    .collect();
                let mut out = vec![Lanes::ZERO; packed.blocks() * width];
                let rows = [&rows[0][..], &rows[1], &rows[2]];
                // Two pieces, so that the second begins elsewhere.
                let first = width.div_ceil(3);
                for (x, count) in [(0, first), (first, width - first)] {
                    if count > 0 {
                        let (weights, out) = (&packed, &mut out[x..]);
                        backend.run(Three { weights, rows, pitch, x, count, out, out_pitch: width });
                    }
                }
                for x in 0..width {
                    for output in 0..outputs {
                        let mut want = 0.0;
                        for c in 0..channels {
                            for tap in 0..9 {
                                want += at(output, c, tap) * f64::from(value(tap / 3, x + tap % 3, c));
                            }
                        }
                        let got = out[output / LANES * width + x].0[output % LANES];
                        assert!(close(got, want), "{isa} width {width} x {x} output {output}: {got} {want}");
                    }
                }
            }
        }
    }
}
