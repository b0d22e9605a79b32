//! `preprocess`: exactly what a network sees of an image.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use densenet_arch::Protocol;
use densenet_zoo::data::npy;
use densenet_zoo::data::transform::Transform;
use densenet_zoo::data::{Image, decode};
use densenet_zoo::{Error, Result, files};
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::output;

#[derive(Args)]
// The protocol is needed: asked for here and not by the parser, whose error cannot name those there are.
#[command(override_usage = "densenet-zoo preprocess [OPTIONS] --protocol <NAME|FILE.toml> --output <FILE> <IMAGES>...")]
pub(super) struct Preprocess {
    /// JPEG, PNG, WebP, GIF, TIFF or BMP files.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// How they are prepared, which must be given: torch7, pil-bilinear, pil-bicubic, opencv-bilinear, stretch-256, cifar10,
    /// cifar100, svhn, digits; or a TOML file that describes it.
    #[arg(long, value_name = "NAME|FILE.toml")]
    protocol: Option<String>,
    /// One channel instead of three, for networks that read grey images.
    #[arg(long, alias = "gray")]
    grey: bool,
    /// Ten crops an image.
    #[arg(long, alias = "tenCrop")]
    ten_crop: bool,
    /// `.safetensors` (the tensor `input`) or `.npy`, both (images, channels, height, width); `.png` to look at one image.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Overwrite the output.
    #[arg(long)]
    force: bool,
}

impl Preprocess {
    pub(super) fn run(self) -> Result<()> {
        let protocol = self.protocol.as_deref().ok_or_else(|| {
            let names = Protocol::names().join(", ");
            Error::Usage(format!("--protocol NAME|FILE.toml says how the images are prepared; there are {names}"))
        })?;
        let protocol = super::protocol(protocol)?;
        if self.output.exists() && !self.force {
            return Err(Error::Exists { path: self.output });
        }
        let transform = Transform::new(&protocol, if self.grey { 1 } else { 3 })?;
        let transform = if self.ten_crop { transform.with_ten_crops()? } else { transform };
        let mut pixels = Vec::new();
        for path in &self.images {
            let image = Image::File(path.clone());
            let image = image.pixels()?;
            transform.append(&image, &mut pixels).map_err(|error| error.of(&path.display().to_string()))?;
        }
        let (channels, height, width) = transform.shape();
        let shape = [self.images.len() * transform.crops(), channels, height, width];
        match self.output.extension().and_then(|ending| ending.to_str()) {
            Some("safetensors") => self.safetensors(&protocol, &shape, &pixels)?,
            Some("npy") => files::write(&self.output, &npy::write_f32(&shape, &pixels))?,
            Some("png") if shape[0] == 1 => output::write_png(&self.output, &transform.picture(&pixels))?,
            Some("png") => return Err(Error::Usage("a .png shows one crop of one image".into())),
            _ => return Err(Error::Usage("-o takes a .safetensors, .npy or .png file".into())),
        }
        let [images, ..] = shape;
        output::print(&format!(
            "{}: {images} x {channels} x {height} x {width}, protocol {}, decoded by {}",
            self.output.display(),
            protocol.name,
            decode::DECODER
        ))
    }

    fn safetensors(&self, protocol: &Protocol, shape: &[usize], pixels: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
        let failed =
            |error: safetensors::SafeTensorError| Error::Data { path: self.output.clone(), reason: error.to_string() };
        let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).map_err(failed)?;
        // One entry: more would come in any order.
        let metadata = HashMap::from([("protocol".to_owned(), protocol.to_text())]);
        files::write(&self.output, &serialize([("input", view)], Some(metadata)).map_err(failed)?)
    }
}
