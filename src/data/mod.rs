//! Images with labels: where they lie, how they are decoded, and how a protocol turns them into the network's input.

pub mod cifar;
pub mod class_map;
pub mod decode;
mod devkit;
pub mod digits;
pub mod folder;
pub mod imagenet;
pub mod labels;
pub mod loader;
mod mat;
pub mod npy;
pub mod pair;
pub mod resize;
pub mod sheet;
mod svhn;
pub mod transform;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use imagenet::LabelSet;
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
    /// Indices into the data set's classes, any of which is right. Empty where findings are known instead, which stand beside
    /// the data set.
    pub labels: Vec<usize>,
    /// Where its pixels are.
    pub image: Image,
}

/// Where an image's pixels are.
#[derive(Clone, Debug)]
pub enum Image {
    /// In a file yet to be decoded.
    File(PathBuf),
    /// In a part of a file, as in a tar.
    Part {
        /// The file.
        file: Arc<Path>,
        /// The image's name in it.
        name: String,
        /// Where the image begins in it.
        offset: u64,
        /// Its bytes.
        len: usize,
    },
    /// In memory.
    Pixels(Rgb8),
    /// Nowhere: a class without images, whose folder this is.
    Missing(PathBuf),
}

impl Image {
    /// The pixels, decoded now if they are in a file.
    pub fn pixels(&self) -> Result<Cow<'_, Rgb8>> {
        match self {
            Self::File(path) => decode::file(path).map(Cow::Owned),
            Self::Part { file, name, offset, len } => {
                let path = file.join(name);
                let bytes = imagenet::part(file, *offset, *len).map_err(Error::io("read", &path))?;
                decode::bytes(&bytes, &path).map(Cow::Owned)
            }
            Self::Pixels(pixels) => Ok(Cow::Borrowed(pixels)),
            Self::Missing(folder) => {
                Err(Error::data(folder, format!("this class has no images ({})", folder::ENDINGS.join(", "))))
            }
        }
    }
}

impl Dataset {
    /// The data set that `--data` names: `digits`, a CIFAR folder (binary or python) or Torch's cache of it, SVHN's cropped
    /// digits, the validation set of ImageNet (folders, flat, or its tar), or a folder with one folder a class.
    pub fn open(data: &str, labels: &LabelSet) -> Result<Self> {
        let mut dataset = Self::open_any(data)?;
        imagenet::relabel(&mut dataset, labels, Path::new(data))?;
        Ok(dataset)
    }

    fn open_any(data: &str) -> Result<Self> {
        if data == "digits" {
            return digits::validation();
        }
        let path = Path::new(data);
        std::fs::metadata(path).map_err(Error::io("read", path))?;
        let ending = |ending: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
        if path.is_file() && ending("tar") {
            return imagenet::open_tar(path);
        }
        if path.is_file() && ending("t7") {
            return cifar::open_t7(path);
        }
        if path.is_file() && ending("mat") {
            return svhn::open_mat(path);
        }
        if !path.is_dir() {
            let reason = "not a folder; --data takes a folder with one folder a class, a CIFAR folder or .t7, SVHN's .mat, \
                          ImageNet's validation set as a folder or its tar, FILE.csv, or `digits`";
            return Err(Error::data(path, reason));
        }
        if let Some(dataset) = cifar::open(path)? {
            return Ok(dataset);
        }
        if let Some(dataset) = svhn::open(path)? {
            return Ok(dataset);
        }
        match imagenet::open_flat(path)? {
            Some(dataset) => Ok(dataset),
            None => folder::open(path),
        }
    }
}
