//! `demo`, `list`, `info`, `verify`: what works without a network.

use crate::run::run;

#[test]
fn the_demo_reprints_torch7_s_error_table() {
    let cache = tempfile::tempdir().unwrap();
    let outcome = run(cache.path(), &["demo"]);
    assert_eq!((outcome.code, outcome.stderr.starts_with("device: ")), (0, true), "{}", outcome.stderr);
    // results.json of the Torch7 run: 8 and 1 of 360.
    let lines = outcome.stdout.lines().filter(|line| line.contains(" error "));
    let measured: Vec<_> = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(measured.contains(&"top-1 error 2.222 % (8 of 360) 2.222 % (8 of 360)".to_owned()), "{}", outcome.stdout);
    assert!(measured.contains(&"top-5 error 0.278 % (1 of 360) 0.278 % (1 of 360)".to_owned()), "{}", outcome.stdout);
    let outcome = run(cache.path(), &["verify", "--all"]);
    assert_eq!((outcome.code, outcome.stdout.contains("digits.torch: as fetched")), (0, true), "{}", outcome.stderr);
}

#[test]
fn the_catalogue_is_listed_and_unknown_names_are_helped() {
    let cache = tempfile::tempdir().unwrap();
    let outcome = run(cache.path(), &["list", "--format", "json"]);
    let list: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert!(
        ["densenet-169.tv", "densenet-121.timm-ra", "densenet-232.torch", "digits.torch"]
            .iter()
            .all(|n| names.contains(n))
    );
    let outcome = run(cache.path(), &["info", "densenet169"]);
    assert!(outcome.stdout.starts_with("name         densenet-169.tv\n"), "{}", outcome.stdout);
    let outcome = run(cache.path(), &["info", "densenet-170"]);
    assert_eq!((outcome.code, outcome.stderr.lines().count()), (2, 1), "{}", outcome.stderr);
    let outcome = run(cache.path(), &["fetch", "densenet-121.torch"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("--from FILE"), "{}", outcome.stderr);
}
