//! From a checkpoint of any format to a complete network under torchvision's names.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use densenet_arch::{Config, Metadata, Protocol, Role, recognise};

use crate::checkpoint::{Checkpoint, Content, Format, NamedTensor, read};
use crate::error::Error;
use crate::fold::{self, Fold, Named};
use crate::keymap::{self, Choice, StateDict};
use crate::report::{Change, Entry, Fate, Made, Report};
use crate::source::Source;
use crate::storage::Storage;
use crate::t7;
use crate::tensor::{DType, Tensor};
use crate::write::write;

/// What a file does not say about itself.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The network that the tensors must fit; otherwise they are recognised. The class count, eps and head are the file's.
    pub arch: Option<Config>,
    /// The protocol to write into the metadata; otherwise the file's own, or its network's default.
    pub protocol: Option<Protocol>,
    /// Class names to write into the metadata; otherwise the file's own.
    pub labels: Option<Vec<String>>,
    /// Which network, where the file holds several.
    pub choice: Choice,
    /// The type of the output's weights, otherwise the file's own. Where one is given, running statistics become F32.
    pub dtype: Option<DType>,
}

/// A network found in a file, with an account of every tensor.
#[derive(Debug)]
pub struct Conversion<'a> {
    /// The format that was read.
    pub format: Format,
    /// The network.
    pub config: Config,
    /// What goes into the header.
    pub metadata: Metadata,
    /// The protocol of `metadata`.
    pub protocol: Protocol,
    /// Whether the file or the caller named the protocol; else it is the network's default.
    pub protocol_stated: bool,
    /// sha256 of the source in hexadecimal.
    pub source_sha256: String,
    /// sha256 of the file that the source itself was converted from, if its metadata says so.
    pub origin_sha256: Option<String>,
    /// The network's tensors by torchvision's names, in its order. Complete only if the report says so.
    pub tensors: Vec<NamedTensor<'a>>,
    /// What became of every tensor.
    pub report: Report,
}

impl Conversion<'_> {
    /// Writes safetensors and returns their sha256. The same source and options give the same bytes. Damage that only the
    /// data shows is found here, when some of it is written already: write where it can be taken back.
    pub fn write(&self, out: &mut dyn Write) -> Result<String, Error> {
        write(&self.metadata.to_map(), &self.tensors, out)
    }
}

/// What the metadata says of any file that is written here.
pub(crate) fn source_metadata(format: Format, sha256: &str) -> Metadata {
    Metadata {
        source_format: Some(format.name().to_owned()),
        source_sha256: Some(sha256.to_owned()),
        tool: Some(concat!("densenet-zoo ", env!("CARGO_PKG_VERSION")).to_owned()),
        ..Metadata::default()
    }
}

/// Reads a checkpoint and maps it to a network.
pub fn convert<'a>(source: &'a Source, options: &Options) -> Result<Conversion<'a>, Error> {
    let checkpoint = read(source)?;
    checkpoint.has_tensors()?;
    let stated = match checkpoint.metadata() {
        Some(map) => Metadata::from_map(|key| map.get(key).map(String::as_str))?,
        None => Metadata::default(),
    };
    let mapping = Mapping::of(&checkpoint, &options.choice)?;
    let shapes: HashMap<&str, &[usize]> =
        mapping.mapped.iter().filter_map(|m| Some((m.target()?, m.tensor.shape()))).collect();
    let config = match &options.arch {
        Some(config) => {
            let classes = shapes.get("classifier.weight").and_then(|shape| shape.first()).copied();
            config.clone().with_classes(classes.unwrap_or(config.num_classes))
        }
        None => recognise(|name| shapes.get(name).map(|shape| shape.to_vec()))?,
    };
    config.validate()?;
    // eps and head are the file's: from its modules, or from metadata of ours.
    let config = mapping.known.complete(stated.complete(config));
    let (tensors, report) = account(&config, mapping, options.dtype)?;

    let torch7 = checkpoint.format() == Format::Torch7;
    let origin_sha256 = stated.source_sha256;
    let own = options.protocol.clone().or(stated.protocol);
    let protocol_stated = own.is_some();
    let protocol = match own {
        Some(protocol) => protocol,
        None => Protocol::named(keymap::default_protocol(torch7, config.stem, config.num_classes))
            .map_err(|error| Error::Layout(error.to_string()))?,
    };
    let source_sha256 = source.sha256().to_owned();
    let metadata = Metadata {
        architecture: Some(config.name()),
        num_classes: Some(config.num_classes),
        eps: Some(config.eps),
        head: Some(config.head),
        protocol: Some(protocol.clone()),
        labels: options.labels.clone().or(stated.labels),
        ..source_metadata(checkpoint.format(), &source_sha256)
    };
    Ok(Conversion {
        format: checkpoint.format(),
        config,
        metadata,
        protocol,
        protocol_stated,
        source_sha256,
        origin_sha256,
        tensors,
        report,
    })
}

