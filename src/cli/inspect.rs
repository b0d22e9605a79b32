//! `inspect`: what a checkpoint holds.

use std::path::PathBuf;

use clap::Args;
use densenet_converters::Node;
use densenet_zoo::store::read;
use densenet_zoo::{Error, Result};
use serde_json::{Value, json};

use super::{Format, FormatArg, output};

#[derive(Args)]
pub(super) struct Inspect {
    /// Any file that `convert` reads.
    input: PathBuf,
    #[command(flatten)]
    output: FormatArg,
}

impl Inspect {
    pub(super) fn run(self) -> Result<()> {
        let bytes = read(&self.input)?;
        let checkpoint = densenet_converters::read(&bytes)
            .map_err(|source| Error::Checkpoint { path: self.input.clone(), source })?;
        let tensors = checkpoint.tensors();
        if self.output.format == Format::Json {
            let tensors: Vec<_> = tensors
                .iter()
                .map(|named| {
                    let tensor = &named.tensor;
                    json!({"name": named.name, "dtype": tensor.dtype().name(), "shape": tensor.shape(), "bytes": tensor.byte_len()})
                })
                .collect();
            let tree: Vec<_> = checkpoint.tree().iter().map(node).collect();
            let format = checkpoint.format().name();
            let metadata = checkpoint.metadata();
            return output::print_json(
                &json!({"format": format, "metadata": metadata, "tensors": tensors, "tree": tree}),
            );
        }
        let total: usize = tensors.iter().map(|named| named.tensor.byte_len()).sum();
        let mut lines = vec![format!(
            "{}: {} file, {} tensors, {} bytes of data",
            self.input.display(),
            checkpoint.format().name(),
            tensors.len(),
            output::thousands(total as u64)
        )];
        for (key, value) in checkpoint.metadata().into_iter().flatten() {
            lines.push(format!("  {key} = {value}"));
        }
        for root in checkpoint.tree() {
            show(&root, 0, &mut lines);
        }
        output::print(&lines.join("\n"))
    }
}

fn show(node: &Node, depth: usize, lines: &mut Vec<String>) {
    let name = if node.name.is_empty() { String::new() } else { format!("{}: ", node.name) };
    lines.push(format!("{}{name}{}", "  ".repeat(depth), node.text));
    for child in &node.children {
        show(child, depth + 1, lines);
    }
}

fn node(node: &Node) -> Value {
    let children: Vec<_> = node.children.iter().map(self::node).collect();
    json!({"name": node.name, "text": node.text, "children": children})
}
