//! Images to try training on: three classes that differ in the direction of their stripes, and the same as two findings.
//!
//! `cargo run --release --example made_images -- FOLDER 64 256` makes 64 images of 256x256 pixels in FOLDER/images, one folder
//! a class, and FOLDER/findings.csv.

use std::fmt::Write;
use std::path::Path;

use image::{Rgb, RgbImage};

/// A class: its name, the direction of its stripes, and whether they go down, and are steep.
type Class = (&'static str, fn(u32, u32) -> u32, [u8; 2]);

const CLASSES: [Class; 3] =
    [("across", |_, y| y, [0, 0]), ("down", |x, _| x, [1, 1]), ("slanted", |x, y| x + y, [0, 1])];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, count, side] = &arguments[..] else { return Err("FOLDER COUNT SIDE".into()) };
    let (folder, count, side): (&Path, usize, u32) = (Path::new(folder), count.parse()?, side.parse()?);
    let mut csv = "path,down,steep\n".to_owned();
    for index in 0..count {
        let (class, along, [down, steep]) = CLASSES[index % CLASSES.len()];
        let path = format!("{class}/{index:04}.png");
        let file = folder.join("images").join(&path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let image = RgbImage::from_fn(side, side, |x, y| {
            let stripe = (along(x, y) + 7 * index as u32) / 8 % 2 * 150;
            Rgb([(40 + stripe + (31 * x + 17 * y + 13 * index as u32) % 41) as u8; 3])
        });
        image.save(file)?;
        writeln!(csv, "{path},{down},{steep}")?;
    }
    std::fs::write(folder.join("findings.csv"), csv)?;
    Ok(())
}
