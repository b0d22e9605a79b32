//! `plot`: pictures of what weights hold.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use densenet_zoo::report::features;
use densenet_zoo::store::Store;
use densenet_zoo::{Error, Result};
use serde_json::json;

use super::progress::Downloads;
use super::{Format, FormatArg, output};

#[derive(Args)]
pub(super) struct Plot {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Which earlier layers each layer reads: the paper's figure 5 for any weights.
    Features(Features),
}

#[derive(Args)]
struct Features {
    /// A name or a file.
    model: String,
    /// The picture: .svg or .png.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite the output.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    print: FormatArg,
}

impl Plot {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        match self.what {
            What::Features(verb) => verb.run(store),
        }
    }
}

impl Features {
    fn run(self, store: &Store) -> Result<()> {
        let ending = self.output.extension().and_then(|ending| ending.to_str());
        if !matches!(ending, Some("svg" | "png")) {
            return Err(Error::Usage("-o takes a .svg or .png file".into()));
        }
        output::may_write(&self.output, self.force)?;
        let model = store.model(&self.model, &mut Downloads::default().one())?;
        let blocks = features::blocks(&model.config, |name| model.tensor(name))?;
        match ending {
            Some("svg") => output::write_file(&self.output, features::svg(&model.name, &blocks).as_bytes())?,
            _ => output::write_image(&self.output, &features::pixels(&model.name, &blocks))?,
        }
        if self.print.format == Format::Json {
            return output::print_json(&json!({"model": model.name, "sha256": model.source.sha256, "blocks": blocks}));
        }
        let layers: usize = blocks.iter().map(|block| block.targets.len() - 1).sum();
        let (path, count) = (self.output.display(), blocks.len());
        output::print(&format!("{path}: mean absolute weights between the {layers} layers of {count} blocks"))
    }
}
