//! A graph's nodes, run on values that stand for what they would hold.

use std::collections::HashMap;

use densenet_arch::{Head, Rounding};

use super::{Node, Op, Window};

/// Convolutions whose outputs lie in one map; the largest published block has 83 layers.
const MOST_PARTS: usize = 4096;
/// The same of all maps together: those of DenseNet-264 have 60,000.
pub(super) const MOST_HELD: usize = 1 << 20;

/// What a value stands for.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Image,
    /// The outputs of convolutions and poolings, one behind the other.
    Map(Vec<usize>),
    /// A map behind its batch norm.
    Normed(Vec<usize>, usize),
    /// A map behind a ReLU, and the batch norm before that, if there is one.
    Active(Vec<usize>, Option<usize>),
    /// Its mean over the map.
    Features(Vec<usize>, Option<usize>),
    Logits,
    Output,
}

impl Value {
    pub(super) fn parts(&self) -> usize {
        match self {
            Self::Map(parts) | Self::Normed(parts, _) | Self::Active(parts, _) | Self::Features(parts, _) => {
                parts.len()
            }
            Self::Image | Self::Logits | Self::Output => 0,
        }
    }
}

/// A batch norm: its tensors by the field that they become.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) tensors: Vec<(&'static str, String)>,
    pub(super) eps: f64,
}

#[derive(Debug)]
pub(super) struct Conv {
    pub(super) node: usize,
    pub(super) weight: String,
    pub(super) bias: Option<String>,
    pub(super) window: Window,
    pub(super) parts: Vec<usize>,
    pub(super) norm: Option<usize>,
    pub(super) out: usize,
}

#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) convs: Vec<Conv>,
    pub(super) norms: Vec<Norm>,
    pub(super) parts: usize,
    /// Parts of all values.
    pub(super) held: usize,
    /// Max-pool of the stem: the norm before it, and the part that it makes.
    pub(super) stem: Option<(Option<usize>, usize)>,
    /// What each average makes of which part.
    pub(super) averages: HashMap<usize, usize>,
    pub(super) features: Option<(Vec<usize>, Option<usize>)>,
    pub(super) classifier: Option<(String, Option<String>, bool)>,
    pub(super) rounding: Option<Rounding>,
    pub(super) head: Head,
}

impl Run {
    fn part(&mut self) -> usize {
        self.parts += 1;
        self.parts - 1
    }

    /// What a node makes of its inputs.
    pub(super) fn step(&mut self, index: usize, node: &Node, values: &HashMap<&str, Value>) -> Result<Value, String> {
        let value = |name: &String| values.get(name.as_str());
        let first = node.inputs.first().and_then(value).cloned().ok_or("its input is no value before it")?;
        // All but maps are tensors of the file.
        let tensor = |at: usize| match node.inputs.get(at).filter(|name| !name.is_empty()) {
            Some(name) if value(name).is_some() => Err("a weight is computed by the graph".to_owned()),
            name => Ok(name.cloned()),
        };
        let need = |at: usize| tensor(at)?.ok_or_else(|| "a weight is missing".to_owned());
        match (&node.op, first) {
            (Op::Conv(window), Value::Features(parts, norm)) if window.kernel == 1 && self.classifier.is_none() => {
                self.features = Some((parts, norm));
                self.classifier = Some((need(1)?, tensor(2)?, false));
                Ok(Value::Logits)
            }
            (Op::Conv(window), from @ (Value::Image | Value::Active(..))) => {
                let (parts, norm) = match from {
                    Value::Active(parts, norm) => (parts, norm),
                    _ => (Vec::new(), None),
                };
                let out = self.part();
                let (weight, bias) = (need(1)?, tensor(2)?);
                self.convs.push(Conv { node: index, weight, bias, window: *window, parts, norm, out });
                Ok(Value::Map(vec![out]))
            }
            (Op::Norm { eps }, Value::Map(parts)) => {
                let fields = ["running_mean", "running_var", "weight", "bias", "factor"];
                let mut tensors = Vec::new();
                for (at, field) in (1..).zip(fields) {
                    tensors.extend(tensor(at)?.map(|tensor| (field, tensor)));
                }
                self.norms.push(Norm { tensors, eps: *eps });
                Ok(Value::Normed(parts, self.norms.len() - 1))
            }
            (Op::Scale | Op::Shift, Value::Normed(parts, norm)) => {
                self.affine(norm, &node.op, need(1)?)?;
                Ok(Value::Normed(parts, norm))
            }
            (Op::Shift, Value::Logits) => match &mut self.classifier {
                Some((_, bias @ None, _)) => {
                    *bias = Some(need(1)?);
                    Ok(Value::Logits)
                }
                _ => Err("a second bias behind the classifier".into()),
            },
            (Op::Relu, Value::Normed(parts, norm)) => Ok(Value::Active(parts, Some(norm))),
            // A batch norm was folded into the convolution.
            (Op::Relu, Value::Map(parts)) if parts.len() == 1 => Ok(Value::Active(parts, None)),
            (Op::MaxPool(window, rounding), Value::Active(parts, norm))
                if parts == [0] && *window == (Window { kernel: 3, stride: 2, padding: 1 }) && self.stem.is_none() =>
            {
                self.round(*rounding)?;
                let out = self.part();
                self.stem = Some((norm, out));
                Ok(Value::Map(vec![out]))
            }
            (Op::AveragePool(window, rounding), Value::Map(parts))
                if *window == (Window { kernel: 2, stride: 2, padding: 0 }) =>
            {
                let [part] = parts[..] else { return Err("an average over several convolutions' channels".into()) };
                self.round(*rounding)?;
                let out = self.part();
                self.averages.insert(part, out);
                Ok(Value::Map(vec![out]))
            }
            // The last map has 7x7 pixels for an image of 224, and 8x8 for one of 32.
            (
                Op::AveragePool(Window { kernel: 7 | 8, padding: 0, .. }, _) | Op::GlobalAverage,
                Value::Active(parts, norm),
            ) => Ok(Value::Features(parts, norm)),
            (Op::Concat, Value::Map(_)) => join(node.inputs.iter().map(value)),
            (Op::Linear { transposed }, Value::Features(parts, norm)) if self.classifier.is_none() => {
                self.features = Some((parts, norm));
                self.classifier = Some((need(1)?, tensor(2)?, *transposed));
                Ok(Value::Logits)
            }
            (Op::Head(head), Value::Logits) => {
                self.head = *head;
                Ok(Value::Output)
            }
            (Op::Same, value) | (Op::Flatten, value @ (Value::Features(..) | Value::Logits | Value::Output)) => {
                Ok(value)
            }
            (Op::Other(reason), _) => Err(reason.clone()),
            _ => Err("nothing like it stands there in a DenseNet".into()),
        }
    }

