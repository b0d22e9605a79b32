//! DenseNet-121 at 224x224 with made-up weights: latency of one image and throughput of a batch of eight, on one thread
//! and on two, with exact and with fast convolutions, and with bf16 where the processor has it.
//!
//! `cargo bench -p densenet-engine --bench engine`; `DENSENET_ZOO_ISA` chooses the kernels. The median of some runs
//! after two to warm up.

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Instant;

use densenet_arch::networks;
use densenet_engine::{Convolutions, Error, Options, Plan, Precision, Session, Shape};

fn main() -> Result<(), Error> {
    let Some(network) = networks::find("densenet-121") else { return Ok(()) };
    let pack = |convolutions, precision| {
        let start = Instant::now();
        let plan = Plan::new(
            &network.config,
            support::weights(&network.config),
            &Options { convolutions, precision, ..Options::default() },
        )?;
        let (isa, time) = (plan.isa(), milliseconds(start));
        println!("densenet-121, 224x224, {isa} kernels, {convolutions:?}, {precision:?}: packed in {time:.0} ms");
        Ok::<_, Error>(Arc::new(plan))
    };
    let exact = pack(Convolutions::Exact, Precision::F32)?;
    let fast = pack(Convolutions::Fast, Precision::F32)?;
    let half = pack(Convolutions::Fast, Precision::Bf16).ok();
    for threads in [1, 2] {
        let latency = |plan| median(plan, 1, threads, 31);
        println!("batch 1, threads {threads}: exact {:.1} ms, fast {:.1} ms", latency(&exact)?, latency(&fast)?);
        let rate = |plan| Ok::<_, Error>(8000.0 / median(plan, 8, threads, 9)?);
        println!("batch 8, threads {threads}: exact {:.1} images/s, fast {:.1} images/s", rate(&exact)?, rate(&fast)?);
        if let Some(half) = &half {
            println!("threads {threads}, fast in bf16: {:.1} ms, {:.1} images/s", latency(half)?, rate(half)?);
        }
    }
    Ok(())
}

/// Milliseconds of a run.
fn median(plan: &Arc<Plan>, batch: usize, threads: usize, runs: usize) -> Result<f64, Error> {
    let mut session = Session::new(plan, Shape { height: 224, width: 224, batch, threads })?;
    let images = support::Numbers::new(1).take(batch * 3 * 224 * 224);
    for _ in 0..2 {
        session.run(&images)?;
    }
    let mut times = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        session.run(&images)?;
        times.push(milliseconds(start));
    }
    times.sort_by(f64::total_cmp);
    Ok(times[runs / 2])
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
