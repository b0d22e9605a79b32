//! Named values end to end, of which those behind a place are trained.

use candle_core::{Result, Tensor};

use super::store::Store;

/// All values of a store.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub(super) store: Store,
    /// (n)
    pub(super) all: Tensor,
    /// Where the trained ones begin.
    pub(super) first: usize,
}

impl Values {
    /// The trained ones of `all` (n), which may be any values of this store.
    pub(super) fn trained(&self, all: &Tensor) -> Result<Tensor> {
        all.narrow(0, self.first, all.dim(0)? - self.first)
    }

    /// `all` with its trained ones replaced.
    pub(super) fn replaced(&self, all: &Tensor, trained: &Tensor) -> Result<Tensor> {
        Tensor::cat(&[&all.narrow(0, 0, self.first)?, trained], 0)
    }
}
