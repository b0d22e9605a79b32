//! Labels in a CSV file: a class an image, or a column a finding, as chest radiographs have them.

mod form;
pub(crate) mod rows;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Dataset, Image, Sample};
use crate::error::{Error, Result};
use form::{Form, What};
use rows::{Row, Rows};

/// The column of the paths.
pub(crate) const PATH: &str = "path";
/// The column of the classes.
pub(crate) const LABEL: &str = "label";
/// The column of the parts.
pub(crate) const SPLIT: &str = "split";

/// What a file says of its images.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// The images in the file's order. Where they have findings, their labels are empty, and the classes are the findings.
    pub dataset: Dataset,
    /// (images, findings) row by row: 1 present, 0 absent, NaN unknown. None where each image has a class.
    pub findings: Option<Vec<f32>>,
    /// The part of each image, where there is a column `split`.
    pub parts: Option<Vec<Part>>,
    /// What must not be on both sides of a split, as a patient: one an image.
    pub groups: Option<Vec<String>>,
}

/// How a file is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// What an uncertain finding, -1, is taken for.
    pub uncertain: Uncertain,
    /// The column whose equal values belong together.
    pub group: Option<String>,
    /// The classes in the network's order, or the findings to read; otherwise sorted by name, or as the columns stand.
    pub classes: Option<Vec<String>>,
}

/// What an uncertain finding is taken for (Irvin et al. 2019, arXiv 1901.07031, section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Uncertain {
    /// Unknown: it counts for nothing (U-Ignore).
    #[default]
    Ignore,
    /// Absent (U-Zeros).
    Absent,
    /// Present (U-Ones).
    Present,
}

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// To learn from.
    Training,
    /// To choose the best epoch by.
    Validation,
    /// To be left out until the end.
    Test,
}

impl Uncertain {
    fn value(self) -> f32 {
        match self {
            Self::Ignore => f32::NAN,
            Self::Absent => 0.0,
            Self::Present => 1.0,
        }
    }
}

impl std::str::FromStr for Uncertain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ignore" => Ok(Self::Ignore),
            "0" => Ok(Self::Absent),
            "1" => Ok(Self::Present),
            _ => Err("ignore, 0 or 1 is expected".into()),
        }
    }
}

impl Part {
    /// `train`, `val` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Training => "train",
            Self::Validation => "val",
            Self::Test => "test",
        }
    }

    pub(crate) fn of(row: &Row, column: usize) -> Result<Self> {
        match row.get(column).to_ascii_lowercase().as_str() {
            "train" | "training" => Ok(Self::Training),
            "val" | "valid" | "validation" => Ok(Self::Validation),
            "test" => Ok(Self::Test),
            other => Err(row.refuse(column, &format!("{other:?}; train, val or test is expected"))),
        }
    }
}

impl Sheet {
    /// Reads a file. Paths in it are relative to `root`, the folder of the images. Read are `path,label` with a class an image;
    /// `path` with a column a finding (1, 0, -1 for uncertain; empty or nan for unknown), each with a column `split` (train,
    /// val, test) if wanted; ChestX-ray14's `Data_Entry_2017.csv`, and CheXpert's `train.csv` and `valid.csv`.
    ///
    /// # Errors
    ///
    /// A path without its image, an empty label, a row of another length, or a value that is none of those: by line and column.
    pub fn open(path: &Path, root: &Path, reading: &Reading) -> Result<Self> {
        let mut rows = Rows::open(path)?;
        let form = Form::of(&rows, path, reading)?;
        let split = rows.find(&[SPLIT]);
        let mut files = Vec::new();
        let (mut labels, mut findings) = (Vec::new(), Vec::new());
        let (mut parts, mut groups) = (Vec::new(), Vec::new());
        let mut seen = HashMap::new();
        while let Some(row) = rows.row()? {
            let file = form.image(&row, root)?;
            if let Some(first) = seen.insert(file.clone(), row.line()) {
                return Err(row.refuse(form.path, &format!("line {first} has this image already")));
            }
            files.push(file);
            match &form.what {
                What::Label(column) => labels.push(label(&row, *column, reading.classes.as_deref())?),
                What::Listed { column, names } => findings.extend(listed(&row, *column, names)?),
                What::Columns { columns, .. } => {
                    for &column in columns {
                        findings.push(finding(&row, column, reading.uncertain, form.blank)?);
                    }
                }
            }
            parts.extend(split.map(|column| Part::of(&row, column)).transpose()?);
            groups.extend(form.group(&row)?);
        }
        if files.is_empty() {
            return Err(Error::data(path, "no images in it, only the header"));
        }
        let (classes, labels, findings) = match form.what {
            What::Label(_) => {
                let classes = reading.classes.clone().unwrap_or_else(|| sorted(&labels));
                let index: HashMap<&String, usize> = classes.iter().zip(0..).collect();
                let labels = labels.iter().map(|label| vec![index[label]]).collect();
                (classes, labels, None)
            }
            What::Listed { names, .. } | What::Columns { names, .. } => {
                (names, vec![Vec::new(); files.len()], Some(findings))
            }
        };
        let sample = |(file, labels): (PathBuf, Vec<usize>)| Sample {
            id: file.display().to_string(),
            labels,
            image: Image::File(file),
        };
        let samples = files.into_iter().zip(labels).map(sample).collect();
        Ok(Self {
            dataset: Dataset { kind: "csv", samples, classes },
            findings,
            parts: split.map(|_| parts),
            groups: (!groups.is_empty()).then_some(groups),
        })
    }

