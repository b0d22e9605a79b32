//! `inspect`: what a checkpoint holds.

use std::path::PathBuf;

use clap::Args;
use densenet_converters::{Checkpoint, Error as ReadError, Node, PickleName, Verdict};
use densenet_zoo::input::{self, Input};
use densenet_zoo::store::Store;
use densenet_zoo::{Error, Result};
use serde_json::{Value, json};

use super::{Format, FormatArg, output};

#[derive(Args)]
pub(super) struct Inspect {
    /// Any file that `convert` reads, or a folder with model.safetensors.
    input: PathBuf,
    #[command(flatten)]
    output: FormatArg,
}

impl Inspect {
    pub(super) fn run(mut self, store: &Store) -> Result<()> {
        self.input = super::checkpoint(store, self.input)?;
        input::open(&self.input, |input| match densenet_converters::read(&input.source) {
            Ok(checkpoint) => self.show(input, &checkpoint),
            Err(source) => {
                if let ReadError::Unsafe { names, .. } = &source {
                    self.show_names(names)?;
                }
                Err(Error::Checkpoint { path: self.input.clone(), source })
            }
        })
    }

    fn show(&self, input: &Input, checkpoint: &Checkpoint) -> Result<()> {
        let tensors = checkpoint.tensors();
        let names = checkpoint.names();
        if self.output.format == Format::Json {
            let tensors: Vec<_> = tensors
                .iter()
                .map(|named| {
                    let tensor = &named.tensor;
                    json!({"name": named.name, "dtype": tensor.dtype().name(), "shape": tensor.shape(), "bytes": tensor.byte_len()})
                })
                .collect();
            let tree: Vec<_> = checkpoint.tree().iter().map(node).collect();
            return output::print_json(&json!({
                "format": checkpoint.format().name(),
                "sha256": input.source.sha256(),
                "files": input.source.sha256_beside(),
                "metadata": checkpoint.metadata(),
                "names": names.iter().map(name_json).collect::<Vec<_>>(),
                "tensors": tensors,
                "tree": tree,
            }));
        }
        let total: usize = tensors.iter().map(|named| named.tensor.byte_len()).sum();
        let mut lines = vec![format!(
            "{}: {} file, {} tensors, {} bytes of data, sha256 {}",
            self.input.display(),
            checkpoint.format().name(),
            tensors.len(),
            output::thousands(total as u64),
            input.source.sha256(),
        )];
        let beside = input.source.sha256_beside();
        lines.extend(beside.iter().map(|(name, sha256)| format!("  with {name}, sha256 {sha256}")));
        for (key, value) in checkpoint.metadata().into_iter().flatten() {
            lines.push(format!("  {key} = {value}"));
        }
        lines.extend(names.iter().map(name_line));
        for root in checkpoint.tree() {
            show(&root, 0, &mut lines);
        }
        output::print(&lines.join("\n"))
    }

    /// Of a file that is refused for what it names: all that it names.
    fn show_names(&self, names: &[PickleName]) -> Result<()> {
        if self.output.format == Format::Json {
            return output::print_json(&json!({"names": names.iter().map(name_json).collect::<Vec<_>>()}));
        }
        let lines: Vec<_> = names.iter().map(name_line).collect();
        output::print(&lines.join("\n"))
    }
}

fn verdict(name: &PickleName) -> &'static str {
    match name.verdict {
        Verdict::Harmless => "harmless",
        Verdict::Module => "a module's class, not imported",
        Verdict::Refused => "REFUSED",
    }
}

fn name_line(name: &PickleName) -> String {
    format!("  names {} at byte {} ({})", name.name, name.offset, verdict(name))
}

fn name_json(name: &PickleName) -> Value {
    json!({"name": name.name, "offset": name.offset, "verdict": verdict(name)})
}

/// Containers of modules are drawn in braces, as Torch prints them.
fn show(node: &Node, depth: usize, lines: &mut Vec<String>) {
    let name = if node.name.is_empty() { String::new() } else { format!("{}: ", node.name) };
    let indent = "  ".repeat(depth);
    let braces = node.children.iter().any(|child| child.name.ends_with(')'));
    lines.push(format!("{indent}{name}{}{}", node.text, if braces { " {" } else { "" }));
    for child in &node.children {
        show(child, depth + 1, lines);
    }
    if braces {
        lines.push(format!("{indent}}}"));
    }
}

fn node(node: &Node) -> Value {
    let children: Vec<_> = node.children.iter().map(self::node).collect();
    json!({"name": node.name, "text": node.text, "children": children})
}
