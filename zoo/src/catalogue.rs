//! The catalogue: embedded TOML files, and the user's.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use densenet_arch::{Protocol, networks};
use serde::Deserialize;

use crate::{Digest, Error, Network, Published, SourceFormat, Weight, WeightFile};

const BUILTIN: [(&str, &str); 4] = [
    ("torchvision.toml", include_str!("../models/torchvision.toml")),
    ("timm.toml", include_str!("../models/timm.toml")),
    ("torch7.toml", include_str!("../models/torch7.toml")),
    ("digits.toml", include_str!("../models/digits.toml")),
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    network: Network,
    #[serde(default)]
    recommended: bool,
    format: SourceFormat,
    file: File,
    protocol: ProtocolEntry,
    licence: String,
    provenance: String,
    #[serde(default)]
    published: Vec<Published>,
    notes: Option<String>,
    labels: Option<Vec<String>>,
    reference: Option<String>,
    #[serde(default = "yes")]
    convertible: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    urls: Vec<String>,
    size: Option<u64>,
    sha256: Option<String>,
    sha256_prefix: Option<String>,
    sha1: Option<String>,
    md5: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ProtocolEntry {
    Named(String),
    Described(Protocol),
}

fn yes() -> bool {
    true
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
        if !path.is_dir() {
            let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
            return self.add_text(&path.display().to_string(), &text);
        }
        let mut files = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>())
            .map_err(Error::io("list", path))?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "toml") && file.is_file());
        files.sort();
        files.iter().try_for_each(|file| self.add(file))
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
            (Some(weight), _) | (None, [weight]) => Ok(weight),
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
            let weight = weight(entry).map_err(malformed)?;
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

fn weight(entry: Entry) -> Result<Weight, String> {
    // Both become file names.
    if !is_plain(&entry.name) {
        return Err("a name holds letters, digits, '.', '-' and '_' only, and starts with a letter or digit".into());
    }
    if !is_plain(&entry.file.name) {
        return Err(format!("{:?} is not a plain file name", entry.file.name));
    }
    let protocol = match entry.protocol {
        ProtocolEntry::Named(name) => Protocol::named(&name),
        ProtocolEntry::Described(protocol) => Protocol::from_text(&protocol.to_text()),
    }
    .map_err(|error| error.to_string())?;
    let file = entry.file;
    let digest = file.sha256.map(Digest::Sha256);
    let digest = digest.or(file.sha256_prefix.map(Digest::Sha256Prefix));
    let digest = digest.or(file.sha1.map(Digest::Sha1)).or(file.md5.map(Digest::Md5));
    if let Some(digest) = digest.as_ref().filter(|digest| !digest.is_well_formed()) {
        return Err(format!("{:?} is not a {} in lower-case hexadecimal", digest.digits(), digest.strength()));
    }
    match &entry.network {
        Network::Free(config) => config.validate().map_err(|error| error.to_string())?,
        Network::Named(name) if entry.convertible && networks::find(name).is_none() => {
            return Err(format!("no network is called {name:?}"));
        }
        Network::Named(_) => {}
    }
    Ok(Weight {
        name: entry.name,
        network: entry.network,
        recommended: entry.recommended,
        format: entry.format,
        file: WeightFile { name: file.name, urls: file.urls, size: file.size, digest },
        protocol,
        licence: entry.licence,
        provenance: entry.provenance,
        published: entry.published,
        notes: entry.notes,
        labels: entry.labels,
        reference: entry.reference,
        convertible: entry.convertible,
    })
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|char| char.is_ascii_alphanumeric() || "._-".contains(char))
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
mod tests {
    use super::*;

    #[test]
    fn every_entry_agrees_with_the_collected_facts() {
        let facts: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/fixtures/facts/weights.json")).unwrap();
        let catalogue = Catalogue::builtin().unwrap();
        assert_eq!(catalogue.weights().len(), 19);
        for weight in catalogue.weights().iter().filter(|weight| weight.name != "digits.torch") {
            let url = weight.file.urls[0].replacen("hf:", "https://huggingface.co/", 1).replacen('@', "/resolve/", 1);
            let fact = facts["weights"].as_array().unwrap().iter().find(|fact| fact["urls"][0] == url).unwrap();
            let digest = ["sha256", "sha256_prefix", "sha1", "md5"].iter().find_map(|kind| fact[kind].as_str());
            assert_eq!(weight.file.digest.as_ref().map(Digest::digits), digest, "{}", weight.name);
            assert_eq!(weight.file.size, fact["size_bytes"].as_u64(), "{}", weight.name);
            assert_eq!(weight.licence, fact["licence"].as_str().unwrap());
        }
    }

    #[test]
    fn every_network_builds() {
        let catalogue = Catalogue::builtin().unwrap();
        for (name, parameters) in [
            ("densenet-121.tv", 7_978_856),
            ("densenet-169.timm-tv", 14_149_480),
            ("densenet-201.torch", 20_013_928),
            ("densenet-161.tv", 28_681_000),
            ("densenet-264.torch", 33_337_704),
            ("densenet-232.torch", 55_570_984),
            ("densenet-cosine-264.torch", 33_337_704),
            ("densenet-cosine-264-k48.torch", 72_686_632),
            ("digits.torch", 32_606),
        ] {
            assert_eq!(catalogue.find(name).unwrap().config().unwrap().parameter_count(), parameters, "{name}");
        }
        let without: Vec<_> = catalogue.weights().iter().filter(|weight| weight.config().is_err()).collect();
        assert_eq!(without.len(), 1);
        assert_eq!(without[0].name, "densenetblur-121d.timm-ra");
    }

    #[test]
    fn bare_names_mean_the_recommended_or_only_file() {
        let catalogue = Catalogue::builtin().unwrap();
        for (asked, found) in [
            ("densenet-169", "densenet-169.tv"),
            ("densenet169", "densenet-169.tv"),
            ("DenseNet_121", "densenet-121.tv"),
            ("densenet-264", "densenet-264.torch"),
            ("digits", "digits.torch"),
            ("densenet-121.timm-ra", "densenet-121.timm-ra"),
        ] {
            assert_eq!(catalogue.find(asked).unwrap().name, found);
        }
        let error = catalogue.find("densenet-196").unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Usage);
        assert!(error.to_string().contains("did you mean densenet-1"), "{error}");
    }

    #[test]
    fn a_clash_names_both_files_and_a_bad_file_its_fault() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        let digits = include_str!("../models/digits.toml");
        fs::write(&file, digits).unwrap();
        let error = Catalogue::builtin().unwrap().add(folder.path()).unwrap_err().to_string();
        assert!(error.contains("digits.toml") && error.contains("mine.toml"), "{error}");

        let mut catalogue = Catalogue::default();
        let two = format!("{digits}\n{}", digits.replace("digits.torch", "digits.own"));
        fs::write(&file, two).unwrap();
        catalogue.add(&file).unwrap();
        let error = catalogue.find("digits").unwrap_err().to_string();
        assert_eq!(error, "\"digits\" could be any of digits.torch, digits.own; name one");

        for (from, to) in [("digits.torch", "../up"), ("5992b6bb", "5992B6BB"), ("growth_rate = 8", "growth_rate = 0")]
        {
            fs::write(&file, digits.replace(from, to)).unwrap();
            let error = Catalogue::default().add(&file).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Malformed, "{error}");
        }
    }
}
