//! A view into the bytes of a file.

use std::io::Write;

use crate::alloc::vec_with;
use crate::error::Error;
use crate::float;
use crate::storage::{ByteOrder, Storage};

/// Elements are converted in pieces of about this many bytes.
const BUFFER: usize = 1 << 16;
/// Elements that are decoded at a time.
const PIECE: usize = 1 << 18;

/// Element types, named as safetensors names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl DType {
    const ALL: [Self; 10] =
        [Self::F64, Self::F32, Self::F16, Self::BF16, Self::I64, Self::I32, Self::I16, Self::I8, Self::U8, Self::Bool];

    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The name in a safetensors header.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Whether weights can be of it.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }
}

/// A strided view into a storage, checked to lie within it.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    dtype: DType,
    /// The type of the storage's elements: another than `dtype` where they are cast as they are read.
    stored: DType,
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    storage: Storage<'a>,
}

impl<'a> Tensor<'a> {
    /// Dimensions beyond this are no tensor that anybody stores.
    pub(crate) const MOST_DIMENSIONS: usize = 32;

    /// A view of `shape` with `strides` from `offset`, in elements. Errors say why it does not fit the storage.
    pub(crate) fn new(
        dtype: DType,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        storage: Storage<'a>,
    ) -> Result<Self, String> {
        if shape.len() != strides.len() {
            return Err(format!("{} sizes and {} strides", shape.len(), strides.len()));
        }
        if shape.len() > Self::MOST_DIMENSIONS {
            return Err(format!("{} dimensions", shape.len()));
        }
        let product = |sizes: &[usize]| sizes.iter().try_fold(1_usize, |all, &size| all.checked_mul(size));
        let bytes = product(&shape).and_then(|elements| elements.checked_mul(dtype.size()));
        let bytes = bytes.ok_or_else(|| format!("shape {shape:?} overflows"))?;
        // An expanded view repeats its storage; so far beyond it is an attack on memory.
        if bytes > storage.len().saturating_mul(16).saturating_add(1 << 20) {
            return Err(format!("shape {shape:?} repeats a storage of {} bytes into {bytes}", storage.len()));
        }
        if bytes > 0 {
            let last = shape.iter().zip(&strides).try_fold(offset, |at, (&size, &stride)| {
                (size - 1).checked_mul(stride).and_then(|step| at.checked_add(step))
            });
            let held = storage.len() / dtype.size();
            if last.is_none_or(|last| last >= held) {
                return Err(format!(
                    "shape {shape:?} with strides {strides:?} at {offset} leaves its storage of {held} elements"
                ));
            }
        }
        Ok(Self { dtype, stored: dtype, shape, strides, offset, storage })
    }

    /// A contiguous tensor over all of a storage.
    pub(crate) fn contiguous(dtype: DType, shape: Vec<usize>, storage: Storage<'a>) -> Result<Self, String> {
        let strides = contiguous_strides(&shape);
        let held = storage.len();
        let tensor = Self::new(dtype, shape, strides, 0, storage)?;
        if tensor.byte_len() == held {
            Ok(tensor)
        } else {
            Err(format!("shape {:?} of {} does not fill {held} bytes", tensor.shape, dtype.name()))
        }
    }

    /// A tensor of these values, kept in a float type.
    pub(crate) fn of_f64(dtype: DType, shape: Vec<usize>, values: &[f64]) -> Result<Self, String> {
        let wide: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut bytes = Vec::new();
        float::cast(&wide, DType::F64, dtype, &mut bytes);
        Self::contiguous(dtype, shape, Storage::owned(bytes))
    }

    /// The same elements, in order, under another shape.
    pub(crate) fn reshape(&self, shape: Vec<usize>) -> Result<Self, String> {
        if !self.is_contiguous() || shape.iter().product::<usize>() != self.elements() {
            return Err(format!("shape {:?} cannot become {shape:?}", self.shape));
        }
        let strides = contiguous_strides(&shape);
        let view = Self::new(self.stored, shape, strides, self.offset, self.storage.clone())?;
        Ok(Self { dtype: self.dtype, ..view })
    }

