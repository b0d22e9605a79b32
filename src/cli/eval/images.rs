//! The images that `eval` measures by: a data set, or what a CSV file says.

use std::path::Path;

use densenet_zoo::Result;
use densenet_zoo::data::Dataset;
use densenet_zoo::data::imagenet::LabelSet;
use densenet_zoo::data::sheet::{Reading, Sheet, is_sheet};

use super::Run;

impl Run {
    /// The images to measure by; where they have findings, those too, row by row.
    pub(super) fn images(&self, data: &str) -> Result<(Dataset, Option<Vec<f32>>)> {
        let (path, labels) = (Path::new(data), Path::new(&self.labels));
        let (file, root) = match path.parent() {
            _ if is_sheet(labels) => (labels, path),
            Some(root) if is_sheet(path) => (path, root),
            _ => return Ok((Dataset::open(data, &LabelSet::open(&self.labels)?)?, None)),
        };
        let reading = Reading { uncertain: self.uncertain, ..Reading::default() };
        let sheet = Sheet::open(file, root, &reading)?.held_out();
        if let Some(part) = sheet.parts.as_ref().and_then(|parts| parts.first()) {
            eprintln!("{}: {} images of its part {}", file.display(), sheet.dataset.samples.len(), part.name());
        }
        Ok((sheet.dataset, sheet.findings))
    }
}
