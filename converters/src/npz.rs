//! NumPy's `.npz`: a zip of `.npy` arrays (numpy.lib.format, versions 1 to 3), as Chainer and Lasagne keep weights.

use crate::alloc::Budget;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::storage::ByteOrder;
use crate::tensor::{DType, Tensor};
use crate::zip;

pub(crate) const FORMAT: &str = "npz";
const ENDING: &str = ".npy";
const MAGIC: &[u8] = b"\x93NUMPY";
/// A header of 32 dimensions takes a kilobyte.
const MOST_HEADER: usize = 1 << 16;

/// How the arrays of an `.npz` are called; nothing in the file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As in a PyTorch state dict: `features.conv0.weight`.
    Pytorch,
    /// A layer's name with its tensor behind it: `conv1_bn_gamma`.
    Layers,
}

/// Whether all entries of an archive are arrays.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    let entries = zip::read(bytes, usize::MAX);
    entries.is_ok_and(|entries| !entries.is_empty() && entries.keys().all(|name| is_array(name)))
}

/// Whether an entry of that name is an array.
pub(crate) fn is_array(name: &str) -> bool {
    name.strip_suffix(ENDING).is_some()
}

/// Every array by its name.
pub(crate) fn read<'a>(bytes: &'a [u8], packed: bool, budget: &mut Budget) -> Result<Vec<(String, Tensor<'a>)>, Error> {
    let entries = zip::read(bytes, if packed { 0 } else { zip::most_inflated(bytes) })?;
    let mut tensors = Vec::new();
    for (file, entry) in entries {
        let name = file.strip_suffix(ENDING).unwrap_or(file).to_owned();
        let refuse =
            |reason: String| Error::Tensor { format: FORMAT, offset: entry.offset(), tensor: name.clone(), reason };
        budget.spend_tensor(&name).map_err(|reason| refuse(reason.to_owned()))?;
        let content = entry.content()?;
        let (dtype, order, shape, is_fortran, start) =
            header(&mut Cursor::new(&content, FORMAT)).map_err(|error| refuse(error.to_string()))?;
        let storage = entry.storage().part(start, entry.size() - start).unwrap_or_else(|| entry.storage());
        let mut shape = shape;
        if is_fortran {
            shape.reverse();
        }
        let dimensions = shape.len();
        let tensor = Tensor::contiguous(dtype, shape, storage.with_order(order)).map_err(&refuse)?;
        let turned: Vec<_> = (0..dimensions).rev().collect();
        let tensor = if is_fortran { tensor.permute(&turned).map_err(&refuse)? } else { tensor };
        tensors.push((name, tensor));
    }
    Ok(tensors)
}

type Header = (DType, ByteOrder, Vec<usize>, bool, usize);

/// Type, order, shape, whether columns come first, and where the numbers begin.
fn header(cursor: &mut Cursor) -> Result<Header, Error> {
    if cursor.take(MAGIC.len())? != MAGIC {
        return Err(cursor.error_at(0, "no array of NumPy's"));
    }
    let [version, _] = cursor.array::<2>()?;
    let len = if version == 1 { usize::from(cursor.u16()?) } else { cursor.u32()? as usize };
    if !(1..=3).contains(&version) || len > MOST_HEADER {
        return Err(cursor.error("an array of an unknown version, or with a header too long"));
    }
    let at = cursor.at();
    let text = cursor.take(len)?;
    let text = std::str::from_utf8(text).map_err(|_| cursor.error_at(at, "a header that is no text"))?;
    let refuse = |what: &str| cursor.error_at(at, format!("its header says no {what} that is read"));
    let value = |key: &str| {
        let rest = text.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
        rest.ok_or_else(|| refuse(key))
    };
    let descr = value("descr")?.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(descr, _)| descr);
    let (order, kind) = descr.and_then(|descr| descr.split_at_checked(1)).ok_or_else(|| refuse("descr"))?;
    let dtype = match kind {
        "f8" => DType::F64,
        "f4" => DType::F32,
        "f2" => DType::F16,
        "i8" => DType::I64,
        "i4" => DType::I32,
        "i2" => DType::I16,
        "i1" => DType::I8,
        "u1" => DType::U8,
        "b1" => DType::Bool,
        _ => return Err(refuse("descr")),
    };
    let order = match order {
        "<" | "|" => ByteOrder::Little,
        ">" => ByteOrder::Big,
        _ => return Err(refuse("descr")),
    };
    let is_fortran = match value("fortran_order")? {
        rest if rest.starts_with("True") => true,
        rest if rest.starts_with("False") => false,
        _ => return Err(refuse("fortran_order")),
    };
    let sizes = value("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(sizes, _)| sizes);
    let sizes = sizes.ok_or_else(|| refuse("shape"))?.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<usize> = sizes.map(str::parse).collect::<Result<_, _>>().map_err(|_| refuse("shape"))?;
    if shape.len() > Tensor::MOST_DIMENSIONS {
        return Err(refuse("shape"));
    }
    Ok((dtype, order, shape, is_fortran, cursor.at()))
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::read;
    use crate::source::Source;

    /// numpy.savez of `asfortranarray(arange(6).reshape(2, 3))` as `>i2`.
    #[test]
    fn columns_first_and_high_bytes_first_become_rows_and_low_bytes() {
        let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/npz/kinds")).unwrap();
        let source = Source::new(&bytes);
        let checkpoint = read(&source).unwrap();
        let turned = &checkpoint.tensors().iter().find(|named| named.name == "f").unwrap().tensor;
        assert_eq!(turned.shape(), [2, 3]);
        assert_eq!(*turned.to_bytes().unwrap(), *[0_i16, 1, 2, 3, 4, 5].map(i16::to_le_bytes).concat());
    }
}
