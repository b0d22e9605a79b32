//! Keras: `.h5` of Keras 1 and 2 (weights, or a whole model), `.weights.h5` of Keras 3, and `.keras`, a zip around one.
//! Only weights are read, and of a model's description its numbers: what code it names is never asked for.

pub(crate) mod hdf5;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use densenet_arch::Head;
use serde::Deserialize;

use crate::alloc::Budget;
use crate::checkpoint::Node as Shown;
use crate::error::Error;
use crate::names;
use crate::report::Change;
use crate::source::Source;
use crate::storage::Storage;
use crate::tensor::Tensor;
use crate::zip;

pub(crate) const FORMAT: &str = "keras";
/// The weights in a `.keras`, and the description.
pub(crate) const WEIGHTS: &str = "model.weights.h5";
const CONFIG: &str = "config.json";
/// A model's description; DenseNet-201's takes 300 kB.
const MOST_CONFIG: usize = 4 << 20;

/// Whose convolution the kernels are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernels {
    /// TensorFlow's: as it is computed.
    Tensorflow,
    /// Theano's: back to front.
    Theano,
}

/// A parsed file.
#[derive(Debug)]
pub(crate) struct File {
    /// Layers by their paths.
    layers: BTreeSet<String>,
    /// What Keras 3 says that the layer of a path is called.
    names: BTreeMap<String, String>,
    backend: Option<String>,
    /// eps and head, where the whole model is there.
    pub(crate) eps: Option<f64>,
    pub(crate) head: Option<Head>,
}

/// A description, as far as it is asked.
#[derive(Deserialize)]
struct Model {
    config: Layers,
}

#[derive(Deserialize)]
struct Layers {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    class_name: String,
    config: Settings,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Settings {
    epsilon: Option<f64>,
    activation: Activation,
}

/// A function by its name; others, as those of a layer's own code, are as good as none.
#[derive(Default)]
struct Activation(Option<String>);

impl<'de> Deserialize<'de> for Activation {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Name(String),
            Other(serde::de::IgnoredAny),
        }
        Ok(Self(match Any::deserialize(deserializer)? {
            Any::Name(name) => Some(name),
            Any::Other(_) => None,
        }))
    }
}

