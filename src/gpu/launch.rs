//! Launching a kernel over rows.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use candle_core::cuda::cudarc::driver::sys::CUfunction_attribute_enum;
use candle_core::cuda::cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, LaunchArgs, LaunchConfig, PushKernelArg};
use candle_core::cuda::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::cuda::{CudaDevice, CudaStorage, CudaStorageSlice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{DType, Device, Result, Shape, Storage, Tensor};
use half::{bf16, f16};

/// The kernels, the first file's types before the others.
const SOURCE: &str = concat!(
    include_str!("kernels/types.cu"),
    include_str!("kernels/norm.cu"),
    include_str!("kernels/turn.cu"),
    include_str!("kernels/pool.cu"),
    include_str!("kernels/dropout.cu"),
    include_str!("kernels/product.cu"),
);

/// Threads of a block, as the source has it.
const THREADS: usize = 256;

/// The most blocks that share a row.
const BLOCKS: usize = 1024;

/// Values that a thread of a kernel reads at once, of the shortest types.
const RUN: usize = 8;

/// A kernel of `rows` by `length` values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// In the source, where the type of the maps follows.
    pub(super) name: &'static str,
    pub(super) rows: usize,
    pub(super) length: usize,
    /// Blocks that share a row.
    pub(super) blocks: usize,
    /// Bytes of shared memory besides what the source declares.
    pub(super) shared: usize,
}

impl Kernel {
    /// With a value for each thread.
    pub(super) fn over(name: &'static str, (rows, length): (usize, usize)) -> Self {
        Self { blocks: length.div_ceil(THREADS).clamp(1, BLOCKS), ..Self::of_rows(name, rows, length) }
    }

    /// With a run of values for each thread, up to `most` blocks a row.
    pub(super) fn over_runs(name: &'static str, (rows, length): (usize, usize), most: usize) -> Self {
        let blocks = length.div_ceil(THREADS * RUN).clamp(1, most.min(BLOCKS));
        Self { blocks, ..Self::of_rows(name, rows, length) }
    }

    /// With one block for each row.
    pub(super) fn of_rows(name: &'static str, rows: usize, length: usize) -> Self {
        Self { name, rows, length, blocks: 1, shared: 0 }
    }

    /// Runs it on maps of that type with what it declares; the length comes last.
    pub(super) fn launch(self, device: &Device, dtype: DType, arguments: &[Argument]) -> Result<()> {
        let device = card(device)?;
        let dtype = match dtype {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            other => candle_core::bail!("{} takes f32, f16 and bf16, not {other:?}", self.name),
        };
        // They count in 32 bits, and a step further.
        if self.length > 1 << 31 || self.rows > 65_535 {
            candle_core::bail!("{} over {} rows of {}: take a smaller batch", self.name, self.rows, self.length);
        }
        let function =
            device.get_or_load_custom_func(&format!("{}_{dtype}", self.name), "densenet-zoo", ptx(device)?)?;
        let config = LaunchConfig {
            grid_dim: (self.blocks as u32, self.rows as u32, 1),
            block_dim: (THREADS as u32, 1, 1),
            shared_mem_bytes: self.shared as u32,
        };
        if self.shared > 0 {
            let most = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(most, self.shared as i32).w()?;
        }
        let length = Argument::Count(self.length as u64);
        let mut builder = function.builder();
        for argument in arguments.iter().chain([&length]) {
            argument.push(&mut builder);
        }
        // SAFETY: each caller passes what its kernel declares: tensors of rows by length values, or of a few a row. They are the
        // caller's until the launch is in the stream, and the stream frees their memory behind it.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}

/// What a kernel is given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument {
    /// A place in the card's memory.
    Pointer(u64),
    Count(u64),
    Float(f32),
    Mask(Mask),
    Pool(Pool),
    Sides(Sides),
}

impl Argument {
    /// Whether 16 bytes may be read at once from there.
    pub(super) fn is_even(self) -> bool {
        matches!(self, Self::Pointer(place) if place % 16 == 0)
    }

