//! The transforms around the products of Winograd's F(2x2, 3x3) and F(4x4, 3x3): B^T d B before them, A^T m A after.

use super::pack::Panel;
use super::{Kernel, Simd};
use crate::lanes::Lanes;
use crate::winograd::Form;

/// The most rows of inputs that a tile sees.
pub(crate) const MOST_INPUTS: usize = 6;
/// The most rows of outputs in a tile.
pub(crate) const MOST_OUTPUTS: usize = 4;
/// F(4x4, 3x3) evaluates its polynomials at 0, ±NEAR, ±FAR and infinity. Half the rounding error of the usual 1 and 2,
/// and what the transforms multiply by is exact.
pub(crate) const NEAR: f32 = 0.75;
/// See [`NEAR`].
pub(crate) const FAR: f32 = 1.5;

/// B^T d B of some tiles of a row of tiles.
pub(crate) struct ToTiles<'a> {
    pub(crate) form: Form,
    /// The padded rows that the tiles see, each `[input block][pitch]`; those below the map are none.
    pub(crate) rows: [Option<&'a [Lanes]>; MOST_INPUTS],
    pub(crate) pitch: usize,
    /// The first tile.
    pub(crate) x: usize,
    pub(crate) count: usize,
    /// Tiles where other panels have pixels, and `stride` vectors behind it the next position's.
    pub(crate) panel: Panel<'a>,
    pub(crate) stride: usize,
}

impl Kernel for ToTiles<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.form {
            Form::Two => self.tiles::<S, 2, 4>(simd),
            Form::Four => self.tiles::<S, 4, 6>(simd),
        }
    }
}

impl ToTiles<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const OUT: usize, const IN: usize>(self, simd: S) {
        let Self { rows, pitch, x, count, panel, stride, .. } = self;
        let nothing = [Lanes::ZERO; IN];
        // What the last tile of a row sees; the columns past the map are never written.
        let mut edge = [nothing; IN];
        let mut done = 0;
        while done < count {
            let (start, run) = panel.run(done, count - done);
            for block in 0..panel.blocks {
                for tile in 0..run {
                    let left = OUT * (x + done + tile);
                    let columns = IN.min(pitch - left);
                    let mut lines = [&nothing; IN];
                    for ((line, edge), row) in lines.iter_mut().zip(&mut edge).zip(rows) {
                        let Some(row) = row else { continue };
                        let seen = &row[block * pitch + left..][..columns];
                        *line = if let Some(whole) = seen.first_chunk() {
                            whole
                        } else {
                            edge[..columns].copy_from_slice(seen);
                            edge
                        };
                    }
                    to_tile(simd, lines, &mut panel.lanes[start + block * panel.tile + tile..], stride);
                }
            }
            done += run;
        }
    }
}

#[inline(always)]
fn to_tile<S: Simd, const IN: usize>(simd: S, lines: [&[Lanes; IN]; IN], to: &mut [Lanes], stride: usize) {
    let zero = simd.splat(0.0);
    let mut half = [[zero; IN]; IN];
    for column in 0..IN {
        let mut values = [zero; IN];
        for row in 0..IN {
            values[row] = simd.load(&lines[row][column]);
        }
        let values = inputs(simd, values);
        for row in 0..IN {
            half[row][column] = values[row];
        }
    }
    let to = &mut to[..=(IN * IN - 1) * stride];
    for row in 0..IN {
        let values = inputs(simd, half[row]);
        for column in 0..IN {
            simd.store(values[column], &mut to[(row * IN + column) * stride]);
        }
    }
}

/// `factor * a + b`.
#[inline(always)]
fn times<S: Simd>(simd: S, factor: f32, a: S::V, b: S::V) -> S::V {
    simd.mul_add(simd.splat(factor), a, b)
}

/// `a - b`.
#[inline(always)]
fn minus<S: Simd>(simd: S, a: S::V, b: S::V) -> S::V {
    times(simd, -1.0, b, a)
}

