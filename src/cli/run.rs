//! A training on the terminal: a bar within an epoch and a line after it, checkpoints, and what it came to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use densenet_zoo::metrics::{Finding, Rate};
use densenet_zoo::train::{Advance, Epoch, Folder, Kept, Moment, Run, Score, State};
use densenet_zoo::{Error, Result, memory};
use serde_json::{Value, json};

use super::{Format, output, progress};

/// How often an epoch that takes long is saved within.
const SAVE_EVERY: Duration = Duration::from_secs(600);
/// How long the steps of an epoch take at least for them to be saved before the validation.
const SAVE_BEFORE_VALIDATION: Duration = Duration::from_secs(60);
/// After so many steps a new run is saved at first: numbers that leave the range of floats at once replace nothing.
const FIRST_SAVE: usize = 2;

/// Set by Ctrl-C and SIGTERM.
static STOP: AtomicBool = AtomicBool::new(false);

/// Trains to the end and prints what came of it on stdout.
pub(super) fn to_the_end(mut run: Run, mut folder: Option<Folder>, format: Format) -> Result<()> {
    // Fails only where a handler stands already.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    introduce(&run);
    if let Some(folder) = &mut folder {
        folder.begin(header(&run), run.state().history.iter().map(|epoch| json!(epoch)).collect())?;
    }
    // What the folder's checkpoint is of.
    let state = run.state();
    let mut saved = (!state.history.is_empty() || state.position.step > 0).then(|| place(&run));
    loop {
        let first_save = folder.is_some() && saved.is_none();
        match advance(&mut run, first_save)
            .map_err(|error| with_checkpoint(error, folder.as_ref(), saved.as_deref()))?
        {
            Advance::Done => break,
            Advance::Paused => {
                if let Some(folder) = &mut folder {
                    folder.save(&run)?;
                    saved = Some(place(&run));
                }
                if STOP.load(Ordering::Relaxed) {
                    return Err(interrupted(folder.as_ref(), &run));
                }
            }
            Advance::Epoch(epoch) => {
                if let Some(folder) = &mut folder {
                    keep(folder, &run, &epoch)?;
                    saved = Some(place(&run));
                }
                // Who reads that an epoch is done may rely on its files.
                eprintln!("{}", line(&epoch, run.state()));
            }
        }
    }
    if let Some(folder) = &folder {
        folder.save_curves()?;
    }
    report(&run, folder.as_ref(), format)
}

/// Prints how good the network is as it stands.
pub(super) fn measured(run: &Run, format: Format) -> Result<()> {
    let bar = progress::images(run.images().1);
    let found = run.validate(|images| {
        bar.set_position(images as u64);
        true
    });
    bar.finish_and_clear();
    let Some((loss, found)) = found? else { return Ok(()) };
    if format == Format::Json {
        let mut result = json!(found);
        result["validation_loss"] = json!(loss);
        return output::print_json(&result);
    }
    output::print(&format!("{}  loss {loss:.4}", score(&found)))
}

/// Writes all that is kept after an epoch. The checkpoint comes behind the network: where it is cut off between them, the
/// epoch is done once more, to the same bits.
fn keep(folder: &mut Folder, run: &Run, epoch: &Epoch) -> Result<()> {
    if run.best().is_some_and(|best| best.epoch == epoch.epoch) {
        folder.save_model(run)?;
    }
    folder.save(run)?;
    folder.add(json!(epoch))
}

/// To the end of the epoch, with a bar; or to where it has to be saved.
fn advance(run: &mut Run, first_save: bool) -> Result<Advance> {
    let (begun, (images, validation), epochs) = (Instant::now(), run.images(), run.state().recipe.epochs);
    let before = run.state().position.images;
    let bar = progress::images(images);
    let mut steps = 0;
    let advance = run.advance(|moment: &Moment| {
        if moment.validated > 0 {
            bar.set_length(validation as u64);
            bar.set_position(moment.validated as u64);
            bar.set_message(format!("epoch {}/{epochs}  validation", moment.epoch));
            return !STOP.load(Ordering::Relaxed);
        }
        bar.set_position(moment.images as u64);
        let rate = (moment.images - before) as f64 / begun.elapsed().as_secs_f64();
        let error = moment.error.map_or_else(String::new, |error| format!("error {error:.2} %  "));
        let memory = memory::peak_mib().map_or_else(String::new, |mib| format!("  {mib:.0} MiB"));
        bar.set_message(format!(
            "epoch {}/{epochs}  loss {:.4}  {error}{rate:.0} images/s{memory}",
            moment.epoch, moment.loss
        ));
        steps += 1;
        let limit = if moment.images == images { SAVE_BEFORE_VALIDATION } else { SAVE_EVERY };
        !(STOP.load(Ordering::Relaxed) || begun.elapsed() >= limit || first_save && steps == FIRST_SAVE)
    });
    bar.finish_and_clear();
    advance
}

