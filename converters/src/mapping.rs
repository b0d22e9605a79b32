//! Where a file's layout puts each of its tensors.

use std::collections::HashSet;

use densenet_arch::{Head, Metadata};

use crate::alloc::Budget;
use crate::checkpoint::{Checkpoint, Content, NamedTensor};
use crate::convert::Options;
use crate::error::Error;
use crate::fold::Fold;
use crate::keras::Kernels;
use crate::keymap::{self, Choice, Layout, StateDict};
use crate::report::Change;
use crate::tensor::Tensor;
use crate::{keras, mxnet, names, npz, t7};

/// What a run's averaged weights are called, before their names, and what is no part of its network.
const AVERAGE: &str = "average.";
const OPTIMISER: &str = "optimiser.";

/// A tensor of the source, and where its layout puts it.
#[derive(Debug)]
pub(crate) struct Mapped<'a> {
    pub(crate) source: String,
    pub(crate) tensor: Tensor<'a>,
    pub(crate) place: Place,
}

#[derive(Debug)]
pub(crate) enum Place {
    /// torchvision's name, and what was done to the tensor.
    Target(String, Vec<Change>),
    /// It is left out by rule.
    Rule(&'static str),
    /// No rule knows it.
    Nowhere,
}

impl Mapped<'_> {
    pub(crate) fn target(&self) -> Option<&str> {
        match &self.place {
            Place::Target(target, _) => Some(target),
            _ => None,
        }
    }
}

/// What a layout says of a file's tensors.
pub(crate) struct Mapping<'a> {
    pub(crate) mapped: Vec<Mapped<'a>>,
    /// eps and head, where the modules of the file say them.
    pub(crate) known: Metadata,
    pub(crate) folds: Vec<Fold>,
    /// The eps of networks of this layout, where neither the file nor anybody says another.
    pub(crate) usual_eps: Option<f64>,
    /// How the network takes an image, where that is not its format's usual way.
    pub(crate) protocol: Option<&'static str>,
    /// What to ask for where eps and the poolings' rounding stay unknown and are no matter of course.
    pub(crate) asks: Option<&'static str>,
}

impl<'a> Mapping<'a> {
    pub(crate) fn of(checkpoint: &Checkpoint<'a>, options: &Options) -> Result<Self, Error> {
        let Options { choice, kernels, layout, .. } = options;
        match &checkpoint.content {
            Content::Torch7(file) => Self::of_torch7(file, choice),
            Content::Caffe(file) => file.mapping(own(checkpoint)),
            Content::Onnx(file) => file.mapping(own(checkpoint)),
            Content::Mxnet(file) => match file.mapping(&own(checkpoint))? {
                Some(mapping) => Ok(mapping),
                None => Self::of_mxnet_names(checkpoint, choice).map(|mapping| Self {
                    asks: mapping.usual_eps.is_none().then_some(
                        "eps and the poolings' rounding stand in the symbol, NAME-symbol.json, and none is beside the file: put it \
                         there, or state --eps and --pooling",
                    ),
                    ..mapping
                }),
            },
            Content::Keras(_, file) => Self::of_keras(checkpoint, file, choice, *kernels),
            Content::Npz => Self::of_npz(checkpoint, choice, *layout, *kernels),
            _ => Self::of_state_dict(checkpoint, choice, keymap::PYTORCH, &str::to_owned),
        }
    }

