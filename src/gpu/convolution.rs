//! Convolutions by cuDNN, forward and the two ways back.
//!
//! Maps lie as cuDNN is fastest with them: of half types the channels of a pixel side by side (NHWC), for the tensor cores; of f32
//! a channel's plane as a whole (NCHW).
#![allow(unsafe_code)]

use candle_core::cuda::gemm_reduced_precision_f32;
use candle_core::{DType, Result, Tensor};

use super::cudnn::{Library, Numbers};
use super::launch::{card, empty, pointer};

/// Of the maps' type: whether the channels of a pixel lie side by side.
pub(crate) fn channels_last(dtype: DType) -> bool {
    dtype != DType::F32
}

/// A convolution over (B, C, H, W) by (O, C, side, side); its sizes by their names, however they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Convolution {
    pub(crate) x: [usize; 4],
    pub(crate) kernel: [usize; 4],
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl Convolution {
    /// Of x and kernel to y. All lie as [`channels_last`] says: (B, C, H, W) or (B, H, W, C), and (O, C, side, side) or
    /// (O, side, side, C).
    pub(crate) fn forward(self, x: &Tensor, kernel: &Tensor) -> Result<Tensor> {
        self.run(Way::Forward, x, kernel)
    }

    /// Of the kernel and the gradient by y to that by x.
    pub(crate) fn by_input(self, kernel: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        self.run(Way::ByInput, kernel, gradient)
    }

    /// Of x and the gradient by y to that by the kernel.
    pub(crate) fn by_kernel(self, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        self.run(Way::ByKernel, x, gradient)
    }

    fn run(self, way: Way, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let (a, b) = (a.contiguous()?, b.contiguous()?);
        let (dtype, device) = (a.dtype(), a.device());
        let (x, kernel, y) = (self.x, self.kernel, self.y());
        let (first, second, out) = match way {
            Way::Forward => (x, kernel, y),
            Way::ByInput => (kernel, y, x),
            Way::ByKernel => (x, y, kernel),
        };
        for (tensor, expected) in [(&a, first), (&b, second)] {
            let expected = stored(expected, channels_last(dtype));
            if tensor.dims() != expected {
                candle_core::bail!("{:?} instead of {expected:?} for {self:?}", tensor.dims());
            }
        }
        let out = empty(stored(out, channels_last(dtype)).to_vec(), dtype, device)?;
        let pointers = [pointer(&a, dtype)?, pointer(&b, dtype)?, pointer(&out, dtype)?];
        let library = Library::of(card(device)?)?;
        let plan = library.plan(way, self, Numbers { dtype, tf32: gemm_reduced_precision_f32() })?;
        loop {
            let choice = plan.choice()?;
            let workspace = empty(choice.workspace.div_ceil(4).max(1), DType::F32, device)?;
            // SAFETY: the descriptors are of the sizes that were checked above, all is of this device and contiguous, and its
            // stream frees what is dropped behind what is launched here.
            match unsafe { plan.launch(&library, choice, pointers, pointer(&workspace, DType::F32)?) } {
                Ok(()) => return Ok(out),
                // It was offered, and yet may not run.
                Err(_) if plan.try_next() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// (B, O, rows, columns)
    pub(crate) fn y(self) -> [usize; 4] {
        let along = |pixels: usize| (pixels + 2 * self.padding - self.kernel[2]) / self.stride + 1;
        [self.x[0], self.kernel[0], along(self.x[2]), along(self.x[3])]
    }
}

/// Sizes (a, b, c, d) as they lie in memory.
fn stored([a, b, c, d]: [usize; 4], last: bool) -> [usize; 4] {
    if last { [a, c, d, b] } else { [a, b, c, d] }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Way {
    Forward,
    ByInput,
    ByKernel,
}
