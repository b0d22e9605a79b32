//! Dropout (Srivastava et al. 2014) whose mask is a function of its place, so that nothing of it is stored.

use crate::kernels::{Kernel, Simd};
use crate::lanes::{LANES, Lanes};

/// Zeroes some values and scales those that stay by the inverse of their share.
pub(crate) struct Drop<'a> {
    /// One for each pass, convolution and image.
    pub(crate) key: u64,
    /// Share of the values that become zero.
    pub(crate) rate: f64,
    /// `[block][pitch]`; the pixels come first in each.
    pub(crate) map: &'a mut [Lanes],
    pub(crate) pitch: usize,
    /// The first pixel's number in the whole map.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Blocks.
    pub(crate) blocks: usize,
    /// From one block to the next, in the whole map's pixels.
    pub(crate) pixels: usize,
}

impl Kernel for Drop<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { key, rate, map, pitch, first, count, blocks, pixels } = self;
        let (keep, limit) = (simd.splat(scale(rate)), limit(rate));
        for block in 0..blocks {
            for (x, to) in map[block * pitch..][..count].iter_mut().enumerate() {
                let place = (block * pixels + first + x) as u64;
                let mut mask = Lanes::ZERO;
                for (pair, values) in mask.0.chunks_exact_mut(2).enumerate() {
                    let bits = bits(key, place, pair);
                    values[0] = f32::from(u8::from(bits as u32 >= limit));
                    values[1] = f32::from(u8::from((bits >> 32) as u32 >= limit));
                }
                simd.store(simd.mul(simd.mul(simd.load(to), keep), simd.load(&mask)), to);
            }
        }
    }
}

/// Below it a value's 32 bits drop it.
pub(crate) fn limit(rate: f64) -> u32 {
    (rate * 2.0_f64.powi(32)) as u32
}

/// What a value that stays is multiplied by.
pub(crate) fn scale(rate: f64) -> f32 {
    (1.0 / (1.0 - rate)) as f32
}

/// 32 bits, the lower first, for each lane of a pair at a place, block by block and pixel by pixel.
#[inline(always)]
pub(crate) fn bits(key: u64, place: u64, pair: usize) -> u64 {
    mix(key.wrapping_add(mix((LANES as u64 / 2) * place + pair as u64)))
}

/// SplitMix64's output function (Steele et al. 2014) on a step of its counter: every bit of the input moves every bit of
/// the output.
#[inline(always)]
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    fn ones(isa: Isa, key: u64, rate: f64, (first, count): (usize, usize), pixels: usize) -> Vec<Lanes> {
        let mut map = vec![Lanes([1.0; LANES]); 2 * count];
        isa.backend().unwrap().run(Drop { key, rate, map: &mut map, pitch: count, first, count, blocks: 2, pixels });
        map
    }

    #[test]
    fn the_mask_is_a_function_of_the_place_alone() {
        for isa in Isa::available() {
            let whole = ones(isa, 7, 0.2, (0, 1000), 1000);
            let part = ones(isa, 7, 0.2, (100, 50), 1000);
            assert_eq!(whole[100..150], part[..50], "{isa}");
            assert_eq!(whole[1100..1150], part[50..], "{isa}");
            assert_eq!(whole, ones(Isa::Portable, 7, 0.2, (0, 1000), 1000));
            assert_ne!(whole, ones(isa, 8, 0.2, (0, 1000), 1000));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "320,000 draws take minutes, and the other test runs the same code")]
    fn that_share_is_dropped_and_the_mean_stays() {
        let map = ones(Isa::Portable, 1, 0.2, (0, 10_000), 10_000);
        let values: Vec<f32> = map.iter().flat_map(|lanes| lanes.0).collect();
        assert!(values.iter().all(|&value| value == 0.0 || value == 1.25));
        // 320,000 draws: a deviation of 0.0007.
        let dropped = values.iter().filter(|&&value| value == 0.0).count() as f64 / values.len() as f64;
        assert!((dropped - 0.2).abs() < 0.003, "{dropped}");
        // Neither do neighbours agree more often than chance, 0.68.
        let agree = values.windows(2).filter(|pair| pair[0] == pair[1]).count() as f64 / values.len() as f64;
        assert!((agree - 0.68).abs() < 0.004, "{agree}");
    }
}
