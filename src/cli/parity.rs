//! `parity`: a model's output against a stored one.

use std::path::PathBuf;

use clap::Args;
use densenet_zoo::parity::Reference;
use densenet_zoo::store::Store;
use densenet_zoo::{Error, Result};
use serde_json::json;

use super::progress::Downloads;
use super::{Format, FormatArg, RunnerArgs, output};

#[derive(Args)]
pub(super) struct Parity {
    /// A name or a file.
    model: String,
    /// A safetensors file with `input` and `output`.
    #[arg(long, value_name = "FILE")]
    reference: PathBuf,
    /// The largest difference allowed, as a share of the reference's largest value.
    #[arg(long, default_value_t = 1e-5)]
    tolerance: f64,
    #[command(flatten)]
    runner: RunnerArgs,
    #[command(flatten)]
    print: FormatArg,
}

impl Parity {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let reference = Reference::open(&self.reference)?;
        let model = store.model(&self.model, &mut Downloads::default().one())?;
        let mut runner = self.runner.open_exact(&model, model.protocol.crop)?;
        let difference = reference.compare(&mut runner)?;
        let within = difference.within(self.tolerance);
        match self.print.format {
            Format::Json => output::print_json(&json!({
                "model": model.name,
                "backend": runner.name(),
                "values": difference.values,
                "max_abs_difference": difference.absolute,
                "relative_difference": difference.relative(),
                "largest_output": difference.scale,
                "tolerance": self.tolerance,
                "within": within,
            }))?,
            Format::Human => output::print(&format!(
                "{} values, largest {:.6}\nlargest difference {:.3e}, {:.3e} of the largest value (tolerance {:e})",
                difference.values,
                difference.scale,
                difference.absolute,
                difference.relative(),
                self.tolerance
            ))?,
        }
        if within { Ok(()) } else { Err(Error::Negative(format!("{}: outside the tolerance", model.name))) }
    }
}
