//! A DenseNet as an ONNX model: Conv, BatchNormalization, Relu, Concat, MaxPool, AveragePool, GlobalAveragePool, Gemm.

use std::io::Write;
use std::ops::RangeInclusive;

use densenet_arch::{Config, Head, Metadata, Op, Rounding, Stem};

use crate::error::Error;
use crate::float;
use crate::tensor::DType;
use crate::wire::Writer;

/// The versions of the operators that can be written.
pub const OPSETS: RangeInclusive<u64> = 13..=22;

/// What to write, and how.
#[derive(Clone, Debug)]
pub struct Export<'a> {
    /// The network.
    pub config: &'a Config,
    /// What goes into the model's metadata.
    pub metadata: &'a Metadata,
    /// The version of the operators, of [`OPSETS`].
    pub opset: u64,
    /// Whether a batch norm behind a convolution is worked into it.
    pub fold: bool,
    /// Whether the weights are halves. Inputs, outputs and statistics stay f32; needs opset 15.
    pub half: bool,
    /// Images in a batch; `None`: any number.
    pub batch: Option<usize>,
    /// Height and width of the images.
    pub side: usize,
}

/// Values of a tensor by torchvision's name.
type Weights<'w> = &'w dyn Fn(&str) -> Result<Vec<f32>, Error>;

/// A tensor of the model, whose values come when it is written.
struct Initialiser {
    name: String,
    shape: Vec<usize>,
    dtype: DType,
    content: Content,
}

enum Content {
    /// A tensor of the network.
    Own,
    /// A convolution's kernel with the batch norm behind it, or the bias that comes of that.
    Folded { conv: String, norm: String, is_bias: bool },
}

/// The nodes, in the order of computation.
struct Nodes<'e> {
    export: &'e Export<'e>,
    graph: Writer,
    initialisers: Vec<Initialiser>,
}

enum Attribute<'t> {
    Int(i64),
    Ints(&'t [usize]),
    Float(f32),
}

