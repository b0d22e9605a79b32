//! The stack machine: an opcode at a time, from bytes to nodes.

use std::collections::{HashMap, HashSet};

use super::{Node, Pickle, PickleName, Value, escapes};
use crate::alloc::Budget;
use crate::cursor::Cursor;
use crate::error::Error;

/// Runs one pickle; the cursor stands behind it afterwards.
///
/// `within`: whether the pickle itself lies in a pickle, which must hold no further one.
pub(crate) fn read<'a>(cursor: &mut Cursor<'a>, budget: &mut Budget, within: bool) -> Result<Pickle<'a>, Error> {
    let mut machine = Machine {
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        names: Vec::new(),
        known: HashMap::new(),
        called: HashSet::new(),
        budget,
        within,
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
pub(super) enum Trouble {
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

pub(super) fn trouble<T>(reason: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Reason(reason.into()))
}

/// The stack, what was built, and what was named.
pub(super) struct Machine<'a, 'b> {
    pub(super) nodes: Vec<Node<'a>>,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value<'a>>,
    /// Every name once, in the order of the pickle.
    pub(super) names: Vec<PickleName>,
    pub(super) known: HashMap<String, usize>,
    /// Names that were called as a function.
    pub(super) called: HashSet<usize>,
    pub(super) budget: &'b mut Budget,
    pub(super) within: bool,
}

impl<'a> Machine<'a, '_> {
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
            b'(' => {
                self.budget.spend(2 * size_of::<usize>())?;
                self.marks.push(self.stack.len());
            }
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
                self.text(inner, escapes::of_string)?;
            }
            b'V' => {
                let line = cursor.line()?;
                self.text(line, escapes::of_unicode)?;
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

    pub(super) fn push(&mut self, value: Value<'a>) -> Result<(), Trouble> {
        // Once on the stack, once in what it becomes part of.
        self.budget.spend(2 * size_of::<Value>())?;
        self.stack.push(value);
        Ok(())
    }

    /// Text of protocol 0, which may have escapes.
    fn text(&mut self, text: &'a [u8], decode: fn(&[u8]) -> Option<Vec<u8>>) -> Result<(), Trouble> {
        if !text.contains(&b'\\') {
            return self.push(Value::Text(text));
        }
        self.budget.spend(text.len())?;
        match decode(text) {
            Some(decoded) => self.make(Node::Blob(decoded.into())),
            None => trouble("text with an escape that is none"),
        }
    }

    pub(super) fn make(&mut self, node: Node<'a>) -> Result<(), Trouble> {
        self.budget.spend(2 * size_of::<Node>())?;
        self.nodes.push(node);
        self.push(Value::Node(self.nodes.len() - 1))
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop(&mut self) -> Result<Value<'a>, Trouble> {
        if self.stack.len() <= self.floor() {
            return trouble("the stack is empty");
        }
        self.stack.pop().map_or_else(|| trouble("the stack is empty"), Ok)
    }

    pub(super) fn top(&self) -> Result<Value<'a>, Trouble> {
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

    pub(super) fn node(&self, value: Value) -> Option<&Node<'a>> {
        match value {
            Value::Node(number) => self.nodes.get(number),
            _ => None,
        }
    }

    pub(super) fn node_mut(&mut self, value: Value) -> Option<&mut Node<'a>> {
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
