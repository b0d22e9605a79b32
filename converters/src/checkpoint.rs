//! A file of any format, parsed: its tensors under their own names.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;

use crate::alloc::Budget;
use crate::error::Error;
use crate::pickle::PickleName;
use crate::source::Source;
use crate::tensor::Tensor;
use crate::{caffe, keras, mxnet, npz, onnx, pytorch, safetensors, t7, zip};

/// The formats that are read, told apart by looking into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Torch7's object file.
    Torch7,
    /// `torch.save` since 1.6.
    PytorchZip,
    /// `torch.save` before 1.6.
    PytorchLegacy,
    /// `torch.save` of torch 0.1.
    PytorchTar,
    /// `torch.jit.save`.
    TorchScript,
    /// A pickle of tensors or NumPy arrays, without torch's own container.
    Pickle,
    /// safetensors.
    Safetensors,
    /// `.caffemodel`.
    Caffe,
    /// `.onnx`.
    Onnx,
    /// `.params`.
    Mxnet,
    /// `.h5`, `.weights.h5`.
    Keras,
    /// `.keras`.
    KerasZip,
    /// NumPy's `.npz`.
    Npz,
}

impl Format {
    /// Its name in metadata and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Torch7 => "torch7",
            Self::PytorchZip => "pytorch-zip",
            Self::PytorchLegacy => "pytorch-legacy",
            Self::PytorchTar => "pytorch-tar",
            Self::TorchScript => "torchscript",
            Self::Pickle => "pickle",
            Self::Safetensors => "safetensors",
            Self::Caffe => "caffe",
            Self::Onnx => "onnx",
            Self::Mxnet => "mxnet",
            Self::Keras => "keras",
            Self::KerasZip => "keras-zip",
            Self::Npz => "npz",
        }
    }
}

/// A tensor under the name that its file gives it.
#[derive(Clone, Debug)]
pub struct NamedTensor<'a> {
    /// The name; for nested files the path, joined by dots.
    pub name: String,
    /// The view.
    pub tensor: Tensor<'a>,
}

/// A part of a file, as `inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its key in the part that holds it.
    pub name: String,
    /// What it is: a class, a type with its shape, a plain value.
    pub text: String,
    /// What it holds.
    pub children: Vec<Node>,
}

/// A parsed file.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    pub(crate) content: Content<'a>,
    tensors: Vec<NamedTensor<'a>>,
    eps: Vec<(String, f64)>,
    len: usize,
}

#[derive(Debug)]
pub(crate) enum Content<'a> {
    Torch7(t7::File<'a>),
    Pytorch(Format, pytorch::File<'a>),
    Safetensors(BTreeMap<String, String>),
    Caffe(caffe::File),
    Onnx(onnx::File),
    Mxnet(mxnet::File),
    Keras(Format, keras::File),
    Npz,
}

/// Tells the format by the file's first bytes. What a legacy stream or a zip holds shows later.
pub fn detect(bytes: &[u8]) -> Result<Format, Error> {
    let text = bytes.iter().take(512).all(|&byte| matches!(byte, 9..=13 | 32..=126 | 128..));
    let start = bytes.trim_ascii_start();
    let starts = |prefix: &[u8]| start.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    if bytes.is_empty() {
        Err(Error::Unrecognised("the file is empty"))
    } else if zip::looks_like(bytes) {
        Ok(Format::PytorchZip)
    } else if safetensors::looks_like(bytes) {
        Ok(Format::Safetensors)
    } else if keras::hdf5::looks_like(bytes) {
        Ok(Format::Keras)
    } else if mxnet::looks_like(bytes) {
        Ok(Format::Mxnet)
    } else if t7::looks_like(bytes) {
        Ok(Format::Torch7)
    } else if pytorch::looks_like_tar(bytes) {
        Ok(Format::PytorchTar)
    } else if pytorch::looks_like_pickle(bytes) {
        Ok(Format::PytorchLegacy)
    } else if starts(b"<!doctype html") || starts(b"<html") {
        Err(Error::Unrecognised("this is a web page; the download went wrong"))
    } else if starts(b"version https://git-lfs") {
        Err(Error::Unrecognised("this is a Git LFS pointer; `git lfs pull` brings the file itself"))
    } else if bytes.starts_with(&[0x1f, 0x8b]) {
        Err(Error::Unrecognised("this is gzip; unpack it first"))
    } else if onnx::looks_like(bytes) {
        Ok(Format::Onnx)
    } else if caffe::looks_like(bytes) {
        Ok(Format::Caffe)
    } else if text {
        Err(Error::Unrecognised("this is text"))
    } else {
        Err(Error::Unrecognised("its first bytes are those of no format that is read"))
    }
}

/// The files beside one called `file` that belong to it, if they are there: those that an ONNX model keeps its tensors in, the
/// symbol of MXNet's.
pub fn neighbours(bytes: &[u8], file: &str) -> Result<Vec<String>, Error> {
    match detect(bytes) {
        Ok(Format::Onnx) => onnx::external_files(bytes),
        Ok(Format::Mxnet) => Ok(mxnet::symbol_file(file).into_iter().collect()),
        _ => Ok(Vec::new()),
    }
}

/// A file that is deflated in a zip around it, as releases on the web are packed.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a>(zip::Entry<'a>);

impl Packed<'_> {
    /// Bytes that it inflates to, as is announced.
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// Writes what it inflates to, piece by piece, for [`Source::with_member`]: where memory is dear, to a file.
    pub fn inflate(&self, out: &mut dyn Write) -> Result<(), Error> {
        self.0.inflate(out)
    }
}

