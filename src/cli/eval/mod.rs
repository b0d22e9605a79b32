//! `eval`: top-1 and top-5 error, or the areas under the curves of findings.

mod compare;
mod findings;
mod images;
mod merge;

use std::env;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Instant;

use clap::{Args, Subcommand};
use densenet_arch::Task;
use densenet_zoo::data::Dataset;
use densenet_zoo::data::class_map::ClassMap;
use densenet_zoo::data::decode::DECODER;
use densenet_zoo::data::loader::{BadImage, each_batch};
use densenet_zoo::data::sheet::Uncertain;
use densenet_zoo::data::transform::Transform;
use densenet_zoo::eval::{Evaluation, Setup, Shard, Step, evaluate};
use densenet_zoo::metrics::Summary;
use densenet_zoo::predictions::{Entry, Header, Writer};
use densenet_zoo::runner::Runner;
use densenet_zoo::store::{Model, Store};
use densenet_zoo::{Error, Result};
use serde_json::{Value, json};

use super::progress::{self, Downloads};
use super::{Format, FormatArg, ProtocolArg, RunnerArgs, output};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Eval {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Verb {
    /// Two runs over the same images: the difference of their errors, and McNemar's test.
    Compare(compare::Compare),
    /// The parts of a run put together: exactly what the whole run gives.
    Merge(merge::Merge),
}

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
struct Run {
    /// A name or a file.
    #[arg(required = true)]
    model: Option<String>,
    /// A folder with one folder a class; ImageNet's validation set as a flat folder or its tar; a CIFAR folder (binary or
    /// python) or Torch's .t7 of it; SVHN's test_32x32.mat; a CSV file with labels or findings, the images beside it; or
    /// `digits`.
    #[arg(long, value_name = "PATH|digits", required = true)]
    data: Option<String>,
    /// Which labels the images have: of ImageNet's validation set, those of the challenge, the reassessed ones (Beyer et al.
    /// 2020), of which several may be right, or those of a development kit, by its folder or its ground truth file; or those of
    /// a CSV file, whose paths are under the folder of --data.
    #[arg(long, value_name = "original|real|DEVKIT|FILE.csv", default_value = "original")]
    labels: String,
    /// What an uncertain finding, -1, is taken for.
    #[arg(long, value_name = "ignore|0|1", default_value = "ignore")]
    uncertain: Uncertain,
    /// Which of the network's classes each folder is, where its name does not say: lines `folder,class`, or JSON.
    #[arg(long, value_name = "FILE")]
    class_map: Option<PathBuf>,
    /// Ten crops an image, their outputs summed, as the original's -tenCrop.
    #[arg(long, alias = "tenCrop")]
    ten_crop: bool,
    /// Leave out images that cannot be read; otherwise the run fails at its end and names them.
    #[arg(long)]
    skip_bad: bool,
    /// Write what was said of each image, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// With the predictions, what the network gave every class.
    #[arg(long, requires = "predictions")]
    logits: bool,
    /// Go on with the predictions of a run that was ended.
    #[arg(long, requires = "predictions")]
    resume: bool,
    /// Overwrite the predictions.
    #[arg(long, requires = "predictions", conflicts_with = "resume")]
    force: bool,
    /// Part I of N, from 0; `eval merge` puts them together. Otherwise as SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT say, or
    /// JOB_COMPLETION_INDEX and JOB_COMPLETIONS.
    #[arg(long, value_name = "I/N", requires = "predictions", value_parser = shard)]
    shard: Option<Shard>,
    /// Only read and prepare the images, and say how fast that is; the network is left out.
    #[arg(long, conflicts_with_all = ["predictions", "resume", "shard"])]
    dry_network: bool,
    /// Images in a batch.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// Threads that decode; all cores otherwise.
    #[arg(long)]
    workers: Option<usize>,
    #[command(flatten)]
    protocol: ProtocolArg,
    #[command(flatten)]
    runner: RunnerArgs,
    #[command(flatten)]
    print: FormatArg,
}

fn shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
    match parts {
        Some((index, of)) if index < of => Ok(Shard { index, of }),
        _ => Err("I/N with I from 0 to N-1 is expected".into()),
    }
}

