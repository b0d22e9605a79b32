//! A file of any format, parsed: its tensors under their own names.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::tensor::Tensor;
use crate::{pytorch, safetensors, t7, zip};

/// The formats that are read, told apart by looking into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Torch7's object file.
    Torch7,
    /// `torch.save` since 1.6.
    PytorchZip,
    /// `torch.save` before 1.6.
    PytorchLegacy,
    /// safetensors.
    Safetensors,
}

impl Format {
    /// Its name in metadata and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Torch7 => "torch7",
            Self::PytorchZip => "pytorch-zip",
            Self::PytorchLegacy => "pytorch-legacy",
            Self::Safetensors => "safetensors",
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
}

#[derive(Debug)]
pub(crate) enum Content<'a> {
    Torch7(t7::File<'a>),
    Pytorch(Format, pytorch::File<'a>),
    Safetensors(BTreeMap<String, String>),
}

/// Tells the format by the file's first bytes.
pub fn detect(bytes: &[u8]) -> Result<Format, Error> {
    let text = bytes.iter().take(512).all(|&byte| matches!(byte, 9..=13 | 32..=126 | 128..));
    let start = bytes.trim_ascii_start();
    let starts = |prefix: &[u8]| start.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    if bytes.is_empty() {
        Err(Error::Unrecognised("the file is empty"))
    } else if zip::looks_like(bytes) {
        Ok(Format::PytorchZip)
    } else if pytorch::looks_like_legacy(bytes) {
        Ok(Format::PytorchLegacy)
    } else if safetensors::looks_like(bytes) {
        Ok(Format::Safetensors)
    } else if t7::looks_like(bytes) {
        Ok(Format::Torch7)
    } else if starts(b"<!doctype html") || starts(b"<html") {
        Err(Error::Unrecognised("this is a web page; the download went wrong"))
    } else if starts(b"version https://git-lfs") {
        Err(Error::Unrecognised("this is a Git LFS pointer; `git lfs pull` brings the file itself"))
    } else if bytes.starts_with(&[0x1f, 0x8b]) {
        Err(Error::Unrecognised("this is gzip; unpack it first"))
    } else if text {
        Err(Error::Unrecognised("this is text"))
    } else {
        Err(Error::Unrecognised("its first bytes are those of no format (Torch7, PyTorch, safetensors)"))
    }
}

/// Parses a file of any known format. Nothing in it is executed.
pub fn read(bytes: &[u8]) -> Result<Checkpoint<'_>, Error> {
    let format = detect(bytes)?;
    let (content, tensors): (_, Vec<_>) = match format {
        Format::Torch7 => {
            let file = t7::read(bytes)?;
            let tensors = file.tensors().into_iter().map(|(name, tensor)| NamedTensor { name, tensor: tensor.clone() });
            let tensors = tensors.collect();
            (Content::Torch7(file), tensors)
        }
        Format::PytorchZip | Format::PytorchLegacy => {
            let file =
                if format == Format::PytorchZip { pytorch::read_zip(bytes) } else { pytorch::read_legacy(bytes) }?;
            let tensors = file.tensors()?.into_iter().map(|(name, tensor)| NamedTensor { name, tensor }).collect();
            (Content::Pytorch(format, file), tensors)
        }
        Format::Safetensors => {
            let (metadata, tensors) = safetensors::read(bytes)?;
            (Content::Safetensors(metadata), tensors)
        }
    };
    if tensors.is_empty() {
        return Err(Error::Empty(format.name()));
    }
    Ok(Checkpoint { content, tensors })
}

impl<'a> Checkpoint<'a> {
    /// The format that it was read as.
    pub fn format(&self) -> Format {
        match &self.content {
            Content::Torch7(_) => Format::Torch7,
            Content::Pytorch(format, _) => *format,
            Content::Safetensors(_) => Format::Safetensors,
        }
    }

    /// Every tensor, once, in a fixed order.
    pub fn tensors(&self) -> &[NamedTensor<'a>] {
        &self.tensors
    }

    /// The `__metadata__` of a safetensors header; nothing in other formats.
    pub fn metadata(&self) -> Option<&BTreeMap<String, String>> {
        match &self.content {
            Content::Safetensors(metadata) => Some(metadata),
            _ => None,
        }
    }

    /// What the file holds: modules of a `.t7`, dictionaries of a `.pth`, tensors of a safetensors file.
    pub fn tree(&self) -> Vec<Node> {
        match &self.content {
            Content::Torch7(file) => file.tree(),
            Content::Pytorch(_, file) => file.tree(),
            Content::Safetensors(_) => {
                let tensors = self.tensors.iter();
                tensors
                    .map(|t| Node { name: t.name.clone(), text: t.tensor.describe(), children: Vec::new() })
                    .collect()
            }
        }
    }
}
