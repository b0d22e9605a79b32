//! `train`, and `bench --train`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::net::offline::tool_works;
use crate::run::{Outcome, fixture, run};

/// Two epochs of the digits, left in `out`.
fn train(folder: &Path, out: &str, more: &[&str]) -> Outcome {
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

fn files(folder: &Path) -> [BTreeMap<String, Vec<u8>>; 2] {
    ["model.safetensors", "last.safetensors"].map(|file| tensors(&folder.join(file)))
}

fn json(text: &str) -> Value {
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

/// Starts a run of the digits, and ends it by a signal once it has said something that begins so.
fn cut_off(folder: &Path, out: &str, signal: &str, when: &str) -> Option<i32> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"))
        .args(["train", "--preset", "digits", "--epochs", "4", "--batch-size", "16", "--out", out])
        .current_dir(folder)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with(when)));
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let said: Vec<String> = lines.collect();
    let code = child.wait().unwrap().code();
    if code.is_some() {
        assert!(said.iter().any(|line| line.contains("goes on from there")), "{said:?}");
    }
    code
}

#[test]
fn a_run_that_was_cut_off_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let whole = ["train", "--preset", "digits", "--epochs", "4", "--batch-size", "16", "--format", "json"];
    let in_folder = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let straight = run(folder.path(), &[&whole[..], &["--out", &in_folder("straight")]].concat());
    assert_eq!(straight.code, 0, "{}", straight.stderr);
    // SIGKILL leaves what the last epoch left; SIGTERM and Ctrl-C leave the step that was under way.
    for (signal, code, when) in
        [("-KILL", None, "epoch   2/4"), ("-TERM", Some(130), "epoch   1/4"), ("-INT", Some(130), "densenet-bc")]
    {
        let out = format!("cut{signal}");
        assert_eq!(cut_off(folder.path(), &out, signal, when), code, "{signal}");
        let rest = run(folder.path(), &["train", "--resume", &in_folder(&out), "--threads", "1", "--format", "json"]);
        assert_eq!(rest.code, 0, "{signal}: {}", rest.stderr);
        assert!(rest.stderr.contains("; going on after "), "{}", rest.stderr);
        assert!(files(&folder.path().join(&out)) == files(&folder.path().join("straight")), "{signal}");
        let figures = |text: &str| {
            let value = json(text);
            ["best", "last"].map(|which| {
                [&value[which]["epoch"], &value[which]["loss"], &value[which]["error"]].map(ToString::to_string)
            })
        };
        assert_eq!(figures(&rest.stdout), figures(&straight.stdout), "{signal}");
        // The figures are those of one run.
        let lines = std::fs::read_to_string(folder.path().join(&out).join("metrics.jsonl")).unwrap();
        let epochs: Vec<_> = lines.lines().skip(1).map(|line| json(line)["epoch"].clone()).collect();
        assert_eq!(epochs, [1, 2, 3, 4]);
    }
    // One that is done says so again, and its checkpoint is a model like any other.
    let again = run(folder.path(), &["train", "--resume", &in_folder("straight")]);
    assert_eq!((again.code, again.stdout.lines().count()), (0, 3), "{}", again.stderr);
    let last = in_folder("straight/last.safetensors");
    let measured = json(&run(folder.path(), &["eval", &last, "--data", "digits", "--format", "json"]).stdout);
    assert_eq!(measured["top1_wrong"], json(&straight.stdout)["last"]["error"]["wrong"]);
    let converted = run(folder.path(), &["convert", &last, "-o", &in_folder("converted.safetensors")]);
    assert_eq!(converted.code, 0, "{}", converted.stderr);
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

#[test]
fn a_run_goes_on_where_nobody_reads_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"))
        .args(["train", "--preset", "digits", "--epochs", "2", "--out", "out", "--format", "json"])
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(json(std::str::from_utf8(&output.stdout).unwrap())["last"]["epoch"], 2);
}