/// The checkpoint that these bytes are a zip around, where it is deflated and has at most `most` bytes.
pub fn packed(bytes: &[u8], most: usize) -> Result<Option<Packed<'_>>, Error> {
    if !zip::looks_like(bytes) {
        return Ok(None);
    }
    Ok(pytorch::packed(bytes, most)?.filter(zip::Entry::is_deflated).map(Packed))
}

/// The file, or the one checkpoint in a zip around it; whether that was inflated.
fn unpacked<'a>(source: &'a Source) -> Result<(&'a [u8], bool), Error> {
    let bytes = source.bytes();
    if let Some(member) = source.member() {
        return Ok((member, true));
    }
    if !zip::looks_like(bytes) {
        return Ok((bytes, false));
    }
    let Some(entry) = pytorch::packed(bytes, zip::most_inflated(bytes))? else { return Ok((bytes, false)) };
    Ok(match entry.stored(source.release())? {
        Some(inner) => (inner, false),
        None => (source.keep_file(entry.content()?.into_owned()), true),
    })
}

/// The one file in a zip around a checkpoint, where the source is such a zip.
pub fn member<'a>(source: &'a Source) -> Result<Option<&'a [u8]>, Error> {
    let bytes = source.bytes();
    let (inner, _) = unpacked(source)?;
    Ok((inner.as_ptr_range() != bytes.as_ptr_range()).then_some(inner))
}

/// Parses a file of any known format. Nothing in it is executed.
pub fn read<'a>(source: &'a Source) -> Result<Checkpoint<'a>, Error> {
    let mut budget = Budget::new(source.bytes().len());
    let (bytes, packed) = unpacked(source)?;
    let of_pytorch = |(format, file): (Format, pytorch::File<'a>), budget: &mut Budget| {
        let contents = file.contents(budget)?;
        Ok::<_, Error>((Content::Pytorch(format, file), contents.tensors, contents.eps))
    };
    let (content, tensors, eps) = match detect(bytes)? {
        Format::PytorchZip | Format::KerasZip if zip::has(bytes, keras::WEIGHTS) => {
            let (file, tensors) = keras::read_zip(source, bytes, packed, &mut budget)?;
            (Content::Keras(Format::KerasZip, file), tensors, Vec::new())
        }
        Format::PytorchZip | Format::Npz if npz::looks_like(bytes) => {
            (Content::Npz, npz::read(bytes, packed, &mut budget)?, Vec::new())
        }
        Format::Keras => {
            let (file, tensors) = keras::read(bytes, None, &mut budget)?;
            (Content::Keras(Format::Keras, file), tensors, Vec::new())
        }
        Format::PytorchZip | Format::KerasZip | Format::Npz => {
            of_pytorch(pytorch::read_archive(source, bytes, packed, &mut budget)?, &mut budget)?
        }
        Format::PytorchTar => of_pytorch(pytorch::read_tar(bytes, &mut budget)?, &mut budget)?,
        Format::PytorchLegacy | Format::TorchScript | Format::Pickle => {
            of_pytorch(pytorch::read_legacy(bytes, &mut budget, false)?, &mut budget)?
        }
        Format::Torch7 => {
            let file = t7::read_within(bytes, &mut budget, source.release())?;
            let found = file.tensors(&mut budget)?;
            let tensors = found.into_iter().map(|found| (found.path, found.tensor.clone())).collect();
            (Content::Torch7(file), tensors, Vec::new())
        }
        Format::Safetensors => {
            let (metadata, tensors) = safetensors::read(bytes, &mut budget)?;
            (Content::Safetensors(metadata), tensors, Vec::new())
        }
        Format::Caffe => {
            let (file, tensors) = caffe::read(bytes, &mut budget)?;
            (Content::Caffe(file), tensors, Vec::new())
        }
        Format::Onnx => {
            let (file, tensors) = onnx::read(source, bytes, &mut budget)?;
            (Content::Onnx(file), tensors, Vec::new())
        }
        Format::Mxnet => {
            let (file, tensors) = mxnet::read(source, bytes, &mut budget)?;
            (Content::Mxnet(file), tensors, Vec::new())
        }
    };
    let checkpoint = Checkpoint {
        content,
        tensors: tensors.into_iter().map(|(name, tensor)| NamedTensor { name, tensor }).collect(),
        eps,
        len: bytes.len(),
    };
    checkpoint.names_are_sound()?;
    // Views may repeat a storage, each within reason; all of them together have to stay so too.
    let total = checkpoint.tensors.iter().try_fold(0, |all: usize, named| all.checked_add(named.tensor.byte_len()));
    let all = bytes.len().saturating_add(source.len_beside());
    if total.is_none_or(|total| total > all.saturating_mul(16).saturating_add(64 << 20)) {
        let format = checkpoint.format().name();
        let reason = "its tensors repeat their storages into far more bytes than the file has; refused".to_owned();
        return Err(Error::Malformed { format, offset: 0, reason });
    }
    Ok(checkpoint)
}

