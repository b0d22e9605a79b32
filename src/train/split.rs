//! Images parted into those that train and those that validate, and the file that keeps the parts.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::draws::{Draws, Random};
use super::labelled::{Labelled, Targets};
use crate::data::sheet::rows::Rows;
use crate::data::sheet::{LABEL, PATH, Part, SPLIT};
use crate::error::{Error, Result};

/// The part of each image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split(pub Vec<Part>);

/// What the draws are for: a part of their key.
const KEY: u64 = 3;

impl Split {
    /// Draws the images that validate: about `share` of all, of each class and of each finding. Images of the same group, as
    /// a patient's, come into the same part; `groups` has one an image. A seed gives the same parts on every machine.
    ///
    /// # Errors
    ///
    /// A class that cannot be in both parts, since it has one image or its images are all of one group.
    pub fn draw(labelled: &Labelled, groups: Option<&[String]>, share: f64, seed: u64) -> Result<Self> {
        let groups = grouped(labelled.len(), groups);
        let mut draft = Draft::new(labelled, &groups, share);
        for group in Draws::of(&[KEY, seed]).permutation(groups.len()) {
            if draft.improves(group) {
                draft.shift(group, true);
            }
        }
        for class in 0..labelled.classes() {
            if !draft.mend(class) && matches!(labelled.targets, Targets::Classes(_)) {
                let (name, images) = (labelled.name(class), draft.all[class]);
                return Err(Error::Usage(format!(
                    "class {name:?} cannot be in training and in validation: images {images}, groups {}",
                    draft.holders(class).count()
                )));
            }
        }
        let validating = draft.validates;
        if validating.iter().all(|&validates| validates == validating[0]) {
            let (images, groups) = (labelled.len(), groups.len());
            return Err(Error::Usage(format!("too few images to be parted: {images}, groups {groups}")));
        }
        let mut parts = vec![Part::Training; labelled.len()];
        for (group, _) in groups.iter().zip(validating).filter(|(_, validates)| *validates) {
            for &image in group {
                parts[image] = Part::Validation;
            }
        }
        Ok(Self(parts))
    }

    /// A group that is in several parts.
    pub fn divides<'g>(&self, groups: &'g [String]) -> Option<&'g str> {
        let mut known = HashMap::new();
        let divided = |(group, part): &(&'g String, &Part)| *known.entry(*group).or_insert(**part) != **part;
        groups.iter().zip(&self.0).find(divided).map(|(group, _)| group.as_str())
    }

    /// Training and validation images. Where none is to validate, those of the test part do.
    pub fn apply(&self, labelled: &Labelled) -> (Labelled, Labelled) {
        let of = |part| (0..self.0.len()).filter(|&image| self.0[image] == part).collect::<Vec<_>>();
        let validation = Some(of(Part::Validation)).filter(|images| !images.is_empty());
        let validation = validation.unwrap_or_else(|| of(Part::Test));
        (labelled.subset(&of(Part::Training)), labelled.subset(&validation))
    }

    /// The text of `split.csv`: the path under `root`, the class or the findings, and the part of each image. Such a file can
    /// be given as a split, and as labels too.
    pub fn to_csv(&self, labelled: &Labelled, root: &Path) -> Result<String> {
        let names = match labelled.targets {
            Targets::Classes(_) => vec![LABEL.to_owned()],
            Targets::Findings(_) => labelled.dataset.classes.clone(),
        };
        let header: Vec<String> = [PATH.to_owned()].into_iter().chain(names).chain([SPLIT.to_owned()]).collect();
        let rows = self.0.iter().enumerate().map(|(image, part)| {
            let said = match &labelled.targets {
                Targets::Classes(labels) => vec![labelled.name(labels[image])],
                Targets::Findings(_) => labelled.row(image).iter().map(|value| finding(*value)).collect(),
            };
            let path = relative(&labelled.dataset.samples[image].id, root);
            [path].into_iter().chain(said).chain([part.name().to_owned()]).collect()
        });
        let text = || {
            let mut out = csv::Writer::from_writer(Vec::new());
            [header].into_iter().chain(rows).try_for_each(|row: Vec<String>| out.write_record(row))?;
            let bytes = out.into_inner().map_err(csv::IntoInnerError::into_error)?;
            String::from_utf8(bytes).map_err(std::io::Error::other)
        };
        text().map_err(Error::io("write", Path::new("split.csv")))
    }

    /// Reads the parts of these images. Of the file's columns, `path` and `split` are looked at.
    ///
    /// # Errors
    ///
    /// An image without a row, and a row without an image.
    pub fn open(file: &Path, labelled: &Labelled, root: &Path) -> Result<Self> {
        let mut rows = Rows::open(file)?;
        let (path, part) = (rows.column(PATH)?, rows.column(SPLIT)?);
        let samples = &labelled.dataset.samples;
        let index: HashMap<String, usize> = samples.iter().map(|sample| relative(&sample.id, root)).zip(0..).collect();
        let mut parts = vec![None; samples.len()];
        while let Some(row) = rows.row()? {
            let image = *index.get(row.get(path)).ok_or_else(|| row.refuse(path, "the data have no such image"))?;
            if parts[image].replace(Part::of(&row, part)?).is_some() {
                return Err(row.refuse(path, "it comes twice"));
            }
        }
        let missing = parts.iter().position(Option::is_none);
        missing.map_or(Ok(Self(parts.into_iter().flatten().collect())), |image| {
            Err(Error::data(file, format!("no row for {}", relative(&samples[image].id, root))))
        })
    }
}