    /// Takes a factor or a summand of every channel behind a batch norm: its own, or a second one's.
    fn affine(&mut self, norm: usize, op: &Op, tensor: String) -> Result<(), String> {
        let tensors = &mut self.norms.get_mut(norm).ok_or("no norm")?.tensors;
        let has = |field: &str| tensors.iter().any(|(name, _)| *name == field);
        let first = !has("second.weight") && !has("second.bias") && !has("bias");
        let field = match op {
            Op::Scale if first && !has("weight") => "weight",
            Op::Scale => "second.weight",
            _ if first => "bias",
            _ => "second.bias",
        };
        if has(field) || field == "second.weight" && has("second.bias") {
            return Err("one factor or summand too many behind a batch norm".into());
        }
        tensors.push((field, tensor));
        Ok(())
    }

    /// Notes how a pooling rounds: as the others do.
    fn round(&mut self, rounding: Option<Rounding>) -> Result<(), String> {
        match (self.rounding, rounding) {
            (Some(before), Some(now)) if before != now => Err("it rounds otherwise than the pooling before it".into()),
            (_, now) => {
                self.rounding = now.or(self.rounding);
                Ok(())
            }
        }
    }
}

/// Maps one behind the other.
fn join<'v>(maps: impl Iterator<Item = Option<&'v Value>>) -> Result<Value, String> {
    let mut all = Vec::new();
    for map in maps {
        let Some(Value::Map(parts)) = map else { return Err("it joins what is no map".into()) };
        all.extend_from_slice(parts);
        if all.len() > MOST_PARTS {
            return Err("it joins more maps than any network has".into());
        }
    }
    Ok(Value::Map(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (x * w1 + b1) * w2 + b2 has a place for each; a third factor, or one behind the last summand, has none.
    #[test]
    fn a_norm_takes_two_scales_and_two_shifts() {
        let statistics = || vec![("running_mean", "m".to_owned()), ("running_var", "v".to_owned())];
        let mut run = Run { norms: vec![Norm { tensors: statistics(), eps: 1e-5 }], ..Run::default() };
        for (op, tensor) in [(Op::Scale, "w1"), (Op::Shift, "b1"), (Op::Scale, "w2"), (Op::Shift, "b2")] {
            run.affine(0, &op, tensor.to_owned()).unwrap();
        }
        let fields: Vec<_> = run.norms[0].tensors[2..].iter().map(|(field, name)| (*field, name.as_str())).collect();
        assert_eq!(fields, [("weight", "w1"), ("bias", "b1"), ("second.weight", "w2"), ("second.bias", "b2")]);
        for op in [Op::Scale, Op::Shift] {
            assert!(run.affine(0, &op, "more".to_owned()).unwrap_err().starts_with("one factor or summand too many"));
        }
    }
}
