//! `report`: all results on one page.

use std::path::PathBuf;

use candle_core::Device;
use clap::Args;
use densenet_registry::Silent;
use densenet_zoo::data::labels::Labels;
use densenet_zoo::device::DeviceChoice;
use densenet_zoo::report::page::{Run, page};
use densenet_zoo::report::{Measured, examples, table};
use densenet_zoo::store::{Model, Store};
use densenet_zoo::{Error, Result, files};

use super::output;

#[derive(Args)]
pub(super) struct Report {
    /// Results: what `eval --format json` printed, predictions (for pictures of what went wrong), or folders of either.
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// The page.
    #[arg(short, long, value_name = "FILE.html")]
    output: PathBuf,
    /// Its heading.
    #[arg(long, default_value = "DenseNets, measured")]
    title: String,
    /// Overwrite the output.
    #[arg(long)]
    force: bool,
    /// Where the few maps of what the network saw are computed: auto, cpu, cuda[:N] or metal[:N].
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
}

impl Report {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        output::may_write(&self.output, self.force)?;
        let device = self.device.open()?;
        let results = Measured::open_all(&self.results)?;
        let rows = table::rows(&store.catalogue, &results);
        let runs: Vec<Run> = results.into_iter().map(|measured| illustrated(store, measured, &device)).collect();
        files::write(&self.output, page(&self.title, &rows, &runs).as_bytes())?;
        let pictures: usize = runs.iter().flat_map(|run| &run.examples).map(|example| example.images.len()).sum();
        for run in &runs {
            run.notes.iter().for_each(|note| eprintln!("{}: {note}", run.measured.path.display()));
        }
        output::print(&format!("{}: {} runs, {pictures} images of errors", self.output.display(), runs.len()))
    }
}

/// The run with class names and pictures, as far as model and images are still at hand. Nothing is fetched.
fn illustrated(store: &Store, measured: Measured, device: &Device) -> Run {
    let mut notes = Vec::new();
    let model = store.model_at_hand(&measured.run.model, &mut Silent).and_then(|model| same(&measured, model));
    let model = model.map_err(|error| notes.push(format!("without maps: {error}"))).ok();
    let labels = model.as_ref().map_or_else(|| numbered(&measured), |model| model.labels.clone());
    let found = examples::examples(&measured, model.as_ref(), device);
    let examples = found.map_err(|error| notes.push(format!("without images: {error}"))).unwrap_or_default();
    Run { measured, labels, examples, notes }
}

/// The model, if it is still the one that was evaluated.
fn same(measured: &Measured, model: Model) -> Result<Model> {
    if model.source.sha256 == measured.run.sha256 {
        return Ok(model);
    }
    Err(Error::Usage(format!("{} is another file now than the one that was evaluated", measured.run.model)))
}

/// ImageNet's names where a class count says so, else numbers.
fn numbered(measured: &Measured) -> Labels {
    let imagenet = measured.run.dataset.starts_with("imagenet");
    let most = measured.summary.per_class.iter().map(|class| class.label + 1).max().unwrap_or(1);
    Labels::new(None, if imagenet { 1000 } else { most })
}
