//! What all verbs print alike.

use std::io::Write;

use comfy_table::{CellAlignment, Table, presets};
use densenet_zoo::{Error, Result};
use serde_json::Value;

/// Prints on stdout; a closed pipe is an error that `main` takes for success.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(|source| Error::Io { action: "write", path: "stdout".into(), source })
}

pub(super) fn print_json(value: &Value) -> Result<()> {
    print(&format!("{value:#}"))
}

/// Columns without lines between them; those in `right` are numbers.
pub(super) fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// 7978856 -> `7,978,856`
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!([0, 999, 1000, 7_978_856].map(thousands), ["0", "999", "1,000", "7,978,856"]);
    }
}
