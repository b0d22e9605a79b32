//! A file as a tree: modules as Torch prints them, with the fields that Torch leaves out.

use super::paths::{DEPTH, show, sorted};
use super::{File, Item, Value};
use crate::alloc::Budget;
use crate::checkpoint::Node;
use crate::tensor::Tensor;

/// How far showing has come.
struct Showing {
    seen: Vec<bool>,
    budget: Budget,
    full: bool,
}

/// A plain value, cut to what fits a line.
fn brief(value: Value) -> String {
    match value {
        Value::Text(text) if text.len() > 100 => format!("{}…", text.get(..100).unwrap_or_default().escape_ascii()),
        value => show(value),
    }
}

impl<'a> File<'a> {
    /// The tree of objects, as `inspect` shows it.
    pub(crate) fn tree(&self) -> Vec<Node> {
        let mut showing = Showing { seen: vec![false; self.items.len()], budget: Budget::for_showing(), full: false };
        let mut nodes = Vec::new();
        for root in &self.roots {
            nodes.push(self.node(String::new(), *root, 0, &mut showing));
            if showing.full {
                break;
            }
        }
        nodes
    }

    fn node(&self, name: String, value: Value<'a>, depth: usize, showing: &mut Showing) -> Node {
        if showing.budget.spend(256 + name.len()).is_err() {
            showing.full = true;
            return Node { name, text: "… (too much to show)".into(), children: Vec::new() };
        }
        let leaf = |text: String| Node { name: name.clone(), text, children: Vec::new() };
        let Value::Item(number) = value else { return leaf(brief(value)) };
        let label = match self.item(value) {
            Some(Item::Object { class, .. }) => self.describe(value, &String::from_utf8_lossy(class)),
            Some(Item::Table(pairs)) => format!("table of {}", pairs.len()),
            Some(Item::Tensor { tensor: Some(tensor), .. }) => return leaf(tensor.describe()),
            Some(Item::Tensor { tensor: None, .. }) => return leaf("empty tensor".into()),
            Some(Item::Storage(vector)) => {
                return leaf(format!("storage of {} {}", vector.elements(), vector.dtype().name()));
            }
            Some(Item::Function { .. }) => return leaf("function (never run)".into()),
            Some(Item::Pending) | None => return leaf("?".into()),
        };
        match showing.seen.get_mut(number) {
            Some(seen) if !*seen && depth < DEPTH => *seen = true,
            _ => return leaf(format!("{label} (shown above)")),
        }
        let pairs = sorted(self.pairs(value).unwrap_or_default());
        let modules = self.class(value).and_then(|_| self.field(value, "modules"));
        let (modules, fields): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(_, inner)| Some(*inner) == modules);
        let mut children = Vec::new();
        for (key, inner) in fields {
            if showing.full {
                break;
            }
            children.push(self.node(brief(key), inner, depth + 1, showing));
        }
        if let [(_, modules)] = modules[..] {
            children.extend(self.modules(value, modules, depth, showing));
        }
        Node { name, text: label, children }
    }

    /// The modules of a container, between the lines that show how the input passes through them.
    fn modules(&self, container: Value<'a>, modules: Value<'a>, depth: usize, showing: &mut Showing) -> Vec<Node> {
        let modules = self.array(modules);
        let line = |text: String| Node { name: String::new(), text, children: Vec::new() };
        let kind = self.class(container).and_then(|class| class.rsplit('.').next());
        let branches = matches!(kind, Some("Concat" | "ConcatTable" | "ParallelTable" | "DepthConcat"));
        let numbers: Vec<_> = (1..=modules.len()).map(|number| format!("({number}) -> ")).collect();
        let (first, last, step) = match (kind, branches) {
            (_, true) => (Some("input".into()), Some("... -> output".into()), "|`-> "),
            (Some("Sequential"), _) => (Some(format!("[input -> {}output]", numbers.concat())), None, ""),
            _ => (None, None, ""),
        };
        let mut inner = Vec::new();
        for (number, module) in (1..).zip(modules) {
            if showing.full {
                break;
            }
            inner.push(self.node(format!("{step}({number})"), module, depth + 1, showing));
        }
        first.map(line).into_iter().chain(inner).chain(last.map(line)).collect()
    }

    /// A module in one line, with the sizes that Torch shows for its class.
    fn describe(&self, module: Value<'a>, class: &str) -> String {
        let size = |name: &str| self.number(module, name);
        let pair = |a: &str, b: &str| Some((size(a)?, size(b)?));
        let padding =
            |default: f64| pair("padW", "padH").or_else(|| pair("padding", "padding")).unwrap_or((default, default));
        let text = match class.rsplit('.').next().unwrap_or_default() {
            "SpatialConvolution" | "SpatialConvolutionMM" => (|| {
                let (input, output) = pair("nInputPlane", "nOutputPlane")?;
                let (width, height) = pair("kW", "kH")?;
                let (step, pad) = (pair("dW", "dH").unwrap_or((1.0, 1.0)), padding(0.0));
                let pad = (pad != (0.0, 0.0)).then_some(pad);
                let step = (step != (1.0, 1.0) || pad.is_some()).then_some(step);
                let more: Vec<_> = step.into_iter().chain(pad).map(|(w, h)| format!(", {w},{h}")).collect();
                let text = format!("({input} -> {output}, {width}x{height}{}", more.concat());
                let bias = self.field(module, "bias").is_some_and(|bias| bias != Value::Nil);
                Some(text + if bias { ")" } else { ") without bias" })
            })(),
            "SpatialMaxPooling" | "SpatialAveragePooling" => (|| {
                let (width, height) = pair("kW", "kH")?;
                let (step, pad) = (pair("dW", "dH")?, padding(0.0));
                let pad = if pad == (0.0, 0.0) { String::new() } else { format!(", {},{}", pad.0, pad.1) };
                Some(format!("({width}x{height}, {},{}{pad})", step.0, step.1))
            })(),
            "SpatialBatchNormalization" => {
                let mean = self.field(module, "running_mean").and_then(|mean| self.tensor(mean));
                mean.map(|mean| format!(" (4D) ({})", mean.elements()))
            }
            "Linear" => {
                let weight = self.field(module, "weight").and_then(|weight| self.tensor(weight));
                match weight.map(Tensor::shape) {
                    Some([output, input]) => {
                        let bias = self.field(module, "bias").is_some_and(|bias| bias != Value::Nil);
                        Some(format!("({input} -> {output}){}", if bias { "" } else { " without bias" }))
                    }
                    _ => None,
                }
            }
            "Dropout" | "SpatialDropout" => size("p").map(|p| format!("({p:.6})")),
            "Reshape" | "View" => {
                let sizes = self.field(module, "size").and_then(|size| self.tensor(size));
                sizes.and_then(|sizes| sizes.to_i64().ok()).map(|sizes| {
                    let sizes: Vec<_> = sizes.iter().map(i64::to_string).collect();
                    format!("({})", sizes.join("x"))
                })
            }
            _ => None,
        };
        format!("{class}{}", text.unwrap_or_default())
    }
}
