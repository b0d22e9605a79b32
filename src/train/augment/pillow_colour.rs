//! Colours changed by the arithmetic of Pillow's `ImageEnhance`: bytes after each step.

use crate::data::resize::Rgb8;
use crate::data::transform::luma;
use crate::train::draws::Random;

/// Brightness, contrast and saturation in a random order, by factors drawn beforehand (torchvision, transforms/transforms.py,
/// ColorJitter). The fourth of the order is the hue, which stays.
pub(super) fn jitter(image: &mut Rgb8, strength: f64, draws: &mut impl Random) {
    let order = draws.permutation(4);
    let [brighter, starker, fuller] = [0; 3].map(|_| draws.uniform((1.0 - strength).max(0.0), 1.0 + strength) as f32);
    let pixels = image.pixels_mut();
    for which in order {
        match which {
            0 => brightness(pixels, brighter),
            1 => contrast(pixels, starker),
            2 => saturation(pixels, fuller),
            _ => {}
        }
    }
}

fn brightness(pixels: &mut [[u8; 3]], factor: f32) {
    blend(pixels, factor, |_| 0);
}

/// The other colour is the grey that the image has on average.
fn contrast(pixels: &mut [[u8; 3]], factor: f32) {
    let sum: u64 = pixels.iter().map(|&pixel| u64::from(luma(pixel))).sum();
    let mean = (sum as f64 / pixels.len() as f64 + 0.5) as u8;
    blend(pixels, factor, |_| mean);
}

/// The other colour is the pixel's own grey.
fn saturation(pixels: &mut [[u8; 3]], factor: f32) {
    blend(pixels, factor, luma);
}

/// Pillow's `Image.blend`: from another colour at 0 over the pixel's at 1 to beyond it, cut off to whole bytes.
fn blend(pixels: &mut [[u8; 3]], factor: f32, other: impl Fn([u8; 3]) -> u8) {
    for pixel in pixels {
        let other = f32::from(other(*pixel));
        // A cast ends at 0 and at 255.
        *pixel = pixel.map(|value| (other + factor * (f32::from(value) - other)) as u8);
    }
}
