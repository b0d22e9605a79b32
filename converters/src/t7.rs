//! Torch7's object files: binary, little-endian, 64-bit longs (torch7 814ea4a, File.lua).
//!
//! A file is one object after another, without magic or lengths. Tables, classes and functions carry an index; the second
//! time an index comes, it stands for the object of the first. Functions are kept as bytes and never run.

use std::collections::HashMap;

use crate::checkpoint::Node;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::tensor::{DType, Tensor};

const FORMAT: &str = "torch7";
/// Nesting of objects; a DenseNet has about 20.
const DEPTH: usize = 128;

/// A value; what has an identity is kept in [`File::items`] under its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Nil,
    Number(f64),
    Boolean(bool),
    Text(&'a [u8]),
    Item(usize),
}

/// A value with an identity, shared by all that refer to it.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    /// Being read: a cycle may refer to it before it is complete.
    Pending,
    Table(Vec<(Value<'a>, Value<'a>)>),
    /// A class whose payload is a table of fields.
    Object {
        class: &'a [u8],
        fields: Value<'a>,
    },
    Storage {
        dtype: DType,
        bytes: &'a [u8],
    },
    /// `None`: empty, without a storage.
    Tensor(Option<Tensor<'a>>),
    Function,
}

/// A parsed file.
#[derive(Debug)]
pub(crate) struct File<'a> {
    items: Vec<Item<'a>>,
    /// The objects of the file; `torch.save` writes one.
    pub(crate) roots: Vec<Value<'a>>,
}

/// Whether the bytes begin as a little-endian binary file: a tag from 0 to 8 as a 32-bit integer.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    matches!(bytes, [0..=8, 0, 0, 0, ..])
}

/// Parses every object of the file.
pub(crate) fn read(bytes: &[u8]) -> Result<File<'_>, Error> {
    let mut reader = Reader {
        cursor: Cursor::new(bytes, FORMAT),
        memo: HashMap::new(),
        file: File { items: Vec::new(), roots: Vec::new() },
    };
    loop {
        let root = reader.value(0)?;
        reader.file.roots.push(root);
        if reader.cursor.remaining() == 0 {
            return Ok(reader.file);
        }
    }
}

