//! Images with labels: where they lie, how they are decoded, and how a protocol turns them into the network's input.

pub mod cifar;
pub mod decode;
pub mod digits;
pub mod folder;
pub mod labels;
pub mod loader;
pub mod npy;
pub mod resize;
pub mod transform;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use resize::Rgb8;

/// Labelled images in a fixed order.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What it is: `digits-val`, `cifar10-test`, `image-folder`.
    pub kind: &'static str,
    /// The images.
    pub samples: Vec<Sample>,
    /// The names of the classes that the labels count, where the data set has them.
    pub classes: Vec<String>,
}

/// One labelled image.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its path or number, for people.
    pub id: String,
    /// Index into the data set's classes.
    pub label: usize,
    /// Where its pixels are.
    pub image: Image,
}

/// Where an image's pixels are.
#[derive(Clone, Debug)]
pub enum Image {
    /// In a file yet to be decoded.
    File(PathBuf),
    /// In memory.
    Pixels(Rgb8),
}

impl Image {
    /// The pixels, decoded now if they are in a file.
    pub fn pixels(&self) -> Result<Cow<'_, Rgb8>> {
        match self {
            Self::File(path) => decode::file(path).map(Cow::Owned),
            Self::Pixels(pixels) => Ok(Cow::Borrowed(pixels)),
        }
    }
}

impl Dataset {
    /// The data set that `--data` names: `digits`, a CIFAR folder (binary or python), or a folder with one folder a class.
    pub fn open(data: &str) -> Result<Self> {
        if data == "digits" {
            return digits::validation();
        }
        let path = Path::new(data);
        if !path.is_dir() {
            let reason = "not a folder; --data takes a folder with one folder a class, a CIFAR folder, or `digits`";
            return Err(Error::data(path, reason));
        }
        match cifar::open(path)? {
            Some(dataset) => Ok(dataset),
            None => folder::open(path),
        }
    }
}
