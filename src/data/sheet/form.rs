//! Which columns hold what: files of one's own, ChestX-ray14's and CheXpert's, known by their headers.

use std::path::{Path, PathBuf};

use super::rows::{Row, Rows};
use super::{LABEL, PATH, Reading, SPLIT};
use crate::error::{Error, Result};

/// The findings of ChestX-ray14 in CheXNet's order (Wang et al. 2017, arXiv 1705.02315; Rajpurkar et al. 2017, arXiv
/// 1711.05225, table 2).
pub(super) const CHEST_X_RAY_14: [&str; 14] = [
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
];
/// What ChestX-ray14 lists where there is none.
pub(super) const NONE: &str = "No Finding";
/// What CheXpert says of an image before its findings.
const CHEXPERT: [&str; 4] = ["Sex", "Age", "Frontal/Lateral", "AP/PA"];

/// How a file is laid out.
pub(super) struct Form {
    pub(super) path: usize,
    pub(super) what: What,
    group: Group,
    /// What an empty finding is.
    pub(super) blank: f32,
    /// Where images may lie under the root.
    places: Places,
}

/// What is said of an image, and where.
pub(super) enum What {
    /// The name of its class.
    Label(usize),
    /// The names of its findings.
    Listed { column: usize, names: Vec<String> },
    /// A column a finding.
    Columns { columns: Vec<usize>, names: Vec<String> },
}

enum Group {
    None,
    Column(usize),
    /// CheXpert's paths are of `…/patient00001/study1/view1_frontal.jpg`.
    Patient,
}

#[derive(Clone, Copy)]
enum Places {
    /// As the path says.
    Own,
    /// In `images_001/images` to `images_012/images` or `images`, as the archives unpack.
    ChestXRay14,
    /// The path begins with the name of the archive.
    CheXpert,
}

impl Form {
    pub(super) fn of(rows: &Rows, file: &Path, reading: &Reading) -> Result<Self> {
        let group = reading.group.as_deref().map(|name| rows.column(name)).transpose()?;
        let own = group.map(Group::Column);
        if let (Some(path), Some(column)) = (rows.find(&["Image Index"]), rows.find(&["Finding Labels"])) {
            let names = chosen(file, reading, CHEST_X_RAY_14.map(str::to_owned).to_vec())?;
            let patient = || rows.find(&["Patient ID"]).map_or(Group::None, Group::Column);
            return Ok(Self {
                path,
                what: What::Listed { column, names },
                group: own.unwrap_or_else(patient),
                blank: 0.0,
                places: Places::ChestXRay14,
            });
        }
        let Some(path) = rows.find(&[PATH, "image", "file", "filename"]) else {
            let reason = "line 1: no column \"path\"; `path,label`, `path` with a column a finding, ChestX-ray14's or \
                          CheXpert's file is expected";
            return Err(Error::data(file, reason));
        };
        let chexpert = CHEXPERT.iter().all(|name| rows.find(&[name]).is_some());
        let what = if let Some(column) = rows.find(&[LABEL, "class"]) {
            What::Label(column)
        } else {
            let others = |at: usize, name: &str| {
                let known = name.is_empty() || name.eq_ignore_ascii_case(SPLIT) || chexpert && CHEXPERT.contains(&name);
                known || at == path || Some(at) == group
            };
            let all = rows.header().enumerate().filter(|(at, name)| !others(*at, name));
            let names = chosen(file, reading, all.map(|(_, name)| name.to_owned()).collect())?;
            let columns = names.iter().map(|name| rows.column(name)).collect::<Result<_>>()?;
            What::Columns { columns, names }
        };
        // CheXpert leaves a field empty where a report does not speak of the finding, which is taken for absent.
        let (blank, group, places) = if chexpert {
            (0.0, own.unwrap_or(Group::Patient), Places::CheXpert)
        } else {
            (f32::NAN, own.unwrap_or(Group::None), Places::Own)
        };
        Ok(Self { path, what, group, blank, places })
    }

    /// The image of a row.
    pub(super) fn image(&self, row: &Row, root: &Path) -> Result<PathBuf> {
        let path = Path::new(row.get(self.path));
        if path.as_os_str().is_empty() {
            return Err(row.refuse(self.path, "the path is empty"));
        }
        let mut candidates = vec![root.join(path)];
        match self.places {
            Places::Own => {}
            Places::ChestXRay14 => {
                candidates.push(root.join("images").join(path));
                candidates.extend((1..=12).map(|part| root.join(format!("images_{part:03}/images")).join(path)));
            }
            Places::CheXpert => candidates.push(root.join(path.components().skip(1).collect::<PathBuf>())),
        }
        let found = candidates.iter().find(|candidate| candidate.is_file());
        found.cloned().ok_or_else(|| row.refuse(self.path, &format!("no such image: {}", candidates[0].display())))
    }

    /// What a row's image belongs to.
    pub(super) fn group(&self, row: &Row) -> Result<Option<String>> {
        match self.group {
            Group::None => Ok(None),
            Group::Column(column) => match row.get(column) {
                "" => Err(row.refuse(column, "the group is empty")),
                group => Ok(Some(group.to_owned())),
            },
            Group::Patient => {
                let path = row.get(self.path);
                let patient = path.split('/').find(|part| part.starts_with("patient"));
                let patient = patient.ok_or_else(|| row.refuse(self.path, "no patient's folder in it"))?;
                Ok(Some(patient.to_owned()))
            }
        }
    }
}

/// The findings asked for, or all.
fn chosen(file: &Path, reading: &Reading, all: Vec<String>) -> Result<Vec<String>> {
    let Some(asked) = &reading.classes else {
        return if all.is_empty() {
            Err(Error::data(file, "line 1: neither a column \"label\" nor one of a finding"))
        } else {
            Ok(all)
        };
    };
    match asked.iter().find(|name| !all.contains(name)) {
        None => Ok(asked.clone()),
        Some(unknown) => Err(Error::data(file, format!("line 1: no finding {unknown:?}; there is {}", all.join(", ")))),
    }
}
