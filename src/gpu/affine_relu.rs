//! A norm and its ReLU in one pass over the map, where candle takes five.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use candle_core::cuda::cudarc::driver::{CudaSlice, CudaView, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::cuda::cudarc::nvrtc::compile_ptx;
use candle_core::cuda::{CudaDType, CudaDevice, CudaStorage, CudaStorageSlice, WrapErr};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

const SOURCE: &str = include_str!("affine_relu.cu");

/// Threads of a block, and the most blocks of a row.
const THREADS: u32 = 256;
const BLOCKS: usize = 1024;

/// relu(scale·x + shift) of rows (C, M) in f32, f16 or bf16; scale and shift are (C, 1) in f32.
pub(crate) fn affine_relu(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op3_no_bwd(&scale.contiguous()?, &shift.contiguous()?, &AffineRelu)
}

struct AffineRelu;

impl CustomOp3 for AffineRelu {
    fn name(&self) -> &'static str {
        "affine-relu"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("{} is of CUDA alone", self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        layout: &Layout,
        scale: &CudaStorage,
        scale_layout: &Layout,
        shift: &CudaStorage,
        shift_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let scale = part(scale.as_cuda_slice::<f32>()?, scale_layout)?;
        let shift = part(shift.as_cuda_slice::<f32>()?, shift_layout)?;
        let vectors = (&scale, &shift);
        let storage = match &x.slice {
            CudaStorageSlice::F32(x_slice) => launch("affine_relu_f32", &x.device, x_slice, layout, vectors)?,
            CudaStorageSlice::F16(x_slice) => launch("affine_relu_f16", &x.device, x_slice, layout, vectors)?,
            CudaStorageSlice::BF16(x_slice) => launch("affine_relu_bf16", &x.device, x_slice, layout, vectors)?,
            _ => candle_core::bail!("{} takes f32, f16 and bf16", self.name()),
        };
        Ok((storage, layout.shape().clone()))
    }
}

/// What a contiguous layout covers.
fn part<'s, T>(slice: &'s CudaSlice<T>, layout: &Layout) -> Result<CudaView<'s, T>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(slice.slice(start..end)),
        None => candle_core::bail!("affine-relu takes contiguous tensors"),
    }
}

fn launch<T: DeviceRepr + CudaDType>(
    name: &str,
    device: &CudaDevice,
    x: &CudaSlice<T>,
    layout: &Layout,
    (scale, shift): (&CudaView<f32>, &CudaView<f32>),
) -> Result<CudaStorage> {
    static PTX: OnceLock<String> = OnceLock::new();
    let ptx = match PTX.get() {
        Some(ptx) => ptx,
        None => PTX.get_or_init({
            let compiled = compile_ptx(SOURCE).w()?.to_src();
            || compiled
        }),
    };
    let function = device.get_or_load_custom_func(name, "affine_relu", ptx)?;
    let (rows, length) = layout.shape().dims2()?;
    let x = part(x, layout)?;
    // SAFETY: every value is written by the kernel.
    let z = unsafe { device.alloc::<T>(rows * length)? };
    let blocks = length.div_ceil(THREADS as usize).clamp(1, BLOCKS);
    let config =
        LaunchConfig { grid_dim: (blocks as u32, rows as u32, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
    let count = length as u64;
    let mut builder = function.builder();
    builder.arg(&x).arg(scale).arg(shift).arg(&z).arg(&count);
    // SAFETY: the arguments are the kernel's; x and z are rows by length values, scale and shift a value a row.
    unsafe { builder.launch(config) }.w()?;
    Ok(CudaStorage::wrap_cuda_slice(z, device.clone()))
}
