//! `bench`: how fast a network runs here.

use std::time::Instant;

use clap::Args;
use densenet_zoo::Result;
use densenet_zoo::runner::{Profile, Stage};
use densenet_zoo::store::Store;
use serde_json::{Value, json};

use super::progress::Downloads;
use super::{Format, FormatArg, RunnerArgs, output};

#[derive(Args)]
pub(super) struct Bench {
    /// A name or a file.
    model: String,
    /// Images in a run; several are measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,32", value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: Vec<u16>,
    /// Side of the input in pixels; the network's own otherwise.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(1..=4096))]
    size: Option<u16>,
    /// Seconds that each batch is measured for, after a tenth of that to warm up.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// Where the engine's time goes, by dense block and stage: milliseconds a run, summed over threads.
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    runner: RunnerArgs,
    #[command(flatten)]
    print: FormatArg,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "a number from 0 to 3600 is expected".into())
}

impl Bench {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let model = store.model(&self.model, &mut Downloads::default().one())?;
        let side = self.size.map_or_else(|| model.config.input_size(), usize::from);
        let mut runner = self.runner.open(&model, side)?;
        let operations = 2.0 * model.config.multiply_adds(side, side) as f64;
        let mut results = Vec::new();
        for &batch in &self.batch {
            let batch = usize::from(batch);
            // Values like a normalised photograph's; arithmetic takes as long whatever they are.
            let count = batch * model.config.in_channels * side * side;
            let images: Vec<f32> = (0..count).map(|index| (index * 7919 % 1000) as f32 / 250.0 - 2.0).collect();
            let warm = Instant::now();
            while warm.elapsed().as_secs_f64() < 0.1 * self.seconds {
                runner.run(&images, (side, side))?;
            }
            let (mut times, mut profile) = (Vec::new(), Profile::default());
            let start = Instant::now();
            while start.elapsed().as_secs_f64() < self.seconds || times.len() < 3 {
                let run = Instant::now();
                if self.profile {
                    profile += &runner.profile(&images, (side, side))?;
                } else {
                    runner.run(&images, (side, side))?;
                }
                times.push(run.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
            let rate = batch as f64 * 1e3 / at(0.5);
            let mut result = json!({
                "model": model.name,
                "architecture": model.config.name(),
                "batch": batch,
                "size": side,
                "threads": self.runner.threads(),
                "backend": runner.name(),
                "device": self.runner.compute.device.resolve().to_string(),
                "runs": times.len(),
                "median_ms": at(0.5),
                "best_ms": times[0],
                "p90_ms": at(0.9),
                "images_per_s": rate,
                "gflop_per_s": rate * operations / 1e9,
                "peak_mib": peak_mib(),
            });
            if self.profile {
                result["profile"] = stages(&profile, times.len());
            }
            results.push(result);
        }
        if self.print.format == Format::Json {
            return output::print_json(&json!(results));
        }
        let rows = results.iter().map(|result| {
            vec![
                number(&result["batch"], 0),
                number(&result["median_ms"], 1),
                number(&result["best_ms"], 1),
                number(&result["p90_ms"], 1),
                number(&result["images_per_s"], 1),
                number(&result["gflop_per_s"], 0),
                number(&result["peak_mib"], 0),
            ]
        });
        let header = ["batch", "median ms", "best ms", "90 % ms", "images/s", "GFLOP/s", "peak MiB"];
        output::print(&format!(
            "{}, {side}x{side}, {}, {} threads\n{}",
            model.name,
            runner.name(),
            self.runner.threads(),
            output::table(&header, &[0, 1, 2, 3, 4, 5, 6], rows.collect())
        ))?;
        if self.profile {
            results.iter().try_for_each(print_stages)?;
        }
        Ok(())
    }
}

fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
}

/// Milliseconds a run by dense block and stage.
fn stages(profile: &Profile, runs: usize) -> Value {
    let block = |block: usize| -> Value {
        let time = |stage| profile.time(block, stage).as_secs_f64() * 1e3 / runs as f64;
        Stage::ALL.into_iter().map(|stage| (stage.name(), time(stage))).collect()
    };
    (0..profile.blocks()).map(block).collect()
}

/// A row a dense block, then their sums.
fn print_stages(result: &Value) -> Result<()> {
    let blocks = result["profile"].as_array().map_or(&[][..], Vec::as_slice);
    let row = |name: String, cell: &dyn Fn(&str) -> Value| {
        std::iter::once(name).chain(Stage::ALL.map(|stage| number(&cell(stage.name()), 2))).collect()
    };
    let mut rows: Vec<Vec<String>> =
        (1..).zip(blocks).map(|(block, times)| row(format!("{block}"), &|stage| times[stage].clone())).collect();
    let sum = |stage: &str| json!(blocks.iter().filter_map(|times| times[stage].as_f64()).sum::<f64>());
    rows.push(row("all".into(), &sum));
    let header: Vec<&str> = std::iter::once("block").chain(Stage::ALL.map(Stage::name)).collect();
    let right: Vec<usize> = (1..header.len()).collect();
    output::print(&format!(
        "\nbatch {}: milliseconds a run, summed over {} threads\n{}",
        result["batch"],
        result["threads"],
        output::table(&header, &right, rows)
    ))
}

/// The most memory that the process has had, where the system says so.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib / 1024.0)
}
