//! Where a run's images are, kept with it so that it finds them again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sets::{Choice, Sets};
use crate::data::{digits, pair};
use crate::error::{Error, Result};

/// Where a run's images are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// In the program.
    Digits,
    /// A published data set in a folder.
    Published {
        /// `cifar10`, `cifar100`, `svhn` or `imagenet`.
        kind: String,
        /// The folder.
        path: PathBuf,
    },
    /// Images of one's own.
    Chosen(Choice),
}

impl Source {
    /// What a preset is for, and where it lies.
    pub fn of_preset(kind: &str, path: Option<&Path>) -> Result<Self> {
        match path {
            Some(_) if kind == "digits" => Self::Digits.moved(Path::new("")),
            Some(path) => Ok(Self::Published { kind: kind.to_owned(), path: absolute(path)? }),
            None if kind == "digits" => Ok(Self::Digits),
            None => Err(Error::Usage(format!("where are the images of {kind}? --data DIR"))),
        }
    }

    /// The same images elsewhere.
    pub fn moved(self, to: &Path) -> Result<Self> {
        let path = || absolute(to);
        match self {
            Self::Digits => Err(Error::Usage("the digits are in the program; leave --data out".into())),
            Self::Published { kind, .. } => Ok(Self::Published { kind, path: path()? }),
            Self::Chosen(choice) => Ok(Self::Chosen(Choice { data: path()?, ..choice })),
        }
    }

    /// With the split of the run's folder, wherever that lies now.
    #[must_use]
    pub fn with_split(self, split: &Path) -> Self {
        match self {
            Self::Chosen(choice) if choice.split.is_some() && split.is_file() => {
                Self::Chosen(Choice { split: Some(split.to_owned()), ..choice })
            }
            other => other,
        }
    }

    /// What the images are called: the data set's name, or the last part of their path.
    pub fn name(&self) -> String {
        match self {
            Self::Digits => "digits".to_owned(),
            Self::Published { kind, .. } => kind.clone(),
            Self::Chosen(Choice { data, .. }) => data.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// How the two sides were told apart.
    pub fn split(&self) -> &'static str {
        match self {
            Self::Digits | Self::Published { .. } => "as published",
            Self::Chosen(Choice { split: None, .. }) => "as given",
            Self::Chosen(_) => "as in split.csv beside this file",
        }
    }

    /// The images to train on, and those to measure the error on.
    pub fn open(&self) -> Result<Sets> {
        let (training, validation) = match self {
            Self::Digits => (digits::training()?, Some(digits::validation()?)),
            Self::Published { kind, path } => pair::open(Some(kind), path)?,
            Self::Chosen(choice) => return choice.open(),
        };
        let Some(validation) = validation else {
            return Err(Error::Usage("no validation images are kept apart".into()));
        };
        Ok(Sets { training: training.into(), validation: validation.into(), split: None })
    }
}

/// From anywhere.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::io("find", path))
}
