//! A folder with one folder a class, as torchvision's `ImageFolder` reads it.

use std::path::{Path, PathBuf};

use super::{Dataset, Image, Sample};
use crate::error::{Error, Result};

/// torchvision's list of endings.
pub(super) const ENDINGS: [&str; 9] = ["jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp"];
/// Folders within a class folder are read down to this depth.
const DEPTH: usize = 16;

/// Reads the folder's names, not its images. Classes are its folders, sorted by name.
pub fn open(root: &Path) -> Result<Dataset> {
    let mut classes = Vec::new();
    let mut samples = Vec::new();
    for folder in entries(root)?.into_iter().filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let before = samples.len();
        collect(&folder, classes.len(), DEPTH, &mut samples)?;
        if samples.len() == before {
            let id = folder.display().to_string();
            samples.push(Sample { id, labels: vec![classes.len()], image: Image::Missing(folder) });
        }
        classes.push(name);
    }
    if classes.is_empty() {
        return Err(Error::data(root, "no folders in it; one folder a class with the images inside is expected"));
    }
    Ok(Dataset { kind: "image-folder", samples, classes })
}

fn collect(folder: &Path, label: usize, depth: usize, samples: &mut Vec<Sample>) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            if depth > 0 {
                collect(&path, label, depth - 1, samples)?;
            }
        } else if is_image(&path) {
            samples.push(Sample { id: path.display().to_string(), labels: vec![label], image: Image::File(path) });
        }
    }
    Ok(())
}

fn is_image(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// What lies in a folder, sorted by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = || std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut paths = read().map_err(Error::io("read", folder))?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_images_are_sorted_and_other_files_passed_over() {
        let root = tempfile::tempdir().unwrap();
        for file in ["b/2.JPG", "b/1.png", "b/notes.txt", "a/deep/x.webp", "readme.md"] {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let dataset = open(root.path()).unwrap();
        assert_eq!(dataset.classes, ["a", "b"]);
        let shown: Vec<_> = dataset
            .samples
            .iter()
            .map(|sample| (Path::new(&sample.id).file_name().unwrap().to_str().unwrap(), sample.labels[0]))
            .collect();
        assert_eq!(shown, [("x.webp", 0), ("1.png", 1), ("2.JPG", 1)]);
    }

    #[test]
    fn an_empty_class_and_an_empty_folder_are_named() {
        let root = tempfile::tempdir().unwrap();
        assert!(open(root.path()).unwrap_err().to_string().contains("no folders in it"));
        std::fs::create_dir(root.path().join("cat")).unwrap();
        // It stands among the images, so that it is counted and named as one that cannot be read.
        let missing = open(root.path()).unwrap().samples.remove(0).image;
        assert!(missing.pixels().unwrap_err().to_string().contains("cat: this class has no images"));
    }
}
