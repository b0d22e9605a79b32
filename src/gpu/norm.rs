//! A norm and its ReLU, forward and back, each in one pass over the map, where candle takes five and twenty.

use candle_core::{DType, Device, Result, Tensor};

use super::launch::{Argument, Kernel, empty, pointer};

/// The most blocks that share a row where each gives a part of its sums.
const PARTS: usize = 64;

/// The most that share a row otherwise.
const MANY: usize = usize::MAX;

/// Values that a block of the kernel `moments` has of a row: 32 a thread.
const HELD: usize = 256 * 32;

/// relu(scale·x + shift) of rows (C, M) in f32, f16 or bf16; scale and shift are (C, 1) in f32.
pub(crate) fn affine_relu(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let (x, scale, shift) = (x.contiguous()?, scale.contiguous()?, shift.contiguous()?);
    let (dtype, device) = (x.dtype(), x.device());
    let out = empty(x.shape(), dtype, device)?;
    let arguments =
        [pointer(&x, dtype)?, pointer(&scale, DType::F32)?, pointer(&shift, DType::F32)?, pointer(&out, dtype)?];
    Kernel::over_runs("affine_relu", x.dims2()?, MANY).launch(device, dtype, &arguments)?;
    Ok(out)
}

/// Writes mean, biased variance and 1/√(variance + eps) of rows (C, M) in f32, f16 or bf16 to (C, 1) each in f32. The map is
/// read once.
pub(crate) fn moments_into(x: &Tensor, eps: f64, [mean, var, inverse]: [&Tensor; 3]) -> Result<()> {
    let x = x.contiguous()?;
    let (rows, length) = x.dims2()?;
    let (dtype, device) = (x.dtype(), x.device());
    let blocks = length.div_ceil(HELD).max(1);
    let parts = vectors((rows, blocks, 2), device)?;
    let kernel = Kernel { blocks, ..Kernel::of_rows("moments", rows, length) };
    kernel.launch(device, dtype, &[pointer(&x, dtype)?, parts.1])?;
    let arguments =
        [parts.1, Argument::Count(blocks as u64), Argument::Float(eps as f32), f32s(mean)?, f32s(var)?, f32s(inverse)?];
    Kernel::of_rows("moments_of", rows, length).launch(device, DType::F32, &arguments)
}

/// Scale γ·r and shift β - μ·γ·r of a norm, (C, 1) each, of weight γ and bias β, (C), mean μ and inverse deviation r, (C, 1), all
/// in f32.
pub(crate) fn affine_of(weight: &Tensor, bias: &Tensor, mean: &Tensor, inverse: &Tensor) -> Result<[Tensor; 2]> {
    let channels = mean.dim(0)?;
    let (scale, shift) = (vectors((channels, 1), mean.device())?, vectors((channels, 1), mean.device())?);
    let arguments = [f32s(weight)?, f32s(bias)?, f32s(mean)?, f32s(inverse)?, scale.1, shift.1];
    Kernel::over("affine_of", (1, channels)).launch(mean.device(), DType::F32, &arguments)?;
    Ok([scale.0, shift.0])
}

/// Writes a mean, and a variance times `factor`, (C, 1) in f32, to (C) each.
pub(crate) fn noted_into(mean: &Tensor, var: &Tensor, factor: f64, to: [&Tensor; 2]) -> Result<()> {
    let arguments = [f32s(mean)?, f32s(var)?, Argument::Float(factor as f32), f32s(to[0])?, f32s(to[1])?];
    Kernel::over("noted", (1, mean.elem_count())).launch(mean.device(), DType::F32, &arguments)
}

/// Writes values of any shape in f32, f16 or bf16 to as many in f32.
pub(crate) fn widened_into(x: &Tensor, to: &Tensor) -> Result<()> {
    let x = x.contiguous()?;
    if x.elem_count() != to.elem_count() {
        candle_core::bail!("{:?} where {:?} is expected", x.dims(), to.dims());
    }
    let arguments = [pointer(&x, x.dtype())?, f32s(to)?];
    Kernel::over_runs("widened", (1, x.elem_count()), MANY).launch(x.device(), x.dtype(), &arguments)
}

