//! From the modules of a Torch7 DenseNet to torchvision's names.
//!
//! The layouts are those of liuzhuang13/DenseNet since 2016-08: a dense layer is `Concat{Identity, net}`, that in a
//! `Sequential`, or a `DenseConnectLayerCustom` of `net1` and `net2`. All become one sequence of units first, and names
//! follow from the sequence.

use std::collections::HashMap;

use densenet_arch::Head;

use crate::error::Error;
use crate::t7::{File, Value};

/// What the modules say about the tensors.
#[derive(Debug)]
pub(crate) struct Network {
    /// From the tensor's path in the file to torchvision's name, and the shape if the file's is flat.
    pub(crate) names: HashMap<String, (String, Option<Vec<usize>>)>,
    pub(crate) eps: f64,
    pub(crate) head: Head,
}

/// A part of the sequence, with the path of its module.
#[derive(Debug)]
enum Unit<'a> {
    Conv(String, Value<'a>),
    Norm(String),
    Linear(String),
    Dense(String, Vec<Unit<'a>>),
}

/// Finds the network in a file: the object itself, or the one `model` of a table.
pub(crate) fn find(file: &File) -> Result<Network, Error> {
    let root = file.roots.first().copied().unwrap_or(Value::Nil);
    let (root, path) = match (file.class(root), file.field(root, "model")) {
        (None, Some(model)) => (model, "model"),
        _ => (root, ""),
    };
    if file.class(root).is_none() {
        return Err(Error::Layout("the file holds no network; `inspect` shows what it holds".into()));
    }
    let mut walk = Walk { file, eps: None, head: Head::Logits };
    let mut units = Vec::new();
    walk.flatten(root, path, 0, &mut units)?;
    let mut names = Names { file, names: HashMap::new() };
    names.network(&units)?;
    Ok(Network { names: names.names, eps: walk.eps.unwrap_or(densenet_arch::Config::EPS), head: walk.head })
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

struct Walk<'f, 'a> {
    file: &'f File<'a>,
    eps: Option<f64>,
    head: Head,
}

impl<'a> Walk<'_, 'a> {
    fn flatten(&mut self, module: Value<'a>, path: &str, depth: usize, units: &mut Vec<Unit<'a>>) -> Result<(), Error> {
        let class = self.file.class(module).unwrap_or("?");
        let refuse = |reason: &str| Err(Error::Layout(format!("module {path} ({class}) {reason}")));
        if depth > 32 {
            return refuse("is nested too deep");
        }
        // cudnn's classes and nn's hold the same fields.
        let kind = class.split_once('.').map_or(class, |(_, kind)| kind);
        match kind {
            "Sequential" => {
                for (number, child) in (1..).zip(self.children(module)) {
                    self.flatten(child, &join(path, &format!("{number}")), depth + 1, units)?;
                }
            }
            "Concat" => {
                let children = self.children(module);
                let [identity, net] = children[..] else {
                    return refuse("is no dense layer: two branches are expected");
                };
                if self.file.class(identity) != Some("nn.Identity") {
                    return refuse("is no dense layer: its first branch is not nn.Identity");
                }
                let mut inner = Vec::new();
                self.flatten(net, &join(path, "2"), depth + 1, &mut inner)?;
                units.push(Unit::Dense(path.to_owned(), inner));
            }
            // Its list of modules holds net1 and net2 a second time.
            "DenseConnectLayerCustom" => {
                let mut inner = Vec::new();
                for name in ["net1", "net2"] {
                    let net = self.file.field(module, name).unwrap_or(Value::Nil);
                    self.flatten(net, &join(path, name), depth + 1, &mut inner)?;
                }
                units.push(Unit::Dense(path.to_owned(), inner));
            }
            "SpatialConvolution" | "SpatialConvolutionMM" => {
                if self.file.field(module, "bias").is_some_and(|bias| self.file.tensor(bias).is_some()) {
                    return refuse("has a bias, which no DenseNet layer here can hold exactly");
                }
                if self.file.number(module, "groups").is_some_and(|groups| groups.to_bits() != 1_f64.to_bits()) {
                    return refuse("is a grouped convolution");
                }
                units.push(Unit::Conv(path.to_owned(), module));
            }
            "SpatialBatchNormalization" => {
                if self.file.field(module, "running_std").is_some() {
                    return refuse("is of the first version and stores running_std");
                }
                let eps = self.file.number(module, "eps").unwrap_or(densenet_arch::Config::EPS);
                if self.eps.get_or_insert(eps).to_bits() != eps.to_bits() {
                    return refuse("has another eps than the batch norms before it");
                }
                units.push(Unit::Norm(path.to_owned()));
            }
            "Linear" => units.push(Unit::Linear(path.to_owned())),
            "Dropout" => {
                let scales_in_training = self.file.field(module, "v2") == Some(Value::Boolean(true));
                if !scales_in_training && self.file.number(module, "p").unwrap_or(0.5) > 0.0 {
                    return refuse("is of the first version, which scales its input at evaluation too");
                }
            }
            "LogSoftMax" => self.head = Head::LogSoftmax,
            "ReLU" | "SpatialMaxPooling" | "SpatialAveragePooling" | "Reshape" | "View" | "Identity" | "JoinTable" => {}
            _ => return refuse("is no part of a DenseNet"),
        }
        Ok(())
    }

    fn children(&self, module: Value<'a>) -> Vec<Value<'a>> {
        self.file.field(module, "modules").map(|modules| self.file.array(modules)).unwrap_or_default()
    }
}

struct Names<'f, 'a> {
    file: &'f File<'a>,
    names: HashMap<String, (String, Option<Vec<usize>>)>,
}

impl<'a> Names<'_, 'a> {
    /// conv0 [norm0] (dense layers, norm, conv)* dense layers, norm5, classifier
    fn network(&mut self, units: &[Unit<'a>]) -> Result<(), Error> {
        let mut rest = match units {
            [conv0 @ Unit::Conv(..), norm0 @ Unit::Norm(..), rest @ ..] => {
                self.unit(conv0, "features.conv0")?;
                self.unit(norm0, "features.norm0")?;
                rest
            }
            [conv0 @ Unit::Conv(..), rest @ ..] => {
                self.unit(conv0, "features.conv0")?;
                rest
            }
            _ => return Err(Error::Layout("the first module with weights is no convolution".into())),
        };
        for block in 1.. {
            let layers = rest.iter().take_while(|unit| matches!(unit, Unit::Dense(..))).count();
            let (dense, after) = rest.split_at(layers);
            for (number, layer) in (1..).zip(dense) {
                if let Unit::Dense(path, units) = layer {
                    self.layer(path, units, &format!("features.denseblock{block}.denselayer{number}"))?;
                }
            }
            rest = match after {
                [norm @ Unit::Norm(..), conv @ Unit::Conv(..), rest @ ..] if layers > 0 => {
                    self.unit(norm, &format!("features.transition{block}.norm"))?;
                    self.unit(conv, &format!("features.transition{block}.conv"))?;
                    rest
                }
                [norm5 @ Unit::Norm(..), classifier @ Unit::Linear(..)] if layers > 0 => {
                    self.unit(norm5, "features.norm5")?;
                    return self.unit(classifier, "classifier");
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

    fn layer(&mut self, path: &str, units: &[Unit<'a>], name: &str) -> Result<(), Error> {
        match units {
            [Unit::Norm(..), Unit::Conv(..)] | [Unit::Norm(..), Unit::Conv(..), Unit::Norm(..), Unit::Conv(..)] => {}
            _ => {
                let reason = "is no dense layer: batch norm and convolution, once or twice, are expected";
                return Err(Error::Layout(format!("module {path} {reason}")));
            }
        }
        for (number, pair) in (1..).zip(units.chunks_exact(2)) {
            for (unit, part) in pair.iter().zip(["norm", "conv"]) {
                self.unit(unit, &format!("{name}.{part}{number}"))?;
            }
        }
        Ok(())
    }

    fn unit(&mut self, unit: &Unit<'a>, name: &str) -> Result<(), Error> {
        let (fields, shape): (&[&str], _) = match unit {
            Unit::Conv(path, module) => (&["weight"], self.flat_shape(path, *module)?),
            Unit::Norm(..) => (&["weight", "bias", "running_mean", "running_var"], None),
            Unit::Linear(..) => (&["weight", "bias"], None),
            Unit::Dense(path, _) => return Err(Error::Layout(format!("module {path} is in the wrong place"))),
        };
        for field in fields {
            self.names.insert(join(unit.path(), field), (format!("{name}.{field}"), shape.clone()));
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

impl Unit<'_> {
    fn path(&self) -> &str {
        match self {
            Unit::Conv(path, _) | Unit::Norm(path) | Unit::Linear(path) | Unit::Dense(path, _) => path,
        }
    }
}
