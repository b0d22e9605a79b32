//! A 3x3 convolution over a band of rows, directly or by Winograd's F(4x4, 3x3).

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::band::Band;
use super::batch::room;
use super::forward::rows_of;
use crate::kernels::{Backend, FromTiles, Gemm, Panel, Three, Tiling, ToTiles};
use crate::lanes::{LANES, Lanes};
use crate::packed::{Group, Packed};
use crate::winograd::{Form, TILES, between};

/// The fast way.
const FORM: Form = Form::Four;
/// Rows and columns of a tile's outputs.
const TILE_SIDE: usize = 4;
/// Values of a transformed tile.
const POSITIONS: usize = 36;

/// Its weights.
pub(crate) enum Weights {
    Direct(Packed),
    /// For each position of a transformed tile.
    Fast(Vec<Packed>),
}

/// Buffers of the fast way.
#[derive(Debug, Default)]
pub(crate) struct Tiles {
    inputs: Vec<Lanes>,
    products: Vec<Lanes>,
    /// A row of tiles' outputs, `[row][block][width]`.
    rows: Vec<Lanes>,
}

impl Weights {
    pub(crate) fn new(packed: Packed, fast: bool) -> Self {
        if fast { Self::Fast(positions(&packed)) } else { Self::Direct(packed) }
    }

    /// Rows that a band has a multiple of, except a map's last.
    pub(crate) fn step(fast: bool) -> usize {
        if fast { TILE_SIDE } else { 1 }
    }

    /// Convolves a band into a map from the band's first pixel on.
    pub(crate) fn convolve(
        &self,
        backend: Backend,
        band: Band,
        lanes: &[Lanes],
        (to, pitch): (&mut [Lanes], usize),
        tiles: &mut Tiles,
    ) {
        match self {
            Self::Direct(weights) => {
                for y in 0..band.rows() {
                    let rows = [y, y + 1, y + 2].map(|row| &lanes[row * band.row()..][..band.row()]);
                    let out = &mut to[y * band.width()..];
                    let (x, count) = (0, band.width());
                    backend.run(Three { weights, rows, pitch: band.pitch(), x, count, out, out_pitch: pitch });
                }
            }
            Self::Fast(positions) => convolve(backend, positions, band, lanes, (to, pitch), tiles),
        }
    }
}

/// Some tiles at a time: transformed, multiplied position by position, transformed back.
fn convolve(
    backend: Backend,
    positions: &[Packed],
    band: Band,
    lanes: &[Lanes],
    (to, pitch): (&mut [Lanes], usize),
    Tiles { inputs, products, rows }: &mut Tiles,
) {
    let width = band.width();
    let (blocks, out_blocks) = (positions[0].input.blocks(), positions[0].blocks());
    let (down, across) = (band.rows().div_ceil(TILE_SIDE), width.div_ceil(TILE_SIDE));
    let tiles = Tiling::room(TILES, backend.tile().0);
    let inputs = room(inputs, POSITIONS * between(blocks, tiles));
    let products = room(products, POSITIONS * between(out_blocks, tiles));
    let rows = room(rows, TILE_SIDE * out_blocks * width);
    // Each tile's sums are the same in any chunk.
    let chunk = Tiling::cover(down * across, TILES).tile;
    for first in (0..down * across).step_by(chunk) {
        let count = chunk.min(down * across - first);
        let tiling = Tiling::cover(count, backend.tile().0);
        let (span, tile) = (tiling.span(), tiling.tile);
        let (next, out_next) = (between(blocks, span), between(out_blocks, span));
        for (y, x, count, at) in rows_of((first, count), across) {
            let mut seen = lanes[TILE_SIDE * y * band.row()..].chunks_exact(band.row());
            let rows = std::array::from_fn(|_| seen.next());
            let panel = Panel { lanes: &mut *inputs, blocks, tile, at };
            backend.run(ToTiles { form: FORM, rows, pitch: band.pitch(), x, count, panel, stride: next });
        }
        for (position, weights) in positions.iter().enumerate() {
            let panel = &inputs[position * next..][..blocks * span];
            let out = &mut products[position * out_next..];
            let groups = 0..weights.groups.len();
            backend.run(Gemm { weights, groups, panel, tiling, relu: false, out, pitch: span });
        }
        for (y, x, count, at) in rows_of((first, count), across) {
            let height = TILE_SIDE.min(band.rows() - TILE_SIDE * y);
            let mut outputs = rows.chunks_exact_mut(out_blocks * width).take(height);
            let (stride, blocks) = (out_next, out_blocks);
            let outputs = std::array::from_fn(|_| outputs.next());
            backend.run(FromTiles { form: FORM, products, stride, span, at, blocks, rows: outputs, width, x, count });
            let columns = TILE_SIDE * x..(TILE_SIDE * (x + count)).min(width);
            for (row, line) in rows.chunks_exact(out_blocks * width).take(height).enumerate() {
                for (block, line) in line.chunks_exact(width).enumerate() {
                    let to = &mut to[block * pitch + (TILE_SIDE * y + row) * width..][columns.clone()];
                    to.copy_from_slice(&line[columns.clone()]);
                }
            }
        }
    }
}

