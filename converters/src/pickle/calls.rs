//! What a pickle asks to be called or built, done as data: tensors, arrays, dictionaries, objects with their state.

use super::machine::{Machine, Trouble, trouble};
use super::{Global, Node, Value, View};
use crate::alloc::vec_with;
use crate::pytorch;
use crate::storage::{ByteOrder, Storage};
use crate::tensor::{DType, Tensor};

/// Arguments of a call.
const MOST_ARGUMENTS: usize = 64;

impl<'a> Machine<'a, '_> {
    /// The arguments of a call.
    fn arguments(&mut self, arguments: Value<'a>) -> Result<Vec<Value<'a>>, Trouble> {
        match self.node(arguments) {
            Some(Node::Tuple(values)) if values.len() <= MOST_ARGUMENTS => Ok(values.clone()),
            Some(Node::Tuple(values)) => trouble(format!("a call with {} arguments", values.len())),
            _ => trouble("arguments that are no tuple"),
        }
    }

    /// Empties a tuple whose class was taken: elsewhere a class is no value.
    fn consume(&mut self, tuple: Value<'a>) {
        if let Some(Node::Tuple(values)) = self.node_mut(tuple) {
            values.clear();
        }
    }

    /// `cls.__new__(cls, …)`, then to be given its state.
    pub(super) fn new_object(&mut self, class: Value<'a>, arguments: Value<'a>, at: usize) -> Result<(), Trouble> {
        match self.node(class) {
            Some(&Node::Global(Global::Foreign(number))) => {
                let empty = self.arguments(arguments)?.is_empty();
                if !empty {
                    self.called.insert(number);
                }
                self.make(Node::Object { class: empty.then_some(number), values: Vec::new(), state: None })
            }
            _ => self.call(class, arguments, at),
        }
    }

    pub(super) fn call(&mut self, callable: Value<'a>, arguments: Value<'a>, at: usize) -> Result<(), Trouble> {
        let Some(&Node::Global(meaning)) = self.node(callable) else {
            return trouble("it calls what is no name");
        };
        let tuple = arguments;
        let arguments = self.arguments(tuple)?;
        match (meaning, &arguments[..]) {
            (Global::RebuildTensor, &[storage, Value::Int(offset), shape, strides, ref rest @ ..]) => {
                // Bits of the newest form: the elements would have to be conjugated or negated.
                let bits = rest.get(2).and_then(|bits| match self.node(*bits) {
                    // There are two of them; a longer one is no such thing.
                    Some(Node::Dict(pairs)) => {
                        Some(pairs.len() > 8 || pairs.iter().any(|(_, value)| *value == Value::Bool(true)))
                    }
                    _ => None,
                });
                if bits == Some(true) {
                    return self.make(Node::Unsupported("a view that negates or conjugates"));
                }
                self.view(storage, None, offset, shape, strides, at)
            }
            (Global::RebuildTensorV3, &[storage, Value::Int(offset), shape, strides, _, _, dtype, ..]) => {
                match self.node(dtype) {
                    Some(&Node::Global(Global::DType(dtype))) => {
                        self.view(storage, Some(dtype), offset, shape, strides, at)
                    }
                    Some(&Node::Global(Global::Unsupported(kind))) => self.make(Node::Unsupported(kind)),
                    _ => trouble("a tensor of unknown type"),
                }
            }
            (Global::Wrapper, &[tensor, ..]) => self.push(tensor),
            (Global::OrderedDict, items) => {
                let pairs = self.items(items)?;
                self.budget.spend(pairs.len() * size_of::<(Value, Value)>())?;
                self.make(Node::Dict(pairs))
            }
            (Global::LoadFromBytes, _) if self.within => trouble("a storage within a storage"),
            (Global::LoadFromBytes, &[Value::Bytes(bytes)]) => {
                self.budget.spend(bytes.len() / 4)?;
                let (dtype, storage) = pytorch::storage_in(bytes, self.budget)?;
                self.make(Node::Memory { dtype, storage })
            }
            // Protocols before 3 have no bytes: they come as text, decoded.
            (Global::LoadFromBytes, &[blob @ Value::Node(_)]) => {
                let Some(Node::Blob(bytes)) = self.node(blob) else { return trouble("a storage that is no bytes") };
                let bytes = bytes.clone();
                self.budget.spend(bytes.len())?;
                let (dtype, storage) = pytorch::storage_in(&bytes, self.budget)?;
                let order = storage.order;
                let storage = Storage::owned(storage.span(0, storage.len())?.into_owned()).with_order(order);
                self.make(Node::Memory { dtype, storage })
            }
            (Global::NumpyReconstruct, _) => self.make(Node::NumpyArray),
            (Global::NumpyDType, &[Value::Text(name) | Value::Bytes(name), ..]) => {
                self.make(Node::NumpyDType { name, order: b'=' })
            }
            (Global::NumpyFromBuffer, &[data, dtype, shape, order]) => {
                let fortran = matches!(order, Value::Text(b"F"));
                let array = self.array(data, dtype, shape, fortran, at)?;
                self.make(array)
            }
            (Global::Encode, &[text, ..]) => {
                let blob = match self.node(text) {
                    Some(Node::Blob(text)) => text.clone(),
                    _ => [].into(),
                };
                let text = if let Value::Text(text) = text { text } else { &blob };
                self.budget.spend(text.len())?;
                let characters = std::str::from_utf8(text).unwrap_or_default().chars();
                let bytes = characters.map(|c| u8::try_from(u32::from(c))).collect::<Result<Vec<_>, _>>();
                match bytes {
                    Ok(bytes) => self.make(Node::Blob(bytes.into())),
                    Err(_) => trouble("text that stands for no bytes"),
                }
            }
            (Global::Reconstructor, &[class, ref base @ ..]) => match self.node(class) {
                Some(&Node::Global(Global::Foreign(number))) => {
                    // A class is taken in its own place only.
                    for value in base {
                        if let Some(&Node::Global(Global::Foreign(number))) = self.node(*value) {
                            self.called.insert(number);
                        }
                    }
                    self.consume(tuple);
                    self.make(Node::Object { class: Some(number), values: Vec::new(), state: None })
                }
                _ => self.make(Node::Object { class: None, values: Vec::new(), state: None }),
            },
            (Global::Unsupported(kind), _) => self.make(Node::Unsupported(kind)),
            // Refused in the end; until then what else it names is of interest.
            (Global::Plain | Global::Foreign(_) | Global::DType(_), _) => {
                if let Global::Foreign(number) = meaning {
                    self.called.insert(number);
                }
                self.budget.spend(arguments.len() * size_of::<Value>())?;
                self.make(Node::Object { class: None, values: arguments, state: None })
            }
            (meaning, _) => trouble(format!("{meaning:?} is called with arguments of other kinds")),
        }
    }

    /// The pairs that a dictionary is made with: none, or a list of two each.
    fn items(&self, arguments: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>, Trouble> {
        let Some(Node::List(items)) = arguments.first().and_then(|first| self.node(*first)) else {
            return Ok(Vec::new());
        };
        let pairs = items.iter().map(|item| match self.node(*item) {
            Some(Node::List(pair) | Node::Tuple(pair)) => match pair[..] {
                [key, value] => Some((key, value)),
                _ => None,
            },
            _ => None,
        });
        pairs.collect::<Option<_>>().map_or_else(|| trouble("a pair that is none"), Ok)
    }

    fn view(
        &mut self,
        storage: Value<'a>,
        dtype: Option<DType>,
        offset: i64,
        shape: Value<'a>,
        strides: Value<'a>,
        at: usize,
    ) -> Result<(), Trouble> {
        if let Some(&Node::Unsupported(kind)) = self.node(storage) {
            return self.make(Node::Unsupported(kind));
        }
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        self.budget.spend(size_of::<View>() + 16 * shape.len())?;
        self.make(Node::Tensor(Box::new(View { storage, dtype, offset, shape, strides, at })))
    }

    fn sizes(&self, value: Value) -> Result<Vec<i64>, Trouble> {
        let values = match self.node(value) {
            Some(Node::Tuple(values) | Node::List(values)) => values,
            // torch.Size of a tuple.
            Some(Node::Object { values, .. }) => match values[..] {
                [inner] => match self.node(inner) {
                    Some(Node::Tuple(values) | Node::List(values)) => values,
                    _ => return trouble("sizes that are no tuple"),
                },
                _ => return trouble("sizes that are no tuple"),
            },
            _ => return trouble("sizes that are no tuple"),
        };
        if values.len() > Tensor::MOST_DIMENSIONS {
            return trouble(format!("a tensor of {} dimensions", values.len()));
        }
        let whole = values.iter().map(|value| match value {
            Value::Int(size) => Some(*size),
            _ => None,
        });
        whole.collect::<Option<_>>().map_or_else(|| trouble("a size that is no integer"), Ok)
    }

    /// State of an object: kept beside what it was made of. A state dict's own `_metadata` is of no use here.
    pub(super) fn build(&mut self, state: Value<'a>, at: usize) -> Result<(), Trouble> {
        let top = self.top()?;
        match self.node(top) {
            Some(Node::NumpyArray) => {
                // (version, shape, type, Fortran order, data)
                let state = self.arguments(state)?;
                let &[_, shape, dtype, Value::Bool(fortran), data] = &state[..] else {
                    return trouble("an array whose state is of another form");
                };
                let array = self.array(data, dtype, shape, fortran, at)?;
                if let Some(node) = self.node_mut(top) {
                    *node = array;
                }
            }
            Some(&Node::NumpyDType { name, .. }) => {
                // (version, byte order, …)
                let state = self.arguments(state)?;
                let order = match state.get(1) {
                    Some(Value::Text([order]) | Value::Bytes([order])) => *order,
                    _ => b'=',
                };
                if let Some(node) = self.node_mut(top) {
                    *node = Node::NumpyDType { name, order };
                }
            }
            Some(Node::Object { .. }) => {
                if let Some(Node::Object { state: own, .. }) = self.node_mut(top) {
                    *own = Some(state);
                }
            }
            Some(Node::Dict(_) | Node::Tensor(_) | Node::Unsupported(_) | Node::Persistent(_)) => {}
            _ => return trouble("state is given to what is no object"),
        }
        Ok(())
    }

    /// NumPy's array.
    fn array(
        &mut self,
        data: Value<'a>,
        dtype: Value<'a>,
        shape: Value<'a>,
        fortran: bool,
        at: usize,
    ) -> Result<Node<'a>, Trouble> {
        let Some(&Node::NumpyDType { name, order }) = self.node(dtype) else {
            return trouble("an array of unknown type");
        };
        let (order, name) = match name {
            [mark @ (b'<' | b'>' | b'|' | b'='), name @ ..] => (*mark, name),
            name => (order, name),
        };
        let dtype = match name {
            b"f8" => DType::F64,
            b"f4" => DType::F32,
            b"f2" => DType::F16,
            b"i8" => DType::I64,
            b"i4" => DType::I32,
            b"i2" => DType::I16,
            b"i1" => DType::I8,
            b"u1" => DType::U8,
            b"b1" => DType::Bool,
            _ => return Ok(Node::Unsupported("a NumPy array of a type that no weight has")),
        };
        let storage = match (data, self.node(data)) {
            (Value::Bytes(bytes) | Value::Text(bytes), _) => Storage::plain(bytes),
            (_, Some(Node::Blob(bytes))) => {
                let bytes = bytes.clone();
                self.budget.spend(bytes.len())?;
                Storage::owned(bytes.to_vec())
            }
            (_, Some(Node::Object { values, .. })) => match values[..] {
                [Value::Bytes(bytes)] => Storage::plain(bytes),
                _ => return trouble("an array without its data"),
            },
            _ => return trouble("an array without its data"),
        };
        let shape = self.sizes(shape)?;
        let elements = shape.iter().try_fold(1_i64, |all, size| all.checked_mul(*size));
        let bytes = elements.and_then(|elements| usize::try_from(elements).ok()?.checked_mul(dtype.size()));
        if bytes != Some(storage.len()) {
            return trouble(format!("an array of shape {shape:?} with {} bytes", storage.len()));
        }
        let order = if order == b'>' { ByteOrder::Big } else { ByteOrder::Little };
        self.budget.spend(size_of::<Node>() + size_of::<View>())?;
        self.nodes.push(Node::Memory { dtype, storage: storage.with_order(order) });
        let storage = Value::Node(self.nodes.len() - 1);
        let mut strides: Vec<i64> = vec_with(shape.len())?;
        let mut step = 1_i64;
        let forward: Box<dyn Iterator<Item = &i64>> =
            if fortran { Box::new(shape.iter()) } else { Box::new(shape.iter().rev()) };
        for size in forward {
            strides.push(step);
            step = step.saturating_mul((*size).max(1));
        }
        if !fortran {
            strides.reverse();
        }
        Ok(Node::Tensor(Box::new(View { storage, dtype: None, offset: 0, shape, strides, at })))
    }

    /// ('storage', class, key, location, elements[, view]); of old, ('module', class, …), a number, or
    /// the class itself with its source.
    pub(super) fn persistent(&mut self, id: Value<'a>) -> Result<(), Trouble> {
        if let Some(number) = integer(id) {
            return self.make(Node::Persistent(number));
        }
        let tuple = id;
        let Some(Node::Tuple(id)) = self.node(tuple) else { return trouble("a persistent id that is no tuple") };
        if id.len() > MOST_ARGUMENTS {
            return trouble("a persistent id that is no storage");
        }
        let id = id.clone();
        match id[..] {
            [Value::Text(b"module"), class, ..] => {
                self.consume(tuple);
                self.push(class)
            }
            [Value::Text(b"storage"), class, Value::Text(key), _, Value::Int(elements), ref rest @ ..] => {
                let view = match rest {
                    [] | [Value::None] => None,
                    [view] => match self.node(*view) {
                        Some(Node::Tuple(view)) => match view[..] {
                            [_, Value::Int(first), Value::Int(count)] => Some((first, count)),
                            _ => return trouble("a view of a storage of another form"),
                        },
                        _ => return trouble("a view of a storage of another form"),
                    },
                    _ => return trouble("a persistent id that is no storage"),
                };
                match self.node(class) {
                    Some(&Node::Global(Global::Storage(dtype))) => {
                        self.make(Node::Storage { dtype: Some(dtype), key, elements, view })
                    }
                    Some(Node::Global(Global::UntypedStorage)) => {
                        self.make(Node::Storage { dtype: None, key, elements, view })
                    }
                    Some(&Node::Global(Global::Unsupported(kind))) => self.make(Node::Unsupported(kind)),
                    _ => trouble("a storage of unknown type"),
                }
            }
            _ => trouble("a persistent id that is no storage"),
        }
    }
}

/// A number, or text that is one.
fn integer(value: Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        Value::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        _ => None,
    }
}
