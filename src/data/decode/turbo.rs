//! JPEG through libjpeg-turbo.

use turbojpeg::{Colorspace, Decompressor, Error, Image, PixelFormat};

use super::super::resize::Rgb8;
use super::from_adobe_cmyk;

/// What libjpeg warns of and decodes nevertheless; all else ends it.
const WARNINGS: [&str; 5] = [
    "Corrupt JPEG data",
    "Inconsistent progression sequence",
    "Invalid SOS parameters for sequential JPEG",
    "Unknown Adobe color transform",
    "Warning: unknown JFIF revision",
];

/// Red, green and blue; grey is repeated, CMYK converted.
pub(super) fn decode(bytes: &[u8]) -> Result<Rgb8, String> {
    let text = |error: Error| format!("libjpeg-turbo: {error}");
    let mut decompressor = Decompressor::new().map_err(text)?;
    let header = decompressor.read_header(bytes).map_err(text)?;
    let (width, height) = (header.width, header.height);
    if width.saturating_mul(height) > super::MOST_PIXELS {
        return Err("the JPEG has more than 178,956,970 pixels, which is not read".into());
    }
    let cmyk = matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK);
    let format = if cmyk { PixelFormat::CMYK } else { PixelFormat::RGB };
    let pitch = width * format.size();
    let mut image = Image { pixels: vec![0; pitch * height], width, pitch, height, format };
    match decompressor.decompress(bytes, image.as_deref_mut()) {
        Err(Error::TurboJpegError(text)) if WARNINGS.iter().any(|warning| text.contains(warning)) => {}
        Err(Error::TurboJpegError(text)) if text.contains("Premature end") => {
            return Err("the JPEG is truncated".into());
        }
        Err(error) => return Err(text(error)),
        Ok(()) => {}
    }
    let pixels = if cmyk {
        image.pixels.as_chunks().0.iter().copied().flat_map(from_adobe_cmyk).collect()
    } else {
        image.pixels
    };
    Rgb8::new(width, height, pixels).map_err(|error| error.to_string())
}
