//! `classify`: the likeliest classes of each image, or each finding's probability.

use std::path::PathBuf;

use clap::Args;
use densenet_arch::Task;
use densenet_zoo::Result;
use densenet_zoo::data::transform::Transform;
use densenet_zoo::data::{Image, Sample, loader};
use densenet_zoo::eval::{best, probabilities, run, sigmoids};
use densenet_zoo::store::Store;
use serde_json::json;

use super::eval::unreadable;
use super::progress::Downloads;
use super::{Format, FormatArg, ProtocolArg, RunnerArgs, output};

#[derive(Args)]
pub(super) struct Classify {
    /// A name or a file.
    model: String,
    /// JPEG, PNG, WebP, GIF, TIFF or BMP files.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Leave out images that cannot be read; otherwise the run fails at its end and names them.
    #[arg(long)]
    skip_bad: bool,
    #[command(flatten)]
    protocol: ProtocolArg,
    #[command(flatten)]
    runner: RunnerArgs,
    #[command(flatten)]
    print: FormatArg,
}

impl Classify {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let model = store.model(&self.model, &mut Downloads::default().one())?;
        let protocol = self.protocol.of(&model)?;
        let mut runner = self.runner.open(&model, protocol.crop)?;
        let transform = Transform::new(&protocol, model.config.in_channels)?;
        let samples: Vec<_> = self
            .images
            .iter()
            .map(|path| Sample { id: path.display().to_string(), labels: vec![0], image: Image::File(path.clone()) })
            .collect();
        let (mut results, mut bad) = (Vec::new(), Vec::new());
        loader::each_batch(&samples, &transform, 1, 1, |batch| {
            bad.extend(batch.bad_images(&samples));
            if let Some((_, error)) = batch.bad.pop() {
                // Of one image alone, its error says all.
                return if samples.len() == 1 && !self.skip_bad { Err(error) } else { Ok(()) };
            }
            let id = &samples[batch.start].id;
            let logits = run(&mut runner, &transform, batch)?;
            let (shares, count) = match model.task {
                Task::SingleLabel => (probabilities(&logits), 5),
                Task::MultiLabel => (sigmoids(&logits), logits.len()),
            };
            let top = best(&logits, count, id)?;
            if self.print.format == Format::Human {
                let rows =
                    top.iter().map(|&class| format!("  {:6.2} %  {}", 100.0 * shares[class], model.labels.name(class)));
                output::print(&format!("{id}\n{}", rows.collect::<Vec<_>>().join("\n")))?;
            }
            let top: Vec<_> = top
                .iter()
                .map(|&class| json!({"class": class, "name": model.labels.name(class), "probability": shares[class]}))
                .collect();
            results.push(json!({"image": id, "top": top}));
            Ok(())
        })?;
        if self.print.format == Format::Json {
            output::print_json(&json!({
                "model": model.name,
                "sha256": model.source.sha256,
                "protocol": protocol,
                "task": model.task,
                "backend": runner.name(),
                "images": results,
                "bad": bad,
            }))?;
        }
        unreadable(&bad, self.skip_bad)
    }
}
