//! `list` and `info`: what is known of each weight.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::{env, fs};

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use densenet_arch::{Config, networks};
use densenet_registry::{Cache, Catalogue, Digest, Known, SourceFormat, Weight};
use densenet_zoo::Result;
use densenet_zoo::store::Store;
use serde_json::{Map, Value, json};

use super::{Format, FormatArg, output};

mod columns;
mod markdown;

#[derive(Args)]
pub(super) struct List {
    /// Of this network only: densenet-169, densenet169.
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,
    /// In this format only.
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(SourceFormat::ALL.map(SourceFormat::name)))]
    format_of: Option<String>,
    /// Whose licence, as stated, holds this text: apache, "none stated".
    #[arg(long, alias = "license", value_name = "TEXT")]
    licence: Option<String>,
    /// Of whose digest so much is known.
    #[arg(long, value_name = "HOW MUCH")]
    digest: Option<DigestArg>,
    /// What `convert` reads today.
    #[arg(long)]
    convertible: bool,
    /// Instead, the files of a repository of the Hugging Face Hub: sizes, digests, and their addresses for a catalogue of your
    /// own. Private ones need HF_TOKEN or `hf auth login`.
    #[arg(long, value_name = "ORG/REPO[@REVISION]", conflicts_with_all = ["arch", "format_of", "licence", "digest", "convertible", "sort"])]
    hub: Option<String>,
    /// In this order; what is not known comes last.
    #[arg(long, value_enum, value_name = "BY")]
    sort: Option<Sort>,
    /// How the list is printed on stdout.
    #[arg(long, value_enum, default_value = "human")]
    format: ListFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum DigestArg {
    /// The whole sha256.
    Full,
    /// Less: a prefix, sha1, md5, or that of a file inside.
    Partial,
    /// Nothing.
    None,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sort {
    /// By name.
    Name,
    /// Smallest file first.
    Size,
    /// Lowest published top-1 error first, whatever it was measured on.
    Error,
    /// Fewest parameters first.
    Params,
}

#[derive(Clone, Copy, ValueEnum)]
enum ListFormat {
    /// A table as wide as the terminal.
    Human,
    /// An array.
    Json,
    /// CATALOGUE.md's form, without what is cached here.
    Markdown,
}

#[derive(Args)]
pub(super) struct Info {
    /// As `list` shows it, or a network's name for its recommended file.
    name: String,
    #[command(flatten)]
    print: FormatArg,
}

/// The files of a repository of the Hub.
#[cfg(feature = "hub")]
fn hub(repository: &str, format: ListFormat) -> Result<()> {
    let files = densenet_registry::hub::list(repository)?;
    if matches!(format, ListFormat::Json) {
        let entry = |file: &densenet_registry::hub::HubFile| json!({"path": file.path, "size": file.size, "sha256": file.sha256, "address": file.address});
        return output::print_json(&files.iter().map(entry).collect());
    }
    let header = ["address", "bytes", "sha256"];
    let rows: Vec<Vec<String>> = files
        .iter()
        .map(|file| vec![file.address.clone(), output::thousands(file.size), file.sha256.clone().unwrap_or_default()])
        .collect();
    if matches!(format, ListFormat::Markdown) {
        let lines: Vec<String> = rows.iter().map(|row| format!("| {} |", row.join(" | "))).collect();
        return output::print(&format!("| {} |\n|---|--:|---|\n{}", header.join(" | "), lines.join("\n")));
    }
    output::print(&output::table(&header, &[1], rows))
}

#[cfg(not(feature = "hub"))]
fn hub(_: &str, _: ListFormat) -> Result<()> {
    Err(densenet_zoo::Error::Usage("--hub is not in this build; build with --features hub".into()))
}

impl List {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        if let Some(repository) = &self.hub {
            return hub(repository, self.format);
        }
        if let Some(arch) = &self.arch
            && networks::find(arch).is_none()
            && !store.catalogue.weights().iter().any(|weight| is_of(weight, arch))
        {
            return Err(output::no_such_network(arch));
        }
        let mut weights: Vec<_> = store.catalogue.weights().iter().filter(|weight| self.takes(weight)).collect();
        if let Some(sort) = self.sort {
            weights.sort_by(|a, b| sort.order(a, b));
        }
        match self.format {
            ListFormat::Json => output::print_json(&weights.into_iter().map(describe).collect()),
            ListFormat::Markdown => output::print(&markdown::list(&weights)),
            ListFormat::Human if weights.is_empty() => output::print("no weight is like that"),
            ListFormat::Human => output::print(&columns::table(&weights)),
        }
    }

    fn takes(&self, weight: &Weight) -> bool {
        let states = |text: &String| weight.licence.to_lowercase().contains(&text.to_lowercase());
        self.arch.as_ref().is_none_or(|arch| is_of(weight, arch))
            && self.format_of.as_ref().is_none_or(|format| weight.format.name() == format)
            && self.licence.as_ref().is_none_or(states)
            && self.digest.is_none_or(|digest| digest.known() == weight.file.known())
            && (weight.convertible || !self.convertible)
    }
}

