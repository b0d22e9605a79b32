//! What `torch.save` writes, in all of its containers.

mod archive;
mod legacy;
mod tar;

use std::collections::HashMap;

use crate::alloc::Budget;
use crate::checkpoint::Node as Shown;
use crate::error::Error;
use crate::pickle::{Node, Pickle, PickleName, Value, View};
use crate::storage::Storage;
use crate::tensor::{DType, Tensor};

pub(crate) use archive::{packed, read as read_archive};
pub(crate) use legacy::{looks_like as looks_like_pickle, read as read_legacy, storage_in};
pub(crate) use tar::{looks_like as looks_like_tar, read as read_tar};

/// Nesting of dictionaries, lists and modules.
const DEPTH: usize = 64;

/// A parsed file.
#[derive(Debug)]
pub(crate) struct File<'a> {
    format: &'static str,
    pickle: Pickle<'a>,
    /// Each storage by its key.
    storages: HashMap<&'a [u8], Storage<'a>>,
    /// torch 0.1 describes its tensors beside the pickle.
    tensors_by_number: HashMap<i64, Tensor<'a>>,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct Contents<'a> {
    /// Tensors by their paths through dictionaries, lists and modules.
    pub(crate) tensors: Vec<(String, Tensor<'a>)>,
    /// The eps of modules that have one, by their paths.
    pub(crate) eps: Vec<(String, f64)>,
}

/// Type and count of storages by their keys.
type Declared<'a> = HashMap<&'a [u8], (Option<DType>, i64)>;

/// The storages that the object names; one key has one type and count.
fn declared<'a>(pickle: &Pickle<'a>) -> Result<Declared<'a>, String> {
    let mut declared = HashMap::new();
    for node in pickle.nodes() {
        if let Node::Storage { dtype, key, elements, .. } = *node
            && *declared.entry(key).or_insert((dtype, elements)) != (dtype, elements)
        {
            return Err(format!("storage \"{}\" is named with two types or sizes", key.escape_ascii()));
        }
    }
    Ok(declared)
}

impl<'a> File<'a> {
    fn new(format: &'static str, pickle: Pickle<'a>, storages: HashMap<&'a [u8], Storage<'a>>) -> Self {
        Self { format, pickle, storages, tensors_by_number: HashMap::new() }
    }

    /// All that the pickle names.
    pub(crate) fn names(&self) -> &[PickleName] {
        &self.pickle.names
    }