impl<'a> Checkpoint<'a> {
    /// The format that it was read as.
    pub fn format(&self) -> Format {
        match &self.content {
            Content::Torch7(_) => Format::Torch7,
            Content::Pytorch(format, _) | Content::Keras(format, _) => *format,
            Content::Npz => Format::Npz,
            Content::Safetensors(_) => Format::Safetensors,
            Content::Caffe(_) => Format::Caffe,
            Content::Onnx(_) => Format::Onnx,
            Content::Mxnet(_) => Format::Mxnet,
        }
    }

    /// A name longer than this is none.
    const LONGEST_NAME: usize = 1024;

    fn names_are_sound(&self) -> Result<(), Error> {
        let mut seen = HashSet::new();
        for NamedTensor { name, .. } in &self.tensors {
            let reason = match name.len() {
                len if len > Self::LONGEST_NAME => format!("its name has {len} bytes"),
                _ if !seen.insert(name.as_str()) => "it comes twice".to_owned(),
                _ => continue,
            };
            return Err(Error::Tensor { format: self.format().name(), offset: 0, tensor: name.clone(), reason });
        }
        Ok(())
    }

    /// Refuses a file without tensors, from which there is nothing to convert.
    pub(crate) fn has_tensors(&self) -> Result<(), Error> {
        if self.tensors.is_empty() {
            return Err(Error::Empty { format: self.format().name(), len: self.len });
        }
        Ok(())
    }

    /// Every tensor, once, in a fixed order.
    pub fn tensors(&self) -> &[NamedTensor<'a>] {
        &self.tensors
    }

    /// All that a pickle names, harmless or a module's class; nothing in other formats.
    pub fn names(&self) -> &[PickleName] {
        match &self.content {
            Content::Pytorch(_, file) => file.names(),
            _ => &[],
        }
    }

    /// The eps of modules that say theirs, by their paths.
    pub(crate) fn eps(&self) -> impl Iterator<Item = (&str, f64)> {
        self.eps.iter().map(|(path, eps)| (path.as_str(), *eps))
    }

    /// The `__metadata__` of a safetensors header, the metadata of an ONNX model; nothing in other formats.
    pub fn metadata(&self) -> Option<&BTreeMap<String, String>> {
        match &self.content {
            Content::Safetensors(metadata) => Some(metadata),
            Content::Onnx(file) => Some(&file.metadata),
            _ => None,
        }
    }

    /// Every tensor, for people.
    fn list(&self) -> impl Iterator<Item = Node> {
        let tensors = self.tensors.iter();
        tensors.map(|t| Node { name: t.name.clone(), text: t.tensor.describe(), children: Vec::new() })
    }

    /// What the file holds: modules of a `.t7`, dictionaries of a `.pth`, tensors of a safetensors file.
    pub fn tree(&self) -> Vec<Node> {
        match &self.content {
            Content::Torch7(file) => file.tree(),
            Content::Pytorch(_, file) => file.tree(),
            Content::Caffe(file) => file.tree(),
            Content::Onnx(file) => file.tree(),
            Content::Mxnet(file) => self.list().chain(file.tree()).collect(),
            Content::Keras(_, file) => file.tree(self.list()),
            Content::Safetensors(_) | Content::Npz => self.list().collect(),
        }
    }
}
