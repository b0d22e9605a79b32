//! A 1x1 convolution, as a product of a panel of pixels and packed weights.

use std::ops::Range;

use super::tile::{accumulate, begin, for_tile};
use super::{Kernel, Simd, Tiling};
use crate::Precision;
use crate::lanes::Lanes;
use crate::packed::{Group, Packed};

/// Most pixels in a panel: it is packed once and read for every output vector.
pub(crate) const CHUNK: usize = 56;
/// Pixels for which a panel and its output have room, those that round the tiles up included.
pub(crate) const ROOM: usize = 64;

/// Sums over all channels of a panel, for some of the output groups.
pub(crate) struct Gemm<'a> {
    pub(crate) weights: &'a Packed,
    /// Indices of the output groups to compute.
    pub(crate) groups: Range<usize>,
    /// `[tile][input block][pixel of the tile]`.
    pub(crate) panel: &'a [Lanes],
    pub(crate) tiling: Tiling,
    pub(crate) relu: bool,
    /// `[output block][pitch]`, all blocks of the convolution; the pixels come first in each.
    pub(crate) out: &'a mut [Lanes],
    /// At least the pixels that the tiles cover.
    pub(crate) pitch: usize,
}

impl Kernel for Gemm<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weights, groups, panel, tiling, relu, out, pitch } = self;
        let used = weights.input.used();
        for group in &weights.groups[groups] {
            for (index, panel) in panel.chunks_exact(used.len() * tiling.tile).take(tiling.tiles).enumerate() {
                let out = &mut out[group.first * pitch + index * tiling.tile..];
                let input = Input { used, panel, relu, pitch };
                match weights.precision {
                    Precision::F32 => for_tile!(tiling.tile, group.bias.len(), tile::<S>(simd, group, &input, out)),
                    Precision::Bf16 => for_tile!(tiling.tile, group.bias.len(), pairs::<S>(simd, group, &input, out)),
                }
            }
        }
    }
}

struct Input<'a> {
    used: &'a [u8],
    panel: &'a [Lanes],
    relu: bool,
    pitch: usize,
}

#[inline(always)]
fn tile<S: Simd, const P: usize, const N: usize>(simd: S, group: &Group, input: &Input, out: &mut [Lanes]) {
    product::<S, P, N, false>(simd, group, input, out);
}

/// The same in bf16.
#[inline(always)]
fn pairs<S: Simd, const P: usize, const N: usize>(simd: S, group: &Group, input: &Input, out: &mut [Lanes]) {
    product::<S, P, N, true>(simd, group, input, out);
}