/// G w G^T of packed weights, for each position of a tile.
fn positions(packed: &Packed) -> Vec<Packed> {
    let g: Vec<_> = FORM.g().into_iter().map(|row| row.map(|value| value as f32)).collect();
    let used = packed.input.used();
    let transformed = packed.groups.par_iter().map(|group| {
        let vectors = group.bias.len();
        let room = packed.input.channels() * vectors;
        let mut weights: Vec<_> = (0..POSITIONS).map(|_| Vec::with_capacity(room)).collect();
        let mut rest = &group.weights[..];
        for &used in used {
            let pairs = usize::from(used) * vectors;
            let (block, next) = rest.split_at(9 * pairs);
            for pair in 0..pairs {
                let taps = std::array::from_fn(|tap| block[tap * pairs + pair].0);
                for (weights, lanes) in weights.iter_mut().zip(transform(&g, &taps)) {
                    weights.push(Lanes(lanes));
                }
            }
            rest = next;
        }
        weights
    });
    let transformed: Vec<_> = transformed.collect();
    let mut positions: Vec<_> = (0..POSITIONS)
        .map(|_| Packed {
            input: packed.input.clone(),
            outputs: packed.outputs,
            precision: packed.precision,
            groups: Vec::new(),
        })
        .collect();
    for (group, weights) in packed.groups.iter().zip(transformed) {
        for (position, weights) in positions.iter_mut().zip(weights) {
            position.groups.push(Group { first: group.first, bias: group.bias.clone(), weights });
        }
    }
    positions
}

/// G w G^T of sixteen kernels side by side.
fn transform(g: &[[f32; 3]], taps: &[[f32; LANES]; 9]) -> [[f32; LANES]; POSITIONS] {
    let sum = |factors: &[f32; 3], values: [&[f32; LANES]; 3]| -> [f32; LANES] {
        std::array::from_fn(|lane| {
            factors[0] * values[0][lane] + factors[1] * values[1][lane] + factors[2] * values[2][lane]
        })
    };
    let mut half = [[[0.0; LANES]; 3]; 6];
    for (half, row) in half.iter_mut().zip(g) {
        for (column, half) in half.iter_mut().enumerate() {
            *half = sum(row, [&taps[column], &taps[3 + column], &taps[6 + column]]);
        }
    }
    let mut out = [[0.0; LANES]; POSITIONS];
    for (out, half) in out.chunks_exact_mut(6).zip(&half) {
        for (out, row) in out.iter_mut().zip(g) {
            *out = sum(row, [&half[0], &half[1], &half[2]]);
        }
    }
    out
}