/// A tensor of the source, and where its layout puts it.
#[derive(Debug)]
struct Mapped<'a> {
    source: String,
    tensor: Tensor<'a>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// torchvision's name, and what was done to the tensor.
    Target(String, Vec<Change>),
    /// It is left out by rule.
    Rule(&'static str),
    /// No rule knows it.
    Nowhere,
}

impl Mapped<'_> {
    fn target(&self) -> Option<&str> {
        match &self.place {
            Place::Target(target, _) => Some(target),
            _ => None,
        }
    }
}

/// What a layout says of a file's tensors.
struct Mapping<'a> {
    mapped: Vec<Mapped<'a>>,
    /// eps and head, where the modules of the file say them.
    known: Metadata,
    folds: Vec<Fold>,
}

impl<'a> Mapping<'a> {
    fn of(checkpoint: &Checkpoint<'a>, choice: &Choice) -> Result<Self, Error> {
        match &checkpoint.content {
            Content::Torch7(file) => Self::of_torch7(file, choice),
            _ => Self::of_state_dict(checkpoint, choice),
        }
    }

    fn of_torch7(file: &t7::File<'a>, choice: &Choice) -> Result<Self, Error> {
        let network = t7::find(file, choice)?;
        let mut mapped = Vec::new();
        let mut seen = HashSet::new();
        for t7::Found { path, item, tensor } in file.tensors()? {
            let mut add = |tensor: Tensor<'a>, place| mapped.push(Mapped { source: path.clone(), tensor, place });
            match network.parts.get(&item) {
                Some(_) if !seen.insert(item) => add(tensor.clone(), Place::Rule("the same tensor once more")),
                Some(parts) => {
                    for t7::Part { target, shape } in parts {
                        let (tensor, changes) = match shape {
                            None => (tensor.clone(), Vec::new()),
                            Some(shape) => {
                                let refuse =
                                    |reason| Error::Tensor { format: t7::FORMAT, tensor: path.clone(), reason };
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
        Ok(Self { mapped, known, folds: network.folds })
    }

    fn of_state_dict(checkpoint: &Checkpoint<'a>, choice: &Choice) -> Result<Self, Error> {
        let names: Vec<_> = checkpoint.tensors().iter().map(|named| named.name.as_str()).collect();
        let dict = StateDict::find(&names, choice)?;
        let place = |name: &str| match &dict {
            None => Place::Nowhere,
            Some(dict) => match dict.target(name) {
                Some(target) => Place::Target(target, Vec::new()),
                None => dict.rule(name).map_or(Place::Nowhere, Place::Rule),
            },
        };
        let tensors = checkpoint.tensors().iter().cloned();
        let mut mapped: Vec<_> =
            tensors.map(|NamedTensor { name, tensor }| Mapped { place: place(&name), source: name, tensor }).collect();
        head(&mut mapped)?;
        let mut eps = checkpoint.eps().filter_map(|(path, eps)| {
            let norm = dict.as_ref()?.target(&format!("{path}.weight"))?;
            Some((norm.strip_suffix(".weight")?.to_owned(), eps))
        });
        let (mut known, mut folds) = (Metadata::default(), Vec::new());
        if let Some((_, to)) = eps.next() {
            known.eps = Some(to);
            folds.extend(eps.filter(|&(_, eps)| eps != to).map(|(norm, from)| Fold::Eps { norm, from, to }));
        }
        Ok(Self { mapped, known, folds })
    }
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

/// Works in what the folds ask for, takes what the network has, in its order, and says what became of the rest.
fn account<'a>(
    config: &Config,
    mapping: Mapping<'a>,
    dtype: Option<DType>,
) -> Result<(Vec<NamedTensor<'a>>, Report), Error> {
    let mut named = Named::new();
    let mut report = Report::default();
    for Mapped { source, tensor, place } in mapping.mapped {
        let fate = match place {
            Place::Rule(rule) => Fate::Ignored { rule },
            Place::Target(target, mut changes) if !named.contains_key(&target) => {
                named.insert(target.clone(), tensor);
                if source != target {
                    changes.insert(0, Change::Renamed);
                }
                Fate::Applied { target, changes }
            }
            Place::Target(..) | Place::Nowhere => Fate::Unused,
        };
        report.entries.push(Entry { source, fate });
    }
    let done = fold::apply(config, &mapping.folds, &mut named)?;
    report.made = done.made;
    let mut changes: HashMap<String, Vec<Change>> = HashMap::new();
    for (target, change) in done.changes {
        changes.entry(target).or_default().push(change);
    }
    let into: HashMap<String, Vec<String>> = done.into.into_iter().collect();

    let mut tensors = Vec::new();
    let mut misfits = HashMap::new();
    for param in config.params() {
        match named.remove(&param.name) {
            Some(tensor) if tensor.shape() != param.shape => {
                misfits.insert(param.name, (tensor.shape().to_vec(), param.shape));
            }
            Some(mut tensor) => {
                let wanted = match param.role {
                    Role::RunningMean | Role::RunningVar => dtype.map(|_| DType::F32),
                    _ => dtype,
                };
                if let Some(wanted) = wanted.filter(|wanted| tensor.dtype().is_float() && *wanted != tensor.dtype()) {
                    changes.entry(param.name.clone()).or_default().push(Change::Cast(tensor.dtype().name()));
                    tensor = tensor.cast(wanted);
                }
                tensors.push(NamedTensor { name: param.name, tensor });
            }
            // Torch7 and PyTorch before 0.4.1 did not count batches.
            None if param.role == Role::NumBatchesTracked => {
                let zero = Tensor::contiguous(DType::I64, Vec::new(), Storage::plain(&[0; 8]));
                tensors.push(NamedTensor { name: param.name.clone(), tensor: zero.map_err(Error::Layout)? });
                report.made.push(Made { target: param.name, why: "0: the source counts no batches".into() });
            }
            None => report.missing.push(param.name),
        }
    }
    for entry in &mut report.entries {
        let Fate::Applied { target, changes: own } = &mut entry.fate else { continue };
        if let Some(into) = into.get(target) {
            entry.fate = Fate::Folded { into: into.clone() };
        } else if let Some((shape, expected)) = misfits.get(target) {
            entry.fate = Fate::WrongShape { target: target.clone(), shape: shape.clone(), expected: expected.clone() };
        } else if named.contains_key(target) {
            entry.fate = Fate::Unused;
        } else {
            own.extend(changes.remove(target).unwrap_or_default());
        }
    }
    Ok((tensors, report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/");

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{FIXTURES}{name}")).unwrap()
    }

    fn converted(name: &str) -> Vec<u8> {
        let bytes = fixture(name);
        let source = Source::new(&bytes);
        let conversion = convert(&source, &Options::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(conversion.report.is_complete(false), "{name}: {}", conversion.report);
        let mut out = Vec::new();
        conversion.write(&mut out).unwrap();
        out
    }

    #[test]
    fn bytes_are_the_same_on_every_run_and_metadata_survives_a_second_conversion() {
        let first = converted("torch7/a_cifar_bc_mem2/model_1.t7");
        assert!(first == converted("torch7/a_cifar_bc_mem2/model_1.t7"));
        let first = Source::new(&first);
        let again = convert(&first, &Options::default()).unwrap();
        assert_eq!(again.format, Format::Safetensors);
        assert_eq!(again.metadata.architecture.as_deref(), Some("densenet-bc(3,3,3)-k4-s8"));
        assert!(again.protocol_stated);
        assert_eq!(again.protocol.name, "cifar10");
        let stated = Options { labels: Some(vec!["x".into(); 10]), ..Options::default() };
        assert_eq!(convert(&first, &stated).unwrap().metadata.labels, stated.labels);
    }

    #[test]
    fn another_architecture_is_checked_against_the_tensors() {
        let bytes = fixture("pytorch/tiny_zip.pt");
        let wrong =
            Options { arch: Some(Config::imagenet(&[2, 2, 2, 3], 4, 8).with_classes(11)), ..Options::default() };
        let report = convert(&Source::new(&bytes), &wrong).unwrap().report;
        assert!(!report.is_complete(true));
        assert!(report.missing.iter().any(|name| name.starts_with("features.denseblock4.denselayer3")));
        assert!(report.wrong_shape().iter().any(|text| text.starts_with("classifier.weight has shape [10, ")));
    }

    #[test]
    fn what_is_no_checkpoint_is_said_in_one_line() {
        for (bytes, cause) in [
            (&b""[..], "the file is empty"),
            (b"hello, world\n", "this is text"),
            (b"\n<!DOCTYPE HTML><html>", "this is a web page"),
            (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\xde\xad\xbe\xef\x01\x02", "none of the formats"),
        ] {
            let error = convert(&Source::new(bytes), &Options::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            let text = error.to_string();
            assert!(text.contains(cause) || cause == "none of the formats" && text.contains("no format"), "{text}");
        }
        let empty = [&2_u64.to_le_bytes()[..], b"{}"].concat();
        let error = convert(&Source::new(&empty), &Options::default()).unwrap_err();
        assert_eq!(error.to_string(), "safetensors: byte 10: the file ends and no tensor was in it");
    }
}
