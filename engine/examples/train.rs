//! Times training steps on made-up images.
//!
//! usage: train NETWORK [BATCH [MEMORY_LEVEL [THREADS [SECONDS [exact|fast]]]]]
//!
//! Prints median seconds a step, images a second, the process's peak memory in MiB (Linux) and the last loss.

use std::error::Error;
use std::str::FromStr;
use std::time::Instant;

use densenet_arch::networks;
use densenet_engine::train::{Options, Targets, Trainer, initial_weights};
use densenet_engine::{Convolutions, Shape};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().map_or("densenet-121", String::as_str);
    let network = networks::find(name).ok_or_else(|| format!("{name} is no published network"))?;
    let batch = number(&arguments, 1, 16)?;
    let memory_level = number(&arguments, 2, 3)?;
    let threads = number(&arguments, 3, 2)?;
    let seconds: f64 = number(&arguments, 4, 20.0)?;
    let fast = arguments.get(5).is_some_and(|way| way == "fast");
    let convolutions = if fast { Convolutions::Fast } else { Convolutions::Exact };

    let config = &network.config;
    let side = config.input_size();
    let shape = Shape { height: side, width: side, batch, threads };
    let options = Options { convolutions, memory_level, ..Options::default() };
    let mut trainer = Trainer::new(config, initial_weights(config, 1), shape, &options)?;
    let mut state = 1_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    let images: Vec<f32> = (0..batch * config.in_channels * side * side).map(|_| uniform()).collect();
    let labels: Vec<usize> = (0..batch).map(|image| image * 7919 % config.num_classes).collect();

    let mut loss = trainer.step(&images, Targets::Labels(&labels))?.loss;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || start.elapsed().as_secs_f64() < seconds {
        let step = Instant::now();
        loss = trainer.step(&images, Targets::Labels(&labels))?.loss;
        times.push(step.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!("{median:.4} {:.2} {:.0} {loss:.4}", batch as f64 / median, peak().unwrap_or(f64::NAN));
    Ok(())
}

fn number<T: FromStr<Err: Error + 'static>>(arguments: &[String], at: usize, default: T) -> Result<T, Box<dyn Error>> {
    Ok(arguments.get(at).map_or(Ok(default), |argument| argument.parse())?)
}

/// The most memory that the process has held, in MiB.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
