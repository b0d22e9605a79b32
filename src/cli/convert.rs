//! `convert`: any checkpoint to safetensors.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use densenet_arch::networks;
use densenet_converters::{Conversion, Options, read as read_checkpoint, sha256, write_raw};
use densenet_zoo::store::{complete, convert, read};
use densenet_zoo::{Error, Result};
use serde_json::json;

use super::{Format, FormatArg, ProtocolArg, output};

#[derive(Args)]
pub(super) struct Convert {
    /// Torch7, PyTorch or safetensors; told apart by looking into the file.
    input: PathBuf,
    /// The safetensors file; a folder if it is one or ends in `/`.
    #[arg(short, long, value_name = "FILE|DIR/")]
    output: PathBuf,
    /// Overwrite the output.
    #[arg(long)]
    force: bool,
    /// Any tensors under their own names, no DenseNet asked for.
    #[arg(long, conflicts_with_all = ["arch", "allow_unused", "protocol"])]
    raw: bool,
    /// The network that the tensors must fit, by name.
    #[arg(long)]
    arch: Option<String>,
    /// Leave out tensors that belong to nothing in the network.
    #[arg(long)]
    allow_unused: bool,
    #[command(flatten)]
    protocol: ProtocolArg,
    #[command(flatten)]
    print: FormatArg,
}

impl Convert {
    pub(super) fn run(self) -> Result<()> {
        let target = self.target();
        if target.exists() && !self.force {
            return Err(Error::Exists { path: target });
        }
        let bytes = read(&self.input)?;
        if self.raw {
            let wrap = |source| Error::Checkpoint { path: self.input.clone(), source };
            let checkpoint = read_checkpoint(&bytes).map_err(wrap)?;
            let sha256 = write_file(&target, |out| write_raw(&checkpoint, &sha256(&bytes), out))?;
            let tensors = checkpoint.tensors().len();
            return match self.print.format {
                Format::Human => output::print(&format!("{}: {tensors} tensors, sha256 {sha256}", target.display())),
                Format::Json => output::print_json(&json!({"output": target, "sha256": sha256, "tensors": tensors})),
            };
        }
        let arch = self.arch.as_deref().map(|name| {
            let found = networks::find(name).map(|network| network.config.clone());
            found.ok_or_else(|| Error::Usage(format!("--arch {name}: no such network; `list` names them")))
        });
        let mut options = Options { arch: arch.transpose()?, protocol: self.protocol.stated()?, labels: None };
        if let Some(config) = options.arch.take() {
            // The table has 1000 and 10 classes; a fine-tuned head of another width is still the same network.
            let own = convert(&self.input, &bytes, &Options::default()).map(|found| found.config.num_classes);
            options.arch = Some(config.clone().with_classes(own.unwrap_or(config.num_classes)));
        }
        let conversion = convert(&self.input, &bytes, &options)?;
        complete(&self.input, &conversion, self.allow_unused)?;
        let sha256 = write_file(&target, |out| conversion.write(out))?;
        self.report(&conversion, &target, &sha256)
    }

    fn report(&self, conversion: &Conversion, target: &Path, sha256: &str) -> Result<()> {
        let config = &conversion.config;
        let protocol = &conversion.protocol.name;
        if self.print.format == Format::Json {
            return output::print_json(&json!({
                "input": self.input,
                "format": conversion.format.name(),
                "source_sha256": conversion.source_sha256,
                "output": target,
                "sha256": sha256,
                "architecture": config.name(),
                "config": config,
                "protocol": protocol,
                "report": conversion.report,
            }));
        }
        let stated = if conversion.protocol_stated { "" } else { " (its network's default; --protocol to change)" };
        output::print(&format!(
            "{} ({}, sha256 {})\n  {}, {} parameters, {} classes, eps {:e}, head {}\n  {}\n  protocol {protocol}{stated}\n{} (sha256 {sha256})",
            self.input.display(),
            conversion.format.name(),
            conversion.source_sha256,
            config.name(),
            output::thousands(config.parameter_count() as u64),
            config.num_classes,
            config.eps,
            config.head.name(),
            conversion.report,
            target.display(),
        ))
    }

    fn target(&self) -> PathBuf {
        let text = self.output.as_os_str().to_string_lossy();
        if !self.output.is_dir() && !text.ends_with('/') {
            return self.output.clone();
        }
        let name = self.input.file_stem().unwrap_or_default();
        self.output.join(name).with_extension("safetensors")
    }
}

/// Writes beside the target, then renames: the target appears whole or not at all. Returns its sha256.
fn write_file(
    target: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<String, densenet_converters::Error>,
) -> Result<String> {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    };
    std::fs::create_dir_all(folder).map_err(io("create", folder))?;
    let file = tempfile::NamedTempFile::new_in(folder).map_err(io("write into", folder))?;
    let mut out = BufWriter::new(file);
    let sha256 = write(&mut out).map_err(|source| Error::Checkpoint { path: target.to_owned(), source })?;
    let file = out.into_inner().map_err(|error| io("write", target)(error.into_error()))?;
    file.as_file().sync_all().map_err(io("write", target))?;
    file.persist(target).map_err(|error| io("write", target)(error.error))?;
    Ok(sha256)
}