impl Export<'_> {
    /// Writes the model. `weights` gives a tensor's values by torchvision's name. The same weights give the same bytes.
    pub fn write(&self, weights: Weights, out: &mut dyn Write) -> Result<(), Error> {
        let nodes = self.nodes();
        let mut graph = nodes.graph;
        graph.bytes(2, b"densenet");
        let classes = [("batch", self.batch), ("", Some(self.config.num_classes))];
        let image = [("", Some(self.config.in_channels)), ("", Some(self.side)), ("", Some(self.side))];
        let image: Vec<_> = [("batch", self.batch)].into_iter().chain(image).collect();
        graph.message(11, value_info("input", &image));
        graph.message(12, value_info(self.output(), &classes));
        // A tensor's fields before its numbers, which follow when they are written.
        let heads: Vec<_> = nodes.initialisers.iter().map(|initialiser| (initialiser.head(), initialiser)).collect();
        let size = |head: &Writer, initialiser: &Initialiser| head.0.len() + initialiser.bytes();
        let framed = |head: &Writer, initialiser: &Initialiser| {
            let mut frame = Writer::default();
            frame.head(5, size(head, initialiser));
            frame
        };
        let data: usize = heads.iter().map(|(head, tensor)| framed(head, tensor).0.len() + size(head, tensor)).sum();

        let mut model = Writer::default();
        model.number(1, self.ir_version());
        model.bytes(2, b"densenet-zoo");
        model.bytes(3, env!("CARGO_PKG_VERSION").as_bytes());
        model.head(7, graph.0.len() + data);
        out.write_all(&model.0)?;
        out.write_all(&graph.0)?;
        for (head, initialiser) in heads {
            out.write_all(&framed(&head, initialiser).0)?;
            out.write_all(&head.0)?;
            out.write_all(&initialiser.values(self.config.eps, weights)?)?;
        }
        let mut tail = Writer::default();
        // `format` is for the readers of safetensors.
        for (key, value) in self.metadata.to_map().into_iter().filter(|(key, _)| key != "format") {
            let mut entry = Writer::default();
            entry.bytes(1, key.as_bytes());
            entry.bytes(2, value.as_bytes());
            tail.message(14, entry);
        }
        // Last, because a reader that misses it knows that the file was cut.
        let mut opset = Writer::default();
        opset.bytes(1, b"");
        opset.number(2, self.opset);
        tail.message(8, opset);
        out.write_all(&tail.0)?;
        Ok(out.flush()?)
    }

    fn output(&self) -> &'static str {
        match self.config.head {
            Head::Logits => "logits",
            Head::LogSoftmax => "log_probabilities",
            Head::Softmax => "probabilities",
        }
    }

    /// The version of the format that goes with the operators' (onnx, docs/Versioning.md).
    fn ir_version(&self) -> u64 {
        match self.opset {
            ..=14 => 7,
            15..=18 => 8,
            19..=20 => 9,
            _ => 10,
        }
    }

    fn nodes(&self) -> Nodes<'_> {
        let mut nodes = Nodes { export: self, graph: Writer::default(), initialisers: Vec::new() };
        let (f32, f16) = (Attribute::Int(1), Attribute::Int(10));
        let mut map = "input".to_owned();
        if self.half {
            map = nodes.add("Cast", "input_half", &["input"], &[("to", f16)]);
        }
        let mut inner = map.clone();
        let layers = self.config.layers();
        for (index, layer) in layers.iter().enumerate() {
            let name = layer.name.as_str();
            let after = layers.get(index + 1);
            match layer.op {
                Op::Conv { .. } => {
                    let norm =
                        after.filter(|after| self.fold && is_behind(&after.name)).map(|after| after.name.as_str());
                    inner = nodes.conv(name, &layer.op, &inner, norm);
                    if norm.is_some() {
                        inner = nodes.add("Relu", &format!("{name}.relu"), &[&inner], &[]);
                    }
                    let in_block = name.contains(".denselayer");
                    if in_block && !after.is_some_and(|after| is_behind(&after.name)) {
                        map = nodes.add(
                            "Concat",
                            &format!("{name}.concat"),
                            &[&map, &inner],
                            &[("axis", Attribute::Int(1))],
                        );
                    } else if name == "features.conv0" && self.config.stem == Stem::Cifar {
                        map.clone_from(&inner);
                    }
                }
                Op::Norm { channels } => {
                    if !(self.fold && is_behind(name)) {
                        let from = if is_behind(name) { &inner } else { &map };
                        let normed = nodes.norm(name, channels, from);
                        inner = nodes.add("Relu", &format!("{name}.relu"), &[&normed], &[]);
                    }
                }
                Op::Pool { kernel, stride, padding } => {
                    let kind = if padding > 0 { "MaxPool" } else { "AveragePool" };
                    let (kernel, stride, pads) = ([kernel; 2], [stride; 2], [padding; 4]);
                    let ceil = i64::from(self.config.pooling == Rounding::Ceil);
                    let attributes = [
                        ("ceil_mode", Attribute::Int(ceil)),
                        ("kernel_shape", Attribute::Ints(&kernel)),
                        ("pads", Attribute::Ints(&pads)),
                        ("strides", Attribute::Ints(&stride)),
                    ];
                    map = nodes.add(kind, name, &[&inner], &attributes);
                    inner.clone_from(&map);
                }
                Op::Linear { input, output } => {
                    let mean = nodes.add("GlobalAveragePool", "mean", &[&inner], &[]);
                    let flat = nodes.add("Flatten", "features", &[&mean], &[("axis", Attribute::Int(1))]);
                    let weight = nodes.own(&format!("{name}.weight"), vec![output, input], true);
                    let bias = nodes.own(&format!("{name}.bias"), vec![output], true);
                    let transposed = [("transB", Attribute::Int(1))];
                    inner = format!("{name}.output");
                    if !self.half && self.config.head == Head::Logits {
                        self.output().clone_into(&mut inner);
                    }
                    nodes.add_to(&inner, "Gemm", name, &[&flat, &weight, &bias], &transposed);
                }
            }
        }
        if self.half {
            inner = nodes.add("Cast", "logits", &[&inner], &[("to", f32)]);
        }
        let axis = [("axis", Attribute::Int(1))];
        match self.config.head {
            Head::Logits => {}
            Head::LogSoftmax => drop(nodes.add("LogSoftmax", self.output(), &[&inner], &axis)),
            Head::Softmax => drop(nodes.add("Softmax", self.output(), &[&inner], &axis)),
        }
        nodes
    }
}

/// Whether a batch norm reads a convolution's output and nothing else.
fn is_behind(norm: &str) -> bool {
    norm == "features.norm0" || norm.rsplit('.').next() == Some("norm2")
}

/// ValueInfoProto of f32; sizes by name or number.
fn value_info(name: &str, sizes: &[(&str, Option<usize>)]) -> Writer {
    let mut shape = Writer::default();
    for (symbol, size) in sizes {
        let mut dimension = Writer::default();
        match size {
            Some(size) => dimension.number(1, *size as u64),
            None => dimension.bytes(2, symbol.as_bytes()),
        }
        shape.message(1, dimension);
    }
    let mut tensor = Writer::default();
    tensor.number(1, 1);
    tensor.message(2, shape);
    let mut kind = Writer::default();
    kind.message(1, tensor);
    let mut info = Writer::default();
    info.bytes(1, name.as_bytes());
    info.message(2, kind);
    info
}

