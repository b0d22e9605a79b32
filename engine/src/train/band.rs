//! Rows of a map that a 3x3 reads.

use crate::kernels::Panel;
use crate::lanes::Lanes;

/// Bytes of a band of rows that a 3x3 reads: it stays in a second-level cache.
const BAND: usize = 384 << 10;

/// Some rows of a map with what a 3x3 sees around them: `[row][block][width + 2]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Band {
    /// The first row.
    y: usize,
    rows: usize,
    height: usize,
    width: usize,
    blocks: usize,
}

impl Band {
    /// All bands of a map, of as many rows as fit into a cache, but for the last a multiple of `step`.
    pub(crate) fn all((height, width): (usize, usize), blocks: usize, step: usize) -> impl Iterator<Item = Self> {
        let row = blocks * (width + 2) * size_of::<Lanes>();
        let most = (BAND / row).saturating_sub(2).clamp(1, height);
        let rows = height.div_ceil(height.div_ceil(most)).next_multiple_of(step);
        (0..height).step_by(rows).map(move |y| Self { y, rows: rows.min(height - y), height, width, blocks })
    }

    /// The same rows of a map of other blocks.
    pub(crate) fn of(self, blocks: usize) -> Self {
        Self { blocks, ..self }
    }

    /// The first pixel of the map.
    pub(crate) fn first(self) -> usize {
        self.y * self.width
    }

    /// Pixels of the map.
    pub(crate) fn count(self) -> usize {
        self.rows * self.width
    }

    pub(crate) fn rows(self) -> usize {
        self.rows
    }

    /// Pixels of a row.
    pub(crate) fn width(self) -> usize {
        self.width
    }

    /// Pixels of a row with its border.
    pub(crate) fn pitch(self) -> usize {
        self.width + 2
    }

    /// Vectors of a row with its border.
    pub(crate) fn row(self) -> usize {
        self.blocks * self.pitch()
    }

    /// Vectors of the whole.
    pub(crate) fn length(self) -> usize {
        (self.rows + 2) * self.row()
    }

    /// Writes the rows by `line(panel, first pixel)`, and zeros around the map.
    pub(crate) fn fill(self, lanes: &mut [Lanes], mut line: impl FnMut(Panel, usize)) {
        let (blocks, tile) = (self.blocks, self.pitch());
        for (row, lanes) in (self.y..).zip(lanes.chunks_exact_mut(self.row())) {
            let Some(y) = row.checked_sub(1).filter(|&y| y < self.height) else {
                lanes.fill(Lanes::ZERO);
                continue;
            };
            for block in lanes.chunks_exact_mut(tile) {
                block[0] = Lanes::ZERO;
                block[tile - 1] = Lanes::ZERO;
            }
            line(Panel { lanes, blocks, tile, at: 1 }, y * self.width);
        }
    }
}