    fn of_torch7(file: &t7::File<'a>, choice: &Choice) -> Result<Self, Error> {
        let network = t7::find(file, choice)?;
        let mut mapped = Vec::new();
        let mut seen = HashSet::new();
        for t7::Found { path, item, tensor } in file.tensors(&mut Budget::unlimited())? {
            let mut add = |tensor: Tensor<'a>, place| mapped.push(Mapped { source: path.clone(), tensor, place });
            match network.parts.get(&item) {
                Some(_) if !seen.insert(item) => add(tensor.clone(), Place::Rule("the same tensor once more")),
                Some(parts) => {
                    for t7::Part { target, shape } in parts {
                        let (tensor, changes) = match shape {
                            None => (tensor.clone(), Vec::new()),
                            Some(shape) => {
                                let refuse = |reason| Error::Tensor {
                                    format: t7::FORMAT,
                                    offset: 0,
                                    tensor: path.clone(),
                                    reason,
                                };
                                let reshaped = tensor.reshape(shape.clone()).map_err(refuse)?;
                                (reshaped, vec![Change::Reshaped(tensor.shape().to_vec())])
                            }
                        };
                        add(tensor, Place::Target(target.clone(), changes));
                    }
                }
                None => add(tensor.clone(), torch7_rule(&path, &network.path)),
            }
        }
        let known = Metadata { eps: Some(network.eps), head: Some(network.head), ..Metadata::default() };
        Ok(Self { mapped, known, folds: network.folds, usual_eps: None, protocol: None, asks: None })
    }

    fn of_npz(
        checkpoint: &Checkpoint<'a>,
        choice: &Choice,
        layout: Option<npz::Layout>,
        kernels: Option<Kernels>,
    ) -> Result<Self, Error> {
        let mut mapping = match layout {
            Some(npz::Layout::Pytorch) => Self::of_state_dict(checkpoint, choice, keymap::PYTORCH, &str::to_owned)?,
            Some(npz::Layout::Layers) => Self::of_mxnet_names(checkpoint, choice)?,
            None => {
                return Err(Error::Choice(
                    "nothing in an .npz says how its arrays are called: --layout pytorch (features.conv0.weight) or --layout \
                     layers (conv1_bn_gamma)"
                        .into(),
                ));
            }
        };
        if layout == Some(npz::Layout::Layers) && mapping.usual_eps.is_none() {
            mapping.asks = Some("eps and the poolings' rounding are not in an .npz: state --eps and --pooling");
        }
        let flipped = kernels == Some(Kernels::Theano);
        for Mapped { tensor, place, .. } in &mut mapping.mapped {
            if let (true, Place::Target(_, changes), [_, _, _, _]) = (flipped, place, tensor.shape()) {
                let (kernel, how) = keras::kernel(tensor, (true, true))?;
                *tensor = kernel;
                changes.extend(how);
            }
        }
        Ok(mapping)
    }

    fn of_keras(
        checkpoint: &Checkpoint<'a>,
        file: &keras::File,
        choice: &Choice,
        kernels: Option<Kernels>,
    ) -> Result<Self, Error> {
        let shapes = checkpoint.tensors().iter().map(|named| (named.name.clone(), named.tensor.shape().to_vec()));
        let numbered = file.paths_by_number(&shapes.collect::<Vec<_>>());
        let path = |name: &str| match &numbered {
            Some(paths) => paths.get(name).cloned().unwrap_or_else(|| name.to_owned()),
            None => file.path(name),
        };
        let mut mapping = Self::of_state_dict(checkpoint, choice, keymap::PORTS, &path)?;
        let stem = mapping.mapped.iter().find(|mapped| mapped.target() == Some("features.conv0.weight"));
        let order = stem.map(|stem| file.kernels(stem.tensor.shape(), kernels)).transpose()?.unwrap_or_default();
        for Mapped { source, tensor, place } in &mut mapping.mapped {
            let (target, changes) = match place {
                Place::Target(target, changes) => (target, changes),
                place => {
                    if source.starts_with("optimizer") {
                        *place = Place::Rule("beside the network (optimiser)");
                    }
                    continue;
                }
            };
            match tensor.shape() {
                [_, _, _, _] => {
                    let (kernel, how) = keras::kernel(tensor, order)?;
                    *tensor = kernel;
                    changes.extend(how);
                }
                [_, _] if target == "classifier.weight" => {
                    changes.push(Change::Transposed(tensor.shape().to_vec()));
                    *tensor = tensor.permute(&[1, 0]).map_err(Error::Layout)?;
                }
                _ => {}
            }
        }
        mapping.known.eps = file.eps;
        mapping.usual_eps = mapping.usual_eps.or(keras_eps(&mapping));
        // The ports end in a softmax; only a whole model says so.
        mapping.known.head = file.head.or(Some(Head::Softmax));
        Ok(mapping)
    }

