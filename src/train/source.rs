//! Where a run's images are, kept with it so that it finds them again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::labelled::Labelled;
use crate::data::digits;
use crate::error::{Error, Result};

/// Where a run's images are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `digits`, `cifar10`, `imagenet` …
    pub kind: String,
    /// The folder or file, where they are not embedded.
    pub path: Option<PathBuf>,
}

impl Source {
    /// Of a data set that lies there.
    pub fn new(kind: &str, path: Option<&Path>) -> Result<Self> {
        let path = path.map(|path| std::path::absolute(path).map_err(Error::io("find", path))).transpose()?;
        Ok(Self { kind: kind.to_owned(), path })
    }

    /// The images to train on, and those to measure the error on.
    pub fn open(&self) -> Result<(Labelled, Labelled)> {
        match &self.path {
            None if self.kind == "digits" => Ok((digits::training()?.into(), digits::validation()?.into())),
            _ => Err(Error::Usage(format!("where are the images of {}? --data DIR", self.kind))),
        }
    }
}
