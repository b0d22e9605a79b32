//! From the modules of a Torch7 DenseNet to torchvision's names.
//!
//! The layouts are those of liuzhuang13/DenseNet since 2016-08: a dense layer is `Concat{Identity, net}`, that in a
//! `Sequential`, or a `DenseConnectLayerCustom` of `net1` and `net2`. All become one sequence of units first, and names
//! follow from the sequence.

use std::collections::HashMap;

use densenet_arch::{Config, Head};

use super::paths::join;
use super::units::{Kind, Layer, Unit, Walk};
use super::{File, Item, Value};
use crate::error::Error;
use crate::fold::Fold;
use crate::keymap::Choice;

/// What the modules say about the tensors.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Where it lies in the file; empty where the file is the network.
    pub(crate) path: String,
    /// The parts that a tensor (by its item's number) is; more than one where modules share it.
    pub(crate) parts: HashMap<usize, Vec<Part>>,
    /// What the modules do beyond those of a DenseNet, to be worked into the tensors.
    pub(crate) folds: Vec<Fold>,
    pub(crate) eps: f64,
    pub(crate) head: Head,
}

/// A tensor's place in the network.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// torchvision's name.
    pub(crate) target: String,
    /// Its shape, where the file's is flat.
    pub(crate) shape: Option<Vec<usize>>,
}

/// Finds the network in a file: the object itself, or one in a table.
pub(crate) fn find(file: &File, choice: &Choice) -> Result<Network, Error> {
    let mut candidates = Vec::new();
    let mut seen = vec![false; file.items().len()];
    for (number, root) in (1..).zip(file.roots()) {
        let path = if file.roots().len() > 1 { format!("object{number}") } else { String::new() };
        containers(file, *root, &path, 0, &mut seen, &mut candidates);
    }
    let paths = candidates.iter().map(|(path, _)| path.clone()).collect();
    let Some(chosen) = choice.of(paths)? else {
        return Err(Error::Layout("the file holds no network; `inspect` shows what it holds".into()));
    };
    let root = candidates.into_iter().find(|(path, _)| *path == chosen).map_or(Value::Nil, |(_, value)| value);
    let mut walk = Walk { file, pending: 1.0, head: Head::Logits, visits: 0 };
    let mut units = Vec::new();
    walk.flatten(root, &chosen, 0, &mut units)?;
    if walk.pending != 1.0 {
        return Err(Error::Layout("the network's last module scales its output".into()));
    }
    let mut names = Names { file, eps: None, network: Network { head: walk.head, ..Network::default() } };
    names.network(&units)?;
    Ok(Network { path: chosen, eps: names.eps.unwrap_or(Config::EPS), ..names.network })
}

/// The outermost containers of modules, each once, with their paths.
fn containers<'a>(
    file: &File<'a>,
    value: Value<'a>,
    path: &str,
    depth: usize,
    seen: &mut [bool],
    found: &mut Vec<(String, Value<'a>)>,
) {
    if depth > super::paths::DEPTH {
        return;
    }
    match value {
        Value::Item(number) => match seen.get_mut(number) {
            Some(seen) if !*seen => *seen = true,
            _ => return,
        },
        _ => return,
    }
    if file.class(value).is_some() {
        if file.field(value, "modules").is_some() {
            found.push((path.to_owned(), value));
        }
        return;
    }
    for (key, inner) in super::paths::sorted(file.pairs(value).unwrap_or_default()) {
        containers(file, *inner, &join(path, &super::paths::show(*key)), depth + 1, seen, found);
    }
}

struct Names<'f, 'a> {
    file: &'f File<'a>,
    /// The eps of the first batch norm, which the others' are brought to.
    eps: Option<f64>,
    network: Network,
}

