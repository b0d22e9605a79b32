//! Caffe's `.caffemodel`: a NetParameter with the layers and their blobs (BVLC Caffe 9b89154, caffe.proto).

use densenet_arch::Head;

use crate::alloc::{Budget, vec_with};
use crate::checkpoint::Node as Shown;
use crate::error::Error;
use crate::graph::{Graph, Node, Op, Window};
use crate::mapping::Mapping;
use crate::storage::Storage;
use crate::tensor::{DType, Tensor};
use crate::wire::{Message, Value, decimal};

pub(crate) const FORMAT: &str = "caffe";

/// A parsed file.
#[derive(Debug)]
pub(crate) struct File {
    graph: Graph,
    tree: Vec<Shown>,
}

/// The numbers of a layer's fields: today's LayerParameter and the older V1LayerParameter.
struct Fields {
    name: u64,
    kind: u64,
    bottom: u64,
    top: u64,
    blobs: u64,
    convolution: u64,
    pooling: u64,
    relu: u64,
}

const LAYER: Fields =
    Fields { name: 1, kind: 2, bottom: 3, top: 4, blobs: 7, convolution: 106, pooling: 121, relu: 123 };
const V1_LAYER: Fields =
    Fields { name: 4, kind: 5, bottom: 2, top: 3, blobs: 6, convolution: 10, pooling: 19, relu: 30 };
const BATCH_NORM: u64 = 139;

/// The old layers' types that a DenseNet may have.
const V1_KINDS: [(u64, &str); 11] = [
    (1, "Accuracy"),
    (3, "Concat"),
    (4, "Convolution"),
    (5, "Data"),
    (6, "Dropout"),
    (12, "ImageData"),
    (14, "InnerProduct"),
    (17, "Pooling"),
    (18, "ReLU"),
    (20, "Softmax"),
    (22, "Split"),
];

#[derive(Default)]
struct Layer<'a> {
    name: &'a str,
    kind: String,
    bottoms: Vec<String>,
    tops: Vec<String>,
    blobs: Vec<Tensor<'a>>,
    convolution: Sizes,
    pooling: Sizes,
    /// Of a batch norm.
    eps: Option<f32>,
    slope: f32,
}

/// The numbers of a convolution or a pooling.
#[derive(Default)]
struct Sizes {
    kernel: Vec<u64>,
    stride: Vec<u64>,
    padding: Vec<u64>,
    /// Groups and dilations other than 1.
    other: bool,
    average: bool,
    global: bool,
}

impl Sizes {
    /// One number, which may have been given once, twice, or not at all.
    fn one(values: &[u64], missing: u64) -> Option<usize> {
        let first = values.first().copied().unwrap_or(missing);
        values.iter().all(|&value| value == first).then(|| usize::try_from(first).ok())?
    }

    fn window(&self) -> Option<Window> {
        let kernel = Self::one(&self.kernel, 0)?;
        Some(Window { kernel, stride: Self::one(&self.stride, 1)?, padding: Self::one(&self.padding, 0)? })
    }
}

/// Whether the bytes are those of a network with layers: each field at the top has the type that Caffe gives it.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    let mut message = Message::new(bytes, FORMAT);
    let mut layers = 0_usize;
    // A long file is told by its beginning.
    for _ in 0..64 {
        match message.field() {
            Ok(Some((1 | 3 | 6 | 8, Value::Bytes(_)) | (4 | 5 | 7, Value::Varint(_)))) => {}
            Ok(Some((2 | 100, Value::Bytes(_)))) => layers += 1,
            Ok(None) | Err(_) => break,
            Ok(Some(_)) => return false,
        }
    }
    layers > 0
}

