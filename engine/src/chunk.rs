//! Runs of pixels through several rows and images, and where their outputs go.

use std::ops::Range;

use crate::lanes::Lanes;
use crate::maps::Map;

/// Some pixels, as many as a panel takes, in reading order through all images.
#[derive(Clone, Copy)]
pub(crate) struct Chunk {
    /// The first pixel, counted from the map's first.
    first: usize,
    pub(crate) count: usize,
    width: usize,
}

/// The pixels of a chunk that lie in one row.
pub(crate) struct Part {
    pub(crate) y: usize,
    pub(crate) x: usize,
    pub(crate) count: usize,
    /// Its first pixel's place in the chunk.
    pub(crate) at: usize,
}

impl Chunk {
    /// All chunks of the pixels, each of at most `most`.
    pub(crate) fn all(pixels: Range<usize>, width: usize, most: usize) -> impl Iterator<Item = Self> {
        let end = pixels.end;
        pixels.step_by(most).map(move |first| Self { first, count: most.min(end - first), width })
    }

    /// Row by row.
    pub(crate) fn parts(self) -> impl Iterator<Item = Part> {
        let end = self.first + self.count;
        (self.first / self.width..end.div_ceil(self.width)).map(move |y| {
            let start = self.first.max(y * self.width);
            let count = end.min((y + 1) * self.width) - start;
            Part { y, x: start - y * self.width, count, at: start - self.first }
        })
    }

    /// The only part, where the chunk lies in one row.
    fn only_part(self) -> Option<Part> {
        self.parts().next().filter(|part| part.count == self.count)
    }
}

/// Where outputs go.
#[derive(Clone, Copy)]
pub(crate) struct Out<'a> {
    pub(crate) map: &'a Map,
    /// The row of the first output's, counted through the map's images.
    pub(crate) y: usize,
    /// Channel blocks of the map before the first output's.
    pub(crate) blocks: usize,
    /// Nobody else writes to it now.
    pub(crate) alone: bool,
}

impl Out<'_> {
    pub(crate) fn row(&self, y: usize) -> usize {
        self.map.row(self.y + y)
    }

    /// The place of a pixel of an output block in its row.
    pub(crate) fn first(&self, block: usize, x: usize) -> usize {
        (self.blocks + block) * self.map.pitch() + self.map.padding + x
    }

    /// The chunk's only part, where it may be computed in its place: others must not wait for its row.
    pub(crate) fn direct(&self, chunk: Chunk) -> Option<Part> {
        chunk.only_part().filter(|part| self.alone || part.count == self.map.width)
    }

    /// Copies a part's pixels, `[block][pitch]`.
    pub(crate) fn put(&self, part: &Part, blocks: Range<usize>, from: &[Lanes], pitch: usize) {
        let mut row = self.map.rows.write(self.row(part.y));
        for block in blocks {
            row[self.first(block, part.x)..][..part.count].copy_from_slice(&from[block * pitch..][..part.count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_chunk_s_pixels_row_by_row() {
        let parts = |pixels| {
            let chunks = Chunk::all(pixels, 5, 7);
            chunks.map(|chunk| chunk.parts().map(|part| (part.y, part.x, part.count, part.at)).collect()).collect()
        };
        let expected: [Vec<_>; 2] = [vec![(0, 3, 2, 0), (1, 0, 5, 2)], vec![(2, 0, 4, 0)]];
        let found: Vec<Vec<_>> = parts(3..14);
        assert_eq!(found, expected);
        assert!(Chunk::all(3..5, 5, 7).all(|chunk| chunk.only_part().is_some()));
        assert!(Chunk::all(3..6, 5, 7).all(|chunk| chunk.only_part().is_none()));
    }
}
