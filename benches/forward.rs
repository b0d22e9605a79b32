//! How long one forward pass of each ImageNet network takes on candle's CPU path, with random weights.
//!
//! `cargo bench --bench forward [NAME…]`; the median of eleven runs after one to warm up.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use densenet_arch::networks;
use densenet_zoo::model::DenseNet;

const RUNS: usize = 11;

fn main() -> candle_core::Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let names = if asked.is_empty() { vec!["densenet-121".to_owned()] } else { asked };
    for name in names {
        let Some(network) = networks::find(&name) else {
            eprintln!("{name}: no such network");
            continue;
        };
        let weights = VarMap::new();
        let model = DenseNet::new(&network.config, VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu))?;
        let side = network.config.input_size();
        let image = Tensor::ones((1, 3, side, side), DType::F32, &Device::Cpu)?;
        model.forward(&image, false)?;
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let start = Instant::now();
            model.forward(&image, false)?;
            times.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        times.sort_by(f64::total_cmp);
        println!("{name}: one {side}x{side} image in {:.0} ms (best {:.0} ms)", times[RUNS / 2], times[0]);
    }
    Ok(())
}