/// B^T d, for tiles that see 4 or 6 inputs.
#[inline(always)]
fn inputs<S: Simd, const IN: usize>(simd: S, d: [S::V; IN]) -> [S::V; IN] {
    let mut values = d;
    if IN == 4 {
        values[0] = minus(simd, d[2], d[0]);
        values[1] = simd.add(d[2], d[1]);
        values[2] = minus(simd, d[2], d[1]);
        values[3] = minus(simd, d[3], d[1]);
        return values;
    }
    let (near, far) = (-NEAR * NEAR, -FAR * FAR);
    let (even, odd) = (times(simd, far, d[2], d[4]), times(simd, far, d[1], d[3]));
    let (even_2, odd_2) = (times(simd, near, d[2], d[4]), times(simd, near, d[1], d[3]));
    values[0] = times(simd, near * far, d[0], times(simd, near + far, d[2], d[4]));
    values[1] = times(simd, NEAR, odd, even);
    values[2] = times(simd, -NEAR, odd, even);
    values[3] = times(simd, FAR, odd_2, even_2);
    values[4] = times(simd, -FAR, odd_2, even_2);
    values[5] = times(simd, near * far, d[1], times(simd, near + far, d[3], d[5]));
    values
}

/// A^T m A of some tiles of a row of tiles, into the map.
pub(crate) struct FromTiles<'a> {
    pub(crate) form: Form,
    /// `[position][output block][span]`, with `stride` vectors from one position to the next.
    pub(crate) products: &'a [Lanes],
    pub(crate) stride: usize,
    pub(crate) span: usize,
    /// The first tile's place among the products.
    pub(crate) at: usize,
    /// Output blocks.
    pub(crate) blocks: usize,
    /// The rows to write, each `[output block][width]`; those below the map are none.
    pub(crate) rows: [Option<&'a mut [Lanes]>; MOST_OUTPUTS],
    pub(crate) width: usize,
    /// The first tile.
    pub(crate) x: usize,
    pub(crate) count: usize,
}

impl Kernel for FromTiles<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.form {
            Form::Two => self.tiles::<S, 2, 4>(simd),
            Form::Four => self.tiles::<S, 4, 6>(simd),
        }
    }
}

