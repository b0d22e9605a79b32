//! A 3x3 convolution with stride 1 over a padded map, directly.

use super::tile::{accumulate, begin, for_tile};
use super::{Kernel, Simd, Tiling};
use crate::lanes::Lanes;
use crate::packed::{Group, Packed};

/// One row of the output.
pub(crate) struct Three<'a> {
    pub(crate) weights: &'a Packed,
    /// The rows above, at and below, each `[input block][width + 2]`.
    pub(crate) rows: [&'a [Lanes]; 3],
    /// Pixels of the output row.
    pub(crate) width: usize,
    /// `[output block][pitch]`.
    pub(crate) out: &'a mut [Lanes],
    /// At least the width.
    pub(crate) pitch: usize,
}

impl Kernel for Three<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weights, rows, width, out, pitch } = self;
        let tiling = Tiling::cover(width, S::PIXELS);
        let input = Input { used: weights.input.used(), rows, width, pitch };
        for group in &weights.groups {
            for index in 0..tiling.tiles {
                // The last tile moves back into the row and computes a few pixels again, to the same values.
                let x = (index * tiling.tile).min(width - tiling.tile);
                let out = &mut out[group.first * pitch + x..];
                for_tile!(tiling.tile, group.bias.len(), tile::<S>(simd, group, &input, x, out));
            }
        }
    }
}

struct Input<'a> {
    used: &'a [u8],
    rows: [&'a [Lanes]; 3],
    width: usize,
    pitch: usize,
}

#[inline(always)]
fn tile<S: Simd, const P: usize, const N: usize>(simd: S, group: &Group, input: &Input, x: usize, out: &mut [Lanes]) {
    let mut sums = begin::<S, P, N>(simd, group.bias.as_chunks().0.first().unwrap_or(&[Lanes::ZERO; N]));
    let mut weights = group.weights.as_chunks::<N>().0;
    for (block, &used) in input.used.iter().enumerate() {
        for row in input.rows {
            let line = &row[block * (input.width + 2) + x..][..P + 2];
            for tap in 0..3 {
                let Some(a) = line[tap..].first_chunk::<P>() else { return };
                let (now, rest) = weights.split_at(usize::from(used));
                weights = rest;
                accumulate(simd, a, now, &mut sums);
            }
        }
    }
    for n in 0..N {
        let out = &mut out[n * input.pitch..][..P];
        for p in 0..P {
            simd.store(sums[p][n], &mut out[p]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::testing::{Numbers, close};
    use crate::lanes::{LANES, Layout};

    #[test]
    fn rows_are_those_of_plain_loops() {
        for isa in Isa::available() {
            let backend = isa.backend().unwrap();
            let mut numbers = Numbers::default();
            for (width, channels, outputs) in [(1, 16, 16), (7, 20, 32), (13, 48, 12), (29, 3, 40), (56, 17, 33)] {
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
                backend.run(Three { weights: &packed, rows, width, out: &mut out, pitch: width });
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
