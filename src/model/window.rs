//! What each tap of a sliding window reads of a map, and where it writes back.

use candle_core::{D, Result, Tensor};
use densenet_arch::Stem;

/// A window that slides over a map with a border of zeros.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) side: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Window {
    /// The first convolution's.
    pub(super) fn first(stem: Stem) -> Self {
        match stem {
            Stem::Imagenet => Self { side: 7, stride: 2, padding: 3 },
            Stem::Cifar => Self { side: 3, stride: 1, padding: 1 },
        }
    }

    /// The taps, (row, column), row by row.
    pub(super) fn taps(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.side * self.side).map(move |tap| (tap / self.side, tap % self.side))
    }

    /// How many places it takes along so many pixels.
    pub(super) fn places(self, pixels: usize) -> usize {
        (pixels + 2 * self.padding - self.side) / self.stride + 1
    }

    /// Puts the map (.., H, W) under the window.
    pub(super) fn over(self, x: &Tensor) -> Result<View> {
        let (height, width) = (x.dim(D::Minus2)?, x.dim(D::Minus1)?);
        let mut phases = x.clone();
        for (dim, pixels) in [(x.rank() - 2, height), (x.rank() - 1, width)] {
            // To a multiple of the stride: that many phases.
            let behind = (pixels + 2 * self.padding).next_multiple_of(self.stride) - pixels - self.padding;
            phases = phases.pad_with_zeros(dim, self.padding, behind)?;
        }
        let mut shape = x.dims()[..x.rank() - 2].to_vec();
        for dim in [D::Minus2, D::Minus1] {
            shape.extend([phases.dim(dim)? / self.stride, self.stride]);
        }
        Ok(View { window: self, size: (height, width), phases: phases.contiguous()?.reshape(shape)? })
    }
}

/// A map under a window.
#[derive(Debug)]
pub(super) struct View {
    window: Window,
    size: (usize, usize),
    /// (.., H' / stride, stride, W' / stride, stride) of the map with its border, H' by W'.
    phases: Tensor,
}

impl View {
    /// What one tap reads in all of the window's places: (.., h, w).
    pub(super) fn read(&self, (row, column): (usize, usize)) -> Result<Tensor> {
        let Window { stride, .. } = self.window;
        let rank = self.phases.rank();
        let (height, width) = (self.window.places(self.size.0), self.window.places(self.size.1));
        let rows = self.phases.narrow(rank - 3, row % stride, 1)?.narrow(rank - 4, row / stride, height)?;
        let taken = rows.narrow(rank - 1, column % stride, 1)?.narrow(rank - 2, column / stride, width)?;
        taken.squeeze(rank - 1)?.squeeze(rank - 3)?.contiguous()
    }

    /// A map of the shape of the one under the window: the sums of what each tap, in their order, writes to where it reads.
    /// `value` gives (.., h, w).
    pub(super) fn write(&self, mut value: impl FnMut((usize, usize)) -> Result<Tensor>) -> Result<Tensor> {
        let Window { stride, padding, .. } = self.window;
        let rank = self.phases.rank();
        let mut phases: Vec<Option<Tensor>> = vec![None; stride * stride];
        for (row, column) in self.window.taps() {
            let mut placed = value((row, column))?;
            for (dim, whole, before) in [(rank - 4, rank - 4, row / stride), (rank - 3, rank - 2, column / stride)] {
                let behind = self.phases.dim(whole)? - before - placed.dim(dim)?;
                placed = placed.pad_with_zeros(dim, before, behind)?;
            }
            let phase = &mut phases[row % stride * stride + column % stride];
            *phase = Some(match phase.take() {
                Some(sum) => (sum + placed)?,
                None => placed,
            });
        }
        // A phase that no tap reads is of a window smaller than its stride.
        let phases: Vec<Tensor> = phases.into_iter().flatten().collect();
        let lines: Vec<Tensor> =
            phases.chunks(stride).map(|line| Tensor::stack(line, rank - 2)).collect::<Result<_>>()?;
        let whole = Tensor::stack(&lines, rank - 3)?; // (.., H' / stride, stride, W' / stride, stride)
        let whole = whole.flatten(rank - 2, rank - 1)?.flatten(rank - 4, rank - 3)?;
        let (height, width) = self.size;
        whole.narrow(rank - 4, padding, height)?.narrow(rank - 3, padding, width)?.contiguous()
    }
}
