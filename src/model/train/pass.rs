//! What a pass reads of the trainer, and what it finds: gradients and statistics by name.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{DType, Result, Tensor};
use densenet_arch::Role;
use densenet_engine::train::{Dropout, Mask, Site};

use super::norm::{Deferred, Moments, Norm};
use super::store::Store;
use super::values::Values;
use crate::model::convolution;
#[cfg(feature = "cuda")]
use crate::model::maps::has_kernels;

/// One batch's way forward and back.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    weights: &'a Store,
    running: &'a Store,
    /// Weights by torchvision's names: convolutions in the type of the maps, all others and the statistics in that of sums.
    tensors: HashMap<String, Tensor>,
    eps: f64,
    /// Of the weights, end to end; zeros where there is none.
    pub(super) gradient: Tensor,
    /// What the running statistics are moved by, likewise.
    pub(super) statistics: Tensor,
    /// Whether the part under way is trained. One that is not normalises by its running statistics.
    pub(super) trained: bool,
    dropout: Option<Dropout>,
    /// Made on the way forward, for the way back.
    norms: RefCell<HashMap<String, Norm>>,
}

impl<'a> Pass<'a> {
    /// With these weights and statistics, and maps of that type.
    pub(super) fn new(
        weights: &'a Values,
        running: &'a Values,
        dtype: DType,
        eps: f64,
        dropout: Option<Dropout>,
    ) -> Result<Self> {
        let mut tensors = HashMap::new();
        for Values { store, all, .. } in [weights, running] {
            let short = all.to_dtype(dtype)?;
            for param in store.params() {
                let values = if param.role == Role::ConvWeight { &short } else { all };
                if let Some(tensor) = store.get(values, &param.name) {
                    let tensor = tensor?;
                    let tensor = if tensor.rank() == 4 { convolution::laid(&tensor)? } else { tensor };
                    tensors.insert(param.name.clone(), tensor);
                }
            }
        }
        Ok(Self {
            weights: &weights.store,
            running: &running.store,
            tensors,
            eps,
            gradient: weights.all.zeros_like()?,
            statistics: running.all.zeros_like()?,
            trained: true,
            dropout,
            norms: RefCell::default(),
        })
    }

    /// What is dropped at a place of the part under way, if anything is.
    pub(super) fn mask(&self, site: Site) -> Option<Mask> {
        Some(self.dropout.filter(|_| self.trained)?.at(site))
    }

    /// The moments of rows (C, M), with the network's eps.
    pub(super) fn moments(&self, rows: &Tensor) -> Result<Moments> {
        let moments = Moments::room(rows.dim(0)?, rows)?;
        self.put_moments(&moments, 0, rows)?;
        Ok(moments)
    }

    /// The same in the place of the channels from `start` on.
    pub(super) fn put_moments(&self, of: &Moments, start: usize, rows: &Tensor) -> Result<()> {
        of.put(start, rows, self.eps)
    }

    /// A weight or statistic.
    pub(super) fn weight(&self, name: &str) -> Result<Tensor> {
        self.tensors.get(name).cloned().ok_or_else(|| candle_core::Error::Msg(format!("no tensor {name}")))
    }

    /// The norm of that name over its map, which has these moments.
    pub(super) fn norm(&self, name: &str, moments: &Moments) -> Result<Norm> {
        if let Some(known) = self.norms.borrow().get(name) {
            return Ok(known.clone());
        }
        let get = |part| self.weight(&format!("{name}.{part}"));
        let (weight, bias) = (get("weight")?, get("bias")?);
        let norm = if self.trained {
            Norm::new(moments.clone(), &weight, &bias)?
        } else {
            let (mean, var) = (get("running_mean")?.unsqueeze(1)?, get("running_var")?.unsqueeze(1)?);
            Norm::new(Moments::new(mean, var, self.eps)?, &weight, &bias)?
        };
        self.norms.borrow_mut().insert(name.to_owned(), norm.clone());
        Ok(norm)
    }

    /// What the norm's running statistics will be moved by, where it is trained: those of so many values.
    pub(super) fn note(&self, norm: &str, moments: &Moments, count: usize) -> Result<()> {
        if self.trained {
            let place = |part| place(self.running, &self.statistics, &format!("{norm}.{part}"));
            moments.note(count, [&place("running_mean")?, &place("running_var")?])?;
        }
        Ok(())
    }

    /// Keeps a weight's gradient.
    pub(super) fn keep(&self, name: &str, gradient: &Tensor) -> Result<()> {
        let place = place(self.weights, &self.gradient, name)?;
        #[cfg(feature = "cuda")]
        if has_kernels(gradient) {
            return crate::gpu::widened_into(gradient, &place);
        }
        place.slice_set(&gradient.to_dtype(place.dtype())?.flatten_all()?.contiguous()?, 0, 0)
    }

    /// From the gradient by what the norm and its ReLU made of x to that by x; keeps the norm's own. Where `onto` is given, that
    /// by x is added to it.
    pub(super) fn backward(
        &self,
        name: &str,
        norm: &Norm,
        x: &Tensor,
        gradient: &Tensor,
        onto: Option<&Deferred>,
    ) -> Result<Deferred> {
        let place = |part| place(self.weights, &self.gradient, &format!("{name}.{part}"));
        norm.backward(x, gradient, onto, [&place("weight")?, &place("bias")?])
    }
}

/// The place (n) of a tensor among all values of a store.
fn place(store: &Store, all: &Tensor, name: &str) -> Result<Tensor> {
    let Some(place) = store.get(all, name) else { candle_core::bail!("no tensor {name}") };
    place?.flatten_all()
}