impl<'a> File<'a> {
    pub(crate) fn item(&self, value: Value) -> Option<&Item<'a>> {
        match value {
            Value::Item(number) => self.items.get(number),
            _ => None,
        }
    }

    /// A field of an object, or a text key of a table.
    pub(crate) fn field(&self, value: Value, name: &str) -> Option<Value<'a>> {
        let pairs = self.fields(value)?;
        pairs.iter().find(|(key, _)| *key == Value::Text(name.as_bytes())).map(|(_, value)| *value)
    }

    /// The pairs of a table or of an object's fields.
    pub(crate) fn fields(&self, value: Value) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.item(value)? {
            Item::Table(pairs) => Some(pairs),
            Item::Object { fields, .. } => match self.item(*fields)? {
                Item::Table(pairs) => Some(pairs),
                _ => None,
            },
            _ => None,
        }
    }

    /// The class of an object, as `nn.Sequential`.
    pub(crate) fn class(&self, value: Value) -> Option<&'a str> {
        match self.item(value)? {
            Item::Object { class, .. } => std::str::from_utf8(class).ok(),
            _ => None,
        }
    }

    pub(crate) fn tensor(&self, value: Value) -> Option<&Tensor<'a>> {
        match self.item(value)? {
            Item::Tensor(tensor) => tensor.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn number(&self, value: Value, name: &str) -> Option<f64> {
        match self.field(value, name)? {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The values of a table with keys 1, 2, 3 …, in order.
    pub(crate) fn array(&self, value: Value) -> Vec<Value<'a>> {
        let mut numbered: Vec<_> = self
            .fields(value)
            .unwrap_or_default()
            .iter()
            .filter_map(|(key, value)| match key {
                Value::Number(number) => Some((*number, *value)),
                _ => None,
            })
            .collect();
        numbered.sort_by(|a, b| a.0.total_cmp(&b.0));
        numbered.into_iter().map(|(_, value)| value).collect()
    }

    /// Every tensor with its path: module numbers and field names, as `2.1.weight`. An object that was met is not
    /// entered again, so the result is no longer than the file.
    pub(crate) fn tensors(&self) -> Vec<(String, &Tensor<'a>)> {
        let mut found = Vec::new();
        let mut seen = vec![false; self.items.len()];
        for (number, root) in (1..).zip(&self.roots) {
            let path = if self.roots.len() > 1 { format!("object{number}") } else { String::new() };
            self.collect(*root, &path, &mut seen, &mut found);
        }
        found
    }

    fn collect<'s>(
        &'s self,
        value: Value<'a>,
        path: &str,
        seen: &mut [bool],
        found: &mut Vec<(String, &'s Tensor<'a>)>,
    ) {
        if let Some(tensor) = self.tensor(value) {
            let path = if path.is_empty() { "tensor" } else { path };
            found.push((path.to_owned(), tensor));
            return;
        }
        let (Value::Item(number), Some(fields)) = (value, self.fields(value)) else { return };
        match seen.get_mut(number) {
            Some(seen) if !*seen => *seen = true,
            _ => return,
        }
        // Only an object's own list of modules gives way to their numbers.
        let is_module = self.class(value).is_some();
        // A DenseConnectLayerCustom lists the same tensors once more, under copies of net1 and net2.
        let is_twice = self.field(value, "net1").is_some();
        for (key, inner) in sorted(fields) {
            let name = show(*key);
            if is_twice && name == "modules" {
                continue;
            }
            let path = match (is_module && name == "modules", path.is_empty()) {
                (true, _) => path.to_owned(),
                (false, true) => name,
                (false, false) => format!("{path}.{name}"),
            };
            self.collect(*inner, &path, seen, found);
        }
    }

    /// The tree of modules with their plain fields, as `inspect` shows it.
    pub(crate) fn tree(&self) -> Vec<Node> {
        let mut seen = vec![false; self.items.len()];
        self.roots.iter().map(|root| self.node(String::new(), *root, &mut seen)).collect()
    }

    fn node(&self, name: String, value: Value<'a>, seen: &mut [bool]) -> Node {
        let leaf = |text: String| Node { name: name.clone(), text, children: Vec::new() };
        let Value::Item(number) = value else { return leaf(show(value)) };
        let label = match self.item(value) {
            Some(Item::Object { class, .. }) => String::from_utf8_lossy(class).into_owned(),
            Some(Item::Table(pairs)) => format!("table of {}", pairs.len()),
            Some(Item::Tensor(Some(tensor))) => {
                return leaf(tensor.describe());
            }
            Some(Item::Tensor(None)) => return leaf("empty tensor".into()),
            Some(Item::Storage { dtype, bytes }) => {
                return leaf(format!("storage of {} {}", bytes.len() / dtype.size(), dtype.name()));
            }
            Some(Item::Function) => return leaf("function (never run)".into()),
            Some(Item::Pending) | None => return leaf("?".into()),
        };
        match seen.get_mut(number) {
            Some(seen) if !*seen => *seen = true,
            _ => return leaf(format!("{label} (shown above)")),
        }
        let pairs = sorted(self.fields(value).unwrap_or_default());
        let children = pairs.into_iter().map(|(key, inner)| self.node(show(*key), *inner, seen)).collect();
        Node { name, text: label, children }
    }
}

/// Pairs in a fixed order: the file's is Lua's hash order. Numbers first, then the rest by name.
fn sorted<'s, 'a>(pairs: &'s [(Value<'a>, Value<'a>)]) -> Vec<&'s (Value<'a>, Value<'a>)> {
    let mut pairs: Vec<_> = pairs.iter().collect();
    pairs.sort_by(|(a, _), (b, _)| match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.total_cmp(b),
        (Value::Number(_), _) => std::cmp::Ordering::Less,
        (_, Value::Number(_)) => std::cmp::Ordering::Greater,
        _ => show(*a).cmp(&show(*b)),
    });
    pairs
}

