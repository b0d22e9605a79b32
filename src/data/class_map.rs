//! Which of the network's classes each folder of images is, where their names do not say.

use std::collections::BTreeMap;
use std::path::Path;

use super::labels::Labels;
use crate::error::{Error, Result};

/// Folder name to class, as the file has it: an index, or a name that the network knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMap(BTreeMap<String, String>);

impl ClassMap {
    /// Reads a JSON object from folder to class, a JSON list of folders in the network's order, or lines of text: folder, then
    /// space, tab or comma, then class.
    pub fn open(path: &Path) -> Result<Self> {
        let bad = |reason: String| Error::data(path, reason);
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        if text.trim_start().starts_with(['{', '[']) {
            let value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
            return Self::from_json(&value).map_err(bad);
        }
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        let pairs = lines.map(|(number, line)| {
            let pair = line.trim().split_once([',', '\t']).or_else(|| line.trim().split_once(' '));
            let (folder, class) =
                pair.ok_or_else(|| bad(format!("line {number}: a folder and its class are expected")))?;
            Ok((folder.trim().to_owned(), class.trim().to_owned()))
        });
        Ok(Self(pairs.collect::<Result<_>>()?))
    }

    fn from_json(value: &serde_json::Value) -> Result<Self, String> {
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => number.as_u64().map(|number| number.to_string()),
            _ => None,
        };
        let refuse = |what: &str| format!("{what} is neither a name nor an index");
        let pairs: Result<_, String> = match value {
            serde_json::Value::Object(map) => map
                .iter()
                .map(|(folder, class)| Ok((folder.clone(), text(class).ok_or_else(|| refuse(folder))?)))
                .collect(),
            serde_json::Value::Array(folders) => (0..)
                .zip(folders)
                .map(|(class, folder)| {
                    Ok((text(folder).ok_or_else(|| refuse(&folder.to_string()))?, class.to_string()))
                })
                .collect(),
            _ => Err("an object from folder to class, or a list of folders, is expected".into()),
        };
        pairs.map(Self)
    }

    /// The network's class of each of a data set's.
    pub fn classes(&self, names: &[String], labels: &Labels) -> Result<Vec<usize>> {
        let classes = names.iter().map(|name| {
            let class =
                self.0.get(name).ok_or_else(|| Error::Usage(format!("the class map has no entry for {name:?}")))?;
            let index = class.parse().ok().filter(|&index| index < labels.count());
            index.or_else(|| labels.find(class)).ok_or_else(|| {
                Error::Usage(format!("the class map gives {class:?} for {name:?}, which the network does not have"))
            })
        });
        classes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_says_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = ["dog", "a cat"].map(str::to_owned).to_vec();
        let own = Labels::new(Some(["cat", "dog", "cow"].map(str::to_owned).to_vec()), 3);
        for text in [
            "dog,1\na cat,cat\n",
            "# mine\ndog\tdog\na cat\t0\n",
            "{\"dog\": 1, \"a cat\": \"cat\"}",
            "[\"a cat\", \"dog\"]",
        ] {
            let path = folder.path().join("map");
            std::fs::write(&path, text).unwrap();
            assert_eq!(ClassMap::open(&path).unwrap().classes(&names, &own).unwrap(), [1, 0], "{text}");
        }
        let path = folder.path().join("map");
        for (text, message) in [
            ("dog,7\na cat,0\n", "gives \"7\" for \"dog\", which the network does not have"),
            ("dog,1\n", "no entry for \"a cat\""),
            ("dog\n", "line 1: a folder and its class"),
            ("[[1]]", "[1] is neither a name nor an index"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = ClassMap::open(&path).and_then(|map| map.classes(&names, &own)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
