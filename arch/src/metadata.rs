//! What densenet-zoo writes into a safetensors header and reads back. Sizes are not repeated here: the tensors say them.

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;

use crate::{Config, Head, Protocol, Rounding, Task};

/// What the tensors themselves do not say. Everything is optional: other programs' files have none of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The network's name, for people.
    pub architecture: Option<String>,
    /// Outputs of the classifier, for people.
    pub num_classes: Option<usize>,
    /// The batch norms' eps.
    pub eps: Option<f64>,
    /// What stands after the classifier.
    pub head: Option<Head>,
    /// Which windows the poolings count.
    pub pooling: Option<Rounding>,
    /// How an image becomes the input.
    pub protocol: Option<Protocol>,
    /// One name a class.
    pub labels: Option<Vec<String>>,
    /// The format of the file that this one was converted from.
    pub source_format: Option<String>,
    /// The sha256 of that file, in lower-case hexadecimal.
    pub source_sha256: Option<String>,
    /// The sha256 of the files that were read beside that one, by their names; where there are none, nothing is written.
    pub source_files: BTreeMap<String, String>,
    /// What the outputs stand for; single-label is not written.
    pub task: Task,
    /// What a checkpoint of a run says beside its tensors, as JSON.
    pub training: Option<String>,
    /// The program that wrote the file, with its version.
    pub tool: Option<String>,
}

/// A metadata value that cannot be what its key says.
#[derive(Debug, Error, PartialEq)]
#[error("metadata {key:?} holds {value:?}: {reason}")]
pub struct MetadataError {
    /// The key.
    pub key: &'static str,
    /// The value.
    pub value: String,
    /// What it should be.
    pub reason: String,
}

impl Metadata {
    /// The header's `__metadata__`, sorted by key. `format: pt` is what the PyTorch loaders of safetensors expect.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let entries = [
            ("architecture", self.architecture.clone()),
            ("eps", self.eps.map(|eps| format!("{eps:e}"))),
            ("format", Some("pt".to_owned())),
            ("head", self.head.map(|head| head.name().to_owned())),
            ("labels", self.labels.as_ref().and_then(json)),
            ("num_classes", self.num_classes.map(|classes| classes.to_string())),
            ("pooling", self.pooling.map(|pooling| pooling.name().to_owned())),
            ("protocol", self.protocol.as_ref().map(Protocol::to_text)),
            ("source_files", json(&self.source_files).filter(|_| !self.source_files.is_empty())),
            ("source_format", self.source_format.clone()),
            ("source_sha256", self.source_sha256.clone()),
            ("task", Some(self.task).filter(|&task| task != Task::default()).map(|task| task.name().to_owned())),
            ("tool", self.tool.clone()),
            ("training", self.training.clone()),
        ];
        entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    /// Reads a header's `__metadata__`; keys of other programs are passed over.
    pub fn from_map<'a>(lookup: impl Fn(&str) -> Option<&'a str>) -> Result<Self, MetadataError> {
        fn parse<T>(
            key: &'static str,
            value: Option<&str>,
            read: impl Fn(&str) -> Result<T, String>,
        ) -> Result<Option<T>, MetadataError> {
            value
                .map(|text| read(text).map_err(|reason| MetadataError { key, value: shorten(text), reason }))
                .transpose()
        }
        let text = |key| lookup(key).map(str::to_owned);
        // These keys are common words: without ours, they are some other program's.
        if lookup("tool").is_none_or(|tool| !tool.starts_with("densenet-zoo")) {
            return Ok(Self::default());
        }
        Ok(Self {
            architecture: text("architecture"),
            num_classes: parse("num_classes", lookup("num_classes"), |text| {
                text.parse().map_err(|_| "a number is expected".to_owned())
            })?,
            eps: parse("eps", lookup("eps"), |text| match text.parse::<f64>() {
                Ok(eps) if eps > 0.0 && eps < 1.0 => Ok(eps),
                _ => Err("a number above 0 and below 1 is expected".to_owned()),
            })?,
            head: parse("head", lookup("head"), |text| {
                Head::from_name(text).ok_or_else(|| "logits, log-softmax or softmax is expected".to_owned())
            })?,
            pooling: parse("pooling", lookup("pooling"), |text| {
                Rounding::from_name(text).ok_or_else(|| "floor or ceil is expected".to_owned())
            })?,
            protocol: parse("protocol", lookup("protocol"), |text| {
                Protocol::from_text(text).map_err(|error| error.to_string())
            })?,
            labels: parse("labels", lookup("labels"), |text| {
                serde_json::from_str(text).map_err(|_| "a JSON array of names is expected".to_owned())
            })?,
            source_format: text("source_format"),
            source_sha256: text("source_sha256"),
            source_files: parse("source_files", lookup("source_files"), |text| {
                serde_json::from_str(text)
                    .map_err(|_| "a JSON object of names with their sha256 is expected".to_owned())
            })?
            .unwrap_or_default(),
            task: parse("task", lookup("task"), |text| {
                Task::from_name(text).ok_or_else(|| "single-label or multi-label is expected".to_owned())
            })?
            .unwrap_or_default(),
            tool: text("tool"),
            training: text("training"),
        })
    }

    /// What the tensors gave, with the eps, head and rounding that only the metadata knows.
    #[must_use]
    pub fn complete(&self, config: Config) -> Config {
        Config {
            eps: self.eps.unwrap_or(config.eps),
            head: self.head.unwrap_or(config.head),
            pooling: self.pooling.unwrap_or(config.pooling),
            ..config
        }
    }
}

fn json<T: Serialize>(value: &T) -> Option<String> {
    serde_json::to_string(value).ok()
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(map: &BTreeMap<String, String>) -> Result<Metadata, MetadataError> {
        Metadata::from_map(|key| map.get(key).map(String::as_str))
    }

    #[test]
    fn everything_survives_the_header() {
        let full = Metadata {
            architecture: Some("densenet-121".into()),
            num_classes: Some(2),
            eps: Some(1.001e-5),
            head: Some(Head::Softmax),
            pooling: Some(Rounding::Ceil),
            protocol: Some(Protocol::named("torch7").unwrap()),
            labels: Some(vec!["normal".into(), "\"pneumonia\", é".into()]),
            source_format: Some("torch7".into()),
            source_sha256: Some("00".repeat(32)),
            source_files: BTreeMap::from([("m-symbol.json".into(), "11".repeat(32))]),
            task: Task::MultiLabel,
            tool: Some("densenet-zoo 0.1.0".into()),
            training: Some("{}".into()),
        };
        let map = full.to_map();
        assert_eq!(map["eps"], "1.001e-5");
        assert_eq!((map["head"].as_str(), map["pooling"].as_str()), ("softmax", "ceil"));
        assert_eq!((map["format"].as_str(), map["task"].as_str()), ("pt", "multi-label"));
        assert_eq!(map["source_files"], format!("{{\"m-symbol.json\":\"{}\"}}", "11".repeat(32)));
        assert_eq!(Metadata::default().to_map().into_keys().collect::<Vec<_>>(), ["format"]);
        assert_eq!(read(&map), Ok(full));
    }

    #[test]
    fn other_programs_keys_are_passed_over_and_bad_values_named() {
        let other = BTreeMap::from([("eps".to_owned(), "large".to_owned())]);
        assert_eq!(read(&other), Ok(Metadata::default()));
        let ours = BTreeMap::from([("eps".into(), "2".into()), ("tool".into(), "densenet-zoo 9".into())]);
        assert_eq!(
            read(&ours).unwrap_err().to_string(),
            "metadata \"eps\" holds \"2\": a number above 0 and below 1 is expected"
        );
    }
}
