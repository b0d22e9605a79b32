//! `eval` and `classify`.

use crate::run::{path, run};

#[test]
fn the_digits_are_evaluated_to_the_last_image() {
    let cache = tempfile::tempdir().unwrap();
    let outcome = run(cache.path(), &["eval", "digits", "--data", "digits", "--format", "json", "--batch-size", "50"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("(auto)"), "{}", outcome.stderr);
    let result: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&result["images"], &result["top1_wrong"], &result["top5_wrong"]), (&360.into(), &8.into(), &1.into()));
    assert_eq!(result["protocol"]["name"], "digits");
    assert_eq!(result["published"][0]["dataset"], "digits-val");
}

#[test]
fn image_folders_are_classified_and_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let model = path("torch7/d_imagenet_mem2/model_1.t7");
    let photo = path("preproc/decoded/photo_500x375_420_jpg.png");
    for class in ["n01440764", "n01443537"] {
        let class = folder.path().join("val").join(class);
        std::fs::create_dir_all(&class).unwrap();
        std::fs::copy(&photo, class.join("a.png")).unwrap();
    }
    let data = folder.path().join("val");
    let outcome = run(folder.path(), &["eval", &model, "--data", data.to_str().unwrap(), "--format", "json"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("taking torch7, its network's default"), "{}", outcome.stderr);
    let result: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    // One photograph under two classes: it cannot be right twice.
    assert_eq!(result["images"], 2);
    assert!(result["top1_wrong"].as_u64().unwrap() >= 1);
    let outcome = run(folder.path(), &["classify", &model, &photo, "--protocol", "pil-bilinear", "--device", "cpu"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(outcome.stdout.lines().filter(|line| line.contains(" %  ")).count(), 5, "{}", outcome.stdout);
}

#[test]
fn wrong_requests_say_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let photo = path("preproc/decoded/photo_500x375_420_jpg.png");
    for (arguments, code, text) in [
        (vec!["eval", "digits", "--data", "/nonexistent"], 5, "not a folder; --data takes"),
        (vec!["classify", "digits", &photo], 5, "protocol digits takes 32x32 as they are"),
        (vec!["classify", "digits", "/nonexistent.png"], 4, "/nonexistent.png: cannot read"),
        (vec!["classify", "digits", &photo, "--protocol", "pil"], 2, "there are torch7, pil-bilinear"),
        (vec!["classify", "digits", &photo, "--device", "cuda"], 2, "build with --features cuda"),
        (vec!["classify", "./nothing.pth", &photo], 2, "no such file"),
    ] {
        if cfg!(feature = "cuda") && arguments.contains(&"cuda") {
            continue;
        }
        let outcome = run(cache.path(), &arguments);
        assert_eq!(outcome.code, code, "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(text), "{arguments:?}: {}", outcome.stderr);
    }
}
