//! Dropout, whose mask the card draws as the engine does.

use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::driver::DeviceRepr;
use candle_core::cuda::{CudaDType, CudaStorage};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use densenet_engine::train::Mask;
use half::{bf16, f16};

use super::launch::{self, BLOCKS, Kernel, part};

/// Of rows (C, M) in f32, f16 or bf16, images of so many pixels: zero where the mask drops, scaled where it keeps.
pub(crate) fn dropped(x: &Tensor, mask: Mask, pixels: usize) -> Result<Tensor> {
    let (key, limit, scale) = (mask.key(), mask.limit(), mask.scale());
    x.contiguous()?.apply_op1_no_bwd(&Dropped(launch::Mask { key, pixels: pixels as u64, limit, scale }))
}

struct Dropped(launch::Mask);

impl Dropped {
    fn run<T: DeviceRepr + CudaDType>(
        &self,
        name: &'static str,
        x: &CudaStorage,
        layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let shape @ (rows, length) = layout.shape().dims2()?;
        let values = part(x.as_cuda_slice::<T>()?, layout)?;
        let kernel = Kernel::over(name, shape, BLOCKS);
        Ok((kernel.run::<T>(&x.device, &[&values, &self.0], rows * length)?, shape.into()))
    }
}

impl CustomOp1 for Dropped {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("this dropout is of CUDA alone")
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        match x.dtype() {
            DType::F32 => self.run::<f32>("dropout_f32", x, layout),
            DType::F16 => self.run::<f16>("dropout_f16", x, layout),
            DType::BF16 => self.run::<bf16>("dropout_bf16", x, layout),
            other => candle_core::bail!("dropout takes f32, f16 and bf16, not {other:?}"),
        }
    }
}
