//! From an image file to RGB bytes: what Pillow's `convert("RGB")` gives. EXIF rotation is ignored, as in every published
//! evaluation.

#[cfg(any(test, not(feature = "turbojpeg")))]
mod jpeg;
#[cfg(feature = "turbojpeg")]
mod turbo;

use std::path::Path;

use image::DynamicImage;

use super::resize::Rgb8;
use crate::error::{Error, Result};

/// What decodes images, recorded with every result: decoders of JPEG differ by a few levels.
pub const DECODER: &str = if cfg!(feature = "turbojpeg") {
    "libjpeg-turbo 3; other formats by image 0.25"
} else {
    "own JPEG, as libjpeg-turbo 3 to the byte; other formats by image 0.25"
};

/// Pixels of the largest image: where Pillow too takes a file for an attack.
const MOST_PIXELS: usize = 178_956_970;

/// Decodes the file as RGB: alpha is dropped, grey is repeated, palettes are looked up.
pub fn file(path: &Path) -> Result<Rgb8> {
    bytes(&std::fs::read(path).map_err(Error::io("read", path))?, path)
}

/// The same from bytes; `path` names them in errors.
pub fn bytes(bytes: &[u8], path: &Path) -> Result<Rgb8> {
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        #[cfg(not(feature = "turbojpeg"))]
        use jpeg::decode;
        #[cfg(feature = "turbojpeg")]
        use turbo::decode;
        return decode(bytes).map_err(|error| Error::data(path, error.to_string()));
    }
    let image = image::load_from_memory(bytes).map_err(|error| Error::data(path, format!("not an image: {error}")))?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    if let Some(most) = beyond_bytes(&image) {
        let reason = format!(
            "16-bit grey with values up to {most}, of which the file does not say what is white (Pillow makes all from 255 on \
             white); convert it to 8 bits, by the window that is meant"
        );
        return Err(Error::data(path, reason));
    }
    Rgb8::new(width, height, rgb(image)).map_err(|error| Error::data(path, error.to_string()))
}

/// The highest value of wide grey, where it is none of a byte's. Radiographs have 10 to 16 bits there.
fn beyond_bytes(image: &DynamicImage) -> Option<u16> {
    let DynamicImage::ImageLuma16(grey) = image else { return None };
    grey.iter().copied().max().filter(|&most| most > 255)
}

/// Wide channels of colour lose their low byte, as Pillow has it. Wide grey is a byte's here.
fn rgb(image: DynamicImage) -> Vec<u8> {
    let high = |wide: &[u16], channels: usize, keep: [usize; 3]| {
        let pixels = wide.chunks_exact(channels);
        pixels.flat_map(|pixel| keep.map(|channel| (pixel[channel] >> 8) as u8)).collect()
    };
    match image {
        DynamicImage::ImageLuma16(grey) => grey.iter().flat_map(|&grey| [grey as u8; 3]).collect(),
        DynamicImage::ImageLumaA16(grey) => high(&grey, 2, [0, 0, 0]),
        DynamicImage::ImageRgb16(colour) => high(&colour, 3, [0, 1, 2]),
        DynamicImage::ImageRgba16(colour) => high(&colour, 4, [0, 1, 2]),
        other => other.into_rgb8().into_raw(),
    }
}

