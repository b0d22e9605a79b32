//! `torch.save` of torch 0.1: a tar of `storages`, `tensors` and `pickle`, which refer to each other by number.

use std::collections::HashMap;

use super::File;
use crate::alloc::Budget;
use crate::checkpoint::Format;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::pickle::{self, Global, Node, Pickle, Value};
use crate::storage::Storage;
use crate::tensor::{DType, Tensor};

const FORMAT: &str = "pytorch-tar";
const BLOCK: usize = 512;

/// Whether the bytes are a tar (POSIX.1-1988): its mark lies at 257 of the first header.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

/// Reads the archive.
pub(crate) fn read<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<(Format, File<'a>), Error> {
    let members = members(bytes)?;
    let member = |name: &str| {
        let is_it = |member: &&Member| member.name.strip_prefix(b"./").unwrap_or(member.name) == name.as_bytes();
        let missing = || Error::Malformed { format: FORMAT, offset: 0, reason: format!("there is no {name:?} in it") };
        let Member { from, to, .. } = members.iter().find(is_it).ok_or_else(missing)?;
        Ok::<_, Error>(Cursor::new(bytes.get(..*to).unwrap_or_default(), FORMAT).moved(*from))
    };
    let storages = storages(&mut member("storages")?, budget)?;
    let tensors = tensors(&mut member("tensors")?, &storages, budget)?;
    let object = pickle::read(&mut member("pickle")?, budget, false)?;
    let file = File::new(FORMAT, object, HashMap::new());
    Ok((Format::PytorchTar, File { tensors_by_number: tensors, ..file }))
}

/// A file of the archive.
struct Member<'a> {
    name: &'a [u8],
    from: usize,
    to: usize,
}

/// Every file.
fn members(bytes: &[u8]) -> Result<Vec<Member<'_>>, Error> {
    let mut cursor = Cursor::new(bytes, FORMAT);
    let mut members = Vec::new();
    while cursor.remaining() >= BLOCK {
        let at = cursor.at();
        let header = cursor.take(BLOCK)?;
        let name = header.get(..100).unwrap_or_default();
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        // Two empty blocks end the archive.
        if name.is_empty() {
            break;
        }
        let digits = header.get(124..136).unwrap_or_default();
        let digits = std::str::from_utf8(digits).unwrap_or_default().trim_matches(['\0', ' ']);
        let size = usize::from_str_radix(digits, 8);
        let size = size.map_err(|_| cursor.error_at(at, format!("a file whose size {digits:?} is no number")))?;
        let from = cursor.at();
        cursor.take(size)?;
        // Kinds other than a plain file, as the extended headers, have no part in it.
        if matches!(header.get(156), Some(b'0' | 0)) {
            members.push(Member { name, from, to: from + size });
        }
        let padding = size.next_multiple_of(BLOCK) - size;
        cursor.take(padding.min(cursor.remaining()))?;
    }
    Ok(members)
}

/// A count, then for each storage (number, device, class), its size and its elements; then the views of them.
fn storages<'a>(cursor: &mut Cursor<'a>, budget: &mut Budget) -> Result<HashMap<i64, (DType, Storage<'a>)>, Error> {
    let mut storages = HashMap::new();
    for _ in 0..count(cursor, budget)? {
        let at = cursor.at();
        let described = pickle::read(cursor, budget, false)?;
        let class = |value: Value| match described.node(value) {
            Some(&Node::Global(Global::Storage(dtype))) => Some(dtype),
            _ => None,
        };
        let Some(&[key, _, kind]) = described.sequence(described.root) else {
            return Err(cursor.error_at(at, "a storage is not described by number, device and class"));
        };
        let (Some(key), Some(dtype)) = (number(key), class(kind)) else {
            return Err(cursor.error_at(at, "a storage of unknown number or type"));
        };
        let here = cursor.at();
        let elements = cursor.i64()?;
        let len = usize::try_from(elements).ok().and_then(|elements| elements.checked_mul(dtype.size()));
        let len = len.ok_or_else(|| cursor.error_at(here, format!("a storage of {elements} elements")))?;
        budget.spend(512).map_err(|reason| cursor.error_at(at, reason))?;
        storages.insert(key, (dtype, Storage::plain(cursor.take(len)?)));
    }
    let at = cursor.at();
    let views = pickle::read(cursor, budget, false)?;
    for view in views.sequence(views.root).unwrap_or_default() {
        let numbers = views.sequence(*view).map(|values| values.iter().map(|value| number(*value)).collect::<Vec<_>>());
        let Some([Some(target), Some(root), Some(offset), Some(elements)]) = numbers.as_deref() else {
            return Err(cursor.error_at(at, "a view of a storage of another form"));
        };
        let part = storages.get(root).and_then(|(dtype, storage)| {
            let bytes = |elements: &i64| usize::try_from(*elements).ok()?.checked_mul(dtype.size());
            Some((*dtype, storage.part(bytes(offset)?, bytes(elements)?)?))
        });
        let part = part.ok_or_else(|| cursor.error_at(at, "a view that leaves its storage"))?;
        budget.spend(512).map_err(|reason| cursor.error_at(at, reason))?;
        storages.insert(*target, part);
    }
    Ok(storages)
}

/// A count, then for each tensor (number, storage, class), its dimensions in eight bytes, sizes, strides and offset.
fn tensors<'a>(
    cursor: &mut Cursor<'a>,
    storages: &HashMap<i64, (DType, Storage<'a>)>,
    budget: &mut Budget,
) -> Result<HashMap<i64, Tensor<'a>>, Error> {
    let mut tensors = HashMap::new();
    for _ in 0..count(cursor, budget)? {
        let at = cursor.at();
        let described = pickle::read(cursor, budget, false)?;
        let Some(&[key, storage, _]) = described.sequence(described.root) else {
            return Err(cursor.error_at(at, "a tensor is not described by number, storage and class"));
        };
        let storage = number(storage).and_then(|storage| storages.get(&storage));
        let (Some(key), Some((dtype, storage))) = (number(key), storage) else {
            return Err(cursor.error_at(at, "a tensor of unknown number or storage"));
        };
        let dimensions = cursor.i32()?;
        cursor.take(4)?;
        let Some(dimensions) = usize::try_from(dimensions).ok().filter(|count| *count <= Tensor::MOST_DIMENSIONS)
        else {
            return Err(cursor.error_at(at, format!("a tensor of {dimensions} dimensions")));
        };
        let mut size = || {
            let value = cursor.i64()?;
            usize::try_from(value).map_err(|_| cursor.error_at(at, format!("a tensor with size or stride {value}")))
        };
        let shape = (0..dimensions).map(|_| size()).collect::<Result<Vec<_>, _>>()?;
        let strides = (0..dimensions).map(|_| size()).collect::<Result<Vec<_>, _>>()?;
        let offset = size()?;
        budget.spend(512 + 16 * dimensions).map_err(|reason| cursor.error_at(at, reason))?;
        let tensor = Tensor::new(*dtype, shape, strides, offset, storage.clone());
        tensors.insert(key, tensor.map_err(|reason| cursor.error_at(at, reason))?);
    }
    Ok(tensors)
}

fn count(cursor: &mut Cursor, budget: &mut Budget) -> Result<i64, Error> {
    let at = cursor.at();
    let pickle: Pickle = pickle::read(cursor, budget, false)?;
    number(pickle.root).ok_or_else(|| cursor.error_at(at, "a count that is no number"))
}

fn number(value: Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        Value::Text(text) | Value::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}
