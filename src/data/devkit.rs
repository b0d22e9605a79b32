//! The labels of the ILSVRC2012 development kit: a ground truth file that counts classes by the challenge's own ids, and what
//! says which WordNet id each of them is.

use std::path::Path;

use super::labels::imagenet_class;
use super::mat::{self, Array};
use crate::error::{Error, Result};

const TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
/// What maps ids to WordNet ids: the kit's own file, or the lists of later kits.
const MAPS: [&str; 4] = ["meta.mat", "map_clsloc.txt", "synsets.txt", "meta.txt"];
const CLASSES: usize = 1000;

/// The class of each validation image in their order, from the kit's folder (its own, or its `data`) or its ground truth file.
pub(super) fn read(path: &Path) -> Result<Vec<usize>> {
    let truth = if path.is_dir() {
        let places = [path.join(TRUTH), path.join("data").join(TRUTH)];
        let found = places.into_iter().find(|place| place.is_file());
        found.ok_or_else(|| Error::data(path, format!("no {TRUTH} in it, nor in its folder data")))?
    } else {
        path.to_owned()
    };
    let map = classes(&truth)?;
    let text = std::fs::read_to_string(&truth).map_err(Error::io("read", &truth))?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let labels = lines.map(|(number, line)| {
        let id = line.trim().parse::<usize>().ok().filter(|id| (1..=CLASSES).contains(id));
        id.map(|id| map[id - 1]).ok_or_else(|| {
            Error::data(&truth, format!("line {number}: {:?} is no id from 1 to {CLASSES}", line.trim()))
        })
    });
    labels.collect()
}

/// The class of each id from 1.
fn classes(truth: &Path) -> Result<Vec<usize>> {
    let folder = truth.parent().unwrap_or(Path::new("."));
    let path = MAPS.iter().map(|name| folder.join(name)).find(|path| path.is_file()).ok_or_else(|| {
        let reason = format!("what maps its ids to WordNet ids must lie beside it: {}", MAPS.join(" or "));
        Error::data(truth, reason)
    })?;
    let pairs =
        if path.extension().is_some_and(|ending| ending == "mat") { from_mat(&path)? } else { from_text(&path)? };
    let mut classes = vec![None; CLASSES];
    for (id, name) in pairs {
        // Ids beyond are the inner nodes of WordNet.
        if let Some(place) = id.checked_sub(1).and_then(|index| classes.get_mut(index)) {
            let class = imagenet_class(&name);
            *place =
                Some(class.ok_or_else(|| Error::data(&path, format!("id {id}: {name:?} is no class of ImageNet")))?);
        }
    }
    let missing = classes.iter().position(Option::is_none);
    match missing {
        None => Ok(classes.into_iter().flatten().collect()),
        Some(index) => Err(Error::data(&path, format!("id {} has no WordNet id", index + 1))),
    }
}

/// The structure `synsets` with fields `ILSVRC2012_ID` and `WNID`.
fn from_mat(path: &Path) -> Result<Vec<(usize, String)>> {
    let bad = |reason: String| Error::data(path, reason);
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let arrays = mat::read(&bytes).map_err(bad)?;
    let synsets = arrays.iter().find_map(|(name, array)| match array {
        Array::Struct(names, fields) if name == "synsets" => Some((names, fields)),
        _ => None,
    });
    let place = |names: &[String], name: &str| names.iter().position(|found| found == name);
    let places = synsets
        .and_then(|(names, fields)| Some((names.len(), fields, place(names, "ILSVRC2012_ID")?, place(names, "WNID")?)));
    let Some((width, fields, id, wnid)) = places else {
        return Err(bad("it has no structure synsets with ILSVRC2012_ID and WNID".into()));
    };
    let pairs = fields.chunks_exact(width).map(|synset| match (&synset[id].numbers(), &synset[wnid]) {
        (Some((_, ids)), Array::Text(name)) if ids.len() == 1 => Ok((ids[0] as usize, name.clone())),
        _ => Err(bad("an ILSVRC2012_ID is no number, or a WNID no text".into())),
    });
    pairs.collect()
}

/// A line a class: `n02119789 1 kit_fox`, `1 n02119789`, or the WordNet id alone, counted from 1.
fn from_text(path: &Path) -> Result<Vec<(usize, String)>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let is_wnid =
        |word: &str| word.len() == 9 && word.starts_with('n') && word[1..].bytes().all(|b| b.is_ascii_digit());
    let lines = (1..).zip(text.lines().filter(|line| !line.trim().is_empty()));
    let pairs = lines.map(|(number, line)| {
        let words: Vec<&str> = line.split([' ', '\t', ',']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            [name, id, ..] | [id, name, ..] if is_wnid(name) && id.parse::<usize>().is_ok() => {
                Ok((id.parse().unwrap_or_default(), name.to_owned()))
            }
            // Alone, or with its words, as in synset_words.txt.
            [name, ..] if is_wnid(name) => Ok((number, name.to_owned())),
            _ => Err(Error::data(path, format!("line {number}: a WordNet id and the challenge's id are expected"))),
        }
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The challenge's labels of its first images; the ids of make.py stand for them.
    const FIRST: [usize; 12] = [65, 970, 230, 809, 516, 57, 334, 415, 674, 332, 109, 286];

    #[test]
    fn ids_become_classes_by_the_kit_s_own_map() {
        let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mat/devkit");
        assert_eq!(read(&kit).unwrap(), FIRST);
        assert_eq!(read(&kit.join("data").join(TRUTH)).unwrap(), FIRST);
        // The same map as text.
        let folder = tempfile::tempdir().unwrap();
        let truth = folder.path().join(TRUTH);
        std::fs::copy(kit.join("data").join(TRUTH), &truth).unwrap();
        let pairs = from_mat(&kit.join("data/meta.mat")).unwrap();
        let lines: Vec<_> = pairs.iter().map(|(id, name)| format!("{name} {id} some_words")).collect();
        std::fs::write(folder.path().join("map_clsloc.txt"), lines.join("\n")).unwrap();
        assert_eq!(read(folder.path()).unwrap(), FIRST);
        std::fs::write(&truth, "490\n1001\n").unwrap();
        assert!(read(&truth).unwrap_err().to_string().ends_with("line 2: \"1001\" is no id from 1 to 1000"));
        std::fs::remove_file(folder.path().join("map_clsloc.txt")).unwrap();
        assert!(read(&truth).unwrap_err().to_string().contains("must lie beside it: meta.mat or"));
        assert!(read(&kit.join("nothing")).is_err());
    }
}