    /// Of a pointer.
    #[cfg(feature = "cudnn")]
    pub(super) fn address(self) -> *mut std::ffi::c_void {
        match self {
            Self::Pointer(place) => place as *mut _,
            _ => std::ptr::null_mut(),
        }
    }

    fn push<'a>(&'a self, to: &mut LaunchArgs<'a>) {
        match self {
            Self::Pointer(value) | Self::Count(value) => to.arg(value),
            Self::Float(value) => to.arg(value),
            Self::Mask(mask) => to.arg(mask),
            Self::Pool(pool) => to.arg(pool),
            Self::Sides(sides) => to.arg(sides),
        };
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

/// The kernels' `Pool`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Pool {
    pub(super) height: u32,
    pub(super) width: u32,
    pub(super) rows: u32,
    pub(super) columns: u32,
    pub(super) side: u32,
    pub(super) before: u32,
}

/// The kernels' `Sides`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Sides {
    pub(super) height: u32,
    pub(super) width: u32,
}

// SAFETY: numbers in the order and of the sizes of the kernels' struct, without padding.
unsafe impl DeviceRepr for Mask {}
// SAFETY: as Mask.
unsafe impl DeviceRepr for Pool {}
// SAFETY: as Mask.
unsafe impl DeviceRepr for Sides {}

/// The card that a device is.
pub(super) fn card(device: &Device) -> Result<&CudaDevice> {
    match device {
        Device::Cuda(card) => Ok(card),
        other => candle_core::bail!("our kernels run on CUDA, not on {:?}", other.location()),
    }
}

/// Where a contiguous tensor of that type begins. It stays the caller's to keep the tensor until the launch.
pub(super) fn pointer(tensor: &Tensor, dtype: DType) -> Result<Argument> {
    fn of<T: DeviceRepr>(slice: &CudaSlice<T>, start: usize) -> u64 {
        slice.device_ptr(slice.stream()).0 + (start * size_of::<T>()) as u64
    }
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, _)) = layout.contiguous_offsets() else {
        candle_core::bail!("our kernels take contiguous tensors")
    };
    let Storage::Cuda(CudaStorage { slice, .. }) = &*storage else { candle_core::bail!("a tensor is not on the card") };
    let place = match (slice, dtype) {
        (CudaStorageSlice::F32(slice), DType::F32) => of(slice, start),
        (CudaStorageSlice::F16(slice), DType::F16) => of(slice, start),
        (CudaStorageSlice::BF16(slice), DType::BF16) => of(slice, start),
        _ => candle_core::bail!("{:?} where {dtype:?} is expected", tensor.dtype()),
    };
    Ok(Argument::Pointer(place))
}

/// A tensor that the caller's kernel writes all of.
pub(crate) fn empty(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    let (device, shape) = (card(device)?, shape.into());
    let count = shape.elem_count();
    // SAFETY: every value is written before it is read.
    let storage = unsafe {
        match dtype {
            DType::F16 => CudaStorage::wrap_cuda_slice(device.alloc::<f16>(count)?, device.clone()),
            DType::BF16 => CudaStorage::wrap_cuda_slice(device.alloc::<bf16>(count)?, device.clone()),
            _ => CudaStorage::wrap_cuda_slice(device.alloc::<f32>(count)?, device.clone()),
        }
    };
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
}

/// The source, compiled once for cards of compute capability 8.0 and later, and once for older ones.
fn ptx(device: &CudaDevice) -> Result<&'static str> {
    static PTX: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];
    let (major, _) = device.cuda_stream().context().compute_capability().w()?;
    let place = &PTX[usize::from(major >= 8)];
    if let Some(ptx) = place.get() {
        return Ok(ptx);
    }
    let arch = if major >= 8 { "compute_80" } else { "compute_75" };
    let compiled =
        compile_ptx_with_opts(SOURCE, CompileOptions { arch: Some(arch), ..Default::default() }).w()?.to_src();
    Ok(place.get_or_init(|| compiled))
}