fn introduce(run: &Run) {
    let (training, validation) = run.images();
    let (state, learner) = (run.state(), run.learner());
    let goes_on = match (state.done(), state.position.step) {
        (0, 0) => String::new(),
        (epochs, steps) => format!("; going on after {epochs} epochs and {steps} steps"),
    };
    eprintln!(
        "{}: {training} images to train on, {validation} for the error; {}{goes_on}",
        learner.config().name(),
        learner.name()
    );
}

fn interrupted(folder: Option<&Folder>, run: &Run) -> Error {
    let state = run.state();
    let (epoch, step) = (state.done() + 1, state.position.step);
    let kept = match folder {
        Some(folder) => {
            let candle = run.learner().name().starts_with("candle");
            let alike = if candle { ", with the same --device, --backend and --precision" } else { "" };
            format!("`densenet-zoo train --resume {}` goes on from there{alike}", folder.path().display())
        }
        None => "nothing is kept without --out".to_owned(),
    };
    Error::Interrupted(format!("stopped in epoch {epoch} after {step} steps; {kept}"))
}

/// A run that diverged, with what it left.
fn with_checkpoint(error: Error, folder: Option<&Folder>, saved: Option<&str>) -> Error {
    match (&error, folder, saved) {
        (Error::Diverged { .. } | Error::Negative(_), Some(folder), Some(place)) => {
            Error::Negative(format!("{error}; {} is of {place}", folder.file(Kept::Last).display()))
        }
        _ => error,
    }
}

/// Where a run is, for people.
fn place(run: &Run) -> String {
    let state = run.state();
    match state.position.step {
        0 => format!("epoch {}", state.done()),
        step => format!("epoch {}, after {step} steps", state.done() + 1),
    }
}

/// All that the run is made by: the first line of its figures.
fn header(run: &Run) -> Value {
    let (state, (training, validation)) = (run.state(), run.images());
    json!({
        "tool": concat!("densenet-zoo ", env!("CARGO_PKG_VERSION")),
        "architecture": state.recipe.config.name(),
        "recipe": state.recipe,
        "seed": state.seed,
        "learner": state.learner,
        "source": state.source,
        "origin": state.origin,
        "images": {"training": training, "validation": validation},
    })
}

fn report(run: &Run, folder: Option<&Folder>, format: Format) -> Result<()> {
    let none = || Error::Usage("no epoch to train for".into());
    let (best, last) = (run.best().ok_or_else(none)?, run.state().history.last().ok_or_else(none)?);
    let file = |which| folder.map(|folder| folder.file(which).display().to_string());
    let (_, images) = run.images();
    let chosen = format!("the best epoch was chosen on these same {images} images; it looks better than on new ones");
    if format == Format::Json {
        let epoch = |epoch: &Epoch, which| {
            let mut value = json!(epoch);
            value["file"] = json!(file(which));
            value
        };
        let mut result = header(run);
        result["best"] = epoch(best, Kept::Best);
        result["last"] = epoch(last, Kept::Last);
        result["note"] = json!(chosen);
        return output::print_json(&result);
    }
    let row = |name: &str, epoch: &Epoch, which| {
        let file = file(which).map_or_else(String::new, |file| format!("  {file}"));
        format!("{name}  epoch {:>3}  {}{file}", epoch.epoch, score(&epoch.score))
    };
    output::print(&format!(
        "{}\n{}\n{} s; {chosen}",
        row("best", best, Kept::Best),
        row("last", last, Kept::Last),
        last.seconds.round()
    ))
}

fn line(epoch: &Epoch, state: &State) -> String {
    let left = epoch.seconds / state.history.len() as f64 * state.left() as f64;
    let score = match &epoch.score {
        Score::Error { error: Rate { wrong, of, percent, .. }, .. } => {
            format!("error {percent:.3} % ({wrong} of {of})")
        }
        Score::Findings { auroc } => format!("mean AUROC {}", area(auroc.mean_auroc)),
    };
    format!(
        "epoch {:>3}/{}  lr {}  loss {:.4}  {score}  {:.0} images/s  {} left",
        epoch.epoch,
        state.recipe.epochs,
        // A tenth of a tenth, without the last bit's noise.
        (epoch.rate * 1e9).round() / 1e9,
        epoch.loss,
        epoch.images_per_s,
        clock(left)
    )
}

fn score(score: &Score) -> String {
    match score {
        Score::Error { error: Rate { wrong, of, percent, low, high }, .. } => {
            format!("top-1 error {percent:.3} % ({wrong} of {of}; 95 % interval {low:.2} to {high:.2})")
        }
        Score::Findings { auroc } => {
            let one = |finding: &Finding| format!("{} {}", finding.name, area(finding.auroc));
            let each: Vec<_> = auroc.per_class.iter().map(one).collect();
            format!("mean AUROC {} ({})", area(auroc.mean_auroc), each.join(", "))
        }
    }
}

/// An area under a curve, where there is one.
fn area(area: Option<f64>) -> String {
    area.map_or_else(|| "-".into(), |area| format!("{area:.4}"))
}

/// Hours, minutes and seconds.
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
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