/// Arrays by their paths. `config` is the description beside the weights in a `.keras`.
pub(crate) fn read<'a>(
    bytes: &'a [u8],
    config: Option<&[u8]>,
    budget: &mut Budget,
) -> Result<(File, Vec<(String, Tensor<'a>)>), Error> {
    let contents = hdf5::read(bytes, budget)?;
    let mut file = File { layers: BTreeSet::new(), names: BTreeMap::new(), backend: None, eps: None, head: None };
    let mut described = config;
    for (path, name, value) in contents.attributes {
        let value_text = value.and_then(|value| std::str::from_utf8(value).ok());
        match (name, value_text) {
            ("weight_names", _) => drop(file.layers.insert(path)),
            ("name", Some(layer)) if path.ends_with("/vars") && layer.len() < 256 => {
                file.names.insert(path, layer.to_owned());
            }
            ("backend", Some(backend)) => file.backend = Some(backend.chars().take(32).collect()),
            ("model_config", _) => described = described.or(value),
            _ => {}
        }
    }
    if let Some(config) = described {
        file.describe(config)?;
    }
    Ok((file, contents.arrays))
}

/// Reads a `.keras`. What it holds deflated is inflated, unless the zip itself was.
pub(crate) fn read_zip<'a>(
    source: &'a Source,
    bytes: &'a [u8],
    packed: bool,
    budget: &mut Budget,
) -> Result<(File, Vec<(String, Tensor<'a>)>), Error> {
    let entries = zip::read(bytes, if packed { 0 } else { zip::most_inflated(bytes) })?;
    let config =
        entries.get(CONFIG).filter(|entry| entry.size() <= MOST_CONFIG).map(zip::Entry::content).transpose()?;
    let Some(weights) = entries.get(WEIGHTS) else {
        return Err(Error::Malformed {
            format: zip::FORMAT,
            offset: 0,
            reason: format!("there is no {WEIGHTS} in it"),
        });
    };
    let weights = match weights.content()? {
        Cow::Borrowed(bytes) => bytes,
        Cow::Owned(bytes) => source.keep_pickle(bytes),
    };
    read(weights, config.as_deref(), budget)
}

impl File {
    /// Takes eps and head from a description.
    fn describe(&mut self, config: &[u8]) -> Result<(), Error> {
        let refuse = |reason: String| Error::Malformed { format: FORMAT, offset: 0, reason };
        if config.len() > MOST_CONFIG {
            return Err(refuse(format!("a description of {} bytes; no DenseNet's has so many", config.len())));
        }
        let model: Model =
            serde_json::from_slice(config).map_err(|error| refuse(format!("its description: {error}")))?;
        let layers = model.config.layers;
        let mut eps = layers
            .iter()
            .filter(|layer| layer.class_name == "BatchNormalization")
            .filter_map(|layer| layer.config.epsilon);
        self.eps = eps.next();
        if let Some(other) = eps.find(|eps| Some(*eps) != self.eps) {
            return Err(Error::Layout(format!("its batch norms have several eps, {other:e} among them")));
        }
        // The classifier's own activation, or a layer behind it.
        let dense = layers.iter().rposition(|layer| layer.class_name == "Dense");
        let behind = dense.and_then(|at| layers.get(at..)).unwrap_or_default();
        for function in behind.iter().filter_map(|layer| layer.config.activation.0.as_deref()) {
            self.head = match (function, self.head) {
                ("softmax", _) => Some(Head::Softmax),
                ("log_softmax", _) => Some(Head::LogSoftmax),
                ("linear", head) => head.or(Some(Head::Logits)),
                _ => {
                    return Err(Error::Layout(format!(
                        "its classifier ends in {function}, and a DenseNet's in a softmax"
                    )));
                }
            };
        }
        Ok(())
    }

    pub(crate) fn tree(&self, arrays: impl Iterator<Item = Shown>) -> Vec<Shown> {
        let mut tree: Vec<_> = arrays.collect();
        if let Some(backend) = &self.backend {
            tree.push(Shown { name: "backend".into(), text: backend.clone(), children: Vec::new() });
        }
        tree
    }

    /// A path for the rules: `conv1/bn/conv1/bn/gamma:0`, `conv1_bn/conv1_bn_running_std` and
    /// `layers/batch_normalization/vars/0` of a layer `conv1_bn` all are tensors of `conv1_bn`.
    pub(crate) fn path(&self, name: &str) -> String {
        let (place, last) = name.rsplit_once('/').unwrap_or(("", name));
        if let Some(layer) = self.names.get(place)
            && let Some(field) = variable(place, last)
        {
            return format!("{layer}.{field}");
        }
        let mut layer = place;
        while !self.layers.contains(layer) {
            match layer.rsplit_once('/') {
                Some((outer, _)) => layer = outer,
                None => break,
            }
        }
        let last = last.strip_suffix(":0").unwrap_or(last);
        // Whatever stands before the field is the layer's name once more.
        let field = names::joined(&format!("_{last}"));
        let field = field.as_deref().and_then(|joined| joined.rsplit_once('.')).map(|(_, field)| field);
        let layer = layer.strip_prefix("model_weights/").unwrap_or(layer).replace('/', "_");
        field.map_or_else(|| name.to_owned(), |field| format!("{layer}.{field}"))
    }

    /// Paths for the rules where Keras 3 does not say what its layers are called: they are numbered as the network has them.
    pub(crate) fn paths_by_number(&self, arrays: &[(String, Vec<usize>)]) -> Option<BTreeMap<String, String>> {
        // Names that Keras made up say no more than the numbers.
        let is_told = self.names.values().any(|name| matches!(name.as_str(), "conv1" | "conv1_conv" | "conv1/conv"));
        if is_told || !self.layers.is_empty() {
            return None;
        }
        let mut convs = BTreeMap::new();
        let mut all = Vec::new();
        for (name, shape) in arrays {
            let (place, last) = name.rsplit_once('/')?;
            let layer = place.strip_suffix("/vars")?.rsplit_once('/')?.1;
            let (class, number) = counted(layer);
            let field = variable(place, last)?;
            if let ("conv2d", [side, _, _, _]) = (class, &shape[..]) {
                convs.insert(number, *side);
            }
            all.push((name, class, number, field));
        }
        // Each convolution's name, and that of the batch norm before it; the first has it behind.
        let sides: Vec<_> = convs.values().copied().collect();
        let (mut conv_names, mut norm_names) = (Vec::new(), Vec::new());
        let (mut block, mut layer) = (2, 0);
        for (index, side) in sides.iter().enumerate() {
            let next = sides.get(index + 1);
            let (conv, norm) = match (index, side, next) {
                (0, ..) => ("conv1_conv".to_owned(), "conv1_bn".to_owned()),
                (_, 1, Some(3)) => {
                    layer += 1;
                    (format!("conv{block}_block{layer}_1_conv"), format!("conv{block}_block{layer}_0_bn"))
                }
                (_, 3, _) => (format!("conv{block}_block{layer}_2_conv"), format!("conv{block}_block{layer}_1_bn")),
                (_, 1, _) => {
                    (block, layer) = (block + 1, 0);
                    (format!("pool{}_conv", block - 1), format!("pool{}_bn", block - 1))
                }
                _ => return None,
            };
            conv_names.push(conv);
            norm_names.push(norm);
        }
        norm_names.push("bn".to_owned());
        let known = all.into_iter().filter_map(|(name, class, number, field)| {
            let layer = match class {
                "conv2d" => conv_names.get(number)?.as_str(),
                "batch_normalization" => norm_names.get(number)?.as_str(),
                "dense" if number == 0 => "predictions",
                _ => return None,
            };
            Some((name.clone(), format!("{layer}.{field}")))
        });
        Some(known.collect())
    }

    /// Whether kernels are (out, in, height, width), and whether they are stored back to front.
    pub(crate) fn kernels(&self, stem: &[usize], told: Option<Kernels>) -> Result<(bool, bool), Error> {
        let theano = match (told, self.backend.as_deref()) {
            (Some(kernels), _) => Some(kernels == Kernels::Theano),
            (None, Some(backend)) => Some(backend == "theano"),
            (None, None) => None,
        };
        let by_shape = match *stem {
            [a, b, c, d] => match (a == b && matches!(a, 3 | 7), c == d && matches!(c, 3 | 7)) {
                (_, false) => Some(false),
                (false, true) => Some(true),
                // Both ends are squares of a kernel's size.
                (true, true) => None,
            },
            _ => Some(false),
        };
        match (by_shape, theano) {
            (Some(channels_first), theano) => Ok((channels_first, theano.unwrap_or(channels_first))),
            (None, Some(theano)) => Ok((theano, theano)),
            (None, None) => Err(Error::Choice(
                "the order of its kernels can be TensorFlow's or Theano's: --kernels tensorflow or --kernels theano says which"
                    .into(),
            )),
        }
    }
}

/// `conv2d_12` as `conv2d` and 12; the first has no number.
fn counted(layer: &str) -> (&str, usize) {
    let numbered = layer.rsplit_once('_').and_then(|(class, number)| Some((class, number.parse().ok()?)));
    numbered.unwrap_or((layer, 0))
}

/// torchvision's word for a layer's variable of that number.
fn variable(place: &str, number: &str) -> Option<&'static str> {
    let layer = place.strip_suffix("/vars")?.rsplit_once('/')?.1;
    let fields: &[&str] = match counted(layer).0 {
        "conv2d" | "dense" | "scale" => &["weight", "bias"],
        "batch_normalization" => &["weight", "bias", "running_mean", "running_var"],
        _ => &[],
    };
    fields.get(number.parse::<usize>().ok()?).copied()
}

/// A kernel as torchvision has it: (out, in, height, width), each square front to back.
pub(crate) fn kernel<'a>(
    tensor: &Tensor<'a>,
    (channels_first, flipped): (bool, bool),
) -> Result<(Tensor<'a>, Vec<Change>), Error> {
    let mut changes = Vec::new();
    let mut kernel = tensor.clone();
    if !channels_first {
        changes.push(Change::Transposed(tensor.shape().to_vec()));
        kernel = kernel.permute(&[3, 2, 0, 1]).map_err(Error::Layout)?;
    }
    let &[_, _, height, width] = kernel.shape() else { return Ok((kernel, changes)) };
    let plane = height * width * kernel.dtype().size();
    if !flipped || height * width < 2 {
        return Ok((kernel, changes));
    }
    let bytes = kernel.to_bytes()?;
    let mut turned = crate::alloc::vec_with(bytes.len())?;
    for square in bytes.chunks(plane) {
        square.chunks(kernel.dtype().size()).rev().for_each(|element| turned.extend_from_slice(element));
    }
    changes.push(Change::Flipped);
    let turned = Tensor::contiguous(kernel.dtype(), kernel.shape().to_vec(), Storage::owned(turned));
    Ok((turned.map_err(Error::Layout)?, changes))
}
