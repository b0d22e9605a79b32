//! `list` and `info`, CATALOGUE.md, and catalogues of one's own.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::run::{Outcome, fixture};

/// Runs with a fresh cache, and nothing of the environment that changes what is listed.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let cache = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"))
        .env_remove("COLUMNS")
        .env_remove("DENSENET_ZOO_PATH")
        .env("DENSENET_ZOO_CACHE", cache.path())
        .envs(environment.iter().copied())
        .args(arguments)
        .output()
        .unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let outcome = run(&[arguments, &["--format", "json"]].concat(), &[]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).unwrap()
}

/// The names that `list` gives.
#[track_caller]
fn names(arguments: &[&str]) -> Vec<String> {
    let list = json(&[&["list"], arguments].concat());
    list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn catalogue_md_is_what_list_prints() {
    let outcome = run(&["list", "--format", "markdown"], &[]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let kept = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CATALOGUE.md")).unwrap_or_default();
    assert!(
        outcome.stdout == kept,
        "CATALOGUE.md is not what the catalogue says now; `cargo run --release -- list --format markdown > CATALOGUE.md` \
         writes it"
    );
    // A header, a line and a row for each of the 180 files and the embedded one.
    assert_eq!(kept.lines().filter(|line| line.starts_with('|')).count(), 2 + 181);
}

#[test]
fn the_list_in_json_holds_every_field() {
    let list = json(&["list"]);
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 181);
    let caffe = list.iter().find(|entry| entry["name"] == "densenet-121.caffe").unwrap();
    // weights.json, omz-densenet-121-densenet-121.caffemodel.
    assert_eq!(caffe["arch"], "densenet-121");
    assert_eq!(caffe["format"], "caffe");
    assert_eq!(caffe["size"], 32_303_870);
    assert_eq!(caffe["digest_strength"], "sha256");
    assert!(caffe["sha256"].as_str().unwrap().starts_with("c6a6ec98"));
    assert!(caffe["digests"]["sha384"].as_str().unwrap().starts_with("6ecb7d9f"));
    assert!(caffe["digests"]["sha1"].as_str().unwrap().starts_with("02b52013"));
    assert_eq!(caffe["urls"][1], "gdrive:0B7ubpZO7HnlCcHlfNmJkU2VPelE");
    assert_eq!((&caffe["cached"], &caffe["convertible"]), (&Value::Bool(false), &Value::Bool(true)));
    assert_eq!(caffe["parameters"], 7_978_856);
    let protocols: Vec<_> = caffe["published"].as_array().unwrap().iter().map(|row| row["protocol"].clone()).collect();
    assert_eq!(protocols, ["opencv-bilinear", "stretch-256"]);
    let zip = list.iter().find(|entry| entry["name"] == "densenet-161.gluon").unwrap();
    assert_eq!((&zip["digest"], &zip["digest_strength"]), (&Value::Null, &"sha1 of the file inside".into()));
    assert_eq!(zip["member"], "densenet161-b6c8a957.params");
    for entry in list {
        let of_64 = entry["sha256"].as_str().map(str::len);
        assert_eq!(of_64, (entry["digest_strength"] == "sha256").then_some(64), "{}", entry["name"]);
    }
}

#[test]
fn filters_leave_what_fits() {
    assert_eq!(names(&["--format-of", "torch7"]).len(), 8 + 1);
    assert_eq!(names(&["--format-of", "onnx"]).len(), 44);
    assert_eq!(
        names(&["--arch", "densenet264"]),
        ["densenet-264.torch", "densenet-264.mingminzhen", "densenet-264.paddle"]
    );
    assert_eq!(
        names(&["--arch", "densenet-201", "--format-of", "caffe"]),
        ["densenet-201.caffe-prototxt", "densenet-201.caffe"]
    );
    // weights.json, digest_status: 78 full, 66 partly, 36 not at all; and ours.
    assert_eq!(["full", "partial", "none"].map(|known| names(&["--digest", known]).len()), [79, 66, 36]);
    let bsd = names(&["--licence", "bsd-3", "--convertible"]);
    assert_eq!(bsd.len(), 4 + 4 + 8 + 4);
    assert_eq!(
        names(&["--licence", "none stated", "--arch", "densenet-161"]),
        ["densenet-161.theunnecessarythings", "densenet-161.glasses"]
    );
    assert!(!names(&["--convertible"]).iter().any(|name| name.contains("int8") || name.contains("blur")));
    let none = ["--arch", "densenet_232", "--format-of", "onnx"];
    assert_eq!(names(&none), [""; 0]);
    assert_eq!(run(&[&["list"], &none[..]].concat(), &[]).stdout, "no weight is like that\n");
    let outcome = run(&["list", "--arch", "densenet-170"], &[]);
    let said = "densenet-zoo: --arch densenet-170: no such network; `list` names them\n";
    assert_eq!((outcome.code, outcome.stderr.as_str()), (2, said));
    let outcome = run(&["list", "--format-of", "lua"], &[]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("safetensors"), "{}", outcome.stderr);
}

#[test]
fn sorting_puts_what_is_not_known_last() {
    let by_name = names(&["--sort", "name"]);
    assert!(by_name.is_sorted());
    let by_size = json(&["list", "--sort", "size"]);
    let sizes: Vec<_> =
        by_size.as_array().unwrap().iter().map(|entry| entry["size"].as_u64().unwrap_or(u64::MAX)).collect();
    assert!(sizes.is_sorted() && sizes[0] == 76_474 && sizes.ends_with(&[u64::MAX]));
    let by_error = names(&["--sort", "error", "--arch", "densenet-161", "--convertible"]);
    // 21.91, 22.2, the ports' 22.28 to 22.36, 22.39, 22.44, 22.616 twice, 22.862, and what no error was published of.
    let tags: Vec<_> = by_error.iter().map(|name| name.split_once('.').unwrap().1).collect();
    let ports = ["mxnet", "gluon", "caffe", "flyyufelix-tf", "flyyufelix-th"];
    let expected =
        [&["pytorchcv", "torch"][..], &ports, &["mmpretrain", "cadene", "timm-tv", "timm-tv-bin", "tv"]].concat();
    assert_eq!(tags[..expected.len()], expected);
    let unknown = &tags[expected.len()..];
    assert!(unknown.iter().all(|tag| tag.starts_with("onnx-turnkey") || *tag == "theunnecessarythings"), "{unknown:?}");
    let by_params = names(&["--sort", "params"]);
    assert_eq!(by_params[0], "digits.torch");
    // Ten networks are names only: two for CIFAR, six with blur pooling, of flowers, and TF-slim's.
    assert_eq!(by_params[181 - 10], "densenet-121-cifar.edadaltocg-cifar10");
    assert_eq!(by_params[180], "densenetblur-121d.timm-ra-gh");
}

#[test]
fn the_table_fits_the_terminal() {
    let wide = run(&["list"], &[]);
    assert!(wide.stdout.lines().next().unwrap().contains("MAdds G"));
    assert!(wide.stdout.lines().any(|line| line.starts_with(" densenet-169.tv  ") && line.contains(" * ")));
    assert!(!wide.stderr.contains("left out"), "{}", wide.stderr);
    for columns in [120, 100, 80, 64] {
        let outcome = run(&["list"], &[("COLUMNS", &columns.to_string())]);
        let widest = outcome.stdout.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns, "{widest} of {columns}");
        assert_eq!(outcome.stdout.lines().count(), 1 + 181);
        assert!(outcome.stderr.contains("left out, for the terminal's width: MAdds G"), "{}", outcome.stderr);
    }
}

