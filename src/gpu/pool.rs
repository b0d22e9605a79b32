//! The way back through the stem's max-pool, in one pass over the map, where candle takes some sixty.

use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::driver::DeviceRepr;
use candle_core::cuda::{CudaDType, CudaStorage};
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use half::{bf16, f16};

use super::launch::{BLOCKS, Kernel, Sides, part};

/// From x (C, B, H, W) and the gradient by its max-pool 3x3 with stride 2 and padding 1, (C, B, (H+1)/2, (W+1)/2), in f32, f16
/// or bf16, to that by x: each place's goes to the first of its largest values, row by row.
pub(crate) fn max_3x3_backward(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(&gradient.contiguous()?, &Backward)
}

struct Backward;

fn run<T: DeviceRepr + CudaDType>(
    name: &'static str,
    (x, layout): (&CudaStorage, &Layout),
    (gradient, gradient_layout): (&CudaStorage, &Layout),
) -> Result<(CudaStorage, Shape)> {
    let (channels, batch, height, width) = layout.shape().dims4()?;
    let expected = [channels, batch, height.div_ceil(2), width.div_ceil(2)];
    if gradient_layout.dims() != expected {
        candle_core::bail!("a gradient of {:?}, not {expected:?}", gradient_layout.dims());
    }
    let values = part(x.as_cuda_slice::<T>()?, layout)?;
    let gradient = part(gradient.as_cuda_slice::<T>()?, gradient_layout)?;
    let sides = Sides { height: height as u64, width: width as u64 };
    let kernel = Kernel::over(name, (channels, batch * height * width), BLOCKS);
    let out = kernel.run::<T>(&x.device, &[&values, &gradient, &sides], layout.shape().elem_count())?;
    Ok((out, layout.shape().clone()))
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "max-pool-backward"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        candle_core::bail!("{} is of CUDA alone", self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        layout: &Layout,
        gradient: &CudaStorage,
        gradient_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (x, gradient) = ((x, layout), (gradient, gradient_layout));
        match x.0.dtype() {
            DType::F32 => run::<f32>("max_pool_back_f32", x, gradient),
            DType::F16 => run::<f16>("max_pool_back_f16", x, gradient),
            DType::BF16 => run::<bf16>("max_pool_back_bf16", x, gradient),
            other => candle_core::bail!("{} takes f32, f16 and bf16, not {other:?}", self.name()),
        }
    }
}
