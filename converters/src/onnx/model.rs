//! The messages of onnx.proto, as far as a network needs them.

use std::collections::BTreeMap;

use super::FORMAT;
use crate::alloc::{Budget, vec_with};
use crate::error::Error;
use crate::storage::Storage;
use crate::tensor::{DType, Tensor};
use crate::wire::{Message, Value};

/// Nodes that `inspect` lists.
pub(super) const MOST_SHOWN: usize = 4096;
/// Entries of the model's metadata.
const MOST_METADATA: usize = 256;

/// A model.
#[derive(Default)]
pub(super) struct Model<'a> {
    pub(super) opset: u64,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) tensors: Vec<(String, Tensor<'a>)>,
    /// What the graph calls its inputs, initialisers among them in old files.
    pub(super) inputs: Vec<&'a str>,
}

/// NodeProto.
#[derive(Default)]
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'a str,
    pub(super) domain: &'a str,
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) attributes: Vec<Attribute<'a>>,
}

/// AttributeProto, without graphs.
#[derive(Default)]
pub(super) struct Attribute<'a> {
    pub(super) name: &'a str,
    pub(super) float: Option<f32>,
    pub(super) int: Option<i64>,
    pub(super) ints: Vec<i64>,
    pub(super) text: &'a [u8],
}

/// Finds a file beside the model by its name.
type Beside<'a, 'f> = &'f dyn Fn(&str) -> Option<&'a [u8]>;

/// Whether the bytes are a model: its version of the format, and a graph.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    let mut message = Message::new(bytes, FORMAT);
    let (mut version, mut graph) = (false, false);
    for _ in 0..64 {
        match message.field() {
            Ok(Some((1, Value::Varint(number)))) => version = number < 1 << 16,
            Ok(Some((7, Value::Bytes(_)))) => graph = true,
            Ok(Some((2..=4 | 6 | 8 | 14 | 20 | 25, Value::Bytes(_)) | (5, Value::Varint(_)))) => {}
            // A model that was cut is one.
            Err(_) => return version,
            Ok(None) => break,
            Ok(Some(_)) => return false,
        }
    }
    version && graph
}

/// The files that a model's tensors lie in, each once. Names that lead elsewhere are refused.
pub(crate) fn external_files(bytes: &[u8]) -> Result<Vec<String>, Error> {
    let mut files = Vec::new();
    let mut model = Message::new(bytes, FORMAT);
    while let Some((number, value)) = model.field()? {
        let (7, Value::Bytes(mut graph)) = (number, value) else { continue };
        while let Some((number, value)) = graph.field()? {
            let (5, Value::Bytes(message)) = (number, value) else { continue };
            let Some(External { file, .. }) = external(message.clone())? else { continue };
            if !files.iter().any(|known| known == file) {
                if files.len() == MOST_FILES {
                    return Err(message.error(format!("its tensors lie in more than {MOST_FILES} files")));
                }
                files.push(file.to_owned());
            }
        }
    }
    Ok(files)
}

const MOST_FILES: usize = 64;

/// Reads a model.
pub(super) fn read<'a>(bytes: &'a [u8], beside: Beside<'a, '_>, budget: &mut Budget) -> Result<Model<'a>, Error> {
    let mut message = Message::new(bytes, FORMAT);
    let mut model = Model::default();
    let mut graphs = 0;
    while let Some((number, value)) = message.field()? {
        match (number, value) {
            (7, Value::Bytes(message)) => {
                graphs += 1;
                graph(message, &mut model, beside, budget)?;
            }
            (8, Value::Bytes(mut import)) => {
                let (mut domain, mut version) = ("", 0);
                while let Some((number, value)) = import.field()? {
                    match (number, value) {
                        (1, Value::Bytes(text)) => domain = text.text()?,
                        (2, Value::Varint(number)) => version = number,
                        _ => {}
                    }
                }
                if matches!(domain, "" | "ai.onnx") {
                    model.opset = version;
                }
            }
            (14, Value::Bytes(entry)) => {
                spend(&entry, budget, 128 + 2 * entry.bytes().len())?;
                let (key, value) = pair(entry.clone())?;
                model.metadata.insert(key.to_owned(), value.to_owned());
                if model.metadata.len() > MOST_METADATA {
                    return Err(entry.error(format!("more than {MOST_METADATA} entries of metadata")));
                }
            }
            _ => {}
        }
    }
    // What a cut file loses is its end.
    if graphs != 1 || model.opset == 0 {
        return Err(message.error("one graph and the version of its operators are expected; is the file whole?"));
    }
    Ok(model)
}

