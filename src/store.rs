//! The one way from MODEL to weights: a name in the catalogue, or a path to any checkpoint. It alone joins catalogue,
//! cache and converters.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use densenet_arch::{Config, Protocol, Task};
use densenet_converters::{Conversion, Options};
use densenet_registry::{
    Cache, Catalogue, Digest, FetchOptions, Key, Member, Progress, Published, Record, SourceFormat, Verified, Weight,
};
use serde_json::json;

use crate::data::labels::Labels;
use crate::error::{Error, Result};
use crate::model::{DenseNet, Inference};
use crate::{hf, input};

/// The catalogue with the cache that its files are kept in.
#[derive(Debug)]
pub struct Store {
    /// Every weight that is known.
    pub catalogue: Catalogue,
}

/// A model ready to be built: weights with all that is needed to use them as they were meant.
#[derive(Debug)]
pub struct Model {
    /// As it was asked for.
    pub name: String,
    /// The network.
    pub config: Config,
    /// How an image becomes its input.
    pub protocol: Protocol,
    /// Whether the weights name the protocol themselves; else it is their network's default.
    pub protocol_stated: bool,
    /// The names of its classes.
    pub labels: Labels,
    /// What its outputs stand for.
    pub task: Task,
    /// Errors that others measured with these weights.
    pub published: Vec<Published>,
    /// Where the weights come from.
    pub source: Source,
    tensors: HashMap<String, Tensor>,
}

/// The file that a model was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Its format: `torch7`, `safetensors` …
    pub format: &'static str,
    /// Its sha256.
    pub sha256: String,
    /// The sha256 of the files that were read beside it, by their names.
    pub files: BTreeMap<String, String>,
}

/// What was verified.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The files that are as they were.
    pub verified: Verified,
    /// What came of converting again, in words.
    pub conversion: &'static str,
}

impl Store {
    /// The built-in catalogue, with the user's files added.
    pub fn open(user_catalogues: &[PathBuf]) -> Result<Self> {
        Self::open_signed(user_catalogues, None)
    }

    /// The same, with user's files that must be signed: `key` is a minisign public key, or a file that holds one.
    pub fn open_signed(user_catalogues: &[PathBuf], key: Option<&str>) -> Result<Self> {
        let key = key.map(Key::of).transpose()?;
        let mut catalogue = Catalogue::builtin()?;
        for path in user_catalogues {
            catalogue.add_signed(path, key.as_ref())?;
        }
        Ok(Self { catalogue })
    }

    /// Opens MODEL: a file if there is one of that path, else a name, which is fetched first if the cache lacks it.
    pub fn model(&self, model: &str, progress: &mut dyn Progress) -> Result<Model> {
        let offline = std::env::var_os("DENSENET_ZOO_OFFLINE").is_some_and(|value| !value.is_empty() && value != "0");
        self.open_model(model, offline, progress)
    }

    /// The same, but what is not at hand is an error.
    pub fn model_at_hand(&self, model: &str, progress: &mut dyn Progress) -> Result<Model> {
        self.open_model(model, true, progress)
    }

    fn open_model(&self, model: &str, offline: bool, progress: &mut dyn Progress) -> Result<Model> {
        let path = Path::new(model);
        if path.is_file() || hf::is_folder(path) {
            return self.file(model, path);
        }
        if path.components().count() > 1 || path.is_dir() {
            return Err(Error::Usage(format!("{model}: no such file; MODEL is a file or a name that `list` shows")));
        }
        let weight = self.catalogue.find(model)?;
        let cache = Cache::open_default()?;
        let record = self.fetch(weight, &cache, &FetchOptions { offline, ..FetchOptions::default() }, progress)?;
        weight.config()?;
        let object = record.converted.as_ref().unwrap_or(&record.original);
        let opened = self.file(model, &object.path)?;
        Ok(Model { published: weight.published.clone(), ..opened })
    }