#[test]
fn a_run_that_replaces_another_leaves_nothing_of_it_from_its_first_checkpoint_on() {
    let folder = tempfile::tempdir().unwrap();
    let train = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"));
        command.args(["train", "--preset", "digits", "--out", "out"]).args(more).current_dir(folder.path());
        command
    };
    assert!(train(&["--epochs", "1", "--batch-size", "64"]).output().unwrap().status.success());
    let out = folder.path().join("out");
    assert!(out.join("README.md").exists() && out.join("curves.svg").exists());
    // It would take hours, and draw curves at its end.
    let more = ["--force", "--seed", "9", "--epochs", "60000"];
    let mut child = train(&more).stderr(Stdio::null()).spawn().unwrap();
    let begun = std::time::Instant::now();
    while out.join("curves.png").exists() {
        assert!(child.try_wait().unwrap().is_none() && begun.elapsed().as_secs() < 120);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // SIGKILL leaves the file that it was writing.
    let found: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(found.iter().any(|name| name == "last.safetensors"), "{found:?}");
    let stored = std::fs::read(out.join("last.safetensors")).unwrap();
    assert!(stored.windows(8).any(|bytes| bytes == b"seed\\\":9"), "{found:?}");
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

#[test]
fn a_disk_that_fills_up_leaves_the_last_checkpoint_and_the_run_goes_on_when_there_is_room() {
    if !tool_works(&["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]) {
        println!("not checked here: a namespace with a disk of its own cannot be had");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let recipe = "train --preset digits --epochs 4 --batch-size 16";
    let straight = run(
        folder.path(),
        &[&recipe.split(' ').collect::<Vec<_>>()[..], &["--out", folder.path().join("straight").to_str().unwrap()]]
            .concat(),
    );
    assert_eq!(straight.code, 0, "{}", straight.stderr);
    let script = format!(
        "mkdir disk && mount -t tmpfs -o size=4m tmpfs disk || exit 99
         $ZOO {recipe} --out disk/run 2> log > out &
         until grep -q '^epoch   1/' log || ! kill -0 $!; do sleep 0.01; done
         head -c 8m /dev/zero > disk/other 2> /dev/null
         wait $!; echo \"exit $?\"; grep '^densenet-zoo: ' log
         rm disk/other
         $ZOO train --resume disk/run > out 2>&1; echo \"exit $?\"
         cp disk/run/model.safetensors disk/run/last.safetensors ."
    );
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script]).env("ZOO", env!("CARGO_BIN_EXE_densenet-zoo"));
    let output = command.current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert!(
        matches!(lines[..], ["exit 4", error, "exit 0"] if error.contains("disk/run") && error.contains("No space left")),
        "{said}"
    );
    assert!(files(folder.path()) == files(&folder.path().join("straight")));
}

/// CIFAR-10's files with made images: each class has bars of a place and a colour of its own.
fn cifar(root: &Path, rows: usize) {
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

#[test]
fn a_checkpoint_of_numbers_that_make_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(train(folder.path(), "out", &[]).code, 0);
    let path = folder.path().join("out/last.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(bytes[8..8 + header].to_vec()).unwrap();
    for (from, to, says) in [
        (r#"\"batch\":64"#, r#"\"batch\":0 "#, "batch of 0"),
        (r#"\"growth_rate\":8"#, r#"\"growth_rate\":0"#, "growth_rate is 0"),
        (r#"\"step\":0"#, r#"\"step\":9"#, "which cannot be"),
        (r#"\"seed\":0"#, r#"\"sad\":0 "#, "missing field `seed`"),
        (r#"\"training\":"#, r#"\"trainink\":"#, "no checkpoint of a run"),
    ] {
        // `training` is a name of the header, and the rest stands in a string of it.
        let (from, to) = if from.contains("training") {
            (from.replace('\\', ""), to.replace('\\', ""))
        } else {
            (from.to_owned(), to.to_owned())
        };
        assert!(text.contains(&from), "{from}");
        let changed = text.replacen(&from, &to, 1);
        let mut file = (changed.len() as u64).to_le_bytes().to_vec();
        file.extend(changed.bytes());
        file.extend(&bytes[8 + header..]);
        std::fs::write(&path, file).unwrap();
        let outcome = run(folder.path(), &["train", "--resume", folder.path().join("out").to_str().unwrap()]);
        let errors: Vec<_> = outcome.stderr.lines().filter(|line| line.starts_with("densenet-zoo: ")).collect();
        assert!(matches!(outcome.code, 2 | 5) && errors.len() == 1 && errors[0].contains(says), "{}", outcome.stderr);
    }
}

#[test]
fn a_run_of_torch7_goes_on_and_weights_of_another_network_are_named() {
    let folder = tempfile::tempdir().unwrap();
    cifar(folder.path(), 12);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, out, torch7) = (path(""), path("out"), fixture("torch7/a_cifar_bc_mem2"));
    let common =
        ["train", "--dataset", "cifar10+", "--data", &data, "--growth-rate", "4", "--out", &out, "--format", "json"];
    let more = ["--resume", torch7.to_str().unwrap(), "--depth", "22", "--epochs", "3"];
    let outcome = run(folder.path(), &[&common[..], &more].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("going on after 1 epochs"), "{}", outcome.stderr);
    let result = json(&outcome.stdout);
    // Its first epoch was Torch's; the rate of the second of three is past the first fall.
    assert_eq!(
        (&result["last"]["epoch"], result["origin"]["model"].as_str().unwrap().ends_with("model_1.t7")),
        (&3.into(), true)
    );
    let lines = std::fs::read_to_string(folder.path().join("out/metrics.jsonl")).unwrap();
    let rates: Vec<_> = lines.lines().skip(1).map(|line| json(line)["rate"].as_f64().unwrap()).collect();
    assert!(rates.len() == 2 && (rates[0] - 0.01).abs() < 1e-12 && (rates[1] - 0.001).abs() < 1e-12, "{rates:?}");
    let more = ["--resume", torch7.to_str().unwrap(), "--depth", "22", "--average", "0.9", "--force"];
    let outcome = run(folder.path(), &[&common[..], &more].concat());
    assert!(outcome.code == 2 && outcome.stderr.contains("the momentum of SGD alone"), "{}", outcome.stderr);
    // In one folder it could not be told which of the two runs goes on.
    let own = path("own");
    std::fs::create_dir(&own).unwrap();
    for file in ["latest.t7", "model_1.t7", "optimState_1.t7"] {
        std::fs::copy(torch7.join(file), Path::new(&own).join(file)).unwrap();
    }
    let same = ["train", "--dataset", "cifar10+", "--data", &data, "--growth-rate", "4", "--depth", "22"];
    let outcome = run(folder.path(), &[&same[..], &["--resume", &own, "--out", &own]].concat());
    assert!(outcome.code == 2 && outcome.stderr.contains("give another"), "{}", outcome.stderr);
    // Another network's.
    let more = ["--resume", torch7.to_str().unwrap(), "--depth", "16", "--force"];
    let outcome = run(folder.path(), &[&common[..], &more].concat());
    assert_eq!(outcome.code, 5, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("transition1.norm.weight\" has shape [20]"), "{}", outcome.stderr);
}
