//! What a run said of each image, as lines of JSON: first what was run, then an image a line, in the data's order. From it
//! every figure follows, a killed run goes on, and parts become the whole.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::loader::BadImage;
use crate::error::{Error, Result};
use crate::eval::Shard;
use crate::metrics::Prediction;

/// What was run. Two files with the same are of the same run, but for the part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The program with its version.
    pub tool: String,
    /// The model, as it was asked for.
    pub model: String,
    /// The sha256 of its file.
    pub sha256: String,
    /// The network.
    pub architecture: String,
    /// How an image became the input.
    pub protocol: String,
    /// Crops an image.
    pub crops: usize,
    /// What decoded the images.
    pub decoder: String,
    /// The data, as it was asked for.
    pub data: String,
    /// What it is.
    pub dataset: String,
    /// Images in all of it.
    pub images: usize,
    /// Images in a batch.
    pub batch_size: usize,
    /// Where the network ran.
    pub device: String,
    /// What ran it: `engine, avx512, exact` or `candle`.
    #[serde(default)]
    pub backend: String,
    /// Whether the network's outputs are kept.
    #[serde(default)]
    pub logits: bool,
    /// The part.
    pub shard: Shard,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// What was said of it.
    Said(Prediction),
    /// Why it could not be read.
    Bad(BadImage),
}

/// A file of predictions.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// What was run.
    pub header: Header,
    /// The images.
    pub entries: Vec<Entry>,
}

impl Predictions {
    /// Reads a file; a line that a killed run left unfinished is passed over.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut lines = (1..).zip(whole.lines());
        let bad = |line: usize, error: serde_json::Error| Error::data(path, format!("line {line}: {error}"));
        let (_, first) = lines.next().ok_or_else(|| Error::data(path, "no predictions in it"))?;
        let header = serde_json::from_str(first).map_err(|error| bad(1, error))?;
        let entries = lines.map(|(number, line)| serde_json::from_str(line).map_err(|error| bad(number, error)));
        Ok(Self { header, entries: entries.collect::<Result<_>>()? })
    }

    /// What was said of the images that could be read.
    pub fn said(&self) -> Vec<Prediction> {
        let said = self.entries.iter().filter_map(|entry| match entry {
            Entry::Said(prediction) => Some(prediction.clone()),
            Entry::Bad(_) => None,
        });
        said.collect()
    }

    /// Images that could not be read.
    pub fn bad(&self) -> Vec<BadImage> {
        let bad = self.entries.iter().filter_map(|entry| match entry {
            Entry::Said(_) => None,
            Entry::Bad(bad) => Some(bad.clone()),
        });
        bad.collect()
    }

    /// Puts parts together. They must be all parts of one run, each complete.
    pub fn merge(mut parts: Vec<(&Path, Self)>) -> Result<Self> {
        parts.sort_by_key(|(_, part)| part.header.shard.index);
        let Some((first_path, first)) = parts.first() else {
            return Err(Error::Usage("nothing to merge".into()));
        };
        let whole = Header { shard: Shard::WHOLE, ..first.header.clone() };
        let of = first.header.shard.of;
        if parts.len() != of {
            let reason = format!("it is one of {of} parts, and {} are given", parts.len());
            return Err(Error::data(first_path, reason));
        }
        let mut entries = Vec::new();
        for (number, (path, part)) in parts.iter().enumerate() {
            if (Header { shard: Shard::WHOLE, ..part.header.clone() }) != whole {
                return Err(Error::data(path, format!("of another run than {}", first_path.display())));
            }
            if part.header.shard.index != number {
                return Err(Error::data(path, format!("part {number} of {of} is missing, or one comes twice")));
            }
            let expected = part.header.shard.range(whole.images, whole.batch_size).len();
            if part.entries.len() != expected {
                let reason = format!("unfinished: {} of {expected} images; --resume goes on", part.entries.len());
                return Err(Error::data(path, reason));
            }
            entries.extend(part.entries.iter().cloned());
        }
        Ok(Self { header: whole, entries })
    }

    /// Writes the file anew.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut writer = Writer::create(path, &self.header)?;
        writer.append(&self.entries)
    }
}

/// A file that grows by a batch at a time.
#[derive(Debug)]
pub struct Writer {
    out: BufWriter<File>,
    path: std::path::PathBuf,
}

impl Writer {
    /// Begins a file with its header.
    pub fn create(path: &Path, header: &Header) -> Result<Self> {
        let out = BufWriter::new(File::create(path).map_err(Error::io("create", path))?);
        let mut writer = Self { out, path: path.to_owned() };
        writer.line(header)?;
        writer.flush()?;
        Ok(writer)
    }

    /// Goes on with a file of this run: keeps its whole batches, and says how many images they are.
    pub fn resume(path: &Path, header: &Header) -> Result<(Self, Vec<Entry>)> {
        let found = Predictions::open(path)?;
        if found.header != *header {
            return Err(Error::data(path, "of another run; give another file, or --force instead of --resume"));
        }
        let mut kept = found.entries;
        let range = header.shard.range(header.images, header.batch_size).len();
        if kept.len() < range {
            kept.truncate(kept.len() / header.batch_size.max(1) * header.batch_size.max(1));
        }
        // Written anew beside it, so that a kill here loses nothing.
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = std::path::PathBuf::from(part);
        Predictions { header: header.clone(), entries: kept.clone() }.write(&part)?;
        std::fs::rename(&part, path).map_err(Error::io("write", path))?;
        let out = OpenOptions::new().append(true).open(path).map_err(Error::io("write", path))?;
        Ok((Self { out: BufWriter::new(out), path: path.to_owned() }, kept))
    }

    /// Adds images, and hands them to the system.
    pub fn append(&mut self, entries: &[Entry]) -> Result<()> {
        for entry in entries {
            self.line(entry)?;
        }
        self.flush()
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).map_err(|error| Error::data(&self.path, error.to_string()))?;
        writeln!(self.out, "{text}").map_err(Error::io("write", &self.path))
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(Error::io("write", &self.path))
    }
}