    /// Brings a weight into the cache, verified and converted. What is there already and right is not fetched again.
    pub fn fetch(
        &self,
        weight: &Weight,
        cache: &Cache,
        options: &FetchOptions,
        progress: &mut dyn Progress,
    ) -> Result<Record> {
        let record = densenet_registry::fetch(weight, cache, options, progress)?;
        // What the converters do not read is kept as it was published.
        if weight.config().is_err() || record.converted.is_some() && !options.force {
            return Ok(record);
        }
        Self::add_converted(weight, cache, &record).inspect_err(|_| {
            // No digest vouched for these bytes, and they are no such model: they must not become the pin.
            if weight.file.digest.is_none() && record.converted.is_none() {
                let _ = cache.forget(&record);
            }
        })
    }

    fn add_converted(weight: &Weight, cache: &Cache, record: &Record) -> Result<Record> {
        let original = &record.original.path;
        input::open(original, |input| {
            let conversion = Self::convert(weight, original, input)?;
            let write = |out: &mut dyn Write| conversion.write(&mut input.releasing(out)).map(drop);
            let record = cache.add_converted(&weight.name, write)?;
            if let Some(converted) = &record.converted {
                let provenance = json!({
                    "name": weight.name,
                    "source": record.source,
                    "original_sha256": record.original.sha256,
                    "original_size": record.original.size,
                    "verified_by": record.digest_strength,
                    "converted_sha256": converted.sha256,
                    "tool": conversion.metadata.tool,
                    "report": conversion.report,
                });
                cache.add_beside(
                    converted,
                    &format!("{}.provenance.json", weight.name),
                    &format!("{provenance:#}\n"),
                )?;
            }
            Ok(record)
        })
    }

    /// The network that a weight's file must hold.
    fn convert<'i>(weight: &Weight, original: &Path, input: &'i input::Input) -> Result<Conversion<'i>> {
        let expected = weight.config()?;
        if let Some(Member { name, digest }) = &weight.file.member {
            let wrap = |source| Error::Checkpoint { path: original.to_owned(), source };
            let inner = densenet_converters::member(&input.source).map_err(wrap)?.unwrap_or_default();
            if let Some(computed) = digest.differs_from(inner) {
                return Err(Error::Registry(densenet_registry::Error::WrongDigest {
                    source_name: format!("{}: {name}", original.display()),
                    strength: digest.strength(),
                    expected: digest.digits().to_owned(),
                    computed,
                }));
            }
        }
        // What MXNet's weights do not say: their symbol is a file of its own, and the catalogue has read it.
        let is_mxnet = weight.format == SourceFormat::Mxnet;
        let options = Options {
            arch: Some(expected.clone()),
            eps: Some(expected.eps).filter(|_| is_mxnet),
            pooling: Some(expected.pooling).filter(|_| is_mxnet),
            protocol: Some(weight.protocol.clone()),
            labels: weight.labels.clone(),
            ..Options::default()
        };
        let conversion = convert(original, &input.source, &options)?;
        complete(original, &conversion, false)?;
        let found = conversion.config.num_classes;
        if found != expected.num_classes {
            let summary = format!("it has {found} classes where {} are expected", expected.num_classes);
            return Err(Error::Incomplete { path: original.to_owned(), summary });
        }
        Ok(conversion)
    }

    /// Hashes a weight's cached files again, and goes the way from the original to the converted one once more.
    pub fn verify(&self, weight: &Weight, cache: &Cache, progress: &mut dyn Progress) -> Result<Checked> {
        let verified = densenet_registry::verify(weight, cache, progress)?;
        let Some(converted) = &verified.record.converted else {
            return Ok(Checked { verified, conversion: "not converted" });
        };
        let original = &verified.record.original.path;
        let made_here = input::open(&converted.path, |input| {
            let own = convert(&converted.path, &input.source, &Options::default())?.made_by;
            Ok(own.as_deref() == Some(densenet_converters::TOOL))
        })?;
        if !made_here {
            return Ok(Checked { verified, conversion: "converted by another version" });
        }
        let again = input::open(original, |input| {
            let conversion = Self::convert(weight, original, input)?;
            conversion
                .write(&mut std::io::sink())
                .map_err(|source| Error::Checkpoint { path: original.clone(), source })
        })?;
        if again != converted.sha256 {
            return Err(Error::Negative(format!(
                "{}: converting the original again gives sha256 {again}, and the converted file has {}; `fetch {} --force` \
                 makes it anew",
                weight.name, converted.sha256, weight.name
            )));
        }
        Ok(Checked { verified, conversion: "converting it again gives the same bytes" })
    }

    /// The weight whose file has that sha256, where the catalogue knows all its digits.
    pub fn known(&self, sha256: &str) -> Option<&Weight> {
        let is_it = |weight: &&Weight| matches!(&weight.file.digest, Some(Digest::Sha256(known)) if known == sha256);
        self.catalogue.weights().iter().find(is_it)
    }

    /// Reads a checkpoint of any format, or the one in a folder of the Hugging Face form.
    fn file(&self, name: &str, path: &Path) -> Result<Model> {
        let folder = path.is_dir().then(|| hf::Folder::open(path)).transpose()?;
        let path = folder.as_ref().map_or(path, |folder| &folder.weights);
        input::open(path, |input| {
            let conversion = convert(path, &input.source, &Options::default())?;
            complete(path, &conversion, true)?;
            let wrap = |source| Error::Checkpoint { path: path.to_owned(), source };
            let weights = conversion.tensors.iter().filter(|named| !named.name.ends_with("num_batches_tracked"));
            let tensors = weights
                .map(|named| {
                    let values = named.tensor.to_f32().map_err(wrap)?;
                    Ok((named.name.clone(), Tensor::from_vec(values, named.tensor.shape(), &Device::Cpu)?))
                })
                .collect::<Result<_>>()?;
            let sha256 = conversion.source_sha256.clone();
            // A converted file names the one that it came from.
            let (origin, _) = conversion.origin();
            let published = self.known(origin).map(|weight| weight.published.clone()).unwrap_or_default();
            // The file's own word goes before the folder's.
            let (protocol, stated) = match folder.as_ref().and_then(|folder| folder.protocol.clone()) {
                Some(protocol) if !conversion.protocol_stated => (protocol, true),
                _ => (conversion.protocol, conversion.protocol_stated),
            };
            let labels = conversion.metadata.labels.or_else(|| folder.as_ref()?.labels.clone());
            Ok(Model {
                name: name.to_owned(),
                labels: Labels::new(labels, conversion.config.num_classes),
                task: conversion.metadata.task,
                protocol,
                protocol_stated: stated,
                published,
                source: Source {
                    path: path.to_owned(),
                    format: conversion.format.name(),
                    sha256,
                    files: conversion.metadata.source_files,
                },
                config: conversion.config,
                tensors,
            })
        })
    }
}