/// Pillow takes every CMYK JPEG for one of Adobe's, whose inks are inverted, and multiplies paper and key.
fn from_adobe_cmyk(inks: [u8; 4]) -> [u8; 3] {
    let [c, m, y, key] = inks.map(|ink| 255 - i32::from(ink));
    let paper = 255 - key;
    [c, m, y].map(|ink| {
        let product = ink * paper + 128;
        (paper - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
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
            // Nearly all of it white in Pillow; refused here.
            let Some(sha256) = expected["decoded_sha256"].as_str().filter(|_| name != "gray16.png") else { continue };
            let image = bytes(&fixtures::read(&format!("preproc/{name}")), Path::new(name)).unwrap();
            assert_eq!(fixtures::sha256(image.data()), sha256, "{name}");
            checked += 1;
        }
        assert_eq!(checked, 14);
    }

    #[test]
    fn wide_grey_is_read_where_it_holds_bytes_and_refused_elsewhere() {
        let png = |values: Vec<u16>| {
            let grey = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(2, 1, values).unwrap();
            let mut out = std::io::Cursor::new(Vec::new());
            grey.write_to(&mut out, image::ImageFormat::Png).unwrap();
            bytes(out.get_ref(), Path::new("chest.png"))
        };
        // Pillow 13: Image.open(…).convert("RGB") of I;16 with 7 and 255.
        assert_eq!(png(vec![7, 255]).unwrap().data(), [7, 7, 7, 255, 255, 255]);
        let error = png(vec![7, 4095]).unwrap_err().to_string();
        assert!(error.starts_with("chest.png: 16-bit grey with values up to 4095, of which"), "{error}");
        let fixture = bytes(&fixtures::read("preproc/gray16.png"), Path::new("gray16.png"));
        assert!(fixture.unwrap_err().to_string().contains("convert it to 8 bits"));
    }

    type Decoder = fn(&[u8]) -> Result<Rgb8, String>;

    /// Our decoder, and libjpeg-turbo where it is compiled in.
    fn decoders() -> Vec<Decoder> {
        let own = |bytes: &[u8]| jpeg::decode(bytes).map_err(|error| error.to_string());
        vec![
            own,
            #[cfg(feature = "turbojpeg")]
            turbo::decode,
        ]
    }

    /// tests/fixtures/jpeg/make.py says what each file is.
    #[test]
    fn every_jpeg_is_what_pillow_makes_of_it() {
        let expected = fixtures::json("jpeg/expected.json");
        for (number, decode) in decoders().into_iter().enumerate() {
            let (mut decoded, mut refused) = (0, 0);
            for (name, expected) in expected.as_object().unwrap().iter().filter(|(name, _)| !name.starts_with('_')) {
                let image = decode(&fixtures::read(&format!("jpeg/{name}")));
                match (expected["sha256"].as_str(), image) {
                    (Some(sha256), Ok(image)) => {
                        assert_eq!(fixtures::sha256(image.data()), sha256, "{name}");
                        decoded += 1;
                    }
                    // libjpeg-turbo's interface does not know such sampling.
                    (Some(_), Err(_)) if number == 1 && name.contains("_2x4") => decoded += 1,
                    // Whole but for its end marker: Pillow refuses it, libjpeg warns.
                    (None, Ok(image)) if matches!(name.as_str(), "half_an_end.jpg" | "no_end.jpg") => {
                        assert!(image == decode(&fixtures::read("jpeg/behind_the_end.jpg")).unwrap(), "{name}");
                    }
                    (None, Err(_)) => refused += 1,
                    (_, image) => {
                        panic!("{name}: {expected}, {:?}", image.map(|image| (image.width(), image.height())))
                    }
                }
            }
            // libjpeg-turbo's interface does not tell a missing end marker from missing data.
            assert_eq!((decoded, refused), (78, if number == 0 { 2 } else { 4 }));
        }
    }

    #[test]
    fn a_short_file_cannot_claim_many_pixels() {
        let mut claims = fixtures::read("jpeg/progressive_grey.jpg");
        let at = claims.windows(2).position(|pair| pair == [0xff, 0xc2]).unwrap();
        claims[at + 5..at + 9].copy_from_slice(&[0x27, 0x10, 0x27, 0x10]);
        let error = jpeg::decode(&claims).unwrap_err().to_string();
        assert!(error.ends_with("more pixels than so short a file can hold"), "{error}");
        claims[at + 5..at + 9].copy_from_slice(&[0xff; 4]);
        assert!(jpeg::decode(&claims).unwrap_err().to_string().contains("more than 178,956,970 pixels"));
    }

    #[test]
    fn damage_never_panics() {
        let mut state = 3_u32;
        let mut next = |bound: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % bound
        };
        for name in
            ["progressive_restart.jpg", "restart_1_block.jpg", "cmyk.jpg", "17x33_2x4.jpg", "progressive_grey.jpg"]
        {
            let sound = fixtures::read(&format!("jpeg/{name}"));
            for _ in 0..2000 {
                let mut damaged = sound.clone();
                // Half of the damage in the headers, where it reaches further.
                let bound = if next(2) == 0 { damaged.len() } else { 700.min(damaged.len()) };
                for _ in 0..=next(3) {
                    damaged[next(bound)] = next(256) as u8;
                }
                damaged.truncate(if next(4) == 0 { next(sound.len()) } else { sound.len() });
                // The size is kept, so that each round is quick.
                let at = sound.windows(2).position(|pair| matches!(pair, [0xff, 0xc0..=0xc2])).unwrap();
                if let Some(size) = damaged.get_mut(at + 5..at + 9) {
                    size.copy_from_slice(&sound[at + 5..at + 9]);
                }
                let _ = bytes(&damaged, Path::new(name));
            }
        }
    }
}
