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
fn every_single_prediction_is_torch7_s() {
    let torch: serde_json::Value =
        serde_json::from_slice(&std::fs::read(crate::run::fixture("torch7_digits/results.json")).unwrap()).unwrap();
    let predicted = torch["val_predictions"].as_array().unwrap();
    assert_eq!(predicted.len(), 360);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("said.jsonl");
    for backend in ["engine", "candle"] {
        let arguments = ["eval", "digits", "--data", "digits", "--device", "cpu", "--backend", backend];
        let outcome =
            run(folder.path(), &[&arguments[..], &["--force", "--predictions", file.to_str().unwrap()]].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let text = std::fs::read_to_string(&file).unwrap();
        let said: Vec<serde_json::Value> =
            text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
        let best: Vec<&serde_json::Value> = said.iter().map(|line| &line["top"][0]).collect();
        assert!(best.iter().copied().eq(predicted), "{backend}");
        // The one image whose digit is not among the first five, with Torch7's five.
        let missed: Vec<_> = said
            .iter()
            .filter(|line| !line["top"].as_array().unwrap().contains(&line["labels"][0]))
            .map(|line| (&line["image"], &line["top"]))
            .collect();
        let expected = &torch["val_top5_missed"][0]["top5"];
        assert_eq!(missed, [(&serde_json::json!("row 1730"), expected)], "{backend}");
    }
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
    // A bad image is named, and takes none of the others along.
    let bad = folder.path().join("bad.png");
    std::fs::write(&bad, b"no image").unwrap();
    let bad = bad.to_str().unwrap();
    let images = ["classify", &model, &photo, bad, "/nonexistent.png", &photo, "--protocol", "pil-bilinear"];
    let classify = |more: &[&str]| run(folder.path(), &[&images[..], &["--device", "cpu"], more].concat());
    let named = format!("{bad}: not an image");
    let missing = "/nonexistent.png: cannot read: No such file or directory (os error 2)\n";
    let end = "densenet-zoo: 2 images could not be read; --skip-bad leaves them out\n";
    let human = classify(&[]);
    assert_eq!((human.code, human.stdout.matches(&photo).count()), (5, 2), "{}", human.stderr);
    assert!(human.stderr.contains(&named) && human.stderr.ends_with(&format!("{missing}{end}")), "{}", human.stderr);
    let json = classify(&["--format", "json"]);
    assert_eq!((json.code, &json.stderr), (5, &human.stderr));
    let result: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((result["images"].as_array().unwrap().len(), &result["bad"][0]["image"]), (2, &bad.into()));
    assert_eq!(classify(&["--skip-bad"]).code, 0);
}

#[test]
fn wrong_requests_say_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let photo = path("preproc/decoded/photo_500x375_420_jpg.png");
    for (arguments, code, text) in [
        (vec!["eval", "digits", "--data", "/nonexistent"], 4, "/nonexistent: cannot read: No such file or directory"),
        (vec!["eval", "digits", "--data", "/nonexistent.tar"], 4, "/nonexistent.tar: cannot read: No such file"),
        (vec!["eval", "digits", "--data", &photo], 5, "not a folder; --data takes"),
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

#[test]
fn parts_merged_and_runs_resumed_are_the_whole_run_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let eval = |more: &[&str]| {
        let outcome = run(folder.path(), &[&["eval", "digits", "--data", "digits", "--device", "cpu"], more].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    };
    eval(&["--predictions", &file("whole")]);
    let whole = std::fs::read_to_string(file("whole")).unwrap();
    assert_eq!(whole.lines().count(), 361);
    // They are not overwritten unasked, and that is said before a model is looked for.
    let refused = run(folder.path(), &["eval", "no-such", "--data", "digits", "--predictions", &file("whole")]);
    let said = format!("densenet-zoo: {} exists; --resume goes on with it, --force overwrites it\n", file("whole"));
    assert_eq!((refused.code, refused.stderr), (4, said));
    assert!(std::fs::read_to_string(file("whole")).unwrap() == whole);
    eval(&["--predictions", &file("whole"), "--force"]);
    assert!(std::fs::read_to_string(file("whole")).unwrap() == whole);
    for of in [2, 7] {
        let parts: Vec<_> = (0..of).map(|index| file(&format!("{index}of{of}"))).collect();
        for (index, part) in parts.iter().enumerate() {
            eval(&["--predictions", part, "--shard", &format!("{index}/{of}")]);
        }
        let merged = file(&format!("merged{of}"));
        let mut arguments = vec!["eval", "merge", "-o", &merged];
        arguments.extend(parts.iter().rev().map(String::as_str));
        let outcome = run(folder.path(), &arguments);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert!(
            outcome.stdout.contains("top-1 error        2.222 % (8 of 360; 95 % interval 1.13 to 4.32)"),
            "{}",
            outcome.stdout
        );
        assert!(std::fs::read_to_string(&merged).unwrap() == whole, "{of} parts");
        let again = run(folder.path(), &arguments);
        assert_eq!((again.code, again.stderr), (4, format!("densenet-zoo: {merged} exists; --force overwrites it\n")));
        assert_eq!(run(folder.path(), &[&arguments[..], &["--force"]].concat()).code, 0);
        // One part is not the run.
        if of > 1 {
            let outcome = run(folder.path(), &["eval", "merge", &parts[0]]);
            assert_eq!(outcome.code, 5);
            assert!(outcome.stderr.contains(&format!("one of {of} parts, and 1 are given")), "{}", outcome.stderr);
        }
    }
    // A killed run leaves an unfinished line.
    for bytes in [1000, whole.len() / 2, whole.len() - 5] {
        std::fs::write(file("resumed"), &whole[..bytes]).unwrap();
        eval(&["--predictions", &file("resumed"), "--resume"]);
        assert!(std::fs::read_to_string(file("resumed")).unwrap() == whole, "cut at {bytes}");
    }
    // With the outputs, the best class is the largest of them, and a run without them is another.
    eval(&["--predictions", &file("logits"), "--logits"]);
    let logits = std::fs::read_to_string(file("logits")).unwrap();
    for (line, plain) in logits.lines().zip(whole.lines()).skip(1) {
        let (mut line, plain): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(line).unwrap(), serde_json::from_str(plain).unwrap());
        let outputs = line["outputs"].as_array().unwrap().clone();
        let largest = (0..10).max_by(|&a, &b| outputs[a].as_f64().partial_cmp(&outputs[b].as_f64()).unwrap());
        assert_eq!((outputs.len(), line["top"][0].as_u64()), (10, largest.map(|class| class as u64)));
        line.as_object_mut().unwrap().remove("outputs");
        assert_eq!(line, plain);
    }
    let arguments =
        ["eval", "digits", "--data", "digits", "--device", "cpu", "--resume", "--predictions", &file("logits")];
    assert!(run(folder.path(), &arguments).stderr.contains("of another run"));
    let outcome = run(folder.path(), &["eval", "compare", &file("whole"), &file("resumed")]);
    assert!(outcome.stdout.contains("McNemar's exact p = 1.0000"), "{}", outcome.stdout);
}

#[test]
fn a_scheduler_s_part_is_taken_and_one_that_cannot_be_told_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("part");
    let eval = |environment: &[(&str, &str)]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_densenet-zoo"))
            .env("DENSENET_ZOO_CACHE", folder.path())
            .envs(environment.iter().copied())
            .args(["eval", "digits", "--data", "digits", "--device", "cpu", "--predictions", file.to_str().unwrap()])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (environment, said) in [
        (
            &[("SLURM_ARRAY_TASK_ID", "3")][..],
            "SLURM_ARRAY_TASK_ID is set and SLURM_ARRAY_TASK_COUNT is not; set it to the number of parts, or give --shard I/N",
        ),
        (
            &[("JOB_COMPLETION_INDEX", "0")],
            "JOB_COMPLETION_INDEX is set and JOB_COMPLETIONS is not; set it to the number of parts, or give --shard I/N",
        ),
        (
            &[("JOB_COMPLETION_INDEX", "0"), ("JOB_COMPLETIONS", "many")],
            "JOB_COMPLETIONS is \"many\", which is no number; --shard I/N says which part",
        ),
        // sbatch --array=0-10:5
        (
            &[("SLURM_ARRAY_TASK_ID", "5"), ("SLURM_ARRAY_TASK_MIN", "0"), ("SLURM_ARRAY_TASK_COUNT", "3")],
            "SLURM_ARRAY_TASK_ID is 5, which is none of 3 parts from 0; --shard I/N says which part",
        ),
    ] {
        assert_eq!(eval(environment), (Some(2), format!("densenet-zoo: {said}\n")));
        assert!(!file.exists());
    }
    // sbatch --array=1-4, its second task.
    let second = [("SLURM_ARRAY_TASK_ID", "2"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_COUNT", "4")];
    let (code, said) = eval(&second);
    assert_eq!((code, said.lines().next()), (Some(0), Some("part 1 of 4, as the scheduler says")));
    assert!(std::fs::read_to_string(&file).unwrap().lines().next().unwrap().contains(r#""shard":{"index":1,"of":4}"#));
}

#[test]
fn without_the_network_images_are_only_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let class = folder.path().join("data/0");
    std::fs::create_dir_all(&class).unwrap();
    for name in ["a.jpg", "b.jpg"] {
        std::fs::copy(path("preproc/photo_320x240_444.jpg"), class.join(name)).unwrap();
    }
    std::fs::write(class.join("c.jpg"), b"no image").unwrap();
    let data = folder.path().join("data");
    let arguments = ["eval", "digits", "--protocol", "pil-bilinear", "--dry-network", "--workers", "2"];
    let run = |more: &[&str]| run(folder.path(), &[&arguments[..], &["--data", data.to_str().unwrap()], more].concat());
    let outcome = run(&["--format", "json", "--skip-bad"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let result: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&result["images"], &result["workers"]), (&2.into(), &2.into()));
    assert!(result["images_per_s"].as_f64().unwrap() > 0.0);
    let outcome = run(&[]);
    assert_eq!(outcome.code, 5);
    assert!(outcome.stdout.starts_with("2 images prepared in "), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("c.jpg: not an image"), "{}", outcome.stderr);
}