/// Whether a weight is of that network.
fn is_of(weight: &Weight, arch: &str) -> bool {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['-', '_'], "");
    [weight.arch(), &weight.network.name()].iter().any(|name| plain(name) == plain(arch))
}

impl DigestArg {
    fn known(self) -> Known {
        match self {
            Self::Full => Known::Full,
            Self::Partial => Known::Partial,
            Self::None => Known::None,
        }
    }
}

impl Sort {
    fn order(self, a: &Weight, b: &Weight) -> Ordering {
        let key = |weight: &Weight| match self {
            Self::Name => None,
            Self::Size => weight.file.size.map(|size| size as f64),
            Self::Error => weight.headline().map(|published| published.top1_error),
            Self::Params => weight.network.config().map(|config| config.parameter_count() as f64),
        };
        let last = f64::INFINITY;
        key(a).unwrap_or(last).total_cmp(&key(b).unwrap_or(last)).then_with(|| a.name.cmp(&b.name))
    }
}

impl Info {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let weight = store.catalogue.find(&self.name)?;
        if self.print.format == Format::Json {
            let mut value = describe(weight);
            value["bare_name"] = json!(bare_name(&store.catalogue, weight));
            return output::print_json(&value);
        }
        let rows = rows(&store.catalogue, weight);
        output::print(&rows.iter().map(|(title, text)| format!("{title:12} {text}")).collect::<Vec<_>>().join("\n"))
    }
}

/// All that is known, a line each.
fn rows(catalogue: &Catalogue, weight: &Weight) -> Vec<(&'static str, String)> {
    let file = &weight.file;
    let mut rows = vec![
        ("name", weight.name.clone()),
        ("bare name", bare_name(catalogue, weight)),
        ("network", weight.network.name()),
    ];
    if let Some(config) = weight.network.config() {
        rows.push(("parameters", output::thousands(config.parameter_count() as u64)));
        rows.push(("classes", config.num_classes.to_string()));
    }
    rows.push(("bn eps", weight.bn_eps().map_or("not stated".into(), |eps| format!("{eps:e}"))));
    rows.push(("format", weight.format.name().into()));
    rows.push(("convertible", if weight.convertible { "yes" } else { "not yet: listed only" }.into()));
    rows.extend(weight.unverified.iter().map(|what| ("unverified", what.clone())));
    rows.push(("file", file.name.clone()));
    rows.extend(file.member.iter().map(|member| ("inside it", member.name.clone())));
    let rounded = || file.size_note.clone().unwrap_or_else(|| "not stated".into());
    rows.push(("size", file.size.map_or_else(rounded, |size| format!("{} bytes", output::thousands(size)))));
    let digests = digests(weight);
    if digests.is_empty() {
        rows.push(("digest", "none known".into()));
    }
    rows.extend(digests.iter().map(|(kind, digits)| ("digest", format!("{kind} {digits}"))));
    rows.extend([("licence", weight.licence.clone()), ("provenance", weight.provenance.clone())]);
    let assumed = if weight.protocol_assumed { " (assumed: no source states it)" } else { "" };
    rows.push(("protocol", format!("{}{assumed}", weight.protocol.name)));
    rows.extend(weight.published.iter().map(|published| {
        let top5 = published.top5_error.map_or(String::new(), |error| format!(", top-5 {error:.3} %"));
        let text = format!(
            "top-1 error {:.3} %{top5} on {}, {}, {} crop ({})",
            published.top1_error, published.dataset, published.protocol, published.crops, published.source
        );
        ("published", text)
    }));
    rows.extend(file.urls.iter().map(|url| ("url", url.clone())));
    rows.extend(file.historic_urls.iter().map(|url| ("historic url", format!("{url} (nothing tries it)"))));
    rows.extend(file.pages.iter().map(|page| ("page", page.clone())));
    rows.extend(weight.notes.iter().map(|notes| ("notes", notes.clone())));
    rows.extend(weight.sources.iter().map(|source| ("source", source.clone())));
    rows.push(("cached", if is_cached(weight) { "yes" } else { "no" }.into()));
    rows
}

