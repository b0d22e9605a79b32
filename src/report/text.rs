//! Rows of the tables as text: for people, for a README, for a spreadsheet.

use std::fmt::Write;

use super::table::{Row, Set, decimals};

/// Names of the columns that [`cells`] fills.
pub const HEADER: [&str; 11] = [
    "network",
    "params M",
    "data",
    "metric",
    "crops",
    "published %",
    "measured %",
    "difference",
    "95 % interval",
    "protocol",
    "verdict",
];

/// A row as text.
pub fn cells(row: &Row) -> [String; 11] {
    let found = row.measured.as_ref();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let name = match found {
        Some(found) if found.weights != row.name => format!("{} ({})", row.name, found.weights),
        _ => row.name.clone(),
    };
    [
        name,
        or_dash(row.parameters.map(|count| format!("{:.2}", count as f64 / 1e6))),
        row.dataset.clone(),
        row.metric.to_owned(),
        row.crops.to_string(),
        format!("{:.*}", decimals(row.published).clamp(1, 3) as usize, row.published),
        or_dash(found.map(|found| format!("{:.3}", found.rate.percent))),
        or_dash(found.map(|found| format!("{:+.3}", found.difference))),
        or_dash(found.map(|found| format!("{:.2} to {:.2}", found.rate.low, found.rate.high))),
        found.map_or_else(|| row.published_protocol.clone(), |found| found.protocol.clone()),
        row.verdict.text().to_owned(),
    ]
}

/// The rows of one table in markdown.
pub fn markdown(set: Set, rows: &[Row]) -> String {
    let mut text =
        format!("### {}\n\n| {} |\n|---|--:|---|---|--:|--:|--:|--:|---|---|---|\n", set.title(), HEADER.join(" | "));
    for row in rows.iter().filter(|row| row.table == set) {
        let _ = writeln!(text, "| {} |", cells(row).map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
    text
}

/// A field of comma-separated values (RFC 4180).
pub(crate) fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// All rows as comma-separated values, figures unrounded.
pub fn csv(rows: &[Row]) -> String {
    let mut text = String::from(
        "table,name,parameters,dataset,metric,crops,published,published_protocol,source,weights,measured,difference,low,high,\
         wrong,images,protocol,verdict\n",
    );
    for row in rows {
        let found = row.measured.as_ref();
        let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let fields = [
            row.table.name().to_owned(),
            quoted(&row.name),
            row.parameters.map(|count| count.to_string()).unwrap_or_default(),
            quoted(&row.dataset),
            row.metric.to_owned(),
            row.crops.to_string(),
            row.published.to_string(),
            quoted(&row.published_protocol),
            quoted(&row.source),
            quoted(found.map_or("", |found| &found.weights)),
            number(found.map(|found| found.rate.percent)),
            number(found.map(|found| found.difference)),
            number(found.map(|found| found.rate.low)),
            number(found.map(|found| found.rate.high)),
            found.map(|found| found.rate.wrong.to_string()).unwrap_or_default(),
            found.map(|found| found.rate.of.to_string()).unwrap_or_default(),
            quoted(found.map_or("", |found| &found.protocol)),
            row.verdict.text().to_owned(),
        ];
        text.push_str(&fields.join(","));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use densenet_registry::Catalogue;

    use super::super::table::rows;
    use super::*;

    #[test]
    fn text_in_cells_is_quoted() {
        let rows = rows(&Catalogue::builtin().unwrap(), &[]);
        let row = rows.into_iter().find(|row| row.table == Set::Cifar && row.dataset == "C10").unwrap();
        assert_eq!(cells(&row)[..7], ["densenet-40-12", "1.02", "C10", "top-1", "1", "7.0", "-"].map(str::to_owned));
        let rows = [Row { source: "a, \"b\"".into(), ..row }];
        let csv = csv(&rows);
        let line = "cifar,densenet-40-12,1019722,C10,top-1,1,7,cifar10,\"a, \"\"b\"\"\",,,,,,,,,not measured";
        assert_eq!(csv.lines().nth(1), Some(line));
        assert!(
            markdown(Set::Cifar, &rows)
                .contains("| densenet-40-12 | 1.02 | C10 | top-1 | 1 | 7.0 | - | - | - | cifar10 | not measured |")
        );
    }
}
