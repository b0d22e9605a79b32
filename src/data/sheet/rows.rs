//! A CSV file row by row: every error names file, line and column.

use std::fs::File;
use std::path::{Path, PathBuf};

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord, Trim};

use crate::error::{Error, Result};

/// An open file behind its header.
#[derive(Debug)]
pub(crate) struct Rows {
    reader: Reader<File>,
    path: PathBuf,
    header: StringRecord,
}

/// A row of as many fields as the header.
#[derive(Debug)]
pub(crate) struct Row<'r> {
    path: &'r Path,
    header: &'r StringRecord,
    line: u64,
    fields: StringRecord,
}

impl Rows {
    /// Reads the header.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(file);
        let header = reader.headers().map_err(|error| refuse(path, &error))?;
        let header: StringRecord = header.iter().map(|name| name.trim_start_matches('\u{feff}')).collect();
        if header.iter().all(str::is_empty) {
            return Err(Error::data(path, "line 1: no header; the columns' names are expected"));
        }
        Ok(Self { reader, path: path.to_owned(), header })
    }

    /// The names of the columns.
    pub(crate) fn header(&self) -> impl Iterator<Item = &str> {
        self.header.iter()
    }

    /// The first column of one of these names, in small letters or large.
    pub(crate) fn find(&self, names: &[&str]) -> Option<usize> {
        self.header().position(|column| names.iter().any(|name| column.eq_ignore_ascii_case(name)))
    }

    /// The column of that name.
    pub(crate) fn column(&self, name: &str) -> Result<usize> {
        self.find(&[name]).ok_or_else(|| {
            let columns: Vec<_> = self.header().collect();
            Error::data(&self.path, format!("line 1: no column {name:?}; there is {}", columns.join(", ")))
        })
    }

    /// The next row.
    pub(crate) fn row(&mut self) -> Result<Option<Row<'_>>> {
        let mut fields = StringRecord::new();
        let found = self.reader.read_record(&mut fields).map_err(|error| refuse(&self.path, &error))?;
        let line = fields.position().map_or(0, csv::Position::line);
        Ok(found.then_some(Row { path: &self.path, header: &self.header, line, fields }))
    }
}

impl Row<'_> {
    /// A field, without the blanks around it.
    pub(crate) fn get(&self, column: usize) -> &str {
        self.fields.get(column).unwrap_or_default()
    }

    /// Where it is in the file.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// The error of a field.
    pub(crate) fn refuse(&self, column: usize, reason: &str) -> Error {
        let name = self.header.get(column).unwrap_or_default();
        Error::data(self.path, format!("line {}, column {name:?}: {reason}", self.line))
    }
}

fn refuse(path: &Path, error: &csv::Error) -> Error {
    let line = error.position().map_or(1, csv::Position::line);
    Error::data(
        path,
        match error.kind() {
            ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("line {line}: {len} fields where the header has {expected_len}")
            }
            ErrorKind::Utf8 { err, .. } => format!("line {line}: field {} is no UTF-8", err.field() + 1),
            _ => format!("line {line}: {error}"),
        },
    )
}
