//! `list` and `info`: what is known of each weight.

use clap::Args;
use densenet_registry::{Cache, Weight};
use densenet_zoo::Result;
use densenet_zoo::store::Store;
use serde_json::{Value, json};

use super::{Format, FormatArg, output};

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    print: FormatArg,
}

#[derive(Args)]
pub(super) struct Info {
    /// As `list` shows it, or a network's name for its recommended file.
    name: String,
    #[command(flatten)]
    print: FormatArg,
}

impl List {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let weights = store.catalogue.weights();
        if self.print.format == Format::Json {
            return output::print_json(&weights.iter().map(describe).collect());
        }
        let rows = weights.iter().map(|weight| {
            let config = weight.config().ok();
            let millions = |count: u64, unit: f64, digits: usize| format!("{:.digits$}", count as f64 / unit);
            vec![
                weight.name.clone(),
                config.as_ref().map_or("-".into(), |config| millions(config.parameter_count() as u64, 1e6, 2)),
                config.as_ref().map_or("-".into(), |config| {
                    millions(config.multiply_adds(config.input_size(), config.input_size()), 1e9, 3)
                }),
                weight.published.first().map_or("-".into(), |published| format!("{:.2}", published.top1_error)),
                weight.digest_strength().to_owned(),
                if is_cached(weight) { "yes" } else { "" }.to_owned(),
                brief(&weight.licence),
            ]
        });
        let header = ["name", "params M", "MAdds G", "top-1 %", "digest", "cached", "licence"];
        output::print(&output::table(&header, &[1, 2, 3], rows.collect()))
    }
}

impl Info {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let weight = store.catalogue.find(&self.name)?;
        if self.print.format == Format::Json {
            return output::print_json(&describe(weight));
        }
        let mut rows = vec![
            vec!["name".into(), weight.name.clone()],
            vec!["file".into(), weight.file.name.clone()],
            vec!["format".into(), weight.format.name().into()],
            vec!["size".into(), weight.file.size.map_or("not stated".into(), output::thousands)],
            vec![
                "digest".into(),
                digest(weight).map_or("none known".into(), |(kind, digits)| format!("{kind} {digits}")),
            ],
            vec!["licence".into(), weight.licence.clone()],
            vec!["provenance".into(), weight.provenance.clone()],
            vec!["protocol".into(), weight.protocol.name.clone()],
        ];
        if let Ok(config) = weight.config() {
            rows.insert(1, vec!["network".into(), config.name()]);
            rows.insert(2, vec!["parameters".into(), output::thousands(config.parameter_count() as u64)]);
        } else {
            rows.push(vec!["convertible".into(), "no: listed only".into()]);
        }
        if weight.recommended {
            rows.push(vec!["recommended".into(), "yes: the network's bare name means this file".into()]);
        }
        for published in &weight.published {
            let top5 = published.top5_error.map_or(String::new(), |error| format!(", top-5 {error:.3} %"));
            rows.push(vec![
                "published".into(),
                format!(
                    "top-1 error {:.3} %{top5} on {}, {}, {} crop ({})",
                    published.top1_error, published.dataset, published.protocol, published.crops, published.source
                ),
            ]);
        }
        for url in &weight.file.urls {
            rows.push(vec!["url".into(), url.clone()]);
        }
        rows.extend(weight.notes.iter().map(|notes| vec!["notes".into(), notes.clone()]));
        rows.push(vec!["cached".into(), if is_cached(weight) { "yes" } else { "no" }.into()]);
        output::print(&rows.iter().map(|row| format!("{:12} {}", row[0], row[1])).collect::<Vec<_>>().join("\n"))
    }
}

pub(super) fn is_cached(weight: &Weight) -> bool {
    Cache::open_default().and_then(|cache| cache.record(&weight.name)).is_ok_and(|record| record.is_some())
}

fn digest(weight: &Weight) -> Option<(&'static str, &str)> {
    weight.file.digest.as_ref().map(|digest| (digest.strength(), digest.digits()))
}

/// The licence itself, without its caveats.
fn brief(licence: &str) -> String {
    licence.split([' ', ';', ',']).next().unwrap_or_default().to_owned()
}

fn describe(weight: &Weight) -> Value {
    let config = weight.config().ok();
    let sha256 = match &weight.file.digest {
        Some(densenet_registry::Digest::Sha256(digits)) => Some(digits),
        _ => None,
    };
    json!({
        "name": weight.name,
        "arch": config.as_ref().map(densenet_arch::Config::name),
        "parameters": config.as_ref().map(densenet_arch::Config::parameter_count),
        "multiply_adds": config.as_ref().map(|config| config.multiply_adds(config.input_size(), config.input_size())),
        "format": weight.format.name(),
        "file": weight.file.name,
        "urls": weight.file.urls,
        "size": weight.file.size,
        "sha256": sha256,
        "digest": digest(weight).map(|(_, digits)| digits),
        "digest_strength": weight.digest_strength(),
        "licence": weight.licence,
        "provenance": weight.provenance,
        "protocol": weight.protocol.name,
        "published": weight.published,
        "recommended": weight.recommended,
        "convertible": weight.convertible,
        "notes": weight.notes,
        "cached": is_cached(weight),
    })
}
