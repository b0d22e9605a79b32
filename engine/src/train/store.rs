//! Tensors by torchvision's names, one behind the other in one vector.

use std::collections::HashMap;
use std::ops::Range;

use densenet_arch::Param;

use crate::Error;
use crate::fold::Source;

/// Some tensors of a network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    /// In the order of torchvision's state dict.
    pub(crate) tensors: Vec<(Param, Range<usize>)>,
    index: HashMap<String, usize>,
    pub(crate) values: Vec<f32>,
}

impl Store {
    /// Takes the tensors from the source.
    pub(crate) fn new(params: impl Iterator<Item = Param>, source: &mut Source) -> Result<Self, Error> {
        let mut store = Self::default();
        for param in params {
            let start = store.values.len();
            store.values.extend(source.tensor(&param.name, &param.shape)?);
            store.index.insert(param.name.clone(), store.tensors.len());
            store.tensors.push((param, start..store.values.len()));
        }
        Ok(store)
    }

    /// Where a tensor's values are; nowhere for a name that is not there.
    pub(crate) fn range(&self, name: &str) -> Range<usize> {
        self.index.get(name).map_or(0..0, |&at| self.tensors[at].1.clone())
    }

    /// A tensor's shape, and its part of values that lie as these do.
    pub(crate) fn tensor<'a>(&'a self, name: &str, values: &'a [f32]) -> Option<(&'a [usize], &'a [f32])> {
        let (param, range) = &self.tensors[*self.index.get(name)?];
        Some((&param.shape, &values[range.clone()]))
    }

    /// Values that lie as these do, from tensors whose names have a prefix.
    pub(crate) fn read(&self, prefix: &str, source: &mut Source) -> Result<Vec<f32>, Error> {
        let mut values = Vec::with_capacity(self.values.len());
        for (param, _) in &self.tensors {
            values.extend(source.tensor(&format!("{prefix}{}", param.name), &param.shape)?);
        }
        Ok(values)
    }
}
