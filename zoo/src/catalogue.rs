//! The catalogue: embedded TOML files, and the user's.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use densenet_arch::networks;
use serde::Deserialize;

use self::entry::Entry;
use crate::{Error, Key, Weight};

mod entry;

macro_rules! builtin {
    ($($file:literal),* $(,)?) => {
        [$(($file, include_str!(concat!("../models/", $file)))),*]
    };
}

/// In the order in which `list` shows them.
const BUILTIN: [(&str, &str); 25] = builtin![
    "torchvision.toml",
    "timm.toml",
    "torch7.toml",
    "digits.toml",
    "mingminzhen.toml",
    "cadene.toml",
    "mmpretrain.toml",
    "pytorchcv.toml",
    "huggingface.toml",
    "pathology.toml",
    "xray.toml",
    "caffe.toml",
    "caffe2.toml",
    "keras.toml",
    "flyyufelix.toml",
    "titu1994.toml",
    "tf-slim.toml",
    "tflite.toml",
    "mxnet.toml",
    "gluon.toml",
    "djl.toml",
    "onnx.toml",
    "onnx-turnkey.toml",
    "paddle.toml",
    "flux.toml",
];

/// Every weight that is known.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    weights: Vec<Weight>,
    files: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    weight: Vec<Entry>,
}

impl Catalogue {
    /// The weights that come with the program.
    pub fn builtin() -> Result<Self, Error> {
        let mut catalogue = Self::default();
        for (file, text) in BUILTIN {
            catalogue.add_text(file, text)?;
        }
        Ok(catalogue)
    }

    /// Adds a user's TOML file, or every `*.toml` of a folder.
    pub fn add(&mut self, path: &Path) -> Result<(), Error> {
        self.add_signed(path, None)
    }

    /// The same; each file signed with `key`, where one is required.
    pub fn add_signed(&mut self, path: &Path, key: Option<&Key>) -> Result<(), Error> {
        if !path.exists() {
            return Err(Error::NoCatalogue { path: path.to_owned() });
        }
        if !path.is_dir() {
            let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
            key.map_or(Ok(()), |key| key.check(path, text.as_bytes()))?;
            return self.add_text(&path.display().to_string(), &text);
        }
        let mut files = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>())
            .map_err(Error::io("list", path))?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "toml") && file.is_file());
        files.sort();
        files.iter().try_for_each(|file| self.add_signed(file, key))
    }

    /// Every weight, in the order of the files.
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// The weight of that name, or the one that a bare architecture's name means (`densenet-169`, `densenet169`).
    pub fn find(&self, name: &str) -> Result<&Weight, Error> {
        if let Some(weight) = self.weights.iter().find(|weight| weight.name == name) {
            return Ok(weight);
        }
        let arch = networks::find(name).map_or(name, |network| network.name);
        let of_arch: Vec<_> = self.weights.iter().filter(|weight| weight.arch() == arch).collect();
        match (of_arch.iter().find(|weight| weight.recommended), of_arch.as_slice()) {
            (Some(weight), _) => Ok(weight),
            (None, [weight]) if weight.unverified.is_none() => Ok(weight),
            (None, []) => Err(Error::Unknown { name: name.to_owned(), hint: self.hint(name) }),
            (None, several) => Err(Error::Ambiguous {
                name: name.to_owned(),
                candidates: several.iter().map(|weight| weight.name.clone()).collect(),
            }),
        }
    }

    fn hint(&self, name: &str) -> String {
        let near = self
            .weights
            .iter()
            .flat_map(|weight| [weight.name.as_str(), weight.arch()])
            .map(|known| (distance(name, known), known))
            .min_by_key(|(distance, _)| *distance);
        match near {
            Some((distance, known)) if distance <= 3 => format!("; did you mean {known}?"),
            _ => String::new(),
        }
    }

    fn add_text(&mut self, file: &str, text: &str) -> Result<(), Error> {
        let manifest: Manifest = toml::from_str(text).map_err(|error| Error::Malformed {
            file: file.to_owned(),
            reason: error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" "),
        })?;
        // All of a file or none of it.
        let mut added = Vec::new();
        for entry in manifest.weight {
            let name = entry.name.clone();
            let malformed = |reason| Error::Malformed { file: file.to_owned(), reason: format!("{name}: {reason}") };
            let weight = entry.check().map_err(malformed)?;
            let twice = added.iter().any(|other: &Weight| other.name == weight.name).then_some(file);
            if let Some(first) = self.files.get(&weight.name).map(String::as_str).or(twice) {
                let (first, second) = (first.to_owned(), file.to_owned());
                return Err(Error::Clash { name: weight.name, first, second });
            }
            added.push(weight);
        }
        self.files.extend(added.iter().map(|weight| (weight.name.clone(), file.to_owned())));
        self.weights.append(&mut added);
        Ok(())
    }
}

/// Edits between two names (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((to, &above), &corner) in b.chars().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(0);
            next.push((corner + usize::from(from != to)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests;
