//! `bench`: how fast a network runs here.

use std::time::Instant;

use clap::Args;
use densenet_arch::{Config, networks};
use densenet_engine::Shape;
use densenet_engine::train::{Options, Schedule, Targets, initial_weights};
use densenet_zoo::device::memory_taken_mib;
use densenet_zoo::runner::{Begun, Convolutions, Profile, Runner, Stage};
use densenet_zoo::store::Store;
use densenet_zoo::{Error, Result, memory};
use serde_json::{Value, json};

use super::progress::Downloads;
use super::{Format, FormatArg, MemoryLevel, RunnerArgs, output};

#[derive(Args)]
pub(super) struct Bench {
    /// A name or a file; with --train or --new-weights also a network's name, for which nothing is fetched.
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
    #[arg(long, conflicts_with = "train")]
    profile: bool,
    /// Measure training: forward, backward and update.
    #[arg(long)]
    train: bool,
    /// Weights as before training, whose values do not change the time.
    #[arg(long)]
    new_weights: bool,
    #[command(flatten)]
    memory: MemoryLevel,
    #[command(flatten)]
    runner: RunnerArgs,
    #[command(flatten)]
    print: FormatArg,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "a number from 0 to 3600 is expected".into())
}

/// A column of the table: its title, the result's key, decimals.
type Column = (&'static str, &'static str, usize);

const INFERENCE: [Column; 8] = [
    ("batch", "batch", 0),
    ("median ms", "median_ms", 1),
    ("best ms", "best_ms", 1),
    ("90 % ms", "p90_ms", 1),
    ("images/s", "images_per_s", 1),
    ("GFLOP/s", "gflop_per_s", 0),
    ("peak MiB", "peak_mib", 0),
    ("card MiB", "card_mib", 0),
];

const TRAINING: [Column; 7] = [
    ("batch", "batch", 0),
    ("median s", "median_s", 4),
    ("best s", "best_s", 4),
    ("90 % s", "p90_s", 4),
    ("images/s", "images_per_s", 1),
    ("peak MiB", "peak_mib", 0),
    ("card MiB", "card_mib", 0),
];

