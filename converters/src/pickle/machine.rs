//! The stack machine: an opcode at a time, from bytes to nodes.

use std::collections::HashMap;

use super::globals::GLOBALS;
use super::{Global, Node, Pickle, Value};
use crate::cursor::Cursor;
use crate::error::Error;

/// Values on the stack and in tuples, all told, for each byte of the pickle: each opcode makes at most one.
const MOST_PER_BYTE: usize = 4;

/// Runs one pickle; the cursor stands behind it afterwards.
pub(crate) fn read<'a>(cursor: &mut Cursor<'a>) -> Result<Pickle<'a>, Error> {
    let budget = cursor.remaining().saturating_mul(MOST_PER_BYTE);
    let mut machine = Machine { nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), budget };
    loop {
        let at = cursor.at();
        if let Some(root) = machine.step(cursor).map_err(|reason| reason.at(cursor, at))? {
            return Ok(Pickle { nodes: machine.nodes, root });
        }
    }
}

/// An error that gets its place from the opcode that met it.
enum Trouble {
    Place(Error),
    Reason(String),
}

impl Trouble {
    fn at(self, cursor: &Cursor, at: usize) -> Error {
        match self {
            Self::Place(error) => error,
            Self::Reason(reason) => cursor.error_at(at, reason),
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Place(error)
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
    budget: usize,
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
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return trouble("a name that is no text");
                };
                self.global(module, name)?;
            }
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.call(callable, arguments, at)?;
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state)?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.storage(id)?;
            }
            b'i' | b'o' | 0x92 | 0x82..=0x84 | b'P' | 0x97 | 0x98 => {
                return trouble(format!("opcode {opcode:#04x} makes objects that no checkpoint needs; refused"));
            }
            _ => return trouble(format!("{opcode:#04x} is no pickle opcode")),
        }
        Ok(None)
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), Trouble> {
        let Some(budget) = self.budget.checked_sub(1) else { return trouble("more values than the file can hold") };
        self.budget = budget;
        self.stack.push(value);
        Ok(())
    }

    fn make(&mut self, node: Node<'a>) -> Result<(), Trouble> {
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
        self.memo.insert(index, top);
        Ok(())
    }

    fn get(&mut self, index: u64) -> Result<(), Trouble> {
        match self.memo.get(&index) {
            Some(&value) => self.push(value),
            None => trouble(format!("nothing was kept under {index}")),
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
            Some(Node::List(list) | Node::Object(list)) => list.extend(values),
            _ => return trouble("values are appended to what is no list"),
        }
        Ok(())
    }

    fn insert(&mut self, pairs: Vec<(Value<'a>, Value<'a>)>) -> Result<(), Trouble> {
        let top = self.top()?;
        match self.node_mut(top) {
            Some(Node::Dict(dict)) => dict.extend(pairs),
            _ => return trouble("pairs are set in what is no dictionary"),
        }
        Ok(())
    }

    fn global(&mut self, module: &[u8], name: &[u8]) -> Result<(), Trouble> {
        let full = format!("{}.{}", module.escape_ascii(), name.escape_ascii());
        match GLOBALS.iter().find(|(known, _)| *known == full) {
            Some((_, meaning)) => self.make(Node::Global(*meaning)),
            None => trouble(format!("it names {full}, which no DenseNet checkpoint needs; refused, nothing was run")),
        }
    }

    fn call(&mut self, callable: Value<'a>, arguments: Value<'a>, at: usize) -> Result<(), Trouble> {
        let Some(&mut Node::Global(meaning)) = self.node_mut(callable) else {
            return trouble("it calls what is no name");
        };
        let Some(Node::Tuple(arguments)) = self.node_mut(arguments) else {
            return trouble("arguments that are no tuple");
        };
        let arguments = arguments.clone();
        match (meaning, &arguments[..]) {
            (Global::RebuildTensor, &[storage, Value::Int(offset), shape, strides])
            | (Global::RebuildTensorV2, &[storage, Value::Int(offset), shape, strides, ..]) => {
                let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
                self.make(Node::Tensor { storage, offset, shape, strides, at })
            }
            (Global::RebuildParameter, &[tensor, ..]) => self.push(tensor),
            // An ordered dictionary may come with its pairs, as lists of two.
            (Global::OrderedDict, items) => {
                let mut pairs = Vec::new();
                if let [Value::Node(list)] = items
                    && let Some(Node::List(items)) = self.nodes.get(*list)
                {
                    for &item in items {
                        match item {
                            Value::Node(number) => match self.nodes.get(number) {
                                Some(Node::List(pair) | Node::Tuple(pair)) => match pair[..] {
                                    [key, value] => pairs.push((key, value)),
                                    _ => return trouble("a pair that is none"),
                                },
                                _ => return trouble("a pair that is none"),
                            },
                            _ => return trouble("a pair that is none"),
                        }
                    }
                }
                self.make(Node::Dict(pairs))
            }
            (Global::Set | Global::Plain, _) => self.make(Node::Object(arguments)),
            (meaning, _) => trouble(format!("{meaning:?} is called with arguments of other kinds")),
        }
    }

    fn sizes(&self, value: Value) -> Result<Vec<i64>, Trouble> {
        let values = match value {
            Value::Node(number) => match self.nodes.get(number) {
                Some(Node::Tuple(values) | Node::List(values)) => values,
                _ => return trouble("sizes that are no tuple"),
            },
            _ => return trouble("sizes that are no tuple"),
        };
        let whole = values.iter().map(|value| match value {
            Value::Int(size) => Some(*size),
            _ => None,
        });
        whole.collect::<Option<_>>().map_or_else(|| trouble("a size that is no integer"), Ok)
    }

    /// State of an object: kept beside what it was made of. A state dict's own `_metadata` is of no use here.
    fn build(&mut self, state: Value<'a>) -> Result<(), Trouble> {
        let top = self.top()?;
        match self.node_mut(top) {
            Some(Node::Object(values)) => values.push(state),
            Some(Node::Dict(_)) => {}
            _ => return trouble("state is given to what is no object"),
        }
        Ok(())
    }

    /// ('storage', class, key, location, elements[, view])
    fn storage(&mut self, id: Value<'a>) -> Result<(), Trouble> {
        let Some(Node::Tuple(id)) = self.node_mut(id) else { return trouble("a persistent id that is no tuple") };
        let id = id.clone();
        let &[Value::Text(b"storage"), class, Value::Text(key), _, Value::Int(elements), ref rest @ ..] = &id[..]
        else {
            return trouble("a persistent id that is no storage");
        };
        if !matches!(rest, [] | [Value::None]) {
            return trouble("a storage that is a view of another");
        }
        match self.node_mut(class) {
            Some(&mut Node::Global(Global::Storage(dtype))) => self.make(Node::Storage { dtype, key, elements }),
            _ => trouble("a storage of unknown type"),
        }
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