/// The part that a cluster's scheduler has given this process: a Slurm array's, or an indexed Job's of Kubernetes. A part that
/// cannot be told is an error: every process would do the whole.
fn scheduled() -> Result<Option<Shard>> {
    let number = |name: &str| {
        let text = env::var(name).ok().filter(|text| !text.trim().is_empty());
        let parse = |text: String| {
            let refuse =
                |_| Error::Usage(format!("{name} is {text:?}, which is no number; --shard I/N says which part"));
            text.trim().parse::<usize>().map_err(refuse)
        };
        text.map(parse).transpose()
    };
    for (place, first, count) in [
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT"),
        ("JOB_COMPLETION_INDEX", "", "JOB_COMPLETIONS"),
    ] {
        let Some(index) = number(place)? else { continue };
        let lacks = || {
            Error::Usage(format!(
                "{place} is set and {count} is not; set it to the number of parts, or give --shard I/N"
            ))
        };
        let of = number(count)?.ok_or_else(lacks)?;
        let first = if first.is_empty() { 0 } else { number(first)?.unwrap_or(0) };
        let part = index.checked_sub(first).filter(|&part| part < of).map(|index| Shard { index, of });
        let beyond = || {
            Error::Usage(format!(
                "{place} is {index}, which is none of {of} parts from {first}; --shard I/N says which part"
            ))
        };
        return part.ok_or_else(beyond).map(Some);
    }
    Ok(None)
}

impl Eval {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        match self.verb {
            Some(Verb::Compare(verb)) => verb.run(),
            Some(Verb::Merge(verb)) => verb.run(),
            None => self.run.run(store),
        }
    }
}

impl Run {
    fn run(self, store: &Store) -> Result<()> {
        // clap asks for both where no verb stands.
        let (model, data) = (self.model.clone().unwrap_or_default(), self.data.clone().unwrap_or_default());
        let (dataset, findings) = self.images(&data)?;
        self.may_write(findings.is_some())?;
        let shard = if findings.is_none() { self.part()? } else { Shard::WHOLE };
        let model = store.model(&model, &mut Downloads::default().one())?;
        let protocol = self.protocol.of(&model)?;
        let transform = Transform::new(&protocol, model.config.in_channels)?;
        let transform = if self.ten_crop { transform.with_ten_crops()? } else { transform };
        let classes = match &self.class_map {
            Some(path) => ClassMap::open(path)?.classes(&dataset.classes, &model.labels)?,
            None => class_map(&model, &dataset)?,
        };
        if self.dry_network {
            return self.prepare_only(&dataset, &transform);
        }
        let mut runner = self.runner.open(&model, protocol.crop)?;
        let setup = Setup {
            dataset: &dataset,
            classes: &classes,
            transform: &transform,
            batch: usize::from(self.batch_size),
            threads: self.threads(),
            shard,
            keep_outputs: self.logits,
            skip: 0,
        };
        if let Some(values) = findings {
            return self.findings(&model, &setup, &values, &mut runner);
        }
        if model.task == Task::MultiLabel {
            return Err(Error::Usage(format!(
                "{}: its outputs are findings, of which an image may have several; --data FILE.csv with a column a finding",
                model.name
            )));
        }
        let header = self.header(&model, &data, &setup, &runner);
        let (mut writer, done) = match &self.predictions {
            None => (None, Vec::new()),
            Some(path) if self.resume && path.exists() => {
                let (writer, done) = Writer::resume(path, &header)?;
                (Some(writer), done)
            }
            Some(path) => (Some(Writer::create(path, &header)?), Vec::new()),
        };
        let setup = Setup { skip: done.len(), ..setup };
        let bar = progress::images(shard.range(header.images, header.batch_size).len() - done.len());
        let rest = evaluate(&mut runner, &setup, |step: &Step| {
            bar.inc((step.predictions.len() + step.bad.len()) as u64);
            let (error, rate) = (step.evaluation.top1_error(), step.evaluation.rate());
            bar.set_message(format!("top-1 error {error:.2} %, {rate:.0} images/s"));
            writer.as_mut().map_or(Ok(()), |writer| writer.append(&in_order(step)))
        })?;
        bar.finish_and_clear();
        let evaluation = whole(done, rest);
        let summary = Summary::of(&evaluation.predictions);
        if self.print.format == Format::Json {
            let mut json = result(&header, &summary, &evaluation);
            json["file"] = json!(model.source.path);
            json["format"] = json!(model.source.format);
            json["config"] = json!(model.config);
            json["protocol"] = json!(protocol);
            json["published"] = json!(model.published);
            output::print_json(&json)?;
        } else {
            output::print(&format!(
                "{} on {} ({}): {} images in {:.1} s, {:.0} a second\n{}\n{}",
                model.name,
                data,
                dataset.kind,
                evaluation.images(),
                evaluation.seconds,
                evaluation.rate(),
                errors(&model, &evaluation, &protocol.name, transform.crops(), dataset.kind),
                figures(&summary),
            ))?;
        }
        unreadable(&evaluation.bad, self.skip_bad)
    }

