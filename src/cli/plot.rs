//! `plot`: pictures of what weights hold, and of what runs came to.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use densenet_zoo::report::curves::{self, Best, Curve};
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
    /// Error, loss and learning rate of training runs, epoch by epoch.
    Curves(Curves),
}

#[derive(Args)]
struct Features {
    /// A name or a file.
    model: String,
    #[command(flatten)]
    picture: Picture,
    #[command(flatten)]
    print: FormatArg,
}

#[derive(Args)]
struct Curves {
    /// Folders that `train` or `finetune` left, or their metrics.jsonl.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    picture: Picture,
    #[command(flatten)]
    print: FormatArg,
}

#[derive(Args)]
struct Picture {
    /// The picture: .svg or .png.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite the output.
    #[arg(long)]
    force: bool,
}

impl Picture {
    /// Its path, if it may be written.
    fn path(&self) -> Result<&Path> {
        let ending = self.output.extension().and_then(|ending| ending.to_str());
        if !matches!(ending, Some("svg" | "png")) {
            return Err(Error::Usage("-o takes a .svg or .png file".into()));
        }
        output::may_write(&self.output, self.force)?;
        Ok(&self.output)
    }
}

impl Plot {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        match self.what {
            What::Features(verb) => verb.run(store),
            What::Curves(verb) => verb.run(),
        }
    }
}

impl Features {
    fn run(self, store: &Store) -> Result<()> {
        let path = self.picture.path()?;
        let model = store.model(&self.model, &mut Downloads::default().one())?;
        let blocks = features::blocks(&model.config, |name| model.tensor(name))?;
        features::save(path, &model.name, &blocks)?;
        if self.print.format == Format::Json {
            return output::print_json(&json!({"model": model.name, "sha256": model.source.sha256, "blocks": blocks}));
        }
        let layers: usize = blocks.iter().map(|block| block.targets.len() - 1).sum();
        let (path, count) = (path.display(), blocks.len());
        output::print(&format!("{path}: mean absolute weights between the {layers} layers of {count} blocks"))
    }
}

impl Curves {
    fn run(self) -> Result<()> {
        let path = self.picture.path()?;
        let runs = Curve::open_all(&self.runs)?;
        curves::save(path, &runs)?;
        if self.print.format == Format::Json {
            let run = |(run, path): (&Curve, _)| json!({"run": run.name, "path": path, "best": run.best(), "epochs": run.epochs});
            return output::print_json(&runs.iter().zip(&self.runs).map(run).collect());
        }
        let row = |run: &Curve| {
            let best = run.best().map_or_else(String::new, |Best { epoch, measure, value }| {
                format!("; best: {}, epoch {epoch}", measure.say(value))
            });
            format!("\n  {}: {} epochs{best}", run.name, run.epochs.len())
        };
        output::print(&format!("{}:{}", path.display(), runs.iter().map(row).collect::<String>()))
    }
}
