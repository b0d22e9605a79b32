//! `torch.save` before 1.6: a stream of pickles, then the storages. And a pickle alone, which has its storages within.

use std::collections::HashMap;

use super::{File, declared};
use crate::alloc::Budget;
use crate::checkpoint::Format;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::pickle::{self, Node, Value};
use crate::storage::{ByteOrder, Storage};
use crate::tensor::DType;

/// 0x1950a86a20f9469cfc6c as a pickled LONG1 of ten bytes, the first thing in a stream.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Whether the bytes begin as a pickle. Protocols 0 and 1 have no mark; they begin with what a checkpoint is, a dictionary
/// or an object, and end with a full stop.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..] | [b'(' | b'}' | b']' | b'c', .., b'.'])
}

/// Reads a stream, or a pickle alone.
pub(crate) fn read<'a>(bytes: &'a [u8], budget: &mut Budget, within: bool) -> Result<(Format, File<'a>), Error> {
    let mut cursor = Cursor::new(bytes, Format::PytorchLegacy.name());
    let first = pickle::read(&mut cursor, budget, within)?;
    if first.root == Value::Big(&MAGIC) {
        let file = stream(cursor, budget, within)?;
        return Ok((Format::PytorchLegacy, file));
    }
    if cursor.remaining() > 0 {
        return Err(
            cursor.error("a pickle ends here and more follows; a stream of torch.save begins with its magic number")
        );
    }
    declared(&first).map_err(|reason| cursor.error_at(0, reason))?;
    Ok((Format::Pickle, File::new(Format::Pickle.name(), first, HashMap::new())))
}

/// A storage that was saved by itself, as pickles hold it.
pub(crate) fn storage_in<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<(DType, Storage<'a>), Error> {
    let (_, file) = read(bytes, budget, true)?;
    let refuse = |reason: &str| Error::Malformed { format: "pickle", offset: 0, reason: reason.to_owned() };
    match file.pickle.node(file.pickle.root) {
        Some(Node::Storage { dtype: Some(dtype), key, .. }) => match file.storages.get(key) {
            Some(storage) => Ok((*dtype, storage.clone())),
            None => Err(refuse("a storage within it is not there")),
        },
        _ => Err(refuse("what should be a storage within it is none")),
    }
}

/// After the magic number: protocol, system, object, keys, then for each key its count and its elements.
fn stream<'a>(mut cursor: Cursor<'a>, budget: &mut Budget, within: bool) -> Result<File<'a>, Error> {
    let at = cursor.at();
    if pickle::read(&mut cursor, budget, within)?.root != Value::Int(1001) {
        return Err(cursor.error_at(at, "a stream of another protocol than 1001"));
    }
    let at = cursor.at();
    let system = pickle::read(&mut cursor, budget, within)?;
    let order = match system.get(system.root, "little_endian") {
        Some(Value::Bool(true)) => ByteOrder::Little,
        Some(Value::Bool(false)) => ByteOrder::Big,
        _ => return Err(cursor.error_at(at, "it does not say the byte order of its storages")),
    };
    let object = pickle::read(&mut cursor, budget, within)?;
    let at = cursor.at();
    let keys = pickle::read(&mut cursor, budget, within)?;
    let keys = keys.sequence(keys.root).ok_or_else(|| cursor.error_at(at, "the list of storages is none"))?.to_vec();
    let declared = declared(&object).map_err(|reason| cursor.error_at(at, reason))?;
    let mut storages = HashMap::new();
    for key in keys {
        let Value::Text(key) = key else { return Err(cursor.error_at(at, "a storage's key is no text")) };
        let Some(&(dtype, elements)) = declared.get(key) else {
            let kind = object.nodes().iter().find_map(|node| match node {
                Node::Unsupported(kind) => Some(kind),
                _ => None,
            });
            if let Some(kind) = kind {
                return Err(cursor.error_at(at, format!("it holds {kind}, which is not supported")));
            }
            let key = key.get(..64).unwrap_or(key).escape_ascii();
            return Err(cursor.error_at(at, format!("storage \"{key}\" belongs to no tensor")));
        };
        let here = cursor.at();
        let count: [u8; 8] = cursor.array()?;
        let count = match order {
            ByteOrder::Little => i64::from_le_bytes(count),
            ByteOrder::Big => i64::from_be_bytes(count),
        };
        if count != elements {
            return Err(cursor.error_at(here, format!("a storage of {count} elements was announced with {elements}")));
        }
        let size = dtype.map_or(1, DType::size);
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
        let length = length.ok_or_else(|| cursor.error_at(here, format!("a storage of {count} elements")))?;
        if storages.insert(key, Storage::plain(cursor.take(length)?).with_order(order)).is_some() {
            return Err(cursor.error_at(here, "a storage comes twice"));
        }
    }
    if cursor.remaining() > 0 {
        return Err(cursor.error(format!("{} bytes follow the last storage", cursor.remaining())));
    }
    Ok(File::new(Format::PytorchLegacy.name(), object, storages))
}
