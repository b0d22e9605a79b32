//! SVHN's cropped digits (format 2) as published: `train_32x32.mat`, `extra_32x32.mat`, `test_32x32.mat`, Netzer et al. 2011.

use std::path::Path;

use super::mat::{self, Array};
use super::resize::Rgb8;
use super::{Dataset, Image, Sample};
use crate::error::{Error, Result};

const SIDE: usize = 32;
/// The test images' file.
const FILE: &str = "test_32x32.mat";
/// The training images' file, and that of the easier ones, which the paper adds (arXiv 1608.06993, section 4.1).
const TRAINING: &str = "train_32x32.mat";
const EXTRA: &str = "extra_32x32.mat";

/// The test images, if the folder holds them.
pub(super) fn open(folder: &Path) -> Result<Option<Dataset>> {
    let path = folder.join(FILE);
    if path.is_file() { open_mat(&path).map(Some) } else { Ok(None) }
}

/// The training images, with the extra ones where they are there, and the test images, if the folder holds them. All are kept
/// in memory: with the extra ones, 604,388 of 3072 bytes, and three times that while they are read.
pub(super) fn open_pair(folder: &Path) -> Result<Option<(Dataset, Dataset)>> {
    let [training, extra, test] = [TRAINING, EXTRA, FILE].map(|file| folder.join(file));
    if !training.is_file() {
        return Ok(None);
    }
    let (mut training, test) = (open_mat(&training)?, open_mat(&test)?);
    if extra.is_file() {
        training.samples.append(&mut open_mat(&extra)?.samples);
        for (number, sample) in training.samples.iter_mut().enumerate() {
            sample.id = format!("image {number}");
        }
    }
    Ok(Some((Dataset { kind: "svhn-train", ..training }, test)))
}

/// `X` is 32 x 32 x 3 x N bytes (row, column, channel, image), `y` has N labels from 1 to 10, of which 10 is the digit 0.
pub(super) fn open_mat(path: &Path) -> Result<Dataset> {
    let bad = |reason: String| Error::data(path, reason);
    let arrays = mat::read(&std::fs::read(path).map_err(Error::io("read", path))?).map_err(bad)?;
    let array = |name: &str| arrays.iter().find(|(found, _)| found == name).map(|(_, array)| array);
    let Some(Array::Bytes(shape, pixels)) = array("X") else {
        return Err(bad("it has no array X of bytes; SVHN's cropped digits are expected".into()));
    };
    let Some((_, labels)) = array("y").and_then(Array::numbers) else {
        return Err(bad("it has no array y of labels; SVHN's cropped digits are expected".into()));
    };
    // One image alone loses its last dimension.
    let images = match shape[..] {
        [SIDE, SIDE, 3, images] => images,
        [SIDE, SIDE, 3] => 1,
        _ => return Err(bad(format!("X is {shape:?}; 32 x 32 x 3 x N bytes are expected"))),
    };
    if labels.len() != images {
        return Err(bad(format!("{images} images in X and {} labels in y", labels.len())));
    }
    let samples =
        labels.iter().zip(pixels.chunks_exact(3 * SIDE * SIDE)).enumerate().map(|(index, (&label, image))| {
            let digit = match label {
                10.0 => 0,
                1.0..=9.0 if label.fract() == 0.0 => label as usize,
                _ => return Err(bad(format!("image {index} has label {label}; labels are from 1 to 10"))),
            };
            let at = |y: usize, x: usize, channel: usize| image[y + SIDE * (x + SIDE * channel)];
            let rows =
                (0..SIDE * SIDE).flat_map(|place| [0, 1, 2].map(|channel| at(place / SIDE, place % SIDE, channel)));
            let image = Rgb8::new(SIDE, SIDE, rows.collect()).map_err(|error| bad(error.to_string()))?;
            Ok(Sample { id: format!("image {index}"), labels: vec![digit], image: Image::Pixels(image) })
        });
    let samples = samples.collect::<Result<_>>()?;
    Ok(Dataset { kind: "svhn-test", samples, classes: (0..10).map(|digit| digit.to_string()).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_columns_channels_and_the_digit_0() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mat");
        let dataset = open(&folder.join("svhn")).unwrap().unwrap();
        let labels: Vec<_> = dataset.samples.iter().map(|sample| sample.labels[0]).collect();
        assert_eq!((dataset.kind, labels), ("svhn-test", vec![5, 0, 1, 9]));
        // make.py: (7 n + 5 y + 3 x + 50 c) mod 256
        let pixels = dataset.samples[2].image.pixels().unwrap();
        assert_eq!(pixels.data()[3 * (32 * 4 + 9)..][..3], [61, 111, 161]);
        let alone = open_mat(&folder.join("svhn_plain_doubles.mat")).unwrap();
        assert_eq!((alone.samples.len(), &alone.samples[0].labels[..]), (1, &[0][..]));
        assert!(open_mat(&folder.join("devkit/data/meta.mat")).unwrap_err().to_string().contains("no array X"));
        assert!(open(&folder).unwrap().is_none());
        let all = tempfile::tempdir().unwrap();
        assert!(open_pair(all.path()).unwrap().is_none());
        std::fs::copy(folder.join("svhn/test_32x32.mat"), all.path().join(TRAINING)).unwrap();
        assert!(open_pair(all.path()).unwrap_err().to_string().contains("test_32x32.mat: cannot read"));
        for file in [FILE, EXTRA] {
            std::fs::copy(folder.join("svhn_plain_doubles.mat"), all.path().join(file)).unwrap();
        }
        let (training, test) = open_pair(all.path()).unwrap().unwrap();
        let last = &training.samples[4];
        assert_eq!((training.kind, training.samples.len(), last.id.as_str()), ("svhn-train", 5, "image 4"));
        assert_eq!((last.labels[0], test.samples.len(), test.kind), (0, 1, "svhn-test"));
    }
}