fn show(value: Value) -> String {
    match value {
        Value::Nil => "nil".into(),
        Value::Number(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Text(text) => text.escape_ascii().to_string(),
        Value::Item(number) => format!("#{number}"),
    }
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    /// From the file's index to ours.
    memo: HashMap<i32, usize>,
    file: File<'a>,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value<'a>, Error> {
        if depth > DEPTH {
            return Err(self.cursor.error(format!("objects are nested more than {DEPTH} deep")));
        }
        let at = self.cursor.at();
        match self.cursor.i32()? {
            0 => Ok(Value::Nil),
            1 => self.cursor.f64().map(Value::Number),
            2 => self.text().map(Value::Text),
            5 => Ok(Value::Boolean(self.cursor.i32()? == 1)),
            // The oldest functions have no index.
            6 => {
                let number = self.claim();
                self.function(number, depth)
            }
            tag @ (3 | 4 | 7 | 8) => {
                let index = self.cursor.i32()?;
                if index <= 0 {
                    return Err(self.cursor.error(format!("object index {index}; they count from 1")));
                }
                if let Some(&number) = self.memo.get(&index) {
                    return Ok(Value::Item(number));
                }
                // Entered before it is read: objects may contain themselves.
                let number = self.claim();
                self.memo.insert(index, number);
                match tag {
                    3 => self.table(number, depth),
                    4 => self.object(number, depth),
                    _ => self.function(number, depth),
                }
            }
            tag => Err(self.cursor.error_at(at, format!("type {tag} is none of Torch7's (0 to 8)"))),
        }
    }

    fn claim(&mut self) -> usize {
        self.file.items.push(Item::Pending);
        self.file.items.len() - 1
    }

    fn set(&mut self, number: usize, item: Item<'a>) -> Value<'a> {
        if let Some(place) = self.file.items.get_mut(number) {
            *place = item;
        }
        Value::Item(number)
    }

    /// A length that must not be negative.
    fn length(&mut self) -> Result<usize, Error> {
        let length = self.cursor.i32()?;
        usize::try_from(length).map_err(|_| self.cursor.error(format!("negative length {length}")))
    }

    /// Torch's `long`.
    fn long(&mut self) -> Result<usize, Error> {
        let long = self.cursor.i64()?;
        usize::try_from(long).map_err(|_| self.cursor.error(format!("negative size {long}")))
    }

    fn text(&mut self) -> Result<&'a [u8], Error> {
        let length = self.length()?;
        self.cursor.take(length)
    }

    fn table(&mut self, number: usize, depth: usize) -> Result<Value<'a>, Error> {
        let count = self.length()?;
        // Each pair takes eight bytes at least.
        if count > self.cursor.remaining() / 8 {
            return Err(self.cursor.error(format!("a table of {count} pairs does not fit the rest of the file")));
        }
        let mut pairs = Vec::new();
        for _ in 0..count {
            pairs.push((self.value(depth + 1)?, self.value(depth + 1)?));
        }
        Ok(self.set(number, Item::Table(pairs)))
    }

    fn function(&mut self, number: usize, depth: usize) -> Result<Value<'a>, Error> {
        self.text()?;
        // Upvalues may hold objects that are referred to later.
        self.value(depth + 1)?;
        Ok(self.set(number, Item::Function))
    }

    fn object(&mut self, number: usize, depth: usize) -> Result<Value<'a>, Error> {
        let at = self.cursor.at();
        let first = self.text()?;
        // Before versions were written, the class stood first.
        let version = std::str::from_utf8(first).ok().and_then(|text| text.strip_prefix("V ")?.parse::<f64>().ok());
        let class = if version.is_some() { self.text()? } else { first };
        let name = std::str::from_utf8(class).ok().filter(|name| !name.is_empty() && name.is_ascii());
        let Some(name) = name else {
            return Err(self.cursor.error_at(at, "a class name that is no text; longs may not be 64 bits wide"));
        };
        if let Some(dtype) = element_type(name, "Storage") {
            let count = self.long()?;
            let length = count.checked_mul(dtype.size());
            let length = length.ok_or_else(|| self.cursor.error(format!("a storage of {count} elements")))?;
            let bytes = self.cursor.take(length)?;
            return Ok(self.set(number, Item::Storage { dtype, bytes }));
        }
        if let Some(dtype) = element_type(name, "Tensor") {
            let tensor = self.tensor(dtype, depth)?;
            return Ok(self.set(number, Item::Tensor(tensor)));
        }
        if name == "nn.DataParallelTable" && version.is_some_and(|version| version >= 2.0) {
            // The ids of the GPUs come before the fields.
            self.value(depth + 1)?;
        }
        let fields_at = self.cursor.at();
        let fields = self.value(depth + 1)?;
        if !matches!(self.file.item(fields), Some(Item::Table(_) | Item::Pending)) {
            return Err(self.cursor.error_at(fields_at, format!("class {name} is not stored as a table of fields")));
        }
        Ok(self.set(number, Item::Object { class, fields }))
    }

    fn tensor(&mut self, dtype: DType, depth: usize) -> Result<Option<Tensor<'a>>, Error> {
        let at = self.cursor.at();
        let dimensions = self.length()?;
        if dimensions > self.cursor.remaining() / 16 {
            return Err(self.cursor.error(format!("a tensor of {dimensions} dimensions")));
        }
        let shape = (0..dimensions).map(|_| self.long()).collect::<Result<Vec<_>, _>>()?;
        let strides = (0..dimensions).map(|_| self.long()).collect::<Result<Vec<_>, _>>()?;
        let offset = self.long()?;
        let storage = self.value(depth + 1)?;
        // Torch's tensor without dimensions is empty, whatever storage it drags along.
        if dimensions == 0 {
            return Ok(None);
        }
        let bytes = match self.file.item(storage) {
            Some(Item::Storage { dtype: stored, bytes }) if *stored == dtype => bytes,
            _ if storage == Value::Nil => &[][..],
            _ => return Err(self.cursor.error_at(at, "a tensor whose storage is none of its type")),
        };
        let Some(offset) = offset.checked_sub(1) else {
            return Err(self.cursor.error_at(at, "a tensor's offset is 0; they count from 1"));
        };
        Tensor::new(dtype, shape, strides, offset, bytes).map(Some).map_err(|reason| self.cursor.error_at(at, reason))
    }
}

