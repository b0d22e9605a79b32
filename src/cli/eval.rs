//! `eval`: top-1 and top-5 error.

use std::thread::available_parallelism;

use candle_core::DType;
use clap::Args;
use densenet_zoo::Result;
use densenet_zoo::data::Dataset;
use densenet_zoo::data::decode::DECODER;
use densenet_zoo::data::transform::Transform;
use densenet_zoo::eval::{Evaluation, Setup, evaluate};
use densenet_zoo::store::{Model, Store};
use serde_json::json;

use super::progress::{self, Downloads};
use super::{ComputeArgs, Format, FormatArg, ProtocolArg, output};

#[derive(Args)]
pub(super) struct Eval {
    /// A name or a file.
    model: String,
    /// A folder with one folder a class, a CIFAR folder (binary or python), or `digits`.
    #[arg(long, value_name = "DIR|digits")]
    data: String,
    /// Images in a batch.
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// Threads that decode; all cores otherwise.
    #[arg(long)]
    workers: Option<usize>,
    #[command(flatten)]
    protocol: ProtocolArg,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    print: FormatArg,
}

impl Eval {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let dataset = Dataset::open(&self.data)?;
        let model = store.model(&self.model, &mut Downloads::default().one())?;
        let protocol = self.protocol.of(&model)?;
        let transform = Transform::new(&protocol, model.config.in_channels)?;
        let classes = class_map(&model, &dataset)?;
        let device = self.compute.open()?;
        let network = model.network(&device, DType::F32)?;
        let threads = self.workers.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        let setup = Setup {
            dataset: &dataset,
            classes: &classes,
            transform: &transform,
            device: &device,
            batch: self.batch_size,
            threads,
        };
        let bar = progress::images(dataset.samples.len());
        let evaluation = evaluate(&network, &setup, |so_far, _| {
            bar.set_position(so_far.images() as u64);
            bar.set_message(format!("top-1 error {:.2} %, {:.0} images/s", so_far.top1_error(), so_far.rate()));
        })?;
        bar.finish_and_clear();
        if self.print.format == Format::Json {
            return output::print_json(&json!({
                "tool": concat!("densenet-zoo ", env!("CARGO_PKG_VERSION")),
                "model": model.name,
                "file": model.source.path,
                "format": model.source.format,
                "sha256": model.source.sha256,
                "architecture": model.config.name(),
                "config": model.config,
                "protocol": protocol,
                "decoder": DECODER,
                "data": self.data,
                "dataset": dataset.kind,
                "batch_size": self.batch_size,
                "device": self.compute.device.resolve().to_string(),
                "images": evaluation.images(),
                "top1_wrong": evaluation.top1_wrong,
                "top5_wrong": evaluation.top5_wrong,
                "top1_error": evaluation.top1_error(),
                "top5_error": evaluation.top5_error(),
                "seconds": evaluation.seconds,
                "published": model.published,
            }));
        }
        output::print(&format!(
            "{} on {} ({}): {} images in {:.1} s, {:.0} a second\n{}",
            model.name,
            self.data,
            dataset.kind,
            evaluation.images(),
            evaluation.seconds,
            evaluation.rate(),
            errors(&model, &evaluation, &protocol.name, dataset.kind),
        ))
    }
}

/// The network's class for each of the data's classes.
pub(super) fn class_map(model: &Model, dataset: &Dataset) -> Result<Vec<usize>> {
    if dataset.classes.is_empty() {
        return Ok((0..model.labels.count()).collect());
    }
    model.labels.match_classes(&dataset.classes)
}

/// The measured errors under the published ones.
pub(super) fn errors(model: &Model, evaluation: &Evaluation, protocol: &str, kind: &str) -> String {
    let mut rows: Vec<Vec<String>> = model
        .published
        .iter()
        .map(|published| {
            vec![
                format!("published ({})", published.source),
                published.dataset.clone(),
                format!("{}, {} crop", published.protocol, published.crops),
                format!("{:.3}", published.top1_error),
                published.top5_error.map_or_else(|| "-".into(), |error| format!("{error:.3}")),
            ]
        })
        .collect();
    rows.push(vec![
        "measured here".into(),
        kind.into(),
        format!("{protocol}, 1 crop"),
        format!("{:.3}", evaluation.top1_error()),
        format!("{:.3}", evaluation.top5_error()),
    ]);
    output::table(&["", "data", "protocol", "top-1 error %", "top-5 error %"], &[3, 4], rows)
}
