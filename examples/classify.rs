//! Loads a model by name or path and prints the five likeliest classes of an image.
//!
//! Usage: `cargo run --release --example classify -- densenet-121 cat.jpg`

use std::error::Error;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use densenet_zoo::data::decode;
use densenet_zoo::data::transform::Transform;
use densenet_zoo::eval::{best, probabilities};
use densenet_zoo::store::Store;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, image] = args.as_slice() else { return Err("usage: classify MODEL IMAGE".into()) };

    // A name is fetched, verified and converted first, unless the cache has it.
    let model = Store::open(&[])?.model(name, &mut densenet_registry::Silent)?;
    let network = model.network(&Device::Cpu, DType::F32)?;

    // The image goes in as the weights' own protocol says.
    let transform = Transform::new(&model.protocol, model.config.in_channels)?;
    let mut pixels = Vec::new();
    transform.append(&decode::file(Path::new(image))?, &mut pixels).map_err(|error| error.of(image))?;
    let (channels, height, width) = transform.shape();
    let x = Tensor::from_vec(pixels, (1, channels, height, width), &Device::Cpu)?;

    let logits = network.forward(&x, false)?.flatten_all()?.to_vec1::<f32>()?; // (classes)
    let shares = probabilities(&logits);
    for class in best(&logits, 5, image)? {
        println!("{:6.2} %  {}", 100.0 * shares[class], model.labels.name(class));
    }
    Ok(())
}
