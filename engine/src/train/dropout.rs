//! Dropout whose mask is a function of its place alone: nothing of it is stored, and another device can draw the same.

use crate::kernels::train::{bits, limit, mix, scale};
use crate::lanes::LANES;

/// What a pass drops: values become zero with the probability `rate`, and those that stay are divided by its complement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    rate: f64,
    drawn: u64,
}

/// Where dropout stands: behind a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// The 1x1 of the network's dense layer of that number, from 0.
    One(usize),
    /// Its 3x3.
    Three(usize),
    /// The 1x1 behind the block of that number, from 0.
    Transition(usize),
}

/// What the dropout at one place is drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mask {
    rate: f64,
    key: u64,
}

impl Dropout {
    /// Of the pass of that number, from 0; none where nothing is dropped.
    pub fn new(rate: f64, seed: u64, pass: u64) -> Option<Self> {
        (rate > 0.0).then(|| Self { rate, drawn: mix(mix(seed) ^ pass) })
    }

    /// What it is at one place.
    pub fn at(self, site: Site) -> Mask {
        let number = match site {
            Site::One(layer) => 2 * layer,
            Site::Three(layer) => 2 * layer + 1,
            // Apart from those of the layers.
            Site::Transition(block) => usize::MAX - block,
        };
        Mask { rate: self.rate, key: mix(self.drawn ^ number as u64) }
    }
}

impl Mask {
    /// Of the place.
    pub fn key(self) -> u64 {
        self.key
    }

    /// Of an image of the batch.
    pub(crate) fn of(self, image: usize) -> u64 {
        mix(self.key ^ image as u64)
    }

    /// A value stays where its 32 bits are not below it.
    pub fn limit(self) -> u32 {
        limit(self.rate)
    }

    /// What a value that stays is multiplied by.
    pub fn scale(self) -> f32 {
        scale(self.rate)
    }

    /// Whether a value of an image stays, of a map of so many pixels.
    pub fn keeps(self, image: usize, channel: usize, pixel: usize, pixels: usize) -> bool {
        let (block, lane) = (channel / LANES, channel % LANES);
        let bits = bits(self.of(image), (block * pixels + pixel) as u64, lane / 2);
        (bits >> (32 * (lane % 2))) as u32 >= self.limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::train::Drop;
    use crate::lanes::Lanes;

    #[test]
    fn a_mask_is_what_another_program_draws() {
        // SplitMix64's functions in Python; the card's kernel is tested against the same.
        let mask = Mask { rate: 0.4, key: 5 };
        for (channel, expected) in [
            (0, "xxx.xxx.xx...xx........x......x..x.x"),
            (1, "x..xx.xxxxxxxx.xxxxx..x.x.x.xxx...xx"),
            (17, "...xxx....x..x.x.x...x..xxx..xx.xxxx"),
        ] {
            let keeps = |place: usize| mask.keeps(place / 12, channel, place % 12, 12);
            let drawn: String = (0..36).map(|place| if keeps(place) { 'x' } else { '.' }).collect();
            assert_eq!(drawn, expected, "{channel}");
        }
    }

    #[test]
    fn a_value_stays_where_the_kernel_keeps_it() {
        let mask = Dropout::new(0.4, 5, 2).unwrap().at(Site::Transition(1));
        let (blocks, pixels, image) = (3, 25, 7);
        let mut map = vec![Lanes([1.0; LANES]); blocks * pixels];
        let backend = Isa::Portable.backend().unwrap();
        let (map_, key) = (&mut map[..], mask.of(image));
        backend.run(Drop { key, rate: 0.4, map: map_, pitch: pixels, first: 0, count: pixels, blocks, pixels });
        for channel in 0..blocks * LANES {
            for pixel in 0..pixels {
                let expected = if mask.keeps(image, channel, pixel, pixels) { mask.scale() } else { 0.0 };
                assert_eq!(map[channel / LANES * pixels + pixel].0[channel % LANES], expected);
            }
        }
        assert_eq!(Dropout::new(0.0, 5, 2), None);
    }
}
