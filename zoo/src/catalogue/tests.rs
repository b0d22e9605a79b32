use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;
use crate::{Digest, Known};

fn facts() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/facts/weights.json")).unwrap()
}

/// One spelling for the addresses of Hugging Face and of Google Drive.
fn spelled(url: &str) -> String {
    if let Some(id) = url.strip_prefix("gdrive:") {
        return format!("drive {id}");
    }
    if let Some(rest) = url.strip_prefix("https://drive.google.com/") {
        let id = ["uc?id=", "open?id=", "file/d/"].iter().find_map(|start| rest.strip_prefix(start)).unwrap();
        return format!("drive {}", id.split('/').next().unwrap());
    }
    url.replacen("hf:", "https://huggingface.co/", 1).replacen('@', "/resolve/", 1)
}

fn addresses(weight: &Weight) -> BTreeSet<String> {
    let file = &weight.file;
    file.urls.iter().chain(&file.historic_urls).chain(&file.pages).map(|url| spelled(url)).collect()
}

#[test]
fn every_entry_agrees_with_the_collected_facts() {
    let facts = facts();
    let facts = facts["weights"].as_array().unwrap();
    let catalogue = Catalogue::builtin().unwrap();
    assert_eq!(facts.len(), 180);
    // The embedded digits are ours.
    assert_eq!(catalogue.weights().len(), 180 + 1);
    for fact in facts {
        let id = fact["id"].as_str().unwrap();
        let urls: BTreeSet<_> = fact["urls"].as_array().unwrap().iter().map(|u| spelled(u.as_str().unwrap())).collect();
        let of_it: Vec<_> = catalogue.weights().iter().filter(|weight| addresses(weight) == urls).collect();
        let [weight] = of_it.as_slice() else { panic!("{id}: {} entries", of_it.len()) };
        let file = &weight.file;
        let kinds = ["sha256", "sha256_prefix", "sha384", "sha1", "md5"];
        let mut expected: BTreeMap<_, _> = kinds.iter().filter_map(|k| Some((*k, fact[k].as_str()?))).collect();
        if expected.contains_key("sha256") {
            // It says nothing more.
            expected.remove("sha256_prefix");
        }
        let kind = |digest: &Digest| match digest {
            Digest::Sha256(_) => "sha256",
            Digest::Sha256Prefix(_) => "sha256_prefix",
            Digest::Sha1(_) => "sha1",
            Digest::Md5(_) => "md5",
        };
        let own = file.digest.iter().chain(file.member.iter().map(|member| &member.digest));
        let stated: BTreeMap<_, _> = own
            .map(|digest| (kind(digest), digest.digits()))
            .chain(file.further_digests.iter().map(|(kind, digits)| (*kind, digits.as_str())))
            .collect();
        assert_eq!(stated, expected, "{id}");
        assert_eq!(file.size, fact["size_bytes"].as_u64(), "{id}");
        assert_eq!(file.size_note.as_deref(), fact["size_note"].as_str(), "{id}");
        let licence = fact["licence"].as_str().filter(|licence| *licence != "?").unwrap_or("none stated");
        assert_eq!(weight.licence, licence, "{id}");
        assert_eq!(weight.provenance, fact["provenance"].as_str().unwrap_or("not stated"), "{id}");
        let known = match fact["digest_status"].as_str().unwrap() {
            "full-sha256" => Known::Full,
            "none" => Known::None,
            _ => Known::Partial,
        };
        assert_eq!(file.known(), known, "{id}");
        let name = fact["file"].as_str().unwrap().split(' ').next().unwrap();
        assert_eq!(file.member.as_ref().map_or(file.name.as_str(), |member| &member.name), name, "{id}");
    }
}

#[test]
fn every_published_error_is_listed_at_its_weights() {
    let facts = facts();
    let catalogue = Catalogue::builtin().unwrap();
    let mut source = "";
    let mut unplaced = BTreeSet::new();
    let rows = facts["accuracy"].as_array().unwrap();
    assert_eq!(rows.len(), 134);
    for row in rows {
        if row["source"] != "same" {
            source = row["source"].as_str().unwrap();
        }
        let plain = |name: &str| name.replace(['-', '_'], "");
        let model = plain(row["model"].as_str().unwrap().split('.').next().unwrap());
        let of_it = |weight: &&Weight| model == "densenet(tfslim)" || model.starts_with(&plain(weight.arch()));
        let found = catalogue.weights().iter().filter(of_it).flat_map(|weight| &weight.published).any(|published| {
            published.dataset == row["dataset"].as_str().unwrap()
                && Some(published.top1_error) == row["top1_err"].as_f64()
                && published.top5_error == row["top5_err"].as_f64()
                && published.source == source
        });
        if !found {
            unplaced.insert(row["weights"].as_str().unwrap());
        }
    }
    // No file of MindSpore's is known.
    assert_eq!(unplaced, BTreeSet::from(["mindcv (MindSpore)"]));
    for weight in catalogue.weights() {
        for published in &weight.published {
            assert!(published.top1_error > 0.0 && published.top1_error < 100.0, "{}", weight.name);
        }
    }
}

