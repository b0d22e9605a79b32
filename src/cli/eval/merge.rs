//! `eval merge`: the parts of a run put together.

use std::path::PathBuf;

use clap::Args;
use densenet_zoo::Result;
use densenet_zoo::eval::Evaluation;
use densenet_zoo::metrics::Summary;
use densenet_zoo::predictions::Predictions;

use super::{Format, FormatArg, figures, output, result, unreadable, whole};

#[derive(Args)]
pub(super) struct Merge {
    /// The predictions of every part.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write the whole run's predictions.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the output.
    #[arg(long, requires = "output")]
    force: bool,
    /// Leave out images that could not be read; otherwise the merge fails at its end and names them.
    #[arg(long)]
    skip_bad: bool,
    #[command(flatten)]
    print: FormatArg,
}

impl Merge {
    pub(super) fn run(self) -> Result<()> {
        if let Some(path) = &self.output {
            output::may_write(path, self.force)?;
        }
        let parts = self.files.iter().map(|path| Ok((path.as_path(), Predictions::open(path)?)));
        let merged = Predictions::merge(parts.collect::<Result<_>>()?)?;
        if let Some(path) = &self.output {
            merged.write(path)?;
        }
        let header = &merged.header;
        let evaluation = whole(merged.entries.clone(), Evaluation::default());
        let summary = Summary::of(&evaluation.predictions);
        if self.print.format == Format::Json {
            output::print_json(&result(header, &summary, &evaluation))?;
        } else {
            output::print(&format!(
                "{} on {} ({}): {} images, protocol {}, {} crop\n{}",
                header.model,
                header.data,
                header.dataset,
                evaluation.images(),
                header.protocol,
                header.crops,
                figures(&summary)
            ))?;
        }
        unreadable(&evaluation.bad, self.skip_bad)
    }
}