fn spend(message: &Message, budget: &mut Budget, bytes: usize) -> Result<(), Error> {
    budget.spend(bytes).map_err(|reason| message.error(reason))
}

/// GraphProto.
fn graph<'a>(
    mut message: Message<'a>,
    model: &mut Model<'a>,
    beside: Beside<'a, '_>,
    budget: &mut Budget,
) -> Result<(), Error> {
    while let Some((number, value)) = message.field()? {
        let Value::Bytes(inner) = value else { continue };
        match number {
            1 => node(inner, model, beside, budget)?,
            5 => {
                let (name, tensor) = tensor(inner, beside, budget)?;
                model.tensors.push((name, tensor));
            }
            11 => {
                spend(&inner, budget, 32)?;
                let mut info = inner;
                while let Some((number, value)) = info.field()? {
                    if let (1, Value::Bytes(name)) = (number, value) {
                        model.inputs.push(name.text()?);
                    }
                }
            }
            15 => return Err(inner.error("a sparse initialiser, which is not supported")),
            _ => {}
        }
    }
    Ok(())
}

fn node<'a>(
    mut message: Message<'a>,
    model: &mut Model<'a>,
    beside: Beside<'a, '_>,
    budget: &mut Budget,
) -> Result<(), Error> {
    // The node, and its place in the graph that is made of it.
    spend(&message, budget, 512 + 4 * message.bytes().len().min(1024))?;
    let mut node = Node::default();
    let mut constant = None;
    while let Some((number, value)) = message.field()? {
        let Value::Bytes(inner) = value else { continue };
        match number {
            1 | 2 => {
                spend(&inner, budget, 64 + 2 * inner.bytes().len())?;
                if number == 1 { &mut node.inputs } else { &mut node.outputs }.push(inner.text()?);
            }
            3 => node.name = inner.text()?,
            4 => node.kind = inner.text()?,
            7 => node.domain = inner.text()?,
            5 => {
                spend(&inner, budget, 128)?;
                let (attribute, tensor) = attribute(inner, beside, budget)?;
                constant = constant.or(tensor.filter(|_| attribute.name == "value"));
                node.attributes.push(attribute);
            }
            _ => {}
        }
    }
    if let (true, Some(tensor), Some(output)) = (node.kind == "Constant", constant, node.outputs.first()) {
        model.tensors.push(((*output).to_owned(), tensor));
    }
    model.nodes.push(node);
    Ok(())
}

fn attribute<'a>(
    mut message: Message<'a>,
    beside: Beside<'a, '_>,
    budget: &mut Budget,
) -> Result<(Attribute<'a>, Option<Tensor<'a>>), Error> {
    let mut attribute = Attribute::default();
    let mut held = None;
    while let Some((number, value)) = message.field()? {
        match (number, value) {
            (1, Value::Bytes(name)) => attribute.name = name.text()?,
            (2, value) => attribute.float = value.float(),
            (3, Value::Varint(value)) => attribute.int = Some(value as i64),
            (4, Value::Bytes(text)) => attribute.text = text.bytes(),
            (5, Value::Bytes(inner)) => {
                held = Some(tensor(inner, beside, budget)?.1);
            }
            (8, value) => {
                let values = value.numbers()?;
                spend(&message, budget, 8 * values.len())?;
                attribute.ints.extend(values.into_iter().map(|value| value as i64));
            }
            _ => {}
        }
    }
    Ok((attribute, held))
}

/// Where a tensor outside the model lies.
struct External<'a> {
    file: &'a str,
    offset: usize,
    length: Option<usize>,
}

