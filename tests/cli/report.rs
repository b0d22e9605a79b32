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
    assert!(outcome.stderr.contains("other.json: "), "{}", outcome.stderr);
}
