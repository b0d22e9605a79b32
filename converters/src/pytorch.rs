//! `torch.save`: since 1.6 a zip with `data.pkl` and one entry a storage, before that a stream of pickles and storages.

use std::collections::{BTreeMap, HashMap};

use crate::checkpoint::Node as Shown;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::pickle::{self, Node, Pickle, Value};
use crate::tensor::{DType, Tensor};
use crate::zip;

/// 0x1950a86a20f9469cfc6c as a pickled LONG1 of ten bytes, the first thing in a legacy stream.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const LEGACY: &str = "pytorch-legacy";
const ZIP: &str = "pytorch-zip";
/// Nesting of dictionaries and lists.
const DEPTH: usize = 64;

/// A parsed file.
#[derive(Debug)]
pub(crate) struct File<'a> {
    format: &'static str,
    pickle: Pickle<'a>,
    /// The bytes of each storage by its key.
    storages: HashMap<&'a [u8], &'a [u8]>,
}

/// Whether the bytes begin as a legacy stream. A bare pickle does too; it has no storages and is told apart later.
pub(crate) fn looks_like_legacy(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

/// Reads a zip: `ROOT/data.pkl` and `ROOT/data/KEY`.
pub(crate) fn read_zip(bytes: &[u8]) -> Result<File<'_>, Error> {
    let entries = zip::read(bytes)?;
    let refuse = |reason: &str| Error::Malformed { format: ZIP, offset: 0, reason: reason.to_owned() };
    let roots: Vec<&str> = entries.keys().filter_map(|name| name.strip_suffix("data.pkl")).collect();
    let root = match roots[..] {
        [root] => root,
        [] => return Err(refuse("there is no data.pkl in it; is it a checkpoint?")),
        _ => return Err(refuse("there are several data.pkl in it")),
    };
    let entry = |name: &str| entries.get(format!("{root}{name}").as_str()).copied();
    if entry("constants.pkl").is_some() {
        return Err(refuse("a TorchScript archive, which is not read yet"));
    }
    if entry("byteorder").is_some_and(|order| order.trim_ascii() == b"big") {
        return Err(refuse("its storages are big-endian, which is not read yet"));
    }
    let pickle = pickle::read(&mut Cursor::new(entry("data.pkl").unwrap_or_default(), ZIP))?;
    let prefix = format!("{root}data/");
    let storages = entries.iter().filter_map(|(name, data)| Some((name.strip_prefix(&prefix)?.as_bytes(), *data)));
    let storages = storages.collect();
    declared(&pickle).map_err(|reason| refuse(&reason))?;
    Ok(File { format: ZIP, pickle, storages })
}

/// Reads a legacy stream: magic, protocol, system, object, keys, then for each key its count and its elements.
pub(crate) fn read_legacy(bytes: &[u8]) -> Result<File<'_>, Error> {
    let mut cursor = Cursor::new(bytes, LEGACY);
    if pickle::read(&mut cursor)?.root != Value::Big(&MAGIC) {
        return Err(cursor.error_at(0, "a pickle that torch.save did not write: its magic number is missing"));
    }
    let at = cursor.at();
    if pickle::read(&mut cursor)?.root != Value::Int(1001) {
        return Err(cursor.error_at(at, "a stream of another protocol than 1001"));
    }
    let at = cursor.at();
    let system = pickle::read(&mut cursor)?;
    let little = system
        .dict(system.root)
        .and_then(|pairs| pairs.iter().find(|(key, _)| *key == Value::Text(b"little_endian")).map(|(_, value)| *value));
    if little != Some(Value::Bool(true)) {
        return Err(cursor.error_at(at, "its storages are not little-endian"));
    }
    let object = pickle::read(&mut cursor)?;
    let at = cursor.at();
    let keys = pickle::read(&mut cursor)?;
    let keys = keys.sequence(keys.root).ok_or_else(|| cursor.error_at(at, "the list of storages is none"))?.to_vec();
    let declared = declared(&object).map_err(|reason| cursor.error_at(at, reason))?;
    let mut storages = HashMap::new();
    for key in keys {
        let Value::Text(key) = key else { return Err(cursor.error_at(at, "a storage's key is no text")) };
        let Some(&(dtype, elements)) = declared.get(key) else {
            return Err(
                cursor.error_at(at, format!("storage {:?} belongs to no tensor", key.escape_ascii().to_string()))
            );
        };
        let here = cursor.at();
        let count = cursor.i64()?;
        if count != elements {
            return Err(cursor.error_at(here, format!("a storage of {count} elements was announced with {elements}")));
        }
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(dtype.size()));
        let length = length.ok_or_else(|| cursor.error_at(here, format!("a storage of {count} elements")))?;
        if storages.insert(key, cursor.take(length)?).is_some() {
            return Err(cursor.error_at(here, "a storage comes twice"));
        }
    }
    if cursor.remaining() > 0 {
        return Err(cursor.error(format!("{} bytes follow the last storage", cursor.remaining())));
    }
    Ok(File { format: LEGACY, pickle: object, storages })
}

/// Type and count of each storage that the object names; one key has one of each.
fn declared<'a>(object: &Pickle<'a>) -> Result<HashMap<&'a [u8], (DType, i64)>, String> {
    let mut declared = HashMap::new();
    for number in 0.. {
        match object.node(Value::Node(number)) {
            Some(&Node::Storage { dtype, key, elements }) => {
                if *declared.entry(key).or_insert((dtype, elements)) != (dtype, elements) {
                    return Err(format!(
                        "storage {:?} is named with two types or sizes",
                        key.escape_ascii().to_string()
                    ));
                }
            }
            Some(_) => {}
            None => break,
        }
    }
    Ok(declared)
}