/// Of a TensorProto whose data lie elsewhere.
fn external(mut message: Message) -> Result<Option<External>, Error> {
    let (mut is_external, mut file) = (false, None);
    let (mut offset, mut length) = (0, None);
    let start = message.clone();
    while let Some((number, value)) = message.field()? {
        match (number, value) {
            (14, Value::Varint(location)) => is_external = location == 1,
            (13, Value::Bytes(entry)) => {
                let at = entry.clone();
                let (key, value) = pair(entry)?;
                let number =
                    || value.parse::<usize>().map_err(|_| at.error(format!("external data: {key} is no number")));
                match key {
                    "location" => file = Some(value),
                    "offset" => offset = number()?,
                    "length" => length = Some(number()?),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    if !is_external {
        return Ok(None);
    }
    let file = file.ok_or_else(|| start.error("external data without a location"))?;
    let parts = || file.split('/');
    if parts().any(|part| matches!(part, "" | "." | "..")) || file.contains(['\\', ':', '\0']) {
        let reason = format!("external data in {file:?}: only files beneath the model's folder are read; refused");
        return Err(start.error(reason));
    }
    Ok(Some(External { file, offset, length }))
}

/// StringStringEntryProto.
fn pair(mut entry: Message<'_>) -> Result<(&str, &str), Error> {
    let (mut key, mut text) = ("", "");
    while let Some((number, value)) = entry.field()? {
        match (number, value) {
            (1, Value::Bytes(name)) => key = name.text()?,
            (2, Value::Bytes(value)) => text = value.text()?,
            _ => {}
        }
    }
    Ok((key, text))
}

fn dtype(number: u64) -> Result<DType, String> {
    Ok(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        16 => DType::BF16,
        _ => return Err(format!("its type is number {number} of onnx.proto's, which is not supported")),
    })
}

/// TensorProto. Its numbers stand as they are in memory, or in a field of their type, or in another file.
fn tensor<'a>(
    message: Message<'a>,
    beside: Beside<'a, '_>,
    budget: &mut Budget,
) -> Result<(String, Tensor<'a>), Error> {
    let start = message.at();
    let outside = external(message.clone())?;
    let (mut name, mut kind, mut shape, mut raw) = ("", 0, Vec::new(), None);
    let mut numbers: Option<Vec<u64>> = None;
    let mut typed: Vec<Message<'a>> = Vec::new();
    let mut message = message;
    while let Some((number, value)) = message.field()? {
        match (number, value) {
            (1, value) => {
                shape.extend(value.numbers()?);
                if shape.len() > Tensor::MOST_DIMENSIONS {
                    return Err(message.error(format!("a tensor of more than {} dimensions", Tensor::MOST_DIMENSIONS)));
                }
            }
            (2, Value::Varint(number)) => kind = number,
            (8, Value::Bytes(text)) => name = text.text()?,
            (9, Value::Bytes(bytes)) => raw = Some(bytes.bytes()),
            // float_data and double_data.
            (4 | 10, Value::Bytes(packed)) => {
                spend(&packed, budget, 128)?;
                typed.push(packed);
            }
            // int32_data, which holds halves too, and int64_data.
            (5 | 7, value) => {
                let more = value.numbers()?;
                spend(&message, budget, 8 * more.len())?;
                numbers.get_or_insert_default().extend(more);
            }
            _ => {}
        }
    }
    let refuse = |reason| Error::Tensor { format: FORMAT, offset: start, tensor: name.to_owned(), reason };
    let dtype = dtype(kind).map_err(refuse)?;
    let shape: Vec<usize> = shape.into_iter().map(|size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
    let storage = match (outside, raw, numbers, &typed[..]) {
        (Some(External { file, offset, length }), ..) => {
            let bytes = beside(file)
                .ok_or_else(|| refuse(format!("its data lie in {file:?}, which is not beside the model")))?;
            let rest = bytes.get(offset..);
            let part = rest.and_then(|rest| rest.get(..length.unwrap_or(rest.len())));
            Storage::plain(
                part.ok_or_else(|| refuse(format!("its data leave {file:?}, which has {} bytes", bytes.len())))?,
            )
        }
        (None, Some(raw), ..) => Storage::plain(raw),
        (None, None, Some(numbers), []) => {
            let narrow = numbers.iter().flat_map(|number| number.to_le_bytes().into_iter().take(dtype.size()));
            Storage::owned(narrow.collect())
        }
        (None, None, None, [packed]) => Storage::plain(packed.bytes()),
        (None, None, None, []) => Storage::plain(&[]),
        (None, None, None, several) => {
            let mut joined = vec_with(several.iter().map(|packed| packed.bytes().len()).sum())?;
            for packed in several {
                joined.extend_from_slice(packed.bytes());
            }
            Storage::owned(joined)
        }
        _ => return Err(refuse("its numbers stand in several places".into())),
    };
    budget.spend_tensor(name).map_err(|reason| refuse(reason.to_owned()))?;
    Ok((name.to_owned(), Tensor::contiguous(dtype, shape, storage).map_err(refuse)?))
}
