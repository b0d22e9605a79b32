//! CIFAR-10 and CIFAR-100 as Krizhevsky distributes them: binary rows, or python batches; and the cache that Torch makes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use densenet_converters::{DType, Tensor, t7};
use serde_pickle::{DeOptions, HashableValue, Value};

use super::resize::Rgb8;
use super::{Dataset, Image, Sample};
use crate::error::{Error, Result};

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;

/// What the classes are called, those of CIFAR-10 and then those of CIFAR-100 (batches.meta.txt, fine_label_names.txt).
const NAMES: &str = include_str!("cifar_classes.txt");

/// One of the two sets.
struct Set {
    training: &'static str,
    test: &'static str,
    classes: usize,
}

const TEN: Set = Set { training: "cifar10-train", test: "cifar10-test", classes: 10 };
const HUNDRED: Set = Set { training: "cifar100-train", test: "cifar100-test", classes: 100 };

impl Set {
    fn names(&self) -> Vec<String> {
        let skip = if self.classes == TEN.classes { 0 } else { TEN.classes };
        NAMES.lines().skip(skip).take(self.classes).map(str::to_owned).collect()
    }
}

/// One of the four forms.
struct Form {
    /// The folder's name inside the archive.
    folder: &'static str,
    /// The files with the training images.
    training: &'static [&'static str],
    /// The file with the test images.
    test: &'static str,
    set: Set,
    read: fn(&Form, &[u8]) -> Result<Rows, String>,
    /// Bytes before the label in a binary row, or the key of the labels in a python batch.
    label: Label,
}

