//! Memory whose size comes from a file.

use crate::error::Error;

/// An empty vector with room for `len` elements, or an error where the system has none.
pub(crate) fn vec_with<T>(len: usize) -> Result<Vec<T>, Error> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(len).map_err(|_| Error::Memory { bytes: len.saturating_mul(size_of::<T>()) })?;
    Ok(vec)
}

/// What reading a file may take for anything that is no tensor's data. A byte of a file can ask for an object of a hundred, so
/// the file's size alone is no limit.
#[derive(Clone, Debug)]
pub(crate) struct Budget(usize);

impl Budget {
    /// Far beyond the objects of any network: those of DenseNet-264 take two megabytes.
    const BASE: usize = 24 << 20;

    /// For a file of `len` bytes.
    pub(crate) fn new(len: usize) -> Self {
        Self(Self::BASE.saturating_add(len / 2))
    }

    /// For going the same way once more, which was within its budget.
    pub(crate) fn unlimited() -> Self {
        Self(usize::MAX)
    }

    /// For showing what was read: a part of what reading may take.
    pub(crate) fn for_showing() -> Self {
        Self(8 << 20)
    }

    /// For one tensor more, in all of its forms on the way to the output.
    pub(crate) fn spend_tensor(&mut self, name: &str) -> Result<(), &'static str> {
        self.spend(1024 + 4 * name.len())
    }

    /// Takes `bytes` of it; an error's text once it is used up.
    pub(crate) fn spend(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.0 = self.0.checked_sub(bytes).ok_or("it makes more objects than any checkpoint needs; refused")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_the_base_and_half_the_file() {
        let mut budget = Budget::new(100);
        assert!(budget.spend((24 << 20) + 49).is_ok());
        assert!(budget.spend(1).is_ok());
        assert!(budget.spend(1).is_err());
    }
}
