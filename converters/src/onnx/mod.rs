//! ONNX: a ModelProto with a graph of nodes and its initialisers (onnx 1.18, onnx.proto).

mod model;
mod nodes;
mod write;

use std::collections::{BTreeMap, HashMap};

use crate::alloc::Budget;
use crate::checkpoint::Node as Shown;
use crate::error::Error;
use crate::graph::Graph;
use crate::mapping::Mapping;
use crate::source::Source;
use crate::tensor::Tensor;

pub(crate) use model::{external_files, looks_like};
pub use write::{Export, OPSETS};

pub(crate) const FORMAT: &str = "onnx";

/// A parsed file.
#[derive(Debug)]
pub(crate) struct File {
    graph: Graph,
    /// Tensors that only say shapes and axes.
    constants: Vec<String>,
    /// The model's own metadata.
    pub(crate) metadata: BTreeMap<String, String>,
    tree: Vec<Shown>,
}

/// Initialisers and constants by their names. External data come from beside the file.
pub(crate) fn read<'a>(
    source: &Source<'a>,
    bytes: &'a [u8],
    budget: &mut Budget,
) -> Result<(File, Vec<(String, Tensor<'a>)>), Error> {
    let model = model::read(bytes, &|name| source.beside(name), budget)?;
    let head = format!("opset {}", model.opset);
    let shown = model.nodes.iter().take(model::MOST_SHOWN).map(|node| Shown {
        name: node.name.to_owned(),
        text: format!("{}({})", node.kind, node.inputs.join(", ")),
        children: Vec::new(),
    });
    let tree = vec![Shown { name: "graph".into(), text: head, children: shown.collect() }];
    let by_name: HashMap<&str, &Tensor> = model.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let (graph, constants) = nodes::graph(&model, &by_name);
    Ok((File { graph, constants, metadata: model.metadata, tree }, model.tensors))
}

impl File {
    pub(crate) fn tree(&self) -> Vec<Shown> {
        self.tree.clone()
    }

    pub(crate) fn mapping<'a>(&self, tensors: Vec<(String, Tensor<'a>)>) -> Result<Mapping<'a>, Error> {
        let is_constant = |name: &str| self.constants.iter().any(|constant| constant == name);
        self.graph.mapping(tensors, |name| is_constant(name).then_some("a constant of the graph"))
    }
}
