//! The list as a table that fits the terminal.

use std::env;

use densenet_registry::{Digest, Weight};

use super::is_cached;
use crate::cli::output;

/// A column, and how it is filled.
struct Column {
    title: &'static str,
    is_number: bool,
    /// In which turn it goes where the terminal is too narrow; 0: never.
    turn: usize,
    cell: fn(&Weight) -> String,
}

const COLUMNS: [Column; 11] = [
    Column { title: "name", is_number: false, turn: 0, cell: |weight| weight.name.clone() },
    Column { title: "", is_number: false, turn: 0, cell: mark },
    Column { title: "params M", is_number: true, turn: 4, cell: |weight| millions(weight, 1e6, 2, false) },
    Column { title: "MAdds G", is_number: true, turn: 1, cell: |weight| millions(weight, 1e9, 3, true) },
    Column { title: "top-1 %", is_number: true, turn: 0, cell: error },
    Column { title: "format", is_number: false, turn: 3, cell: |weight| weight.format.name().into() },
    Column { title: "MB", is_number: true, turn: 5, cell: megabytes },
    Column { title: "digest", is_number: false, turn: 8, cell: digest },
    Column { title: "convert", is_number: false, turn: 6, cell: |weight| yes(weight.convertible) },
    Column { title: "cached", is_number: false, turn: 7, cell: |weight| yes(is_cached(weight)) },
    Column { title: "licence", is_number: false, turn: 2, cell: |weight| weight.licence_name().into() },
];

/// All columns, or as many as the terminal has room for.
pub(super) fn table(weights: &[&Weight]) -> String {
    let mut filled: Vec<(&Column, Vec<String>)> = COLUMNS
        .iter()
        .map(|column| (column, weights.iter().map(|weight| (column.cell)(weight)).collect::<Vec<_>>()))
        .collect();
    let wide = |(column, cells): &(&Column, Vec<String>)| {
        let longest = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        // A blank on either side.
        longest.max(column.title.len()) + 2
    };
    let mut left_out = Vec::new();
    if let Some(width) = width() {
        while filled.iter().map(wide).sum::<usize>() > width {
            let next = filled.iter().enumerate().filter(|(_, (column, _))| column.turn > 0);
            let Some((index, _)) = next.min_by_key(|(_, (column, _))| column.turn) else { break };
            left_out.push(filled.remove(index).0.title);
        }
    }
    eprintln!("*: the network's bare name means this file; ?: nobody has verified what it holds");
    if !left_out.is_empty() {
        eprintln!("left out, for the terminal's width: {}", left_out.join(", "));
    }
    let header: Vec<_> = filled.iter().map(|(column, _)| column.title).collect();
    let numbers: Vec<_> = (0..filled.len()).filter(|&index| filled[index].0.is_number).collect();
    let row = |number: usize| filled.iter().map(|(_, cells)| cells[number].clone()).collect();
    output::table(&header, &numbers, (0..weights.len()).map(row).collect())
}

/// Columns of the terminal; none where the output goes elsewhere. COLUMNS decides where it is set.
fn width() -> Option<usize> {
    let stated = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|&columns| columns > 0);
    stated.or_else(|| terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0)))
}

fn mark(weight: &Weight) -> String {
    match (weight.recommended, weight.unverified.is_some()) {
        (true, _) => "*",
        (_, true) => "?",
        _ => "",
    }
    .to_owned()
}

fn millions(weight: &Weight, unit: f64, digits: usize, of_work: bool) -> String {
    weight.network.config().map_or("-".into(), |config| {
        let side = config.input_size();
        let count = if of_work { config.multiply_adds(side, side) } else { config.parameter_count() as u64 };
        format!("{:.digits$}", count as f64 / unit)
    })
}

fn error(weight: &Weight) -> String {
    weight.headline().map_or("-".into(), |published| format!("{:.2}", published.top1_error))
}

fn megabytes(weight: &Weight) -> String {
    weight.file.size.map_or("-".into(), |size| format!("{:.1}", size as f64 / 1e6))
}

fn digest(weight: &Weight) -> String {
    let of = |digest: &Digest| match digest {
        Digest::Sha256(_) => "sha256".to_owned(),
        Digest::Sha256Prefix(digits) => format!("sha256[..{}]", digits.len()),
        Digest::Sha1(_) => "sha1".to_owned(),
        Digest::Md5(_) => "md5".to_owned(),
    };
    let inside = || weight.file.member.as_ref().map(|member| format!("{} inside", of(&member.digest)));
    weight.file.digest.as_ref().map(of).or_else(inside).unwrap_or_else(|| "none".into())
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "" }.to_owned()
}