    /// The images to measure by: those of the test part, else those of the validation part, else all.
    #[must_use]
    pub fn held_out(mut self) -> Self {
        let parts = self.parts.take().unwrap_or_default();
        let part = [Part::Test, Part::Validation].into_iter().find(|part| parts.contains(part));
        let Some(part) = part else { return self };
        let kept = |image: &usize| parts[*image] == part;
        let images: Vec<usize> = (0..parts.len()).filter(kept).collect();
        let width = self.dataset.classes.len();
        let row =
            |values: Vec<f32>| images.iter().flat_map(|image| values[image * width..][..width].to_vec()).collect();
        self.findings = self.findings.map(row);
        self.groups = self.groups.map(|groups| images.iter().map(|&image| groups[image].clone()).collect());
        self.parts = Some(vec![part; images.len()]);
        self.dataset.samples = images.iter().map(|&image| self.dataset.samples[image].clone()).collect();
        self
    }
}

/// Whether a path is a CSV file's.
pub fn is_sheet(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"))
}

fn sorted(labels: &[String]) -> Vec<String> {
    labels.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

fn label(row: &Row, column: usize, classes: Option<&[String]>) -> Result<String> {
    match (row.get(column), classes) {
        ("", _) => Err(row.refuse(column, "the label is empty")),
        (label, Some(classes)) if classes.iter().all(|class| class != label) => {
            Err(row.refuse(column, &format!("{label:?} is none of the classes {}", classes.join(", "))))
        }
        (label, _) => Ok(label.to_owned()),
    }
}

fn finding(row: &Row, column: usize, uncertain: Uncertain, blank: f32) -> Result<f32> {
    match row.get(column) {
        "" => Ok(blank),
        text if text.eq_ignore_ascii_case("nan") => Ok(f32::NAN),
        text => match text.parse::<f32>() {
            Ok(value) if value == 0.0 || value == 1.0 => Ok(value),
            Ok(-1.0) => Ok(uncertain.value()),
            _ => Err(row.refuse(column, &format!("{text:?}; 1, 0, -1, nan or nothing is expected of a finding"))),
        },
    }
}

/// Names with bars between.
fn listed(row: &Row, column: usize, names: &[String]) -> Result<Vec<f32>> {
    let mut found = vec![0.0; names.len()];
    for name in row.get(column).split('|').map(str::trim) {
        match names.iter().position(|known| known == name) {
            Some(at) => found[at] = 1.0,
            None if form::CHEST_X_RAY_14.contains(&name) || name == form::NONE => {}
            None => return Err(row.refuse(column, &format!("{name:?} is none of ChestX-ray14's findings"))),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these empty files, and `sheet.csv` of this text in it.
    fn folder(files: &[&str], text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::fs::write(root.path().join("sheet.csv"), text).unwrap();
        root
    }

    fn read(files: &[&str], text: &str, reading: &Reading) -> Result<Sheet> {
        let root = folder(files, text);
        Sheet::open(&root.path().join("sheet.csv"), root.path(), reading)
    }

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// -1 for what is not known.
    fn shown(sheet: &Sheet) -> Vec<f32> {
        let values = sheet.findings.as_ref().unwrap();
        values.iter().map(|value| if value.is_nan() { -1.0 } else { *value }).collect()
    }

    #[test]
    fn a_class_an_image_is_numbered_by_its_name_or_as_asked_for() {
        // With the mark that Excel puts first, and a name in quotes.
        let text = "\u{feff}Path,label,split\nb.png,\"oak, red\",train\na/a.png, elm,valid\n";
        let sheet = read(&["b.png", "a/a.png"], text, &Reading::default()).unwrap();
        let labels =
            |sheet: &Sheet| sheet.dataset.samples.iter().map(|sample| sample.labels.clone()).collect::<Vec<_>>();
        assert_eq!(
            (&sheet.dataset.classes[..], labels(&sheet)),
            (&strings(&["elm", "oak, red"])[..], vec![vec![1], vec![0]])
        );
        assert_eq!(sheet.parts, Some(vec![Part::Training, Part::Validation]));
        assert!(sheet.findings.is_none() && sheet.groups.is_none());
        let order = Reading { classes: Some(strings(&["oak, red", "elm", "ash"])), ..Reading::default() };
        assert_eq!(labels(&read(&["b.png", "a/a.png"], text, &order).unwrap()), [[0], [1]]);
    }

    #[test]
    fn findings_are_present_absent_or_unknown() {
        let text = "path,edema,mass,who\n1.png,1,0.0,ann\n2.png,,-1.0,bob\n3.png,NaN,1.0,ann\n";
        let files = ["1.png", "2.png", "3.png"];
        let reading = Reading { group: Some("who".into()), ..Reading::default() };
        let sheet = read(&files, text, &reading).unwrap();
        assert_eq!(
            (&sheet.dataset.classes[..], shown(&sheet)),
            (&strings(&["edema", "mass"])[..], vec![1.0, 0.0, -1.0, -1.0, -1.0, 1.0])
        );
        assert_eq!(sheet.groups, Some(strings(&["ann", "bob", "ann"])));
        for (uncertain, value) in [("0", 0.0), ("1", 1.0)] {
            let reading = Reading { uncertain: uncertain.parse().unwrap(), ..reading.clone() };
            assert_eq!(shown(&read(&files, text, &reading).unwrap())[3], value);
        }
        let some = Reading { classes: Some(strings(&["mass"])), ..reading };
        assert_eq!(shown(&read(&files, text, &some).unwrap()), [0.0, -1.0, 1.0]);
    }

    #[test]
    fn chest_x_ray_14_is_read_as_it_is_published() {
        // The header and two rows of Data_Entry_2017.csv, whose header has commas within names.
        let text = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
                    OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n\
                    00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,2894,2729,0.143,0.143,\n\
                    00000002_000.png,No Finding,0,2,81,M,PA,2500,2048,0.171,0.171,\n";
        let files = ["images_001/images/00000001_001.png", "images_012/images/00000002_000.png"];
        let sheet = read(&files, text, &Reading::default()).unwrap();
        let mut expected = vec![0.0; 28];
        (expected[1], expected[10]) = (1.0, 1.0);
        assert_eq!((shown(&sheet), sheet.groups), (expected, Some(strings(&["1", "2"]))));
        assert_eq!(sheet.dataset.classes[10], "Emphysema");
        let error = read(&files, &text.replace("Emphysema", "Emphysma"), &Reading::default()).unwrap_err().to_string();
        assert!(
            error.ends_with("line 2, column \"Finding Labels\": \"Emphysma\" is none of ChestX-ray14's findings"),
            "{error}"
        );
    }

    #[test]
    fn chexpert_is_read_as_it_is_published() {
        let text = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Edema\n\
                    CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,\n\
                    CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,,-1.0,0.0\n";
        let files = ["train/patient00001/study1/view1_frontal.jpg", "train/patient00002/study2/view1_frontal.jpg"];
        let sheet = read(&files, text, &Reading::default()).unwrap();
        assert_eq!(
            (&sheet.dataset.classes[..], shown(&sheet)),
            (&strings(&["No Finding", "Cardiomegaly", "Edema"])[..], vec![1.0, 0.0, 0.0, 0.0, -1.0, 0.0])
        );
        assert_eq!(sheet.groups, Some(strings(&["patient00001", "patient00002"])));
    }

    #[test]
    fn errors_name_line_and_column() {
        let order = Reading { classes: Some(strings(&["oak"])), ..Reading::default() };
        let group = Reading { group: Some("who".into()), ..Reading::default() };
        let own = Reading::default();
        for (text, reading, message) in [
            ("path,label\n1.png,oak\nx.png,elm\n", &own, "line 3, column \"path\": no such image: "),
            ("path,label\n1.png,\n", &own, "line 2, column \"label\": the label is empty"),
            ("path,label\n1.png,oak,3\n", &own, "line 2: 3 fields where the header has 2"),
            ("path,label\n1.png,oak\n1.png,elm\n", &own, "line 3, column \"path\": line 2 has this image already"),
            ("path,label\n1.png,elm\n", &order, "line 2, column \"label\": \"elm\" is none of the classes oak"),
            (
                "path,mass\n1.png,2\n",
                &own,
                "line 2, column \"mass\": \"2\"; 1, 0, -1, nan or nothing is expected of a finding",
            ),
            ("path,mass\n1.png,1\n", &order, "line 1: no finding \"oak\"; there is mass"),
            ("path,label\n1.png,oak\n", &group, "line 1: no column \"who\"; there is path, label"),
            ("path,who,label\n1.png,,oak\n", &group, "line 2, column \"who\": the group is empty"),
            ("path,label,split\n1.png,oak,\n", &own, "line 2, column \"split\": \"\"; train, val or test is expected"),
            ("path,split\n1.png,val\n", &own, "line 1: neither a column \"label\" nor one of a finding"),
            ("label\noak\n", &own, "line 1: no column \"path\""),
            ("path,label\n", &own, "no images in it, only the header"),
            ("", &own, "line 1: no header"),
        ] {
            let error = read(&["1.png"], text, reading).unwrap_err().to_string();
            assert!(error.contains(&format!("sheet.csv: {message}")), "{error}");
        }
    }
}
