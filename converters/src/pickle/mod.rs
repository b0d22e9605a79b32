//! A machine for Python's pickles, protocols 0 to 5, that builds data and calls nothing.
//!
//! A pickle names the callables it wants. Those that a state dict needs have a meaning here; any other name ends the
//! reading with the name and its place, even where the result would not depend on it.

mod globals;
mod machine;

use crate::tensor::DType;
pub(crate) use globals::Global;
pub(crate) use machine::read;

/// A value; what has an identity lies in [`Pickle::nodes`] under its number.
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
    /// What a persistent id stands for: a storage of the file.
    Storage {
        dtype: DType,
        key: &'a [u8],
        elements: i64,
    },
    /// A view: storage, offset, sizes, strides.
    Tensor {
        storage: Value<'a>,
        offset: i64,
        shape: Vec<i64>,
        strides: Vec<i64>,
        at: usize,
    },
    /// An object of a harmless class, with what was put into it.
    Object(Vec<Value<'a>>),
}

/// What a pickle built.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    pub(crate) root: Value<'a>,
}

impl<'a> Pickle<'a> {
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

    pub(crate) fn sequence(&self, value: Value) -> Option<&[Value<'a>]> {
        match self.node(value)? {
            Node::List(values) | Node::Tuple(values) => Some(values),
            _ => None,
        }
    }
}
