//! From an image file to RGB bytes.

use std::path::Path;

use super::resize::Rgb8;
use crate::error::{Error, Result};

/// What decodes images, recorded with every result: decoders differ by a few levels.
pub const DECODER: &str = "image 0.25 (JPEG: zune-jpeg)";

/// Decodes the file as RGB. Alpha is dropped, grey is repeated, EXIF rotation is ignored, as Pillow's `convert("RGB")` does.
pub fn file(path: &Path) -> Result<Rgb8> {
    bytes(&std::fs::read(path).map_err(Error::io("read", path))?, path)
}

/// The same from bytes; `path` names them in errors.
pub(super) fn bytes(bytes: &[u8], path: &Path) -> Result<Rgb8> {
    let image = image::load_from_memory(bytes).map_err(|error| Error::data(path, format!("not an image: {error}")))?;
    let rgb = image.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Rgb8::new(width, height, rgb.into_raw()).map_err(|error| Error::data(path, error.to_string()))
}