/// Every blob as `LAYER.NUMBER`.
pub(crate) fn read<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<(File, Vec<(String, Tensor<'a>)>), Error> {
    let mut net = Message::new(bytes, FORMAT);
    let mut graph = Graph { input: String::new(), nodes: Vec::new() };
    let (mut tree, mut tensors) = (Vec::new(), Vec::new());
    while let Some((number, value)) = net.field()? {
        let (message, fields) = match (number, value) {
            (3, Value::Bytes(name)) => {
                if graph.input.is_empty() {
                    name.text()?.clone_into(&mut graph.input);
                }
                continue;
            }
            (100, Value::Bytes(message)) => (message, LAYER),
            (2, Value::Bytes(message)) => (message, V1_LAYER),
            _ => continue,
        };
        let at = message.at();
        let spend = |budget: &mut Budget, bytes| budget.spend(bytes).map_err(|reason| message.error(reason));
        spend(budget, 512)?;
        let layer = layer(message.clone(), &fields, budget)?;
        let mut children = Vec::new();
        for (index, tensor) in layer.blobs.iter().enumerate() {
            let name = format!("{}.{index}", layer.name);
            budget.spend_tensor(&name).map_err(|reason| message.error(reason))?;
            children.push(Shown { name: index.to_string(), text: tensor.describe(), children: Vec::new() });
            tensors.push((name, tensor.clone()));
        }
        tree.push(Shown { name: layer.name.to_owned(), text: layer.kind.clone(), children });
        let names: usize = layer.bottoms.iter().chain(&layer.tops).map(String::len).sum();
        spend(budget, 512 + 4 * (names + layer.name.len()) + 256 * layer.tops.len())?;
        layer.add_to(&mut graph, at);
    }
    Ok((File { graph, tree }, tensors))
}

impl File {
    pub(crate) fn tree(&self) -> Vec<Shown> {
        self.tree.clone()
    }

    pub(crate) fn mapping<'a>(&self, tensors: Vec<(String, Tensor<'a>)>) -> Result<Mapping<'a>, Error> {
        self.graph.mapping(tensors, |_| None)
    }
}

fn layer<'a>(mut message: Message<'a>, fields: &Fields, budget: &mut Budget) -> Result<Layer<'a>, Error> {
    let mut layer = Layer::default();
    while let Some((number, value)) = message.field()? {
        match value {
            Value::Bytes(name) if number == fields.name => layer.name = name.text()?,
            Value::Bytes(kind) if number == fields.kind => kind.text()?.clone_into(&mut layer.kind),
            Value::Varint(kind) if number == fields.kind => {
                let known = V1_KINDS.iter().find(|(number, _)| *number == kind);
                layer.kind = known.map_or_else(|| format!("V1 type {kind}"), |(_, name)| (*name).to_owned());
            }
            Value::Bytes(name) if number == fields.bottom || number == fields.top => {
                budget.spend(64 + name.bytes().len()).map_err(|reason| name.error(reason))?;
                let list = if number == fields.bottom { &mut layer.bottoms } else { &mut layer.tops };
                list.push(name.text()?.to_owned());
            }
            Value::Bytes(message) if number == fields.blobs => {
                budget.spend(512).map_err(|reason| message.error(reason))?;
                layer.blobs.push(blob(message, budget)?);
            }
            Value::Bytes(message) if number == fields.convolution => layer.convolution = convolution(message, budget)?,
            Value::Bytes(message) if number == fields.pooling => layer.pooling = pooling(message)?,
            Value::Bytes(mut message) if number == fields.relu => {
                while let Some((number, value)) = message.field()? {
                    if number == 1 {
                        layer.slope = value.float().unwrap_or(f32::NAN);
                    }
                }
            }
            Value::Bytes(mut message) if number == BATCH_NORM => {
                while let Some((number, value)) = message.field()? {
                    if number == 3 {
                        layer.eps = value.float();
                    }
                }
            }
            _ => {}
        }
    }
    Ok(layer)
}

