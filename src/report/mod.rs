//! What evaluations have come to: results read back, set beside the published figures, and drawn.

mod canvas;
pub mod examples;
pub mod features;
pub mod page;
mod scatter;
pub mod table;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::metrics::{Prediction, Summary};
use crate::predictions::Predictions;

/// One evaluation, from the JSON that `eval` printed or from its predictions.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The file that it was read from.
    pub path: PathBuf,
    /// The model, as it was asked for.
    pub model: String,
    /// The sha256 of its file.
    pub sha256: String,
    /// The network.
    pub architecture: String,
    /// The protocol's name.
    pub protocol: String,
    /// Crops an image.
    pub crops: usize,
    /// What decoded the images.
    pub decoder: String,
    /// The data, as it was asked for.
    pub data: String,
    /// What it is: `imagenet-val`.
    pub dataset: String,
    /// Where the network ran.
    pub device: String,
    /// All figures.
    pub summary: Summary,
    /// Images that could not be read.
    pub bad: usize,
    /// Images a second, where the run was timed.
    pub rate: Option<f64>,
    /// What was said of each image, where that was kept.
    pub predictions: Vec<Prediction>,
}

impl Measured {
    /// Reads a file of either kind.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        match serde_json::from_str::<Value>(&text) {
            Ok(value) if value["summary"].is_object() => Self::from_result(path, &value),
            _ => Self::from_predictions(path),
        }
    }

    /// Every result in the files and folders given, those of one run put together.
    pub fn open_all(paths: &[PathBuf]) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = Vec::new();
        for path in files(paths)? {
            let found = Self::open(&path)?;
            match all.iter_mut().find(|known| known.is_run_of(&found)) {
                Some(known) => known.join(found),
                None => all.push(found),
            }
        }
        Ok(all)
    }

    fn from_result(path: &Path, value: &Value) -> Result<Self> {
        let bad = |what: &str| Error::data(path, format!("no result of eval: {what} is missing or malformed"));
        let text = |name: &str| value[name].as_str().map(str::to_owned).ok_or_else(|| bad(name));
        if value["shard"]["of"].as_u64() != Some(1) {
            return Err(Error::data(path, "a part of a run; `eval merge` makes the whole of them"));
        }
        let protocol = value["protocol"].as_str().or_else(|| value["protocol"]["name"].as_str());
        let summary: Summary = serde_json::from_value(value["summary"].clone()).map_err(|_| bad("summary"))?;
        let seconds = value["seconds"].as_f64().filter(|&seconds| seconds > 0.0);
        Ok(Self {
            path: path.to_owned(),
            model: text("model")?,
            sha256: text("sha256")?,
            architecture: text("architecture")?,
            protocol: protocol.ok_or_else(|| bad("protocol"))?.to_owned(),
            crops: value["crops"].as_u64().ok_or_else(|| bad("crops"))? as usize,
            decoder: text("decoder")?,
            data: text("data")?,
            dataset: text("dataset")?,
            device: text("device")?,
            bad: value["bad"].as_array().map_or(0, Vec::len),
            rate: seconds.map(|seconds| summary.images as f64 / seconds),
            summary,
            predictions: Vec::new(),
        })
    }

    fn from_predictions(path: &Path) -> Result<Self> {
        // A whole run is a merge of one part, which checks that it is finished.
        let file = Predictions::merge(vec![(path, Predictions::open(path)?)])?;
        let predictions = file.said();
        let header = file.header.clone();
        Ok(Self {
            path: path.to_owned(),
            model: header.model,
            sha256: header.sha256,
            architecture: header.architecture,
            protocol: header.protocol,
            crops: header.crops,
            decoder: header.decoder,
            data: header.data,
            dataset: header.dataset,
            device: header.device,
            summary: Summary::of(&predictions),
            bad: file.bad().len(),
            rate: None,
            predictions,
        })
    }

    fn is_run_of(&self, other: &Self) -> bool {
        let key = |one: &Self| {
            (
                one.sha256.clone(),
                one.protocol.clone(),
                one.crops,
                one.decoder.clone(),
                one.data.clone(),
                one.dataset.clone(),
                one.summary.top1_error.wrong,
                one.summary.images,
            )
        };
        key(self) == key(other)
    }

    fn join(&mut self, other: Self) {
        self.rate = self.rate.or(other.rate);
        if self.predictions.is_empty() {
            self.predictions = other.predictions;
        }
    }
}

/// The files given, and those in the folders given that end in `.json` or `.jsonl`, sorted.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = || std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
        let is_result = |file: &PathBuf| file.extension().is_some_and(|ending| ending == "json" || ending == "jsonl");
        let mut found: Vec<_> = entries().map_err(Error::io("read", path))?.into_iter().filter(is_result).collect();
        if found.is_empty() {
            return Err(Error::data(
                path,
                "no results in it: .json as `eval --format json` prints, .jsonl predictions",
            ));
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}
