//! A 3x3 convolution's weights for Winograd's algorithms.

use crate::kernels::{Backend, FAR, NEAR};
use crate::lanes::Layout;
use crate::packed::Packed;

/// Most tiles in a chunk: more would no longer stay in a second-level cache, fewer would read the weights more often.
pub(crate) const TILES: usize = 28;

/// How much reading a position's weights costs, in tiles' products with them: they come from memory, and once an image.
const WEIGHTS: usize = 12;

/// Which algorithm: the side of the square of outputs that a tile computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// F(2x2, 3x3): 16 products for 4 outputs.
    Two,
    /// F(4x4, 3x3): 36 products for 16 outputs.
    Four,
}

impl Form {
    /// The cheapest for a map; none where nine products for each output are cheaper still.
    pub(crate) fn cheapest(height: usize, width: usize) -> Option<Self> {
        let cost = |form: Self| {
            let (down, across) = form.grid(height, width);
            form.positions() * (down * across + WEIGHTS)
        };
        let best = if cost(Self::Two) < cost(Self::Four) { Self::Two } else { Self::Four };
        (cost(best) < 9 * (height * width + WEIGHTS)).then_some(best)
    }

    /// Side of a tile's outputs.
    pub(crate) fn outputs(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Side of the square of inputs that a tile sees.
    pub(crate) fn inputs(self) -> usize {
        self.outputs() + 2
    }

    /// Values of a transformed tile.
    pub(crate) fn positions(self) -> usize {
        self.inputs() * self.inputs()
    }

    /// Rows and columns of tiles that cover a map.
    pub(crate) fn grid(self, height: usize, width: usize) -> (usize, usize) {
        (height.div_ceil(self.outputs()), width.div_ceil(self.outputs()))
    }

    /// Where the polynomials are evaluated, infinity aside.
    fn points(self) -> &'static [f64] {
        const A: f64 = NEAR as f64;
        const B: f64 = FAR as f64;
        match self {
            Self::Two => &[0.0, 1.0, -1.0],
            Self::Four => &[0.0, A, -A, B, -B],
        }
    }

    /// The rows of G. For each point its powers by what Lagrange's interpolation divides by: the product of its
    /// distances from the others.
    pub(crate) fn g(self) -> Vec<[f64; 3]> {
        let row = |&point: &f64| {
            let distances = self.points().iter().filter(|&&other| other != point).map(|other| point - other);
            let scale = 1.0 / distances.product::<f64>();
            [scale, scale * point, scale * point * point]
        };
        self.points().iter().map(row).chain([[0.0, 0.0, 1.0]]).collect()
    }
}

/// Transformed weights: a product over channels for each position of a transformed tile.
#[derive(Debug)]
pub(crate) struct Winograd {
    pub(crate) form: Form,
    /// Row by row.
    pub(crate) positions: Vec<Packed>,
}

impl Winograd {
    /// Transforms and packs `weight(output, input channel, tap)`.
    pub(crate) fn new(
        backend: Backend,
        form: Form,
        (input, outputs): (&Layout, usize),
        weight: impl Fn(usize, usize, usize) -> f64,
    ) -> Self {
        let (inputs, side, g) = (input.channels(), form.inputs(), form.g());
        let taps: Vec<[f64; 9]> = (0..outputs * inputs)
            .map(|pair| std::array::from_fn(|tap| weight(pair / inputs, pair % inputs, tap)))
            .collect();
        let packed = |position: usize| {
            let (upper, left) = (&g[position / side], &g[position % side]);
            let at = |output: usize, channel: usize, _| transform(upper, &taps[output * inputs + channel], left);
            Packed::new(backend, (input.clone(), outputs, 1), &[], at)
        };
        Self { form, positions: (0..form.positions()).map(packed).collect() }
    }
}

/// From one position of a chunk to the next, in vectors: odd, so that a tile's positions lie in different cache sets.
pub(crate) fn between(blocks: usize, span: usize) -> usize {
    (blocks * span) | 1
}

/// A value of G g G^T, by its row and column of G.
fn transform(upper: &[f64; 3], taps: &[f64; 9], left: &[f64; 3]) -> f64 {
    (0..9).map(|tap| upper[tap / 3] * taps[tap] * left[tap % 3]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_values_of_their_polynomial() {
        // Taps as coefficients in two variables: at (3/4, 3/4) and (3/2, -3/4), and at infinity in both.
        let (g, taps) = (Form::Four.g(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        let (near, far) = (-1.898_437_5, 7.593_75);
        assert!((transform(&g[1], &taps, &g[1]) - 22.691_406_25 / (near * near)).abs() < 1e-12);
        assert!((transform(&g[3], &taps, &g[2]) - 20.265_625 / (far * near)).abs() < 1e-12);
        assert_eq!(transform(&g[5], &taps, &g[5]), 9.0);
        assert_eq!(Form::Two.g(), [[-1.0, -0.0, -0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]]);
    }

    #[test]
    fn larger_maps_take_larger_tiles() {
        let sides = [1, 4, 7, 8, 14, 16, 28, 32, 56];
        let (two, four) = (Some(Form::Two), Some(Form::Four));
        assert_eq!(sides.map(|side| Form::cheapest(side, side)), [None, None, two, two, two, four, four, four, four]);
    }

    #[test]
    fn positions_are_odd_numbers_of_vectors_apart() {
        assert_eq!((between(8, 14), between(3, 5)), (113, 15));
    }
}
