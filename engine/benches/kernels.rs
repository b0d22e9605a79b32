//! What the kernels reach at DenseNet-121's shapes, on one thread: from a profile of the whole network, 224x224, made-up
//! weights, beside what the processor's multiply-adds reach in the same run.
//!
//! `cargo bench -p densenet-engine --bench kernels`; `DENSENET_ZOO_ISA` chooses the kernels.

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use densenet_arch::{Config, networks};
use densenet_engine::{Convolutions, Error, Options, Plan, Profile, Session, Shape, Stage};

const SIDE: usize = 224;
const RUNS: u32 = 41;

fn main() -> Result<(), Error> {
    let Some(network) = networks::find("densenet-121") else { return Ok(()) };
    let config = &network.config;
    let measure = |convolutions| {
        let options = Options { convolutions, ..Options::default() };
        let plan = Arc::new(Plan::new(config, support::weights(config), &options)?);
        let mut session = Session::new(&plan, Shape { height: SIDE, width: SIDE, batch: 1, threads: 1 })?;
        let image = support::Numbers::new(1).take(3 * SIDE * SIDE);
        for _ in 0..3 {
            session.run(&image)?;
        }
        let mut profile = Profile::default();
        for _ in 0..RUNS {
            profile += &session.profile(&image)?.1;
        }
        Ok::<_, Error>((plan.isa(), profile))
    };
    let (isa, exact) = measure(Convolutions::Exact)?;
    let (_, fast) = measure(Convolutions::Fast)?;
    let peak = isa.measure_peak().unwrap_or(f64::NAN) / 1e9;
    println!("{isa}: {peak:.0} GFLOP/s of multiply-adds in registers");

    let line = |name: &str, gflop: f64, seconds: f64| {
        let rate = gflop / seconds;
        let (milliseconds, share) = (1e3 * seconds, 100.0 * rate / peak);
        println!("{name:<44} {milliseconds:6.2} ms {rate:7.1} GFLOP/s {share:5.0} % of that");
    };
    let seconds = |profile: &Profile, block, stage| (profile.time(block, stage) / RUNS).as_secs_f64();
    line("stem: 7x7 and max-pool, 3 to 64", stem(config), seconds(&exact, 0, Stage::Stem));
    let mut side = SIDE / 4;
    for (block, &layers) in config.block_config.iter().enumerate() {
        let outputs = config.block_outputs()[block];
        let inputs = outputs - layers * config.growth_rate;
        let width = 4 * config.growth_rate;
        let pixels = (side * side) as f64;
        let reads: usize = (0..layers).map(|layer| inputs + layer * config.growth_rate).sum();
        let last = outputs - config.growth_rate;
        let one = 2e-9 * pixels * (reads * width) as f64;
        let three = 2e-9 * pixels * (layers * 9 * width * config.growth_rate) as f64;
        let maps = format!("{side}x{side}");
        let packing = seconds(&exact, block, Stage::Packing);
        let bytes = 4e-9 * pixels * reads as f64;
        println!(
            "{:<44} {:6.2} ms {:7.1} GB/s read",
            format!("{maps}: norm and ReLU into panels"),
            1e3 * packing,
            bytes / packing
        );
        line(&format!("{maps}: 1x1, {inputs}..{last} to {width}"), one, seconds(&exact, block, Stage::One));
        line(
            &format!("{maps}: 3x3 directly, {width} to {}", config.growth_rate),
            three,
            seconds(&exact, block, Stage::Three),
        );
        let (transforms, products) = (seconds(&fast, block, Stage::Transforms), seconds(&fast, block, Stage::Three));
        if transforms > 0.0 {
            // As if all nine products of each output were computed.
            let name = format!("{maps}: 3x3 by Winograd's, as many");
            line(&name, three, transforms + products);
            println!("{:<44} {:6.2} ms", format!("{maps}: of it its transforms"), 1e3 * transforms);
        }
        side /= 2;
    }
    Ok(())
}

/// 1e9 operations of the stem's convolution.
fn stem(config: &Config) -> f64 {
    2e-9 * (SIDE * SIDE / 4 * 49 * config.in_channels * config.num_init_features) as f64
}
