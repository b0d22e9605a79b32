//! Every name that a pickle uses, and whether the pickle may use it.

use std::collections::HashMap;

use super::globals::{can_be_module, find};
use super::machine::{Machine, Trouble, trouble};
use super::{Global, Node, Pickle, PickleName, Value, Verdict};
use crate::cursor::Cursor;
use crate::error::Error;

/// A name longer than this is none.
const LONGEST_NAME: usize = 512;

impl<'a> Machine<'a, '_> {
    pub(super) fn global(&mut self, module: &[u8], name: &[u8], at: usize) -> Result<(), Trouble> {
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

    pub(super) fn is_refused(&self) -> bool {
        self.names.iter().any(|name| name.verdict == Verdict::Refused)
    }

    pub(super) fn refusal(self, cursor: &Cursor) -> Error {
        let first = self.names.iter().find(|name| name.verdict == Verdict::Refused);
        let (name, offset) = first.map(|name| (name.name.clone(), name.offset)).unwrap_or_default();
        Error::Unsafe { format: cursor.format(), offset, name, names: self.names }
    }

    /// Settles which of the unknown names are classes of modules.
    pub(super) fn finish(mut self, root: Value<'a>, cursor: &Cursor<'a>) -> Result<Pickle<'a>, Error> {
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
        // Many objects may share one state.
        let mut modules: HashMap<usize, bool> = HashMap::new();
        for (class, state) in self.nodes.iter().filter_map(objects) {
            let script = self.names.get(class).is_some_and(|name| name.name.starts_with("__torch__."));
            let is_module = match state {
                Some(Value::Node(number)) => *modules.entry(number).or_insert_with(|| match self.nodes.get(number) {
                    Some(Node::Dict(pairs)) => pairs.iter().any(|(key, _)| *key == Value::Text(b"_parameters")),
                    _ => false,
                }),
                _ => false,
            };
            if !(script && state.is_some() || is_module) {
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
        for number in &self.called {
            set(*number, Verdict::Refused);
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
