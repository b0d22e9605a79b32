//! The validation set of ILSVRC2012 as it was published: a flat folder of images, or the tar they came in.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use flate2::read::GzDecoder;

use super::{Dataset, Image, Sample, devkit};
use crate::error::{Error, Result};

/// Class of ILSVRC2012_val_00000001 and on, in the order of sorted WordNet ids.
static VAL: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let text = GzDecoder::new(&include_bytes!("imagenet_val_labels.txt.gz")[..]);
    BufReader::new(text).lines().map_while(Result::<_, _>::ok).filter_map(|line| line.trim().parse().ok()).collect()
});

/// The reassessed labels of Beyer et al., "Are we done with ImageNet?" (2020): any of a list is right; where it is empty the
/// image is left out.
static REAL: LazyLock<Vec<Vec<usize>>> = LazyLock::new(|| {
    serde_json::from_reader(GzDecoder::new(&include_bytes!("imagenet_real_labels.json.gz")[..])).unwrap_or_default()
});

/// Which labels the validation images are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LabelSet {
    /// Those that the challenge published.
    #[default]
    Original,
    /// The reassessed ones, ReaL.
    Real,
    /// The class of each image, in their order: of a development kit.
    Listed(Vec<usize>),
}

impl LabelSet {
    /// `original`, `real`, or the ILSVRC2012 development kit: its folder, or its ground truth file.
    pub fn open(name: &str) -> Result<Self> {
        match name {
            "original" => Ok(Self::Original),
            "real" => Ok(Self::Real),
            path if Path::new(path).exists() => devkit::read(Path::new(path)).map(Self::Listed),
            _ => Err(Error::Usage(format!(
                "--labels {name}: original, real, or the path of a development kit or its ground truth file is expected"
            ))),
        }
    }

    /// What the data is called with these labels.
    fn kind(&self) -> &'static str {
        match self {
            Self::Original => "imagenet-val",
            Self::Real => "imagenet-val-real",
            Self::Listed(_) => "imagenet-val-devkit",
        }
    }
}

/// The number of a validation image, from 1: `ILSVRC2012_val_00000293.JPEG`.
fn number(name: &str) -> Option<usize> {
    let stem = name.rsplit('/').next()?.strip_prefix("ILSVRC2012_val_")?;
    let (digits, ending) = stem.split_once('.')?;
    let number = digits.parse().ok().filter(|number| (1..=VAL.len()).contains(number))?;
    (digits.len() == 8 && ending.eq_ignore_ascii_case("jpeg")).then_some(number)
}

/// The labels of an image by its number; `None` where it is left out.
fn labels(number: usize, set: &LabelSet) -> Option<Vec<usize>> {
    match set {
        LabelSet::Original => VAL.get(number - 1).map(|&label| vec![label]),
        LabelSet::Real => REAL.get(number - 1).filter(|labels| !labels.is_empty()).cloned(),
        LabelSet::Listed(labels) => labels.get(number - 1).map(|&label| vec![label]),
    }
}

/// Gives a data set's images, known by their names, other labels; those without any are left out.
pub(super) fn relabel(dataset: &mut Dataset, set: &LabelSet, path: &Path) -> Result<()> {
    if *set == LabelSet::Original {
        return Ok(());
    }
    let mut samples = Vec::new();
    for sample in dataset.samples.drain(..) {
        let number = number(&sample.id.replace('\\', "/"))
            .ok_or_else(|| Error::data(path, format!("{}: --labels knows ILSVRC2012_val_*.JPEG only", sample.id)))?;
        if let LabelSet::Listed(labels) = set
            && number > labels.len()
        {
            let reason = format!("{}: the ground truth ends with image {}", sample.id, labels.len());
            return Err(Error::data(path, reason));
        }
        samples.extend(labels(number, set).map(|labels| Sample { labels, ..sample }));
    }
    dataset.samples = samples;
    // They count classes as the network does.
    dataset.classes = Vec::new();
    dataset.kind = set.kind();
    Ok(())
}

/// The flat folder, if it is one.
pub(super) fn open_flat(folder: &Path) -> Result<Option<Dataset>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        if let Some(number) = entry.file_name().to_str().and_then(number) {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    let samples = found.into_iter().filter_map(|(number, path)| {
        let labels = labels(number, &LabelSet::Original)?;
        Some(Sample { id: path.display().to_string(), labels, image: Image::File(path) })
    });
    let samples: Vec<_> = samples.collect();
    Ok((!samples.is_empty()).then_some(Dataset { kind: "imagenet-val", samples, classes: Vec::new() }))
}

/// The tar, untouched: its headers are read, the images stay where they are.
pub(super) fn open_tar(path: &Path) -> Result<Dataset> {
    const BLOCK: u64 = 512;
    let file = File::open(path).map_err(Error::io("read", path))?;
    let mut reader = BufReader::new(file);
    let archive: Arc<Path> = path.into();
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let mut header = [0; BLOCK as usize];
        match reader.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(Error::io("read", path)(error)),
        }
        at += BLOCK;
        // An empty block ends the archive.
        if header[0] == 0 {
            break;
        }
        let text = |range: std::ops::Range<usize>| {
            let field = header[range].split(|&byte| byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(field).trim().to_owned()
        };
        let size = u64::from_str_radix(&text(124..136), 8)
            .map_err(|_| Error::data(path, format!("byte {at}: no tar header where one is expected")))?;
        let name = text(0..100);
        if let Some(number) = number(&name) {
            found.push((number, name, at, size as usize));
        }
        let next = size.next_multiple_of(BLOCK);
        reader.seek_relative(next as i64).map_err(Error::io("read", path))?;
        at += next;
    }
    found.sort();
    let samples = found.into_iter().filter_map(|(number, id, offset, len)| {
        let labels = labels(number, &LabelSet::Original)?;
        let image = Image::Part { file: Arc::clone(&archive), name: id.clone(), offset, len };
        Some(Sample { id, labels, image })
    });
    let samples: Vec<_> = samples.collect();
    if samples.is_empty() {
        return Err(Error::data(path, "no ILSVRC2012_val_*.JPEG in it; a tar is read as the published validation set"));
    }
    Ok(Dataset { kind: "imagenet-val", samples, classes: Vec::new() })
}

/// The bytes of an image in an archive.
pub(super) fn part(file: &Path, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let mut archive = File::open(file)?;
    archive.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    archive.take(len as u64).read_to_end(&mut bytes)?;
    if bytes.len() == len { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_of_the_challenge_has_its_label() {
        assert_eq!(VAL.len(), 50_000);
        assert_eq!(VAL[..3], [65, 970, 230]);
        // 50 of each of 1000 classes.
        let mut counts = vec![0; 1000];
        VAL.iter().for_each(|&label| counts[label] += 1);
        assert!(counts.iter().all(|&count| count == 50));
        assert_eq!(REAL.len(), 50_000);
        assert_eq!(labels(1, &LabelSet::Real), None);
        assert_eq!(labels(2, &LabelSet::Real), Some(vec![970, 795]));
        // Beyer et al., section 4: 46,837 images keep a label.
        assert_eq!(REAL.iter().filter(|labels| !labels.is_empty()).count(), 46_837);
    }

    #[test]
    fn names_are_numbers() {
        assert_eq!(number("ILSVRC2012_val_00000293.JPEG"), Some(293));
        assert_eq!(number("val/ILSVRC2012_val_00050000.jpeg"), Some(50_000));
        for wrong in
            ["ILSVRC2012_val_00050001.JPEG", "ILSVRC2012_val_293.JPEG", "ILSVRC2012_val_00000000.JPEG", "x.JPEG"]
        {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