impl Nodes<'_> {
    /// Adds a node, and gives its output, which is called as it is; a layer's as no tensor of it.
    fn add(&mut self, kind: &str, name: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let output = if name.starts_with("features.") { format!("{name}.output") } else { name.to_owned() };
        self.add_to(&output, kind, name, inputs, attributes);
        output
    }

    fn add_to(&mut self, output: &str, kind: &str, name: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) {
        let mut node = Writer::default();
        for input in inputs {
            node.bytes(1, input.as_bytes());
        }
        node.bytes(2, output.as_bytes());
        node.bytes(3, name.as_bytes());
        node.bytes(4, kind.as_bytes());
        for (name, value) in attributes {
            let mut attribute = Writer::default();
            attribute.bytes(1, name.as_bytes());
            let kind = match value {
                Attribute::Float(value) => {
                    attribute.float(2, *value);
                    1
                }
                Attribute::Int(value) => {
                    attribute.number(3, *value as u64);
                    2
                }
                Attribute::Ints(values) => {
                    for value in *values {
                        attribute.number(8, *value as u64);
                    }
                    7
                }
            };
            attribute.number(20, kind);
            node.message(5, attribute);
        }
        self.graph.message(1, node);
    }

    /// Adds a tensor, and gives its name. Statistics are never halves.
    fn initialiser(&mut self, name: String, shape: Vec<usize>, may_be_half: bool, content: Content) -> String {
        let dtype = if self.export.half && may_be_half { DType::F16 } else { DType::F32 };
        self.initialisers.push(Initialiser { name: name.clone(), shape, dtype, content });
        name
    }

    fn own(&mut self, name: &str, shape: Vec<usize>, may_be_half: bool) -> String {
        self.initialiser(name.to_owned(), shape, may_be_half, Content::Own)
    }

    fn conv(&mut self, name: &str, op: &Op, from: &str, norm: Option<&str>) -> String {
        let Op::Conv { input, output, kernel, stride, padding } = *op else { return String::new() };
        let shape = vec![output, input, kernel, kernel];
        let mut inputs = vec![from.to_owned()];
        match norm {
            None => inputs.push(self.own(&format!("{name}.weight"), shape, true)),
            Some(norm) => {
                let content = |is_bias| Content::Folded { conv: name.to_owned(), norm: norm.to_owned(), is_bias };
                inputs.push(self.initialiser(format!("{name}.weight"), shape, true, content(false)));
                inputs.push(self.initialiser(format!("{name}.bias"), vec![output], true, content(true)));
            }
        }
        let (kernel, stride, pads) = ([kernel; 2], [stride; 2], [padding; 4]);
        let attributes = [
            ("kernel_shape", Attribute::Ints(&kernel)),
            ("pads", Attribute::Ints(&pads)),
            ("strides", Attribute::Ints(&stride)),
        ];
        let inputs: Vec<_> = inputs.iter().map(String::as_str).collect();
        self.add("Conv", name, &inputs, &attributes)
    }

    fn norm(&mut self, name: &str, channels: usize, from: &str) -> String {
        let fields = ["weight", "bias", "running_mean", "running_var"]
            .map(|field| self.own(&format!("{name}.{field}"), vec![channels], matches!(field, "weight" | "bias")));
        let [weight, bias, mean, var] = &fields;
        let eps = [("epsilon", Attribute::Float(self.export.config.eps as f32))];
        self.add("BatchNormalization", name, &[from, weight, bias, mean, var], &eps)
    }
}

impl Initialiser {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }

    /// TensorProto up to the numbers.
    fn head(&self) -> Writer {
        let mut tensor = Writer::default();
        for &size in &self.shape {
            tensor.number(1, size as u64);
        }
        tensor.number(2, if self.dtype == DType::F16 { 10 } else { 1 });
        tensor.bytes(8, self.name.as_bytes());
        tensor.head(9, self.bytes());
        tensor
    }

    fn values(&self, eps: f64, weights: Weights) -> Result<Vec<u8>, Error> {
        let values = match &self.content {
            Content::Own => weights(&self.name)?,
            Content::Folded { conv, norm, is_bias } => folded(conv, norm, *is_bias, eps, weights)?,
        };
        let wide: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut bytes = Vec::new();
        float::cast(&wide, DType::F32, self.dtype, &mut bytes);
        if bytes.len() == self.bytes() {
            Ok(bytes)
        } else {
            Err(Error::Layout(format!("{} has {} values and needs {} bytes", self.name, values.len(), self.bytes())))
        }
    }
}

/// norm(conv(x)) as one convolution: each output's kernel times w / sqrt(var + eps), and the bias that is left.
fn folded(conv: &str, norm: &str, is_bias: bool, eps: f64, weights: Weights) -> Result<Vec<f32>, Error> {
    let field = |field: &str| weights(&format!("{norm}.{field}"));
    let (weight, var) = (field("weight")?, field("running_var")?);
    let scales: Vec<f64> =
        weight.iter().zip(&var).map(|(&weight, &var)| f64::from(weight) / (f64::from(var) + eps).sqrt()).collect();
    if is_bias {
        let (bias, mean) = (field("bias")?, field("running_mean")?);
        let biases = bias.iter().zip(&mean).zip(&scales);
        return Ok(biases.map(|((&bias, &mean), scale)| (f64::from(bias) - f64::from(mean) * scale) as f32).collect());
    }
    let kernel = weights(&format!("{conv}.weight"))?;
    let each = kernel.len() / scales.len().max(1);
    let kernels = kernel.chunks(each.max(1)).zip(&scales);
    Ok(kernels.flat_map(|(kernel, scale)| kernel.iter().map(move |&value| (f64::from(value) * scale) as f32)).collect())
}
