//! Batch norm and ReLU over rows, forward and backward.

use candle_core::{Result, Tensor};

use crate::model::affine::Affine;
#[cfg(feature = "cuda")]
use crate::model::maps::has_kernels;
use crate::model::maps::wide;

/// Mean, biased variance and, with it, inverse deviation r = 1/√(σ² + eps) of each channel, (C, 1), f32 at least.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub(super) mean: Tensor,
    pub(super) var: Tensor,
    inverse: Tensor,
}

impl Moments {
    pub(super) fn new(mean: Tensor, var: Tensor, eps: f64) -> Result<Self> {
        let inverse = (&var + eps)?.sqrt()?.recip()?;
        Ok(Self { mean, var, inverse })
    }

    /// Of rows (C, M): the mean, then the distances from it.
    pub(super) fn of(rows: &Tensor, eps: f64) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if has_kernels(rows) {
            let [mean, var] = crate::gpu::moments(rows)?;
            return Self::new(mean, var, eps);
        }
        let rows = rows.to_dtype(wide(rows.dtype()))?;
        let mean = rows.mean_keepdim(1)?;
        let var = rows.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?;
        Self::new(mean, var, eps)
    }

    /// Those of some channels.
    pub(super) fn narrow(&self, start: usize, channels: usize) -> Result<Self> {
        let part = |all: &Tensor| all.narrow(0, start, channels);
        Ok(Self { mean: part(&self.mean)?, var: part(&self.var)?, inverse: part(&self.inverse)? })
    }

    /// Room for those of so many channels, of the type of these.
    pub(super) fn room(&self, channels: usize) -> Result<Self> {
        let room = |like: &Tensor| Tensor::zeros((channels, 1), like.dtype(), like.device());
        Ok(Self { mean: room(&self.mean)?, var: room(&self.var)?, inverse: room(&self.inverse)? })
    }

    /// Puts those of some channels in their place.
    pub(super) fn put(&self, start: usize, some: &Self) -> Result<()> {
        for (all, some) in [(&self.mean, &some.mean), (&self.var, &some.var), (&self.inverse, &some.inverse)] {
            all.slice_set(some, 0, start)?;
        }
        Ok(())
    }
}

/// A norm over a map: scale = γ·r and shift = β - μ·scale.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    moments: Moments,
    affine: Affine,
}

impl Norm {
    /// `weight` and `bias` are (C).
    pub(super) fn new(moments: Moments, weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let scale = (weight.unsqueeze(1)? * &moments.inverse)?;
        let shift = (bias.unsqueeze(1)? - (&moments.mean * &scale)?)?;
        Ok(Self { moments, affine: Affine { scale, shift } })
    }

    /// z = relu(scale·x + shift), (C, M).
    pub(super) fn relu(&self, x: &Tensor) -> Result<Tensor> {
        self.affine.relu(x)
    }

    /// Scale and shift.
    pub(super) fn affine(&self) -> &Affine {
        &self.affine
    }

    /// From the gradient by z to that by x, γ and β, where z is what [`relu`](Self::relu) made of x. Where `onto` is given, that
    /// by x is added, in place, to that of its first channels.
    pub(super) fn backward(
        &self,
        x: &Tensor,
        z: &Tensor,
        gradient: &Tensor,
        onto: Option<&Deferred>,
    ) -> Result<NormGradient> {
        let scale = &self.affine.scale;
        let (channels, pixels) = x.dims2()?;
        let first = onto.map(|onto| onto.narrow(0, channels)).transpose()?;
        let [sum, weight, bias] = self.gated(x, z, gradient, first.as_ref().map(|first| &first.sum))?;
        let (mean, along) = (((scale * &bias)? / pixels as f64)?, ((scale * &weight)? / pixels as f64)?);
        let x = match first {
            Some(first) => {
                add(&first.mean, &mean)?;
                add(&first.along, &along)?;
                first
            }
            None => Deferred { sum, mean, along },
        };
        Ok(NormGradient { x, weight: weight.squeeze(1)?, bias: bias.squeeze(1)? })
    }

    /// With d the gradient by z where the ReLU was open: scale·d (C, M), and the sums of d·x̂ and of d, (C, 1). Where `onto` is
    /// given, scale·d is added to it.
    fn gated(&self, x: &Tensor, z: &Tensor, gradient: &Tensor, onto: Option<&Tensor>) -> Result<[Tensor; 3]> {
        let scale = &self.affine.scale;
        #[cfg(feature = "cuda")]
        if has_kernels(x) {
            let Moments { mean, inverse, .. } = &self.moments;
            let gradient = gradient.to_dtype(x.dtype())?;
            return crate::gpu::gated(x, &gradient, [scale, &self.affine.shift, mean, inverse], onto);
        }
        let dtype = scale.dtype();
        let open = (z.gt(0.0)?.to_dtype(dtype)? * gradient.to_dtype(dtype)?)?; // d
        let weight = (&open * self.standard(x)?)?.sum_keepdim(1)?;
        let scaled = open.broadcast_mul(scale)?.to_dtype(x.dtype())?;
        if let Some(onto) = onto {
            add(onto, &scaled)?;
        }
        Ok([scaled, weight, open.sum_keepdim(1)?])
    }

    /// x̂ = (x - μ)·r, (C, M).
    fn standard(&self, x: &Tensor) -> Result<Tensor> {
        let Moments { mean, inverse, .. } = &self.moments;
        x.to_dtype(mean.dtype())?.broadcast_sub(mean)?.broadcast_mul(inverse)
    }
}

/// What goes back through a norm.
#[derive(Debug)]
pub(super) struct NormGradient {
    pub(super) x: Deferred,
    /// S2 (C)
    pub(super) weight: Tensor,
    /// S1 (C)
    pub(super) bias: Tensor,
}

/// A gradient by x of all norms that read x, of which all have the same x̂: `sum - mean - x̂·along`.
#[derive(Clone, Debug)]
pub(super) struct Deferred {
    /// (C, M)
    pub(super) sum: Tensor,
    /// (C, 1)
    pub(super) mean: Tensor,
    /// (C, 1)
    pub(super) along: Tensor,
}

impl Deferred {
    /// Those of some channels.
    pub(super) fn narrow(&self, start: usize, channels: usize) -> Result<Self> {
        let part = |all: &Tensor| all.narrow(0, start, channels);
        Ok(Self { sum: part(&self.sum)?, mean: part(&self.mean)?, along: part(&self.along)? })
    }

    /// The gradient by x, (C, M).
    pub(super) fn resolve(&self, x: &Tensor, moments: &Moments) -> Result<Tensor> {
        let slope = (&self.along * &moments.inverse)?;
        let level = (&self.mean - (&moments.mean * &slope)?)?;
        #[cfg(feature = "cuda")]
        if has_kernels(x) {
            return crate::gpu::resolved(&self.sum, x, &level, &slope);
        }
        let along = x.to_dtype(slope.dtype())?.broadcast_mul(&slope)?;
        let sum = self.sum.to_dtype(slope.dtype())?;
        (sum.broadcast_sub(&level)? - along)?.to_dtype(x.dtype())
    }
}

/// Adds to a part of a tensor, in place.
fn add(all: &Tensor, more: &Tensor) -> Result<()> {
    all.slice_set(&(all + more)?, 0, 0)
}
