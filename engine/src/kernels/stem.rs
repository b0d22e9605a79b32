//! The stem's convolution over the image's planes, directly.

use super::tile::{begin, for_tile};
use super::{Kernel, Simd, Tiling};
use crate::lanes::Lanes;
use crate::packed::{Group, Packed};

/// One row of the output.
pub(crate) struct StemRow<'a> {
    /// A row of weights for each value that a pixel sees: row by row, column by column, channel by channel.
    pub(crate) weights: &'a Packed,
    /// The padded rows of planes that the output row sees.
    pub(crate) rows: &'a [&'a [f32]],
    /// Where in a row the first output pixel finds each value of it; the next pixel finds its own right behind.
    pub(crate) offsets: &'a [usize],
    pub(crate) relu: bool,
    /// Pixels of the output row.
    pub(crate) width: usize,
    /// `[output block][width]`.
    pub(crate) out: &'a mut [Lanes],
}

impl Kernel for StemRow<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weights, rows, offsets, relu, width, out } = self;
        let tiling = Tiling::cover(width, S::PIXELS);
        let input = Input { rows, offsets, relu, width };
        for group in &weights.groups {
            for index in 0..tiling.tiles {
                // The last tile moves back into the row and computes a few pixels again, to the same values.
                let x = (index * tiling.tile).min(width - tiling.tile);
                let out = &mut out[group.first * width + x..];
                for_tile!(tiling.tile, group.bias.len(), tile::<S>(simd, group, &input, x, out));
            }
        }
    }
}

struct Input<'a> {
    rows: &'a [&'a [f32]],
    offsets: &'a [usize],
    relu: bool,
    width: usize,
}

#[inline(always)]
fn tile<S: Simd, const P: usize, const N: usize>(simd: S, group: &Group, input: &Input, x: usize, out: &mut [Lanes]) {
    let mut sums = begin::<S, P, N>(simd, group.bias.as_chunks().0.first().unwrap_or(&[Lanes::ZERO; N]));
    let mut weights = group.weights.as_chunks::<N>().0.iter();
    for row in input.rows {
        for (offset, weights) in input.offsets.iter().zip(&mut weights) {
            let Some(pixels) = row[offset + x..].first_chunk::<P>() else { return };
            let mut w = [simd.splat(0.0); N];
            for n in 0..N {
                w[n] = simd.load(&weights[n]);
            }
            for p in 0..P {
                let pixel = simd.splat(pixels[p]);
                for n in 0..N {
                    sums[p][n] = simd.mul_add(pixel, w[n], sums[p][n]);
                }
            }
        }
    }
    for n in 0..N {
        let out = &mut out[n * input.width..][..P];
        for p in 0..P {
            let sum = sums[p][n];
            simd.store(if input.relu { simd.relu(sum) } else { sum }, &mut out[p]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::testing::{Numbers, cases, close};
    use crate::lanes::{LANES, Layout};
    use crate::maps::Planes;

    #[test]
    fn rows_are_those_of_plain_loops() {
        for isa in Isa::available() {
            let backend = isa.backend().unwrap();
            let mut numbers = Numbers::default();
            let all = [(1, 1, 3, 1, 16), (9, 3, 3, 1, 24), (31, 2, 7, 2, 33), (29, 3, 7, 2, 64), (56, 1, 7, 2, 5)];
            for (width, channels, kernel, stride, outputs) in cases(all, 2) {
                let (padding, taps) = (kernel / 2, kernel * kernel);
                let weight = numbers.take(outputs * channels * taps);
                let at = |o: usize, value: usize| {
                    let (tap, c) = (value / channels, value % channels);
                    f64::from(weight[(o * channels + c) * taps + tap])
                };
                let layout = Layout::of(taps * channels);
                let packed = Packed::new(backend, (layout, outputs, 1), &[], |o, value, _| at(o, value));
                let planes = Planes::new(channels, (kernel, width), kernel, stride).unwrap();
                let image = numbers.take(channels * kernel * width);
                planes.load(&image, 0..kernel);
                let guards: Vec<_> = (padding..padding + kernel).map(|row| planes.rows.read(row)).collect();
                let rows: Vec<_> = guards.iter().map(|row| &row[..]).collect();
                let out_width = width.div_ceil(stride);
                let mut out = vec![Lanes::ZERO; packed.blocks() * out_width];
                let (offsets, width_out) = (&planes.offsets[..], out_width);
                let weights = &packed;
                backend.run(StemRow { weights, rows: &rows, offsets, relu: true, width: width_out, out: &mut out });
                for x in 0..out_width {
                    for output in 0..outputs {
                        let mut want = 0.0;
                        for value in 0..taps * channels {
                            let (tap, c) = (value / channels, value % channels);
                            let column = (stride * x + tap % kernel).wrapping_sub(padding);
                            if column < width {
                                let pixel = image[(c * kernel + tap / kernel) * width + column];
                                want += at(output, value) * f64::from(pixel);
                            }
                        }
                        let got = out[output / LANES * out_width + x].0[output % LANES];
                        assert!(close(got, want.max(0.0)), "{isa} width {width} x {x} output {output}: {got} {want}");
                    }
                }
            }
        }
    }
}