impl Model {
    /// Shape and values of a tensor, by torchvision's name.
    pub fn tensor(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let tensor =
            self.tensors.get(name).ok_or_else(|| Error::data(&self.source.path, format!("no tensor {name}")))?;
        Ok((tensor.dims().to_vec(), tensor.flatten_all()?.to_vec1()?))
    }

    /// Builds the network for inference on a device, in a float type, with its norms folded.
    pub fn inference(&self, device: &Device, dtype: DType) -> Result<Inference> {
        Ok(Inference::new(&self.config, &mut |name| self.tensor(name).ok(), device, dtype)?)
    }

    /// Builds the network on a device, in a float type, with its parts as they are.
    pub fn network(&self, device: &Device, dtype: DType) -> Result<DenseNet> {
        Ok(DenseNet::new(&self.config, VarBuilder::from_tensors(self.tensors.clone(), dtype, device))?)
    }
}

/// Maps a checkpoint to a network; `complete` says whether it is all there.
pub fn convert<'a>(path: &Path, source: &'a densenet_converters::Source, options: &Options) -> Result<Conversion<'a>> {
    densenet_converters::convert(source, options).map_err(|source| Error::Checkpoint { path: path.to_owned(), source })
}

/// Refuses a conversion with missing or misshapen tensors, and unless allowed with unused ones.
pub fn complete(path: &Path, conversion: &Conversion, allow_unused: bool) -> Result<()> {
    if conversion.report.is_complete(allow_unused) {
        return Ok(());
    }
    Err(Error::Incomplete { path: path.to_owned(), summary: conversion.report.to_string() })
}