enum Label {
    Byte(usize),
    Key(&'static str),
}

/// Labels and pixel rows (red plane, green plane, blue plane).
type Rows = (Vec<usize>, Vec<u8>);

const FORMS: [Form; 4] = [
    Form {
        folder: "cifar-10-batches-bin",
        training: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
        test: "test_batch.bin",
        set: TEN,
        read: binary,
        label: Label::Byte(0),
    },
    Form {
        folder: "cifar-100-binary",
        training: &["train.bin"],
        test: "test.bin",
        set: HUNDRED,
        read: binary,
        label: Label::Byte(1),
    },
    Form {
        folder: "cifar-10-batches-py",
        training: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
        test: "test_batch",
        set: TEN,
        read: python,
        label: Label::Key("labels"),
    },
    Form {
        folder: "cifar-100-python",
        training: &["train"],
        test: "test",
        set: HUNDRED,
        read: python,
        label: Label::Key("fine_labels"),
    },
];

/// The form that a folder has (or the archive's own folder inside it), and where its files are.
fn find(root: &Path) -> Option<(&'static Form, PathBuf)> {
    FORMS.iter().find_map(|form| {
        let candidates = [root.to_owned(), root.join(form.folder)];
        candidates.into_iter().find(|folder| folder.join(form.test).is_file()).map(|folder| (form, folder))
    })
}

/// The test images, if the folder is a CIFAR one; `None` if it is not.
pub fn open(root: &Path) -> Result<Option<Dataset>> {
    find(root).map(|(form, folder)| load(form, form.set.test, &folder, &[form.test])).transpose()
}

/// The training and the test images, if the folder is a CIFAR one.
pub(super) fn open_pair(root: &Path) -> Result<Option<(Dataset, Dataset)>> {
    let Some((form, folder)) = find(root) else { return Ok(None) };
    let (training, test) =
        (load(form, form.set.training, &folder, form.training)?, load(form, form.set.test, &folder, &[form.test])?);
    Ok(Some(named(&form.set, training, test)))
}

/// With the classes' names. Evaluation leaves them out: networks call them otherwise, in the same order.
fn named(set: &Set, training: Dataset, test: Dataset) -> (Dataset, Dataset) {
    (Dataset { classes: set.names(), ..training }, Dataset { classes: set.names(), ..test })
}

fn load(form: &Form, kind: &'static str, folder: &Path, files: &[&str]) -> Result<Dataset> {
    let mut samples = Vec::new();
    for file in files {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let rows = (form.read)(form, &bytes).map_err(|reason| Error::data(&path, reason))?;
        append(form.set.classes, &rows, &path, &mut samples)?;
    }
    Ok(Dataset { kind, samples, classes: Vec::new() })
}

/// The test images of Torch's cache.
pub(super) fn open_t7(path: &Path) -> Result<Dataset> {
    read_t7(path, &["val"]).map(|(set, mut parts)| Dataset {
        kind: set.test,
        samples: parts.pop().unwrap_or_default(),
        classes: Vec::new(),
    })
}

/// The training and the test images of Torch's cache.
pub(super) fn open_t7_pair(path: &Path) -> Result<(Dataset, Dataset)> {
    let (set, mut parts) = read_t7(path, &["val", "train"])?;
    let mut next = |kind| Dataset { kind, samples: parts.pop().unwrap_or_default(), classes: Vec::new() };
    let (training, test) = (next(set.training), next(set.test));
    Ok(named(&set, training, test))
}

/// Parts of the cache that the original code makes: `{train = …, val = {data = N x 3 x 32 x 32 bytes, labels from 1}}`
/// (datasets/cifar10-gen.lua, cifar100-gen.lua).
fn read_t7(path: &Path, parts: &[&str]) -> Result<(Set, Vec<Vec<Sample>>)> {
    let bad = |reason: String| Error::data(path, reason);
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let file = t7::read(&bytes).map_err(|source| Error::Checkpoint { path: path.to_owned(), source })?;
    let root = file.roots().first().copied().unwrap_or(t7::Value::Nil);
    let rows = parts.iter().map(|part| {
        let tensor = |name: &str| file.tensor(file.field(file.field(root, part)?, name)?);
        let (Some(data), Some(labels)) = (tensor("data"), tensor("labels")) else {
            return Err(bad(format!("it has no {part}.data and {part}.labels; a cache of CIFAR is expected")));
        };
        rows_t7(data, labels).map_err(|reason| bad(format!("{part}.{reason}")))
    });
    let rows = rows.collect::<Result<Vec<Rows>>>()?;
    let most = rows.iter().flat_map(|(labels, _)| labels).max().copied().unwrap_or_default();
    let set = if most >= TEN.classes { HUNDRED } else { TEN };
    let samples = rows.iter().map(|rows| {
        let mut samples = Vec::new();
        append(set.classes, rows, path, &mut samples).map(|()| samples)
    });
    let samples = samples.collect::<Result<_>>()?;
    Ok((set, samples))
}

fn rows_t7(data: &Tensor, labels: &Tensor) -> Result<Rows, String> {
    let bytes_of = |tensor: &Tensor| tensor.to_bytes().map_err(|error| error.to_string());
    let labels: Vec<usize> = match labels.dtype() {
        DType::U8 => bytes_of(labels)?.into_iter().map(usize::from).collect(),
        DType::I64 => {
            let labels = labels.to_i64().map_err(|error| error.to_string())?;
            labels.into_iter().map(|label| usize::try_from(label).unwrap_or(0)).collect()
        }
        _ => {
            let labels = labels.to_f64().map_err(|error| error.to_string())?;
            labels.into_iter().map(|label| label as usize).collect()
        }
    };
    if data.shape() != [labels.len(), 3, SIDE, SIDE] || data.dtype() != DType::U8 {
        return Err("data is no array of N x 3 x 32 x 32 bytes for the N labels".into());
    }
    let labels = labels.into_iter().map(|label| label.checked_sub(1)).collect::<Option<_>>();
    Ok((labels.ok_or("labels do not count from 1")?, bytes_of(data)?))
}

/// Adds images of three planes each.
fn append(classes: usize, (labels, pixels): &Rows, path: &Path, samples: &mut Vec<Sample>) -> Result<()> {
    for (&label, planes) in labels.iter().zip(pixels.chunks_exact(PIXELS)) {
        let id = format!("image {}", samples.len());
        if label >= classes {
            return Err(Error::data(path, format!("{id} has label {label}; {classes} classes")));
        }
        let data = (0..SIDE * SIDE).flat_map(|at| [0, 1, 2].map(|plane| planes[plane * SIDE * SIDE + at])).collect();
        let image = Rgb8::new(SIDE, SIDE, data).map_err(|error| Error::data(path, error.to_string()))?;
        samples.push(Sample { id, labels: vec![label], image: Image::Pixels(image) });
    }
    Ok(())
}

fn binary(form: &Form, bytes: &[u8]) -> Result<Rows, String> {
    let Label::Byte(at) = form.label else { return Err("not a binary form".into()) };
    let row = at + 1 + PIXELS;
    if bytes.is_empty() || !bytes.len().is_multiple_of(row) {
        return Err(format!("{} bytes are no whole number of {row}-byte rows; the file is truncated", bytes.len()));
    }
    let rows = bytes.chunks_exact(row);
    Ok(rows.map(|row| (usize::from(row[at]), &row[at + 1..])).fold(Rows::default(), |mut all, (label, pixels)| {
        all.0.push(label);
        all.1.extend_from_slice(pixels);
        all
    }))
}

fn python(form: &Form, bytes: &[u8]) -> Result<Rows, String> {
    let Label::Key(key) = form.label else { return Err("not a python form".into()) };
    // The batches were pickled by Python 2: their strings are bytes, and decoding would spoil the pixels. numpy's array
    // comes out as the tuple that its __setstate__ takes.
    let options = DeOptions::new().replace_unresolved_globals();
    let value =
        serde_pickle::value_from_slice(bytes, options).map_err(|error| format!("not a python batch: {error}"))?;
    let Value::Dict(batch) = value else { return Err("not a python batch: no dictionary".into()) };
    let labels = match field(&batch, key) {
        Some(Value::List(labels)) => labels
            .iter()
            .map(|label| match label {
                Value::I64(label) => usize::try_from(*label).ok(),
                _ => None,
            })
            .collect::<Option<Vec<_>>>(),
        _ => None,
    };
    let labels = labels.ok_or_else(|| format!("its {key:?} is no list of numbers"))?;
    let pixels = match field(&batch, "data") {
        // (version, shape, type, column order, bytes)
        Some(Value::Tuple(state)) => match &state[..] {
            [_, Value::Tuple(shape), _, Value::Bool(false), Value::Bytes(pixels)]
                if shape[..] == [Value::I64(labels.len() as i64), Value::I64(PIXELS as i64)]
                    && pixels.len() == labels.len() * PIXELS =>
            {
                Some(pixels.clone())
            }
            _ => None,
        },
        _ => None,
    };
    let pixels = pixels.ok_or_else(|| format!("its \"data\" is no array of {} x {PIXELS} bytes", labels.len()))?;
    Ok((labels, pixels))
}

/// Keys are bytes from Python 2 and text from Python 3.
fn field<'a>(batch: &'a BTreeMap<HashableValue, Value>, key: &str) -> Option<&'a Value> {
    batch
        .get(&HashableValue::Bytes(key.as_bytes().to_vec()))
        .or_else(|| batch.get(&HashableValue::String(key.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torch_s_cache_holds_the_same_images() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch7/format/datasets");
        let dataset = open_t7(&folder.join("cifar10_cache.t7")).unwrap();
        assert_eq!((dataset.kind, dataset.samples.len()), ("cifar10-test", 2));
        assert!(open_t7(&folder.join("imagenet.t7")).unwrap_err().to_string().contains("val.data"));
        let (training, test) = open_t7_pair(&folder.join("cifar10_cache.t7")).unwrap();
        let labels = |set: &Dataset| set.samples.iter().map(|sample| sample.labels[0]).collect::<Vec<_>>();
        assert_eq!((training.kind, labels(&training), labels(&test)), ("cifar10-train", vec![3, 6, 9, 2], vec![3, 6]));
    }

    /// Two images: each plane constant, so a swapped plane or a shifted row shows.
    fn rows() -> Vec<u8> {
        let planes = |colours: [u8; 3]| colours.into_iter().flat_map(|colour| vec![colour; SIDE * SIDE]);
        planes([1, 2, 3]).chain(planes([250, 10, 255])).collect()
    }

    fn check(dataset: &Dataset, kind: &str) {
        assert_eq!(dataset.kind, kind);
        let shown: Vec<_> = dataset
            .samples
            .iter()
            .map(|sample| (sample.labels[0], sample.image.pixels().unwrap().data()[..4].to_vec()))
            .collect();
        assert_eq!(shown, [(3, vec![1, 2, 3, 1]), (8, vec![250, 10, 255, 250])]);
    }

    fn write(file: &str, bytes: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        root
    }

    #[test]
    fn binary_rows_of_both_sets() {
        let rows = rows();
        let (first, second) = rows.split_at(PIXELS);
        let ten = [&[3], first, &[8], second].concat();
        let root = write("cifar-10-batches-bin/test_batch.bin", &ten);
        check(&open(root.path()).unwrap().unwrap(), "cifar10-test");
        check(&open(&root.path().join("cifar-10-batches-bin")).unwrap().unwrap(), "cifar10-test");
        let hundred = [&[19, 3], first, &[0, 8], second].concat();
        check(&open(write("test.bin", &hundred).path()).unwrap().unwrap(), "cifar100-test");
    }

    #[test]
    fn truncated_and_mislabelled_files_are_refused() {
        let root = write("test_batch.bin", &rows());
        assert!(
            open(root.path()).unwrap_err().to_string().contains("6144 bytes are no whole number of 3073-byte rows")
        );
        let root = write("test_batch.bin", &[&[10], &rows()[..PIXELS]].concat());
        assert!(open(root.path()).unwrap_err().to_string().contains("image 0 has label 10; 10 classes"));
        let root = write("test_batch", b"\x80\x02}.");
        assert!(open(root.path()).unwrap_err().to_string().contains("its \"labels\" is no list of numbers"));
        let root = write("test_batch", b"ELF");
        assert!(open(root.path()).unwrap_err().to_string().contains("not a python batch"));
        assert!(open(tempfile::tempdir().unwrap().path()).unwrap().is_none());
    }

    /// The opcodes that Python 2's cPickle writes for a batch, in its order: `{'labels': [...], 'data': ndarray}`.
    fn python_2_batch(labels_key: &str) -> Vec<u8> {
        let mut pickle = b"\x80\x02}q\x01(U".to_vec();
        pickle.push(labels_key.len() as u8);
        pickle.extend(labels_key.as_bytes());
        pickle.extend(b"q\x02]q\x03(K\x03K\x08eU\x04dataq\x04");
        pickle.extend(b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07");
        pickle.extend(b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09");
        pickle.extend(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
        pickle.extend(((2 * PIXELS) as u32).to_le_bytes());
        pickle.extend(rows());
        pickle.extend(b"tbu.");
        pickle
    }

    #[test]
    fn python_2_batches_of_both_sets() {
        let root = write("cifar-10-batches-py/test_batch", &python_2_batch("labels"));
        check(&open(root.path()).unwrap().unwrap(), "cifar10-test");
        let root = write("cifar-100-python/test", &python_2_batch("fine_labels"));
        check(&open(root.path()).unwrap().unwrap(), "cifar100-test");
    }

    #[test]
    fn training_batches_come_in_order_with_the_names_of_the_classes() {
        let rows = rows();
        let row = |label: u8, image: usize| [&[label][..], &rows[image * PIXELS..][..PIXELS]].concat();
        let root = write("test_batch.bin", &row(8, 1));
        for (number, file) in FORMS[0].training.iter().enumerate() {
            std::fs::write(root.path().join(file), [row(number as u8, 0), row(9, 1)].concat()).unwrap();
        }
        let (training, test) = open_pair(root.path()).unwrap().unwrap();
        let labels: Vec<_> = training.samples.iter().map(|sample| sample.labels[0]).collect();
        assert_eq!(labels, [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]);
        assert_eq!(
            (training.kind, training.samples[9].id.as_str(), test.samples.len()),
            ("cifar10-train", "image 9", 1)
        );
        // batches.meta.txt
        assert_eq!((training.classes[0].as_str(), test.classes[9].as_str()), ("airplane", "truck"));
        let hundred = HUNDRED.names();
        // fine_label_names.txt
        assert_eq!((hundred[0].as_str(), hundred[99].as_str(), hundred.len()), ("apple", "worm", 100));
        std::fs::remove_file(root.path().join("data_batch_3.bin")).unwrap();
        assert!(open_pair(root.path()).unwrap_err().to_string().contains("data_batch_3.bin: cannot read"));
    }
}
