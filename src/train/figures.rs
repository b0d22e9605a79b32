//! The figures of a run, in three forms: lines of JSON, a table for spreadsheets, and TensorBoard's event files.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use super::tensorboard::{self, Events};
use crate::error::Result;
use crate::files;
use crate::report::curves::FIGURES;
use crate::report::text;

/// The name of the table.
pub(super) const CSV: &str = "metrics.csv";

/// What TensorBoard calls a figure, and where it stands in an epoch's line.
const SCALARS: [(&str, &str); 9] = [
    ("loss/train", "/loss"),
    ("loss/validation", "/validation_loss"),
    ("error/train", "/train_error"),
    ("error/top1", "/error/percent"),
    ("error/top5", "/top5_error/percent"),
    ("auroc/mean", "/auroc/mean_auroc"),
    ("lr", "/rate"),
    ("images_per_s", "/images_per_s"),
    ("memory_mib", "/memory_mib"),
];

/// A run's figures: what the run is made by, and what each epoch came to.
#[derive(Debug)]
pub(super) struct Figures {
    folder: PathBuf,
    header: Value,
    epochs: Vec<Value>,
    /// The event file of this session, from its first epoch on.
    events: Option<Events>,
}

impl Figures {
    /// Of a run that has done these epochs; nothing is written yet.
    pub(super) fn new(folder: &Path, header: Value, epochs: Vec<Value>) -> Self {
        Self { folder: folder.to_owned(), header, epochs, events: None }
    }

    pub(super) fn epochs(&self) -> &[Value] {
        &self.epochs
    }

    /// Adds an epoch and writes all forms.
    pub(super) fn add(&mut self, epoch: Value) -> Result<()> {
        self.write_event(&epoch)?;
        self.epochs.push(epoch);
        self.write()
    }

    /// Writes the lines and the table, where there are epochs.
    pub(super) fn write(&self) -> Result<()> {
        if self.epochs.is_empty() {
            return Ok(());
        }
        let lines = std::iter::once(&self.header).chain(&self.epochs).map(|line| line.to_string() + "\n");
        let lines: String = lines.collect();
        files::write(&self.folder.join(FIGURES), lines.as_bytes())?;
        files::write(&self.folder.join(CSV), csv(&self.epochs).as_bytes())
    }

    /// TensorBoard is shown one run in all event files of the folder, so those of another must go.
    fn write_event(&mut self, epoch: &Value) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let step = epoch["epoch"].as_u64().unwrap_or_default();
        let events = match &mut self.events {
            Some(events) => events,
            none => {
                if self.epochs.is_empty() {
                    tensorboard::remove(&self.folder)?;
                }
                none.insert(Events::create(&self.folder, now, &host(), step)?)
            }
        };
        let scalar = |(tag, at): (&'static str, &str)| Some((tag, epoch.pointer(at)?.as_f64()? as f32));
        events.add(now, step, &SCALARS.into_iter().filter_map(scalar).collect::<Vec<_>>())
    }
}

/// The machine's name, as far as the system says it without being asked by a call of its own.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("COMPUTERNAME").ok());
    let name: String = name.unwrap_or_default().trim().replace(['/', '\\'], "-");
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// A row an epoch. What is nested gets a column each, what has a name by it: `error_percent`,
/// `auroc_per_class_Effusion_low`.
fn csv(epochs: &[Value]) -> String {
    let rows: Vec<_> = epochs.iter().map(flat).collect();
    let mut columns = vec!["epoch"];
    for (name, _) in rows.iter().flatten() {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let cell = |row: &[(String, String)], column: &str| {
        row.iter().find(|(name, _)| name == column).map(|(_, value)| text::quoted(value)).unwrap_or_default()
    };
    let header = columns.iter().map(|column| text::quoted(column)).collect::<Vec<_>>().join(",");
    let lines = rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect::<Vec<_>>().join(","));
    std::iter::once(header).chain(lines).map(|line| line + "\n").collect()
}

/// The figures of an epoch by their columns, in order.
fn flat(epoch: &Value) -> Vec<(String, String)> {
    fn append(name: &str, value: &Value, row: &mut Vec<(String, String)>) {
        let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}_{key}") };
        match value {
            Value::Object(fields) => {
                let rest = fields.iter().filter(|(key, _)| *key != "name");
                rest.for_each(|(key, value)| append(&below(key), value, row));
            }
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    match value["name"].as_str() {
                        Some(name) => append(&below(name), value, row),
                        None => append(&below(&index.to_string()), value, row),
                    }
                }
            }
            Value::Null => row.push((name.to_owned(), String::new())),
            Value::String(text) => row.push((name.to_owned(), text.clone())),
            number => row.push((name.to_owned(), number.to_string())),
        }
    }
    let mut row = Vec::new();
    append("", epoch, &mut row);
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn epoch(number: usize) -> Value {
        json!({"epoch": number, "loss": 0.5, "error": {"wrong": 9, "percent": 2.5}, "train_error": null})
    }

    fn read(folder: &Path, name: &str) -> String {
        std::fs::read_to_string(folder.join(name)).unwrap()
    }

    fn event_files(folder: &Path) -> Vec<Vec<u8>> {
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = paths.filter(|path| path.to_string_lossy().contains("tfevents")).collect();
        paths.sort();
        paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    #[test]
    fn a_run_that_goes_on_keeps_the_epochs_before_and_replaces_those_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut figures = Figures::new(folder.path(), json!({"preset": "digits"}), Vec::new());
        (1..=3).for_each(|number| figures.add(epoch(number)).unwrap());
        assert_eq!(read(folder.path(), FIGURES).lines().count(), 4);
        // From the checkpoint behind the first epoch.
        let mut figures = Figures::new(folder.path(), json!({"preset": "digits"}), vec![epoch(1)]);
        figures.add(json!({"epoch": 2, "loss": 0.25, "note": "a, \"b\"", "auroc": {"per_class": [{"name": "x, y", "low": 0.5}, 1.0]}})).unwrap();
        let lines = read(folder.path(), FIGURES);
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), &lines[0]["preset"], &lines[1]), (3, &json!("digits"), &epoch(1)));
        assert_eq!(
            read(folder.path(), CSV),
            "epoch,error_percent,error_wrong,loss,train_error,\"auroc_per_class_x, y_low\",auroc_per_class_1,note\n\
             1,2.5,9,0.5,,,,\n\
             2,,,0.25,,0.5,1.0,\"a, \"\"b\"\"\"\n"
        );
        // The first session's file stays as it is; the second's voids its steps from 2 on.
        let events = event_files(folder.path());
        let holds = |index: usize, bytes: &[u8]| events[index].windows(bytes.len()).any(|window| window == bytes);
        assert_eq!(events.len(), 2);
        assert!(holds(0, b"\x10\x01:\x02\x08\x01") && holds(0, b"\n\x0aerror/top1\x15\0\0\x20\x40"));
        assert!(holds(1, b"\x10\x02:\x02\x08\x01") && !holds(1, b"error/top1"));
        // A run that begins anew leaves nothing of another.
        Figures::new(folder.path(), json!({}), Vec::new()).add(epoch(1)).unwrap();
        assert_eq!((event_files(folder.path()).len(), read(folder.path(), FIGURES).lines().count()), (1, 2));
    }
}
