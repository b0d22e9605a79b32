//! The modules of a network as one sequence of units, whatever containers they lie in. Each module that computes is checked:
//! what would give other results is refused.

use densenet_arch::Head;

use super::paths::join;
use super::{File, Value};
use crate::error::Error;

/// A part of the sequence.
#[derive(Debug)]
pub(super) enum Unit<'a> {
    Layer(Layer<'a>),
    Dense { path: String, layers: Vec<Layer<'a>> },
}

/// A module with parameters.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    pub(super) kind: Kind,
    pub(super) path: String,
    pub(super) module: Value<'a>,
    /// Factors by which its input and its output are multiplied.
    pub(super) input: f64,
    pub(super) output: f64,
    /// Whether a ReLU follows.
    pub(super) relu: bool,
    /// Kernel size and stride of the average pooling that follows.
    pub(super) pool: Option<(f64, Option<f64>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Conv,
    Norm,
    Linear,
}

impl Unit<'_> {
    pub(super) fn path(&self) -> &str {
        match self {
            Unit::Layer(layer) => &layer.path,
            Unit::Dense { path, .. } => path,
        }
    }
}

/// DenseNet-264 has about 1700.
const MOST_MODULES: usize = 1 << 16;

/// From containers to the sequence.
pub(super) struct Walk<'f, 'a> {
    pub(super) file: &'f File<'a>,
    /// A factor that waits for the unit which it can be worked into.
    pub(super) pending: f64,
    pub(super) head: Head,
    /// Modules met; one that is referred to again counts again.
    pub(super) visits: usize,
}

