//! From a checkpoint of any format to a complete network under torchvision's names.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use densenet_arch::{Config, Metadata, Protocol, Role, Rounding, Task, recognise};

use crate::checkpoint::{Format, NamedTensor, read};
use crate::error::Error;
use crate::fold::{self, Named};
use crate::keras::Kernels;
use crate::keymap::{self, Choice};
use crate::mapping::{Mapped, Mapping, Place};
use crate::npz::Layout;
use crate::report::{Change, Entry, Fate, Made, Report};
use crate::source::Source;
use crate::storage::Storage;
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
    /// What the outputs stand for, to write into the metadata; otherwise what the file says.
    pub task: Option<Task>,
    /// Which network, where the file holds several.
    pub choice: Choice,
    /// How the poolings round, where the file does not say.
    pub pooling: Option<Rounding>,
    /// The batch norms' eps, where the file does not say.
    pub eps: Option<f64>,
    /// Whether the network's features are wanted without a classifier, which the file may lack.
    pub no_top: bool,
    /// Whose convolution a Keras file's kernels are for, where it does not show.
    pub kernels: Option<Kernels>,
    /// How the arrays of an `.npz` are called.
    pub layout: Option<Layout>,
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
    /// The program that wrote the source, if it is one of ours and says so.
    pub made_by: Option<String>,
    /// sha256 of the file that the source itself was converted from, if its metadata says so.
    pub origin_sha256: Option<String>,
    /// sha256 of the files that were read beside that one, by their names.
    pub origin_files: BTreeMap<String, String>,
    /// The network's tensors by torchvision's names, in its order. Complete only if the report says so.
    pub tensors: Vec<NamedTensor<'a>>,
    /// What became of every tensor.
    pub report: Report,
}

impl Conversion<'_> {
    /// sha256 of the first file that these weights are known to come from, and of those that were read beside it.
    pub fn origin(&self) -> (&str, &BTreeMap<String, String>) {
        match &self.origin_sha256 {
            Some(sha256) => (sha256, &self.origin_files),
            None => (&self.source_sha256, &self.metadata.source_files),
        }
    }

    /// Writes safetensors and returns their sha256. The same source and options give the same bytes. Damage that only the
    /// data shows is found here, when some of it is written already: write where it can be taken back.
    pub fn write(&self, out: &mut dyn Write) -> Result<String, Error> {
        write(&self.metadata.to_map(), &self.tensors, out)
    }
}

/// What the classifier's tensors begin with.
const TOP: &str = "classifier.";

/// What metadata calls this program, with its version.
pub const TOOL: &str = concat!("densenet-zoo ", env!("CARGO_PKG_VERSION"));

