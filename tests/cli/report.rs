//! `table`, `report`, `explain` and `plot`, from a real run over the embedded digits.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::run::{Outcome, run};

/// A folder with the result of a run over the digits, and its predictions.
fn results() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("results")).unwrap();
    let predictions = folder.path().join("results/digits.jsonl");
    let arguments = ["eval", "digits", "--data", "digits", "--device", "cpu", "--format", "json"];
    let outcome = run(folder.path(), &[&arguments[..], &["--predictions", predictions.to_str().unwrap()]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    fs::write(folder.path().join("results/digits.json"), outcome.stdout).unwrap();
    folder
}

fn at(folder: &Path, verb: &str, what: &str, more: &[&str]) -> Outcome {
    run(folder, &[&[verb, folder.join(what).to_str().unwrap()], more].concat())
}

#[test]
fn a_run_stands_beside_what_was_published_and_can_be_checked() {
    let folder = results();
    let table = |what: &str, more: &[&str]| at(folder.path(), "table", what, more);
    let outcome = table("results", &["--measured", "--check", "0.001"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let row =
        "digits.torch (digits)      0.03  digits-val  top-1       1        2.222       2.222      +0.000  1.13 to 4.32";
    assert!(outcome.stdout.contains(row), "{}", outcome.stdout);
    // The result and its predictions are one run, and each alone says the same.
    for file in ["results/digits.json", "results/digits.jsonl"] {
        assert_eq!(table(file, &["--measured", "--check", "0.001"]).stdout, outcome.stdout, "{file}");
    }
    let json: Value = serde_json::from_str(&table("results", &["--format", "json"]).stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 8 + 16 + 28 + 2);
    assert_eq!((&json[52]["verdict"], &json[52]["measured"]["wrong"]), (&"reproduced".into(), &8.into()));
    let markdown = table("results", &["--format", "markdown"]).stdout;
    assert!(
        markdown
            .contains("| densenet-121 | 7.98 | imagenet-val | top-1 | 1 | 25.0 | - | - | - | torch7 | not measured |")
    );
    assert_eq!(table("results", &["--format", "csv"]).stdout.lines().count(), 1 + 8 + 16 + 28 + 2);

    // One image more is wrong.
    let text = fs::read_to_string(folder.path().join("results/digits.json")).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["summary"]["top1_error"] =
        serde_json::json!({"wrong": 9, "of": 360, "percent": 2.5, "low": 1.3, "high": 4.7});
    fs::write(folder.path().join("off.json"), value.to_string()).unwrap();
    let outcome = table("off.json", &["--measured", "--check", "0.2"]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.ends_with("off by more than 0.2 points: digits.torch digits-val top-1 by +0.278\n"),
        "{}",
        outcome.stderr
    );
    assert_eq!(table("off.json", &["--check", "0.3"]).code, 0);

    // Nothing to check is no success, and what is no result is named.
    let nothing = run(folder.path(), &["table", "--check", "0.1"]);
    assert_eq!(nothing.code, 1, "{}", nothing.stderr);
    fs::write(folder.path().join("other.json"), "{}").unwrap();
    let outcome = table("other.json", &[]);
    assert_eq!(outcome.code, 5);
    let neither = "other.json: neither what `eval --format json` prints nor a file of predictions\n";
    assert!(outcome.stderr.ends_with(neither), "{}", outcome.stderr);
    fs::write(folder.path().join("other.json"), "# text\n").unwrap();
    assert!(table("other.json", &[]).stderr.ends_with(neither));
}

#[test]
fn the_report_is_one_page_that_asks_for_nothing() {
    let folder = results();
    let page = folder.path().join("report.html");
    let report =
        |more: &[&str]| at(folder.path(), "report", "results", &[&["-o", page.to_str().unwrap()], more].concat());
    let outcome = report(&["--title", "Digits <&> more"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert!(outcome.stdout.ends_with("report.html: 1 runs, 8 images of errors\n"), "{}", outcome.stdout);
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("<title>Digits &lt;&amp;&gt; more</title>"));
    // Eight images, and two maps for each of the three commonest errors.
    assert_eq!(html.matches("<img src=\"data:image/png;base64,").count(), 8 + 6);
    assert_eq!(html.matches("<svg").count(), 4);
    assert!(html.contains("<title>densenet-169: 23.600 % published, parameters, M 14.15</title>"));
    assert!(html.contains("<b>0</b> taken for <b>6</b>, 1 time"));
    assert!(html.contains("class=\"reproduced\""));
    // Only the name of SVG's own language is an address.
    let addresses = html.matches("http").count();
    assert_eq!((addresses, html.matches("xmlns=\"http://www.w3.org/2000/svg\"").count()), (4, 4));
    assert!(!html.contains("<script") && !html.contains("<link"));

    assert_eq!(report(&[]).code, 4);
    // Without predictions there is nothing to show pictures of.
    fs::remove_file(folder.path().join("results/digits.jsonl")).unwrap();
    let outcome = report(&["--force"]);
    assert!(outcome.stdout.ends_with("report.html: 1 runs, 0 images of errors\n"), "{}", outcome.stdout);
    assert!(fs::read_to_string(&page).unwrap().contains("0 taken for 6, 1 times"));
    assert_eq!(at(folder.path(), "report", "nothing", &["-o", "x.html"]).code, 4);
}

#[test]
fn a_class_map_adds_up_to_the_logit() {
    let folder = tempfile::tempdir().unwrap();
    let model = crate::run::path("torch7/d_imagenet_mem2/model_1.t7");
    let picture = folder.path().join("cam.png");
    let photo = crate::run::path("preproc/photo_320x240_444.jpg");
    let explain = |more: &[&str]| {
        let arguments =
            ["explain", &model, &photo, "-o", picture.to_str().unwrap(), "--device", "cpu", "--format", "json"];
        run(folder.path(), &[&arguments[..], more].concat())
    };
    let outcome = explain(&["--class", "goldfish"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&found["class"], &found["name"]), (&1.into(), &"goldfish, Carassius auratus".into()));
    let map: Vec<Vec<f64>> = serde_json::from_value(found["map"].clone()).unwrap();
    assert_eq!((map.len(), map[0].len()), (7, 7));
    // The classifier reads the mean: the map's mean and the bias are the logit.
    let store = densenet_zoo::store::Store::open(&[]).unwrap();
    let opened = store.model(&model, &mut densenet_registry::Silent).unwrap();
    let bias = f64::from(opened.tensor("classifier.bias").unwrap().1[1]);
    let mean = map.iter().flatten().sum::<f64>() / 49.0;
    let logit = found["logit"].as_f64().unwrap();
    assert!((mean + bias - logit).abs() < 1e-5, "{mean} + {bias} is not {logit}");
    let drawn = image::open(&picture).unwrap().to_rgb8();
    assert_eq!(drawn.dimensions(), (224, 224));

    assert_eq!(explain(&[]).code, 4);
    let outcome = run(folder.path(), &["explain", &model, &photo, "-o", "cam.jpg"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (2, "densenet-zoo: -o takes a .png file\n"));
    let outcome = explain(&["--force", "--class", "1000"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("\"1000\" is none of the network's 1000 classes"), "{}", outcome.stderr);
    // Without a class, the likeliest: what classify says.
    let likeliest: Value = serde_json::from_str(&explain(&["--force"]).stdout).unwrap();
    let said = run(folder.path(), &["classify", &model, &photo, "--device", "cpu", "--format", "json"]);
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(likeliest["class"], said["images"][0]["top"][0]["class"]);
}

#[test]
fn the_curves_of_runs_are_drawn_together_and_what_is_no_run_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let run_of = |name: &str, errors: &[f64]| {
        let epoch = |(number, error): (usize, &f64)| {
            format!(
                r#"{{"epoch":{number},"rate":0.1,"loss":0.5,"validation_loss":0.6,"error":{{"percent":{error}}}}}{}"#,
                '\n'
            )
        };
        let lines: String = (1..).zip(errors).map(epoch).collect();
        fs::create_dir_all(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("metrics.jsonl"), format!("{{\"seed\":1}}\n{lines}")).unwrap();
    };
    run_of("first", &[50.0, 4.5, 5.0]);
    run_of("second", &[40.0, 3.25, 3.25, 3.5]);
    run_of("sub/second", &[30.0]);
    run_of("new", &[]);
    let plot = |runs: &[&str], output: &str, more: &[&str]| {
        let paths: Vec<_> = runs.iter().chain([&output]).map(|name| folder.path().join(name)).collect();
        let mut paths: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        paths.insert(runs.len(), "-o");
        run(folder.path(), &[&["plot", "curves"], &paths[..], more].concat())
    };
    let outcome = plot(&["first", "second/metrics.jsonl"], "c.svg", &[]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let said = "c.svg:\n  first: 3 epochs; best: top-1 error 4.500 %, epoch 2\n  second: 4 epochs; best: top-1 error 3.250 %, epoch 2\n";
    assert!(outcome.stdout.ends_with(said), "{}", outcome.stdout);
    let svg = fs::read_to_string(folder.path().join("c.svg")).unwrap();
    for said in [
        ">second: top-1 error 3.250 %, epoch 2</text>",
        ">top-1 error, %</text>",
        ">loss</text>",
        ">learning rate</text>",
    ] {
        assert!(svg.contains(said), "{said}: {svg}");
    }
    // The best epoch's error and loss of each run.
    assert_eq!(svg.matches("<title>").count(), 4);
    let outcome = plot(&["first"], "c.png", &["--format", "json"]);
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(found[0]["best"], serde_json::json!({"epoch": 2, "measure": "error", "value": 4.5}));
    assert_eq!(found[0]["epochs"][2]["error"]["percent"], 5.0);
    assert_eq!(image::open(folder.path().join("c.png")).unwrap().to_rgb8().width(), 1280);
    // Of the same name, they are called by their paths.
    let outcome = plot(&["second", "sub/second"], "d.svg", &[]);
    assert!(outcome.stdout.contains("/sub/second: 1 epochs"), "{}", outcome.stdout);

    fs::write(folder.path().join("other.jsonl"), "{\"image\":\"a\"}\n{\"image\":\"b\"}\n").unwrap();
    for (what, output, code, says) in [
        ("first", "c.svg", 4, "c.svg exists; --force overwrites it"),
        ("first", "c.pdf", 2, "-o takes a .svg or .png file"),
        ("sub", "e.svg", 5, "sub: no run: there is no metrics.jsonl in it"),
        ("none", "e.svg", 4, "none: cannot read"),
        ("new", "e.svg", 5, "new/metrics.jsonl: the run has done no epoch yet"),
        ("other.jsonl", "e.svg", 5, "other.jsonl: line 2: not the figures of a training run"),
        ("c.png", "e.svg", 5, "c.png: line 1: not the figures of a training run"),
    ] {
        let outcome = plot(&["first", what], output, &[]);
        assert_eq!((outcome.code, outcome.stderr.lines().count()), (code, 1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(says), "{}", outcome.stderr);
        assert!(!folder.path().join("e.svg").exists());
    }
}

#[test]
fn a_training_leaves_its_figures_for_spreadsheets_and_tensorboard_and_its_curves() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let to = out.to_str().unwrap();
    let train = ["train", "--preset", "digits", "--epochs", "2", "--out", to];
    assert_eq!(run(folder.path(), &train).code, 0);
    let lines = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let table = fs::read_to_string(out.join("metrics.csv")).unwrap();
    let cells = |line: usize| table.lines().nth(line).unwrap().split(',').map(str::to_owned).collect::<Vec<_>>();
    let column = cells(0).iter().position(|name| name == "error_percent").unwrap();
    assert_eq!((table.lines().count(), &cells(0)[0], &cells(2)[0]), (3, &"epoch".to_owned(), &"2".to_owned()));
    assert_eq!(cells(2)[column], last["error"]["percent"].to_string());
    let drawn = folder.path().join("again.svg");
    assert_eq!(run(folder.path(), &["plot", "curves", to, "-o", drawn.to_str().unwrap()]).code, 0);
    assert!(fs::read(drawn).unwrap() == fs::read(out.join("curves.svg")).unwrap());
    assert_eq!(image::open(out.join("curves.png")).unwrap().to_rgb8().width(), 1280);
    // The value of a scalar behind its tag, in the last record.
    let events = || fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let events: Vec<_> = events().filter(|path| path.to_string_lossy().contains("/events.out.tfevents.")).collect();
    let bytes = fs::read(&events[0]).unwrap();
    let tag = b"loss/validation\x15";
    let at = bytes.windows(tag.len()).rposition(|window| window == tag).unwrap() + tag.len();
    let value = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!((events.len(), value), (1, last["validation_loss"].as_f64().unwrap() as f32));
    // Curves alone are a run's too.
    for name in ["metrics.jsonl", "metrics.csv", "model.safetensors", "last.safetensors", "config.json", "README.md"] {
        fs::remove_file(out.join(name)).unwrap();
    }
    let outcome = run(folder.path(), &train);
    assert_eq!((outcome.code, outcome.stderr.contains("curves.svg exists")), (4, true), "{}", outcome.stderr);
}

#[test]
fn weights_are_drawn_as_svg_and_png() {
    let folder = tempfile::tempdir().unwrap();
    let plot = |name: &str, more: &[&str]| {
        let output = folder.path().join(name);
        run(folder.path(), &[&["plot", "features", "digits", "-o", output.to_str().unwrap()], more].concat())
    };
    let outcome = plot("d.svg", &["--format", "json"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    // Three blocks of three layers; the last target is what follows the block.
    let targets: Vec<Vec<usize>> = found["blocks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| {
            block["targets"].as_array().unwrap().iter().map(|target| target.as_array().unwrap().len()).collect()
        })
        .collect();
    assert_eq!(targets, vec![vec![1, 2, 3, 4]; 3]);
    let svg = fs::read_to_string(folder.path().join("d.svg")).unwrap();
    assert_eq!(svg.matches("<title>").count(), 30);
    assert_eq!(plot("d.png", &[]).code, 0);
    assert_eq!(image::open(folder.path().join("d.png")).unwrap().to_rgb8().dimensions(), (884, 468));
    assert_eq!((plot("d.png", &[]).code, plot("d.pdf", &[]).code), (4, 2));
}
