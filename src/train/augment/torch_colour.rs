//! Colours changed by fb.resnet.torch's arithmetic: single precision from 0 to 1, and never clipped.

use crate::data::resize::RgbF32;
use crate::train::draws::Random;

/// Brightness, contrast and saturation in a random order, each by a factor drawn when it is its turn (liuzhuang13/DenseNet,
/// datasets/transforms.lua, ColorJitter).
pub(super) fn jitter(image: &mut RgbF32, strength: f64, draws: &mut impl Random) {
    let pixels = image.pixels_mut();
    for which in draws.permutation(3) {
        let factor = 1.0 + draws.uniform(-strength, strength);
        match which {
            0 => brightness(pixels, factor),
            1 => contrast(pixels, factor),
            _ => saturation(pixels, factor),
        }
    }
}

fn brightness(pixels: &mut [[f32; 3]], factor: f64) {
    blend(pixels, factor, |_| 0.0);
}

/// The other colour is the grey that the image has on average.
fn contrast(pixels: &mut [[f32; 3]], factor: f64) {
    let sum: f64 = pixels.iter().map(|&pixel| f64::from(grey(pixel))).sum();
    let mean = (sum / pixels.len() as f64) as f32;
    blend(pixels, factor, |_| mean);
}

/// The other colour is the pixel's own grey.
fn saturation(pixels: &mut [[f32; 3]], factor: f64) {
    blend(pixels, factor, grey);
}

/// So much of each colour, and the rest of another.
fn blend(pixels: &mut [[f32; 3]], factor: f64, other: impl Fn([f32; 3]) -> f32) {
    let (share, rest) = (factor as f32, (1.0 - factor) as f32);
    for pixel in pixels {
        let added = rest * other(*pixel);
        *pixel = pixel.map(|value| value * share + added);
    }
}

fn grey([red, green, blue]: [f32; 3]) -> f32 {
    0.299 * red + 0.587 * green + 0.114 * blue
}

/// Principal axes of ImageNet's colours, red, green and blue of each of the three, and the deviations along them
/// (datasets/imagenet.lua).
const AXES: [[f64; 3]; 3] = [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]];
const DEVIATIONS: [f64; 3] = [0.2175, 0.0188, 0.0045];

/// One colour, drawn along the axes, is added everywhere (datasets/transforms.lua, Lighting; AlexNet, section 4.1).
pub(super) fn lighting(image: &mut RgbF32, deviation: f64, draws: &mut impl Random) {
    let shares = [0; 3].map(|_| draws.normal(deviation));
    let shift = AXES.map(|axis| {
        let parts: [f64; 3] = std::array::from_fn(|at| axis[at] * shares[at] * DEVIATIONS[at]);
        (parts[0] + parts[1] + parts[2]) as f32
    });
    for pixel in image.pixels_mut() {
        for (value, shift) in pixel.iter_mut().zip(shift) {
            *value += shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{Reference, planar};
    use super::*;

    type Change = fn(&mut [[f32; 3]], f64);

    /// `change` done to the source that the fixtures' colours were changed of.
    fn changed(file: &Reference, side: usize, change: impl FnOnce(&mut RgbF32)) -> Vec<f32> {
        let mut image = RgbF32::from(&file.images("jit_src_u8")[0].part(0..side, 0..side));
        change(&mut image);
        planar(image.pixels_mut())
    }

    #[test]
    fn jitter_equals_torch_s_to_the_bit() {
        let file = Reference::read("torch_image", "f_train.safetensors");
        // All six orders. Torch's result without fused multiplication, which differs by 1.2e-7.
        file.check(("f_color_jitter", "f_color_jitter.no_fma"), 0.0, |_, draws| {
            changed(&file, 24, |image| jitter(image, 0.4, draws))
        });
        file.check(("f_color_jitter", "f_color_jitter"), 2e-7, |_, draws| {
            changed(&file, 24, |image| jitter(image, 0.4, draws))
        });
        let single: [(&str, &str, Change); 3] = [
            ("f_brightness", "f_brightness", brightness),
            ("f_contrast", "f_contrast.no_fma", contrast),
            ("f_saturation", "f_saturation.no_fma", saturation),
        ];
        for (name, tensor, change) in single {
            file.check((name, tensor), 0.0, |_, draws| {
                assert_eq!(draws.permutation(1), [0]);
                let factor = 1.0 + draws.uniform(-0.4, 0.4);
                changed(&file, 24, |image| change(image.pixels_mut(), factor))
            });
        }
    }

    #[test]
    fn lighting_equals_torch_s() {
        let file = Reference::read("torch_image", "f_train.safetensors");
        // The original's threads compute it in double; a Torch whose default is single differs by one
        // rounding of a value below 1.
        for (name, tolerance) in [("f_lighting.double", 0.0), ("f_lighting", 6e-8)] {
            file.check((name, name), tolerance, |_, draws| changed(&file, 12, |image| lighting(image, 0.1, draws)));
        }
    }
}