/// What goes back through a norm's ReLU to rows x (C, M), from the gradient by what it gave. With d that gradient where the ReLU
/// was open: scale·d (C, M), the mean of scale·d and of scale·d·x̂, (C, 1) in f32, of which the last two are added to `onto`'s
/// where that is given, as the first is to its; it is contiguous and of x's type. The sums of d·x̂ and of d are written to
/// `by_norm`, (C) each in f32. `norm` is scale, shift, mean and inverse deviation, (C, 1) each in f32.
pub(crate) fn gated(
    x: &Tensor,
    gradient: &Tensor,
    norm: [&Tensor; 4],
    onto: Option<[&Tensor; 3]>,
    by_norm: [&Tensor; 2],
) -> Result<[Tensor; 3]> {
    let (x, gradient) = (x.contiguous()?, gradient.contiguous()?);
    let shape @ (rows, length) = x.dims2()?;
    let (dtype, device) = (x.dtype(), x.device());
    let sums = match onto {
        Some(onto) if onto[0].dims() == x.dims() => onto.map(Clone::clone),
        Some(onto) => candle_core::bail!("a gradient of {:?} is added to {:?}", x.dims(), onto[0].dims()),
        None => [empty(x.shape(), dtype, device)?, vectors((rows, 1), device)?.0, vectors((rows, 1), device)?.0],
    };
    let [scale, shift, mean, inverse] = norm;
    let kernel = Kernel::over_runs("gate", shape, PARTS);
    let parts = vectors((rows, kernel.blocks, 2), device)?;
    let adds = Argument::Count(onto.is_some().into());
    let arguments = [
        pointer(&x, dtype)?,
        pointer(&gradient, dtype)?,
        f32s(scale)?,
        f32s(shift)?,
        f32s(mean)?,
        f32s(inverse)?,
        adds,
        pointer(&sums[0], dtype)?,
        parts.1,
    ];
    kernel.launch(device, dtype, &arguments)?;
    let blocks = Argument::Count(kernel.blocks as u64);
    let [by_weight, by_bias] = by_norm;
    let arguments =
        [parts.1, blocks, f32s(scale)?, adds, f32s(by_weight)?, f32s(by_bias)?, f32s(&sums[1])?, f32s(&sums[2])?];
    Kernel::of_rows("gate_of", rows, length).launch(device, DType::F32, &arguments)?;
    Ok(sums)
}

/// sum - mean - x̂·along of rows (C, M) in f32, f16 or bf16, where x̂ is x less the first of `moments` times the second; all but
/// the rows are (C, 1) in f32.
pub(crate) fn resolved(
    sum: &Tensor,
    x: &Tensor,
    mean: &Tensor,
    along: &Tensor,
    moments: [&Tensor; 2],
) -> Result<Tensor> {
    let (sum, x) = (sum.contiguous()?, x.contiguous()?);
    let (dtype, device) = (x.dtype(), x.device());
    let out = empty(x.shape(), dtype, device)?;
    let arguments = [
        pointer(&sum, dtype)?,
        pointer(&x, dtype)?,
        f32s(mean)?,
        f32s(along)?,
        f32s(moments[0])?,
        f32s(moments[1])?,
        pointer(&out, dtype)?,
    ];
    Kernel::over_runs("resolved", x.dims2()?, MANY).launch(device, dtype, &arguments)?;
    Ok(out)
}

/// Room in f32, and where it is.
fn vectors(shape: impl Into<candle_core::Shape>, device: &Device) -> Result<(Tensor, Argument)> {
    let room = empty(shape, DType::F32, device)?;
    let place = pointer(&room, DType::F32)?;
    Ok((room, place))
}

/// Where a vector in f32 is; one that is not contiguous is refused.
fn f32s(tensor: &Tensor) -> Result<Argument> {
    pointer(tensor, DType::F32)
}
