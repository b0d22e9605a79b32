//! `finetune`, and the folder that it leaves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::run::{Outcome, run};

/// Images of three classes, which differ in the direction of their stripes: 32x32 for the digits' network.
fn images(root: &Path, each: usize) {
    /// How far a pixel is along the stripes' way.
    type Along = fn(u32, u32) -> u32;
    let classes: [(&str, Along); 3] = [("across", |_, y| y), ("down", |x, _| x), ("slanted", |x, y| x + y)];
    for (number, (class, along)) in classes.into_iter().enumerate() {
        let folder = root.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for index in 0..each {
            let shift = (index * 7 + number) as u32;
            let image = image::RgbImage::from_fn(32, 32, |x, y| {
                let light = (along(x, y) + shift) / 4 % 2 * 160 + 40 + (x * 31 + y * 17 + shift * 13) % 23;
                image::Rgb([light as u8; 3])
            });
            image.save(folder.join(format!("{index:02}.png"))).unwrap();
        }
    }
}

fn finetune(folder: &Path, data: &str, more: &[&str]) -> Outcome {
    let (data, out) = (folder.join(data), folder.join("out"));
    let (data, out) = (data.to_str().unwrap(), out.to_str().unwrap());
    run(folder, &[&["finetune", "digits", "--data", data, "--out", out, "--format", "json"], more].concat())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// All tensors of a file, by their names.
fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect()
}

