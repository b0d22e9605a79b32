//! Launching a kernel over rows.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use candle_core::cuda::cudarc::driver::{CudaSlice, CudaView, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg};
use candle_core::cuda::cudarc::nvrtc::compile_ptx;
use candle_core::cuda::{CudaDType, CudaDevice, CudaStorage, WrapErr};
use candle_core::{Layout, Result};

const SOURCE: &str = include_str!("kernels.cu");

/// Threads of a block, as the source has it.
const THREADS: usize = 256;

/// The most blocks that share a row.
pub(super) const BLOCKS: usize = 1024;

/// A kernel of rows by `length` values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// In the source.
    pub(super) name: &'static str,
    pub(super) rows: usize,
    pub(super) length: usize,
    /// Blocks that share a row.
    pub(super) blocks: usize,
}

impl Kernel {
    /// With a value for each thread, up to `most` blocks a row.
    pub(super) fn over(name: &'static str, (rows, length): (usize, usize), most: usize) -> Self {
        Self { name, rows, length, blocks: length.div_ceil(THREADS).clamp(1, most) }
    }

    /// Runs it on what it reads, and gives its output of `count` values.
    pub(super) fn run<O: DeviceRepr + CudaDType>(
        self,
        device: &CudaDevice,
        arguments: &[&dyn Argument],
        count: usize,
    ) -> Result<CudaStorage> {
        let function = device.get_or_load_custom_func(self.name, "densenet-zoo", ptx()?)?;
        // SAFETY: every value is written by the kernel.
        let out = unsafe { device.alloc::<O>(count)? };
        let config = LaunchConfig {
            grid_dim: (self.blocks as u32, self.rows as u32, 1),
            block_dim: (THREADS as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        let length = self.length as u64;
        let mut builder = function.builder();
        for argument in arguments {
            argument.push(&mut builder);
        }
        builder.arg(&out).arg(&length);
        // SAFETY: each caller passes what its kernel declares, of rows by length values or a few a row.
        unsafe { builder.launch(config) }.w()?;
        Ok(CudaStorage::wrap_cuda_slice(out, device.clone()))
    }
}

/// What a kernel reads: a part of the card's memory, or a few numbers.
pub(super) trait Argument {
    fn push<'a>(&'a self, to: &mut LaunchArgs<'a>);
}

impl<T: DeviceRepr> Argument for CudaView<'_, T> {
    fn push<'a>(&'a self, to: &mut LaunchArgs<'a>) {
        to.arg(self);
    }
}

/// The kernels' `Mask`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Mask {
    pub(super) key: u64,
    /// Of an image's map.
    pub(super) pixels: u64,
    pub(super) limit: u32,
    pub(super) scale: f32,
}

/// The kernels' `Sides`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Sides {
    pub(super) height: u64,
    pub(super) width: u64,
}

/// Structs that the kernels have too.
macro_rules! numbers {
    ($($name:ident)*) => {$(
        // SAFETY: numbers in the order and of the sizes of the kernels' struct, without padding.
        unsafe impl DeviceRepr for $name {}

        impl Argument for $name {
            fn push<'a>(&'a self, to: &mut LaunchArgs<'a>) {
                to.arg(self);
            }
        }
    )*};
}
numbers!(Mask Sides);

/// What a contiguous layout covers.
pub(super) fn part<'s, T>(slice: &'s CudaSlice<T>, layout: &Layout) -> Result<CudaView<'s, T>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(slice.slice(start..end)),
        None => candle_core::bail!("our kernels take contiguous tensors"),
    }
}

/// The source, compiled once.
fn ptx() -> Result<&'static str> {
    static PTX: OnceLock<String> = OnceLock::new();
    if let Some(ptx) = PTX.get() {
        return Ok(ptx);
    }
    let compiled = compile_ptx(SOURCE).w()?.to_src();
    Ok(PTX.get_or_init(|| compiled))
}
