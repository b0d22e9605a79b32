//! `eval compare`: two runs over the same images.

use std::path::PathBuf;

use clap::Args;
use densenet_zoo::metrics::{Comparison, Summary};
use densenet_zoo::predictions::Predictions;
use densenet_zoo::{Error, Result};
use serde_json::json;

use super::{Format, FormatArg, output};

#[derive(Args)]
pub(super) struct Compare {
    /// Predictions of one run.
    first: PathBuf,
    /// Predictions of another over the same images.
    second: PathBuf,
    #[command(flatten)]
    print: FormatArg,
}

impl Compare {
    pub(super) fn run(self) -> Result<()> {
        let (first, second) = (Predictions::open(&self.first)?, Predictions::open(&self.second)?);
        let (a, b) = (first.said(), second.said());
        let same = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.image == b.image && a.labels == b.labels);
        if !same {
            return Err(Error::Usage(format!(
                "{} and {} are not of the same images with the same labels",
                self.first.display(),
                self.second.display()
            )));
        }
        let comparison = Comparison::of(&a, &b);
        if self.print.format == Format::Json {
            return output::print_json(&json!({
                "first": first.header,
                "second": second.header,
                "comparison": comparison,
            }));
        }
        let name =
            |run: &Predictions| format!("{}, {}, {} crop", run.header.model, run.header.protocol, run.header.crops);
        let error = |said| Summary::of(said).top1_error;
        let rows = [(name(&first), error(&a)), (name(&second), error(&b))].map(|(name, rate)| {
            vec![name, format!("{:.3}", rate.percent), format!("{:.2} to {:.2}", rate.low, rate.high)]
        });
        let Comparison { images, only_first, only_second, difference, low, high, p } = comparison;
        output::print(&format!(
            "{}\n\nof {images} images, {only_first} are right in the first only and {only_second} in the second only\n\
             second less first: {difference:+.3} points (95 % interval {low:+.3} to {high:+.3}); McNemar's exact p = {p:.4}",
            output::table(&["", "top-1 error %", "95 % interval"], &[1], rows.to_vec()),
        ))
    }
}