/// What the network's name alone means.
fn bare_name(catalogue: &Catalogue, weight: &Weight) -> String {
    let arch = weight.arch();
    let of_arch = catalogue.weights().iter().filter(|other| other.arch() == arch).count();
    match catalogue.find(arch) {
        Ok(found) if found.name != weight.name => format!("{arch} means {}, not this file", found.name),
        Ok(found) if found.recommended => {
            format!("{arch} means this file, the recommended one of {of_arch}: {}", found.provenance)
        }
        Ok(_) => format!("{arch} means this file, the only one of its network"),
        Err(_) => format!("{arch} alone means no file: none of the {of_arch} is recommended"),
    }
}

pub(super) fn is_cached(weight: &Weight) -> bool {
    Cache::open_default().and_then(|cache| cache.record(&weight.name)).is_ok_and(|record| record.is_some())
}

/// Every digest that is known, the strongest first: kind and digits.
fn digests(weight: &Weight) -> Vec<(String, &str)> {
    let file = &weight.file;
    let own = file.digest.iter().map(|digest| (digest.strength().to_owned(), digest.digits()));
    let further = file.further_digests.iter().map(|(kind, digits)| ((*kind).to_owned(), digits.as_str()));
    let inside = file.member.iter().map(|member| {
        let digest = &member.digest;
        (format!("{} of {}", digest.strength(), member.name), digest.digits())
    });
    own.chain(further).chain(inside).collect()
}

fn describe(weight: &Weight) -> Value {
    let config = weight.network.config();
    let config = config.as_ref();
    let file = &weight.file;
    let sha256 = match &file.digest {
        Some(Digest::Sha256(digits)) => Some(digits),
        _ => None,
    };
    let digests: Map<_, _> = digests(weight).into_iter().map(|(kind, digits)| (kind, json!(digits))).collect();
    json!({
        "name": weight.name,
        "arch": weight.network.name(),
        "parameters": config.map(Config::parameter_count),
        "multiply_adds": config.map(|config| config.multiply_adds(config.input_size(), config.input_size())),
        "classes": config.map(|config| config.num_classes),
        "bn_eps": weight.bn_eps(),
        "format": weight.format.name(),
        "file": file.name,
        "member": file.member.as_ref().map(|member| &member.name),
        "urls": file.urls,
        "historic_urls": file.historic_urls,
        "pages": file.pages,
        "size": file.size,
        "size_note": file.size_note,
        "sha256": sha256,
        "digest": file.digest.as_ref().map(Digest::digits),
        "digest_strength": weight.digest_strength(),
        "digests": digests,
        "licence": weight.licence,
        "licence_name": weight.licence_name(),
        "provenance": weight.provenance,
        "protocol": weight.protocol.name,
        "protocol_assumed": weight.protocol_assumed,
        "preprocessing": weight.protocol,
        "published": weight.published,
        "recommended": weight.recommended,
        "unverified": weight.unverified,
        "convertible": weight.convertible,
        "notes": weight.notes,
        "sources": weight.sources,
        "cached": is_cached(weight),
    })
}

/// The user's catalogues: those of DENSENET_ZOO_PATH, then those of `--zoo`, each once.
pub(super) fn user_catalogues(stated: &[PathBuf]) -> Vec<PathBuf> {
    let listed = env::var_os("DENSENET_ZOO_PATH").unwrap_or_default();
    let listed = env::split_paths(&listed).filter(|path| !path.as_os_str().is_empty());
    let mut paths: Vec<PathBuf> = Vec::new();
    let same = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    for path in listed.chain(stated.iter().cloned()) {
        if !paths.iter().any(|known| same(known) == same(&path)) {
            paths.push(path);
        }
    }
    paths
}
