//! The model card: what the Hugging Face Hub shows of a folder, as its README.md.

mod training;

use std::fmt::Write as _;

use densenet_arch::{Channels, Config, Protocol, Range, Resize};
use densenet_converters::Conversion;
use densenet_registry::{Published, Weight};

pub use training::{Class, Training, of_training};

use crate::hf;

/// The Hub's identifiers of licences, by the names in the catalogue. What is not here has to be looked at by a person.
const LICENCES: [(&str, &str); 4] =
    [("Apache-2.0", "apache-2.0"), ("BSD-3-Clause", "bsd-3-clause"), ("CC BY 4.0", "cc-by-4.0"), ("MIT", "mit")];

/// The card of a conversion whose weights have that sha256; `weight` is what the catalogue knows of their source.
pub fn card(conversion: &Conversion, sha256: &str, weight: Option<&Weight>) -> String {
    let config = &conversion.config;
    let title = weight.map_or_else(|| config.name(), |weight| weight.name.clone());
    let sections = [
        header(weight.map(Weight::licence_name)),
        format!("# {title}\n\n{}.", network(config)),
        section("Errors", &errors(weight)),
        section("Preprocessing", &preprocessing(&conversion.protocol, assumed(conversion, weight))),
        section("Source", &source(conversion, sha256, weight)),
        section("Use", &usage(config, &conversion.protocol)),
    ];
    sections.join("\n\n") + "\n"
}

fn network(config: &Config) -> String {
    let (name, parameters, classes) = (config.name(), config.parameter_count(), config.num_classes);
    format!("A {name}: {parameters} parameters, {classes} classes")
}

fn section(title: &str, text: &str) -> String {
    format!("## {title}\n\n{text}")
}

/// The YAML that the Hub reads. A licence is the name that its statement begins with.
fn header(licence: Option<&str>) -> String {
    let begins = |name: &str| {
        let rest = licence.and_then(|licence| licence.strip_prefix(name));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ',', ';']))
    };
    let licence = LICENCES.iter().find(|(name, _)| begins(name));
    let licence = licence.map_or(String::new(), |(_, id)| format!("license: {id}\n"));
    format!("---\n{licence}library_name: timm\ntags:\n- image-classification\n- timm\n- densenet\n- safetensors\n---")
}

fn errors(weight: Option<&Weight>) -> String {
    let Some(weight) = weight.filter(|weight| !weight.published.is_empty()) else {
        return "None is known for these weights.".to_owned();
    };
    let row = |published: &Published| {
        let top5 = published.top5_error.map_or("-".to_owned(), |error| format!("{error:.2}"));
        let Published { dataset, top1_error, protocol, crops, source, .. } = published;
        format!("| {dataset} | {top1_error:.2} | {top5} | {protocol} | {crops} | {} |", source.replace('|', "\\|"))
    };
    let rows: Vec<_> = weight.published.iter().map(row).collect();
    format!(
        "As published, in per cent; measure them with `densenet-zoo eval`.\n\n\
         | data | top-1 | top-5 | preprocessing | crops | source |\n|---|--:|--:|---|--:|---|\n{}",
        rows.join("\n")
    )
}

/// What the source leaves open of the preprocessing.
fn assumed(conversion: &Conversion, weight: Option<&Weight>) -> &'static str {
    match weight {
        Some(weight) if weight.protocol_assumed => " (assumed: no source states it)",
        None if !conversion.protocol_stated => " (the network's default: the file names none)",
        _ => "",
    }
}

fn preprocessing(protocol: &Protocol, assumed: &str) -> String {
    let resize = protocol.resize.map_or(String::new(), |Resize { size, .. }| format!("resized to {size}, "));
    let order = if protocol.channels == Channels::Bgr { "blue first" } else { "red first" };
    let top = if protocol.range == Range::Byte { 255 } else { 1 };
    format!(
        "Protocol `{}`{assumed}: {resize}cropped to {side}x{side}, {order}, 0 to {top}, mean {:?}, deviation {:?}.",
        protocol.name,
        protocol.mean,
        protocol.std,
        side = protocol.crop,
    )
}

fn source(conversion: &Conversion, sha256: &str, weight: Option<&Weight>) -> String {
    let (origin, beside) = conversion.origin();
    let mut text = format!("- made from: sha256 `{origin}`\n");
    for (name, sha256) in beside {
        _ = writeln!(text, "- with {name}: sha256 `{sha256}`");
    }
    _ = writeln!(text, "- {}: sha256 `{sha256}`", hf::WEIGHTS);
    match weight {
        Some(weight) => {
            weight.file.urls.iter().for_each(|url| _ = writeln!(text, "- address: {url}"));
            _ = write!(text, "- provenance: {}\n- licence, as stated: {}", weight.provenance, weight.licence);
        }
        None => text.push_str("- licence: not known; find it out before you publish this folder"),
    }
    text
}

fn usage(config: &Config, protocol: &Protocol) -> String {
    let mut text = "```sh\ndensenet-zoo classify DIR image.jpg\n```".to_owned();
    if !hf::timm_builds(config) {
        text.push_str("\n\ntimm has no such network.");
        return text;
    }
    text.push_str("\n\n```python\ntimm.create_model(\"local-dir:DIR\", pretrained=True)\n```");
    let differences: Vec<_> = [
        hf::network_differences(config)
            .into_iter()
            .map(|what| format!("- torchvision and timm: {what}"))
            .collect::<Vec<_>>(),
        hf::protocol_differences(protocol).into_iter().map(|what| format!("- preprocessing: {what}")).collect(),
    ]
    .concat();
    if !differences.is_empty() {
        _ = write!(text, "\n\nOther programs' outputs will differ:\n\n{}", differences.join("\n"));
    }
    text
}