/// The images of each group; each is its own where there are none.
fn grouped(images: usize, groups: Option<&[String]>) -> Vec<Vec<usize>> {
    let Some(groups) = groups else { return (0..images).map(|image| vec![image]).collect() };
    let mut found: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
    groups.iter().zip(0..).for_each(|(group, image)| found.entry(group).or_default().push(image));
    found.into_values().collect()
}

/// A split being made: which groups validate, and how far that is from the share asked for, class by class.
struct Draft {
    /// Classes of each group's images, and of how many.
    groups: Vec<Vec<(usize, f64)>>,
    validates: Vec<bool>,
    /// Images of each class; the last are those with no finding.
    all: Vec<f64>,
    wanted: Vec<f64>,
    held: Vec<f64>,
}

impl Draft {
    fn new(labelled: &Labelled, groups: &[Vec<usize>], share: f64) -> Self {
        let none = labelled.classes();
        let count = |group: &Vec<usize>| {
            let mut counts = BTreeMap::new();
            for &image in group {
                let classes = Some(labelled.of(image)).filter(|classes| !classes.is_empty());
                for class in classes.unwrap_or_else(|| vec![none]) {
                    *counts.entry(class).or_insert(0.0) += 1.0;
                }
            }
            counts.into_iter().collect()
        };
        let groups: Vec<Vec<(usize, f64)>> = groups.iter().map(count).collect();
        let mut all = vec![0.0; none + 1];
        groups.iter().flatten().for_each(|&(class, images)| all[class] += images);
        let wanted = all.iter().map(|&all| (share * all).max(1.0).min(all - 1.0)).collect();
        Self { validates: vec![false; groups.len()], groups, held: vec![0.0; all.len()], all, wanted }
    }

    /// Whether the squares of what is lacking are less with a group than without it.
    fn improves(&self, group: usize) -> bool {
        let change = |&(class, images): &(usize, f64)| {
            images * (images + 2.0 * (self.held[class] - self.wanted[class])) / self.all[class]
        };
        self.groups[group].iter().map(change).sum::<f64>() < 0.0
    }

    fn shift(&mut self, group: usize, validates: bool) {
        let sign = if validates { 1.0 } else { -1.0 };
        self.groups[group].iter().for_each(|&(class, images)| self.held[class] += sign * images);
        self.validates[group] = validates;
    }

