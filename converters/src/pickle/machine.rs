//! The stack machine: an opcode at a time, from bytes to nodes.

use std::collections::HashMap;

use super::globals::{can_be_module, find};
use super::{Global, Node, Pickle, PickleName, Value, Verdict, View};
use crate::alloc::{Budget, vec_with};
use crate::cursor::Cursor;
use crate::error::Error;
use crate::pytorch;
use crate::storage::{ByteOrder, Storage};
use crate::tensor::{DType, Tensor};

/// A name longer than this is none.
const LONGEST_NAME: usize = 512;
/// Arguments of a call.
const MOST_ARGUMENTS: usize = 64;

/// Runs one pickle; the cursor stands behind it afterwards.
pub(crate) fn read<'a>(cursor: &mut Cursor<'a>) -> Result<Pickle<'a>, Error> {
    let mut machine = Machine {
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        names: Vec::new(),
        known: HashMap::new(),
        budget: Budget::new(cursor.remaining()),
    };
    loop {
        let at = cursor.at();
        match machine.step(cursor) {
            Ok(None) => {}
            Ok(Some(root)) => return machine.finish(root, cursor),
            // Of a pickle that is broken too, what it names matters more.
            Err(_) if machine.is_refused() => return Err(machine.refusal(cursor)),
            Err(Trouble::Place(error)) => return Err(error),
            Err(Trouble::Reason(reason)) => return Err(cursor.error_at(at, reason)),
        }
    }
}

/// An error that gets its place from the opcode that met it.
enum Trouble {
    Place(Error),
    Reason(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Place(error)
    }
}

impl From<&'static str> for Trouble {
    fn from(reason: &'static str) -> Self {
        Self::Reason(reason.to_owned())
    }
}

fn trouble<T>(reason: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Reason(reason.into()))
}

struct Machine<'a> {
    nodes: Vec<Node<'a>>,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value<'a>>,
    /// Every name once, in the order of the pickle.
    names: Vec<PickleName>,
    known: HashMap<String, usize>,
    budget: Budget,
}

