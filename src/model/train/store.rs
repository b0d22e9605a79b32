//! Named tensors end to end in one, so that an update is a handful of operations on the device.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};
use densenet_arch::Param;

use crate::model::Source;

/// Where each tensor lies.
#[derive(Clone, Debug)]
pub(super) struct Store {
    entries: Vec<(Param, Range<usize>)>,
    by_name: HashMap<String, usize>,
}

impl Store {
    /// One behind the other.
    pub(super) fn new(params: impl Iterator<Item = Param>) -> Self {
        let mut end = 0;
        let place = |param: Param| {
            let start = end;
            end += param.elements();
            (param, start..end)
        };
        let entries: Vec<_> = params.map(place).collect();
        let by_name = entries.iter().enumerate().map(|(index, (param, _))| (param.name.clone(), index)).collect();
        Self { entries, by_name }
    }

    /// What is stored, in its order.
    pub(super) fn params(&self) -> impl Iterator<Item = &Param> {
        self.entries.iter().map(|(param, _)| param)
    }

    /// All values (n) on the device, as `source` gives them: shape and values by name.
    pub(super) fn load(&self, source: &mut Source, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut all = Vec::new();
        for Param { name, shape, .. } in self.params() {
            let Some((found, values)) = source(name) else { candle_core::bail!("no tensor {name}") };
            if found != *shape || values.len() != shape.iter().product::<usize>() {
                candle_core::bail!("{name} has the shape {found:?}, the network needs {shape:?}");
            }
            all.extend(values);
        }
        let count = all.len();
        Tensor::from_vec(all, count, device)?.to_dtype(dtype)
    }

    /// A tensor of its shape out of all values (n); `None`: there is none of that name.
    pub(super) fn get(&self, all: &Tensor, name: &str) -> Option<Result<Tensor>> {
        let (param, range) = self.entries.get(*self.by_name.get(name)?)?;
        Some(all.narrow(0, range.start, range.len()).and_then(|values| values.reshape(param.shape.as_slice())))
    }

    /// A number for each value (n).
    pub(super) fn spread(&self, number: impl Fn(&Param) -> f64, like: &Tensor) -> Result<Tensor> {
        let one = |param: &Param| Tensor::full(number(param) as f32, param.elements(), like.device());
        Tensor::cat(&self.params().map(one).collect::<Result<Vec<_>>>()?, 0)?.to_dtype(like.dtype())
    }
}
