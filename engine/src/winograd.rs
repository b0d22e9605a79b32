//! A 3x3 convolution's weights for Winograd's F(4x4, 3x3).

use crate::kernels::{Backend, FAR, NEAR, POSITIONS, TILE_SIDE};
use crate::lanes::Layout;
use crate::maps::Map;
use crate::packed::Packed;

/// Most tiles in a chunk. With the products' weights they stay in a second-level cache.
pub(crate) const TILES: usize = 14;
/// Tiles for which a chunk has room, those that round it up included.
pub(crate) const TILES_ROOM: usize = 16;
/// The least side of a map that pays: the tiles at the edge of a smaller one are mostly empty.
pub(crate) const LEAST_SIDE: usize = 12;

/// Transformed weights: a product over channels for each position of a transformed tile.
#[derive(Debug)]
pub(crate) struct Winograd {
    /// [`POSITIONS`] of them, row by row.
    pub(crate) positions: Vec<Packed>,
}

impl Winograd {
    /// Transforms and packs `weight(output, input channel, tap)`.
    pub(crate) fn new(
        backend: Backend,
        (input, outputs): (&Layout, usize),
        weight: impl Fn(usize, usize, usize) -> f64,
    ) -> Self {
        let inputs = input.channels();
        let transformed: Vec<_> = (0..outputs * inputs)
            .map(|pair| transform(&std::array::from_fn(|tap| weight(pair / inputs, pair % inputs, tap))))
            .collect();
        let packed = |position: usize| {
            let at = |output: usize, channel: usize, _| transformed[output * inputs + channel][position];
            Packed::new(backend, (input.clone(), outputs, 1), &[], at)
        };
        Self { positions: (0..POSITIONS).map(packed).collect() }
    }

    /// Whether a map is large enough. It depends on nothing else, so that an image's bits do not.
    pub(crate) fn pays(map: &Map) -> bool {
        map.height.min(map.width) >= LEAST_SIDE
    }

    /// Rows and columns of tiles that cover a map.
    pub(crate) fn grid(map: &Map) -> (usize, usize) {
        (map.height.div_ceil(TILE_SIDE), map.width.div_ceil(TILE_SIDE))
    }
}

/// From one position of a chunk to the next, in vectors: odd, so that a tile's positions lie in different cache sets.
pub(crate) fn stride(blocks: usize, span: usize) -> usize {
    (blocks * span) | 1
}

/// G g G^T.
fn transform(taps: &[f64; 9]) -> [f64; POSITIONS] {
    let g = g();
    std::array::from_fn(|position| {
        let (upper, left) = (g[position / 6], g[position % 6]);
        (0..9).map(|tap| upper[tap / 3] * taps[tap] * left[tap % 3]).sum()
    })
}

/// For each point its powers by what Lagrange's interpolation divides by: the product of its distances from the others.
pub(crate) fn g() -> [[f64; 3]; 6] {
    let (near, far) = (f64::from(NEAR), f64::from(FAR));
    let points = [0.0, near, -near, far, -far];
    let row = |point: f64| {
        let distances = points.into_iter().filter(|&other| other != point).map(|other| point - other);
        let scale = 1.0 / distances.product::<f64>();
        [scale, scale * point, scale * point * point]
    };
    let [zero, a, b, c, d] = points.map(row);
    [zero, a, b, c, d, [0.0, 0.0, 1.0]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_values_of_their_polynomial() {
        // Taps as coefficients in two variables: at (3/4, 3/4) and (3/2, -3/4), and at infinity in both.
        let transformed = transform(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        let (near, far) = (-1.898_437_5, 7.593_75);
        assert!((transformed[7] - 22.691_406_25 / (near * near)).abs() < 1e-12);
        assert!((transformed[3 * 6 + 2] - 20.265_625 / (far * near)).abs() < 1e-12);
        assert_eq!(transformed[35], 9.0);
    }

    #[test]
    fn strides_are_odd_and_fit() {
        assert_eq!((stride(8, 14), stride(3, 5)), (113, 15));
    }
}
