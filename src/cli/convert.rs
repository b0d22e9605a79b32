//! `convert`: any checkpoint to safetensors.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use densenet_arch::{Rounding, Task, networks};
use densenet_converters::{
    Choice, Conversion, DType, Kernels, Layout, Options, Source, read as read_checkpoint, write_raw,
};
use densenet_zoo::input::{self, Input};
use densenet_zoo::store::{Store, complete, convert};
use densenet_zoo::{Error, Result, files, hf};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::output::io_error;
use super::{Format, ProtocolArg, output};

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Convert {
    /// A checkpoint of any format, told apart by looking into the file; or a folder with model.safetensors.
    input: PathBuf,
    /// The safetensors file; a folder if it is one or ends in `/`; `-` is stdout.
    #[arg(short, long, value_name = "FILE|DIR/|-")]
    output: PathBuf,
    /// Overwrite the output.
    #[arg(long)]
    force: bool,
    /// Any tensors under their own names, no DenseNet asked for.
    #[arg(long, conflicts_with_all = ["arch", "allow_unused", "protocol", "dtype", "prefix", "prefer", "hf_folder", "pooling", "eps", "kernels", "layout", "no_top", "task"])]
    raw: bool,
    /// The network that the tensors must fit, by name.
    #[arg(long)]
    arch: Option<String>,
    /// Leave out tensors that belong to nothing in the network.
    #[arg(long)]
    allow_unused: bool,
    /// Where a file holds several networks: the one under this path, as `teacher` or `state_dict.module`.
    #[arg(long, value_name = "PATH", conflicts_with = "prefer")]
    prefix: Option<String>,
    /// Where a file holds averaged weights beside the plain ones: which.
    #[arg(long, value_enum)]
    prefer: Option<Prefer>,
    /// Type of the weights, rounded to the nearest; running statistics become f32. Otherwise the file's own.
    #[arg(long, value_enum)]
    dtype: Option<Float>,
    /// How the poolings round, where the file does not say. Floor otherwise, as the published Caffe networks mean it; stock
    /// Caffe itself rounds up.
    #[arg(long, value_enum)]
    pooling: Option<Pooling>,
    /// What the batch norms add to the variance, where the file does not say.
    #[arg(long, value_name = "X")]
    eps: Option<f64>,
    /// Whose convolution the kernels of a Keras file are for, where neither its backend nor their shapes say.
    #[arg(long, value_enum)]
    kernels: Option<KernelOrder>,
    /// How the arrays of an .npz are called.
    #[arg(long, value_enum)]
    layout: Option<Names>,
    /// What the outputs stand for: classes of which an image has one, or findings of which it may have any, as of chest
    /// radiographs. Otherwise what the file says, or the first.
    #[arg(long, value_name = "single-label|multi-label", value_parser = task)]
    task: Option<Task>,
    /// The features alone, of a file without a classifier (Keras: include_top=False) or with one.
    #[arg(long)]
    no_top: bool,
    /// Make the output a folder of model.safetensors, config.json and README.md, as timm and the Hugging Face Hub have it.
    #[arg(long)]
    hf_folder: bool,
    #[command(flatten)]
    protocol: ProtocolArg,
    /// What became of every tensor, on stdout (stderr with `-o -`); otherwise a summary.
    #[arg(long, alias = "format", value_enum, value_name = "FORMAT")]
    report: Option<Format>,
}

fn task(name: &str) -> Result<Task, String> {
    Task::from_name(name).ok_or_else(|| "single-label or multi-label is expected".into())
}

#[derive(Clone, Copy, ValueEnum)]
enum Prefer {
    /// The weights of the training.
    Plain,
    /// Their average.
    Ema,
}

