//! Gradients of a convolution's weights: for each output and input channel the sum over pixels of gradient times input.

use crate::kernels::{Kernel, Simd};
use crate::lanes::{LANES, Lanes};

/// Rows of pixels: pixel x of row y in block b lies at `b * block + y * row + x`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid<'a> {
    pub(crate) lanes: &'a [Lanes],
    pub(crate) block: usize,
    pub(crate) row: usize,
}

/// Adds the products of some rows of pixels, one tap of a kernel's.
pub(crate) struct Outer<'a> {
    /// The outputs' gradient.
    pub(crate) gradient: Grid<'a>,
    /// What the tap sees of the input at the same pixels.
    pub(crate) input: Grid<'a>,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    /// Output channels, sixteen to a block.
    pub(crate) outputs: usize,
    /// Input blocks.
    pub(crate) blocks: usize,
    /// `[output][input block]`.
    pub(crate) sums: &'a mut [Lanes],
}

impl Kernel for Outer<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let most = const { most::<S>() };
        let mut block = 0;
        while block < self.blocks {
            let left = self.blocks - block;
            // Four blocks are two and two.
            let vectors = if left == most.1 + 1 { left.div_ceil(2) } else { left.min(most.1) };
            let mut output = 0;
            while output < self.outputs {
                // A power of two that does not pass the end of its block.
                let left = (self.outputs - output).min(most.0);
                let outputs = 1 << left.ilog2();
                self.tile(simd, (output, outputs), (block, vectors));
                output += outputs;
            }
            block += vectors;
        }
    }
}

/// Outputs and input vectors of a tile, so that its sums stay in registers.
const fn most<S: Simd>() -> (usize, usize) {
    match (S::PIXELS, S::VECTORS) {
        (14.., 2..) => (8, 3),
        (4.., _) => (4, 1),
        _ => (2, 1),
    }
}

impl Outer<'_> {
    #[inline(always)]
    fn tile<S: Simd>(&mut self, simd: S, (output, outputs): (usize, usize), (block, vectors): (usize, usize)) {
        macro_rules! sizes {
            ($(($o:literal, $n:literal))*) => {
                match (outputs, vectors) {
                    $(($o, $n) => {
                        // Sizes past the registers of an instruction set are not compiled for it.
                        if const { $o <= most::<S>().0 && $n <= most::<S>().1 } {
                            self.sum::<S, $o, $n>(simd, output, block);
                        } else {
                            unreachable!("a tile of {outputs} outputs by {vectors} vectors is past the registers")
                        }
                    })*
                    _ => unreachable!("no tile of {outputs} outputs by {vectors} vectors"),
                }
            };
        }
        sizes!((1, 1)(2, 1)(4, 1)(8, 1)(1, 2)(2, 2)(4, 2)(8, 2)(1, 3)(2, 3)(4, 3)(8, 3));
    }

    #[inline(always)]
    fn sum<S: Simd, const O: usize, const N: usize>(&mut self, simd: S, output: usize, block: usize) {
        let (width, first) = (self.width, output % LANES);
        let mut sums = [[simd.splat(0.0); N]; O];
        for y in 0..self.rows {
            let gradient =
                &self.gradient.lanes[output / LANES * self.gradient.block + y * self.gradient.row..][..width];
            let mut input = [gradient; N];
            for (n, input) in input.iter_mut().enumerate() {
                *input = &self.input.lanes[(block + n) * self.input.block + y * self.input.row..][..width];
            }
            for x in 0..width {
                let mut values = [simd.splat(0.0); N];
                for n in 0..N {
                    values[n] = simd.load(&input[n][x]);
                }
                for (o, sums) in sums.iter_mut().enumerate() {
                    // There are sixteen lanes; the mask saves the check.
                    let d = simd.splat(gradient[x].0[(first + o) & (LANES - 1)]);
                    for n in 0..N {
                        sums[n] = simd.mul_add(d, values[n], sums[n]);
                    }
                }
            }
        }
        for (o, sums) in sums.iter().enumerate() {
            let to = &mut self.sums[(output + o) * self.blocks + block..][..N];
            for n in 0..N {
                let sum = simd.add(simd.load(&to[n]), sums[n]);
                simd.store(sum, &mut to[n]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::testing::{Numbers, close};

    #[test]
    fn sums_are_those_of_plain_loops() {
        for isa in Isa::available() {
            let mut numbers = Numbers::default();
            for (rows, width, outputs, blocks) in [(1, 1, 1_usize, 1), (3, 7, 12, 3), (2, 5, 39, 4), (1, 13, 16, 5)] {
                // Rows with a border of one pixel, of which the input is shifted by one.
                let row = width + 2;
                let output_blocks = outputs.div_ceil(LANES);
                let gradient = numbers.lanes(output_blocks * rows * row);
                let input = numbers.lanes(blocks * rows * row);
                let before = numbers.lanes(outputs * blocks);
                let mut sums = before.clone();
                isa.backend().unwrap().run(Outer {
                    gradient: Grid { lanes: &gradient[1..], block: rows * row, row },
                    input: Grid { lanes: &input, block: rows * row, row },
                    rows,
                    width,
                    outputs,
                    blocks,
                    sums: &mut sums,
                });
                for (output, block) in (0..outputs).flat_map(|output| (0..blocks).map(move |block| (output, block))) {
                    for lane in 0..LANES {
                        let mut want = f64::from(before[output * blocks + block].0[lane]);
                        for (y, x) in (0..rows).flat_map(|y| (0..width).map(move |x| (y, x))) {
                            let at = |block: usize| block * rows * row + y * row + x;
                            let d = gradient[at(output / LANES) + 1].0[output % LANES];
                            want += f64::from(d) * f64::from(input[at(block)].0[lane]);
                        }
                        let got = sums[output * blocks + block].0[lane];
                        assert!(close(got, want), "{isa} {rows}x{width} {output} {block} {lane}: {got} {want}");
                    }
                }
            }
        }
    }
}