/// The digits' own weights.
fn original(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let converted = folder.join("digits.safetensors");
    let outcome = run(folder, &["convert", "zoo/models/digits/model_best.t7", "-o", converted.to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    tensors(&converted)
}

#[test]
fn a_folder_of_classes_gives_a_folder_that_is_a_model() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"), 20);
    let outcome = finetune(folder.path(), "images", &["--epochs", "6", "--batch-size", "8", "--balanced"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let result = json(&outcome.stdout);
    // A fifth of each class is kept to measure the error on.
    assert_eq!((&result["images"]["training"], &result["images"]["validation"]), (&48.into(), &12.into()));
    let error = &result["best"]["error"];
    assert!(error["wrong"].as_u64().unwrap() <= 2, "{error}");
    let out = folder.path().join("out");
    for file in [
        "model.safetensors",
        "last.safetensors",
        "config.json",
        "README.md",
        "metrics.jsonl",
        "metrics.csv",
        "curves.svg",
        "curves.png",
        "split.csv",
    ] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let card = std::fs::read_to_string(out.join("README.md")).unwrap();
    for fact in ["digits", "across", "down", "slanted", "48", "12"] {
        assert!(card.contains(fact), "{fact}: {card}");
    }
    let split = std::fs::read_to_string(out.join("split.csv")).unwrap();
    assert_eq!((split.matches(",train").count(), split.matches(",val").count()), (48, 12), "{split}");
    // Every other command takes the folder.
    let out = out.to_str().unwrap();
    let validation = folder.path().join("validation");
    for line in split.lines().filter(|line| line.ends_with(",val")) {
        let path = line.split(',').next().unwrap();
        let to = validation.join(path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(folder.path().join("images").join(path), to).unwrap();
    }
    let measured = run(folder.path(), &["eval", out, "--data", validation.to_str().unwrap(), "--format", "json"]);
    assert_eq!(measured.code, 0, "{}", measured.stderr);
    assert_eq!(json(&measured.stdout)["top1_wrong"], error["wrong"]);
    let image = folder.path().join("images/down/00.png");
    let classified = run(folder.path(), &["classify", out, image.to_str().unwrap(), "--format", "json"]);
    assert!(classified.stdout.contains("\"slanted\""), "{}{}", classified.stdout, classified.stderr);
    // The same split again, and the same bytes.
    let first = tensors(&Path::new(out).join("model.safetensors"));
    let kept = folder.path().join("split.csv");
    std::fs::copy(Path::new(out).join("split.csv"), &kept).unwrap();
    let kept = kept.to_str().unwrap();
    let more = ["--epochs", "6", "--batch-size", "8", "--balanced", "--split", kept, "--force", "--threads", "1"];
    let again = finetune(folder.path(), "images", &more);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(tensors(&Path::new(out).join("model.safetensors")) == first);
}

#[test]
fn frozen_parts_stay_as_they_are_bit_by_bit() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"), 5);
    let original = original(folder.path());
    for (freeze, changed) in [("backbone", "classifier."), ("stem,block1,transition1", "features.denseblock2.")] {
        let more = ["--epochs", "1", "--batch-size", "4", "--freeze", freeze, "--force"];
        let outcome = finetune(folder.path(), "images", &more);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let tuned = tensors(&folder.path().join("out/model.safetensors"));
        let parts: &[&str] = match freeze {
            "backbone" => &["features."],
            _ => &["features.conv0", "features.denseblock1.", "features.transition1."],
        };
        let frozen = tuned.iter().filter(|(name, _)| parts.iter().any(|part| name.starts_with(part)));
        let mut count = 0;
        for (name, bytes) in frozen {
            assert!(original.get(name) == Some(bytes), "{freeze}: {name}");
            count += 1;
        }
        assert!(count > 10, "{count}");
        let trained = tuned.iter().filter(|(name, _)| name.starts_with(changed));
        assert!(
            trained.clone().count() > 0 && trained.into_iter().any(|(name, bytes)| original.get(name) != Some(bytes))
        );
    }
}

#[test]
fn findings_are_learnt_from_a_csv_and_measured_by_their_curves() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"), 12);
    // An image shows stripes that go down, and stripes that are not across; some are not known.
    let mut csv = "path,down,steep,patient\n".to_owned();
    for (class, down, steep) in [("across", "0", "0"), ("down", "1", "1"), ("slanted", "0", "1")] {
        for index in 0..12 {
            let steep = if index == 3 { "" } else { steep };
            writeln!(csv, "{class}/{index:02}.png,{down},{steep},{class}{}", index / 2).unwrap();
        }
    }
    let labels = folder.path().join("labels.csv");
    std::fs::write(&labels, csv).unwrap();
    let more = [
        "--labels",
        labels.to_str().unwrap(),
        "--classes",
        "down,steep",
        "--group",
        "patient",
        "--epochs",
        "6",
        "--batch-size",
        "8",
    ];
    let outcome = finetune(folder.path(), "images", &[&more[..], &["--label-smoothing", "0.1"]].concat());
    assert!(outcome.code == 2 && outcome.stderr.contains("label smoothing is for classes"), "{}", outcome.stderr);
    let outcome = finetune(folder.path(), "images", &more);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("mean AUROC"), "{}", outcome.stderr);
    let auroc = &json(&outcome.stdout)["best"]["auroc"];
    assert_eq!(auroc["per_class"][1]["name"], "steep");
    assert!(auroc["mean_auroc"].as_f64().unwrap() > 0.9, "{auroc}");
    // No patient is on both sides.
    let split = std::fs::read_to_string(folder.path().join("out/split.csv")).unwrap();
    let mut sides = BTreeMap::<String, String>::new();
    for line in split.lines().skip(1) {
        let (path, side) = (line.split(',').next().unwrap(), line.rsplit(',').next().unwrap());
        let (class, number) = path.split_once('/').unwrap();
        let patient = format!("{class}{}", number[..2].parse::<usize>().unwrap() / 2);
        assert_eq!(sides.entry(patient).or_insert(side.to_owned()), side, "{line}");
    }
    assert!(sides.values().any(|side| side == "val"));
    // A finding's probability is its own.
    let out = folder.path().join("out");
    let image = folder.path().join("images/down/00.png");
    let classified = run(folder.path(), &["classify", out.to_str().unwrap(), image.to_str().unwrap()]);
    assert!(classified.stdout.contains("steep"), "{}{}", classified.stdout, classified.stderr);
}

#[test]
fn what_cannot_be_learnt_from_is_named_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    images(&root.join("good"), 5);
    let make = |name: &str, change: &dyn Fn(&Path)| {
        images(&root.join(name), 5);
        change(&root.join(name));
    };
    make("empty-class", &|data| std::fs::create_dir(data.join("nothing")).unwrap());
    make("corrupt", &|data| std::fs::write(data.join("down/01.png"), "no image").unwrap());
    make("zero", &|data| std::fs::write(data.join("down/01.png"), "").unwrap());
    make("one", &|data| {
        std::fs::remove_dir_all(data.join("down")).unwrap();
        std::fs::remove_dir_all(data.join("across")).unwrap();
    });
    make("large", &|data| {
        image::RgbImage::new(40, 40).save(data.join("down/01.png")).unwrap();
    });
    let csv = |name: &str, text: &str| {
        std::fs::write(root.join(name), text).unwrap();
        root.join(name).to_str().unwrap().to_owned()
    };
    let unknown = csv("unknown.csv", "path,label\ndown/01.png,a\nnowhere.png,b\n");
    let value = csv("value.csv", "path,down\ndown/01.png,1\nacross/01.png,7\n");
    std::fs::create_dir(root.join("taken")).unwrap();
    std::fs::write(root.join("taken/model.safetensors"), "mine").unwrap();
    let taken = root.join("taken").to_str().unwrap().to_owned();
    let [within, around] = ["good/out", "good/../good/out"].map(|path| root.join(path).to_str().unwrap().to_owned());
    std::os::unix::fs::symlink(root.join("good"), root.join("link")).unwrap();
    let linked = root.join("link/out").to_str().unwrap().to_owned();
    for (data, more, code, says) in [
        ("empty-class", &[][..], 5, "nothing"),
        ("one", &[], 2, "there is nothing to learn"),
        ("corrupt", &[], 5, "down/01.png"),
        ("zero", &[], 5, "down/01.png"),
        ("large", &[], 5, "the image is 40x40"),
        ("good", &["--labels", &unknown], 5, "unknown.csv"),
        ("good", &["--labels", &value], 5, "value.csv"),
        ("good", &["--freeze", "block9"], 2, "no part \"block9\" to freeze"),
        ("good", &["--lr-of", "block9=2"], 2, "block9"),
        ("good", &["--group", "patient"], 2, "--labels FILE.csv"),
        ("good", &["--out", &within], 2, "--out lies in --data"),
        ("good", &["--out", &around], 2, "--out lies in --data"),
        ("good", &["--out", &linked], 2, "--out lies in --data"),
        ("good", &["--freeze", "stem,block1", "--lr-of", "stem=5"], 2, "for conv0, which is frozen"),
        ("good", &["--freeze", "backbone", "--drop-rate", "0.5"], 2, "dropout in front of the classifier"),
        // Before any image is looked at.
        ("corrupt", &["--lr=-1"], 2, "rate is -1"),
        ("corrupt", &["--out", &taken], 4, "model.safetensors exists"),
        ("nowhere", &[], 4, "nowhere"),
        ("good", &["--out", &taken], 4, "model.safetensors exists"),
    ] {
        let data = root.join(data);
        let out = root.join("out");
        let mut arguments = vec!["finetune", "digits", "--data", data.to_str().unwrap(), "--epochs", "1"];
        if !more.contains(&"--out") {
            arguments.extend(["--out", out.to_str().unwrap()]);
        }
        arguments.extend(more);
        let outcome = run(root, &arguments);
        let errors: Vec<_> = outcome.stderr.lines().filter(|line| line.starts_with("densenet-zoo: ")).collect();
        assert_eq!((outcome.code, errors.len()), (code, 1), "{data:?}: {}", outcome.stderr);
        assert!(errors[0].contains(says), "{data:?}: {}", outcome.stderr);
        assert!(!out.exists(), "{data:?}");
    }
    assert_eq!(std::fs::read(root.join("taken/model.safetensors")).unwrap(), b"mine");
}

