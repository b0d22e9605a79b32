//! A norm and its ReLU, forward and back, each in one pass over the map, where candle takes five and twenty.

use candle_core::{DType, Result, Tensor};

use super::launch::{Argument, BLOCKS, Kernel, empty, pointer};

/// The most blocks that share a row where each gives a part of its sums.
const PARTS: usize = 64;

/// relu(scale·x + shift) of rows (C, M) in f32, f16 or bf16; scale and shift are (C, 1) in f32.
pub(crate) fn affine_relu(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let (x, scale, shift) = (x.contiguous()?, scale.contiguous()?, shift.contiguous()?);
    let (dtype, device) = (x.dtype(), x.device());
    let out = empty(x.shape(), dtype, device)?;
    let arguments =
        [pointer(&x, dtype)?, pointer(&scale, DType::F32)?, pointer(&shift, DType::F32)?, pointer(&out, dtype)?];
    Kernel::over("affine_relu", x.dims2()?, BLOCKS).launch(device, dtype, &arguments)?;
    Ok(out)
}

/// Mean and biased variance of rows (C, M) in f32, f16 or bf16, (C, 1) each in f32: the mean, then the distances from it.
pub(crate) fn moments(x: &Tensor) -> Result<[Tensor; 2]> {
    let x = x.contiguous()?;
    let shape @ (rows, length) = x.dims2()?;
    let (dtype, device) = (x.dtype(), x.device());
    let mean_of = |name, given: &[Argument]| {
        let kernel = Kernel::over(name, shape, PARTS);
        let parts = empty((rows, kernel.blocks), DType::F32, device)?;
        let mut arguments = vec![pointer(&x, dtype)?];
        arguments.extend(given);
        arguments.push(pointer(&parts, DType::F32)?);
        kernel.launch(device, dtype, &arguments)?;
        parts.sum_keepdim(1)? / length as f64
    };
    let mean = mean_of("sums", &[])?;
    let variance = mean_of("squares", &[pointer(&mean, DType::F32)?])?;
    Ok([mean, variance])
}

/// Of rows x and the gradient by what a norm's ReLU gave, (C, M): with d that gradient where the ReLU was open, scale·d (C, M),
/// and the sums of d·x̂ and of d, (C, 1) in f32. `norm` is scale, shift, mean and inverse deviation, (C, 1) each in f32.
/// Where `onto` is given, contiguous and of x's type, scale·d is added to it in place.
pub(crate) fn gated(x: &Tensor, gradient: &Tensor, norm: [&Tensor; 4], onto: Option<&Tensor>) -> Result<[Tensor; 3]> {
    let (x, gradient) = (x.contiguous()?, gradient.contiguous()?);
    let [scale, shift, mean, inverse] = norm;
    let norm = [scale.contiguous()?, shift.contiguous()?, mean.contiguous()?, inverse.contiguous()?];
    let shape @ (rows, _) = x.dims2()?;
    let (dtype, device) = (x.dtype(), x.device());
    let sum = match onto {
        Some(onto) if onto.dims() == x.dims() => onto.clone(),
        Some(onto) => candle_core::bail!("a gradient of {:?} is added to {:?}", x.dims(), onto.dims()),
        None => empty(x.shape(), dtype, device)?,
    };
    let kernel = Kernel::over("gate", shape, PARTS);
    let parts = empty((2, rows, kernel.blocks), DType::F32, device)?;
    let mut arguments = vec![pointer(&x, dtype)?, pointer(&gradient, dtype)?];
    for values in &norm {
        arguments.push(pointer(values, DType::F32)?);
    }
    let onto = Argument::Count(onto.is_some().into());
    arguments.extend([onto, pointer(&sum, dtype)?, pointer(&parts, DType::F32)?]);
    kernel.launch(device, dtype, &arguments)?;
    let sums = parts.sum_keepdim(2)?; // (2, C, 1)
    Ok([sum, sums.get(1)?, sums.get(0)?])
}

/// sum - level - slope·x of rows (C, M) in f32, f16 or bf16; level and slope are (C, 1) in f32.
pub(crate) fn resolved(sum: &Tensor, x: &Tensor, level: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let (sum, x, level, slope) = (sum.contiguous()?, x.contiguous()?, level.contiguous()?, slope.contiguous()?);
    let (dtype, device) = (x.dtype(), x.device());
    let out = empty(x.shape(), dtype, device)?;
    let arguments = [
        pointer(&sum, dtype)?,
        pointer(&x, dtype)?,
        pointer(&level, DType::F32)?,
        pointer(&slope, DType::F32)?,
        pointer(&out, dtype)?,
    ];
    Kernel::over("resolved", x.dims2()?, BLOCKS).launch(device, dtype, &arguments)?;
    Ok(out)
}