impl<'a> File<'a> {
    /// Every tensor by its path through dictionaries and lists.
    pub(crate) fn tensors(&self) -> Result<Vec<(String, Tensor<'a>)>, Error> {
        let mut found = BTreeMap::new();
        let mut order = Vec::new();
        self.collect(self.pickle.root, "", 0, &mut found, &mut order)?;
        Ok(order.into_iter().filter_map(|name| found.remove_entry(&name)).collect())
    }

    fn collect(
        &self,
        value: Value<'a>,
        path: &str,
        depth: usize,
        found: &mut BTreeMap<String, Tensor<'a>>,
        order: &mut Vec<String>,
    ) -> Result<(), Error> {
        let refuse = |reason: String| Error::Tensor { format: self.format, tensor: path.to_owned(), reason };
        if depth > DEPTH {
            return Err(refuse(format!("nested more than {DEPTH} deep, or in itself")));
        }
        let name = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match self.pickle.node(value) {
            Some(Node::Tensor { .. }) => {
                let tensor = self.tensor(value).map_err(refuse)?;
                let path = if path.is_empty() { "tensor" } else { path };
                if found.insert(path.to_owned(), tensor).is_some() {
                    return Err(Error::Tensor {
                        format: self.format,
                        tensor: path.into(),
                        reason: "it comes twice".into(),
                    });
                }
                order.push(path.to_owned());
            }
            Some(Node::Dict(pairs)) => {
                for (key, inner) in pairs {
                    self.collect(*inner, &name(&show(*key)), depth + 1, found, order)?;
                }
            }
            Some(Node::List(values) | Node::Tuple(values) | Node::Object(values)) => {
                for (index, inner) in values.iter().enumerate() {
                    self.collect(*inner, &name(&index.to_string()), depth + 1, found, order)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn tensor(&self, value: Value) -> Result<Tensor<'a>, String> {
        let Some(Node::Tensor { storage, offset, shape, strides, at }) = self.pickle.node(value) else {
            return Err("no tensor".into());
        };
        let Some(Node::Storage { dtype, key, elements }) = self.pickle.node(*storage) else {
            return Err(format!("pickle byte {at}: it is made of no storage"));
        };
        let bytes = self.storages.get(key).ok_or_else(|| {
            format!("pickle byte {at}: its storage {:?} is not in the file", key.escape_ascii().to_string())
        })?;
        let announced = usize::try_from(*elements).ok().and_then(|count| count.checked_mul(dtype.size()));
        if announced != Some(bytes.len()) {
            return Err(format!(
                "pickle byte {at}: its storage has {} bytes where {elements} elements of {} are announced",
                bytes.len(),
                dtype.name()
            ));
        }
        let sizes = |values: &[i64]| values.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<Vec<_>>>();
        let (Some(shape), Some(strides), Ok(offset)) = (sizes(shape), sizes(strides), usize::try_from(*offset)) else {
            return Err(format!("pickle byte {at}: a size, stride or offset is negative"));
        };
        Tensor::new(*dtype, shape, strides, offset, bytes).map_err(|reason| format!("pickle byte {at}: {reason}"))
    }

    /// Dictionaries and lists as a tree.
    pub(crate) fn tree(&self) -> Vec<Shown> {
        vec![self.shown(String::new(), self.pickle.root, 0)]
    }

    fn shown(&self, name: String, value: Value<'a>, depth: usize) -> Shown {
        let all = |items: Vec<(String, Value<'a>)>| {
            let items = items.into_iter().filter(|_| depth < DEPTH);
            items.map(|(name, value)| self.shown(name, value, depth + 1)).collect()
        };
        let numbered = |values: &[Value<'a>]| values.iter().enumerate().map(|(n, v)| (n.to_string(), *v)).collect();
        let (text, children) = match self.pickle.node(value) {
            None => (show(value), Vec::new()),
            Some(Node::Tensor { .. }) => match self.tensor(value) {
                Ok(tensor) => (tensor.describe(), Vec::new()),
                Err(reason) => (reason, Vec::new()),
            },
            Some(Node::Dict(pairs)) => (
                format!("dict of {}", pairs.len()),
                all(pairs.iter().map(|(key, value)| (show(*key), *value)).collect()),
            ),
            Some(Node::List(values)) => (format!("list of {}", values.len()), all(numbered(values))),
            Some(Node::Tuple(values)) => (format!("tuple of {}", values.len()), all(numbered(values))),
            Some(Node::Object(values)) => ("object".into(), all(numbered(values))),
            Some(Node::Global(meaning)) => (format!("{meaning:?}"), Vec::new()),
            Some(Node::Storage { dtype, elements, .. }) => {
                (format!("storage of {elements} {}", dtype.name()), Vec::new())
            }
        };
        Shown { name, text, children }
    }
}

fn show(value: Value) -> String {
    match value {
        Value::None => "None".into(),
        Value::Bool(boolean) => boolean.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Big(bytes) => format!("integer of {} bytes", bytes.len()),
        Value::Float(number) => number.to_string(),
        Value::Text(text) | Value::Bytes(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Node(_) => "…".into(),
    }
}
