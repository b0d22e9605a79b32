//! Torch7's object files, as plain data (torch7 814ea4a, File.lua): networks, checkpoints, data sets, options.
//!
//! A file is one object after another, without magic or lengths. Tables, classes and functions carry an index; the second
//! time an index comes, it stands for the object of the first. Functions are kept as bytes and never run.

mod network;
mod object;
mod paths;
mod primitive;
mod print;
mod resume;
mod units;

use crate::alloc::Budget;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::source::Release;
use crate::tensor::Tensor;
use primitive::Encoding;

pub(crate) use network::{Part, find};
pub(crate) use paths::Found;
pub use resume::{Latest, OptimState};

pub(crate) const FORMAT: &str = "torch7";

/// A value; what has an identity lies in [`File::items`] under its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Lua's nil.
    Nil,
    /// Lua has one type of number.
    Number(f64),
    /// true or false.
    Boolean(bool),
    /// Any bytes.
    Text(&'a [u8]),
    /// The number of an [`Item`].
    Item(usize),
}

/// A value with an identity, shared by all that refer to it.
#[derive(Debug)]
pub enum Item<'a> {
    /// Referred to, and not in the file. Never seen in a file that was read to its end.
    Pending,
    /// Keys and values, in the order of the file, which is Lua's hash order.
    Table(Vec<(Value<'a>, Value<'a>)>),
    /// An object of a class.
    Object {
        /// Such as `nn.Sequential`.
        class: &'a [u8],
        /// The class's version; 0 in files from before versions were written.
        version: f64,
        /// A table.
        fields: Value<'a>,
    },
    /// A bare storage, as a vector; `torch.LongStorage` is how Torch keeps a list of sizes.
    Storage(Tensor<'a>),
    /// A tensor.
    Tensor {
        /// `None`: without dimensions, which is empty in Torch.
        tensor: Option<Tensor<'a>>,
        /// The storage, or nil. Tensors of one storage share memory.
        storage: Value<'a>,
    },
    /// A function, never run.
    Function {
        /// The interpreter's byte code.
        code: &'a [u8],
        /// What it captured: a table.
        upvalues: Value<'a>,
    },
}

/// A parsed file.
#[derive(Debug)]
pub struct File<'a> {
    items: Vec<Item<'a>>,
    /// Where each item is defined.
    offsets: Vec<usize>,
    roots: Vec<Value<'a>>,
}

/// Whether the bytes begin as a `.t7`: a tag from 0 to 8, as a 32-bit integer or as text.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    !Encoding::candidates(bytes).is_empty()
}

/// Parses every object of a file. Byte order, width of `long` and text or binary are found by trying.
pub fn read(bytes: &[u8]) -> Result<File<'_>, Error> {
    read_within(bytes, &mut Budget::new(bytes.len()), Release::default())
}

/// The same within what is left of a budget, giving back the memory of what was read.
pub(crate) fn read_within<'a>(bytes: &'a [u8], budget: &mut Budget, release: Release) -> Result<File<'a>, Error> {
    let mut furthest = Cursor::new(bytes, FORMAT).error("it begins with no tag from 0 to 8");
    for encoding in Encoding::candidates(bytes) {
        let mut attempt = budget.clone();
        match object::read(bytes, encoding, &mut attempt, release) {
            Ok(file) => {
                *budget = attempt;
                return Ok(file);
            }
            Err(error) if error.offset() > furthest.offset() => furthest = error,
            Err(_) => {}
        }
    }
    Err(furthest)
}

impl<'a> File<'a> {
    /// The objects of the file; `torch.save` writes one.
    pub fn roots(&self) -> &[Value<'a>] {
        &self.roots
    }

    /// Everything with an identity, by its number.
    pub fn items(&self) -> &[Item<'a>] {
        &self.items
    }

    /// What a value refers to.
    pub fn item(&self, value: Value) -> Option<&Item<'a>> {
        match value {
            Value::Item(number) => self.items.get(number),
            _ => None,
        }
    }

    /// Where in the file an item is defined.
    pub(crate) fn offset(&self, item: usize) -> usize {
        self.offsets.get(item).copied().unwrap_or_default()
    }

    /// A field of an object, or the value of a text key of a table.
    pub fn field(&self, value: Value, name: &str) -> Option<Value<'a>> {
        let pairs = self.pairs(value)?;
        pairs.iter().find(|(key, _)| *key == Value::Text(name.as_bytes())).map(|(_, value)| *value)
    }

    /// The pairs of a table or of an object's fields.
    pub fn pairs(&self, value: Value) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.item(value)? {
            Item::Table(pairs) => Some(pairs),
            Item::Object { fields, .. } => match self.item(*fields)? {
                Item::Table(pairs) => Some(pairs),
                _ => None,
            },
            _ => None,
        }
    }

    /// The values of the keys 1, 2, 3 … of a table, in order.
    pub fn array(&self, value: Value) -> Vec<Value<'a>> {
        let pairs = self.pairs(value).unwrap_or_default().iter();
        let numbered = pairs.filter_map(|(key, value)| match key {
            Value::Number(number) => Some((*number, *value)),
            _ => None,
        });
        let mut numbered: Vec<_> = numbered.collect();
        numbered.sort_by(|a, b| a.0.total_cmp(&b.0));
        numbered.into_iter().map(|(_, value)| value).collect()
    }

    /// The class of an object, as `nn.Sequential`.
    pub fn class(&self, value: Value) -> Option<&'a str> {
        match self.item(value)? {
            Item::Object { class, .. } => std::str::from_utf8(class).ok(),
            _ => None,
        }
    }

    /// The tensor or bare storage that a value refers to, unless it is empty.
    pub fn tensor(&self, value: Value) -> Option<&Tensor<'a>> {
        match self.item(value)? {
            Item::Tensor { tensor, .. } => tensor.as_ref(),
            Item::Storage(vector) => Some(vector),
            _ => None,
        }
    }

    /// A field that is a number.
    pub fn number(&self, value: Value, name: &str) -> Option<f64> {
        match self.field(value, name)? {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// A field that is true or false.
    pub fn boolean(&self, value: Value, name: &str) -> Option<bool> {
        match self.field(value, name)? {
            Value::Boolean(boolean) => Some(boolean),
            _ => None,
        }
    }

    /// A field that is text in UTF-8.
    pub fn text(&self, value: Value, name: &str) -> Option<&'a str> {
        match self.field(value, name)? {
            Value::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }
}
