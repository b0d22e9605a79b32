//! A norm and its ReLU, forward and back, in one and two passes over the map, where candle takes five and twelve.

use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::driver::DeviceRepr;
use candle_core::cuda::{CudaDType, CudaStorage};
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};
use half::{bf16, f16};

use super::launch::{BLOCKS, Kernel, part};

/// The most blocks that share a row where each gives a part of its sums.
const PARTS: usize = 64;

/// relu(scale·x + shift) of rows (C, M) in f32, f16 or bf16; scale and shift are (C, 1) in f32.
pub(crate) fn affine_relu(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op3_no_bwd(&scale.contiguous()?, &shift.contiguous()?, &Op::AffineRelu)
}

/// Of rows x and the gradient by what a norm's ReLU gave, (C, M): with d that gradient where the ReLU was open, scale·d (C, M),
/// and the sums of d·x̂ and of d, (C, 1) in f32. `norm` holds scale, shift, mean and inverse deviation, (C, 1) each in f32.
pub(crate) fn gated(x: &Tensor, gradient: &Tensor, norm: [&Tensor; 4]) -> Result<[Tensor; 3]> {
    let (x, gradient) = (x.contiguous()?, gradient.contiguous()?);
    let norm = Tensor::cat(&norm, 0)?; // (4 * C, 1)
    let scaled = x.apply_op3_no_bwd(&gradient, &norm, &Op::Gate)?;
    let sums = x.apply_op3_no_bwd(&gradient, &norm, &Op::Sums)?.sum_keepdim(2)?; // (2, C, 1)
    Ok([scaled, sums.get(1)?, sums.get(0)?])
}

/// The kernels; see the source.
enum Op {
    AffineRelu,
    Gate,
    Sums,
}

impl Op {
    /// Runs the kernel for a type of the map, whose name ends in it.
    fn run<T: DeviceRepr + CudaDType>(
        &self,
        names: [&'static str; 3],
        [a, b, c]: [(&CudaStorage, &Layout); 3],
    ) -> Result<(CudaStorage, Shape)> {
        let shape @ (rows, length) = a.1.shape().dims2()?;
        let x = part(a.0.as_cuda_slice::<T>()?, a.1)?;
        let third = part(c.0.as_cuda_slice::<f32>()?, c.1)?;
        let device = &a.0.device;
        let [affine_relu, gate, sums] = names;
        if let Self::AffineRelu = self {
            let second = part(b.0.as_cuda_slice::<f32>()?, b.1)?;
            let kernel = Kernel::over(affine_relu, shape, BLOCKS);
            return Ok((kernel.run::<T>(device, &[&x, &second, &third], rows * length)?, shape.into()));
        }
        let second = part(b.0.as_cuda_slice::<T>()?, b.1)?;
        if let Self::Gate = self {
            let kernel = Kernel::over(gate, shape, BLOCKS);
            return Ok((kernel.run::<T>(device, &[&x, &second, &third], rows * length)?, shape.into()));
        }
        let kernel = Kernel::over(sums, shape, PARTS);
        let shape = (2, rows, kernel.blocks);
        Ok((kernel.run::<f32>(device, &[&x, &second, &third], 2 * rows * kernel.blocks)?, shape.into()))
    }
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        match self {
            Self::AffineRelu => "affine-relu",
            Self::Gate => "norm-gate",
            Self::Sums => "norm-sums",
        }
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
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
        c: &CudaStorage,
        c_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let inputs = [(a, a_layout), (b, b_layout), (c, c_layout)];
        match a.dtype() {
            DType::F32 => self.run::<f32>(["affine_relu_f32", "gate_f32", "sums_f32"], inputs),
            DType::F16 => self.run::<f16>(["affine_relu_f16", "gate_f16", "sums_f16"], inputs),
            DType::BF16 => self.run::<bf16>(["affine_relu_bf16", "gate_bf16", "sums_bf16"], inputs),
            other => candle_core::bail!("{} takes f32, f16 and bf16, not {other:?}", self.name()),
        }
    }
}