    /// The same elements with the dimensions in another order: `order` names one of this tensor's for each of the new one's.
    pub(crate) fn permute(&self, order: &[usize]) -> Result<Self, String> {
        let pick = |from: &[usize]| order.iter().map(|&at| from.get(at).copied()).collect::<Option<Vec<_>>>();
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        match (pick(&self.shape), pick(&self.strides)) {
            (Some(shape), Some(strides)) if sorted.iter().copied().eq(0..self.shape.len()) => {
                Ok(Self { shape, strides, ..self.clone() })
            }
            _ => Err(format!("shape {:?} has no dimensions {order:?}", self.shape)),
        }
    }

    /// The same values in another float type, rounded to the nearest, ties to even, as they are read.
    pub(crate) fn cast(self, dtype: DType) -> Self {
        debug_assert!(self.stored.is_float() && dtype.is_float());
        Self { dtype, ..self }
    }

    /// Whether it has more elements than its storage.
    pub(crate) fn repeats(&self) -> bool {
        self.elements() * self.stored.size() > self.storage.len()
    }

    /// The memory that it is a view of.
    pub(crate) fn storage(&self) -> &Storage<'a> {
        &self.storage
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Its sizes; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Where it begins in its storage, in elements.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of its elements.
    pub fn byte_len(&self) -> usize {
        self.elements() * self.dtype.size()
    }

    /// Type, shape and size, as `inspect` shows them.
    pub(crate) fn describe(&self) -> String {
        format!("{} {:?} {} bytes", self.dtype.name(), self.shape, self.byte_len())
    }

    fn is_contiguous(&self) -> bool {
        self.shape
            .iter()
            .zip(&self.strides)
            .zip(contiguous_strides(&self.shape))
            .all(|((&size, &stride), expected)| size <= 1 || stride == expected)
    }

    /// The distance between neighbours along each dimension, in elements.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// Writes the elements in C order, little-endian.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<(), Error> {
        if self.stored == self.dtype {
            return self.gather(&mut |bytes| Ok(out.write_all(bytes)?));
        }
        let mut cast = Vec::new();
        self.gather(&mut |bytes| {
            for part in bytes.chunks(BUFFER) {
                cast.clear();
                float::cast(part, self.stored, self.dtype, &mut cast);
                out.write_all(&cast)?;
            }
            Ok(())
        })
    }

    /// Passes the stored elements on in C order, little-endian, a piece at a time.
    fn gather(&self, take: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let elements = self.elements();
        if elements == 0 {
            return Ok(());
        }
        let size = self.stored.size();
        let swapped = self.storage.order == ByteOrder::Big && size > 1;
        if self.is_contiguous() && !swapped {
            let piece = if self.storage.is_decoded_in_pieces() { PIECE } else { elements };
            let pieces = (0..elements).step_by(piece);
            return pieces.into_iter().try_for_each(|first| {
                let count = piece.min(elements - first);
                take(&self.storage.span((self.offset + first) * size, count * size)?)
            });
        }
        // From the first element to the last.
        let steps = self.shape.iter().zip(&self.strides).map(|(&size, &stride)| (size - 1) * stride);
        let held = steps.sum::<usize>() + 1;
        let span = self.storage.span(self.offset * size, held * size)?;
        let lies = |at: usize, len: usize| {
            let bytes = span.get(at * size..(at + len) * size);
            bytes.ok_or_else(|| std::io::Error::other("a view leaves its storage"))
        };
        let mut index = vec![0; self.shape.len()];
        let mut at = 0;
        let mut buffer = Vec::new();
        for _ in 0..elements {
            let element = lies(at, 1)?;
            if swapped {
                buffer.extend(element.iter().rev());
            } else {
                buffer.extend_from_slice(element);
            }
            if buffer.len() >= BUFFER {
                take(&buffer)?;
                buffer.clear();
            }
            // The next index, last dimension fastest.
            for ((digit, &size), &stride) in index.iter_mut().zip(&self.shape).zip(&self.strides).rev() {
                *digit += 1;
                at += stride;
                if *digit < size {
                    break;
                }
                at -= stride * size;
                *digit = 0;
            }
        }
        take(&buffer)
    }

    /// The elements in C order, little-endian.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = vec_with(self.byte_len())?;
        self.write_to(&mut bytes)?;
        Ok(bytes)
    }

    /// The elements in C order, rounded to f32. Integers are an error: no weight is one.
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        let bytes = self.floats()?.cast(DType::F32).to_bytes()?;
        let mut values = vec_with(self.elements())?;
        values.extend(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
        Ok(values)
    }

    /// The elements in C order, exactly. Integers are an error.
    pub fn to_f64(&self) -> Result<Vec<f64>, Error> {
        let bytes = self.floats()?.cast(DType::F64).to_bytes()?;
        let mut values = vec_with(self.elements())?;
        values.extend(bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)));
        Ok(values)
    }

    /// The elements of a tensor of 64-bit integers, in C order.
    pub fn to_i64(&self) -> Result<Vec<i64>, Error> {
        if self.dtype != DType::I64 {
            return Err(Error::Layout(format!("{} where 64-bit integers are expected", self.dtype.name())));
        }
        let bytes = self.to_bytes()?;
        Ok(bytes.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect())
    }

    fn floats(&self) -> Result<Self, Error> {
        if self.dtype.is_float() {
            Ok(self.clone())
        } else {
            Err(Error::Layout(format!("weights of type {}", self.dtype.name())))
        }
    }
}

fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    let mut step = 1_usize;
    for (stride, &size) in strides.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.saturating_mul(size.max(1));
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 6] = [0, 1, 2, 3, 4, 5];

    fn view(shape: &[usize], strides: &[usize], offset: usize) -> Result<Vec<u8>, String> {
        let tensor = Tensor::new(DType::U8, shape.to_vec(), strides.to_vec(), offset, Storage::plain(&BYTES))?;
        Ok(tensor.to_bytes().unwrap())
    }

    #[test]
    fn views_are_read_in_c_order() {
        assert_eq!(view(&[2, 3], &[3, 1], 0).unwrap(), BYTES);
        assert_eq!(view(&[3, 2], &[1, 3], 0).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(view(&[2, 2], &[2, 2], 1).unwrap(), [1, 3, 3, 5]);
        assert_eq!(view(&[2, 2], &[0, 4], 1).unwrap(), [1, 5, 1, 5]);
    }

    #[test]
    fn dimensions_change_places() {
        let matrix = Tensor::contiguous(DType::U8, vec![2, 3], Storage::plain(&BYTES)).unwrap();
        let transposed = matrix.permute(&[1, 0]).unwrap();
        assert_eq!((transposed.shape(), transposed.to_bytes().unwrap()), (&[3, 2][..], vec![0, 3, 1, 4, 2, 5]));
        assert!(matrix.permute(&[0, 0]).is_err() && matrix.permute(&[0]).is_err() && matrix.permute(&[0, 2]).is_err());
    }

    #[test]
    fn views_that_leave_their_storage_are_refused() {
        assert!(view(&[7], &[1], 0).is_err());
        assert!(view(&[2, 3], &[3, 1], 1).is_err());
        assert!(view(&[usize::MAX, 2], &[0, 0], 0).is_err());
        assert!(view(&[2], &[usize::MAX], 1).is_err());
        assert!(view(&[2], &[1, 1], 0).is_err());
        assert!(view(&[1; 33], &[1; 33], 0).is_err());
        assert!(view(&[1 << 30, 1 << 10], &[0, 0], 0).unwrap_err().contains("repeats a storage"));
        assert_eq!(view(&[0, 9], &[1, 1], 99).unwrap(), [0_u8; 0]);
    }
}
