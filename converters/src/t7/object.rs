//! Objects: a tag, and what the tag announces.

use std::collections::HashMap;

use super::primitive::{Encoding, Primitives};
use super::{File, Item, Value};
use crate::alloc::Budget;
use crate::error::Error;
use crate::source::Release;
use crate::storage::Storage;
use crate::tensor::{DType, Tensor};

/// Nesting of objects; a DenseNet has about 30.
const DEPTH: usize = 128;

/// Parses every object of a file in one encoding.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    encoding: Encoding,
    budget: &mut Budget,
    release: Release,
) -> Result<File<'a>, Error> {
    let mut reader = Reader {
        from: Primitives::new(bytes, encoding, release),
        memo: HashMap::new(),
        budget,
        file: File { items: Vec::new(), offsets: Vec::new(), roots: Vec::new() },
    };
    loop {
        let root = reader.value(0)?;
        reader.spend(2 * size_of::<Value>())?;
        reader.file.roots.push(root);
        if reader.from.cursor.remaining() == 0 {
            return Ok(reader.file);
        }
    }
}

struct Reader<'a, 'b> {
    from: Primitives<'a, 'b>,
    /// From the file's index to ours.
    memo: HashMap<i32, usize>,
    budget: &'b mut Budget,
    file: File<'a>,
}

impl<'a> Reader<'a, '_> {
    fn spend(&mut self, bytes: usize) -> Result<(), Error> {
        self.budget.spend(bytes).map_err(|reason| self.from.cursor.error(reason))
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        self.from.cursor.error(reason)
    }

    fn value(&mut self, depth: usize) -> Result<Value<'a>, Error> {
        if depth > DEPTH {
            return Err(self.error(format!("objects are nested more than {DEPTH} deep")));
        }
        let at = self.from.cursor.at();
        match self.from.int()? {
            0 => Ok(Value::Nil),
            1 => self.from.double().map(Value::Number),
            2 => self.from.text().map(Value::Text),
            5 => Ok(Value::Boolean(self.from.int()? == 1)),
            // The oldest functions have no index.
            6 => {
                let number = self.claim()?;
                self.function(number, depth)
            }
            tag @ (3 | 4 | 7 | 8) => {
                let index = self.from.int()?;
                if index <= 0 {
                    return Err(self.from.cursor.error_at(at, format!("object index {index}; they count from 1")));
                }
                if let Some(&number) = self.memo.get(&index) {
                    return Ok(Value::Item(number));
                }
                // Entered before it is read: objects may contain themselves.
                let number = self.claim()?;
                self.memo.insert(index, number);
                match tag {
                    3 => self.table(number, depth),
                    4 => self.object(number, depth),
                    _ => self.function(number, depth),
                }
            }
            tag => Err(self.from.cursor.error_at(at, format!("type {tag} is none of Torch7's (0 to 8)"))),
        }
    }

    /// The number of an item to come.
    fn claim(&mut self) -> Result<usize, Error> {
        self.spend(2 * size_of::<(Item, usize)>() + 3 * size_of::<(i32, usize)>())?;
        self.file.items.push(Item::Pending);
        self.file.offsets.push(self.from.cursor.at());
        Ok(self.file.items.len() - 1)
    }

    fn set(&mut self, number: usize, item: Item<'a>) -> Value<'a> {
        if let Some(place) = self.file.items.get_mut(number) {
            *place = item;
        }
        Value::Item(number)
    }

    fn table(&mut self, number: usize, depth: usize) -> Result<Value<'a>, Error> {
        let count = self.from.count()?;
        if count > self.from.room() / 2 {
            return Err(self.error(format!("a table of {count} pairs does not fit the rest of the file")));
        }
        let mut pairs = Vec::new();
        for _ in 0..count {
            self.spend(2 * size_of::<(Value, Value)>())?;
            pairs.push((self.value(depth + 1)?, self.value(depth + 1)?));
        }
        Ok(self.set(number, Item::Table(pairs)))
    }

    fn function(&mut self, number: usize, depth: usize) -> Result<Value<'a>, Error> {
        let code = self.from.text()?;
        // Upvalues may hold objects that are referred to later.
        let upvalues = self.value(depth + 1)?;
        Ok(self.set(number, Item::Function { code, upvalues }))
    }

    fn object(&mut self, number: usize, depth: usize) -> Result<Value<'a>, Error> {
        let at = self.from.cursor.at();
        let first = self.from.text()?;
        // Before versions were written, the class stood first.
        let version = std::str::from_utf8(first).ok().and_then(|text| text.strip_prefix("V ")?.parse::<f64>().ok());
        let class = if version.is_some() { self.from.text()? } else { first };
        let version = version.unwrap_or(0.0);
        let name = std::str::from_utf8(class).ok();
        let Some(name) = name.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()))
        else {
            return Err(self.from.cursor.error_at(at, "a class name that is no text"));
        };
        if let Some(dtype) = element_type(name, "Storage") {
            let vector = self.storage(dtype)?;
            return Ok(self.set(number, Item::Storage(vector)));
        }
        if let Some(dtype) = element_type(name, "Tensor") {
            let (tensor, storage) = self.tensor(dtype, depth)?;
            return Ok(self.set(number, Item::Tensor { tensor, storage }));
        }
        if name == "nn.DataParallelTable" && version >= 2.0 {
            // The ids of the GPUs come before the fields.
            self.value(depth + 1)?;
        }
        let fields_at = self.from.cursor.at();
        let fields = self.value(depth + 1)?;
        if !matches!(self.file.item(fields), Some(Item::Table(_) | Item::Pending)) {
            return Err(self
                .from
                .cursor
                .error_at(fields_at, format!("class {name} is not stored as a table of fields")));
        }
        Ok(self.set(number, Item::Object { class, version, fields }))
    }

    fn storage(&mut self, dtype: DType) -> Result<Tensor<'a>, Error> {
        let count = self.from.size()?;
        let storage = self.from.elements(dtype, count)?;
        self.spend(storage.growth())?;
        Tensor::contiguous(dtype, vec![count], storage).map_err(|reason| self.error(reason))
    }

    fn tensor(&mut self, dtype: DType, depth: usize) -> Result<(Option<Tensor<'a>>, Value<'a>), Error> {
        let at = self.from.cursor.at();
        let refuse = |this: &Self, reason: String| Err(this.from.cursor.error_at(at, reason));
        let dimensions = self.from.count()?;
        if dimensions > Tensor::MOST_DIMENSIONS {
            return refuse(self, format!("a tensor of {dimensions} dimensions"));
        }
        self.spend(16 * dimensions)?;
        let shape = (0..dimensions).map(|_| self.from.size()).collect::<Result<Vec<_>, _>>()?;
        let strides = (0..dimensions).map(|_| self.from.size()).collect::<Result<Vec<_>, _>>()?;
        let offset = self.from.size()?;
        let storage = self.value(depth + 1)?;
        let memory = match self.file.item(storage) {
            Some(Item::Storage(vector)) if vector.dtype() == dtype => vector.storage().clone(),
            _ if storage == Value::Nil => Storage::plain(&[]),
            _ => return refuse(self, "a tensor whose storage is none of its type".into()),
        };
        // Torch's tensor without dimensions is empty, whatever storage it drags along.
        if dimensions == 0 {
            return Ok((None, storage));
        }
        let Some(offset) = offset.checked_sub(1) else {
            return refuse(self, "a tensor's offset is 0; they count from 1".into());
        };
        match Tensor::new(dtype, shape, strides, offset, memory) {
            Ok(tensor) => Ok((Some(tensor), storage)),
            Err(reason) => refuse(self, reason),
        }
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