#[test]
fn the_readme_shows_what_is_listed() {
    let outcome = run(&["list", "--arch", "densenet-121", "--convertible"], &[("COLUMNS", "112")]);
    let readme = fs::read_to_string(fixture("../../README.md")).unwrap();
    let head: String = outcome.stdout.split_inclusive('\n').take(4).collect();
    let count = format!("# {} of the 181 files; ", outcome.stdout.lines().count() - 1);
    assert!(readme.contains(&head) && readme.contains(&count), "{head}{count}");
}

#[test]
fn info_explains_the_bare_name_and_shows_what_is_no_more() {
    let outcome = run(&["info", "densenet-169"], &[]);
    let line = |start: &str| outcome.stdout.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert_eq!(line("name"), "name         densenet-169.tv");
    assert!(line("bare name").contains("densenet-169 means this file, the recommended one of "), "{}", outcome.stdout);
    assert!(line("bare name").ends_with("ported from the original Torch7 models (pytorch/vision PR #116)"));
    assert_eq!(line("digest"), "digest       sha256 prefix (8 digits) b2777c0a");

    let outcome = run(&["info", "densenet-121.torch"], &[]);
    assert!(outcome.stdout.contains("bare name    densenet-121 means densenet-121.tv, not this file\n"));
    assert!(
        outcome.stdout.contains(
            "historic url https://drive.google.com/file/d/0B8ReS-sYUS-HWFViYlVlZk9sdHc/view (nothing tries it)\n"
        ),
        "{}",
        outcome.stdout
    );
    assert!(!outcome.stdout.contains("\nurl "));

    let outcome = run(&["info", "densenet-169.onnx-turnkey-hub-opset16"], &[]);
    assert!(outcome.stdout.contains("\nunverified   nobody has verified that trained weights were loaded"));
    assert!(outcome.stdout.contains("\nprotocol     pil-bilinear (assumed: no source states it)\n"));
    let outcome = run(&["info", "densenet-c-40-12.pytorchcv-svhn"], &[]);
    assert!(outcome.stdout.contains("densenet-c-40-12 alone means no file: none of the 3 is recommended"));
    assert!(outcome.stdout.contains("\npublished    top-1 error 3.050 % on svhn-test, pytorchcv-cifar, 1 crop"));
    let value = json(&["info", "densenet-264"]);
    assert!(value["bare_name"].as_str().unwrap().starts_with("densenet-264 means this file, the recommended one of 3"));
}

