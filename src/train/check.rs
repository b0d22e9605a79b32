//! What stands in the way of a training, found before its first step.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::labelled::{Labelled, Targets};
use crate::data::Image;
use crate::data::loader::each_batch;
use crate::data::transform::Transform;
use crate::error::{Error, Result};

/// How many are named of many.
const NAMED: usize = 5;

/// Looks at the labels for a network of so many outputs. Gives notes on what may be meant, and may be not: classes without
/// validation images.
///
/// # Errors
///
/// No images; one class only; a class, or a finding, without training images; a label that the network has no output for.
pub fn check(training: &Labelled, validation: &Labelled, outputs: usize) -> Result<Vec<String>> {
    let refuse = |reason: String| Err(Error::Usage(reason));
    for (labelled, part) in [(training, "train on"), (validation, "validate by")] {
        if labelled.is_empty() {
            return refuse(format!("no images to {part}"));
        }
        if labelled.classes() > outputs {
            let name = labelled.name(outputs);
            return refuse(format!(
                "the data have {name:?} as class {outputs}, from 0, and the network {outputs} outputs"
            ));
        }
    }
    let (learnt, measured) = (training.counts(), validation.counts());
    let has = |counts: &[super::Count], class: usize| counts.get(class).is_some_and(|count| count.positives > 0);
    let findings = matches!(training.targets, Targets::Findings(_));
    if let (false, [_]) = (findings, &learnt[..]) {
        return refuse(format!("all images are of one class, {:?}; there is nothing to learn", training.name(0)));
    }
    training.check_folders()?;
    if let Some(class) = (0..training.classes()).find(|&class| !has(&learnt, class)) {
        return refuse(format!("no image to train on has class {:?}", training.name(class)));
    }
    if let Some(class) = (0..training.classes()).find(|&class| findings && learnt[class].negatives == 0) {
        return refuse(format!("no image to train on is known to be without {:?}", training.name(class)));
    }
    if let Some(class) = (0..validation.classes()).find(|&class| has(&measured, class) && !has(&learnt, class)) {
        return refuse(format!(
            "no image to train on has class {:?}, which validation images have",
            validation.name(class)
        ));
    }
    let mut notes = Vec::new();
    let unseen: Vec<_> = (0..training.classes()).filter(|&class| !has(&measured, class)).collect();
    if !unseen.is_empty() {
        let names = some(unseen.iter().map(|&class| training.name(class)));
        notes.push(format!("no validation image has {names}: how well that is learnt is not measured"));
    }
    let both = |count: &super::Count| count.positives > 0 && count.negatives > 0;
    if findings && !measured.iter().any(both) {
        return refuse(
            "no finding is both present and absent among the validation images; nothing can be measured".into(),
        );
    }
    Ok(notes)
}

/// The first few of many.
fn some(mut names: impl Iterator<Item = String>) -> String {
    let mut first: Vec<_> = names.by_ref().take(NAMED).collect();
    let rest = names.count();
    if rest > 0 {
        first.push(format!("and {rest} more"));
    }
    first.join(", ")
}

/// Validation images that are training images too, by their bytes. Files of a size that the other side does not have are
/// not read.
///
/// # Errors
///
/// A file that cannot be read.
pub fn shared(training: &Labelled, validation: &Labelled) -> Result<Option<String>> {
    let files = |labelled: &Labelled| -> Result<Vec<(u64, std::path::PathBuf)>> {
        let paths = labelled.dataset.samples.iter().filter_map(|sample| match &sample.image {
            Image::File(path) => Some(path),
            _ => None,
        });
        let size = |path: &Path| std::fs::metadata(path).map(|found| found.len()).map_err(Error::io("read", path));
        paths.map(|path| Ok((size(path)?, path.clone()))).collect()
    };
    let digest = |path: &Path| {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        Ok::<_, Error>(densenet_converters::sha256(&bytes))
    };
    let (ours, theirs) = (files(training)?, files(validation)?);
    let sizes: HashSet<u64> = theirs.iter().map(|(size, _)| *size).collect();
    let mut known = HashMap::new();
    for (size, path) in ours.iter().filter(|(size, _)| sizes.contains(size)) {
        known.entry((*size, digest(path)?)).or_insert(path);
    }
    let sizes: HashSet<u64> = known.keys().map(|(size, _)| *size).collect();
    let mut both = Vec::new();
    for (size, path) in theirs.iter().filter(|(size, _)| *size > 0 && sizes.contains(size)) {
        if let Some(first) = known.get(&(*size, digest(path)?)) {
            both.push(format!("{} = {}", first.display(), path.display()));
        }
    }
    Ok((!both.is_empty()).then(|| {
        let count = both.len();
        format!("validation images that are training images too, byte by byte ({count}): {}", some(both.into_iter()))
    }))
}

/// Decodes every image once, as the network will be shown it. `progress` is told of images done.
///
/// # Errors
///
/// Images that cannot be read: the first few by name, and how many.
pub fn check_images(
    labelled: &Labelled,
    transform: &Transform,
    threads: usize,
    mut progress: impl FnMut(usize),
) -> Result<()> {
    let samples = &labelled.dataset.samples;
    let mut bad: Vec<(usize, Error)> = Vec::new();
    // Those in memory were decoded when they were read.
    if samples.iter().all(|sample| matches!(sample.image, Image::Pixels(_))) {
        progress(samples.len());
        return Ok(());
    }
    each_batch(samples, transform, 1, threads, |batch| {
        bad.append(&mut batch.bad);
        progress(batch.len);
        Ok(())
    })?;
    if bad.is_empty() {
        return Ok(());
    }
    let (first, error) = bad.remove(0);
    let why = match error {
        Error::Data { reason, .. } => reason,
        other => other.to_string(),
    };
    let (count, names) = (bad.len(), some(bad.iter().map(|(image, _)| samples[*image].id.clone())));
    let others = if count == 0 { String::new() } else { format!("; {count} more cannot be read: {names}") };
    Err(Error::data(Path::new(&samples[first].id), why + &others))
}