/// ConvolutionParameter.
fn convolution(mut message: Message, budget: &mut Budget) -> Result<Sizes, Error> {
    let mut sizes = Sizes::default();
    while let Some((number, value)) = message.field()? {
        if !matches!(number, 3..=6 | 9..=14 | 18) {
            continue;
        }
        let values = value.numbers()?;
        budget.spend(8 * values.len()).map_err(|reason| message.error(reason))?;
        match number {
            3 | 9 | 10 => sizes.padding.extend(values),
            4 | 11 | 12 => sizes.kernel.extend(values),
            6 | 13 | 14 => sizes.stride.extend(values),
            _ => sizes.other |= values.iter().any(|&value| value != 1),
        }
    }
    Ok(sizes)
}

/// PoolingParameter. Its `round_mode` is not asked: the field that BVLC gave this number says something else in the forks
/// that the published files come from, whose `ceil_mode: false` means the opposite.
fn pooling(mut message: Message) -> Result<Sizes, Error> {
    let mut sizes = Sizes::default();
    while let Some((number, value)) = message.field()? {
        let Value::Varint(value) = value else { continue };
        match number {
            1 => {
                sizes.average = value == 1;
                sizes.other = value > 1;
            }
            2 => sizes.kernel = vec![value],
            5 | 6 => sizes.kernel.push(value),
            3 => sizes.stride = vec![value],
            7 | 8 => sizes.stride.push(value),
            4 => sizes.padding = vec![value],
            9 | 10 => sizes.padding.push(value),
            12 => sizes.global = value != 0,
            _ => {}
        }
        // No size is given more often than twice.
        for list in [&mut sizes.kernel, &mut sizes.stride, &mut sizes.padding] {
            list.truncate(3);
        }
    }
    Ok(sizes)
}