/// The element type of `torch.FloatTensor`, `torch.CudaHalfStorage` and the like.
fn element_type(class: &str, kind: &str) -> Option<DType> {
    let name = class.strip_prefix("torch.")?.strip_suffix(kind)?;
    let element = match name.strip_prefix("Cuda") {
        // A bare CudaTensor is float32.
        Some("") => "Float",
        Some(element) => element,
        None => name,
    };
    Some(match element {
        "Byte" => DType::U8,
        "Char" => DType::I8,
        "Short" => DType::I16,
        "Int" => DType::I32,
        "Long" => DType::I64,
        "Float" => DType::F32,
        "Double" => DType::F64,
        "Half" => DType::F16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/torch7/");

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{FIXTURES}{name}")).unwrap()
    }

    /// Plain values as expected.json writes them, tables by their text keys.
    fn scalar(file: &File, key: &str) -> String {
        show(file.field(file.roots[0], key).unwrap())
    }

    #[test]
    fn scalars_and_shared_tables_are_as_torch_read_them() {
        let bytes = fixture("format/tables.t7");
        let file = read(&bytes).unwrap();
        // A table that contains itself, and one that two keys share: identity is kept.
        let root = file.roots[0];
        let itself = file.fields(root).unwrap().iter().any(|(_, value)| *value == root);
        let cyclic = file
            .fields(root)
            .unwrap()
            .iter()
            .any(|(_, value)| file.fields(*value).is_some_and(|inner| inner.iter().any(|(_, deep)| deep == value)));
        assert!(itself || cyclic);
        let bytes = fixture("format/number.t7");
        assert_eq!(read(&bytes).unwrap().roots, [Value::Number(42.5)]);
        let bytes = fixture("format/nil.t7");
        assert_eq!(read(&bytes).unwrap().roots, [Value::Nil]);
        let bytes = fixture("format/two_objects.t7");
        assert_eq!(read(&bytes).unwrap().roots.len(), 2);
        let bytes = fixture("format/functions_legacy.t7");
        assert!(!read(&bytes).unwrap().roots.is_empty());
        let bytes = fixture("format/no_version.t7");
        assert!(!read(&bytes).unwrap().roots.is_empty());
    }

    #[test]
    fn a_checkpoint_s_options_are_fields() {
        let bytes = fixture("a_cifar_bc_mem2/latest.t7");
        let file = read(&bytes).unwrap();
        assert_eq!(scalar(&file, "epoch"), "1");
        assert_eq!(scalar(&file, "modelFile"), "model_1.t7");
    }

    #[test]
    fn nesting_and_claims_beyond_the_file_are_refused() {
        let nested: Vec<u8> = (1..2000_i32)
            .flat_map(|index| [3, index, 1].into_iter().flat_map(i32::to_le_bytes).chain(number_key()))
            .collect();
        assert!(read(&nested).unwrap_err().to_string().contains("nested more than 128 deep"));
        let table: Vec<u8> = [3, 1, i32::MAX].into_iter().flat_map(i32::to_le_bytes).collect();
        assert!(read(&table).unwrap_err().to_string().contains("does not fit the rest of the file"));
    }

    fn number_key() -> impl Iterator<Item = u8> {
        1_i32.to_le_bytes().into_iter().chain(1.0_f64.to_le_bytes())
    }

    #[test]
    fn every_truncation_of_a_network_is_an_error() {
        let bytes = fixture("v_tiny/model_1.t7");
        assert!(read(&bytes).is_ok());
        for end in (0..bytes.len()).step_by(97).chain(0..400) {
            assert!(read(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
