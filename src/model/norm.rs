//! Batch norm with the eps of the weights, its statistics kept in f32 for half types.

use candle_core::{DType, Result, Tensor, Var};
use candle_nn::{Init, ModuleT, VarBuilder};

/// Share of the new batch in the running statistics, as Torch and PyTorch have it.
const MOMENTUM: f64 = 0.1;

/// Batch norm over the channels of (B, C, H, W) (arXiv 1502.03167).
#[derive(Clone, Debug)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
    eps: f64,
}

impl Norm {
    pub(super) fn new(channels: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        let dtype = statistics_dtype(vb.dtype());
        let get = |name, value| vb.get_with_hints_dtype(channels, name, Init::Const(value), dtype);
        Ok(Self {
            weight: get("weight", 1.0)?,
            bias: get("bias", 0.0)?,
            running_mean: Var::from_tensor(&get("running_mean", 0.0)?)?,
            running_var: Var::from_tensor(&get("running_var", 1.0)?)?,
            eps,
        })
    }

    /// Mean and (biased) variance of each channel, (1, C, 1, 1), after which the running ones have moved.
    fn batch_statistics(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let channels = x.dim(1)?;
        let count = x.elem_count() / channels;
        if count < 2 {
            candle_core::bail!("batch norm in training needs more than one value a channel, the map has {count}");
        }
        let rows = x.transpose(0, 1)?.flatten_from(1)?; // (C, B*H*W)
        let mean = rows.mean_keepdim(1)?;
        let var = rows.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?;
        let unbiased = count as f64 / (count - 1) as f64;
        let moved = |running: &Var, batch: &Tensor, factor: f64| -> Result<()> {
            let batch = batch.detach().flatten_all()?;
            running.set(&((running.as_tensor() * (1.0 - MOMENTUM))? + (batch * (MOMENTUM * factor))?)?)
        };
        moved(&self.running_mean, &mean, 1.0)?;
        moved(&self.running_var, &var, unbiased)?;
        Ok((mean.flatten_all()?, var.flatten_all()?))
    }
}

impl ModuleT for Norm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let dtype = x.dtype();
        let (mean, var) = if train {
            self.batch_statistics(&x.to_dtype(self.weight.dtype())?)?
        } else {
            (self.running_mean.as_detached_tensor(), self.running_var.as_detached_tensor())
        };
        // One multiplication and one addition over the map: scale and shift are a vector each.
        let scale = (&self.weight / (var + self.eps)?.sqrt()?)?; // (C)
        let shift = (&self.bias - (mean * &scale)?)?;
        let wide = |vector: Tensor| vector.to_dtype(dtype)?.reshape((1, (), 1, 1));
        x.broadcast_mul(&wide(scale)?)?.broadcast_add(&wide(shift)?)
    }
}

/// Variances under 6e-8 vanish in f16, so statistics stay in f32 there.
fn statistics_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::Device;

    use super::*;

    fn norm(dtype: DType) -> Norm {
        let vector = |values: [f32; 2]| Tensor::new(&values, &Device::Cpu).unwrap();
        let tensors = HashMap::from([
            ("weight".to_owned(), vector([2.0, 1.0])),
            ("bias".to_owned(), vector([0.5, 0.0])),
            ("running_mean".to_owned(), vector([1.0, 0.0])),
            ("running_var".to_owned(), vector([3.75, 1e-8])),
        ]);
        Norm::new(2, 0.25, VarBuilder::from_tensors(tensors, dtype, &Device::Cpu)).unwrap()
    }

    #[test]
    fn evaluation_uses_the_running_statistics() {
        let x = Tensor::new(&[[[[3.0_f32]], [[0.25]]]], &Device::Cpu).unwrap();
        // (3 - 1) / sqrt(3.75 + 0.25) * 2 + 0.5 and 0.25 / sqrt(0.25)
        let y = norm(DType::F32).forward_t(&x, false).unwrap().flatten_all().unwrap();
        assert_eq!(y.to_vec1::<f32>().unwrap(), [2.5, 0.5]);
    }

    #[test]
    fn half_networks_keep_small_variances() {
        let norm = norm(DType::F16);
        assert_eq!(norm.running_var.to_vec1::<f32>().unwrap(), [3.75, 1e-8]);
        let x = Tensor::new(&[[[[3.0_f32]], [[0.25]]]], &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap();
        assert_eq!(norm.forward_t(&x, false).unwrap().dtype(), DType::F16);
    }

    #[test]
    fn training_uses_the_batch_and_moves_the_running_statistics() {
        let norm = norm(DType::F32);
        // Channel 0: mean 2, biased variance 1; channel 1: constant.
        let x = Tensor::new(&[[[[1.0_f32]], [[5.0]]], [[[3.0]], [[5.0]]]], &Device::Cpu).unwrap();
        let y = norm.forward_t(&x, true).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let side = 2.0 / 1.25_f32.sqrt();
        for (got, want) in y.iter().zip([0.5 - side, 0.0, 0.5 + side, 0.0]) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
        // 0.9 * 1 + 0.1 * 2; 0.9 * 3.75 + 0.1 * 2 (the unbiased variance of 1 and 3)
        let close = |got: Vec<f32>, want: [f32; 2]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(norm.running_mean.to_vec1().unwrap(), [1.1, 0.5]));
        assert!(close(norm.running_var.to_vec1().unwrap(), [3.575, 9e-9]));
        assert!(norm.forward_t(&x.narrow(0, 0, 1).unwrap(), true).is_err());
    }
}