impl<'a> Walk<'_, 'a> {
    pub(super) fn flatten(
        &mut self,
        module: Value<'a>,
        path: &str,
        depth: usize,
        units: &mut Vec<Unit<'a>>,
    ) -> Result<(), Error> {
        let class = self.file.class(module).unwrap_or("?");
        let refuse = |reason: &str| Err(Error::Layout(format!("module {path} ({class}) {reason}")));
        let number = |name| self.file.number(module, name);
        // Its fields are looked through; those of a module are about twenty.
        let pairs = |value| self.file.pairs(value).map_or(0, <[_]>::len);
        let modules = self.file.field(module, "modules").map_or(0, pairs);
        self.visits += 1 + (pairs(module) + modules) / 64;
        if depth > 32 || self.visits > MOST_MODULES {
            return refuse("is nested too deep, or again and again");
        }
        // cudnn's classes and nn's hold the same fields.
        let kind = class.rsplit('.').next().unwrap_or_default();
        match kind {
            "Sequential" => {
                for (number, child) in (1..).zip(self.children(module)) {
                    self.flatten(child, &join(path, &number.to_string()), depth + 1, units)?;
                }
            }
            // One copy a GPU, each with all of the parameters.
            "DataParallelTable" | "DataParallel" => {
                let Some(&copy) = self.children(module).first() else { return refuse("holds no network") };
                self.flatten(copy, path, depth + 1, units)?;
            }
            "Concat" | "ConcatTable" => {
                let children = self.children(module);
                let [identity, net] = children[..] else {
                    return refuse("is no dense layer: two branches are expected");
                };
                if self.file.class(identity) != Some("nn.Identity") {
                    return refuse("is no dense layer: its first branch is not nn.Identity");
                }
                self.dense(module, path, &[(net, "2")], depth, units)?;
            }
            // Its list of modules holds net1 and net2 a second time.
            "DenseConnectLayerCustom" => {
                let nets = ["net1", "net2"].map(|name| (self.file.field(module, name).unwrap_or(Value::Nil), name));
                self.dense(module, path, &nets, depth, units)?;
            }
            "SpatialConvolution" | "SpatialConvolutionMM" => {
                if number("groups").is_some_and(|groups| groups != 1.0) {
                    return refuse("is a grouped convolution");
                }
                self.layer(Kind::Conv, path, module, units);
            }
            "SpatialBatchNormalization" => self.layer(Kind::Norm, path, module, units),
            "Linear" => self.layer(Kind::Linear, path, module, units),
            "ReLU" | "Threshold" => {
                if number("threshold").unwrap_or(0.0) != 0.0 || number("val").unwrap_or(0.0) != 0.0 {
                    return refuse("has a threshold, which a ReLU has not");
                }
                match units.last_mut() {
                    Some(Unit::Layer(layer)) if layer.kind == Kind::Norm && !layer.relu => layer.relu = true,
                    _ => return refuse("follows no batch norm, as it does in a DenseNet"),
                }
            }
            // The first version scales at evaluation; the second, which is newer, in training.
            "Dropout" if self.file.boolean(module, "v2") == Some(true) => {}
            "Dropout" | "SpatialDropout" => {
                let p = number("p").unwrap_or(0.5);
                if !(0.0..1.0).contains(&p) {
                    return refuse("drops everything");
                }
                self.scale(1.0 - p, units);
            }
            "SpatialAveragePooling" => {
                let (width, height) = (number("kW").unwrap_or(0.0), number("kH").unwrap_or(0.0));
                if number("padW").unwrap_or(0.0) != 0.0 || number("padH").unwrap_or(0.0) != 0.0 {
                    return refuse("is padded, which no pooling of a DenseNet is");
                }
                if self.file.boolean(module, "ceil_mode") == Some(true) {
                    return refuse("rounds sizes up, which is not supported");
                }
                // Old files of nn sum where newer ones divide; cudnn always divides.
                if class.starts_with("nn.") && self.file.boolean(module, "divide") != Some(true) {
                    self.scale(width * height, units);
                }
                match units.last_mut() {
                    Some(Unit::Layer(layer)) if layer.pool.is_none() => layer.pool = Some((width, number("dW"))),
                    _ => return refuse("is in no place where a DenseNet pools"),
                }
            }
            "SpatialMaxPooling" => {
                let sizes = ["kW", "kH", "dW", "dH", "padW", "padH"].map(number);
                let expected = [3.0, 3.0, 2.0, 2.0, 1.0, 1.0];
                if sizes.iter().zip(expected).any(|(size, expected)| size.is_some_and(|size| size != expected)) {
                    return refuse("is not the 3x3 pooling of stride 2 that a DenseNet has");
                }
                if self.file.boolean(module, "ceil_mode") == Some(true) {
                    return refuse("rounds sizes up, which is not supported");
                }
            }
            "LogSoftMax" => self.head = Head::LogSoftmax,
            "Reshape" | "View" | "Identity" | "JoinTable" | "Contiguous" | "Copy" => {}
            _ => return refuse("is no part of a DenseNet"),
        }
        Ok(())
    }

    fn children(&self, module: Value<'a>) -> Vec<Value<'a>> {
        self.file.field(module, "modules").map(|modules| self.file.array(modules)).unwrap_or_default()
    }

    fn layer(&mut self, kind: Kind, path: &str, module: Value<'a>, units: &mut Vec<Unit<'a>>) {
        let input = std::mem::replace(&mut self.pending, 1.0);
        let path = path.to_owned();
        units.push(Unit::Layer(Layer { kind, path, module, input, output: 1.0, relu: false, pool: None }));
    }

    /// A factor goes into the layer before it: ReLU and pooling let it through. Behind a dense layer it has to wait for the
    /// layer after it.
    fn scale(&mut self, factor: f64, units: &mut [Unit<'a>]) {
        match units.last_mut() {
            Some(Unit::Layer(layer)) => layer.output *= factor,
            Some(Unit::Dense { .. }) | None => self.pending *= factor,
        }
    }

    /// A dense layer of these nets, one after the other.
    fn dense(
        &mut self,
        module: Value<'a>,
        path: &str,
        nets: &[(Value<'a>, &str)],
        depth: usize,
        units: &mut Vec<Unit<'a>>,
    ) -> Result<(), Error> {
        let class = self.file.class(module).unwrap_or("?");
        let refuse = |reason: &str| Err(Error::Layout(format!("module {path} ({class}) {reason}")));
        // The identity beside the net would need the factor too.
        if self.pending != 1.0 {
            return refuse("gets a scaled input, which cannot be worked into its weights");
        }
        let mut inner = Vec::new();
        for (net, name) in nets {
            self.flatten(*net, &join(path, name), depth + 1, &mut inner)?;
        }
        let mut layers = Vec::new();
        for unit in inner {
            match unit {
                Unit::Layer(layer) => layers.push(layer),
                Unit::Dense { .. } => return refuse("holds a dense layer within a dense layer"),
            }
        }
        units.push(Unit::Dense { path: path.to_owned(), layers });
        Ok(())
    }
}