#[derive(Clone, Copy, ValueEnum)]
enum Float {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Pooling {
    /// Windows that hang over the edge are left out.
    Floor,
    /// They count.
    Ceil,
}

#[derive(Clone, Copy, ValueEnum)]
enum KernelOrder {
    /// TensorFlow's: height, width, in, out, as they are computed.
    Tensorflow,
    /// Theano's: out, in, height, width, back to front.
    Theano,
}

#[derive(Clone, Copy, ValueEnum)]
enum Names {
    /// As in a state dict: features.conv0.weight.
    Pytorch,
    /// A layer's name with its tensor behind it: conv1_bn_gamma.
    Layers,
}

/// Where the output goes.
enum Target {
    Stdout,
    File(PathBuf),
    Folder(PathBuf),
}

impl Convert {
    pub(super) fn run(mut self, store: &Store) -> Result<()> {
        self.input = super::checkpoint(store, self.input)?;
        let target = self.target();
        if let Target::File(path) = &target {
            output::right_ending(path, "safetensors", "convert writes safetensors, and `export` ONNX")?;
        }
        if !self.force {
            let taken = match &target {
                Target::Stdout => None,
                Target::File(path) => Some(path.clone()),
                Target::Folder(path) => hf::taken(path),
            };
            if let Some(path) = taken.filter(|path| path.exists()) {
                return Err(Error::Exists { path });
            }
        }
        let options = self.options()?;
        input::open(&self.input, |input| {
            if self.raw { self.raw(input, &target) } else { self.network(store, input, &target, &options) }
        })
    }

    fn options(&self) -> Result<Options> {
        let arch = self.arch.as_deref().map(|name| {
            let found = networks::find(name).map(|network| network.config.clone());
            found.ok_or_else(|| output::no_such_network(name))
        });
        Ok(Options {
            arch: arch.transpose()?,
            protocol: self.protocol.stated()?,
            labels: None,
            choice: Choice { prefix: self.prefix.clone(), ema: matches!(self.prefer, Some(Prefer::Ema)) },
            pooling: self.pooling.map(|pooling| match pooling {
                Pooling::Floor => Rounding::Floor,
                Pooling::Ceil => Rounding::Ceil,
            }),
            task: self.task,
            eps: self.eps,
            no_top: self.no_top,
            layout: self.layout.map(|names| match names {
                Names::Pytorch => Layout::Pytorch,
                Names::Layers => Layout::Layers,
            }),
            kernels: self.kernels.map(|order| match order {
                KernelOrder::Tensorflow => Kernels::Tensorflow,
                KernelOrder::Theano => Kernels::Theano,
            }),
            dtype: self.dtype.map(|dtype| match dtype {
                Float::F32 => DType::F32,
                Float::F16 => DType::F16,
                Float::Bf16 => DType::BF16,
            }),
        })
    }

    fn raw(&self, input: &Input, target: &Target) -> Result<()> {
        let wrap = |source| Error::Checkpoint { path: self.input.clone(), source };
        let checkpoint = read_checkpoint(&input.source).map_err(wrap)?;
        let sha256 = self.write(target, input, |out| write_raw(&checkpoint, &input.source, out))?;
        let names: Vec<_> = checkpoint.tensors().iter().map(|named| &named.name).collect();
        let mut json = self.json(&input.source, checkpoint.format().name(), target, &sha256);
        json["tensors"] = json!(names);
        let summary = format!("{}: {} tensors, sha256 {sha256}", target.show(), names.len());
        let lines: Vec<_> = names.iter().map(|name| format!("  {name} -> {name}")).collect();
        self.say(target, &json, &lines, &summary)
    }

    fn network(&self, store: &Store, input: &Input, target: &Target, options: &Options) -> Result<()> {
        let conversion = convert(&self.input, &input.source, options)?;
        complete(&self.input, &conversion, self.allow_unused)?;
        let sha256 = if let Target::Folder(folder) = target {
            output::write_folder(folder, (&self.input, input), &conversion, store.known(conversion.origin().0))?
        } else {
            self.write(target, input, |out| conversion.write(out))?
        };
        let differences = hf::network_differences(&conversion.config);
        if hf::timm_builds(&conversion.config) && !self.no_top && !differences.is_empty() {
            eprintln!("torchvision and timm load it, and their outputs will differ: {}", differences.join("; "));
        }
        let config = &conversion.config;
        let protocol = &conversion.protocol.name;
        let mut json = self.json(&input.source, conversion.format.name(), target, &sha256);
        json["architecture"] = json!(config.name());
        json["config"] = json!(config);
        json["protocol"] = json!(protocol);
        json["report"] = json!(conversion.report);
        let report = &conversion.report;
        let made = report.made.iter().map(|made| format!("  made {}: {}", made.target, made.why));
        let lines: Vec<_> = report.entries.iter().map(|entry| format!("  {entry}")).chain(made).collect();
        self.say(target, &json, &lines, &self.summary(&conversion, target, &sha256))
    }