/// BlobProto: a shape, or four sizes as it was before that; data as f32, or as f64.
fn blob<'a>(mut message: Message<'a>, budget: &mut Budget) -> Result<Tensor<'a>, Error> {
    let start = message.clone();
    let (mut shape, mut old) = (None, [None; 4]);
    let mut data: Vec<(DType, Message<'a>)> = Vec::new();
    let mut single = Vec::new();
    while let Some((number, value)) = message.field()? {
        match (number, value) {
            (1..=4, Value::Varint(size)) => {
                if let Some(old) = old.get_mut(number as usize - 1) {
                    *old = Some(size);
                }
            }
            (5, Value::Bytes(packed)) => data.push((DType::F32, packed)),
            (8, Value::Bytes(packed)) => data.push((DType::F64, packed)),
            // Each with its own key, as before packing: five bytes for four.
            (5, Value::Fixed32(value)) => single.extend(value),
            (7, Value::Bytes(mut dimensions)) => {
                let mut sizes = Vec::new();
                while let Some((number, value)) = dimensions.field()? {
                    if number == 1 {
                        sizes.extend(value.numbers()?);
                    }
                    if sizes.len() > Tensor::MOST_DIMENSIONS {
                        return Err(
                            dimensions.error(format!("a blob of more than {} dimensions", Tensor::MOST_DIMENSIONS))
                        );
                    }
                }
                shape = Some(sizes);
            }
            _ => {}
        }
        budget.spend(64).map_err(|reason| start.error(reason))?;
    }
    let (dtype, storage) = match &data[..] {
        [(dtype, packed)] if single.is_empty() => (*dtype, Storage::plain(packed.bytes())),
        [] => (DType::F32, Storage::owned(single)),
        [(dtype, _), ..] if single.is_empty() && data.iter().all(|(other, _)| other == dtype) => {
            let mut joined = vec_with(data.iter().map(|(_, packed)| packed.bytes().len()).sum())?;
            for (_, packed) in &data {
                joined.extend_from_slice(packed.bytes());
            }
            (*dtype, Storage::owned(joined))
        }
        _ => return Err(start.error("a blob with numbers of two kinds")),
    };
    let shape = match shape {
        Some(sizes) => sizes,
        None if old.iter().any(Option::is_some) => old.iter().map(|size| size.unwrap_or(1)).collect(),
        None => vec![(storage.len() / dtype.size()) as u64],
    };
    let shape = shape.into_iter().map(|size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
    Tensor::contiguous(dtype, shape, storage).map_err(|reason| start.error(format!("a blob: {reason}")))
}

impl Layer<'_> {
    /// The nodes that it stands for.
    fn add_to(&self, graph: &mut Graph, at: usize) {
        let (Some(bottom), Some(top)) = (self.bottoms.first(), self.tops.first()) else {
            // Where images come from.
            if let (true, Some(top)) = (graph.input.is_empty(), self.tops.first()) {
                graph.input.clone_from(top);
            }
            return;
        };
        let blob =
            |index: usize| if index < self.blobs.len() { format!("{}.{index}", self.name) } else { String::new() };
        let mut add = |op, from: &str, tensors: &[usize], top: &str| {
            let inputs = std::iter::once(from.to_owned()).chain(tensors.iter().map(|&index| blob(index))).collect();
            graph.nodes.push(Node {
                name: self.name.to_owned(),
                kind: self.kind.clone(),
                op,
                inputs,
                output: top.to_owned(),
            });
        };
        let other = |reason: &str| Op::Other(format!("{reason} (byte {at})"));
        match self.kind() {
            "Convolution" => {
                let window = self.convolution.window().filter(|_| !self.convolution.other);
                let op = window.map_or_else(|| other("no square window of one group"), Op::Conv);
                add(op, bottom, &[0, 1], top);
            }
            "BatchNorm" => {
                let op = Op::Norm { eps: decimal(self.eps.unwrap_or(1e-5)) };
                graph.nodes.push(Node {
                    name: self.name.to_owned(),
                    kind: self.kind.clone(),
                    op,
                    inputs: vec![bottom.clone(), blob(0), blob(1), String::new(), String::new(), blob(2)],
                    output: top.clone(),
                });
            }
            "Scale" => {
                add(Op::Scale, bottom, &[0], top);
                if self.blobs.len() > 1 {
                    add(Op::Shift, top, &[1], top);
                }
            }
            "ReLU" if self.slope == 0.0 => add(Op::Relu, bottom, &[], top),
            "Pooling" if self.pooling.global && self.pooling.average => add(Op::GlobalAverage, bottom, &[], top),
            "Pooling" => {
                let op = match self.pooling.window().filter(|_| !self.pooling.other && !self.pooling.global) {
                    Some(window) if self.pooling.average => Op::AveragePool(window, None),
                    Some(window) => Op::MaxPool(window, None),
                    None => other("no square window"),
                };
                add(op, bottom, &[], top);
            }
            "Concat" => graph.nodes.push(Node {
                name: self.name.to_owned(),
                kind: self.kind.clone(),
                op: Op::Concat,
                inputs: self.bottoms.clone(),
                output: top.clone(),
            }),
            "InnerProduct" => add(Op::Linear { transposed: false }, bottom, &[0, 1], top),
            "Softmax" => add(Op::Head(Head::Softmax), bottom, &[], top),
            "Dropout" | "Split" => self.tops.iter().for_each(|top| add(Op::Same, bottom, &[], top)),
            // What measures a training.
            "SoftmaxWithLoss" | "Accuracy" => {}
            _ => add(other("no layer of a DenseNet"), bottom, &[], top),
        }
    }

    /// Its type. V1's list of types has no batch norm: of a layer whose type is in no list, the blobs tell.
    fn kind(&self) -> &str {
        let vector = |tensor: &Tensor| tensor.shape().iter().filter(|&&size| size > 1).count() <= 1;
        if !self.kind.starts_with("V1 ") || !self.blobs.iter().all(vector) {
            return &self.kind;
        }
        match &self.blobs[..] {
            [_, _, factor] if factor.elements() == 1 => "BatchNorm",
            [_] | [_, _] => "Scale",
            _ => &self.kind,
        }
    }
}
