//! Batch norm and ReLU over rows, forward and backward.

use candle_core::{Result, Tensor};

use crate::model::affine::Affine;
#[cfg(feature = "cuda")]
use crate::model::maps::has_kernels;
use crate::model::maps::{self, wide};

/// Mean, biased variance and, with it, inverse deviation r = 1/√(σ² + eps) of each channel, (C, 1), f32 at least.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    mean: Tensor,
    var: Tensor,
    inverse: Tensor,
}

impl Moments {
    /// Of what is known.
    pub(super) fn new(mean: Tensor, var: Tensor, eps: f64) -> Result<Self> {
        let inverse = (&var + eps)?.sqrt()?.recip()?;
        Ok(Self { mean, var, inverse })
    }

    /// Room for those of so many channels of maps like this one.
    pub(super) fn room(channels: usize, like: &Tensor) -> Result<Self> {
        let room = || maps::room((channels, 1), wide(like.dtype()), like.device());
        Ok(Self { mean: room()?, var: room()?, inverse: room()? })
    }

    /// Puts those of rows (C, M) in the place of the channels from `start` on: the mean, then the distances from it.
    pub(super) fn put(&self, start: usize, rows: &Tensor, eps: f64) -> Result<()> {
        let place = self.narrow(start, rows.dim(0)?)?;
        #[cfg(feature = "cuda")]
        if has_kernels(rows) {
            return crate::gpu::moments_into(rows, eps, [&place.mean, &place.var, &place.inverse]);
        }
        let rows = rows.to_dtype(wide(rows.dtype()))?;
        let mean = rows.mean_keepdim(1)?;
        let var = rows.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?;
        let found = Self::new(mean, var, eps)?;
        for (place, found) in [(place.mean, found.mean), (place.var, found.var), (place.inverse, found.inverse)] {
            place.slice_set(&found, 0, 0)?;
        }
        Ok(())
    }

    /// Writes what running statistics are moved by to (C) each: the mean and the unbiased variance of so many values.
    pub(super) fn note(&self, count: usize, to: [&Tensor; 2]) -> Result<()> {
        let factor = count as f64 / (count as f64 - 1.0);
        #[cfg(feature = "cuda")]
        if has_kernels(&self.mean) {
            return crate::gpu::noted_into(&self.mean, &self.var, factor, to);
        }
        to[0].slice_set(&self.mean.squeeze(1)?, 0, 0)?;
        to[1].slice_set(&(&self.var * factor)?.squeeze(1)?, 0, 0)
    }

    /// Those of some channels.
    pub(super) fn narrow(&self, start: usize, channels: usize) -> Result<Self> {
        let part = |all: &Tensor| all.narrow(0, start, channels);
        Ok(Self { mean: part(&self.mean)?, var: part(&self.var)?, inverse: part(&self.inverse)? })
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
        let Moments { mean, inverse, .. } = &moments;
        #[cfg(feature = "cuda")]
        if has_kernels(mean) {
            let [scale, shift] = crate::gpu::affine_of(weight, bias, mean, inverse)?;
            return Ok(Self { moments, affine: Affine { scale, shift } });
        }
        let scale = (weight.unsqueeze(1)? * inverse)?;
        let shift = (bias.unsqueeze(1)? - (mean * &scale)?)?;
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

    /// From the gradient by z, which [`relu`](Self::relu) made of x, to that by x; those by γ and β are written to `by_norm`, (C)
    /// each. Where `onto` is given, that by x is added, in place, to that of its first channels.
    pub(super) fn backward(
        &self,
        x: &Tensor,
        gradient: &Tensor,
        onto: Option<&Deferred>,
        by_norm: [&Tensor; 2],
    ) -> Result<Deferred> {
        let Affine { scale, shift } = &self.affine;
        let Moments { mean, inverse, .. } = &self.moments;
        let (channels, pixels) = x.dims2()?;
        let onto = onto.map(|onto| onto.narrow(0, channels)).transpose()?;
        #[cfg(feature = "cuda")]
        if has_kernels(x) {
            let onto = onto.as_ref().map(|Deferred { sum, mean, along }| [sum, mean, along]);
            let gradient = gradient.to_dtype(x.dtype())?;
            let norm = [scale, shift, mean, inverse];
            let [sum, mean, along] = crate::gpu::gated(x, &gradient, norm, onto, by_norm)?;
            return Ok(Deferred { sum, mean, along });
        }
        let (dtype, x) = (x.dtype(), x.to_dtype(scale.dtype())?);
        let open = x.broadcast_mul(scale)?.broadcast_add(shift)?.gt(0.0)?.to_dtype(scale.dtype())?;
        let by_open = (open * gradient.to_dtype(scale.dtype())?)?; // d
        let standard = x.broadcast_sub(mean)?.broadcast_mul(inverse)?; // x̂
        let (weight, bias) = ((&by_open * standard)?.sum_keepdim(1)?, by_open.sum_keepdim(1)?);
        let found = Deferred {
            sum: by_open.broadcast_mul(scale)?.to_dtype(dtype)?,
            mean: ((scale * &bias)? / pixels as f64)?,
            along: ((scale * &weight)? / pixels as f64)?,
        };
        for (place, found) in by_norm.into_iter().zip([weight, bias]) {
            place.slice_set(&found.squeeze(1)?, 0, 0)?;
        }
        match onto {
            Some(onto) => onto.plus(&found),
            None => Ok(found),
        }
    }
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

    /// This, to which `more` was added in place.
    fn plus(self, more: &Self) -> Result<Self> {
        for (all, more) in [(&self.sum, &more.sum), (&self.mean, &more.mean), (&self.along, &more.along)] {
            all.slice_set(&(all + more)?, 0, 0)?;
        }
        Ok(self)
    }

    /// The gradient by x, (C, M).
    pub(super) fn resolve(&self, x: &Tensor, moments: &Moments) -> Result<Tensor> {
        let Self { sum, mean, along } = self;
        #[cfg(feature = "cuda")]
        if has_kernels(x) {
            return crate::gpu::resolved(sum, x, mean, along, [&moments.mean, &moments.inverse]);
        }
        let slope = (along * &moments.inverse)?;
        let level = (mean - (&moments.mean * &slope)?)?;
        let along = x.to_dtype(slope.dtype())?.broadcast_mul(&slope)?;
        (sum.to_dtype(slope.dtype())?.broadcast_sub(&level)? - along)?.to_dtype(x.dtype())
    }
}
