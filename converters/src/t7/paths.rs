//! The names of a file's tensors: module numbers and field names, as `2.1.weight`.

use super::{FORMAT, File, Item, Value};
use crate::alloc::Budget;
use crate::error::Error;
use crate::tensor::Tensor;

/// Objects that refer to each other, one after the other. Reading bounds how deep they are written, not how they refer.
pub(super) const DEPTH: usize = 256;
/// Bytes of a key.
const LONGEST_KEY: usize = 1024;

/// A tensor of a file, with a path that leads to it.
#[derive(Debug)]
pub(crate) struct Found<'f, 'a> {
    pub(crate) path: String,
    /// Its number among the items.
    pub(crate) item: usize,
    pub(crate) tensor: &'f Tensor<'a>,
}

impl<'a> File<'a> {
    /// Every tensor with its path. An object that was met is not entered again, so there are no more than the file has.
    pub(crate) fn tensors<'f>(&'f self, budget: &mut Budget) -> Result<Vec<Found<'f, 'a>>, Error> {
        let mut walk = Walk { file: self, seen: vec![false; self.items.len()], budget, found: Vec::new() };
        for (number, root) in (1..).zip(&self.roots) {
            let path = if self.roots.len() > 1 { format!("object{number}") } else { String::new() };
            walk.collect(*root, &path, 0)?;
        }
        Ok(walk.found)
    }
}

struct Walk<'f, 'a, 'b> {
    file: &'f File<'a>,
    seen: Vec<bool>,
    /// Long keys make every path beneath them long.
    budget: &'b mut Budget,
    found: Vec<Found<'f, 'a>>,
}

impl<'a> Walk<'_, 'a, '_> {
    fn collect(&mut self, value: Value<'a>, path: &str, depth: usize) -> Result<(), Error> {
        let file = self.file;
        let Value::Item(number) = value else { return Ok(()) };
        let refuse = |reason: &str| {
            let (offset, tensor, reason) = (file.offset(number), path.to_owned(), reason.to_owned());
            Error::Tensor { format: FORMAT, offset, tensor, reason }
        };
        if depth > DEPTH {
            return Err(refuse("objects refer to each other in too long a chain"));
        }
        self.budget.spend(2 * path.len() + 64).map_err(refuse)?;
        if let Some(Item::Tensor { tensor, .. }) = file.item(value) {
            let path = if path.is_empty() { "tensor" } else { path };
            self.budget.spend_tensor(path).map_err(refuse)?;
            self.found.extend(tensor.as_ref().map(|tensor| Found { path: path.to_owned(), item: number, tensor }));
            return Ok(());
        }
        let Some(pairs) = file.pairs(value) else { return Ok(()) };
        match self.seen.get_mut(number) {
            Some(seen) if !*seen => *seen = true,
            _ => return Ok(()),
        }
        // Many objects may share their fields.
        self.budget.spend(8 * pairs.len()).map_err(refuse)?;
        // Only an object's own list of modules gives way to their numbers.
        let is_module = file.class(value).is_some();
        // A DenseConnectLayerCustom lists the same tensors once more, under copies of net1 and net2.
        let is_twice = file.field(value, "net1").is_some();
        for (key, inner) in sorted(pairs) {
            if matches!(key, Value::Text(text) if text.len() > LONGEST_KEY) {
                return Err(refuse("a key in it is longer than any name"));
            }
            let name = show(*key);
            if is_twice && name == "modules" {
                continue;
            }
            let path = if is_module && name == "modules" { path.to_owned() } else { join(path, &name) };
            self.collect(*inner, &path, depth + 1)?;
        }
        Ok(())
    }
}

/// A path with one more step.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Pairs in a fixed order: the file's is Lua's hash order. Numbers first, then texts, then the rest.
pub(super) fn sorted<'s, 'a>(pairs: &'s [(Value<'a>, Value<'a>)]) -> Vec<&'s (Value<'a>, Value<'a>)> {
    let mut pairs: Vec<_> = pairs.iter().collect();
    let kind = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::Text(_) => 1,
        Value::Boolean(_) => 2,
        Value::Item(_) => 3,
        Value::Nil => 4,
    };
    pairs.sort_by(|(a, _), (b, _)| match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.total_cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Item(a), Value::Item(b)) => a.cmp(b),
        _ => kind(a).cmp(&kind(b)),
    });
    pairs
}

/// A plain value in words.
pub(super) fn show(value: Value) -> String {
    match value {
        Value::Nil => "nil".into(),
        Value::Number(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Text(text) => text.escape_ascii().to_string(),
        Value::Item(number) => format!("#{number}"),
    }
}
