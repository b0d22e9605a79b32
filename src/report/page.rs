//! All results on one page that needs nothing else: no script, no font, no address.

use base64::Engine;
use densenet_arch::networks;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Measured;
use super::examples::Example;
use super::scatter::{self, Point};
use super::table::{Row, Set, Verdict};
use super::text::{HEADER, cells};
use crate::data::labels::Labels;
use crate::data::resize::Rgb8;
use crate::metrics::Rate;
use crate::predictions::Header;

/// One evaluation with what illustrates it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The figures.
    pub measured: Measured,
    /// The names of its classes.
    pub labels: Labels,
    /// Its commonest errors.
    pub examples: Vec<Example>,
    /// What could not be shown, and why.
    pub notes: Vec<String>,
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2129; --paper: #fff; --line: #d5d9e0; --soft: #f4f6f9; --good: #1a7f37; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ec; --paper: #14171c; --line: #363c46; --soft: #1d2229; --good: #57c272; --bad: #f2867d; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); } h3 { font-size: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid var(--line); }
th { background: var(--soft); } td.n, th.n { text-align: right; }
.reproduced, .within-interval { color: var(--good); } .differs { color: var(--bad); } .not-measured { opacity: .6; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; } .charts figure { margin: 0; flex: 1 1 20rem; max-width: 27rem; }
svg { max-width: 100%; height: auto; }
code { overflow-wrap: anywhere; }
.big { display: flex; flex-wrap: wrap; gap: .6rem; padding: 0; margin: .6rem 0; list-style: none; }
.big li { background: var(--soft); border-radius: .4rem; padding: .5rem .8rem; } .big b { display: block; font-size: 1.25rem; }
.images { display: flex; flex-wrap: wrap; gap: .4rem; align-items: start; margin: .2rem 0 1rem; }
.images figure { margin: 0; font-size: .7rem; max-width: 8rem; overflow-wrap: anywhere; } .images img { display: block; image-rendering: auto; }
.note { font-size: .85rem; opacity: .8; }
@media print { body { max-width: none; font-size: 11px; } h2, figure, .images { break-inside: avoid; } details > * { display: revert; } }
";

/// The page.
pub fn page(title: &str, rows: &[Row], runs: &[Run]) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                (overview(runs))
                h2 { "Published and measured" }
                @for set in Set::ALL { (table(set, rows)) }
                h2 { "Error against size" }
                (size(rows, runs))
                @for run in runs { (one(run)) }
                p.note { "Written by densenet-zoo " (env!("CARGO_PKG_VERSION")) ". Intervals are Wilson's, 95 %." }
            }
        }
    };
    markup.into_string()
}

fn overview(runs: &[Run]) -> Markup {
    let rate = |rate: &Rate| format!("{:.3} % ({:.2} to {:.2})", rate.percent, rate.low, rate.high);
    html! {
        div.wide {
            table {
                tr {
                    @for name in ["model", "data", "protocol", "crops", "images", "top-1 error", "top-5 error", "images a second"] {
                        th { (name) }
                    }
                }
                @for Run { measured, .. } in runs {
                    tr {
                        td { (measured.run.model) }
                        td { (measured.run.dataset) }
                        td { (measured.run.protocol) }
                        td.n { (measured.run.crops) }
                        td.n { (measured.summary.images) }
                        td.n { (rate(&measured.summary.top1_error)) }
                        td.n { (rate(&measured.summary.top5_error)) }
                        td.n { @if let Some(rate) = measured.rate { (format!("{rate:.0}")) } @else { "-" } }
                    }
                }
            }
        }
    }
}

/// A table; folded up where nothing of it was measured.
fn table(set: Set, rows: &[Row]) -> Markup {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.table == set).collect();
    let class = |verdict: Verdict| serde_json::to_value(verdict).ok().and_then(|v| v.as_str().map(str::to_owned));
    let numeric = |column: usize| matches!(column, 1 | 4..=7);
    let body = html! {
        div.wide {
            table {
                tr { @for (column, name) in HEADER.iter().enumerate() { th.n[numeric(column)] { (name) } } }
                @for row in &rows {
                    tr class=[class(row.verdict)] {
                        @for (column, cell) in cells(row).iter().enumerate() { td.n[numeric(column)] { (cell) } }
                    }
                }
            }
        }
    };
    html! {
        @if rows.is_empty() {}
        @else if rows.iter().any(|row| row.measured.is_some()) { h3 { (set.title()) } (body) }
        @else { details { summary { (set.title()) ": not measured" } (body) } }
    }
}