    fn of_mxnet_names(checkpoint: &Checkpoint<'a>, choice: &Choice) -> Result<Self, Error> {
        let joined = |name: &str| names::joined(mxnet::plain(name)).unwrap_or_else(|| name.to_owned());
        let all: Vec<_> = checkpoint.tensors().iter().map(|named| joined(&named.name)).collect();
        let gluon = |name: &str| names::gluon(&joined(name)).unwrap_or_else(|| name.to_owned());
        let is_gluon = names::is_gluon(all.iter().map(String::as_str));
        Self::of_state_dict(checkpoint, choice, keymap::PORTS, if is_gluon { &gluon } else { &joined })
    }

    /// By a table of layouts, for which `rename` makes paths of the file's names.
    fn of_state_dict(
        checkpoint: &Checkpoint<'a>,
        choice: &Choice,
        layouts: &'static [Layout],
        rename: &dyn Fn(&str) -> String,
    ) -> Result<Self, Error> {
        let mut names: Vec<_> = checkpoint.tensors().iter().map(|named| rename(&named.name)).collect();
        // A run's checkpoint has what its optimiser remembers of each weight beside the weights; where it averages them, the
        // averages are its network.
        let is_run = checkpoint.metadata().is_some_and(|metadata| metadata.contains_key("training"));
        if is_run && names.iter().any(|name| name.starts_with(AVERAGE)) {
            for name in &mut names {
                *name = match name.strip_prefix(AVERAGE) {
                    Some(averaged) => averaged.to_owned(),
                    None => format!("{OPTIMISER}{name}"),
                };
            }
        }
        let beside = |name: &str| is_run && name.starts_with(OPTIMISER);
        let network: Vec<_> = names.iter().map(String::as_str).filter(|name| !beside(name)).collect();
        let dict = StateDict::find(layouts, &network, choice)?;
        let place = |name: &str| match &dict {
            _ if beside(name) => Place::Rule("the state of a training run"),
            None => Place::Nowhere,
            Some(dict) => match dict.target(name) {
                Some(target) => Place::Target(target, Vec::new()),
                None => dict.rule(name).map_or(Place::Nowhere, Place::Rule),
            },
        };
        let tensors = checkpoint.tensors().iter().cloned().zip(&names);
        let mut mapped: Vec<_> = tensors
            .map(|(NamedTensor { name, tensor }, path)| Mapped { place: place(path), source: name, tensor })
            .collect();
        head(&mut mapped)?;
        ported(&mut mapped)?;
        let mut eps = checkpoint.eps().filter_map(|(path, eps)| {
            let norm = dict.as_ref()?.target(&format!("{path}.weight"))?;
            Some((norm.strip_suffix(".weight")?.to_owned(), eps))
        });
        let layout = dict.as_ref().map(|dict| dict.layout);
        let (mut known, mut folds) = (Metadata::default(), second(&mapped));
        if let Some((_, to)) = eps.next() {
            known.eps = Some(to);
            folds.extend(eps.filter(|&(_, eps)| eps != to).map(|(norm, from)| Fold::Eps { norm, from, to }));
        }
        let (usual_eps, protocol) = layout.map_or((None, None), |layout| (layout.eps, layout.protocol));
        Ok(Self { mapped, known, folds, usual_eps, protocol, asks: None })
    }
}

/// What ports do otherwise: the last norm is numbered as a transition's, and the classifier is a convolution of one pixel.
fn ported(mapped: &mut [Mapped]) -> Result<(), Error> {
    let last = names::last_norm(mapped.iter().filter_map(Mapped::target));
    for Mapped { source, tensor, place } in mapped {
        let Place::Target(target, changes) = place else { continue };
        if let Some(field) = last.as_deref().and_then(|norm| target.strip_prefix(norm)) {
            *target = format!("features.norm5.{field}");
        }
        if let ("classifier.weight", &[out, input, 1, 1]) = (target.as_str(), tensor.shape()) {
            changes.push(Change::Reshaped(tensor.shape().to_vec()));
            *tensor = tensor
                .reshape(vec![out, input])
                .map_err(|reason| Error::Layout(format!("{source} is no classifier: {reason}")))?;
        }
    }
    Ok(())
}

