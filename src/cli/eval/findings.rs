//! `eval` over images with findings: the area under each one's curve.

use std::fmt::Write;

use densenet_zoo::data::decode::DECODER;
use densenet_zoo::eval::{Findings, Setup, evaluate_findings};
use densenet_zoo::metrics::{Finding, FindingsSummary};
use densenet_zoo::runner::Runner;
use densenet_zoo::store::Model;
use densenet_zoo::{Error, Result, files};
use serde_json::{Value, json};

use super::{Format, Run, output, progress, unreadable};

impl Run {
    pub(super) fn findings(&self, model: &Model, setup: &Setup, values: &[f32], runner: &mut Runner) -> Result<()> {
        if self.resume || self.shard.is_some() {
            return Err(Error::Usage("findings are evaluated in one go, without --resume and --shard".into()));
        }
        let (dataset, protocol) = (setup.dataset, setup.transform.protocol());
        let bar = progress::images(dataset.samples.len());
        let said = evaluate_findings(runner, setup, |images| {
            bar.set_position(images as u64);
            Ok(())
        })?;
        bar.finish_and_clear();
        let header = json!({
            "tool": concat!("densenet-zoo ", env!("CARGO_PKG_VERSION")),
            "model": model.name,
            "sha256": model.source.sha256,
            "architecture": model.config.name(),
            "protocol": protocol,
            "crops": setup.transform.crops(),
            "decoder": DECODER,
            "data": self.data,
            "labels": self.labels,
            "uncertain": self.uncertain,
            "backend": runner.name(),
            "findings": dataset.classes,
        });
        if let Some(path) = &self.predictions {
            files::write(path, predictions(&header, &said, setup, values)?.as_bytes())?;
        }
        let summary = said.summary(&dataset.classes, values);
        if self.print.format == Format::Json {
            let mut json = header;
            json["images"] = json!(summary.images);
            json["bad"] = json!(said.bad);
            json["seconds"] = json!(said.seconds);
            json["summary"] = json!(summary);
            output::print_json(&json)?;
        } else {
            let rate = summary.images as f64 / said.seconds;
            output::print(&format!(
                "{} on {}: {} images in {:.1} s, {rate:.0} a second, protocol {}\n{}",
                model.name,
                self.data.as_deref().unwrap_or_default(),
                summary.images,
                said.seconds,
                protocol.name,
                table(&summary)
            ))?;
        }
        unreadable(&said.bad, self.skip_bad)
    }
}

/// What was run, then an image a line.
fn predictions(header: &Value, said: &Findings, setup: &Setup, values: &[f32]) -> Result<String> {
    let width = setup.dataset.classes.len();
    let mut text = format!("{header}\n");
    for (&image, logits) in said.images.iter().zip(said.logits.chunks_exact(width)) {
        // What is not known is null.
        let known = values.iter().skip(image * width).take(width);
        let line = json!({
            "image": setup.dataset.samples[image].id,
            "findings": known.map(|value| Some(value).filter(|value| !value.is_nan())).collect::<Vec<_>>(),
            "logits": logits,
        });
        writeln!(text, "{line}").map_err(|error| Error::Usage(error.to_string()))?;
    }
    Ok(text)
}

fn table(summary: &FindingsSummary) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
    let row = |finding: &Finding| {
        let Finding { name, positives, negatives, auroc, low, high } = finding;
        vec![
            name.clone(),
            positives.to_string(),
            negatives.to_string(),
            number(*auroc),
            low.zip(*high).map_or_else(|| "-".into(), |(low, high)| format!("{low:.4} to {high:.4}")),
        ]
    };
    let header = ["", "with", "without", "AUROC", "95 % interval"];
    format!(
        "{}\nmean AUROC {}, cross-entropy {:.4}",
        output::table(&header, &[1, 2, 3, 4], summary.per_class.iter().map(row).collect()),
        number(summary.mean_auroc),
        summary.loss
    )
}
