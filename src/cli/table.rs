//! `table`: published figures and measured ones side by side.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use densenet_zoo::report::Measured;
use densenet_zoo::report::table::{Row, Set, Verdict, rows};
use densenet_zoo::report::text::{HEADER, cells, csv, markdown};
use densenet_zoo::store::Store;
use densenet_zoo::{Error, Result};
use serde_json::json;

use super::output;

#[derive(Args)]
pub(super) struct Table {
    /// Results: what `eval --format json` printed, predictions, or folders of either. Without any, only what was published.
    results: Vec<PathBuf>,
    /// Fail if a figure that was measured by the published protocol is off by more than this, in points of per cent, or if
    /// there is none.
    #[arg(long, value_name = "POINTS")]
    check: Option<f64>,
    /// Only rows for which something was measured.
    #[arg(long)]
    measured: bool,
    /// How the tables are printed.
    #[arg(long, value_enum, default_value = "human")]
    format: TableFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TableFormat {
    /// For the terminal.
    Human,
    /// For a README.
    Markdown,
    /// One row a line, figures unrounded.
    Csv,
    /// One array of rows.
    Json,
}

impl Table {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let results = Measured::open_all(&self.results)?;
        let mut rows = rows(&store.catalogue, &results);
        if self.measured {
            rows.retain(|row| row.measured.is_some());
        }
        for result in results.iter().filter(|result| !stands_somewhere(result, &rows)) {
            let (path, run) = (result.path.display(), &result.run);
            eprintln!("{path}: nothing is published for {} on {}", run.architecture, run.dataset);
        }
        let text = match self.format {
            TableFormat::Human => shown(&rows, |set, rows| {
                let lines = rows.iter().map(|row| cells(row).to_vec()).collect();
                format!("{}\n{}", set.title(), output::table(&HEADER, &[1, 4, 5, 6, 7], lines))
            }),
            TableFormat::Markdown => shown(&rows, |set, _| markdown(set, &rows).trim_end().to_owned()),
            TableFormat::Csv => csv(&rows).trim_end().to_owned(),
            TableFormat::Json => format!("{:#}", json!(rows)),
        };
        output::print(&text)?;
        self.check.map_or(Ok(()), |most| check(&rows, most))
    }
}

/// Each table that has rows, one after the other.
fn shown(rows: &[Row], one: impl Fn(Set, &[Row]) -> String) -> String {
    let tables = Set::ALL.into_iter().filter_map(|set| {
        let rows: Vec<Row> = rows.iter().filter(|row| row.table == set).cloned().collect();
        (!rows.is_empty()).then(|| one(set, &rows))
    });
    tables.collect::<Vec<_>>().join("\n\n")
}

fn stands_somewhere(result: &Measured, rows: &[Row]) -> bool {
    rows.iter().filter_map(|row| row.measured.as_ref()).any(|found| found.weights == result.run.model)
}

fn check(rows: &[Row], most: f64) -> Result<()> {
    let comparable = |row: &&Row| !matches!(row.verdict, Verdict::NotMeasured | Verdict::OtherProtocol);
    let differences: Vec<_> = rows
        .iter()
        .filter(comparable)
        .filter_map(|row| row.measured.as_ref().map(|found| (row, found.difference)))
        .collect();
    if differences.is_empty() {
        return Err(Error::Negative(
            "no figure was measured by the protocol of a published one; nothing is checked".into(),
        ));
    }
    // A published figure is rounded, so that a difference of exactly the tolerance passes.
    let off: Vec<String> = differences
        .iter()
        .filter(|(_, difference)| difference.abs() > most + 1e-9)
        .map(|(row, difference)| format!("{} {} {} by {difference:+.3}", row.name, row.dataset, row.metric))
        .collect();
    if off.is_empty() {
        return Ok(());
    }
    Err(Error::Negative(format!("off by more than {most} points: {}", off.join(", "))))
}