    /// Refuses to overwrite predictions, unless that is wanted.
    fn may_write(&self, findings: bool) -> Result<()> {
        match &self.predictions {
            Some(path) if path.exists() && !self.force && !self.resume => {
                let path = path.clone();
                // Findings are evaluated in one go.
                Err(if findings { Error::Exists { path } } else { Error::Predictions { path } })
            }
            _ => Ok(()),
        }
    }

    fn threads(&self) -> usize {
        self.workers.unwrap_or_else(|| available_parallelism().map_or(1, usize::from))
    }

    /// Reads and prepares all images, and throws them away.
    fn prepare_only(&self, dataset: &Dataset, transform: &Transform) -> Result<()> {
        let (threads, start, mut bad) = (self.threads(), Instant::now(), Vec::new());
        let bar = progress::images(dataset.samples.len());
        each_batch(&dataset.samples, transform, self.batch_size.into(), threads, |batch| {
            bar.inc(batch.len as u64);
            bad.extend(batch.bad_images(&dataset.samples));
            Ok(())
        })?;
        bar.finish_and_clear();
        let (images, seconds) = (dataset.samples.len() - bad.len(), start.elapsed().as_secs_f64());
        let rate = images as f64 / seconds;
        if self.print.format == Format::Json {
            output::print_json(&json!({
                "images": images,
                "seconds": seconds,
                "images_per_s": rate,
                "workers": threads,
                "protocol": transform.protocol(),
                "crops": transform.crops(),
                "decoder": DECODER,
                "bad": bad,
            }))?;
        } else {
            output::print(&format!(
                "{images} images prepared in {seconds:.2} s without the network: {rate:.0} a second on {threads} threads, {:.0} \
                 each\nprotocol {}, decoder: {DECODER}",
                rate / threads as f64,
                transform.protocol().name
            ))?;
        }
        unreadable(&bad, self.skip_bad)
    }

    /// The part asked for, else, of predictions, the scheduler's.
    fn part(&self) -> Result<Shard> {
        if let Some(shard) = self.shard {
            return Ok(shard);
        }
        let scheduled = if self.predictions.is_some() { scheduled()? } else { None };
        if let Some(Shard { index, of }) = scheduled {
            eprintln!("part {index} of {of}, as the scheduler says");
        }
        Ok(scheduled.unwrap_or(Shard::WHOLE))
    }

    fn header(&self, model: &Model, data: &str, setup: &Setup, runner: &Runner) -> Header {
        let Setup { dataset, transform, .. } = setup;
        Header {
            tool: concat!("densenet-zoo ", env!("CARGO_PKG_VERSION")).into(),
            model: model.name.clone(),
            sha256: model.source.sha256.clone(),
            architecture: model.config.name(),
            protocol: transform.protocol().name.clone(),
            crops: transform.crops(),
            decoder: DECODER.into(),
            data: data.to_owned(),
            dataset: dataset.kind.into(),
            images: dataset.samples.len(),
            batch_size: usize::from(self.batch_size),
            device: self.runner.compute.device.resolve().to_string(),
            backend: runner.name(),
            logits: self.logits,
            shard: setup.shard,
        }
    }
}

