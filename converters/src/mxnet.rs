//! MXNet's `.params`: a list of NDArrays with their names (MXNet 1.9.1, ndarray.cc), and the `-symbol.json` beside it, which
//! says what the network does with them.

use std::collections::{BTreeMap, HashSet};

use densenet_arch::{Head, Rounding};
use serde::Deserialize;

use crate::alloc::Budget;
use crate::checkpoint::Node as Shown;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::graph::{Graph, Node, Op, Window};
use crate::mapping::Mapping;
use crate::source::Source;
use crate::storage::Storage;
use crate::tensor::{DType, Tensor};

pub(crate) const FORMAT: &str = "mxnet";
const LIST: u64 = 0x112;
const V1: u32 = 0xf993_fac8;
const V2: u32 = 0xf993_fac9;
/// The same with shapes as NumPy has them.
const V3: u32 = 0xf993_faca;
/// The symbol of DenseNet-201 takes 600 kB.
const MOST_SYMBOL: usize = 2 << 20;
const MOST_ARRAYS: usize = 32_768;

/// A parsed file.
#[derive(Debug)]
pub(crate) struct File {
    symbol: Option<Symbol>,
}

#[derive(Debug, Deserialize)]
struct Symbol {
    nodes: Vec<Operator>,
}

#[derive(Debug, Deserialize)]
struct Operator {
    op: String,
    name: String,
    /// The attributes; files of before MXNet 1.0 have them in one or both of the others.
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    #[serde(default)]
    attr: BTreeMap<String, String>,
    #[serde(default)]
    param: BTreeMap<String, String>,
    inputs: Vec<Vec<usize>>,
}

/// Whether the bytes begin as a list of NDArrays.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.starts_with(&LIST.to_le_bytes())
}

/// The name of the symbol beside a file: `densenet-121-symbol.json` beside `densenet-121-0000.params`.
pub(crate) fn symbol_file(file: &str) -> Option<String> {
    let stem = file.strip_suffix(".params")?;
    let epoch =
        stem.rsplit_once('-').filter(|(_, epoch)| epoch.len() == 4 && epoch.bytes().all(|b| b.is_ascii_digit()));
    Some(format!("{}-symbol.json", epoch.map_or(stem, |(name, _)| name)))
}

/// Every array under its name.
pub(crate) fn read<'a>(
    source: &Source<'a>,
    bytes: &'a [u8],
    budget: &mut Budget,
) -> Result<(File, Vec<(String, Tensor<'a>)>), Error> {
    let mut cursor = Cursor::new(bytes, FORMAT);
    if cursor.u64()? != LIST || cursor.u64()? != 0 {
        return Err(cursor.error_at(0, "no list of NDArrays"));
    }
    // An array takes 16 bytes at least, a name 8.
    let count = count(&mut cursor, 16)?;
    let mut arrays = Vec::new();
    for _ in 0..count {
        budget.spend(512).map_err(|reason| cursor.error(reason))?;
        arrays.push((cursor.at(), array(&mut cursor)?));
    }
    let at = cursor.at();
    let named = self::count(&mut cursor, 8)?;
    if named != 0 && named != count {
        return Err(cursor.error_at(at, format!("{count} arrays and {named} names")));
    }
    let mut tensors = Vec::new();
    for (index, (at, array)) in arrays.into_iter().enumerate() {
        let name = if named == 0 { index.to_string() } else { name(&mut cursor)? };
        let refuse = |reason| Error::Tensor { format: FORMAT, offset: at, tensor: name.clone(), reason };
        budget.spend_tensor(&name).map_err(|reason| refuse(reason.to_owned()))?;
        let tensor = array.map_err(refuse)?;
        tensors.push((name, tensor));
    }
    if cursor.remaining() > 0 {
        return Err(cursor.error(format!("{} bytes follow the last name", cursor.remaining())));
    }
    let symbol = source.neighbours().find(|(name, _)| name.ends_with("-symbol.json"));
    let symbol = symbol.map(|(name, text)| symbol_of(name, text)).transpose()?;
    Ok((File { symbol }, tensors))
}

/// A count of things that take `least` bytes each.
fn count(cursor: &mut Cursor, least: usize) -> Result<usize, Error> {
    let at = cursor.at();
    let count = cursor.u64()?;
    match usize::try_from(count) {
        Ok(count) if count <= MOST_ARRAYS && count <= cursor.remaining() / least => Ok(count),
        _ => Err(cursor.error_at(at, format!("{count} are announced and {} bytes are left", cursor.remaining()))),
    }
}

fn name(cursor: &mut Cursor) -> Result<String, Error> {
    let at = cursor.at();
    let len = usize::try_from(cursor.u64()?).unwrap_or(usize::MAX);
    let name = cursor.take(len)?;
    String::from_utf8(name.to_vec()).map_err(|_| cursor.error_at(at, "a name is no UTF-8"))
}

/// One array; the inner error is of a sort that is known and not supported, or of a shape that does not fit.
fn array<'a>(cursor: &mut Cursor<'a>) -> Result<Result<Tensor<'a>, String>, Error> {
    let at = cursor.at();
    let magic = cursor.u32()?;
    if matches!(magic, V2 | V3) && cursor.i32()? != 0 {
        return Err(cursor.error_at(at, "a sparse array, which is not supported"));
    }
    let (dimensions, wide) = match magic {
        V1 | V2 | V3 => (cursor.u32()?, true),
        // The first version has no magic, but begins with the number of dimensions.
        dimensions => (dimensions, false),
    };
    let dimensions = dimensions as usize;
    if dimensions > Tensor::MOST_DIMENSIONS {
        return Err(cursor.error_at(at, format!("an array of {dimensions} dimensions")));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let size = if wide { usize::try_from(cursor.i64()?).ok() } else { Some(cursor.u32()? as usize) };
        shape.push(size.ok_or_else(|| cursor.error_at(at, "an array with a negative size"))?);
    }
    // An array without a shape has no data either; under V3 it is one number.
    if dimensions == 0 && magic != V3 {
        return Ok(Tensor::contiguous(DType::F32, vec![0], Storage::plain(&[])));
    }
    // The device that it was on.
    cursor.take(8)?;
    let dtype = match cursor.i32()? {
        0 => DType::F32,
        1 => DType::F64,
        2 => DType::F16,
        3 => DType::U8,
        4 => DType::I32,
        5 => DType::I8,
        6 => DType::I64,
        7 => DType::Bool,
        12 => DType::BF16,
        kind => return Err(cursor.error_at(at, format!("an array of type {kind}, which is unknown"))),
    };
    let elements = shape.iter().try_fold(1_usize, |all, &size| all.checked_mul(size));
    let bytes = elements.and_then(|elements| elements.checked_mul(dtype.size()));
    let data = cursor.take(bytes.unwrap_or(usize::MAX))?;
    Ok(Tensor::contiguous(dtype, shape, Storage::plain(data)))
}