#[test]
fn nothing_unverified_is_recommended_and_a_network_has_one_recommended_file() {
    let catalogue = Catalogue::builtin().unwrap();
    let recommended: Vec<_> = catalogue.weights().iter().filter(|weight| weight.recommended).collect();
    let networks: BTreeSet<_> = recommended.iter().map(|weight| weight.arch()).collect();
    assert_eq!(networks.len(), recommended.len());
    assert!(recommended.iter().all(|weight| weight.unverified.is_none() && weight.convertible));
    let exports = catalogue.weights().iter().filter(|weight| weight.format == crate::SourceFormat::Onnx);
    assert_eq!(exports.clone().count(), 44);
    assert!(exports.into_iter().all(|weight| weight.unverified.is_some()));

    let text = include_str!("../../models/digits.toml")
        .replace("format =", "recommended = true\nunverified = \"its weights\"\nformat =");
    let error = Catalogue::default().add_text("mine.toml", &text).unwrap_err().to_string();
    assert!(error.contains("nobody has verified"), "{error}");
}

#[test]
fn names_are_lower_case_words_and_addresses_of_known_kinds() {
    for weight in Catalogue::builtin().unwrap().weights() {
        let (arch, tag) = weight.name.split_once('.').unwrap();
        for part in [arch, tag] {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(!part.is_empty() && part.chars().all(plain), "{}", weight.name);
        }
        let known = ["https://", "hf:", "gdrive:", "embedded:"];
        assert!(weight.file.urls.iter().all(|url| known.iter().any(|kind| url.starts_with(kind))), "{}", weight.name);
        assert!(!addresses(weight).is_empty(), "{}", weight.name);
    }
}

#[test]
fn every_network_builds() {
    let catalogue = Catalogue::builtin().unwrap();
    for (name, parameters) in [
        ("densenet-121.tv", 7_978_856),
        ("densenet-169.timm-tv", 14_149_480),
        ("densenet-201.torch", 20_013_928),
        ("densenet-161.tv", 28_681_000),
        ("densenet-264.torch", 33_337_704),
        ("densenet-232.torch", 55_570_984),
        ("densenet-cosine-264.torch", 33_337_704),
        ("densenet-cosine-264-k48.torch", 72_686_632),
        ("digits.torch", 32_606),
        // weights.json, cifar_models: imgclsmob_variant_params_C10, params_C10, params_C100.
        ("densenet-c-40-12.pytorchcv-cifar10", 599_050),
        ("densenet-c-100-12.pytorchcv-cifar10", 4_068_490),
        ("densenet-c-100-24.pytorchcv-cifar10", 16_114_138),
        ("densenet-bc-100-12.pytorchcv-cifar10", 769_162),
        ("densenet-bc-100-12.pytorchcv-cifar100", 800_032),
        ("densenet-bc-250-24.pytorchcv-cifar100", 15_480_556),
        ("densenet-bc-190-40.pytorchcv-cifar10", 25_624_430),
        ("densenet-wide-bc-40-36.pytorchcv-svhn", 1_542_682),
        ("densenet-wide-bc-40-36.pytorchcv-cifar100", 1_578_412),
    ] {
        assert_eq!(catalogue.find(name).unwrap().config().unwrap().parameter_count(), parameters, "{name}");
    }
    let unread = catalogue.weights().iter().filter(|weight| weight.format.is_read() && weight.config().is_err());
    let (ports, unread): (Vec<_>, Vec<_>) =
        unread.partition(|weight| !matches!(weight.format.name(), "torch7" | "pytorch" | "safetensors"));
    // Descriptions without weights; files without a classifier, of older names or of flowers, and titu1994's; gzipped ones;
    // quantised ones, archives and three networks with blur pooling.
    let unread_ports = [("caffe", 4), ("keras", 10 + 7), ("mxnet", 4), ("onnx", 12)];
    for (format, count) in unread_ports {
        assert_eq!(ports.iter().filter(|weight| weight.format.name() == format).count(), count, "{format}");
    }
    let unread: Vec<_> = unread.into_iter().map(|weight| weight.name.as_str()).collect();
    let blur = ["densenetblur-121d.timm-ra-gh", "densenetblur-121d.timm-ra", "densenetblur-121d.timm-ra-bin"];
    let glasses = ["densenet-161.glasses", "densenet-201.glasses"];
    let cifar = ["densenet-121-cifar.edadaltocg-cifar10", "densenet-121-cifar.edadaltocg-cifar100"];
    assert_eq!(unread, [&blur[..], &glasses, &cifar].concat());
    // digits, Torch7, torchvision, Cadene, timm, Hugging Face, pathology, X-ray, mingminzhen, mmpretrain, pytorchcv.
    let of_torch = 1 + 8 + 4 + 4 + 11 + 4 + 2 + 2 + 4 + 4 + 26;
    // Caffe, keras.applications, flyyufelix, Gluon, miraclewkf, ONNX.
    let read = of_torch + 4 + 3 + 6 + 4 + 4 + 32;
    assert_eq!(catalogue.weights().iter().filter(|weight| weight.convertible).count(), read);
}

