//! A machine for Python's pickles, protocols 0 to 5, that builds data and calls nothing.
//!
//! A pickle names the callables it wants. Those that checkpoints need have a meaning here. Any other name is taken only
//! for the class of a network's module, made empty and then given its state; whatever else is done with it, the pickle is
//! refused with the name and its place, even where the result would not depend on it.

mod calls;
mod escapes;
mod globals;
mod machine;
mod names;

use std::sync::Arc;

use crate::storage::Storage;
use crate::tensor::DType;
pub(crate) use globals::Global;
pub(crate) use machine::read;

/// A value; what has an identity lies in the pickle's nodes under its number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, little-endian two's complement.
    Big(&'a [u8]),
    Float(f64),
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Node(usize),
}

/// A value with an identity.
#[derive(Debug)]
pub(crate) enum Node<'a> {
    List(Vec<Value<'a>>),
    Tuple(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Global(Global),
    /// Bytes that are not in the file as they are.
    Blob(Arc<[u8]>),
    /// A storage that lies elsewhere in the file.
    Storage {
        /// `None`: untyped; the tensor says.
        dtype: Option<DType>,
        key: &'a [u8],
        /// Elements, bytes where it is untyped.
        elements: i64,
        /// A part of the storage: first element and count.
        view: Option<(i64, i64)>,
    },
    /// A storage within the pickle.
    Memory {
        dtype: DType,
        storage: Storage<'a>,
    },
    /// A view: storage, offset, sizes, strides.
    Tensor(Box<View<'a>>),
    /// NumPy's element type.
    NumpyDType {
        /// Such as `f4`.
        name: &'a [u8],
        /// `<`, `>`, `|` or `=`.
        order: u8,
    },
    /// NumPy's array before its state is given.
    NumpyArray,
    /// What torch 0.1 refers to by number.
    Persistent(i64),
    /// A tensor of a kind that is refused.
    Unsupported(&'static str),
    /// An object with what was put into it.
    Object {
        /// Its number among the pickle's names, where it is no harmless class.
        class: Option<usize>,
        values: Vec<Value<'a>>,
        state: Option<Value<'a>>,
    },
}

/// A tensor as a pickle describes it, before it is checked.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    pub(crate) storage: Value<'a>,
    pub(crate) dtype: Option<DType>,
    pub(crate) offset: i64,
    pub(crate) shape: Vec<i64>,
    pub(crate) strides: Vec<i64>,
    /// Where in the pickle.
    pub(crate) at: usize,
}

/// A name that a pickle uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickleName {
    /// Module and name, as `collections.OrderedDict`.
    pub name: String,
    /// Where it first comes, in bytes.
    pub offset: usize,
    /// What is made of it.
    pub verdict: Verdict,
}

/// What is made of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is known, and harmless.
    Harmless,
    /// It is the class of a network's module, of which the parameters are taken.
    Module,
    /// It can do anything: the file is refused.
    Refused,
}

/// What a pickle built.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    pub(crate) root: Value<'a>,
    pub(crate) names: Vec<PickleName>,
}

impl<'a> Pickle<'a> {
    pub(crate) fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }

    pub(crate) fn node(&self, value: Value) -> Option<&Node<'a>> {
        match value {
            Value::Node(number) => self.nodes.get(number),
            _ => None,
        }
    }

    /// The pairs of a dictionary.
    pub(crate) fn dict(&self, value: Value) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.node(value)? {
            Node::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The value of a text key of a dictionary.
    pub(crate) fn get(&self, dict: Value, key: &str) -> Option<Value<'a>> {
        let pairs = self.dict(dict)?;
        pairs.iter().rev().find(|(found, _)| *found == Value::Text(key.as_bytes())).map(|(_, value)| *value)
    }

    pub(crate) fn sequence(&self, value: Value) -> Option<&[Value<'a>]> {
        match self.node(value)? {
            Node::List(values) | Node::Tuple(values) => Some(values),
            _ => None,
        }
    }
}
