//! Networks whose outputs are findings: `convert --task`, `classify` and `eval`.

use std::fmt::Write;
use std::path::Path;

use densenet_zoo::data::digits;
use serde_json::Value;

use crate::run::{Outcome, path, run};

const NAMES: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// The 360 digits as files, with a sheet that says of each whether it is a zero, a one … Of the last ten, nothing is known.
/// Beside them the network of the digits, as one whose outputs are findings.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut sheet = format!("path,{},split\n", NAMES.join(","));
    for (number, sample) in digits::validation().unwrap().samples.iter().enumerate() {
        let pixels = sample.image.pixels().unwrap();
        let image = image::RgbImage::from_raw(32, 32, pixels.data().to_vec()).unwrap();
        image.save(folder.path().join(format!("{number}.png"))).unwrap();
        let said = |digit| if number < 350 { u8::from(sample.labels[0] == digit).to_string() } else { String::new() };
        let said: Vec<_> = (0..10).map(said).collect();
        writeln!(sheet, "{number}.png,{},val", said.join(",")).unwrap();
    }
    std::fs::write(folder.path().join("digits.csv"), sheet).unwrap();
    let (digits, model) = (path("torch7_digits/model_best_mem3.t7"), text(folder.path(), "model.safetensors"));
    let outcome =
        run(folder.path(), &["convert", &digits, "-o", &model, "--task", "multi-label", "--protocol", "digits"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    folder
}

fn text(folder: &Path, file: &str) -> String {
    folder.join(file).to_str().unwrap().to_owned()
}

fn json(outcome: &Outcome) -> Value {
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn findings_are_measured_by_the_areas_under_their_curves() {
    let folder = folder();
    let [model, sheet, said] = ["model.safetensors", "digits.csv", "said.jsonl"].map(|file| text(folder.path(), file));
    let eval = ["eval", &model, "--data", &sheet, "--device", "cpu"];
    let arguments = [&eval[..], &["--exact", "--format", "json", "--predictions", &said]].concat();
    let result = json(&run(folder.path(), &arguments));
    let summary = &result["summary"];
    assert_eq!((&summary["images"], &summary["per_class"][3]["name"]), (&360.into(), &"three".into()));
    // Of Torch7's own outputs (zoo/models/digits/val_logits.npy): scikit-learn 1.9's roc_auc_score of the 350 known values of
    // each digit, and their binary cross-entropy in numpy.
    let areas = [
        1.0,
        0.998_230_714_791,
        0.999_455_782_312,
        0.987_997_582_246,
        0.995_827_664_399,
        0.992_480_537_862,
        0.997_064_156_808,
        0.999_823_071_479,
        0.975_400_150_392,
        0.983_854_875_283,
    ];
    for (finding, area) in summary["per_class"].as_array().unwrap().iter().zip(areas) {
        assert!((finding["auroc"].as_f64().unwrap() - area).abs() < 1e-9, "{finding}");
        assert!(finding["low"].as_f64().unwrap() <= area && finding["high"].as_f64().unwrap() >= area, "{finding}");
        assert_eq!(finding["positives"].as_u64().unwrap() + finding["negatives"].as_u64().unwrap(), 350);
    }
    assert!((summary["loss"].as_f64().unwrap() - 1.186_247_486_045).abs() < 1e-6, "{summary}");
    let lines = std::fs::read_to_string(&said).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(
        (lines.lines().count(), &last["findings"][0], last["logits"].as_array().unwrap().len()),
        (361, &Value::Null, 10)
    );
    let again = run(folder.path(), &arguments);
    assert_eq!((again.code, again.stderr.ends_with("said.jsonl exists; --force overwrites it\n")), (4, true));

    let saved = text(folder.path(), "result.json");
    std::fs::write(&saved, result.to_string()).unwrap();
    let outcome = run(folder.path(), &["table", &saved]);
    assert_eq!(outcome.code, 5);
    assert!(outcome.stderr.contains("result.json: areas under the curves of findings"), "{}", outcome.stderr);

    let outcome = run(folder.path(), &eval);
    assert!(outcome.stderr.contains("digits.csv: 360 images of its part val"), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("\n one      36      314  0.9982  0.9948 to 1.0000\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("\nmean AUROC 0.9930, cross-entropy 1.1862"), "{}", outcome.stdout);
    // The same sheet as the labels of a folder.
    let data = folder.path().to_str().unwrap();
    let beside = run(folder.path(), &["eval", &model, "--data", data, "--labels", &sheet, "--device", "cpu"]);
    assert_eq!(beside.stdout.lines().skip(1).collect::<Vec<_>>(), outcome.stdout.lines().skip(1).collect::<Vec<_>>());
}

#[test]
fn each_finding_has_a_probability_of_its_own() {
    let folder = folder();
    let (first, image) = (text(folder.path(), "model.safetensors"), text(folder.path(), "7.png"));
    // Converted again, it is still known as such.
    let model = text(folder.path(), "again.safetensors");
    assert_eq!(run(folder.path(), &["convert", &first, "-o", &model]).code, 0);
    let classify = ["classify", &model, &image, "--device", "cpu"];
    let outcome = run(folder.path(), &classify);
    assert_eq!(outcome.stdout.lines().filter(|line| line.contains(" %  ")).count(), 10, "{}", outcome.stdout);
    let result = json(&run(folder.path(), &[&classify[..], &["--format", "json"]].concat()));
    let sheet = text(folder.path(), "one.csv");
    std::fs::write(&sheet, format!("path,{}\n7.png,{}\n", NAMES.join(","), ["1"; 10].join(","))).unwrap();
    let said = text(folder.path(), "said.jsonl");
    json(&run(folder.path(), &["eval", &model, "--data", &sheet, "--format", "json", "--predictions", &said]));
    let line: Value = serde_json::from_str(std::fs::read_to_string(&said).unwrap().lines().nth(1).unwrap()).unwrap();
    assert_eq!(result["task"], "multi-label");
    for said in result["images"][0]["top"].as_array().unwrap() {
        let logit = line["logits"][said["class"].as_u64().unwrap() as usize].as_f64().unwrap();
        assert!((said["probability"].as_f64().unwrap() - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6, "{said}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let folder = folder();
    let [model, sheet, other] = ["model.safetensors", "digits.csv", "other.csv"].map(|file| text(folder.path(), file));
    std::fs::write(&other, "path,edema\n0.png,1\n").unwrap();
    for (arguments, code, message) in [
        (vec!["--data", "digits"], 2, "its outputs are findings, of which an image may have several; --data FILE.csv"),
        (vec!["--data", &other], 2, "the data has 1 classes and the network 10"),
        (vec!["--data", &sheet, "--shard", "0/2", "--predictions", "x"], 2, "findings are evaluated in one go"),
        (vec!["--data", &sheet, "--uncertain", "maybe"], 2, "ignore, 0 or 1 is expected"),
    ] {
        let outcome = run(folder.path(), &[&["eval", &model][..], &arguments].concat());
        assert_eq!(outcome.code, code, "{}", outcome.stderr);
        assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    }
}

#[test]
fn a_sheet_of_classes_is_evaluated_as_folders_are() {
    let folder = folder();
    let sheet = text(folder.path(), "classes.csv");
    let rows =
        digits::validation().unwrap().samples.iter().enumerate().fold(String::new(), |mut rows, (number, sample)| {
            writeln!(rows, "{number}.png,{}", sample.labels[0]).unwrap();
            rows
        });
    std::fs::write(&sheet, format!("path,label\n{rows}")).unwrap();
    let result = json(&run(folder.path(), &["eval", "digits", "--data", &sheet, "--format", "json"]));
    // results.json of the Torch7 run: 8 of 360.
    assert_eq!((&result["images"], &result["top1_wrong"]), (&360.into(), &8.into()));
}