    /// The groups that have a class.
    fn holders(&self, class: usize) -> impl Iterator<Item = usize> {
        (0..self.groups.len()).filter(move |&group| self.groups[group].iter().any(|&(found, _)| found == class))
    }

    /// Sees to it that a class is in both parts: shifts the smallest group that leaves none of its classes lacking. Whether it
    /// is so then.
    fn mend(&mut self, class: usize) -> bool {
        let (all, held) = (self.all[class], self.held[class]);
        if all == 0.0 || held > 0.0 && held < all {
            return true;
        }
        let validates = held == 0.0;
        let spared = |&group: &usize| {
            self.groups[group].iter().all(|&(class, images)| {
                let left = if validates { self.all[class] - self.held[class] } else { self.held[class] };
                left > images
            })
        };
        let images = |&group: &usize| self.groups[group].iter().map(|(_, images)| *images as usize).sum::<usize>();
        let found = self.holders(class).filter(spared).min_by_key(images);
        found.map(|group| self.shift(group, validates)).is_some()
    }
}

fn finding(value: f32) -> String {
    if value.is_nan() { String::new() } else { value.to_string() }
}

/// A path under the root, alike on all systems; what is not under it stays as it is.
fn relative(id: &str, root: &Path) -> String {
    let path = Path::new(id);
    let path = path.strip_prefix(root).unwrap_or(path);
    path.display().to_string().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::super::labelled::tests::{classes, findings};
    use super::*;

    fn validating(split: &Split) -> Vec<usize> {
        (0..split.0.len()).filter(|&image| split.0[image] == Part::Validation).collect()
    }

    #[test]
    fn every_class_keeps_its_share() {
        let labels: Vec<usize> = (0..100).map(|image| [0, 1, 0, 2, 0, 1, 0, 2, 0, 1][image % 10]).collect();
        let animals = classes(&["ant", "bee", "cow"], &labels);
        let split = Split::draw(&animals, None, 0.2, 1).unwrap();
        let (training, validation) = split.apply(&animals);
        let positives = |part: &Labelled| part.counts().iter().map(|count| count.positives).collect::<Vec<_>>();
        assert_eq!((positives(&training), positives(&validation)), (vec![40, 24, 16], vec![10, 6, 4]));
        assert_eq!(Split::draw(&animals, None, 0.2, 1).unwrap(), split);
        assert_ne!(Split::draw(&animals, None, 0.2, 2).unwrap(), split);
    }

    #[test]
    fn a_class_of_two_is_on_both_sides_and_one_of_one_is_refused() {
        for seed in 0..20 {
            let split = Split::draw(&classes(&["ant", "bee"], &[0, 1, 1, 0, 0, 0, 0]), None, 0.1, seed).unwrap();
            let ants = validating(&split).iter().filter(|image| ![1, 2].contains(*image)).count();
            assert_eq!((ants, validating(&split).len()), (1, 2), "{seed}");
            let split = Split::draw(&classes(&["ant", "bee"], &[0, 1, 1, 0, 0, 0, 0]), None, 0.95, seed).unwrap();
            assert_eq!(validating(&split).len(), 5, "{seed}");
        }
        let error = Split::draw(&classes(&["ant", "bee"], &[0, 1, 0, 0]), None, 0.2, 0).unwrap_err().to_string();
        assert_eq!(error, "class \"bee\" cannot be in training and in validation: images 1, groups 1");
    }

    #[test]
    fn a_patient_is_on_one_side_only() {
        // 60 patients of one to five images; a third are ill.
        let patients: Vec<usize> = (0..180).map(|image| (image * image + image / 7) % 60).collect();
        let labels: Vec<usize> = patients.iter().map(|patient| usize::from(patient % 3 == 0)).collect();
        let groups: Vec<String> = patients.iter().map(|patient| format!("p{patient}")).collect();
        let images = classes(&["well", "ill"], &labels);
        for seed in 0..10 {
            let split = Split::draw(&images, Some(&groups), 0.25, seed).unwrap();
            let side: BTreeMap<_, _> = groups.iter().zip(&split.0).collect();
            assert!(groups.iter().zip(&split.0).all(|(group, part)| side[group] == part));
            assert_eq!(split.divides(&groups), None);
            let counts = split.apply(&images).1.counts();
            for (count, all) in counts.iter().zip(images.counts()) {
                let share = count.positives as f64 / all.positives as f64;
                assert!((share - 0.25).abs() < 0.1, "{seed}: {counts:?}");
            }
        }
    }

    #[test]
    fn large_groups_are_shifted_so_that_no_class_is_missing() {
        let groups: Vec<String> = ["a", "a", "a", "b", "b", "b", "b"].map(str::to_owned).to_vec();
        let images = classes(&["well"], &[0; 7]);
        // Either is further from a tenth than none.
        assert_eq!(validating(&Split::draw(&images, Some(&groups), 0.1, 0).unwrap()), [0, 1, 2]);
        assert_eq!(validating(&Split::draw(&images, Some(&groups), 0.9, 0).unwrap()), [3, 4, 5, 6]);
        let images = classes(&["well", "ill"], &[0, 0, 0, 0, 1, 1, 0]);
        let error = Split::draw(&images, Some(&groups), 0.3, 0).unwrap_err().to_string();
        assert_eq!(error, "class \"ill\" cannot be in training and in validation: images 2, groups 1");
    }

    #[test]
    fn findings_keep_their_share_and_so_do_images_without() {
        let values: Vec<f32> = (0..200).flat_map(|image| [image % 4 == 0, image % 50 == 1].map(f32::from)).collect();
        let chests = findings(&["edema", "hernia"], &values);
        let (training, validation) = Split::draw(&chests, None, 0.25, 5).unwrap().apply(&chests);
        let positives = |part: &Labelled| part.counts().iter().map(|count| count.positives).collect::<Vec<_>>();
        assert_eq!((positives(&training), positives(&validation)), (vec![38, 3], vec![12, 1]));
        assert_eq!(validation.len(), 12 + 1 + 36);
    }

    #[test]
    fn a_written_split_gives_the_very_same_sets() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("split.csv");
        let some = [1.0, 0.0, f32::NAN, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0];
        for labelled in [classes(&["a, b", "c"], &[0, 1, 0, 1]), findings(&["edema", "mass"], &some)] {
            let split = Split::draw(&labelled, None, 0.5, 3).unwrap();
            std::fs::write(&file, split.to_csv(&labelled, Path::new("")).unwrap()).unwrap();
            assert_eq!(Split::open(&file, &labelled, Path::new("")).unwrap(), split);
        }
        let labelled = classes(&["a", "b"], &[0, 1, 0, 1]);
        for (text, message) in [
            ("path,split\n0.png,train\n", "no row for 1.png"),
            ("path,split\n0.png,train\n9.png,val\n", "line 3, column \"path\": the data have no such image"),
            ("path,split\n0.png,train\n0.png,val\n", "line 3, column \"path\": it comes twice"),
            (
                "path,split\n0.png,train\n1.png,left\n",
                "line 3, column \"split\": \"left\"; train, val or test is expected",
            ),
            ("path,part\n0.png,train\n", "line 1: no column \"split\"; there is path, part"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = Split::open(&file, &labelled, Path::new("")).unwrap_err().to_string();
            assert!(error.ends_with(&format!("split.csv: {message}")), "{error}");
        }
    }

    #[test]
    fn test_images_validate_where_no_others_do() {
        let animals = classes(&["ant", "bee"], &[0, 1, 0, 1]);
        let [train, val, test] = [Part::Training, Part::Validation, Part::Test];
        let ids = |part: &Labelled| part.dataset.samples.iter().map(|sample| sample.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&Split(vec![train, test, val, train]).apply(&animals).1), ["2.png"]);
        assert_eq!(ids(&Split(vec![train, test, train, test]).apply(&animals).1), ["1.png", "3.png"]);
    }
}
