//! A network that comes as a graph of operations: which tensor is what follows from how the values flow, and no name is
//! asked for. Caffe's layers, MXNet's symbol and ONNX's nodes all become this graph.
//!
//! The nodes are run in their order on values that stand for what they would hold: which convolutions' outputs lie in a
//! map, and what was done to it since. A node that does nothing that a DenseNet does is refused by name.

mod naming;
mod run;

use std::collections::{BTreeMap, HashMap};

use densenet_arch::{Head, Metadata, Rounding};

use crate::error::Error;
use crate::mapping::{Mapped, Mapping, Place};
use crate::report::Change;
use crate::tensor::Tensor;
use naming::Naming;
use run::{MOST_HELD, Run, Value};

/// A square window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    /// Of one group and no dilation. Inputs: map, weight, and a bias or not.
    Conv(Window),
    /// Inputs: map, mean, variance; then scale and shift, or not; then a factor on mean and variance, or not.
    Norm {
        eps: f64,
    },
    /// Channel by channel. Inputs: map, factors.
    Scale,
    /// Channel by channel. Inputs: map, summands.
    Shift,
    Relu,
    MaxPool(Window, Option<Rounding>),
    AveragePool(Window, Option<Rounding>),
    GlobalAverage,
    /// Along the channels.
    Concat,
    /// Inputs: features, weight, and a bias or not. Weights are (out, in), or (in, out).
    Linear {
        transposed: bool,
    },
    Head(Head),
    /// Whatever leaves the values as they are: a dropout, a copy.
    Same,
    /// The same, of one value a channel: from (B, C, 1, 1) to (B, C).
    Flatten,
    /// Anything else, in words.
    Other(String),
}

/// An operation with its place in the graph.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// For messages.
    pub(crate) name: String,
    /// What its format calls the operation.
    pub(crate) kind: String,
    pub(crate) op: Op,
    pub(crate) inputs: Vec<String>,
    pub(crate) output: String,
}

/// A network as its file describes it.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    /// The name of the image.
    pub(crate) input: String,
    pub(crate) nodes: Vec<Node>,
}

impl Graph {
    /// Where each tensor belongs. `rule` says why one that the graph does not use is no loss, as a shape.
    pub(crate) fn mapping<'a>(
        &self,
        tensors: Vec<(String, Tensor<'a>)>,
        rule: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<Mapping<'a>, Error> {
        let run = self.run()?;
        let naming = Naming::of(self, &run)?;
        let known = Metadata { eps: naming.eps, head: Some(run.head), pooling: run.rounding, ..Metadata::default() };
        let mut uses: BTreeMap<String, Vec<(String, Form)>> = BTreeMap::new();
        for (tensor, target, form) in naming.uses {
            uses.entry(tensor).or_default().push((target, form));
        }
        let mut mapped = Vec::new();
        for (source, tensor) in tensors {
            let Some(targets) = uses.remove(&source) else {
                let place = rule(&source).map_or(Place::Nowhere, Place::Rule);
                mapped.push(Mapped { source, tensor, place });
                continue;
            };
            for (target, form) in targets {
                let refuse = |reason| Error::Layout(format!("tensor {source:?} is no {target}: {reason}"));
                let (tensor, changes) = form.of(&tensor).map_err(refuse)?;
                mapped.push(Mapped { source: source.clone(), tensor, place: Place::Target(target, changes) });
            }
        }
        if let Some(absent) = uses.keys().next() {
            return Err(Error::Layout(format!("its graph needs the tensor {absent:?}, which is not in it")));
        }
        Ok(Mapping { mapped, known, folds: naming.folds, usual_eps: None, protocol: None, asks: None })
    }

    fn run(&self) -> Result<Run, Error> {
        let mut run = Run::default();
        let mut values = HashMap::from([(self.input.as_str(), Value::Image)]);
        for (index, node) in self.nodes.iter().enumerate() {
            let value = run.step(index, node, &values).map_err(|reason| self.refuse(index, &reason))?;
            run.held = run.held.saturating_add(value.parts());
            if run.held > MOST_HELD {
                return Err(self.refuse(index, "its maps are of more parts than any network's"));
            }
            values.insert(&node.output, value);
        }
        Ok(run)
    }

    fn refuse(&self, index: usize, reason: &str) -> Error {
        match self.nodes.get(index) {
            Some(Node { name, kind, .. }) => {
                Error::Layout(format!("node {index}, {name:?} ({kind}), does not fit: {reason}"))
            }
            None => Error::Layout(reason.to_owned()),
        }
    }
}

/// What has to be done to a tensor to have torchvision's shape.
#[derive(Clone, Copy, Debug)]
enum Form {
    AsItIs,
    Vector,
    /// A matrix, also where it is a convolution of one pixel.
    Matrix,
    Transposed,
}

impl Form {
    fn of<'a>(self, tensor: &Tensor<'a>) -> Result<(Tensor<'a>, Vec<Change>), String> {
        let shape = match (self, tensor.shape()) {
            (Self::Transposed, [_, _]) => {
                return Ok((tensor.permute(&[1, 0])?, vec![Change::Transposed(tensor.shape().to_vec())]));
            }
            // A convolution of one pixel, and a matrix of old Caffe's.
            (Self::Matrix, &[out, input, 1, 1] | &[1, 1, out, input]) => vec![out, input],
            (Self::Vector, shape) if shape.len() != 1 => vec![tensor.elements()],
            _ => return Ok((tensor.clone(), Vec::new())),
        };
        Ok((tensor.reshape(shape)?, vec![Change::Reshaped(tensor.shape().to_vec())]))
    }
}
