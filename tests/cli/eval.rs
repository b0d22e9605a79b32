//! `eval` and `classify`.

use crate::run::{fixture, path, run};

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
    let outcome = run(folder.path(), &["eval", "compare", &file("whole"), &file("resumed")]);
    assert!(outcome.stdout.contains("McNemar's exact p = 1.0000"), "{}", outcome.stdout);
}

#[test]
fn imagenet_comes_as_folders_flat_or_as_its_tar_and_bad_images_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (flat, tree) = (path("flat"), path("tree"));
    std::fs::create_dir_all(&flat).unwrap();
    let jpeg = std::fs::read(fixture("preproc/photo_320x240_444.jpg")).unwrap();
    let other = std::fs::read(fixture("preproc/restart_q50_333x223.jpg")).unwrap();
    // The first twelve images of the challenge; their WordNet ids are those of the embedded labels.
    let classes = std::fs::read_to_string("src/data/imagenet_classes.tsv").unwrap();
    let ids: Vec<&str> = classes.lines().skip(1).map(|row| row.split('\t').nth(1).unwrap()).collect();
    let labels = [65, 970, 230, 809, 516, 57, 334, 415, 674, 332, 109, 286];
    let mut tar = Vec::new();
    for (number, label) in (1..).zip(labels) {
        let name = format!("ILSVRC2012_val_{number:08}.JPEG");
        let bytes = if number % 2 == 0 { &jpeg } else { &other };
        std::fs::write(flat.join(&name), bytes).unwrap();
        std::fs::create_dir_all(tree.join(ids[label])).unwrap();
        std::fs::write(tree.join(ids[label]).join(&name), bytes).unwrap();
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
        header[156] = b'0';
        tar.extend(header);
        tar.extend(bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.extend([0; 1024]);
    std::fs::write(path("ILSVRC2012_img_val.tar"), &tar).unwrap();
    let model = crate::run::path("torch7/d_imagenet_mem2/model_1.t7");
    let eval = |data: &std::path::Path, more: &[&str]| {
        let data = data.to_str().unwrap();
        run(folder.path(), &[&["eval", &model, "--data", data, "--device", "cpu", "--format", "json"], more].concat())
    };
    let said = |data: &std::path::Path| {
        let file = path("predictions");
        let outcome = eval(data, &["--predictions", file.to_str().unwrap()]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let text = std::fs::read_to_string(file).unwrap();
        let mut said: Vec<(String, serde_json::Value)> = text
            .lines()
            .skip(1)
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                let name = line["image"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
                (name, serde_json::json!([line["labels"], line["top"], line["loss"]]))
            })
            .collect();
        said.sort_by(|a, b| a.0.cmp(&b.0));
        said
    };
    let expected = said(&flat);
    assert_eq!(expected.len(), 12);
    assert_eq!(expected[1].1[0], serde_json::json!([970]));
    assert!(said(&path("ILSVRC2012_img_val.tar")) == expected);
    // Twelve folders are twelve classes: known by their WordNet ids.
    let named: serde_json::Value = serde_json::from_str(&eval(&tree, &[]).stdout).unwrap();
    assert_eq!(named["images"], 12);
    // ReaL leaves the first image out, and knows two classes for the second.
    let real: serde_json::Value = serde_json::from_str(&eval(&flat, &["--labels", "real"]).stdout).unwrap();
    assert_eq!((&real["images"], &real["dataset"]), (&11.into(), &"imagenet-val-real".into()));

    std::fs::write(flat.join("ILSVRC2012_val_00000003.JPEG"), b"no image").unwrap();
    let outcome = eval(&flat, &[]);
    assert_eq!(outcome.code, 5);
    assert!(outcome.stderr.contains("ILSVRC2012_val_00000003.JPEG: not an image"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("1 images could not be read; --skip-bad leaves them out"), "{}", outcome.stderr);
    let skipped: serde_json::Value = serde_json::from_str(&eval(&flat, &["--skip-bad"]).stdout).unwrap();
    assert_eq!((&skipped["images"], skipped["bad"].as_array().map(Vec::len)), (&11.into(), Some(1)));
}
