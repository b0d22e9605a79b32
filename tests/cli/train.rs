//! `train`, and `bench --train`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::run::{Outcome, run};

/// Two epochs of the digits, left in `out`.
pub(crate) fn train(folder: &Path, out: &str, more: &[&str]) -> Outcome {
    let out = folder.join(out);
    let out = out.to_str().unwrap();
    run(folder, &[&["train", "--preset", "digits", "--epochs", "2", "--out", out], more].concat())
}

/// All tensors of a file, by their names.
fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect()
}

pub(crate) fn files(folder: &Path) -> [BTreeMap<String, Vec<u8>>; 2] {
    ["model.safetensors", "last.safetensors"].map(|file| tensors(&folder.join(file)))
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_seed_gives_the_same_networks_for_any_threads_and_memory_level() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = train(folder.path(), "one", &["--threads", "1", "--memory-level", "3", "--format", "json"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().filter(|line| line.starts_with("epoch ")).count(), 2, "{}", outcome.stderr);
    // The options' names in the original.
    let outcome = train(folder.path(), "two", &["--threads", "2", "--optMemory", "4", "--manualSeed", "0"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("chosen on these same 360 images"), "{}", outcome.stdout);
    train(folder.path(), "other", &["--seed", "1"]);
    let [one, two, other] = ["one", "two", "other"].map(|out| files(&folder.path().join(out)));
    assert!(one == two && one[1] != other[1]);
    // Weights and statistics, their averages, and a momentum of each weight.
    assert_eq!((one[0].len(), one[1].len()), (107, 2 * 107 + 65));
    // Of either run, all but the times.
    let figures = ["one", "two"].map(|out| {
        let text = std::fs::read_to_string(folder.path().join(out).join("metrics.jsonl")).unwrap();
        let epochs: Vec<_> = text.lines().skip(1).map(json).collect();
        epochs.iter().map(|epoch| (epoch["loss"].clone(), epoch["error"].clone())).collect::<Vec<_>>()
    });
    assert_eq!((figures[0].len(), &figures[0]), (2, &figures[1]));
}

#[test]
fn a_trained_network_is_a_model_with_the_error_that_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = train(folder.path(), "out", &["--format", "json"]);
    let result = json(&outcome.stdout);
    // A few updates: wrong on most, and not on all.
    for which in ["best", "last"] {
        let said = &result[which];
        let arguments = ["eval", said["file"].as_str().unwrap(), "--data", "digits", "--format", "json"];
        let outcome = run(folder.path(), &arguments);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("names no protocol"), "{}", outcome.stderr);
        let measured = json(&outcome.stdout);
        assert_eq!((&measured["top1_wrong"], &measured["images"]), (&said["error"]["wrong"], &Value::from(360)));
        assert_eq!(measured["architecture"], "densenet-bc(3,3,3)-k8-s16");
    }
    let bytes = std::fs::read(folder.path().join("out/model.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    assert_eq!(metadata["labels"], r#"["0","1","2","3","4","5","6","7","8","9"]"#);
    assert_eq!((metadata["protocol"].as_str(), metadata["num_classes"].as_str()), ("digits", "10"));
    // torchvision's names, in its shapes.
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("features.denseblock3.denselayer3.conv2.weight").unwrap().shape(), [8, 32, 3, 3]);
    assert_eq!(file.tensor("features.norm5.running_var").unwrap().shape(), [46]);
}

#[test]
fn what_is_there_stays_and_what_makes_no_sense_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("last.safetensors"), "mine").unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let blocked = folder.path().join("file").join("out");
    let (out, blocked) = (out.to_str().unwrap(), blocked.to_str().unwrap());
    for (arguments, code, says) in [
        (&["--preset", "digits", "--out", out][..], 4, "last.safetensors exists; --force overwrites it"),
        (&["--preset", "digits", "--out", blocked], 4, "cannot create"),
        (&["--preset", "digit"], 2, "no preset \"digit\"; `train --presets` lists them"),
        (&[], 2, "what to train?"),
        (&["--dataset", "cifar10+"], 2, "which network?"),
        (
            &["--dataset", "cifar11", "--arch", "densenet-121"],
            2,
            "no data set \"cifar11\"; there is cifar10+, cifar10,",
        ),
        (&["--preset", "cifar10+-bc-100-12"], 2, "where are the images of cifar10? --data DIR"),
        (&["--resume", out, "--lr", "0.1"], 2, "leave the others out"),
        (&["--resume", out], 5, "last.safetensors: "),
        (&["--resume", "nowhere"], 4, "cannot read"),
        (&["--resume", out, "--bottleneck", "false"], 2, "leave the others out"),
        (&["--preset", "digits", "--lr=-1"], 2, "rate is -1; it must be at least 0"),
        // What would be asked for in vain.
        (&["--preset", "digits", "--optimiser", "adamw", "--momentum", "0.5"], 2, "AdamW has none"),
        (&["--preset", "digits", "--drop-rate", "1.5"], 2, "drop_rate is 1.5; it must be at least 0 and below 1"),
        (&["--preset", "digits", "--warm-up", "9", "--epochs", "9"], 2, "rises for 9 epochs of 9"),
        // The numbers leave f32 at the second step: what is there stays although it may be replaced.
        (&["--preset", "digits", "--lr", "1e30", "--out", out, "--force"], 1, "the loss is not finite"),
    ] {
        let outcome = run(folder.path(), &[&["train"], arguments].concat());
        let errors: Vec<_> = outcome.stderr.lines().filter(|line| line.starts_with("densenet-zoo: ")).collect();
        assert_eq!((outcome.code, errors.len()), (code, 1), "{}", outcome.stderr);
        assert!(errors[0].contains(says), "{}", outcome.stderr);
        assert_eq!(std::fs::read_dir(out).unwrap().count(), 1);
        assert_eq!(std::fs::read(folder.path().join("out/last.safetensors")).unwrap(), b"mine");
    }
    for arguments in [["--memory-level", "5"], ["--epochs", "0"], ["--threads", "0"], ["--batch-size", "0"]] {
        let outcome = run(folder.path(), &[&["train", "--preset", "digits"], &arguments[..]].concat());
        assert_eq!(outcome.code, 2, "{arguments:?}");
    }
    let outcome = train(folder.path(), "out", &["--force"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(files(Path::new(out)).iter().all(|tensors| tensors.len() > 50));
}

#[test]
fn training_is_measured_at_either_memory_level() {
    let folder = tempfile::tempdir().unwrap();
    let common = ["bench", "densenet-bc-100-12", "--train", "--batch", "2", "--seconds", "0", "--format", "json"];
    for level in ["3", "4"] {
        let outcome = run(folder.path(), &[&common[..], &["--memory-level", level]].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let result = json(&outcome.stdout);
        let result = &result[0];
        assert_eq!((&result["batch"], &result["size"]), (&Value::from(2), &Value::from(32)));
        assert_eq!(result["memory_level"].to_string(), level);
        let seconds = result["median_s"].as_f64().unwrap();
        assert!((result["images_per_s"].as_f64().unwrap() * seconds - 2.0).abs() < 1e-9);
    }
    for (more, says) in [
        (["--precision", "bf16"], "the engine trains in f32"),
        (["--device", "cuda"], "this build has no cuda; build with --features cuda"),
    ] {
        let outcome = run(folder.path(), &[&common[..], &more].concat());
        assert_eq!((outcome.code, outcome.stderr.contains(says)), (2, true), "{}", outcome.stderr);
    }
    let outcome = run(folder.path(), &["bench", "digits", "--memory-level", "4"]);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
}

#[test]
fn the_original_s_options_are_taken_by_its_own_names() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("data/train"), 6);
    images(&folder.path().join("data/val"), 3);
    let [data, out, again] = ["data", "out", "again"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    // th main.lua -netType densenet -dataset imagenet …, with a network and images of the CIFAR size.
    let network =
        ["--depth", "10", "--growthRate", "4", "--bottleneck", "true", "--reduction", "0.5", "--nClasses", "2"];
    let common = ["--dataset", "imagenet", "--data", &data, "--LR", "0.05", "--batchSize", "4", "--manualSeed", "3"];
    let more =
        ["--nEpochs", "2", "--lrShape", "cosine", "--dropRate", "0.1", "--weightDecay", "0.001", "--momentum", "0.8"];
    let threads = ["--nThreads", "1", "--optMemory", "4", "--augmentation", "flip", "--save", &out, "--format", "json"];
    let outcome = run(folder.path(), &[&["train"], &common[..], &network, &more, &threads].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let result = json(&outcome.stdout);
    let recipe = &result["recipe"];
    let expected = [
        ("rate", Value::from(0.05)),
        ("batch", 4.into()),
        ("epochs", 2.into()),
        ("falls", "cosine".into()),
        ("weight_decay", 0.001.into()),
        ("optimiser", serde_json::json!({"sgd": {"momentum": 0.8}})),
    ];
    assert!(expected.iter().all(|(name, value)| recipe[name] == *value), "{recipe}");
    assert_eq!((&recipe["config"]["drop_rate"], &recipe["config"]["growth_rate"]), (&0.1.into(), &4.into()));
    assert_eq!(result["images"], serde_json::json!({"training": 12, "validation": 6}));
    // Its error once more, by one crop and by ten; then on with a new classifier.
    let model = format!("{out}/model.safetensors");
    let only = ["--retrain", &model, "--testOnly", "--format", "json"];
    let only = run(folder.path(), &[&["train"], &common[..], &network, &only].concat());
    assert_eq!(json(&only.stdout)["error"], result["best"]["error"], "{}", only.stderr);
    let ten = ["--retrain", &model, "--testOnly", "--tenCrop"];
    let ten = run(folder.path(), &[&["train"], &common[..], &network, &ten].concat());
    assert!(ten.stdout.contains("of 6;"), "{}{}", ten.stdout, ten.stderr);
    let more = ["--retrain", &model, "--resetClassifier", "--nEpochs", "1", "--augmentation", "flip", "--save", &again];
    let outcome = run(folder.path(), &[&["train"], &common[..], &network, &more].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}

/// Two classes of 64x64 images under `root`.
fn images(root: &Path, each: u32) {
    for (class, light) in [("dark", 40), ("light", 200)] {
        let folder = root.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for index in 0..each {
            let image =
                image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([(light + (x * 7 + y * 3 + index) % 40) as u8; 3]));
            image.save(folder.join(format!("{index}.png"))).unwrap();
        }
    }
}

/// CIFAR-10's files with made images: each class has bars of a place and a colour of its own.
pub(crate) fn cifar(root: &Path, rows: usize) {
    let folder = root.join("cifar-10-batches-bin");
    std::fs::create_dir_all(&folder).unwrap();
    let names: Vec<String> = (1..=5).map(|number| format!("data_batch_{number}.bin")).collect();
    for (number, name) in names.iter().map(String::as_str).chain(["test_batch.bin"]).enumerate() {
        let mut bytes = Vec::new();
        for row in 0..rows {
            let class = (row * 7 + number) % 10;
            bytes.push(class as u8);
            for at in 0..3072 {
                let (colour, x) = (at / 1024, at % 32);
                let bar = x / 6 == class % 5 && colour == class / 5;
                let noise = (at * 31 + row * 17 + number * 5) % 61;
                bytes.push((if bar { 170 } else { 30 } + noise) as u8);
            }
        }
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
fn the_paper_s_preset_learns_data_of_cifar_s_form_at_either_memory_level() {
    let folder = tempfile::tempdir().unwrap();
    cifar(folder.path(), 64);
    let data = folder.path().to_str().unwrap();
    let outcomes = ["3", "4"].map(|level| {
        let out = folder.path().join(level);
        let arguments = [
            "--preset",
            "cifar10+-bc-100-12",
            "--data",
            data,
            "--epochs",
            "2",
            "--lr-shape",
            "never",
            "--memory-level",
            level,
        ];
        let more = ["--out", out.to_str().unwrap(), "--format", "json"];
        let outcome = run(folder.path(), &[&["train"], &arguments[..], &more].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let result = json(&outcome.stdout);
        assert_eq!(result["architecture"], "densenet-bc-100-12");
        assert_eq!(result["images"], serde_json::json!({"training": 320, "validation": 64}));
        let lines = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let epochs: Vec<_> = lines.lines().skip(1).map(json).collect();
        let loss = |epoch: &Value| epoch["loss"].as_f64().unwrap();
        // From the chance of one in ten on.
        assert!(epochs.len() == 2 && loss(&epochs[1]) < 0.9 * loss(&epochs[0]), "{lines}");
        assert!(epochs[1]["images_per_s"].as_f64().unwrap() > 0.0 && epochs[1]["seconds"].as_f64().unwrap() > 0.0);
        tensors(&out.join("last.safetensors"))
    });
    assert!(outcomes[0] == outcomes[1]);
}

#[test]
fn averaged_weights_are_what_is_measured_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let more = [
        "--average",
        "0.98",
        "--optimiser",
        "adamw",
        "--lr",
        "0.002",
        "--warm-up",
        "1",
        "--clip",
        "1",
        "--format",
        "json",
    ];
    let outcome = train(folder.path(), "out", &more);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let result = json(&outcome.stdout);
    assert_eq!(result["recipe"]["optimiser"], "adamw");
    for which in ["best", "last"] {
        let file = result[which]["file"].as_str().unwrap();
        let measured = json(&run(folder.path(), &["eval", file, "--data", "digits", "--format", "json"]).stdout);
        assert_eq!(measured["top1_wrong"], result[which]["error"]["wrong"], "{which}");
    }
    // The raw weights, their average, a mean and a mean square of each.
    let last = tensors(&folder.path().join("out/last.safetensors"));
    let of = |kind: &str| last.keys().filter(|name| name.starts_with(kind)).count();
    assert_eq!(
        (of("average."), of("optimiser.mean."), of("optimiser.mean_square."), last.len()),
        (107, 65, 65, 2 * 107 + 2 * 65)
    );
    assert_ne!(last["average.classifier.bias"], last["classifier.bias"]);
}