/// What the metadata says of any file that is written here.
pub(crate) fn source_metadata(format: Format, source: &Source) -> Metadata {
    Metadata {
        source_format: Some(format.name().to_owned()),
        source_sha256: Some(source.sha256().to_owned()),
        source_files: source.sha256_beside(),
        tool: Some(TOOL.to_owned()),
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
    let mapping = Mapping::of(&checkpoint, options)?;
    let shapes: HashMap<&str, &[usize]> =
        mapping.mapped.iter().filter_map(|m| Some((m.target()?, m.tensor.shape()))).collect();
    let config = match &options.arch {
        Some(config) => {
            let classes = shapes.get("classifier.weight").and_then(|shape| shape.first()).copied();
            config.clone().with_classes(classes.unwrap_or(config.num_classes))
        }
        None => recognise(|name| match shapes.get(name) {
            None if options.no_top && name == "classifier.weight" => Some(vec![1, 1]),
            shape => shape.map(|shape| shape.to_vec()),
        })?,
    };
    config.validate()?;
    let usual = Metadata { eps: mapping.usual_eps, ..Metadata::default() };
    let told = Metadata { pooling: options.pooling, eps: options.eps, ..Metadata::default() };
    agree("eps", told.eps.as_ref(), mapping.known.eps.or(stated.eps).as_ref(), |eps| format!("{eps:e}"))?;
    let pooling = mapping.known.pooling.or(stated.pooling);
    agree("pooling", told.pooling.as_ref(), pooling.as_ref(), |pooling| pooling.name().to_owned())?;
    // eps, head and rounding are the file's: from its modules, or from metadata of ours.
    let config = mapping.known.complete(stated.complete(told.complete(usual.complete(config))));
    config.validate()?;
    if let Some(question) = mapping.asks.filter(|_| options.eps.is_none() || options.pooling.is_none()) {
        return Err(Error::Choice(question.to_owned()));
    }
    let protocol = keymap::default_protocol(checkpoint.format(), config.stem, config.num_classes);
    let usual = mapping.protocol.unwrap_or(protocol);
    let (tensors, report) = account(&config, mapping, options)?;

    let (origin_sha256, origin_files) = (stated.source_sha256, stated.source_files);
    let own = options.protocol.clone().or(stated.protocol);
    let protocol_stated = own.is_some();
    let protocol = match own {
        Some(protocol) => protocol,
        None => Protocol::named(usual).map_err(|error| Error::Layout(error.to_string()))?,
    };
    let metadata = Metadata {
        architecture: Some(config.name()),
        num_classes: Some(config.num_classes).filter(|_| !options.no_top),
        eps: Some(config.eps),
        head: Some(config.head),
        // What every other program takes for granted need not be said.
        pooling: Some(config.pooling).filter(|&pooling| pooling != Rounding::Floor),
        protocol: Some(protocol.clone()),
        labels: options.labels.clone().or(stated.labels),
        task: options.task.unwrap_or(stated.task),
        ..source_metadata(checkpoint.format(), source)
    };
    Ok(Conversion {
        format: checkpoint.format(),
        config,
        metadata,
        protocol,
        protocol_stated,
        source_sha256: source.sha256().to_owned(),
        made_by: stated.tool,
        origin_sha256,
        origin_files,
        tensors,
        report,
    })
}

/// Refuses an option that contradicts the file.
fn agree<T: PartialEq>(what: &str, told: Option<&T>, said: Option<&T>, show: fn(&T) -> String) -> Result<(), Error> {
    match (told, said) {
        (Some(told), Some(said)) if told != said => Err(Error::Choice(format!(
            "the file says {what} {}, and {} was asked for; --{what} is for files that do not say",
            show(said),
            show(told)
        ))),
        _ => Ok(()),
    }
}

/// Works in what the folds ask for, takes what the network has, in its order, and says what became of the rest.
fn account<'a>(
    config: &Config,
    mapping: Mapping<'a>,
    &Options { dtype, no_top, .. }: &Options,
) -> Result<(Vec<NamedTensor<'a>>, Report), Error> {
    let mut named = Named::new();
    let mut report = Report::default();
    for Mapped { source, tensor, place } in mapping.mapped {
        let fate = match place {
            Place::Rule(rule) => Fate::Ignored { rule },
            Place::Target(target, _) if no_top && target.starts_with(TOP) => {
                Fate::Ignored { rule: "no classifier was wanted" }
            }
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
    let mut misfits = HashMap::new();
    for param in config.params() {
        if let Some(tensor) = named.get(&param.name).filter(|tensor| tensor.shape() != param.shape) {
            misfits.insert(param.name.clone(), (tensor.shape().to_vec(), param.shape));
            named.remove(&param.name);
        }
    }
    let done = fold::apply(config, &mapping.folds, &mut named)?;
    report.made = done.made;
    let mut changes: HashMap<String, Vec<Change>> = HashMap::new();
    for (target, change) in done.changes {
        changes.entry(target).or_default().push(change);
    }
    let into: HashMap<String, Vec<String>> = done.into.into_iter().collect();

    let mut tensors = Vec::new();
    for param in config.params().into_iter().filter(|param| !no_top || !param.name.starts_with(TOP)) {
        match named.remove(&param.name) {
            None if misfits.contains_key(&param.name) => {}
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

    /// Gluon's BatchNorm adds 1e-5 unless told otherwise (MXNet 1.9.1, gluon/nn/basic_layers.py), and its zoo takes images as
    /// torchvision does (gluon/model_zoo/vision/__init__.py).
    #[test]
    fn gluon_s_names_say_eps_and_protocol() {
        let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/mxnet/network")).unwrap();
        let source = Source::new(&bytes);
        let conversion = convert(&source, &Options::default()).unwrap();
        assert!(conversion.report.is_complete(false), "{}", conversion.report);
        assert_eq!((conversion.config.eps, conversion.config.pooling), (1e-5, Rounding::Floor));
        assert_eq!(conversion.protocol.mean, [0.485, 0.456, 0.406]);
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