fn symbol_of(file: &str, text: &[u8]) -> Result<Symbol, Error> {
    let refuse =
        |reason: String| Error::Malformed { format: "mxnet symbol", offset: 0, reason: format!("{file}: {reason}") };
    if text.len() > MOST_SYMBOL {
        return Err(refuse(format!("{} bytes; no DenseNet's symbol has more than {MOST_SYMBOL}", text.len())));
    }
    serde_json::from_slice(text).map_err(|error| refuse(error.to_string()))
}

impl File {
    pub(crate) fn tree(&self) -> Vec<Shown> {
        let Some(symbol) = &self.symbol else { return Vec::new() };
        let operators = symbol.nodes.iter().filter(|node| node.op != "null");
        let shown = operators.map(|node| {
            let attrs = node.attrs.iter().chain(&node.attr).chain(&node.param);
            let attrs: Vec<_> = attrs.map(|(key, value)| format!("{key}={value}")).collect();
            Shown { name: node.name.clone(), text: format!("{}({})", node.op, attrs.join(", ")), children: Vec::new() }
        });
        vec![Shown { name: "symbol".into(), text: "beside the file".into(), children: shown.collect() }]
    }

    /// By the symbol, where it is there.
    pub(crate) fn mapping<'a>(&self, tensors: &[(String, Tensor<'a>)]) -> Result<Option<Mapping<'a>>, Error> {
        let Some(symbol) = &self.symbol else { return Ok(None) };
        let fixed = symbol.fixed();
        let rule = |name: &str| fixed.contains(plain(name)).then_some("a gamma that fix_gamma replaces by 1");
        let names: BTreeMap<&str, &str> = tensors.iter().map(|(name, _)| (plain(name), name.as_str())).collect();
        symbol.graph(&names)?.mapping(tensors.to_vec(), rule).map(Some)
    }
}

/// A name without the list that it is in.
pub(crate) fn plain(name: &str) -> &str {
    name.strip_prefix("arg:").or_else(|| name.strip_prefix("aux:")).unwrap_or(name)
}

impl Operator {
    fn attr(&self, name: &str) -> Option<&str> {
        [&self.attrs, &self.attr, &self.param].into_iter().find_map(|attrs| attrs.get(name)).map(String::as_str)
    }

    fn is(&self, name: &str) -> bool {
        matches!(self.attr(name), Some("True" | "true" | "1"))
    }

    /// The one number of a tuple such as `(3, 3)`.
    fn square(&self, name: &str, missing: usize) -> Option<usize> {
        let Some(text) = self.attr(name) else { return Some(missing) };
        let mut numbers = text.trim_matches(['(', ')', '[', ']']).split(',').map(str::trim).filter(|n| !n.is_empty());
        let Some(first) = numbers.next() else { return Some(missing) };
        numbers.all(|number| number == first).then(|| first.trim_end_matches('L').parse().ok())?
    }

    fn window(&self) -> Option<Window> {
        if self.square("dilate", 1) != Some(1) || self.square("num_group", 1) != Some(1) {
            return None;
        }
        Some(Window {
            kernel: self.square("kernel", 0)?,
            stride: self.square("stride", 1)?,
            padding: self.square("pad", 0)?,
        })
    }