#[inline(always)]
fn product<S: Simd, const P: usize, const N: usize, const BF16: bool>(
    simd: S,
    group: &Group,
    input: &Input,
    out: &mut [Lanes],
) {
    let mut sums = begin::<S, P, N>(simd, group.bias.as_chunks().0.first().unwrap_or(&[Lanes::ZERO; N]));
    let mut weights = group.weights.as_chunks::<N>().0;
    for (a, &used) in input.panel.as_chunks::<P>().0.iter().zip(input.used) {
        let used = usize::from(used);
        let (now, rest) = weights.split_at(if BF16 { used.div_ceil(2) } else { used });
        weights = rest;
        accumulate::<S, P, N, BF16>(simd, a, now, rest, &mut sums);
    }
    for n in 0..N {
        let out = &mut out[n * input.pitch..][..P];
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
    use crate::lanes::{LANES, Layout, pair, unpair};

    #[test]
    fn products_in_bf16_are_those_of_plain_loops() {
        for backend in Isa::available().filter_map(|isa| isa.backend()?.with_bf16()) {
            let mut numbers = Numbers::default();
            let mut layout = Layout::of(21);
            layout.push(12);
            let (pixels, outputs, channels) = (9, 40, layout.channels());
            let mut rounded =
                |count| -> Vec<f32> { numbers.take(count).iter().map(|&x| unpair(pair(x, 0.0))[0]).collect() };
            let (weight, x) = (rounded(outputs * channels), rounded(pixels * channels));
            let at = |o: usize, c: usize, _: usize| f64::from(weight[o * channels + c]);
            let sizes = (layout.clone(), outputs, 1);
            let packed = Packed::with_precision(backend, Precision::Bf16, sizes, &[], at);
            let (tiling, blocks) = (Tiling { tile: 1, tiles: pixels }, layout.blocks());
            let mut panel = Vec::new();
            for pixel in x.chunks(channels) {
                panel.extend(layout.spread(pixel.iter().copied()).iter().map(|lanes| {
                    let mut pairs = Lanes([f32::NAN; LANES]);
                    for (to, two) in pairs.0.iter_mut().zip(lanes.0.as_chunks::<2>().0) {
                        *to = pair(two[0], two[1]);
                    }
                    pairs
                }));
            }
            assert_eq!(panel.len(), pixels * blocks);
            let mut out = vec![Lanes::ZERO; packed.blocks() * pixels];
            let groups = 0..packed.groups.len();
            let (weights, panel, out_) = (&packed, &panel[..], &mut out[..]);
            backend.run(Gemm { weights, groups, panel, tiling, relu: false, out: out_, pitch: pixels });
            for pixel in 0..pixels {
                for output in 0..outputs {
                    let want: f64 = (0..channels).map(|c| at(output, c, 0) * f64::from(x[pixel * channels + c])).sum();
                    let got = out[output / LANES * pixels + pixel].0[output % LANES];
                    assert!(close(got, want), "{} pixel {pixel} output {output}: {got} {want}", backend.isa());
                }
            }
        }
    }

    #[test]
    fn products_are_those_of_plain_loops() {
        for isa in Isa::available() {
            let backend = isa.backend().unwrap();
            let mut numbers = Numbers::default();
            let all = [
                (1, vec![16], 16),
                (5, vec![3], 1),
                (13, vec![16, 12, 12], 40),
                (25, vec![21, 7], 33),
                (56, vec![64], 50),
            ];
            for (pixels, parts, outputs) in cases(all, 2) {
                let mut layout = Layout::default();
                for part in parts {
                    layout.push(part);
                }
                let channels = layout.channels();
                let weight: Vec<f32> = numbers.take(outputs * channels);
                let bias: Vec<f64> = numbers.take(outputs).into_iter().map(f64::from).collect();
                let packed = Packed::new(backend, (layout.clone(), outputs, 1), &bias, |o, c, _| {
                    f64::from(weight[o * channels + c])
                });
                let x: Vec<f32> = numbers.take(pixels * channels);
                let tiling = Tiling::cover(pixels, backend.tile().0);
                let blocks = layout.blocks();
                let mut panel = vec![Lanes::ZERO; blocks * tiling.span()];
                for pixel in 0..pixels {
                    let spread = layout.spread(x[pixel * channels..][..channels].iter().copied());
                    for (block, lanes) in spread.into_iter().enumerate() {
                        panel[(pixel / tiling.tile * blocks + block) * tiling.tile + pixel % tiling.tile] = lanes;
                    }
                }
                let mut out = vec![Lanes::ZERO; packed.blocks() * tiling.span()];
                let groups = 0..packed.groups.len();
                let (panel, pitch) = (&panel[..], tiling.span());
                backend.run(Gemm { weights: &packed, groups, panel, tiling, relu: true, out: &mut out, pitch });
                for pixel in 0..pixels {
                    for output in 0..outputs {
                        let products = (0..channels)
                            .map(|c| f64::from(weight[output * channels + c]) * f64::from(x[pixel * channels + c]));
                        let want = (bias[output] + products.sum::<f64>()).max(0.0);
                        let got = out[output / LANES * tiling.span() + pixel].0[output % LANES];
                        assert!(close(got, want), "{isa} pixel {pixel} output {output}: {got} {want}");
                    }
                }
            }
        }
    }
}