/// flyyufelix's networks, which are shicai's with their second scales, add more to the variance than those.
fn keras_eps(mapping: &Mapping) -> Option<f64> {
    mapping.folds.iter().any(|fold| matches!(fold, Fold::Second { .. })).then_some(1.1e-5)
}

/// The second scales and shifts among the tensors.
fn second(mapped: &[Mapped]) -> Vec<Fold> {
    let norms = mapped.iter().filter_map(|m| m.target()?.strip_suffix(".second.weight"));
    norms.map(|norm| Fold::Second { norm: norm.to_owned() }).collect()
}

/// Every tensor under its own name.
fn own<'a>(checkpoint: &Checkpoint<'a>) -> Vec<(String, Tensor<'a>)> {
    checkpoint.tensors().iter().map(|named| (named.name.clone(), named.tensor.clone())).collect()
}

/// A classifier that was replaced, as `Sequential(Linear, …)` or under another name, if there is only one that it can be.
fn head(mapped: &mut [Mapped]) -> Result<(), Error> {
    let find = |target: &str| mapped.iter().find(|m| m.target() == Some(target));
    let Some(width) = find("features.norm5.weight").and_then(|norm| norm.tensor.shape().first().copied()) else {
        return Ok(());
    };
    if find("classifier.weight").is_some() {
        return Ok(());
    }
    let free = |place: &Place| match place {
        Place::Nowhere => true,
        Place::Target(target, _) => target.starts_with("classifier."),
        Place::Rule(_) => false,
    };
    let linear = mapped.iter().filter(|m| free(&m.place) && m.tensor.shape().len() == 2);
    let layers: Vec<_> = linear.filter_map(|m| Some((m.source.strip_suffix(".weight")?, m.tensor.shape()))).collect();
    match layers[..] {
        [] => Ok(()),
        [(layer, shape)] if shape.get(1) == Some(&width) => {
            let layer = layer.to_owned();
            for mapped in mapped.iter_mut() {
                if let Some(field @ ("weight" | "bias")) =
                    mapped.source.strip_prefix(&layer).and_then(|rest| rest.strip_prefix('.'))
                {
                    mapped.place = Place::Target(format!("classifier.{field}"), Vec::new());
                }
            }
            Ok(())
        }
        [(layer, shape)] => Err(Error::Layout(format!(
            "its only linear layer {layer} has shape {shape:?}; a classifier behind {width} features is expected"
        ))),
        _ => {
            let names: Vec<_> = layers.iter().map(|(layer, _)| *layer).collect();
            let reason = "its classifier is of several linear layers";
            Err(Error::Layout(format!("{reason} ({}), and a DenseNet has one", names.join(", "))))
        }
    }
}

/// Why a tensor of a `.t7` is no part of the network.
fn torch7_rule(path: &str, network: &str) -> Place {
    let inside = path.strip_prefix(network).is_some_and(|rest| network.is_empty() || rest.starts_with('.'));
    match path.rsplit('.').next().unwrap_or_default() {
        "gradWeight" | "gradBias" | "gradInput" => Place::Rule("gradient"),
        "output" | "save_mean" | "save_std" | "noise" | "indices" | "finput" | "fgradInput" | "addBuffer"
        | "input_c" | "buffer" | "normalized" | "centered" | "std" => Place::Rule("buffer of a module"),
        "saved_bn_running_mean" | "saved_bn_running_var" => Place::Rule("copy of running statistics"),
        "weight" | "bias" | "running_mean" | "running_var" | "running_std" if inside => Place::Nowhere,
        _ if inside => Place::Rule("beside the network's weights"),
        _ => Place::Rule("beside the network"),
    }
}
