//! ONNX's operators as those of a DenseNet's graph.

use std::collections::HashMap;

use densenet_arch::{Head, Rounding};

use super::model::{Attribute, Model, Node};
use crate::graph::{Graph, Node as Step, Op, Window};
use crate::tensor::Tensor;
use crate::wire::decimal;

/// The graph, and the tensors that only say shapes and axes.
pub(super) fn graph<'m>(model: &Model<'m>, tensors: &HashMap<&str, &Tensor>) -> (Graph, Vec<String>) {
    let input = model.inputs.iter().find(|name| !tensors.contains_key(*name)).copied().unwrap_or_default();
    let mut graph = Graph { input: input.to_owned(), nodes: Vec::new() };
    // Copies of tensors under other names, perhaps with dimensions of 1 more or less.
    let mut copies: HashMap<&'m str, &'m str> = HashMap::new();
    let mut constants = Vec::new();
    for node in &model.nodes {
        let names: Vec<_> = node.inputs.iter().map(|name| copies.get(name).copied().unwrap_or(name)).collect();
        let is_tensor = |name: &str| tensors.contains_key(name);
        let output = node.outputs.first().copied().unwrap_or_default();
        if node.kind == "Constant" && tensors.contains_key(output) {
            continue;
        }
        let shapes = matches!(node.kind, "Reshape" | "Squeeze" | "Unsqueeze" | "ReduceMean" | "Dropout" | "Clip");
        if shapes {
            constants.extend(names.iter().skip(1).filter(|name| is_tensor(name)).map(|&name| name.to_owned()));
        }
        let first = names.first().copied().filter(|name| is_tensor(name));
        if let (Some(tensor), "Identity" | "Reshape" | "Squeeze" | "Unsqueeze") = (first, node.kind) {
            copies.insert(output, tensor);
            continue;
        }
        let (op, order) = translate(node, &names, tensors);
        let inputs = order.iter().map(|&at| names.get(at).copied().unwrap_or_default().to_owned());
        graph.nodes.push(Step {
            name: node.name.to_owned(),
            kind: node.kind.to_owned(),
            op,
            inputs: inputs.collect(),
            output: output.to_owned(),
        });
    }
    (graph, constants)
}

impl<'a> Node<'a> {
    fn attribute(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    fn int(&self, name: &str, missing: i64) -> i64 {
        self.attribute(name).and_then(|attribute| attribute.int).unwrap_or(missing)
    }

    fn is_one(&self, name: &str) -> bool {
        self.attribute(name).and_then(|attribute| attribute.float).is_none_or(|value| value == 1.0)
    }

    /// One number for both directions and, of paddings, for both ends.
    fn square(&self, name: &str, missing: usize) -> Option<usize> {
        let Some(attribute) = self.attribute(name) else { return Some(missing) };
        let first = attribute.ints.first()?;
        attribute.ints.iter().all(|value| value == first).then(|| usize::try_from(*first).ok())?
    }

    fn window(&self) -> Option<Window> {
        let plain =
            matches!(self.attribute("auto_pad").map_or(&b"NOTSET"[..], |attribute| attribute.text), b"NOTSET" | b"");
        if !plain || self.square("dilations", 1) != Some(1) || self.int("group", 1) != 1 {
            return None;
        }
        let (stride, padding) = (self.square("strides", 1)?, self.square("pads", 0)?);
        Some(Window { kernel: self.square("kernel_shape", 0)?, stride, padding })
    }
}

/// What a node does with the inputs of these names, and their order.
fn translate(node: &Node, names: &[&str], tensors: &HashMap<&str, &Tensor>) -> (Op, Vec<usize>) {
    let other = |reason: &str| (Op::Other(reason.to_owned()), vec![0]);
    let tensor = |at: usize| names.get(at).and_then(|name| tensors.get(name)).copied();
    let rounding = || Some(if node.int("ceil_mode", 0) == 0 { Rounding::Floor } else { Rounding::Ceil });
    if !matches!(node.domain, "" | "ai.onnx") {
        return other("its operator is none of ONNX's own");
    }
    match node.kind {
        "Conv" => {
            let side = tensor(1).and_then(|weight| weight.shape().get(2).copied());
            match (node.window(), side) {
                (Some(window), Some(kernel)) if window.kernel == 0 || window.kernel == kernel => {
                    (Op::Conv(Window { kernel, ..window }), vec![0, 1, 2])
                }
                _ => other("its window is not square, of one group and without dilation"),
            }
        }
        "BatchNormalization" => {
            let eps = node.attribute("epsilon").and_then(|attribute| attribute.float);
            let training = node.int("training_mode", 0) != 0 || node.int("spatial", 1) == 0;
            if training || node.outputs.iter().skip(1).any(|output| !output.is_empty()) {
                return other("a batch norm in training");
            }
            (Op::Norm { eps: decimal(eps.unwrap_or(1e-5)) }, vec![0, 3, 4, 1, 2])
        }
        "Mul" | "Add" => {
            let op = if node.kind == "Mul" { Op::Scale } else { Op::Shift };
            match (tensor(0).is_some(), tensor(1).is_some()) {
                (false, true) => (op, vec![0, 1]),
                (true, false) => (op, vec![1, 0]),
                _ => other("it joins two maps"),
            }
        }
        "Relu" => (Op::Relu, vec![0]),
        "MaxPool" | "AveragePool" => match node.window() {
            Some(window) if node.kind == "MaxPool" => (Op::MaxPool(window, rounding()), vec![0]),
            Some(window) => (Op::AveragePool(window, rounding()), vec![0]),
            None => other("its window is not square"),
        },
        "GlobalAveragePool" => (Op::GlobalAverage, vec![0]),
        "ReduceMean" => {
            let stated = tensor(1).filter(|axes| axes.elements() <= 4).and_then(|axes| axes.to_i64().ok());
            let axes = stated.or_else(|| node.attribute("axes").map(|axes| axes.ints.clone())).unwrap_or_default();
            let mut axes: Vec<_> = axes.into_iter().map(|axis| axis.rem_euclid(4)).collect();
            axes.sort_unstable();
            if axes == [2, 3] { (Op::GlobalAverage, vec![0]) } else { other("a mean that is not over the map") }
        }
        "Concat" if node.int("axis", 1) == 1 => (Op::Concat, (0..node.inputs.len()).collect()),
        "Gemm" => {
            let plain = node.is_one("alpha") && node.is_one("beta") && node.int("transA", 0) == 0;
            let op = Op::Linear { transposed: node.int("transB", 0) == 0 };
            if plain { (op, vec![0, 1, 2]) } else { other("it scales, or turns its input round") }
        }
        "MatMul" => (Op::Linear { transposed: true }, vec![0, 1]),
        "Softmax" | "LogSoftmax" if matches!(node.int("axis", 1), 1 | -1) => {
            (Op::Head(if node.kind == "Softmax" { Head::Softmax } else { Head::LogSoftmax }), vec![0])
        }
        // Between float types: what was exported in half precision.
        "Cast" if matches!(node.int("to", 0), 1 | 10 | 11 | 16) => (Op::Same, vec![0]),
        "Dropout" | "Identity" => (Op::Same, vec![0]),
        "Flatten" | "Reshape" | "Squeeze" => (Op::Flatten, vec![0]),
        _ => other("no operator of a DenseNet"),
    }
}