#[test]
fn eps_is_the_stated_one() {
    let catalogue = Catalogue::builtin().unwrap();
    for (name, eps) in [
        ("densenet-121.tv", Some(1e-5)),
        ("densenet-121.keras", Some(1.001e-5)),
        ("densenet-169.flyyufelix-th", Some(1.1e-5)),
        ("densenet-201.mxnet", Some(1e-4)),
        ("densenet-264.paddle", None),
    ] {
        assert_eq!(catalogue.find(name).unwrap().bn_eps(), eps, "{name}");
    }
}

#[test]
fn bare_names_mean_the_recommended_or_only_file() {
    let catalogue = Catalogue::builtin().unwrap();
    for (asked, found) in [
        ("densenet-169", "densenet-169.tv"),
        ("densenet169", "densenet-169.tv"),
        ("DenseNet_121", "densenet-121.tv"),
        ("densenet-264", "densenet-264.torch"),
        ("densenet-bc-190-40", "densenet-bc-190-40.pytorchcv-cifar10"),
        ("digits", "digits.torch"),
        ("densenet-121.timm-ra", "densenet-121.timm-ra"),
    ] {
        assert_eq!(catalogue.find(asked).unwrap().name, found);
    }
    let error = catalogue.find("densenet-196").unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Usage);
    assert!(error.to_string().contains("did you mean densenet-1"), "{error}");
    let error = catalogue.find("densenet-bc-100-12").unwrap_err().to_string();
    assert!(error.ends_with("densenet-bc-100-12.pytorchcv-cifar10, densenet-bc-100-12.pytorchcv-cifar100; name one"));
}

#[test]
fn a_clash_names_both_files_and_a_bad_file_its_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let digits = include_str!("../../models/digits.toml");
    fs::write(&file, digits).unwrap();
    let error = Catalogue::builtin().unwrap().add(folder.path()).unwrap_err().to_string();
    assert!(error.contains("digits.toml") && error.contains("mine.toml"), "{error}");

    let mut catalogue = Catalogue::default();
    let two = format!("{digits}\n{}", digits.replace("digits.torch", "digits.own"));
    fs::write(&file, two).unwrap();
    catalogue.add(&file).unwrap();
    let error = catalogue.find("digits").unwrap_err().to_string();
    assert_eq!(error, "\"digits\" could be any of digits.torch, digits.own; name one");

    for (from, to) in [
        ("digits.torch", "../up"),
        ("5992b6bb", "5992B6BB"),
        ("growth_rate = 8", "growth_rate = 0"),
        ("sha256 =", "sha384 ="),
        ("\"torch7\"", "\"lua\""),
    ] {
        fs::write(&file, digits.replace(from, to)).unwrap();
        let error = Catalogue::default().add(&file).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Malformed, "{error}");
    }
    fs::write(&file, digits.replace("growth_rate", "growth")).unwrap();
    let error = Catalogue::default().add(&file).unwrap_err().to_string();
    assert!(error.contains("line 13") && error.contains("its sizes: block_config, growth_rate,"), "{error}");
    let error = Catalogue::default().add(&folder.path().join("none.toml")).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Disk);
    assert!(
        error.to_string().contains("none.toml: no such file or folder; --zoo and DENSENET_ZOO_PATH take"),
        "{error}"
    );
}
