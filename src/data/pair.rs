//! The images to train on together with those to validate by, as data sets are published and as people keep their own.

use std::path::Path;

use super::imagenet::LabelSet;
use super::{Dataset, cifar, digits, folder, labels, svhn};
use crate::error::{Error, Result};

/// What the folder with the training images is called.
const TRAINING: [&str; 2] = ["train", "training"];
/// What the folder or the archive with the validation images is called; the first that is there is taken.
const VALIDATION: [&str; 6] = ["val", "valid", "validation", "test", "val.tar", "ILSVRC2012_img_val.tar"];

/// A published data set, and what has to lie in its folder.
const PUBLISHED: [(&str, &str); 4] = [
    (
        "cifar10",
        "cifar-10-batches-bin or cifar-10-batches-py with its five training batches and its test batch, or Torch's .t7",
    ),
    ("cifar100", "cifar-100-binary or cifar-100-python with its training and test files, or Torch's .t7"),
    ("svhn", "train_32x32.mat and test_32x32.mat, and extra_32x32.mat if wanted"),
    ("imagenet", "train with a folder a class, and val as folders, as a flat folder or as its tar"),
];

/// Opens training images, and validation images where they are kept apart: `digits`; CIFAR's and SVHN's training and test
/// sets; a folder with `train` and `val` inside. A plain folder of classes has none to validate by.
///
/// # Errors
///
/// `kind`, if given, is the data set that it has to be: `cifar10`, `cifar100`, `svhn` or `imagenet`.
pub fn open(kind: Option<&str>, path: &Path) -> Result<(Dataset, Option<Dataset>)> {
    let expected = PUBLISHED.iter().find(|(name, _)| Some(*name) == kind);
    let refuse = |found: &str| {
        let (name, files) = expected.copied().unwrap_or(("", ""));
        Error::data(path, format!("{found}; of {name} is expected: {files}"))
    };
    let found = open_any(path)?;
    match (expected, found) {
        (Some(_), None) => Err(refuse("no such data set")),
        (None, None) => Ok((folder::open(path)?, None)),
        (Some(("imagenet", _)), Some((training, _))) if training.kind != FOLDER => Err(refuse(training.kind)),
        (Some((name, _)), Some((training, _))) if *name != "imagenet" && training.kind != format!("{name}-train") => {
            Err(refuse(training.kind))
        }
        (_, Some((training, validation))) => Ok((training, Some(validation))),
    }
}

/// What a folder with one folder a class is.
const FOLDER: &str = "image-folder";

/// Both sets, where both are there.
fn open_any(path: &Path) -> Result<Option<(Dataset, Dataset)>> {
    if path == Path::new("digits") {
        return Ok(Some((digits::training()?, digits::validation()?)));
    }
    std::fs::metadata(path).map_err(Error::io("read", path))?;
    if path.is_file() && path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("t7")) {
        return cifar::open_t7_pair(path).map(Some);
    }
    if !path.is_dir() {
        let reason = "not a folder; to train, a folder with train and val inside, one with a folder a class, CIFAR's or SVHN's \
                      folder, or `digits` is expected";
        return Err(Error::data(path, reason));
    }
    if let Some(pair) = cifar::open_pair(path)? {
        return Ok(Some(pair));
    }
    if let Some(pair) = svhn::open_pair(path)? {
        return Ok(Some(pair));
    }
    let inside = |names: &[&str]| names.iter().map(|name| path.join(name)).find(|path| path.exists());
    match (inside(&TRAINING), inside(&VALIDATION)) {
        (Some(training), Some(validation)) => folders(&training, &validation).map(Some),
        _ => Ok(None),
    }
}

fn folders(training: &Path, validation: &Path) -> Result<(Dataset, Dataset)> {
    let training = folder::open(training)?;
    let mut images = Dataset::open(&validation.display().to_string(), &LabelSet::Original)?;
    // ImageNet's own validation set counts classes by WordNet id.
    let own = if images.classes.is_empty() { labels::imagenet_ids() } else { std::mem::take(&mut images.classes) };
    for sample in &mut images.samples {
        for label in &mut sample.labels {
            let name = own.get(*label).map_or("", String::as_str);
            let class = training.classes.iter().position(|class| class == name);
            *label = class
                .ok_or_else(|| Error::data(validation, format!("class {name:?} is not among the training images")))?;
        }
    }
    images.classes.clone_from(&training.classes);
    Ok((training, images))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        root
    }

    fn labels(dataset: &Dataset) -> Vec<usize> {
        dataset.samples.iter().map(|sample| sample.labels[0]).collect()
    }

    #[test]
    fn validation_folders_count_classes_as_the_training_ones_do() {
        let root =
            tree(&["train/ant/1.png", "train/bee/1.png", "train/cow/1.png", "valid/cow/2.png", "valid/ant/2.png"]);
        let (training, validation) = open(None, root.path()).unwrap();
        let validation = validation.unwrap();
        assert_eq!((labels(&training), labels(&validation)), (vec![0, 1, 2], vec![0, 2]));
        assert_eq!(validation.classes, ["ant", "bee", "cow"]);
        std::fs::create_dir(root.path().join("valid/dog")).unwrap();
        let error = open(None, root.path()).unwrap_err().to_string();
        assert!(error.ends_with("valid: class \"dog\" is not among the training images"), "{error}");
    }

    #[test]
    fn imagenet_s_flat_validation_set_is_counted_by_wordnet_id() {
        // ILSVRC2012_val_00000001 is of class 65, n01751748; 00000003 of 230, n02105855.
        let root = tree(&[
            "train/n01751748/a.JPEG",
            "train/n02105855/b.JPEG",
            "val/ILSVRC2012_val_00000001.JPEG",
            "val/ILSVRC2012_val_00000003.JPEG",
        ]);
        let (_, validation) = open(Some("imagenet"), root.path()).unwrap();
        assert_eq!(labels(&validation.unwrap()), [0, 1]);
        let error = open(Some("svhn"), root.path()).unwrap_err().to_string();
        assert!(error.contains("image-folder; of svhn is expected: train_32x32.mat and test_32x32.mat"), "{error}");
    }

    #[test]
    fn a_folder_of_classes_has_no_validation_images_of_its_own() {
        let root = tree(&["bus/1.png", "train/1.png"]);
        let (training, validation) = open(None, root.path()).unwrap();
        assert_eq!((labels(&training), validation.is_none()), (vec![0, 1], true));
        let error = open(Some("cifar10"), root.path()).unwrap_err().to_string();
        assert!(error.contains("no such data set; of cifar10 is expected: cifar-10-batches-bin or"), "{error}");
        let error = open(None, &root.path().join("none")).unwrap_err().to_string();
        assert!(error.ends_with("none: cannot read: No such file or directory (os error 2)"), "{error}");
        assert!(open(None, &root.path().join("bus/1.png")).unwrap_err().to_string().contains("not a folder"));
        let (training, validation) = open(None, Path::new("digits")).unwrap();
        assert_eq!((training.samples.len(), validation.unwrap().samples.len()), (1437, 360));
    }
}
