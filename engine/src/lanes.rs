//! Sixteen channels side by side, and where a map's channels lie in them.

use std::ops::Range;

/// Channels in a block, and lanes of the logical vector that every kernel works on.
pub(crate) const LANES: usize = 16;

/// Sixteen channels of one pixel: a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [f32; LANES]);

impl Lanes {
    pub(crate) const ZERO: Self = Self([0.0; LANES]);
}

/// Zero for a subnormal number, which processors may take far longer to multiply.
pub(crate) fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0.0 } else { value }
}

/// The nearest bf16, ties to even; NaN stays NaN.
pub(crate) fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Two bf16 in the bits of a lane, the first in the lower half.
pub(crate) fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(u32::from(bf16(first)) | u32::from(bf16(second)) << 16)
}

/// The two bf16 in a lane.
pub(crate) fn unpair(pair: f32) -> [f32; 2] {
    [f32::from_bits(pair.to_bits() << 16), f32::from_bits(pair.to_bits() & 0xffff_0000)]
}

/// How many lanes of each channel block hold a channel. The others hold zeros, and no kernel multiplies by them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Layout(Vec<u8>);

impl Layout {
    /// `channels` channels, in as few blocks as they need.
    pub(crate) fn of(channels: usize) -> Self {
        let mut layout = Self::default();
        layout.push(channels);
        layout
    }

    /// `channels` more, which begin a block of their own: what one layer writes is whole vectors.
    pub(crate) fn push(&mut self, channels: usize) {
        let full = std::iter::repeat_n(LANES as u8, channels / LANES);
        let rest = (channels % LANES) as u8;
        self.0.extend(full.chain((rest > 0).then_some(rest)));
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.0.len()
    }

    /// Number of channels.
    pub(crate) fn channels(&self) -> usize {
        self.0.iter().map(|&used| usize::from(used)).sum()
    }

    /// Used lanes of each block.
    pub(crate) fn used(&self) -> &[u8] {
        &self.0
    }

    /// The values of a pixel's channels, in their order.
    pub(crate) fn gather<'a>(&self, lanes: impl IntoIterator<Item = &'a Lanes>) -> impl Iterator<Item = f32> {
        self.0.iter().zip(lanes).flat_map(|(&used, lanes)| lanes.0.into_iter().take(usize::from(used)))
    }

    /// The channels of each block.
    pub(crate) fn channels_at(&self) -> Vec<Range<usize>> {
        let mut first = 0;
        let block = |&used: &u8| {
            first += usize::from(used);
            first - usize::from(used)..first
        };
        self.0.iter().map(block).collect()
    }

    /// The lane of each channel, counted from the first block's first.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = usize> {
        self.0
            .iter()
            .enumerate()
            .flat_map(|(block, &used)| (0..usize::from(used)).map(move |lane| block * LANES + lane))
    }

    /// A value for each channel, put where the channel lies.
    pub(crate) fn spread(&self, values: impl IntoIterator<Item = f32>) -> Vec<Lanes> {
        let mut values = values.into_iter();
        let block = |&used: &u8| {
            let mut lanes = Lanes::ZERO;
            for (lane, value) in lanes.0.iter_mut().take(usize::from(used)).zip(&mut values) {
                *lane = value;
            }
            lanes
        };
        self.0.iter().map(block).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_the_nearest() {
        // Between 1 and 1 + 2^-7 lies 1 + 2^-8: to even, down there and up above it.
        let half = f32::powi(2.0, -8);
        let rounded = [1.0 + half, 1.0 + 1.01 * half, 1.0 + 3.0 * half, -0.1, f32::INFINITY, f32::MAX, f32::NAN];
        assert_eq!(rounded.map(bf16), [0x3f80, 0x3f81, 0x3f82, 0xbdcd, 0x7f80, 0x7f80, 0x7fc0]);
        assert_eq!(unpair(pair(1.5, -3.0)), [1.5, -3.0]);
    }

    #[test]
    fn each_layer_s_channels_begin_a_block() {
        let mut layout = Layout::of(16);
        layout.push(12);
        layout.push(20);
        assert_eq!(layout.used(), [16, 12, 16, 4]);
        assert_eq!((layout.blocks(), layout.channels()), (4, 48));
        assert_eq!(layout.channels_at(), [0..16, 16..28, 28..44, 44..48]);
        let lanes: Vec<usize> = layout.lanes().collect();
        assert_eq!((lanes[16], lanes[27], lanes[28], lanes[47]), (16, 27, 32, 51));
        let spread = layout.spread((0..48).map(|channel| channel as f32));
        assert_eq!(spread[1].0[11..14], [27.0, 0.0, 0.0]);
        assert_eq!(spread[3].0[..5], [44.0, 45.0, 46.0, 47.0, 0.0]);
        assert!(layout.gather(&spread).eq((0..48).map(|channel| channel as f32)));
    }
}
