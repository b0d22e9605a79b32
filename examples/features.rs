//! Prints the shape of every dense block's feature map, as a detector or a segmenter reads them from a backbone.
//!
//! Usage: `cargo run --release --example features -- model.pt [SIDE|IMAGE]` (zeros of side 224 by default)

use std::error::Error;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use densenet_zoo::data::decode;
use densenet_zoo::data::transform::Transform;
use densenet_zoo::store::{Model, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (name, input) = match args.as_slice() {
        [name] => (name, "224"),
        [name, input] => (name, input.as_str()),
        _ => return Err("usage: features MODEL [SIDE|IMAGE]".into()),
    };
    let model = Store::open(&[])?.model(name, &mut densenet_registry::Silent)?;
    let network = model.network(&Device::Cpu, DType::F32)?;
    let x = match input.parse::<usize>() {
        Ok(side) => Tensor::zeros((1, model.config.in_channels, side, side), DType::F32, &Device::Cpu)?,
        Err(_) => image(&model, input)?,
    };

    println!("input    {:?}", x.dims());
    for (number, map) in (1..).zip(network.features(&x, false)?) {
        println!("block {number}  {:?}", map.dims()); // (1, C, h, w)
    }
    println!("pooled   {:?}", network.pre_logits(&x, false)?.dims()); // (1, features)
    Ok(())
}

/// The image as the model's protocol prepares it: (1, channels, crop, crop).
fn image(model: &Model, path: &str) -> Result<Tensor, Box<dyn Error>> {
    let transform = Transform::new(&model.protocol, model.config.in_channels)?;
    let mut pixels = Vec::new();
    transform.append(&decode::file(Path::new(path))?, &mut pixels).map_err(|error| error.of(path))?;
    let (channels, height, width) = transform.shape();
    Ok(Tensor::from_vec(pixels, (1, channels, height, width), &Device::Cpu)?)
}
