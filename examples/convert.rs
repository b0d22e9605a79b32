//! Converts a checkpoint in memory: bytes of any known format in, safetensors bytes out. Needs neither candle nor a cache.
//!
//! Usage: `cargo run --release --example convert -- model.t7 > model.safetensors`

use std::error::Error;
use std::io::Write;

use densenet_converters::{Options, Source, convert};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: convert CHECKPOINT > OUT.safetensors")?;
    let safetensors = to_safetensors(&std::fs::read(path)?)?;
    std::io::stdout().write_all(&safetensors)?;
    Ok(())
}

/// The network in `checkpoint` under torchvision's names. The same bytes in give the same bytes out.
fn to_safetensors(checkpoint: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let source = Source::new(checkpoint);
    let conversion = convert(&source, &Options::default())?;

    // Every tensor is accounted for; without this check a partial network would be written.
    if !conversion.report.is_complete(false) {
        return Err(conversion.report.to_string().into());
    }
    let config = &conversion.config;
    eprintln!(
        "{} from {}, {} parameters, protocol {}, source sha256 {}",
        config.name(),
        conversion.format.name(),
        config.parameter_count(),
        conversion.protocol.name,
        conversion.source_sha256
    );

    let mut out = Vec::new();
    conversion.write(&mut out)?;
    Ok(out)
}