/// A batch's images as they stand in the data.
fn in_order(step: &Step) -> Vec<Entry> {
    // Within a batch, the bad ones stand after the good: only their number counts for going on.
    let said = step.predictions.iter().cloned().map(Entry::Said);
    said.chain(step.bad.iter().cloned().map(Entry::Bad)).collect()
}

/// What an earlier run did, and the rest.
fn whole(done: Vec<Entry>, rest: Evaluation) -> Evaluation {
    let mut whole = Evaluation { seconds: rest.seconds, ..Evaluation::default() };
    for entry in done {
        match entry {
            Entry::Said(prediction) => whole.count(prediction),
            Entry::Bad(bad) => whole.bad.push(bad),
        }
    }
    rest.predictions.into_iter().for_each(|prediction| whole.count(prediction));
    whole.bad.extend(rest.bad);
    whole
}

/// Fails where images could not be read, unless that was allowed.
pub(super) fn unreadable(bad: &[BadImage], allowed: bool) -> Result<()> {
    for bad in bad {
        eprintln!("{}", bad.reason);
    }
    match bad.len() {
        0 => Ok(()),
        count if allowed => {
            eprintln!("{count} images could not be read, and are not counted");
            Ok(())
        }
        count => Err(Error::Unreadable { count }),
    }
}

/// All figures of a run for programs.
fn result(header: &Header, summary: &Summary, evaluation: &Evaluation) -> Value {
    json!({
        "tool": header.tool,
        "model": header.model,
        "sha256": header.sha256,
        "architecture": header.architecture,
        "protocol": header.protocol,
        "crops": header.crops,
        "decoder": header.decoder,
        "data": header.data,
        "dataset": header.dataset,
        "batch_size": header.batch_size,
        "device": header.device,
        "backend": header.backend,
        "shard": header.shard,
        "images": summary.images,
        "bad": evaluation.bad,
        "top1_wrong": summary.top1_error.wrong,
        "top5_wrong": summary.top5_error.wrong,
        "top1_error": summary.top1_error.percent,
        "top5_error": summary.top5_error.percent,
        "seconds": evaluation.seconds,
        "summary": summary,
    })
}

/// The figures beside the errors, in a few lines.
fn figures(summary: &Summary) -> String {
    let rate = |rate: densenet_zoo::metrics::Rate| {
        format!(
            "{:.3} % ({} of {}; 95 % interval {:.2} to {:.2})",
            rate.percent, rate.wrong, rate.of, rate.low, rate.high
        )
    };
    let mut lines = vec![
        format!(" top-1 error        {}", rate(summary.top1_error)),
        format!(" top-5 error        {}", rate(summary.top5_error)),
        format!(" cross-entropy      {:.4}", summary.cross_entropy),
        format!(" calibration error  {:.4}", summary.calibration_error),
    ];
    if let Some(confusion) = summary.confusions.first() {
        let (label, predicted, count) = (confusion.label, confusion.predicted, confusion.count);
        lines.push(format!(" commonest error    class {label} taken for {predicted}, {count} times"));
    }
    lines.join("\n")
}

/// The network's class for each of the data's classes.
pub(super) fn class_map(model: &Model, dataset: &Dataset) -> Result<Vec<usize>> {
    if dataset.classes.is_empty() {
        return Ok((0..model.labels.count()).collect());
    }
    model.labels.match_classes(&dataset.classes)
}

/// The measured errors under the published ones.
fn errors(model: &Model, evaluation: &Evaluation, protocol: &str, crops: usize, kind: &str) -> String {
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
        format!("{protocol}, {crops} crop"),
        format!("{:.3}", evaluation.top1_error()),
        format!("{:.3}", evaluation.top5_error()),
    ]);
    output::table(&["", "data", "protocol", "top-1 error %", "top-5 error %"], &[3, 4], rows)
}
