//! Launching a kernel over rows.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use candle_core::cuda::cudarc::driver::{CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::cuda::cudarc::nvrtc::compile_ptx;
use candle_core::cuda::{CudaDType, CudaDevice, CudaStorage, WrapErr};
use candle_core::{Layout, Result};

const SOURCE: &str = include_str!("norm.cu");

/// Threads of a block, as the source has it.
const THREADS: usize = 256;

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

    /// Runs it on three inputs, and gives its output of `count` values.
    pub(super) fn run<A: DeviceRepr, B: DeviceRepr, C: DeviceRepr, O: DeviceRepr + CudaDType>(
        self,
        device: &CudaDevice,
        (a, b, c): (&CudaView<A>, &CudaView<B>, &CudaView<C>),
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
        builder.arg(a).arg(b).arg(c).arg(&out).arg(&length);
        // SAFETY: each caller passes what its kernel declares, of rows by length values or a few a row.
        unsafe { builder.launch(config) }.w()?;
        Ok(CudaStorage::wrap_cuda_slice(out, device.clone()))
    }
}

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
