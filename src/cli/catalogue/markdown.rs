//! The list as CATALOGUE.md holds it: the same on every machine.

use std::collections::BTreeSet;
use std::fmt::Write;

use densenet_registry::Weight;

use crate::cli::output;

const HEAD: &str = "\
# Catalogue

<!-- Written by `cargo run --release -- list --format markdown > CATALOGUE.md`. -->
";

const LEGEND: &str = "\
- **size** in bytes, where it is known exactly.
- **digest**: what is known of it; a download is verified by it.
- **error**: the published one in per cent, top-1 / top-5, by the weight's own protocol where that was published, with the
  data. `info` shows every figure with its source.
- **protocol**: the preprocessing; in brackets where no source states it and the likeliest stands here.
- **licence**: its name, and the number of what its source states, below.
- **convert**: whether `convert` reads the file today.
- **remarks**: *recommended*: the network's bare name means this file; *unverified*: nobody has verified what it holds, and
  it is never recommended.
";

pub(super) fn list(weights: &[&Weight]) -> String {
    let networks: BTreeSet<_> = weights.iter().map(|weight| weight.network.name()).collect();
    let mut licences: Vec<&str> = Vec::new();
    let mut text = format!(
        "{HEAD}\n{} weight files of {} networks. `densenet-zoo info NAME` shows all that is known of one.\n\n{LEGEND}\n\
         | name | network | format | size | digest | error | protocol | licence | convert | remarks |\n\
         |---|---|---|--:|---|---|---|---|---|---|\n",
        weights.len(),
        networks.len()
    );
    for weight in weights {
        let stated = licences.iter().position(|known| *known == weight.licence).unwrap_or_else(|| {
            licences.push(&weight.licence);
            licences.len() - 1
        });
        let protocol = &weight.protocol.name;
        let cells = [
            weight.name.clone(),
            weight.network.name(),
            weight.format.name().to_owned(),
            weight.file.size.map_or(String::new(), output::thousands),
            weight.digest_strength().to_owned(),
            error(weight),
            if weight.protocol_assumed { format!("({protocol})") } else { protocol.clone() },
            format!("{} ({})", weight.licence_name(), stated + 1),
            if weight.convertible { "yes" } else { "" }.to_owned(),
            remarks(weight),
        ];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text.push_str("\nLicences, as their sources state them:\n\n");
    for (number, stated) in licences.iter().enumerate() {
        let _ = writeln!(text, "{}. {stated}", number + 1);
    }
    text.truncate(text.trim_end().len());
    text
}

fn error(weight: &Weight) -> String {
    weight.headline().map_or(String::new(), |published| {
        let top5 = published.top5_error.map_or(String::new(), |error| format!(" / {error:.2}"));
        format!("{:.2}{top5} {}", published.top1_error, published.dataset)
    })
}

fn remarks(weight: &Weight) -> String {
    let remarks = [(weight.recommended, "recommended"), (weight.unverified.is_some(), "unverified")];
    remarks.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
}