impl FromTiles<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const OUT: usize, const IN: usize>(self, simd: S) {
        let Self { products, stride, span, at, blocks, mut rows, width, x, count, .. } = self;
        let mut outputs = [[Lanes::ZERO; OUT]; OUT];
        for block in 0..blocks {
            for tile in 0..count {
                from_tile::<S, OUT, IN>(simd, &products[block * span + at + tile..], stride, &mut outputs);
                let left = OUT * (x + tile);
                let columns = OUT.min(width - left);
                for (row, outputs) in rows.iter_mut().zip(&outputs) {
                    let Some(row) = row else { continue };
                    let row = &mut row[block * width + left..][..columns];
                    for (to, from) in row.iter_mut().zip(outputs) {
                        simd.store(simd.load(from), to);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn from_tile<S: Simd, const OUT: usize, const IN: usize>(
    simd: S,
    products: &[Lanes],
    stride: usize,
    to: &mut [[Lanes; OUT]; OUT],
) {
    let zero = simd.splat(0.0);
    let products = &products[..=(IN * IN - 1) * stride];
    let mut half = [[zero; IN]; OUT];
    for column in 0..IN {
        let mut values = [zero; IN];
        for row in 0..IN {
            values[row] = simd.load(&products[(row * IN + column) * stride]);
        }
        let values = outputs::<S, OUT, IN>(simd, values);
        for row in 0..OUT {
            half[row][column] = values[row];
        }
    }
    for row in 0..OUT {
        let values = outputs::<S, OUT, IN>(simd, half[row]);
        for column in 0..OUT {
            simd.store(values[column], &mut to[row][column]);
        }
    }
}

/// A^T m, for tiles of 2 or 4 outputs.
#[inline(always)]
fn outputs<S: Simd, const OUT: usize, const IN: usize>(simd: S, m: [S::V; IN]) -> [S::V; OUT] {
    let mut values = [m[0]; OUT];
    let (even, odd) = (simd.add(m[1], m[2]), minus(simd, m[1], m[2]));
    if OUT == 2 {
        values[0] = simd.add(m[0], even);
        values[1] = simd.add(odd, m[3]);
        return values;
    }
    let (even_2, odd_2) = (simd.add(m[3], m[4]), minus(simd, m[3], m[4]));
    values[0] = simd.add(m[0], simd.add(even, even_2));
    values[1] = times(simd, FAR, odd_2, simd.mul(simd.splat(NEAR), odd));
    values[2] = times(simd, FAR * FAR, even_2, simd.mul(simd.splat(NEAR * NEAR), even));
    values[3] = times(simd, FAR * FAR * FAR, odd_2, times(simd, NEAR * NEAR * NEAR, odd, m[5]));
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::kernels::testing::{Numbers, cases};
    use crate::kernels::{Backend, Gemm, Tiling};
    use crate::lanes::{LANES, Layout};
    use crate::winograd::{Winograd, between};

    /// A map without its border, `[row][output block][x]`, from one with it, `[row][input block][x]`; the first
    /// tile of each row on its own, so that the rest begins elsewhere.
    fn convolve(
        backend: Backend,
        winograd: &Winograd,
        map: &[Vec<Lanes>],
        (height, width): (usize, usize),
    ) -> Vec<Vec<Lanes>> {
        let (pitch, first) = (width + 2, &winograd.positions[0]);
        let (blocks, out_blocks) = (first.input.blocks(), first.blocks());
        let mut out = vec![vec![Lanes::ZERO; out_blocks * width]; height];
        let form = winograd.form;
        let (side, positions) = (form.outputs(), form.positions());
        let across = width.div_ceil(side);
        for (y, out) in out.chunks_mut(side).enumerate() {
            let rows = std::array::from_fn(|row| map.get(side * y + row).map(|row| &row[..]));
            let tiling = Tiling::cover(across, backend.tile().0);
            let (span, parts) = (tiling.span(), [(0, 1), (1, across - 1)]);
            let (next, out_next) = (between(blocks, span), between(out_blocks, span));
            let mut tiles = vec![Lanes::ZERO; positions * next];
            let mut products = vec![Lanes::ZERO; positions * out_next];
            for (x, count) in parts {
                let panel = Panel { lanes: &mut tiles, blocks, tile: tiling.tile, at: x };
                backend.run(ToTiles { form, rows, pitch, x, count, panel, stride: next });
            }
            for (position, weights) in winograd.positions.iter().enumerate() {
                let (panel, out) = (&tiles[position * next..], &mut products[position * out_next..]);
                let groups = 0..weights.groups.len();
                let panel = &panel[..blocks * span];
                backend.run(Gemm { weights, groups, panel, tiling, relu: false, out, pitch: span });
            }
            for (x, count) in parts {
                let mut lines = out.iter_mut();
                let rows = std::array::from_fn(|_| lines.next().map(|row| &mut row[..]));
                let (products, stride, blocks) = (&products[..], out_next, out_blocks);
                backend.run(FromTiles { form, products, stride, span, at: x, blocks, rows, width, x, count });
            }
        }
        out
    }

    #[test]
    fn maps_are_those_of_plain_loops() {
        for (isa, form) in Isa::available().flat_map(|isa| [Form::Two, Form::Four].map(|form| (isa, form))) {
            let backend = isa.backend().unwrap();
            let mut numbers = Numbers::default();
            let all = [
                ((1, 1), vec![16], 16),
                ((5, 7), vec![3, 20], 1),
                ((13, 4), vec![16, 12], 40),
                ((14, 14), vec![48], 12),
                ((28, 28), vec![17], 33),
            ];
            for ((height, width), parts, outputs) in cases(all, 2) {
                let mut layout = Layout::default();
                for part in parts {
                    layout.push(part);
                }
                let channels = layout.channels();
                let weight = numbers.take(outputs * channels * 9);
                let at = |o: usize, c: usize, tap: usize| f64::from(weight[(o * channels + c) * 9 + tap]);
                let winograd = Winograd::new(backend, form, (&layout, outputs), at);
                let x = numbers.take(height * width * channels);
                let mut map = vec![vec![Lanes::ZERO; layout.blocks() * (width + 2)]; height + 2];
                for (pixel, values) in x.chunks(channels).enumerate() {
                    for (block, lanes) in layout.spread(values.iter().copied()).into_iter().enumerate() {
                        map[pixel / width + 1][block * (width + 2) + pixel % width + 1] = lanes;
                    }
                }
                let out = convolve(backend, &winograd, &map, (height, width));
                let value = |y: usize, x_: usize, c: usize| {
                    let inside = (1..=height).contains(&y) && (1..=width).contains(&x_);
                    if inside { f64::from(x[((y - 1) * width + x_ - 1) * channels + c]) } else { 0.0 }
                };
                for pixel in 0..height * width {
                    let (y, x) = (pixel / width, pixel % width);
                    for output in 0..outputs {
                        let products = (0..channels * 9).map(|i| {
                            let (c, tap) = (i / 9, i % 9);
                            at(output, c, tap) * value(y + tap / 3, x + tap % 3, c)
                        });
                        let want: f64 = products.sum();
                        let got = out[y][output / LANES * width + x].0[output % LANES];
                        // The transforms add and subtract what is larger than the result.
                        let error = (f64::from(got) - want).abs();
                        assert!(
                            error < 1e-4,
                            "{isa} {form:?} {height}x{width} y {y} x {x} output {output}: {got} {want}"
                        );
                    }
                }
            }
        }
    }
}