    fn summary(&self, conversion: &Conversion, target: &Target, sha256: &str) -> String {
        let config = &conversion.config;
        let (classifier, classes, head) = if self.no_top {
            ((config.num_features() + 1) * config.num_classes, "no classifier".to_owned(), String::new())
        } else {
            (0, format!("{} classes", config.num_classes), format!(", head {}", config.head.name()))
        };
        let stated = if conversion.protocol_stated { "" } else { " (its network's default; --protocol to change)" };
        format!(
            "{} ({}, sha256 {})\n  {}, {} parameters, {classes}, eps {:e}{head}{}\n  {}\n  protocol {}{stated}\n{} (sha256 {sha256})",
            self.input.display(),
            conversion.format.name(),
            conversion.source_sha256,
            config.name(),
            output::thousands((config.parameter_count() - classifier) as u64),
            config.eps,
            if config.pooling == Rounding::Ceil { ", poolings rounded up" } else { "" },
            conversion.report,
            conversion.protocol.name,
            target.show(),
        )
    }

    fn json(&self, source: &Source, format: &str, target: &Target, sha256: &str) -> Value {
        json!({
            "input": self.input,
            "format": format,
            "source_sha256": source.sha256(),
            "source_files": source.sha256_beside(),
            "output": target.show(),
            "sha256": sha256,
        })
    }

    /// Says on stdout, or on stderr where stdout is the output, what was done.
    fn say(&self, target: &Target, json: &Value, lines: &[String], summary: &str) -> Result<()> {
        let text = match self.report {
            Some(Format::Json) => format!("{json:#}"),
            Some(Format::Human) => format!("{}\n{summary}", lines.join("\n")),
            None => summary.to_owned(),
        };
        match target {
            Target::Stdout => {
                eprintln!("{text}");
                Ok(())
            }
            _ => output::print(&text),
        }
    }

    fn target(&self) -> Target {
        let text = self.output.as_os_str();
        if self.hf_folder {
            return Target::Folder(self.output.clone());
        }
        if text == OsStr::new("-") {
            return Target::Stdout;
        }
        if !self.output.is_dir() && !text.to_string_lossy().ends_with('/') {
            return Target::File(self.output.clone());
        }
        let mut name = self.input.file_stem().unwrap_or_default().to_owned();
        name.push(".safetensors");
        Target::File(self.output.join(name))
    }

    /// Writes beside the target, then renames: the target appears whole or not at all. Returns the sha256.
    fn write(
        &self,
        target: &Target,
        input: &Input,
        write: impl FnOnce(&mut dyn Write) -> Result<String, densenet_converters::Error>,
    ) -> Result<String> {
        let path = match target {
            Target::Stdout => None,
            Target::File(path) => Some(path.clone()),
            Target::Folder(folder) => Some(folder.join(hf::WEIGHTS)),
        };
        let file = match &path {
            Some(path) => files::beside(path)?,
            // Damage shows late: what is not whole must not reach the pipe either.
            None => NamedTempFile::new().map_err(io_error("write into", &std::env::temp_dir()))?,
        };
        let mut out = input.releasing(file);
        let sha256 = write(&mut out).map_err(|source| Error::Checkpoint { path: self.input.clone(), source })?;
        let file = out.into_inner();
        if let Some(path) = path {
            files::place(file, &path)?;
        } else {
            let mut file = file.reopen().map_err(io_error("read", file.path()))?;
            io::copy(&mut file, &mut io::stdout().lock()).map_err(io_error("write", Path::new("stdout")))?;
        }
        Ok(sha256)
    }
}

impl Target {
    fn show(&self) -> String {
        match self {
            Self::Stdout => "stdout".into(),
            Self::File(path) | Self::Folder(path) => path.display().to_string(),
        }
    }
}
