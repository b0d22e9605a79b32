//! What became of every tensor.

use std::fmt;

use serde::Serialize;

/// The account of a conversion.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Every tensor of the source, in its order.
    pub entries: Vec<Entry>,
    /// Tensors of the output that the source does not have.
    pub made: Vec<Made>,
    /// Tensors that the network has and the source lacks.
    pub missing: Vec<String>,
}

/// One tensor of the source.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its name in the source.
    pub source: String,
    /// What became of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// A tensor of the output that the source does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// Its name.
    pub target: String,
    /// What it holds, and why.
    pub why: String,
}

/// What became of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "kebab-case")]
pub enum Fate {
    /// It is in the output.
    Applied {
        /// Under this name.
        target: String,
        /// What was done to it; nothing if its bytes are the source's.
        changes: Vec<Change>,
    },
    /// It was worked into others.
    Folded {
        /// Into these tensors of the output.
        into: Vec<String>,
    },
    /// It has another shape than the network's.
    WrongShape {
        /// The name that it would have.
        target: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The network's.
        expected: Vec<usize>,
    },
    /// It belongs to nothing in the network.
    Unused,
    /// It is left out by rule.
    Ignored {
        /// Which.
        rule: &'static str,
    },
}

/// What was done to a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It has another name than in the source.
    Renamed,
    /// It had this shape.
    Reshaped(Vec<usize>),
    /// It had this shape, and its dimensions another order.
    Transposed(Vec<usize>),
    /// Its kernels were stored back to front.
    Flipped,
    /// It had this type.
    Cast(&'static str),
    /// Another part of the source was worked into it.
    Folded(String),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Renamed => write!(f, "renamed"),
            Self::Reshaped(from) => write!(f, "reshaped from {from:?}"),
            Self::Transposed(from) => write!(f, "transposed from {from:?}"),
            Self::Flipped => write!(f, "kernels flipped"),
            Self::Cast(from) => write!(f, "cast from {from}"),
            Self::Folded(what) => write!(f, "folded: {what}"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} -> ", self.source)?;
        match &self.fate {
            Fate::Applied { target, changes } => {
                write!(f, "{target}")?;
                let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
                if changes.is_empty() { Ok(()) } else { write!(f, " ({})", changes.join("; ")) }
            }
            Fate::Folded { into } => write!(f, "folded into {}", into.join(", ")),
            Fate::WrongShape { target, shape, expected } => {
                write!(f, "{target}: has shape {shape:?} and needs {expected:?}")
            }
            Fate::Unused => write!(f, "nothing: it belongs to no part of the network"),
            Fate::Ignored { rule } => write!(f, "dropped: {rule}"),
        }
    }
}

impl Report {
    /// Whether nothing is missing or misshapen, nor (unless allowed) unused.
    pub fn is_complete(&self, allow_unused: bool) -> bool {
        self.missing.is_empty() && self.wrong_shape().is_empty() && (allow_unused || self.unused().is_empty())
    }

    /// Tensors in the output.
    pub fn applied(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.fate, Fate::Applied { .. })).count()
    }

    /// Tensors worked into others.
    pub fn folded(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.fate, Fate::Folded { .. })).count()
    }

    /// Tensors left out by rule.
    pub fn ignored(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.fate, Fate::Ignored { .. })).count()
    }

    /// Names of the source that belong to nothing.
    pub fn unused(&self) -> Vec<&str> {
        self.entries.iter().filter(|entry| entry.fate == Fate::Unused).map(|entry| entry.source.as_str()).collect()
    }

    /// Tensors of another shape than the network's, said in words.
    pub fn wrong_shape(&self) -> Vec<String> {
        let shown = self.entries.iter().filter_map(|entry| match &entry.fate {
            Fate::WrongShape { target, shape, expected } => {
                Some(format!("{target} has shape {shape:?} and needs {expected:?}"))
            }
            _ => None,
        });
        shown.collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} tensors applied, {} ignored by rule", self.applied(), self.ignored())?;
        if self.folded() > 0 {
            write!(f, ", {} folded into others", self.folded())?;
        }
        let wrong = self.wrong_shape();
        let lists = [
            ("missing", self.missing.iter().map(String::as_str).collect()),
            ("of wrong shape", wrong.iter().map(String::as_str).collect()),
            ("unused", self.unused()),
        ];
        for (what, names) in lists {
            let names: Vec<&str> = names;
            if let Some((first, rest)) = names.split_first() {
                write!(f, "; {} {what}: {first}", names.len())?;
                if let Some(second) = rest.first() {
                    write!(f, ", {second}")?;
                }
                if rest.len() > 1 {
                    write!(f, " …")?;
                }
            }
        }
        Ok(())
    }
}
