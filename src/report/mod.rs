//! What evaluations have come to: results read back, set beside the published figures, and drawn.

mod axes;
mod canvas;
pub mod curves;
pub mod examples;
pub mod features;
pub mod page;
mod raster;
mod scatter;
pub mod table;
pub mod text;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::eval::Shard;
use crate::metrics::{Prediction, Summary};
use crate::predictions::{Header, Predictions};

/// One evaluation, from the JSON that `eval` printed or from its predictions.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The file that it was read from.
    pub path: PathBuf,
    /// What was run.
    pub run: Header,
    /// All figures.
    pub summary: Summary,
    /// Images that could not be read.
    pub bad: usize,
    /// Images a second, where the run was timed.
    pub rate: Option<f64>,
    /// What was said of each image, where that was kept.
    pub predictions: Vec<Prediction>,
}

/// What a file is that is no result.
const NEITHER: &str = "neither what `eval --format json` prints nor a file of predictions";

impl Measured {
    /// Reads a file of either kind.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        match serde_json::from_str::<Value>(&text) {
            Ok(value) if value["summary"].is_object() => Self::from_result(path, &value),
            // Predictions of no image are their first line alone.
            Ok(value) if !value["shard"].is_object() => Err(Error::data(path, NEITHER)),
            Err(_) if !text.starts_with('{') => Err(Error::data(path, NEITHER)),
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
        if value["findings"].is_array() {
            return Err(Error::data(path, "areas under the curves of findings; tables and pages are of errors"));
        }
        let mut header = value.clone();
        // A result describes its protocol whole.
        if let Some(name) = value["protocol"]["name"].as_str() {
            header["protocol"] = name.into();
        }
        let bad = |error: serde_json::Error| Error::data(path, format!("no result of eval: {error}"));
        let run: Header = serde_json::from_value(header).map_err(bad)?;
        if run.shard != Shard::WHOLE {
            return Err(Error::data(path, "a part of a run; `eval merge` makes the whole of them"));
        }
        let summary: Summary = serde_json::from_value(value["summary"].clone()).map_err(bad)?;
        let seconds = value["seconds"].as_f64().filter(|&seconds| seconds > 0.0);
        Ok(Self {
            path: path.to_owned(),
            run,
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
        Ok(Self {
            path: path.to_owned(),
            summary: Summary::of(&predictions),
            bad: file.bad().len(),
            rate: None,
            predictions,
            run: file.header,
        })
    }

    fn is_run_of(&self, other: &Self) -> bool {
        // How many images the data have is not what a result says: it says how many were counted.
        let key = |one: &Self| {
            let run = Header { images: one.summary.images, logits: false, tool: String::new(), ..one.run.clone() };
            (run, one.summary.top1_error.wrong)
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