/// Figure 3 of the paper for ImageNet, and the same for each column of the CIFAR table of which something was measured.
fn size(rows: &[Row], runs: &[Run]) -> Markup {
    let mut columns: Vec<(Set, &str)> = vec![(Set::Imagenet, "imagenet-val")];
    for row in rows.iter().filter(|row| row.table == Set::Cifar && row.measured.is_some()) {
        if !columns.contains(&(row.table, &row.dataset)) {
            columns.push((row.table, &row.dataset));
        }
    }
    let figures = columns.iter().flat_map(|&(set, dataset)| {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.table == set && row.dataset == dataset).collect();
        let points = |x: &dyn Fn(&Row) -> Option<f64>| {
            let mut points = Vec::new();
            for row in &rows {
                let Some(x) = x(row) else { continue };
                let published = Point { name: row.name.clone(), x, y: row.published, measured: false };
                // A network that was measured twice is published once.
                if !points.iter().any(|point: &Point| !point.measured && point.name == row.name) {
                    points.push(published);
                }
                let found = row.measured.as_ref();
                points.extend(found.map(|found| Point {
                    name: found.weights.clone(),
                    x,
                    y: found.rate.percent,
                    measured: true,
                }));
            }
            points
        };
        let parameters = points(&|row| row.parameters.map(|count| count as f64 / 1e6));
        let side = if set == Set::Imagenet { 224 } else { 32 };
        let operations =
            points(&|row| networks::find(&row.name).map(|n| n.config.multiply_adds(side, side) as f64 / 1e9));
        let title = format!("{dataset}: top-1 error, %");
        [
            scatter::errors(&title, "parameters, M", &parameters),
            scatter::errors(&title, "multiply-adds, G", &operations),
        ]
    });
    // Networks that are in no table still have an error and a size.
    let free: Vec<&Run> = runs.iter().filter(|run| networks::find(&run.measured.run.architecture).is_none()).collect();
    html! {
        div.charts { @for svg in figures { figure { (PreEscaped(svg)) } } }
        @if !free.is_empty() {
            p.note {
                "In no published table: "
                @for (index, run) in free.iter().enumerate() {
                    @if index > 0 { ", " }
                    (run.measured.run.model) " (" (run.measured.run.architecture) ")"
                }
                "."
            }
        }
    }
}

fn one(run: &Run) -> Markup {
    let Measured {
        run: Header { model, dataset, protocol, crops, decoder, device, backend, sha256, .. },
        summary,
        bad,
        rate,
        ..
    } = &run.measured;
    let mut worst: Vec<_> = summary.per_class.iter().filter(|class| class.wrong > 0).copied().collect();
    worst.sort_by(|a, b| (b.wrong * a.of).cmp(&(a.wrong * b.of)).then(a.label.cmp(&b.label)));
    worst.truncate(20);
    let percent = |rate: &Rate| format!("{:.3} %", rate.percent);
    html! {
        h2 { (model) " on " (dataset) }
        ul.big {
            li { b { (percent(&summary.top1_error)) } "top-1 error, " (summary.top1_error.wrong) " of " (summary.images) }
            li { b { (percent(&summary.top5_error)) } "top-5 error, " (summary.top5_error.wrong) " of " (summary.images) }
            li { b { (format!("{:.4}", summary.cross_entropy)) } "cross-entropy" }
            li { b { (format!("{:.4}", summary.calibration_error)) } "calibration error" }
            @if let Some(rate) = rate { li { b { (format!("{rate:.0}")) } "images a second" } }
        }
        p.note {
            "Protocol " (protocol) ", " (crops) " crop, on " (device) @if !backend.is_empty() { " (" (backend) ")" } ". Decoded by: " (decoder) ". sha256 of the weights " code { (sha256) } "."
            @if *bad > 0 { " " (bad) " images could not be read." }
        }
        @for note in &run.notes { p.note { (note) } }
        div.charts {
            figure { (PreEscaped(scatter::calibration(&summary.calibration))) }
            @if !worst.is_empty() {
                figure {
                    figcaption { "Classes with the largest errors" }
                    (PreEscaped(scatter::worst_classes(&worst, |class| run.labels.name(class))))
                }
            }
        }
        @if !summary.confusions.is_empty() { h3 { "Commonest errors" } }
        @if run.examples.is_empty() {
            ul { @for confusion in &summary.confusions {
                li { (run.labels.name(confusion.label)) " taken for " (run.labels.name(confusion.predicted)) ", " (confusion.count) " times" }
            } }
        }
        @for Example { confusion, images, maps } in &run.examples {
            div {
                b { (run.labels.name(confusion.label)) } " taken for " b { (run.labels.name(confusion.predicted)) } ", "
                (confusion.count) @if confusion.count == 1 { " time" } @else { " times" }
                div.images {
                    @for (name, image) in images { figure { (picture(image, name)) (name.rsplit(['/', '\\']).next().unwrap_or(name)) } }
                    @if let Some((right, said)) = maps {
                        figure { (picture(right, "class activation map")) "the first: where it shows " (run.labels.name(confusion.label)) }
                        figure { (picture(said, "class activation map")) "where it shows " (run.labels.name(confusion.predicted)) }
                    }
                }
            }
        }
    }
}

fn picture(image: &Rgb8, name: &str) -> Markup {
    let (width, height) = (image.width() as u32, image.height() as u32);
    let mut png = std::io::Cursor::new(Vec::new());
    let written = image::RgbImage::from_raw(width, height, image.data().to_vec())
        .is_some_and(|pixels| pixels.write_to(&mut png, image::ImageFormat::Png).is_ok());
    let data = base64::engine::general_purpose::STANDARD.encode(png.get_ref());
    html! {
        @if written { img src={ "data:image/png;base64," (data) } alt=(name) width=(width) height=(height); }
    }
}