/// A catalogue of one weight.
fn own(name: &str) -> String {
    format!(
        "[[weight]]\nname = \"{name}\"\nnetwork = {{ like = \"densenet-121\", num_classes = 2 }}\nformat = \"pytorch\"\n\
         protocol = \"pil-bilinear\"\nlicence = \"none\"\nprovenance = \"fine-tuned here\"\n[weight.file]\nname = \"a.pt\"\n"
    )
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn own_catalogues_come_from_the_option_and_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let within = tempfile::tempdir_in(folder.path()).unwrap();
    let one = write(&folder, "one.toml", &own("cats.own"));
    write(&within, "two.toml", &own("dogs.own"));
    write(&within, "three.toml", &own("birds.own"));
    let dir = within.path().to_str().unwrap();
    let own_names = |arguments: &[&str], path: &str| {
        let outcome = run(&[&["list", "--format", "json"], arguments].concat(), &[("DENSENET_ZOO_PATH", path)]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let list: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let names = list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap().to_owned());
        names.filter(|name| name.split_once('.').is_some_and(|(_, tag)| tag == "own")).collect::<Vec<_>>()
    };
    assert_eq!(own_names(&["--zoo", &one, "--zoo", dir], ""), ["cats.own", "birds.own", "dogs.own"]);
    assert_eq!(own_names(&[], &format!("{dir}:{one}")), ["birds.own", "dogs.own", "cats.own"]);
    // Named twice, it is read once.
    assert_eq!(own_names(&["--zoo", &one], &format!(":{one}:")), ["cats.own"]);
    let outcome = run(&["info", "cats", "--zoo", &one], &[]);
    assert!(outcome.stdout.contains("\nclasses      2\n"), "{}", outcome.stdout);
}

#[test]
fn a_clash_or_a_missing_catalogue_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let one = write(&folder, "one.toml", &own("cats.own"));
    let two = write(&folder, "two.toml", &own("cats.own"));
    let builtin = write(&folder, "builtin.toml", &own("densenet-169.tv"));
    let bad = write(&folder, "bad.toml", &own("cats.own").replace("densenet-121", "densenet-122"));
    let missing = folder.path().join("none").to_str().unwrap().to_owned();
    for (arguments, path, code, message) in [
        (vec!["--zoo", &one, "--zoo", &two], "", 2, format!("cats.own is in both {one} and {two}; rename one")),
        (vec!["--zoo", &two], &one, 2, format!("cats.own is in both {one} and {two}; rename one")),
        (
            vec!["--zoo", &builtin],
            "",
            2,
            format!("densenet-169.tv is in both torchvision.toml and {builtin}; rename one"),
        ),
        (vec!["--zoo", &bad], "", 5, format!("{bad}: cats.own: no network is called \"densenet-122\"")),
        (
            vec![],
            &missing,
            4,
            format!(
                "{missing}: no such file or folder; --zoo and DENSENET_ZOO_PATH take TOML files and folders of them"
            ),
        ),
    ] {
        let outcome = run(&[&["list"], arguments.as_slice()].concat(), &[("DENSENET_ZOO_PATH", path)]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (code, format!("densenet-zoo: {message}\n").as_str()));
    }
}

#[test]
fn catalogues_must_be_signed_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let key = fixture("minisign/zoo.pub");
    let signed = fixture("minisign/signed.toml");
    let list = |zoo: &str, key: &str| run(&["list", "--format", "json", "--zoo", zoo, "--require-signature", key], &[]);
    let outcome = list(signed.to_str().unwrap(), key.to_str().unwrap());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("tiny.signed"));
    // The key itself, as minisign prints it.
    let text = fs::read_to_string(&key).unwrap();
    assert_eq!(list(signed.to_str().unwrap(), text.lines().nth(1).unwrap()).code, 0);
    let tampered = folder.path().join("signed.toml");
    fs::write(&tampered, fs::read_to_string(&signed).unwrap().replace("74315", "74316")).unwrap();
    fs::copy(fixture("minisign/signed.toml.minisig"), folder.path().join("signed.toml.minisig")).unwrap();
    let outcome = list(tampered.to_str().unwrap(), key.to_str().unwrap());
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("not as it was signed"), "{}", outcome.stderr);
    assert_eq!(list(signed.to_str().unwrap(), fixture("minisign/other.pub").to_str().unwrap()).code, 1);
    assert_eq!(list(signed.to_str().unwrap(), "nonsense").code, 2);
}
