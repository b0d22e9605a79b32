//! What became of every tensor.

use std::fmt;

use serde::Serialize;

/// The account of a conversion.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Every tensor of the source, in its order.
    pub entries: Vec<Entry>,
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

/// What became of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "kebab-case")]
pub enum Fate {
    /// It is in the output.
    Applied {
        /// Under this name.
        target: String,
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

impl Report {
    /// Whether nothing is missing or misshapen, nor (unless allowed) unused.
    pub fn is_complete(&self, allow_unused: bool) -> bool {
        self.missing.is_empty() && self.wrong_shape().is_empty() && (allow_unused || self.unused().is_empty())
    }

    /// Tensors in the output.
    pub fn applied(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.fate, Fate::Applied { .. })).count()
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
