//! `train`: a network from nothing, by a published recipe.

use std::path::PathBuf;

use clap::Args;
use densenet_zoo::metrics::Rate;
use densenet_zoo::runner::Convolutions;
use densenet_zoo::train::{Checkpoint, Epoch, Folder, Recipe, Run, Settings};
use densenet_zoo::{Error, Result};
use serde_json::{Value, json};

use super::{Format, FormatArg, MemoryLevel, output, threads};

#[derive(Args)]
pub(super) struct Train {
    /// The network, its data and how it is trained: digits.
    #[arg(long)]
    preset: String,
    /// Where to leave best.safetensors, last.safetensors and metrics.jsonl; nothing is kept otherwise.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace what an earlier run left in DIR.
    #[arg(long, requires = "out")]
    force: bool,
    /// What the first weights, the images' order and their augmentation are drawn from.
    #[arg(long, default_value_t = 0, alias = "manualSeed")]
    seed: u64,
    /// Passes over the training images, instead of the recipe's.
    #[arg(long, alias = "nEpochs", value_parser = clap::value_parser!(u16).range(1..))]
    epochs: Option<u16>,
    /// Images of a step, instead of the recipe's.
    #[arg(long, alias = "batchSize", value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch_size: Option<u16>,
    /// The learning rate of the first epoch, instead of the recipe's.
    #[arg(long, value_name = "RATE", alias = "LR")]
    lr: Option<f64>,
    /// Threads that work at once; all cores otherwise. They do not change what comes out.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(flatten)]
    memory: MemoryLevel,
    /// Every output of a convolution as the sum of its products, instead of Winograd's algorithm.
    #[arg(long)]
    exact: bool,
    #[command(flatten)]
    print: FormatArg,
}

impl Train {
    pub(super) fn run(self) -> Result<()> {
        let mut recipe = Recipe::named(&self.preset)?;
        recipe.epochs = self.epochs.map_or(recipe.epochs, usize::from);
        recipe.batch = self.batch_size.map_or(recipe.batch, usize::from);
        recipe.rate = self.lr.unwrap_or(recipe.rate);
        let settings = Settings {
            seed: self.seed,
            threads: threads(self.threads),
            memory_level: self.memory.level(),
            convolutions: if self.exact { Convolutions::Exact } else { Convolutions::Fast },
        };
        let mut run = Run::new(recipe, settings)?;
        let folder = self.out.as_deref().map(|path| Folder::create(path, self.force)).transpose()?;
        let outcome = Self::epochs(&mut run, settings, folder)?;
        self.report(&run, &outcome)
    }

    /// Trains to the end, with a line an epoch.
    fn epochs(run: &mut Run, settings: Settings, mut folder: Option<Folder>) -> Result<Outcome> {
        let header = header(run, settings);
        let (training, validation) = run.images();
        eprintln!(
            "{}: {training} images to train on, {validation} for the error; {} threads, {}",
            header["architecture"].as_str().unwrap_or_default(),
            settings.threads,
            run.isa()
        );
        if let Some(folder) = &mut folder {
            folder.note(&header);
        }
        let (mut best, mut last): (Option<Epoch>, Option<Epoch>) = (None, None);
        while let Some(epoch) = run.epoch().map_err(|error| with_checkpoint(error, folder.as_ref(), last.as_ref()))? {
            eprintln!("{}", line(&epoch, run.recipe().epochs));
            // The original keeps the first of equals.
            let improved = best.as_ref().is_none_or(|best| epoch.error.wrong < best.error.wrong);
            if let Some(folder) = &mut folder {
                run.save(folder, Checkpoint::Last)?;
                if improved {
                    run.save(folder, Checkpoint::Best)?;
                }
                folder.note(&json!(epoch));
                folder.save_metrics()?;
            }
            if improved {
                best = Some(epoch.clone());
            }
            last = Some(epoch);
        }
        let none = || Error::Usage("no epoch to train for".into());
        Ok(Outcome { header, best: best.ok_or_else(none)?, last: last.ok_or_else(none)?, folder })
    }

    fn report(&self, run: &Run, outcome: &Outcome) -> Result<()> {
        let Outcome { header, best, last, folder } = outcome;
        let file = |which| folder.as_ref().map(|folder| folder.checkpoint(which).display().to_string());
        let (_, images) = run.images();
        let chosen =
            format!("the best epoch was chosen on these same {images} images; its error is lower than on new ones");
        if self.print.format == Format::Json {
            let epoch = |epoch: &Epoch, which| {
                let mut value = json!(epoch);
                value["file"] = json!(file(which));
                value
            };
            let mut result = header.clone();
            result["best"] = epoch(best, Checkpoint::Best);
            result["last"] = epoch(last, Checkpoint::Last);
            result["note"] = json!(chosen);
            return output::print_json(&result);
        }
        let row = |name: &str, epoch: &Epoch, which| {
            let file = file(which).map_or_else(String::new, |file| format!("  {file}"));
            format!("{name}  epoch {:>3}  top-1 error {}{file}", epoch.epoch, rate(epoch.error))
        };
        output::print(&format!(
            "{}\n{}\n{} s; {chosen}",
            row("best", best, Checkpoint::Best),
            row("last", last, Checkpoint::Last),
            last.seconds.round()
        ))
    }
}

/// What a run came to.
struct Outcome {
    header: Value,
    best: Epoch,
    last: Epoch,
    folder: Option<Folder>,
}

/// All that the run is made by.
fn header(run: &Run, settings: Settings) -> Value {
    let recipe = run.recipe();
    json!({
        "tool": concat!("densenet-zoo ", env!("CARGO_PKG_VERSION")),
        "preset": recipe.name,
        "architecture": recipe.config.name(),
        "protocol": recipe.protocol.name,
        "seed": settings.seed,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch,
        "lr": recipe.rate,
        "memory_level": settings.memory_level,
        "convolutions": match settings.convolutions {
            Convolutions::Exact => "exact",
            Convolutions::Fast => "fast",
        },
        "isa": run.isa().to_string(),
        "threads": settings.threads,
    })
}

fn line(epoch: &Epoch, epochs: usize) -> String {
    let left = epoch.seconds / epoch.epoch as f64 * (epochs - epoch.epoch) as f64;
    let Rate { wrong, of, percent, .. } = epoch.error;
    format!(
        "epoch {:>3}/{epochs}  lr {}  loss {:.4}  error {percent:.3} % ({wrong} of {of})  {:.0} images/s  {} left",
        epoch.epoch,
        // A tenth of a tenth, without the last bit's noise.
        (epoch.rate * 1e9).round() / 1e9,
        epoch.loss,
        epoch.images_per_s,
        clock(left)
    )
}

/// Hours, minutes and seconds.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn rate(rate: Rate) -> String {
    let Rate { wrong, of, percent, low, high } = rate;
    format!("{percent:.3} % ({wrong} of {of}; 95 % interval {low:.2} to {high:.2})")
}

/// A run that diverged, with what it left.
fn with_checkpoint(error: Error, folder: Option<&Folder>, last: Option<&Epoch>) -> Error {
    match (&error, folder, last) {
        (Error::Diverged { .. }, Some(folder), Some(last)) => {
            let path = folder.checkpoint(Checkpoint::Last);
            Error::Negative(format!("{error}; {} is of epoch {}", path.display(), last.epoch))
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_read_as_on_a_clock() {
        assert_eq!(
            [0.4, 59.6, 3599.0, 3600.0, 360_061.0].map(clock),
            ["0:00", "1:00", "59:59", "1:00:00", "100:01:01"]
        );
    }
}