impl<'a> Machine<'a> {
    /// One opcode; the value if it was STOP.
    #[expect(clippy::too_many_lines, reason = "an arm an opcode, to be read against Python's pickletools")]
    fn step(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<Value<'a>>, Trouble> {
        let at = cursor.at();
        let opcode = cursor.u8()?;
        match opcode {
            b'.' => return Ok(Some(self.pop()?)),
            0x80 => {
                let protocol = cursor.u8()?;
                if protocol > 5 {
                    return trouble(format!("pickle protocol {protocol}; 0 to 5 are known"));
                }
            }
            // FRAME: only a hint for buffering, but it must not lie.
            0x95 => {
                let length = cursor.u64()?;
                if length > cursor.remaining() as u64 {
                    return trouble(format!("a frame of {length} bytes leaves the file"));
                }
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.push(top)?;
            }
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'I' => {
                let value = match cursor.line()? {
                    b"01" => Value::Bool(true),
                    b"00" => Value::Bool(false),
                    line => Value::Int(number(line)?),
                };
                self.push(value)?;
            }
            b'L' => {
                let line = cursor.line()?;
                self.push(Value::Int(number(line.strip_suffix(b"L").unwrap_or(line))?))?;
            }
            b'J' => {
                let value = i64::from(cursor.i32()?);
                self.push(Value::Int(value))?;
            }
            b'K' => {
                let value = i64::from(cursor.u8()?);
                self.push(Value::Int(value))?;
            }
            b'M' => {
                let value = i64::from(cursor.u16()?);
                self.push(Value::Int(value))?;
            }
            0x8a => {
                let length = usize::from(cursor.u8()?);
                let value = long(cursor.take(length)?);
                self.push(value)?;
            }
            0x8b => {
                let length = cursor.i32()?;
                let Ok(length) = usize::try_from(length) else {
                    return trouble(format!("an integer of {length} bytes"));
                };
                let value = long(cursor.take(length)?);
                self.push(value)?;
            }
            b'F' => {
                let line = cursor.line()?;
                let value = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
                let Some(value) = value else { return trouble("a float that is none") };
                self.push(Value::Float(value))?;
            }
            b'G' => {
                let value = f64::from_be_bytes(cursor.array()?);
                self.push(Value::Float(value))?;
            }
            b'S' => {
                let line = cursor.line()?;
                let inner = line.get(1..line.len().saturating_sub(1)).unwrap_or_default();
                self.push(Value::Text(inner))?;
            }
            b'V' => {
                let line = cursor.line()?;
                self.push(Value::Text(line))?;
            }
            b'U' | 0x8c => {
                let length = usize::from(cursor.u8()?);
                let text = cursor.take(length)?;
                self.push(Value::Text(text))?;
            }
            b'T' | b'X' => {
                let length = cursor.u32()? as usize;
                let text = cursor.take(length)?;
                self.push(Value::Text(text))?;
            }
            0x8d => {
                let length = usize::try_from(cursor.u64()?).unwrap_or(usize::MAX);
                let text = cursor.take(length)?;
                self.push(Value::Text(text))?;
            }
            b'C' => {
                let length = usize::from(cursor.u8()?);
                let bytes = cursor.take(length)?;
                self.push(Value::Bytes(bytes))?;
            }
            b'B' => {
                let length = cursor.u32()? as usize;
                let bytes = cursor.take(length)?;
                self.push(Value::Bytes(bytes))?;
            }
            0x8e | 0x96 => {
                let length = usize::try_from(cursor.u64()?).unwrap_or(usize::MAX);
                let bytes = cursor.take(length)?;
                self.push(Value::Bytes(bytes))?;
            }
            b']' | 0x8f => self.make(Node::List(Vec::new()))?,
            b')' => self.make(Node::Tuple(Vec::new()))?,
            b'}' => self.make(Node::Dict(Vec::new()))?,
            b'l' | 0x91 => {
                let values = self.pop_mark()?;
                self.make(Node::List(values))?;
            }
            b't' => {
                let values = self.pop_mark()?;
                self.make(Node::Tuple(values))?;
            }
            0x85..=0x87 => {
                let mut values = Vec::new();
                for _ in 0x84..opcode {
                    values.push(self.pop()?);
                }
                values.reverse();
                self.make(Node::Tuple(values))?;
            }
            b'd' => {
                let values = self.pop_mark()?;
                let pairs = pairs(&values)?;
                self.make(Node::Dict(pairs))?;
            }
            b'a' => {
                let value = self.pop()?;
                self.append(vec![value])?;
            }
            b'e' | 0x90 => {
                let values = self.pop_mark()?;
                self.append(values)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.insert(vec![(key, value)])?;
            }
            b'u' => {
                let values = self.pop_mark()?;
                self.insert(pairs(&values)?)?;
            }
            b'q' => self.put(u64::from(cursor.u8()?))?,
            b'r' => self.put(u64::from(cursor.u32()?))?,
            b'p' => {
                let index = number(cursor.line()?)?;
                self.put(index.unsigned_abs())?;
            }
            0x94 => self.put(self.memo.len() as u64)?,
            b'h' => self.get(u64::from(cursor.u8()?))?,
            b'j' => self.get(u64::from(cursor.u32()?))?,
            b'g' => {
                let index = number(cursor.line()?)?;
                self.get(index.unsigned_abs())?;
            }
            b'c' => {
                let (module, name) = (cursor.line()?, cursor.line()?);
                self.global(module, name, at)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return trouble("a name that is no text");
                };
                self.global(module, name, at)?;
            }
            b'R' => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.call(callable, arguments, at)?;
            }
            0x81 => {
                let arguments = self.pop()?;
                let class = self.pop()?;
                self.new_object(class, arguments, at)?;
            }
            // NEWOBJ_EX: with named arguments, which are left aside.
            0x92 => {
                self.pop()?;
                let arguments = self.pop()?;
                let class = self.pop()?;
                self.new_object(class, arguments, at)?;
            }
            // INST and OBJ: a class between a mark and its arguments.
            b'i' => {
                let (module, name) = (cursor.line()?, cursor.line()?);
                let arguments = self.pop_mark()?;
                self.global(module, name, at)?;
                let class = self.pop()?;
                self.make(Node::Tuple(arguments))?;
                let arguments = self.pop()?;
                self.call(class, arguments, at)?;
            }
            b'o' => {
                let mut arguments = self.pop_mark()?;
                if arguments.is_empty() {
                    return trouble("an object without a class");
                }
                let class = arguments.remove(0);
                self.make(Node::Tuple(arguments))?;
                let arguments = self.pop()?;
                self.call(class, arguments, at)?;
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state, at)?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.persistent(id)?;
            }
            b'P' => {
                let id = cursor.line()?;
                self.persistent(Value::Text(id))?;
            }
            0x82..=0x84 => {
                return trouble("it refers to Python's extension registry, which no checkpoint needs; refused");
            }
            0x97 | 0x98 => return trouble("it refers to buffers outside of the file"),
            _ => return trouble(format!("{opcode:#04x} is no pickle opcode")),
        }
        Ok(None)
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), Trouble> {
        // Once on the stack, once in what it becomes part of.
        self.budget.spend(2 * size_of::<Value>())?;
        self.stack.push(value);
        Ok(())
    }

    fn make(&mut self, node: Node<'a>) -> Result<(), Trouble> {
        self.budget.spend(size_of::<Node>())?;
        self.nodes.push(node);
        self.push(Value::Node(self.nodes.len() - 1))
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'a>, Trouble> {
        if self.stack.len() <= self.floor() {
            return trouble("the stack is empty");
        }
        self.stack.pop().map_or_else(|| trouble("the stack is empty"), Ok)
    }

    fn top(&self) -> Result<Value<'a>, Trouble> {
        self.stack.last().copied().map_or_else(|| trouble("the stack is empty"), Ok)
    }

    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>, Trouble> {
        let Some(mark) = self.marks.pop() else { return trouble("there is no mark") };
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn put(&mut self, index: u64) -> Result<(), Trouble> {
        let top = self.top()?;
        self.budget.spend(2 * size_of::<(u64, Value)>())?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn get(&mut self, index: u64) -> Result<(), Trouble> {
        match self.memo.get(&index) {
            Some(&value) => self.push(value),
            None => trouble(format!("nothing was kept under {index}")),
        }
    }

    fn node(&self, value: Value) -> Option<&Node<'a>> {
        match value {
            Value::Node(number) => self.nodes.get(number),
            _ => None,
        }
    }

    fn node_mut(&mut self, value: Value) -> Option<&mut Node<'a>> {
        match value {
            Value::Node(number) => self.nodes.get_mut(number),
            _ => None,
        }
    }

    fn append(&mut self, values: Vec<Value<'a>>) -> Result<(), Trouble> {
        let top = self.top()?;
        match self.node_mut(top) {
            Some(Node::List(list) | Node::Object { values: list, .. }) => list.extend(values),
            _ => return trouble("values are appended to what is no list"),
        }
        Ok(())
    }

    fn insert(&mut self, pairs: Vec<(Value<'a>, Value<'a>)>) -> Result<(), Trouble> {
        let top = self.top()?;
        match self.node_mut(top) {
            Some(Node::Dict(dict)) => dict.extend(pairs),
            Some(Node::Object { values, .. }) => values.extend(pairs.into_iter().flat_map(|(key, value)| [key, value])),
            _ => return trouble("pairs are set in what is no dictionary"),
        }
        Ok(())
    }

    fn global(&mut self, module: &[u8], name: &[u8], at: usize) -> Result<(), Trouble> {
        if module.len() + name.len() > LONGEST_NAME {
            return trouble(format!("a name of {} bytes", module.len() + name.len()));
        }
        let full = format!("{}.{}", String::from_utf8_lossy(module), String::from_utf8_lossy(name));
        let full: String = full.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let known = find(&full);
        let next = self.names.len();
        let number = *self.known.entry(full.clone()).or_insert(next);
        if number == next {
            self.budget.spend(4 * full.len() + size_of::<PickleName>())?;
            // A class of a module has to show that it is one: until then the name is refused.
            let verdict = if known.is_some() { Verdict::Harmless } else { Verdict::Refused };
            self.names.push(PickleName { name: full, offset: at, verdict });
        }
        self.make(Node::Global(known.unwrap_or(Global::Foreign(number))))
    }

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
    fn new_object(&mut self, class: Value<'a>, arguments: Value<'a>, at: usize) -> Result<(), Trouble> {
        match self.node(class) {
            Some(&Node::Global(Global::Foreign(number))) => {
                let empty = self.arguments(arguments)?.is_empty();
                self.make(Node::Object { class: empty.then_some(number), values: Vec::new(), state: None })
            }
            _ => self.call(class, arguments, at),
        }
    }

    fn call(&mut self, callable: Value<'a>, arguments: Value<'a>, at: usize) -> Result<(), Trouble> {
        let Some(&Node::Global(meaning)) = self.node(callable) else {
            return trouble("it calls what is no name");
        };
        let tuple = arguments;
        let arguments = self.arguments(tuple)?;
        match (meaning, &arguments[..]) {
            (Global::RebuildTensor, &[storage, Value::Int(offset), shape, strides, ref rest @ ..]) => {
                // Bits of the newest form: the elements would have to be conjugated or negated.
                let bits = rest.get(2).and_then(|bits| match self.node(*bits) {
                    Some(Node::Dict(pairs)) => Some(pairs.iter().any(|(_, value)| *value == Value::Bool(true))),
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
            (Global::LoadFromBytes, &[Value::Bytes(bytes)]) => {
                self.budget.spend(bytes.len() / 4)?;
                let (dtype, storage) = pytorch::storage_in(bytes)?;
                self.make(Node::Memory { dtype, storage })
            }
            // Protocols before 3 have no bytes: they come as text, decoded.
            (Global::LoadFromBytes, &[blob @ Value::Node(_)]) => {
                let Some(Node::Blob(bytes)) = self.node(blob) else { return trouble("a storage that is no bytes") };
                let bytes = bytes.clone();
                self.budget.spend(bytes.len())?;
                let (dtype, storage) = pytorch::storage_in(&bytes)?;
                let order = storage.order;
                let storage = Storage::owned(storage.into_bytes()?.into_owned()).with_order(order);
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
            (Global::Encode, &[Value::Text(text), ..]) => {
                self.budget.spend(text.len())?;
                let characters = std::str::from_utf8(text).unwrap_or_default().chars();
                let bytes = characters.map(|c| u8::try_from(u32::from(c))).collect::<Result<Vec<_>, _>>();
                match bytes {
                    Ok(bytes) => self.make(Node::Blob(bytes.into())),
                    Err(_) => trouble("text that stands for no bytes"),
                }
            }
            (Global::Reconstructor, &[class, ..]) => match self.node(class) {
                Some(&Node::Global(Global::Foreign(number))) => {
                    self.consume(tuple);
                    self.make(Node::Object { class: Some(number), values: Vec::new(), state: None })
                }
                _ => self.make(Node::Object { class: None, values: Vec::new(), state: None }),
            },
            (Global::Unsupported(kind), _) => self.make(Node::Unsupported(kind)),
            // Refused in the end; until then what else it names is of interest.
            (Global::Plain | Global::Foreign(_) | Global::DType(_), _) => {
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
                [inner @ Value::Node(_)] if inner != value => return self.sizes(inner),
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
    fn build(&mut self, state: Value<'a>, at: usize) -> Result<(), Trouble> {
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
        let order = if order == b'>' { ByteOrder::Big } else { ByteOrder::Little };
        self.budget.spend(size_of::<Node>() + size_of::<View>())?;
        self.nodes.push(Node::Memory { dtype, storage: storage.with_order(order) });
        let storage = Value::Node(self.nodes.len() - 1);
        let shape = self.sizes(shape)?;
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
    fn persistent(&mut self, id: Value<'a>) -> Result<(), Trouble> {
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

    fn is_refused(&self) -> bool {
        self.names.iter().any(|name| name.verdict == Verdict::Refused)
    }

    fn refusal(self, cursor: &Cursor) -> Error {
        let first = self.names.iter().find(|name| name.verdict == Verdict::Refused);
        let (name, offset) = first.map(|name| (name.name.clone(), name.offset)).unwrap_or_default();
        Error::Unsafe { format: cursor.format(), offset, name, names: self.names }
    }

    /// Settles which of the unknown names are classes of modules.
    fn finish(mut self, root: Value<'a>, cursor: &Cursor<'a>) -> Result<Pickle<'a>, Error> {
        let mut verdicts: Vec<_> = self.names.iter().map(|name| name.verdict).collect();
        let mut set = |number: usize, verdict| {
            if let Some(place) = verdicts.get_mut(number) {
                *place = verdict;
            }
        };
        let objects = |node: &Node<'a>| match node {
            Node::Object { class: Some(class), state, .. } => Some((*class, *state)),
            _ => None,
        };
        for (class, _) in self.nodes.iter().filter_map(objects) {
            if self.names.get(class).is_some_and(|name| can_be_module(&name.name)) {
                set(class, Verdict::Module);
            }
        }
        for (class, state) in self.nodes.iter().filter_map(objects) {
            let script = self.names.get(class).is_some_and(|name| name.name.starts_with("__torch__."));
            let pairs = match state.and_then(|state| self.node(state)) {
                Some(Node::Dict(pairs)) => &pairs[..],
                _ => &[],
            };
            let parameters = |(key, _): &(Value, Value)| *key == Value::Text(b"_parameters");
            if !(script && state.is_some() || pairs.iter().any(parameters)) {
                set(class, Verdict::Refused);
            }
        }
        // A class is no value: wherever else the name lies, it is there to be called.
        let mut loose = |value: &Value<'a>| {
            if let Some(&Node::Global(Global::Foreign(number))) = self.node(*value) {
                set(number, Verdict::Refused);
            }
        };
        loose(&root);
        for node in &self.nodes {
            match node {
                Node::List(values) | Node::Tuple(values) => values.iter().for_each(&mut loose),
                Node::Dict(pairs) => pairs.iter().for_each(|(key, value)| {
                    loose(key);
                    loose(value);
                }),
                Node::Object { values, state, .. } => values.iter().chain(state).for_each(&mut loose),
                _ => {}
            }
        }
        for (name, verdict) in self.names.iter_mut().zip(verdicts) {
            name.verdict = verdict;
        }
        if self.is_refused() {
            return Err(self.refusal(cursor));
        }
        Ok(Pickle { nodes: self.nodes, root, names: self.names })
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

fn pairs<'a>(values: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>, Trouble> {
    let (pairs, rest) = values.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    } else {
        trouble("a key without a value")
    }
}

fn number(line: &[u8]) -> Result<i64, Trouble> {
    let parsed = std::str::from_utf8(line).ok().and_then(|text| text.trim().parse().ok());
    parsed.map_or_else(|| trouble("an integer that is none"), Ok)
}

fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Big(bytes);
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = if negative { [0xff; 8] } else { [0; 8] };
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = *from;
    }
    Value::Int(i64::from_le_bytes(wide))
}
