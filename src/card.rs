//! The model card: what the Hugging Face Hub shows of a folder, as its README.md.

use std::fmt::Write as _;

use densenet_arch::{Channels, Range, Resize};
use densenet_converters::Conversion;
use densenet_registry::{Published, Weight};

use crate::hf;

/// The Hub's identifiers of licences, by the names in the catalogue. What is not here has to be looked at by a person.
const LICENCES: [(&str, &str); 4] =
    [("Apache-2.0", "apache-2.0"), ("BSD-3-Clause", "bsd-3-clause"), ("CC BY 4.0", "cc-by-4.0"), ("MIT", "mit")];

/// The card of a conversion whose weights have that sha256; `weight` is what the catalogue knows of their source.
pub fn card(conversion: &Conversion, sha256: &str, weight: Option<&Weight>) -> String {
    let config = &conversion.config;
    let title = weight.map_or_else(|| config.name(), |weight| weight.name.clone());
    let sections = [
        header(weight),
        format!(
            "# {title}\n\nA {}: {} parameters, {} classes.",
            config.name(),
            config.parameter_count(),
            config.num_classes
        ),
        section("Errors", &errors(weight)),
        section("Preprocessing", &preprocessing(conversion, weight)),
        section("Source", &source(conversion, sha256, weight)),
        section("Use", &usage(conversion)),
    ];
    sections.join("\n\n") + "\n"
}

fn section(title: &str, text: &str) -> String {
    format!("## {title}\n\n{text}")
}

/// The YAML that the Hub reads.
fn header(weight: Option<&Weight>) -> String {
    let licence = weight.and_then(|weight| LICENCES.iter().find(|(name, _)| *name == weight.licence_name()));
    let licence = licence.map_or(String::new(), |(_, id)| format!("license: {id}\n"));
    format!("---\n{licence}library_name: timm\ntags:\n- image-classification\n- timm\n- densenet\n- safetensors\n---")
}

fn errors(weight: Option<&Weight>) -> String {
    let Some(weight) = weight.filter(|weight| !weight.published.is_empty()) else {
        return "None is known for these weights.".to_owned();
    };
    let row = |published: &Published| {
        let top5 = published.top5_error.map_or("-".to_owned(), |error| error.to_string());
        let Published { dataset, top1_error, protocol, crops, source, .. } = published;
        format!("| {dataset} | {top1_error} | {top5} | {protocol} | {crops} | {} |", source.replace('|', "\\|"))
    };
    let rows: Vec<_> = weight.published.iter().map(row).collect();
    format!(
        "As published, in per cent; measure them with `densenet-zoo eval`.\n\n\
         | data | top-1 | top-5 | preprocessing | crops | source |\n|---|--:|--:|---|--:|---|\n{}",
        rows.join("\n")
    )
}

fn preprocessing(conversion: &Conversion, weight: Option<&Weight>) -> String {
    let protocol = &conversion.protocol;
    let assumed = match weight {
        Some(weight) if weight.protocol_assumed => " (assumed: no source states it)",
        None if !conversion.protocol_stated => " (the network's default: the file names none)",
        _ => "",
    };
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
    let origin = conversion.origin_sha256.as_deref().unwrap_or(&conversion.source_sha256);
    let mut text = format!("- made from: sha256 `{origin}`\n- {}: sha256 `{sha256}`\n", hf::WEIGHTS);
    match weight {
        Some(weight) => {
            weight.file.urls.iter().for_each(|url| _ = writeln!(text, "- address: {url}"));
            _ = write!(text, "- provenance: {}\n- licence, as stated: {}", weight.provenance, weight.licence);
        }
        None => text.push_str("- licence: not known; find it out before you publish this folder"),
    }
    text
}

fn usage(conversion: &Conversion) -> String {
    let mut text = "```sh\ndensenet-zoo classify DIR image.jpg\n```".to_owned();
    if !hf::timm_builds(&conversion.config) {
        text.push_str("\n\ntimm has no such network.");
        return text;
    }
    text.push_str("\n\n```python\ntimm.create_model(\"local-dir:DIR\", pretrained=True)\n```");
    let differences: Vec<_> = [
        hf::network_differences(&conversion.config)
            .into_iter()
            .map(|what| format!("- torchvision and timm: {what}"))
            .collect::<Vec<_>>(),
        hf::protocol_differences(&conversion.protocol)
            .into_iter()
            .map(|what| format!("- preprocessing: {what}"))
            .collect(),
    ]
    .concat();
    if !differences.is_empty() {
        _ = write!(text, "\n\nOther programs' outputs will differ:\n\n{}", differences.join("\n"));
    }
    text
}
