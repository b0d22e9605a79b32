//! From an image file to RGB bytes: what Pillow's `convert("RGB")` gives. EXIF rotation is ignored, as in every published
//! evaluation.

mod jpeg;

use std::path::Path;

use image::DynamicImage;

use super::resize::Rgb8;
use crate::error::{Error, Result};

/// What decodes images, recorded with every result: decoders of JPEG differ by a few levels.
pub const DECODER: &str = "densenet-zoo (JPEG to the byte as libjpeg-turbo; the rest by image 0.25)";

/// Decodes the file as RGB: alpha is dropped, grey is repeated, palettes are looked up.
pub fn file(path: &Path) -> Result<Rgb8> {
    bytes(&std::fs::read(path).map_err(Error::io("read", path))?, path)
}

/// The same from bytes; `path` names them in errors.
pub fn bytes(bytes: &[u8], path: &Path) -> Result<Rgb8> {
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return jpeg::decode(bytes).map_err(|error| Error::data(path, error.to_string()));
    }
    let image = image::load_from_memory(bytes).map_err(|error| Error::data(path, format!("not an image: {error}")))?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    Rgb8::new(width, height, rgb(image)).map_err(|error| Error::data(path, error.to_string()))
}

/// Wide channels of colour lose their low byte, wide grey is cut off at 255: Pillow's way with each.
fn rgb(image: DynamicImage) -> Vec<u8> {
    let high = |wide: &[u16], channels: usize, keep: [usize; 3]| {
        let pixels = wide.chunks_exact(channels);
        pixels.flat_map(|pixel| keep.map(|channel| (pixel[channel] >> 8) as u8)).collect()
    };
    match image {
        DynamicImage::ImageLuma16(grey) => grey.iter().flat_map(|&grey| [grey.min(255) as u8; 3]).collect(),
        DynamicImage::ImageLumaA16(grey) => high(&grey, 2, [0, 0, 0]),
        DynamicImage::ImageRgb16(colour) => high(&colour, 3, [0, 1, 2]),
        DynamicImage::ImageRgba16(colour) => high(&colour, 4, [0, 1, 2]),
        other => other.into_rgb8().into_raw(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::resize::fixtures;
    use super::*;

    #[test]
    fn every_kind_of_image_is_what_pillow_makes_of_it() {
        let expected = fixtures::json("preproc/expected.json");
        let mut checked = 0;
        for (name, expected) in expected.as_object().unwrap() {
            let Some(sha256) = expected["decoded_sha256"].as_str() else { continue };
            let image = bytes(&fixtures::read(&format!("preproc/{name}")), Path::new(name)).unwrap();
            assert_eq!(fixtures::sha256(image.data()), sha256, "{name}");
            checked += 1;
        }
        assert_eq!(checked, 15);
    }
}