    fn op(&self) -> Op {
        let other = |reason: &str| Op::Other(reason.to_owned());
        let square = "its window is not square, of one group and without dilation";
        match self.op.as_str() {
            "Convolution" => self.window().map_or_else(|| other(square), Op::Conv),
            "BatchNorm" => match self.attr("eps").unwrap_or("0.001").parse() {
                Ok(eps) if self.attr("axis").is_none_or(|axis| axis == "1") => Op::Norm { eps },
                _ => other("its eps is no number, or its axis not that of the channels"),
            },
            "Activation" if self.attr("act_type") == Some("relu") => Op::Relu,
            "relu" => Op::Relu,
            "Pooling" => {
                let rounding = match self.attr("pooling_convention").unwrap_or("valid") {
                    "valid" => Rounding::Floor,
                    "full" => Rounding::Ceil,
                    _ => return other("it rounds neither down nor up"),
                };
                match (self.attr("pool_type").unwrap_or("max"), self.window()) {
                    ("avg", _) if self.is("global_pool") => Op::GlobalAverage,
                    ("avg", Some(window)) => Op::AveragePool(window, Some(rounding)),
                    ("max", Some(window)) if !self.is("global_pool") => Op::MaxPool(window, Some(rounding)),
                    _ => other("neither a maximum nor an average over squares"),
                }
            }
            "Concat" | "concat" if self.attr("dim").is_none_or(|dim| dim == "1") => Op::Concat,
            "FullyConnected" => Op::Linear { transposed: false },
            "SoftmaxOutput" | "softmax" | "SoftmaxActivation" => Op::Head(Head::Softmax),
            "log_softmax" => Op::Head(Head::LogSoftmax),
            "Dropout" | "identity" | "_copy" | "BlockGrad" => Op::Same,
            "Flatten" | "flatten" | "Reshape" | "reshape" => Op::Flatten,
            _ => other("no operator of a DenseNet"),
        }
    }
}

impl Symbol {
    /// The gammas that count as 1, whatever they hold.
    fn fixed(&self) -> HashSet<&str> {
        let norms = self.nodes.iter().filter(|node| node.op == "BatchNorm");
        let fixed = norms.filter(|node| node.attr("fix_gamma").is_none_or(|fixed| fixed != "False" && fixed != "0"));
        fixed.filter_map(|node| Some(self.nodes.get(*node.inputs.get(1)?.first()?)?.name.as_str())).collect()
    }

    fn graph(&self, names: &BTreeMap<&str, &str>) -> Result<Graph, Error> {
        let mut graph = Graph { input: String::new(), nodes: Vec::new() };
        // The value of an operator is called by its number, a tensor by its name in the file.
        let value = |name: &str| names.get(name).map_or_else(|| name.to_owned(), |name| (*name).to_owned());
        let fixed = self.fixed();
        for (index, node) in self.nodes.iter().enumerate() {
            if node.op == "null" {
                if graph.input.is_empty() && !names.contains_key(node.name.as_str()) {
                    graph.input.clone_from(&node.name);
                }
                continue;
            }
            let mut inputs = Vec::new();
            for input in &node.inputs {
                let from = input.first().and_then(|&from| Some((from, self.nodes.get(from)?)));
                let (from, input) = from.filter(|(from, _)| *from < index).ok_or_else(|| {
                    Error::Layout(format!("its symbol's node {index} reads what does not come before it"))
                })?;
                inputs.push(if input.op == "null" { value(&input.name) } else { format!("#{from}") });
            }
            let op = node.op();
            let inputs = match (&op, &inputs[..]) {
                (Op::Norm { .. }, [map, gamma, beta, rest @ ..]) => {
                    // Old symbols leave the statistics out.
                    let statistics = match rest {
                        [mean, var] => [mean.clone(), var.clone()],
                        _ => ["moving_mean", "moving_var"].map(|field| value(&format!("{}_{field}", node.name))),
                    };
                    let [mean, var] = statistics;
                    let gamma = if fixed.contains(plain(gamma)) { String::new() } else { gamma.clone() };
                    vec![map.clone(), mean, var, gamma, beta.clone()]
                }
                // What follows a softmax's input is the label.
                (Op::Head(_), [map, ..]) => vec![map.clone()],
                _ => inputs,
            };
            graph.nodes.push(Node {
                name: node.name.clone(),
                kind: node.op.clone(),
                op,
                inputs,
                output: format!("#{index}"),
            });
        }
        Ok(graph)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_symbol_lies_beside_the_file_under_its_name_without_the_epoch() {
        assert_eq!(symbol_file("densenet-121-0000.params").as_deref(), Some("densenet-121-symbol.json"));
        assert_eq!(
            symbol_file("densenet-imagenet-121-0125.params").as_deref(),
            Some("densenet-imagenet-121-symbol.json")
        );
        assert_eq!(symbol_file("densenet121-f27dbf2d.params").as_deref(), Some("densenet121-f27dbf2d-symbol.json"));
        assert_eq!(symbol_file("weights.bin"), None);
    }
}