#[test]
fn a_run_that_was_moved_goes_on_with_its_split_and_only_with_its_images() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"), 10);
    let common = ["--batch-size", "8", "--patience", "9"];
    let straight = finetune(folder.path(), "images", &[&common[..], &["--epochs", "2"]].concat());
    assert_eq!(straight.code, 0, "{}", straight.stderr);
    std::fs::rename(folder.path().join("out"), folder.path().join("moved")).unwrap();
    std::fs::rename(folder.path().join("images"), folder.path().join("elsewhere")).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (moved, data) = (path("moved"), path("elsewhere"));
    let outcome = run(folder.path(), &["train", "--resume", &moved, "--data", &data, "--format", "json"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(json(&outcome.stdout)["best"]["error"], json(&straight.stdout)["best"]["error"]);
    // As many other images of the same classes are not those.
    std::fs::rename(folder.path().join("elsewhere/down/03.png"), folder.path().join("elsewhere/down/93.png")).unwrap();
    let split = folder.path().join("moved/split.csv");
    let text = std::fs::read_to_string(&split).unwrap().replace("down/03.png", "down/93.png");
    std::fs::write(&split, text).unwrap();
    let outcome = run(folder.path(), &["train", "--resume", &moved, "--data", &data]);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("are not those that the checkpoint was trained on"), "{}", outcome.stderr);
    // Classes in another order would be another classifier's.
    let pair = folder.path().join("pair");
    for part in ["train", "val"] {
        for (from, to) in [("across", "z"), ("down", "y"), ("slanted", "x")] {
            images(&folder.path().join("made"), 3);
            std::fs::create_dir_all(pair.join(part)).unwrap();
            std::fs::rename(folder.path().join("made").join(from), pair.join(part).join(to)).unwrap();
        }
    }
    let network =
        ["--arch", "densenet-40-12", "--n-classes", "3", "--data", pair.to_str().unwrap(), "--retrain", &moved];
    let outcome = run(folder.path(), &[&["train", "--dataset", "imagenet", "--no-check"], &network[..]].concat());
    assert!(outcome.stderr.contains("--reset-classifier begins a new classifier"), "{}", outcome.stderr);
}
