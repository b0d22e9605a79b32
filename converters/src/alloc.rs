//! Memory whose size comes from a file.

use crate::error::Error;

/// An empty vector with room for `len` elements, or an error where the system has none.
pub(crate) fn vec_with<T>(len: usize) -> Result<Vec<T>, Error> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(len).map_err(|_| Error::Memory { bytes: len.saturating_mul(size_of::<T>()) })?;
    Ok(vec)
}