#[cfg(test)]
mod tests {
    use densenet_arch::Protocol;

    use super::super::labelled::tests::{classes, findings};
    use super::*;
    use crate::data::folder;

    fn animals() -> Labelled {
        classes(&["ant", "bee", "cow"], &[0, 1, 2])
    }

    /// The same as images in memory, of which no file is looked at.
    fn checked(training: &Labelled, validation: &Labelled, outputs: usize) -> Result<Vec<String>, String> {
        let in_memory = |labelled: &Labelled| {
            let mut labelled = labelled.clone();
            for sample in &mut labelled.dataset.samples {
                let part =
                    Image::Part { file: std::path::Path::new("x").into(), name: String::new(), offset: 0, len: 0 };
                sample.image = part;
            }
            labelled
        };
        check(&in_memory(training), &in_memory(validation), outputs).map_err(|error| error.to_string())
    }

    #[test]
    fn labels_that_cannot_be_learnt_are_named() {
        let all = ["ant", "bee", "cow"];
        assert_eq!(checked(&animals(), &animals(), 3), Ok(Vec::new()));
        for (training, validation, message) in [
            (classes(&all, &[0, 2]), animals(), "no image to train on has class \"bee\""),
            (
                classes(&["ant"], &[0, 0]),
                classes(&["ant"], &[0]),
                "all images are of one class, \"ant\"; there is nothing to learn",
            ),
            (
                classes(&[], &[0, 1]),
                classes(&[], &[2]),
                "no image to train on has class \"class 2\", which validation images have",
            ),
            (
                classes(&[], &[0, 1, 2, 3]),
                animals(),
                "the data have \"class 3\" as class 3, from 0, and the network 3 outputs",
            ),
            (animals(), classes(&all, &[]), "no images to validate by"),
            (
                findings(&["edema", "mass"], &[1.0, 0.0]),
                findings(&["edema", "mass"], &[1.0, 1.0]),
                "no image to train on has class \"mass\"",
            ),
            (
                findings(&["edema", "mass"], &[1.0, 1.0, f32::NAN, 0.0]),
                findings(&["edema", "mass"], &[1.0, 1.0]),
                "no image to train on is known to be without \"edema\"",
            ),
        ] {
            assert_eq!(checked(&training, &validation, 3), Err(message.to_owned()));
        }
        let notes = checked(&animals(), &classes(&all, &[0]), 3).unwrap();
        assert_eq!(notes, ["no validation image has bee, cow: how well that is learnt is not measured"]);
    }

    /// A folder of classes with these files.
    fn images(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Labelled) {
        let root = tempfile::tempdir().unwrap();
        for (file, bytes) in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let labelled = folder::open(root.path()).unwrap().into();
        (root, labelled)
    }

    #[test]
    fn an_empty_class_and_an_image_on_both_sides_are_named() {
        let (_training, training) = images(&[("ant/1.png", b"one"), ("bee/1.png", b"two"), ("bee/2.png", b"three")]);
        let (_validation, validation) = images(&[("ant/9.png", b"six"), ("bee/9.png", b"three")]);
        assert_eq!(check(&training, &validation, 2).unwrap(), Vec::<String>::new());
        let note = shared(&training, &validation).unwrap().unwrap();
        assert!(note.starts_with("validation images that are training images too, byte by byte (1): "), "{note}");
        assert!(note.contains("bee/2.png = ") && note.ends_with("bee/9.png"), "{note}");
        let (root, _) = images(&[("ant/1.png", b"one")]);
        std::fs::create_dir(root.path().join("bee")).unwrap();
        let empty = folder::open(root.path()).unwrap().into();
        let error = check(&empty, &validation, 2).unwrap_err().to_string();
        assert!(
            error.ends_with("bee: this class has no images (jpg, jpeg, png, ppm, bmp, pgm, tif, tiff, webp)"),
            "{error}"
        );
    }

    #[test]
    fn images_that_cannot_be_read_are_named_and_counted() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/preproc");
        let (good, jpeg) =
            (std::fs::read(fixtures.join("gray8.png")).unwrap(), std::fs::read(fixtures.join("gray.jpg")).unwrap());
        let transform = Transform::new(&Protocol::named("pil-bilinear").unwrap(), 3).unwrap();
        let (_root, one) = images(&[("ant/good.png", &good), ("ant/short.jpg", &jpeg[..jpeg.len() / 2])]);
        let mut seen = 0;
        let error = check_images(&one, &transform, 2, |images| seen += images).unwrap_err().to_string();
        assert!(error.ends_with("short.jpg: the JPEG is truncated") && seen == 2, "{error}");
        let (_root, many) = images(&[
            ("ant/0.png", b""),
            ("ant/1.png", b"text"),
            ("ant/2.png", &good[..99]),
            ("ant/3.png", &good),
            ("ant/4.png", b""),
            ("ant/5.png", b""),
            ("ant/6.png", b""),
            ("ant/7.png", b""),
        ]);
        let error = check_images(&many, &transform, 2, drop).unwrap_err().to_string();
        let (first, others) = error.split_once("; 6 more cannot be read: ").unwrap();
        assert!(first.contains("ant/0.png: not an image: "), "{error}");
        assert!(others.contains("ant/1.png") && others.ends_with("ant/6.png, and 1 more"), "{error}");
    }
}