impl<'a> Names<'_, 'a> {
    /// conv0 [norm0] (dense layers, norm, conv)* dense layers, norm5, classifier
    fn network(&mut self, units: &[Unit<'a>]) -> Result<(), Error> {
        use Kind::{Conv, Linear, Norm};
        let of = |unit: &Unit, kind: Kind| matches!(unit, Unit::Layer(layer) if layer.kind == kind);
        let mut rest = match units {
            [conv0, norm0, rest @ ..] if of(conv0, Conv) && of(norm0, Norm) => {
                self.unit(conv0, "features.conv0", (7.0, 2.0, 3.0))?;
                self.unit(norm0, "features.norm0", NO_KERNEL)?;
                rest
            }
            [conv0, rest @ ..] if of(conv0, Conv) => {
                self.unit(conv0, "features.conv0", (3.0, 1.0, 1.0))?;
                rest
            }
            _ => return Err(Error::Layout("the first module with weights is no convolution".into())),
        };
        for block in 1.. {
            let layers = rest.iter().take_while(|unit| matches!(unit, Unit::Dense { .. })).count();
            let (dense, after) = rest.split_at(layers);
            for (number, layer) in (1..).zip(dense) {
                if let Unit::Dense { path, layers } = layer {
                    self.dense(path, layers, &format!("features.denseblock{block}.denselayer{number}"))?;
                }
            }
            rest = match after {
                [norm, conv, rest @ ..] if layers > 0 && of(norm, Norm) && of(conv, Conv) => {
                    self.unit(norm, &format!("features.transition{block}.norm"), NO_KERNEL)?;
                    self.unit(conv, &format!("features.transition{block}.conv"), (1.0, 1.0, 0.0))?;
                    if !matches!(conv, Unit::Layer(Layer { pool: Some((size, stride)), .. })
                        if *size == 2.0 && stride.is_none_or(|stride| stride == 2.0))
                    {
                        let reason = "no average pooling of 2 follows this transition";
                        return Err(Error::Layout(format!("module {}: {reason}", conv.path())));
                    }
                    rest
                }
                [norm5, classifier] if layers > 0 && of(norm5, Norm) && of(classifier, Linear) => {
                    self.unit(norm5, "features.norm5", NO_KERNEL)?;
                    return self.unit(classifier, "classifier", NO_KERNEL);
                }
                _ => {
                    let place =
                        after.first().map_or_else(|| "the end".into(), |unit| format!("module {}", unit.path()));
                    return Err(Error::Layout(format!(
                        "{place} follows block {block} of {layers} dense layers, where a transition or the classifier \
                         is expected"
                    )));
                }
            };
        }
        Ok(())
    }

    fn dense(&mut self, path: &str, layers: &[Layer<'a>], name: &str) -> Result<(), Error> {
        let kinds: Vec<_> = layers.iter().map(|layer| layer.kind).collect();
        let kernels: &[_] = match kinds[..] {
            [Kind::Norm, Kind::Conv] => &[(3.0, 1.0, 1.0)],
            [Kind::Norm, Kind::Conv, Kind::Norm, Kind::Conv] => &[(1.0, 1.0, 0.0), (3.0, 1.0, 1.0)],
            _ => {
                let reason = "is no dense layer: batch norm and convolution, once or twice, are expected";
                return Err(Error::Layout(format!("module {path} {reason}")));
            }
        };
        for ((number, pair), kernel) in (1..).zip(layers.chunks_exact(2)).zip(kernels) {
            for (layer, part) in pair.iter().zip(["norm", "conv"]) {
                self.layer(layer, &format!("{name}.{part}{number}"), *kernel)?;
            }
        }
        Ok(())
    }

    fn unit(&mut self, unit: &Unit<'a>, name: &str, kernel: Kernel) -> Result<(), Error> {
        match unit {
            Unit::Layer(layer) => self.layer(layer, name, kernel),
            Unit::Dense { path, .. } => Err(Error::Layout(format!("module {path} is in the wrong place"))),
        }
    }

    fn layer(&mut self, layer: &Layer<'a>, name: &str, kernel: Kernel) -> Result<(), Error> {
        let Layer { kind, path, module, .. } = layer;
        match kind {
            Kind::Conv => {
                self.check_kernel(layer, kernel)?;
                let shape = self.flat_shape(path, *module)?;
                self.part(*module, "weight", name, "weight", shape);
                self.part(*module, "bias", name, "bias", None);
            }
            Kind::Linear => {
                self.part(*module, "weight", name, "weight", None);
                self.part(*module, "bias", name, "bias", None);
            }
            Kind::Norm => {
                if !layer.relu {
                    return Err(Error::Layout(format!("module {path}: no ReLU follows this batch norm")));
                }
                self.norm(*module, name);
            }
        }
        for (factor, of_input) in [(layer.input, true), (layer.output, false)] {
            if factor != 1.0 {
                self.network.folds.push(Fold::Scale { layer: name.to_owned(), factor, of_input });
            }
        }
        Ok(())
    }

    fn norm(&mut self, module: Value<'a>, name: &str) {
        let has = |field: &str| self.file.field(module, field).is_some_and(|value| self.file.tensor(value).is_some());
        let version = match self.file.item(module) {
            Some(Item::Object { version, .. }) => *version,
            _ => 0.0,
        };
        let affine = has("weight") || has("bias") || self.file.boolean(module, "affine") == Some(true);
        let old = version < 2.0 && has("running_std");
        let eps = self.file.number(module, "eps").unwrap_or(Config::EPS);
        let common = *self.eps.get_or_insert(eps);
        for field in ["weight", "bias", "running_mean"] {
            self.part(module, field, name, field, None);
        }
        self.part(module, if old { "running_std" } else { "running_var" }, name, "running_var", None);
        let norm = name.to_owned();
        if old {
            self.network.folds.push(Fold::StdToVar { norm: norm.clone(), eps });
        }
        if eps != common {
            self.network.folds.push(Fold::Eps { norm: norm.clone(), from: eps, to: common });
        }
        if !affine {
            self.network.folds.push(Fold::Affine { norm });
        }
    }

    fn part(&mut self, module: Value<'a>, field: &str, name: &str, target: &str, shape: Option<Vec<usize>>) {
        if let Some(Value::Item(item)) = self.file.field(module, field) {
            let part = Part { target: format!("{name}.{target}"), shape };
            self.network.parts.entry(item).or_default().push(part);
        }
    }

    /// Kernel, stride and padding must be those of the place.
    fn check_kernel(&self, layer: &Layer<'a>, (size, stride, padding): Kernel) -> Result<(), Error> {
        let number = |name| self.file.number(layer.module, name);
        let single = number("padding");
        let found = [
            ("kW", number("kW"), size),
            ("kH", number("kH"), size),
            ("dW", number("dW").or(Some(1.0)), stride),
            ("dH", number("dH").or(Some(1.0)), stride),
            ("padW", number("padW").or(single).or(Some(0.0)), padding),
            ("padH", number("padH").or(single).or(Some(0.0)), padding),
        ];
        for (name, found, expected) in found {
            if let Some(found) = found.filter(|found| *found != expected) {
                return Err(Error::Layout(format!(
                    "module {}: its {name} is {found} where a DenseNet has {expected}",
                    layer.path
                )));
            }
        }
        Ok(())
    }

    /// The four sizes of a convolution whose weight is stored as a matrix (out, in * kH * kW).
    fn flat_shape(&self, path: &str, module: Value<'a>) -> Result<Option<Vec<usize>>, Error> {
        let weight = self.file.field(module, "weight").and_then(|weight| self.file.tensor(weight));
        let Some(weight) = weight else { return Ok(None) };
        let [rows, columns] = weight.shape()[..] else { return Ok(None) };
        let size =
            |name| self.file.number(module, name).filter(|size| (1.0..=65536.0).contains(size)).map(|n| n as usize);
        match (size("nInputPlane"), size("kH"), size("kW")) {
            (Some(input), Some(height), Some(width)) if input * height * width == columns => {
                Ok(Some(vec![rows, input, height, width]))
            }
            _ => Err(Error::Layout(format!("module {path}: its weight {rows}x{columns} does not fit its sizes"))),
        }
    }
}

/// Kernel size, stride and padding.
type Kernel = (f64, f64, f64);

const NO_KERNEL: Kernel = (0.0, 0.0, 0.0);
