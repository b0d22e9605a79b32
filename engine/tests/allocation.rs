//! Runs allocate nothing. A binary of its own: it counts what the whole process takes.

mod support;

use std::sync::Arc;

use densenet_arch::Config;
use densenet_engine::{Convolutions, Options, Plan, Session, Shape};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[test]
fn a_run_allocates_nothing() {
    let config = Config::imagenet(&[2, 2, 1, 1], 12, 24).with_classes(20);
    // Both kinds of 3x3: the last maps are too small for the fast one.
    let options = Options { convolutions: Convolutions::Fast, ..Options::default() };
    let plan = Arc::new(Plan::new(&config, support::weights(&config), &options).unwrap());
    let shape = Shape { height: 64, width: 64, batch: 5, threads: 2 };
    let mut session = Session::new(&plan, shape).unwrap();
    let images = support::Numbers::new(3).take(5 * 3 * 64 * 64);
    // The first run starts the workers, whose own buffers it waits for; the features' room is made for the first.
    session.run(&images).unwrap();
    session.features(&images[..3 * 64 * 64]).unwrap();
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    session.run(&images).unwrap();
    session.run(&images[..3 * 64 * 64]).unwrap();
    session.features(&images).unwrap();
    session.pre_logits(&images).unwrap();
    assert_eq!(MEMORY.peak_usage(), before);
}
