//! `export`: a model as ONNX, for other runtimes, or as a folder for timm and the Hugging Face Hub.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use densenet_arch::{Metadata, Rounding};
use densenet_converters::{Export as Onnx, OPSETS, Options, TOOL};
use densenet_zoo::data::labels::Labels;
use densenet_zoo::input;
use densenet_zoo::store::{Model, Store, complete, convert};
use densenet_zoo::{Error, Result, files, hf};
use serde_json::json;

use super::progress::Downloads;
use super::{Format, FormatArg, output};

#[derive(Args)]
pub(super) struct Export {
    /// A name or a file.
    model: String,
    /// The ONNX model; a folder if it is one or ends in `/`.
    #[arg(short, long, value_name = "FILE.onnx|DIR/", required_unless_present = "hf_folder")]
    output: Option<PathBuf>,
    /// Instead, a folder of model.safetensors, config.json and README.md, as timm and the Hugging Face Hub have it.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "opset", "fold", "dtype", "batch"])]
    hf_folder: Option<PathBuf>,
    /// Overwrite the output.
    #[arg(long)]
    force: bool,
    /// The version of ONNX's operators, from 13 to 22.
    #[arg(long, default_value_t = 17)]
    opset: u64,
    /// Work each batch norm behind a convolution into it: fewer nodes, and no longer the network's own tensors.
    #[arg(long)]
    fold: bool,
    /// Type of the weights; with f16 the graph computes in it, from and to f32.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Float,
    /// Images in a batch: `dynamic`, or a number.
    #[arg(long, default_value = "dynamic", value_name = "dynamic|N")]
    batch: Batch,
    #[command(flatten)]
    print: FormatArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Float {
    F32,
    F16,
}

#[derive(Clone, Copy, Debug)]
struct Batch(Option<usize>);

impl std::str::FromStr for Batch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("dynamic", _) => Ok(Self(None)),
            (_, Ok(count @ 1..=65536)) => Ok(Self(Some(count))),
            _ => Err("dynamic, or a number from 1 to 65536".to_owned()),
        }
    }
}

impl Export {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        match (&self.hf_folder, &self.output) {
            (Some(folder), _) => self.folder(store, folder),
            (None, output) => self.onnx(store, &self.path(output.as_deref().unwrap_or(Path::new(".")))),
        }
    }

    fn folder(&self, store: &Store, folder: &Path) -> Result<()> {
        if let Some(path) = hf::taken(folder).filter(|_| !self.force) {
            return Err(Error::Exists { path });
        }
        let model = store.model(&self.model, &mut Downloads::default().one())?;
        let path = &model.source.path;
        let options = Options {
            protocol: Some(model.protocol.clone()).filter(|_| model.protocol_stated),
            labels: metadata(&model).labels,
            ..Options::default()
        };
        input::open(path, |input| {
            let conversion = convert(path, &input.source, &options)?;
            complete(path, &conversion, true)?;
            let (origin, _) = conversion.origin();
            // A name that is no path came from the catalogue, which may not know the whole digest.
            let named = || store.catalogue.find(&self.model).ok().filter(|_| !Path::new(&self.model).exists());
            let weight = store.known(origin).or_else(named);
            let sha256 = output::write_folder(folder, (path, input), &conversion, weight)?;
            match self.print.format {
                Format::Json => output::print_json(&json!({
                    "model": model.name,
                    "source_sha256": origin,
                    "output": folder,
                    "sha256": sha256,
                })),
                Format::Human => {
                    let (config, shown) = (&conversion.config, folder.display());
                    let use_of = if hf::timm_builds(config) {
                        format!("timm.create_model(\"local-dir:{shown}\", pretrained=True)")
                    } else {
                        "timm has no such network".to_owned()
                    };
                    output::print(&format!("{shown}: {}, sha256 {sha256}\n  {use_of}", config.name()))
                }
            }
        })
    }

    fn onnx(&self, store: &Store, path: &Path) -> Result<()> {
        if !OPSETS.contains(&self.opset) {
            let (least, most) = OPSETS.into_inner();
            return Err(Error::Usage(format!("--opset {}: from {least} to {most} can be written", self.opset)));
        }
        if self.dtype == Float::F16 && self.opset < 15 {
            return Err(Error::Usage(
                "--dtype f16 needs --opset 15: older batch norms keep statistics as halves too".into(),
            ));
        }
        output::right_ending(path, "onnx", "export writes ONNX, and `convert` safetensors")?;
        output::may_write(path, self.force)?;
        let model = store.model(&self.model, &mut Downloads::default().one())?;
        let metadata = metadata(&model);
        let onnx = Onnx {
            config: &model.config,
            metadata: &metadata,
            opset: self.opset,
            fold: self.fold,
            half: self.dtype == Float::F16,
            batch: self.batch.0,
            side: model.protocol.crop,
        };
        let values = |name: &str| {
            model
                .tensor(name)
                .map(|(_, values)| values)
                .map_err(|error| densenet_converters::Error::Layout(error.to_string()))
        };
        let mut file = files::beside(path)?;
        onnx.write(&values, &mut file).map_err(|source| Error::Checkpoint { path: path.to_owned(), source })?;
        let size = file.as_file().metadata().map_err(output::io_error("read", path))?.len();
        files::place(file, path)?;
        if model.config.pooling == Rounding::Ceil {
            eprintln!(
                "{}: its poolings round up; the graph says so (ceil_mode), and few runtimes are tested with it",
                model.name
            );
        }
        let (shown, batch) = (path.display(), self.batch.0.map_or_else(|| "any".to_owned(), |count| count.to_string()));
        match self.print.format {
            Format::Json => output::print_json(&json!({
                "model": model.name,
                "source_sha256": model.source.sha256,
                "output": path,
                "bytes": size,
                "opset": self.opset,
                "folded": self.fold,
                "dtype": if self.dtype == Float::F16 { "f16" } else { "f32" },
                "batch": self.batch.0,
                "side": model.protocol.crop,
            })),
            Format::Human => output::print(&format!(
                "{shown}: {}, opset {}, {batch} images of {side}x{side}, {} bytes\n  normalise as protocol {} says",
                model.config.name(),
                self.opset,
                output::thousands(size),
                model.protocol.name,
                side = model.protocol.crop,
            )),
        }
    }

    fn path(&self, output: &Path) -> PathBuf {
        if !output.is_dir() && !output.as_os_str().to_string_lossy().ends_with('/') {
            return output.to_owned();
        }
        // A model's name has dots that are no ending.
        let name = Path::new(&self.model).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.strip_suffix(".safetensors").unwrap_or(&name);
        output.join(format!("{stem}.onnx"))
    }
}

/// What the model says of itself in its own words.
fn metadata(model: &Model) -> Metadata {
    let config = &model.config;
    Metadata {
        architecture: Some(config.name()),
        num_classes: Some(config.num_classes),
        eps: Some(config.eps),
        head: Some(config.head),
        pooling: Some(config.pooling).filter(|&pooling| pooling != Rounding::Floor),
        protocol: Some(model.protocol.clone()),
        labels: match &model.labels {
            Labels::Own(names) => Some(names.clone()),
            _ => None,
        },
        source_format: Some(model.source.format.to_owned()),
        source_sha256: Some(model.source.sha256.clone()),
        source_files: model.source.files.clone(),
        task: model.task,
        tool: Some(TOOL.to_owned()),
        ..Metadata::default()
    }
}