    /// Every tensor, and what the modules say of themselves.
    pub(crate) fn contents(&self, budget: &mut Budget) -> Result<Contents<'a>, Error> {
        let mut walk = Walk { file: self, found: Contents::default(), unsupported: Vec::new(), more: 0, budget };
        walk.value(self.pickle.root, "", 0)?;
        match &walk.unsupported[..] {
            [] => Ok(walk.found),
            [(tensor, kind), rest @ ..] => {
                let others: Vec<_> = rest.iter().map(|(tensor, kind)| format!("; {tensor:?} is {kind}")).collect();
                let more = if walk.more > 0 { format!("; and {} more", walk.more) } else { String::new() };
                let reason = format!("it is {kind}, which is not supported{}{more}", others.concat());
                Err(Error::Tensor { format: self.format, offset: 0, tensor: tensor.clone(), reason })
            }
        }
    }

    fn tensor(&self, view: &View<'a>) -> Result<Tensor<'a>, String> {
        let sizes = |values: &[i64]| values.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<Vec<_>>>();
        let (Some(shape), Some(strides), Ok(offset)) =
            (sizes(&view.shape), sizes(&view.strides), usize::try_from(view.offset))
        else {
            return Err("a size, stride or offset is negative".into());
        };
        let (dtype, storage) = match self.pickle.node(view.storage) {
            Some(Node::Memory { dtype, storage }) => (view.dtype.unwrap_or(*dtype), storage.clone()),
            Some(Node::Storage { dtype, key, elements, view: part }) => {
                let shown = key.get(..64).unwrap_or(key).escape_ascii();
                let storage = self.storages.get(key);
                let storage = storage.ok_or_else(|| format!("its storage \"{shown}\" is not in the file"))?;
                let size = dtype.map_or(1, DType::size);
                let bytes = |elements: i64| usize::try_from(elements).ok()?.checked_mul(size);
                if bytes(*elements) != Some(storage.len()) {
                    let (held, kind) = (storage.len(), dtype.map_or("bytes", DType::name));
                    let reason =
                        format!("its storage has {held} bytes where {elements} elements of {kind} are announced");
                    return Err(reason);
                }
                let Some(dtype) = view.dtype.or(*dtype) else { return Err("its type is not said".into()) };
                let storage = match part {
                    None => storage.clone(),
                    Some((first, count)) => {
                        let range = bytes(*first).zip(bytes(*count));
                        let part = range.and_then(|(first, count)| storage.part(first, count));
                        part.ok_or_else(|| "a view that leaves its storage".to_owned())?
                    }
                };
                (dtype, storage)
            }
            _ => return Err("it is made of no storage".into()),
        };
        Tensor::new(dtype, shape, strides, offset, storage)
    }

    /// Dictionaries, lists and modules as a tree.
    pub(crate) fn tree(&self) -> Vec<Shown> {
        let seen = vec![false; self.pickle.nodes().len()];
        vec![self.shown(
            String::new(),
            self.pickle.root,
            0,
            &mut Showing { seen, budget: Budget::for_showing(), full: false },
        )]
    }

    fn shown(&self, name: String, value: Value<'a>, depth: usize, showing: &mut Showing) -> Shown {
        if showing.budget.spend(256 + name.len()).is_err() {
            showing.full = true;
            return Shown { name, text: "… (too much to show)".into(), children: Vec::new() };
        }
        let leaf = |text: String| Shown { name: name.clone(), text, children: Vec::new() };
        let Some(node) = self.pickle.node(value) else { return leaf(brief(value)) };
        let numbered = |values: &[Value<'a>]| values.iter().enumerate().map(|(n, v)| (n.to_string(), *v)).collect();
        let (text, inner): (String, Vec<(String, Value<'a>)>) = match node {
            Node::Tensor(view) => return leaf(self.tensor(view).map_or_else(|reason| reason, |t| t.describe())),
            Node::Persistent(number) => {
                let tensor = self.tensors_by_number.get(number);
                return leaf(tensor.map_or_else(|| format!("#{number}"), Tensor::describe));
            }
            Node::Global(meaning) => return leaf(format!("{meaning:?}")),
            Node::Blob(bytes) => return leaf(format!("{} bytes", bytes.len())),
            Node::Storage { elements, .. } => return leaf(format!("storage of {elements} elements")),
            Node::Memory { storage, .. } => return leaf(format!("storage of {} bytes", storage.len())),
            Node::NumpyDType { .. } | Node::NumpyArray => return leaf("a part of NumPy".into()),
            Node::Unsupported(kind) => return leaf((*kind).to_owned()),
            Node::Dict(pairs) => {
                (format!("dict of {}", pairs.len()), pairs.iter().map(|(key, value)| (brief(*key), *value)).collect())
            }
            Node::List(values) => (format!("list of {}", values.len()), numbered(values)),
            Node::Tuple(values) => (format!("tuple of {}", values.len()), numbered(values)),
            Node::Object { class, values, state } => {
                let class = class.and_then(|class| self.pickle.names.get(class));
                let mut inner: Vec<_> = numbered(values);
                match state.map(|state| (state, self.pickle.dict(state))) {
                    Some((_, Some(pairs))) => inner.extend(pairs.iter().map(|(key, value)| (brief(*key), *value))),
                    Some((state, None)) => inner.push(("state".into(), state)),
                    None => {}
                }
                (class.map_or("object", |name| &name.name).to_owned(), inner)
            }
        };
        if inner.is_empty() {
            return leaf(text);
        }
        let Value::Node(number) = value else { return leaf(text) };
        match showing.seen.get_mut(number) {
            Some(seen) if !*seen && depth < DEPTH => *seen = true,
            _ => return leaf(format!("{text} (shown above)")),
        }
        let mut children = Vec::new();
        for (name, value) in inner {
            if showing.full {
                break;
            }
            children.push(self.shown(name, value, depth + 1, showing));
        }
        Shown { name, text, children }
    }
}

/// How far showing has come.
struct Showing {
    seen: Vec<bool>,
    budget: Budget,
    full: bool,
}

/// From the root to every tensor.
struct Walk<'f, 'a, 'b> {
    file: &'f File<'a>,
    found: Contents<'a>,
    /// The first tensors of kinds that are refused, and how many more there are.
    unsupported: Vec<(String, &'static str)>,
    more: usize,
    /// A value that is referred to again and again is walked again: lists of lists can make that endless.
    budget: &'b mut Budget,
}

impl<'a> Walk<'_, 'a, '_> {
    fn value(&mut self, value: Value<'a>, path: &str, depth: usize) -> Result<(), Error> {
        let file = self.file;
        if depth > DEPTH {
            return Err(self.refuse(path, format!("nested more than {DEPTH} deep, or in itself")));
        }
        self.spend(path, path.len() + 64)?;
        match file.pickle.node(value) {
            Some(Node::Tensor(view)) => {
                let tensor = file.tensor(view).map_err(|reason| Error::Tensor {
                    format: file.format,
                    offset: view.at,
                    tensor: path.to_owned(),
                    reason,
                })?;
                self.take(tensor, path)?;
            }
            Some(Node::Persistent(number)) => {
                if let Some(tensor) = file.tensors_by_number.get(number) {
                    self.take(tensor.clone(), path)?;
                }
            }
            Some(Node::Unsupported(kind)) if self.unsupported.len() < 8 => {
                self.unsupported.push((path.to_owned(), kind));
            }
            Some(Node::Unsupported(_)) => self.more += 1,
            Some(Node::Dict(pairs)) => {
                for (key, inner) in pairs {
                    self.value(*inner, &join(path, &show(*key)), depth + 1)?;
                }
            }
            Some(Node::List(values) | Node::Tuple(values)) => {
                for (index, inner) in values.iter().enumerate() {
                    self.value(*inner, &join(path, &index.to_string()), depth + 1)?;
                }
            }
            Some(Node::Object { class: None, values, state }) => {
                for (index, inner) in values.iter().enumerate() {
                    self.value(*inner, &join(path, &index.to_string()), depth + 1)?;
                }
                if let Some(state) = state {
                    self.value(*state, path, depth + 1)?;
                }
            }
            Some(Node::Object { class: Some(_), state: Some(state), .. }) => self.module(*state, path, depth)?,
            _ => {}
        }
        Ok(())
    }

    /// A module: what it registered. TorchScript keeps everything as attributes.
    fn module(&mut self, state: Value<'a>, path: &str, depth: usize) -> Result<(), Error> {
        let pickle = &self.file.pickle;
        let attributes = pickle.dict(state).unwrap_or_default();
        // It is looked through at every visit, and may be visited often.
        self.spend(path, 8 * attributes.len())?;
        if pickle.get(state, "_parameters").is_none() {
            for (key, inner) in attributes {
                let is_part = matches!(
                    pickle.node(*inner),
                    Some(Node::Tensor(_) | Node::Object { class: Some(_), .. } | Node::Unsupported(_))
                );
                if is_part {
                    self.value(*inner, &join(path, &show(*key)), depth + 1)?;
                }
            }
            return Ok(());
        }
        for part in ["_parameters", "_buffers", "_modules"] {
            let part = pickle.get(state, part);
            for (key, inner) in part.and_then(|part| pickle.dict(part)).unwrap_or_default() {
                self.value(*inner, &join(path, &show(*key)), depth + 1)?;
            }
        }
        if let Some(Value::Float(eps)) = pickle.get(state, "eps") {
            self.found.eps.push((path.to_owned(), eps));
        }
        Ok(())
    }

    fn take(&mut self, tensor: Tensor<'a>, path: &str) -> Result<(), Error> {
        let path = if path.is_empty() { "tensor" } else { path };
        self.budget.spend_tensor(path).map_err(|reason| self.refuse(path, reason.to_owned()))?;
        self.found.tensors.push((path.to_owned(), tensor));
        Ok(())
    }

    fn spend(&mut self, path: &str, bytes: usize) -> Result<(), Error> {
        self.budget
            .spend(bytes)
            .map_err(|_| self.refuse(path, "the file refers to the same parts again and again".into()))
    }

    fn refuse(&self, path: &str, reason: String) -> Error {
        Error::Tensor { format: self.file.format, offset: 0, tensor: path.to_owned(), reason }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn show(value: Value) -> String {
    match value {
        Value::None => "None".into(),
        Value::Bool(boolean) => boolean.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Big(bytes) => format!("integer of {} bytes", bytes.len()),
        Value::Float(number) => number.to_string(),
        Value::Text(text) | Value::Bytes(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Node(_) => "…".into(),
    }
}

/// The same, cut to what fits a line.
fn brief(value: Value) -> String {
    match value {
        Value::Text(text) | Value::Bytes(text) if text.len() > 100 => {
            format!("{}…", String::from_utf8_lossy(text.get(..100).unwrap_or_default()))
        }
        value => show(value),
    }
}