impl Bench {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        if self.train { self.training(store) } else { self.inference(store) }
    }

    fn inference(&self, store: &Store) -> Result<()> {
        if self.memory.memory_level.is_some() {
            return Err(Error::Usage("--memory-level is of training; add --train".into()));
        }
        let side = |config: &Config| self.size.map_or_else(|| config.input_size(), usize::from);
        let (mut runner, name) = if self.new_weights {
            let config = self.config(store)?;
            let convolutions = if self.runner.exact { Convolutions::Exact } else { Convolutions::Fast };
            let (backend, device) = self.runner.backend(convolutions)?;
            let (side, weights) = (side(&config), &mut initial_weights(&config, 0));
            (Runner::of_weights(&config, weights, (side, side), backend, &device)?, self.model.clone())
        } else {
            let model = store.model(&self.model, &mut Downloads::default().one())?;
            (self.runner.open(&model, side(&model.config))?, model.name)
        };
        let config = runner.config().clone();
        let side = side(&config);
        let operations = 2.0 * config.multiply_adds(side, side) as f64;
        let mut results = Vec::new();
        for &batch in &self.batch {
            let batch = usize::from(batch);
            let images = images(&config, side, batch);
            // Of all runs, those to warm up too.
            let (mut profile, mut profiled) = (Profile::default(), 0);
            // Batches come without a pause: a device is given the next one while it computes the last.
            let mut under_way: Option<Begun> = None;
            let times = self.measure(|| {
                if self.profile {
                    profile += &runner.profile(&images, (side, side))?;
                    profiled += 1;
                } else if batch == 1 {
                    runner.run(&images, (side, side))?;
                } else if let Some(last) = under_way.replace(runner.begin(&images, (side, side))?) {
                    last.finish()?;
                }
                Ok(())
            })?;
            let rate = batch as f64 / times.at(0.5);
            let mut result = json!({
                "model": name,
                "architecture": config.name(),
                "batch": batch,
                "size": side,
                "threads": self.runner.threads(),
                "backend": runner.name(),
                "device": self.runner.compute.device.resolve().to_string(),
                "runs": times.0.len(),
                "median_ms": 1e3 * times.at(0.5),
                "best_ms": 1e3 * times.at(0.0),
                "p90_ms": 1e3 * times.at(0.9),
                "images_per_s": rate,
                "gflop_per_s": rate * operations / 1e9,
                "peak_mib": memory::peak_mib(),
                "card_mib": memory_taken_mib(),
            });
            if self.profile {
                result["profile"] = stages(&profile, profiled);
            }
            results.push(result);
        }
        let title = format!("{}, {side}x{side}, {}, {} threads", name, runner.name(), self.runner.threads());
        self.print(&title, &INFERENCE, &results)?;
        if self.profile && self.print.format == Format::Human {
            results.iter().try_for_each(print_stages)?;
        }
        Ok(())
    }

    /// Steps of a network with new weights, whose values do not change the time.
    fn training(&self, store: &Store) -> Result<()> {
        let config = self.config(store)?;
        let side = self.size.map_or_else(|| config.input_size(), usize::from);
        let threads = self.runner.threads();
        let RunnerArgs { compute, backend, precision, .. } = &self.runner;
        let compute = compute.of_training(*backend, *precision)?;
        let convolutions = if self.runner.exact { Convolutions::Exact } else { Convolutions::Fast };
        let memory_level = self.memory.level();
        // So low a rate changes no time either, and keeps the loss finite.
        let options = Options { convolutions, memory_level, schedule: Schedule::constant(1e-4), ..Options::default() };
        let (mut results, mut backend) = (Vec::new(), String::new());
        for &batch in &self.batch {
            let batch = usize::from(batch);
            let shape = Shape { height: side, width: side, batch, threads };
            let mut learner = compute.begin(&config, shape, &options, &mut initial_weights(&config, 0))?;
            backend = learner.name();
            let images = images(&config, side, batch);
            let labels: Vec<usize> = (0..batch).map(|image| image % config.num_classes).collect();
            // Steps come without a pause: a device takes in the next one's images while it computes.
            let times = self
                .measure(|| learner.step_before(&images, Targets::Labels(&labels), &mut images.as_slice()).map(drop))?;
            results.push(json!({
                "model": self.model,
                "architecture": config.name(),
                "batch": batch,
                "size": side,
                "threads": threads,
                "backend": backend,
                "device": self.runner.compute.device.resolve().to_string(),
                "memory_level": memory_level,
                "runs": times.0.len(),
                "median_s": times.at(0.5),
                "best_s": times.at(0.0),
                "p90_s": times.at(0.9),
                "images_per_s": batch as f64 / times.at(0.5),
                "peak_mib": memory::peak_mib(),
                "card_mib": memory_taken_mib(),
            }));
        }
        let title = format!(
            "training {}, {side}x{side}, {backend}, {threads} threads, memory level {memory_level}",
            config.name()
        );
        self.print(&title, &TRAINING, &results)
    }

    /// The network, of which no weights are fetched if it is known by name.
    fn config(&self, store: &Store) -> Result<Config> {
        match networks::find(&self.model) {
            Some(network) => Ok(network.config.clone()),
            None => Ok(store.model(&self.model, &mut Downloads::default().one())?.config),
        }
    }

    /// Times of `work`, at least three.
    fn measure(&self, mut work: impl FnMut() -> Result<()>) -> Result<Times> {
        let warm = Instant::now();
        while warm.elapsed().as_secs_f64() < 0.1 * self.seconds {
            work()?;
        }
        let (start, mut times) = (Instant::now(), Vec::new());
        while start.elapsed().as_secs_f64() < self.seconds || times.len() < 3 {
            let run = Instant::now();
            work()?;
            times.push(run.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        Ok(Times(times))
    }

    fn print(&self, title: &str, columns: &[Column], results: &[Value]) -> Result<()> {
        if self.print.format == Format::Json {
            return output::print_json(&json!(results));
        }
        // Without a card there is nothing to say of it.
        let columns: Vec<Column> = columns
            .iter()
            .copied()
            .filter(|(_, key, _)| results.iter().any(|result| !result[*key].is_null()))
            .collect();
        let row = |result: &Value| columns.iter().map(|&(_, key, digits)| number(&result[key], digits)).collect();
        let header: Vec<_> = columns.iter().map(|&(title, ..)| title).collect();
        let right: Vec<_> = (0..columns.len()).collect();
        output::print(&format!("{title}\n{}", output::table(&header, &right, results.iter().map(row).collect())))
    }
}

/// Seconds, in order.
struct Times(Vec<f64>);

impl Times {
    fn at(&self, share: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * share).round() as usize]
    }
}

/// Values like a normalised photograph's; arithmetic takes as long whatever they are.
fn images(config: &Config, side: usize, batch: usize) -> Vec<f32> {
    let count = batch * config.in_channels * side * side;
    (0..count).map(|index| (index * 7919 % 1000) as f32 / 250.0 - 2.0).collect()
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
