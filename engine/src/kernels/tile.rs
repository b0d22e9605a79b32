//! A tile of pixels by output vectors whose sums stay in registers.

use super::Simd;
use crate::lanes::{LANES, Lanes};

/// How many equal tiles cover a number of pixels, and how large they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    /// Pixels in a tile.
    pub(crate) tile: usize,
    /// Tiles. Together they may cover a few pixels more.
    pub(crate) tiles: usize,
}

impl Tiling {
    /// Covers `pixels` with tiles of at most `most`.
    pub(crate) fn cover(pixels: usize, most: usize) -> Self {
        let tiles = pixels.div_ceil(most).max(1);
        Self { tile: pixels.div_ceil(tiles).max(1), tiles }
    }

    /// Pixels that the tiles for up to `pixels` may cover.
    pub(crate) fn room(pixels: usize, most: usize) -> usize {
        (1..=pixels).map(|pixels| Self::cover(pixels, most).span()).max().unwrap_or(0)
    }

    /// Pixels that the tiles cover.
    pub(crate) fn span(self) -> usize {
        self.tile * self.tiles
    }
}

/// Sums of `P` pixels by `N` output vectors.
pub(super) type Sums<S, const P: usize, const N: usize> = [[<S as Simd>::V; N]; P];

/// Sums that begin with the bias.
#[inline(always)]
pub(super) fn begin<S: Simd, const P: usize, const N: usize>(simd: S, bias: &[Lanes; N]) -> Sums<S, P, N> {
    let mut start = [simd.splat(0.0); N];
    for n in 0..N {
        start[n] = simd.load(&bias[n]);
    }
    [start; P]
}

/// How many rows of weights, beside those in use, are brought near ahead of time.
const AHEAD: usize = LANES;

/// Adds an input block's channels: `a` holds the pixels, `weights` a row for each used lane. `ahead` are the rows after
/// them: the processor's own prefetching stops at each page, some thirty rows. `BF16`: lanes are pairs of it.
#[inline(always)]
pub(super) fn accumulate<S: Simd, const P: usize, const N: usize, const BF16: bool>(
    simd: S,
    a: &[Lanes; P],
    weights: &[[Lanes; N]],
    ahead: &[[Lanes; N]],
    sums: &mut Sums<S, P, N>,
) {
    for (lane, row) in weights.iter().enumerate() {
        for line in ahead.get(lane + AHEAD).into_iter().flatten() {
            simd.prefetch(line);
        }
        let mut w = [simd.splat(0.0); N];
        for n in 0..N {
            w[n] = simd.load(&row[n]);
        }
        for p in 0..P {
            // There are sixteen lanes at most; the mask saves the check.
            let x = simd.splat(a[p].0[lane & 15]);
            for n in 0..N {
                sums[p][n] = if BF16 { simd.dot(x, w[n], sums[p][n]) } else { simd.mul_add(x, w[n], sums[p][n]) };
            }
        }
    }
}

/// Calls a function that is generic over (instruction set, pixels, vectors) for a tile of `$pixels` pixels.
macro_rules! for_tile {
    ($pixels:expr, $vectors:expr, $function:ident::<$S:ident>($($argument:expr),*)) => {
        for_tile!(@ $pixels, $vectors, $function, $S, ($($argument),*), 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@ $pixels:expr, $vectors:expr, $function:ident, $S:ident, $arguments:tt, $($size:literal)*) => {
        match ($pixels, $vectors) {
            $(
                ($size, 1) => for_tile!(! $function, $S, $size, 1, $arguments),
                ($size, 2) => for_tile!(! $function, $S, $size, 2, $arguments),
            )*
            (pixels, vectors) => unreachable!("no tile of {pixels} pixels by {vectors} vectors"),
        }
    };
    // Sizes past the registers of an instruction set are not compiled for it.
    (! $function:ident, $S:ident, $size:literal, $vectors:literal, ($($argument:expr),*)) => {
        if const { $size <= $S::PIXELS && $vectors <= $S::VECTORS } {
            $function::<$S, $size, $vectors>($($argument),*);
        } else {
            unreachable!("a tile of {} pixels is past the registers", $size)
        }
    };
}
pub(super) use for_tile;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::{CHUNK, ROOM};

    #[test]
    fn tiles_cover_every_chunk_and_fit_its_room() {
        for isa in Isa::available() {
            let (most, _) = isa.backend().unwrap().tile();
            for pixels in 1..=CHUNK {
                let tiling = Tiling::cover(pixels, most);
                assert!(tiling.tile <= most && (pixels..=ROOM).contains(&tiling.span()), "{isa} {pixels} {tiling:?}");
            }
        }
        assert_eq!(Tiling::cover(32, 14), Tiling { tile: 11, tiles: 3 });
    }
}
