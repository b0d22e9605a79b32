//! What the commands around the cache say and do.

use std::fs;

use serde_json::{Value, json};

use super::server::{Server, ok};
use super::zoo::{NAME, Zoo, entry, good, known, objects, padded, sha256};

#[test]
fn the_cache_is_listed_and_pruned() {
    let server = Server::of([("/x", ok(&good()))]);
    let zoo = Zoo::new(&[server.url("/x")]);
    let says = |arguments: &[&str]| {
        let outcome = zoo.run(arguments, &[]);
        assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.stderr);
        outcome.stdout
    };
    assert_eq!(says(&["cache", "dir"]), format!("{}\n", zoo.cache().display()));
    assert_eq!(says(&["cache", "list"]), "nothing is cached\n");
    assert_eq!(says(&["cache", "list", "--format", "json"]).trim(), "[]");
    assert_eq!(says(&["verify"]), "nothing is cached\n");
    assert_eq!(says(&["cache", "prune"]), "0 files of 0 bytes were removed\n");

    assert_eq!(zoo.run(&["fetch", NAME], &[]).code, 0);
    let listed = says(&["cache", "list"]);
    for part in [NAME, "78,790", "sha256", &server.url("/x")] {
        assert!(listed.contains(part), "{part} is not in {listed}");
    }
    let listed: Value = serde_json::from_str(&says(&["cache", "list", "--format", "json"])).unwrap();
    assert_eq!(listed[0]["original"]["sha256"], json!(sha256(&good())));

    // A download that was not finished, and an object without a name.
    fs::create_dir_all(zoo.cache().join("partial")).unwrap();
    fs::write(zoo.cache().join("partial").join("other.test"), b"12345").unwrap();
    let left = zoo.cache().join("objects/aa");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("old.pt"), b"1234567").unwrap();
    assert_eq!(says(&["cache", "prune", "--dry-run"]), "2 files of 12 bytes would be removed\n");
    assert_eq!(says(&["cache", "prune"]), "2 files of 12 bytes were removed\n");
    assert!(!left.exists());
    assert!(says(&["verify", NAME]).starts_with("tiny.test: as fetched (sha256 "));
    // The original, the converted file, its provenance, the record.
    assert!(says(&["cache", "prune", "--all"]).starts_with("4 files of "));
    assert_eq!(says(&["cache", "list"]), "nothing is cached\n");
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let server = Server::of([("/x", ok(&good()))]);
    let zoo = Zoo::new(&[server.url("/x")]);
    let plan = |what: &str| format!(" name        bytes  digest  would\n tiny.test  78,790  sha256  {what}\n");
    let planned = |arguments: &[&str]| {
        let outcome = zoo.run(&[&["fetch", NAME, "--dry-run"], arguments].concat(), &[]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
        outcome.stdout
    };
    let fetch = plan(&format!("fetch from {}", server.url("/x")));
    assert_eq!(planned(&[]), fetch);
    assert_eq!(planned(&["--from", "mine.pt"]), plan("fetch from mine.pt"));
    assert!(!zoo.cache().exists());
    assert_eq!(server.connections(), 0);
    assert_eq!(zoo.run(&["fetch", NAME], &[]).code, 0);
    assert_eq!(planned(&[]), plan("nothing: it is cached"));
    assert_eq!(planned(&["--force"]), fetch);
    assert_eq!(server.connections(), 1);
}

#[test]
fn two_are_fetched_at_once_and_one_that_fails_does_not_stop_the_other() {
    let contents = [padded(1000, 1), padded(1000, 2)];
    let server = Server::of([("/a", ok(&contents[0])), ("/b", ok(&contents[1]))]);
    let text = |second: &str| {
        entry("tiny.a", &[server.url("/a")], &known(&contents[0]))
            + &entry("tiny.b", &[server.url(second)], &known(&contents[1]))
    };
    for (second, code, stored) in [("/b", 0, 2), ("/absent", 3, 1)] {
        let zoo = Zoo::of(&text(second));
        let outcome = zoo.run(&["fetch", "tiny.b", "tiny.a", "--jobs", "2", "--retries", "0", "--format", "json"], &[]);
        assert_eq!(outcome.code, code, "{}", outcome.stderr);
        let records: Value = serde_json::from_str(&outcome.stdout).unwrap();
        // In the order that was asked for.
        let names: Vec<_> = records.as_array().unwrap().iter().map(|record| record["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["tiny.b", "tiny.a"][2 - stored..]);
        assert_eq!(objects(&zoo.cache()).len(), stored * 2);
    }
}

#[test]
fn beside_a_converted_file_stands_where_it_came_from() {
    let server = Server::of([("/x", ok(&good()))]);
    let zoo = Zoo::new(&[server.url("/x")]);
    let outcome = zoo.run(&["fetch", NAME, "--format", "json"], &[]);
    let record: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let converted = std::path::PathBuf::from(record["converted"]["path"].as_str().unwrap());
    let beside = converted.with_file_name("tiny.test.provenance.json");
    let provenance: Value = serde_json::from_str(&fs::read_to_string(beside).unwrap()).unwrap();
    for (key, expected) in [
        ("name", json!(NAME)),
        ("source", json!(server.url("/x"))),
        ("original_sha256", json!(sha256(&good()))),
        ("original_size", json!(78_790)),
        ("verified_by", json!("sha256")),
        ("converted_sha256", json!(sha256(&fs::read(&converted).unwrap()))),
        ("tool", json!(concat!("densenet-zoo ", env!("CARGO_PKG_VERSION")))),
    ] {
        assert_eq!(provenance[key], expected, "{key}");
    }
    assert!(provenance["report"].is_object(), "{provenance}");
}

#[test]
fn files_that_were_changed_in_the_cache_are_found_and_made_anew() {
    let server = Server::of([("/x", ok(&good()))]);
    let zoo = Zoo::new(&[server.url("/x")]);
    let outcome = zoo.run(&["fetch", NAME, "--format", "json"], &[]);
    let record: Value = serde_json::from_str(&outcome.stdout).unwrap();
    for which in ["original", "converted"] {
        let path = record[which]["path"].as_str().unwrap();
        let mut bytes = fs::read(path).unwrap();
        let (expected, last) = (sha256(&bytes), bytes.len() - 1);
        bytes[last] ^= 1;
        fs::remove_file(path).unwrap();
        fs::write(path, &bytes).unwrap();
        let outcome = zoo.run(&["verify", NAME], &[]);
        let computed = sha256(&bytes);
        let message = format!("wrong sha256: expected {expected}, computed {computed}; nothing of it is trusted\n");
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.ends_with(&format!("densenet-zoo: {path}: {message}")), "{}", outcome.stderr);

        assert_eq!(zoo.run(&["fetch", NAME, "--force"], &[]).code, 0);
        assert_eq!(zoo.run(&["verify", NAME], &[]).code, 0);
    }
    // One that is gone is fetched again without being told.
    fs::remove_file(record["original"]["path"].as_str().unwrap()).unwrap();
    assert_eq!(zoo.run(&["verify", NAME], &[]).code, 2);
    assert_eq!(zoo.run(&["fetch", NAME], &[]).code, 0);
    assert_eq!(zoo.run(&["verify", NAME], &[]).code, 0);
}

/// Puts another converted file in place of the one that the cache has, and notes it as such; the record as it then is, and the
/// sha256 that it had.
fn convert_otherwise(zoo: &Zoo, change: impl Fn(&mut Vec<u8>)) -> (Value, String) {
    let path = zoo.cache().join("names").join(format!("{NAME}.json"));
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (old_path, old_sha256) = (text(&record["converted"]["path"]), text(&record["converted"]["sha256"]));
    let mut bytes = fs::read(zoo.cache().join(&old_path)).unwrap();
    change(&mut bytes);
    let (new_path, new_sha256) = (old_path.replace(&old_sha256, &sha256(&bytes)), sha256(&bytes));
    fs::create_dir_all(zoo.cache().join(&new_path).parent().unwrap()).unwrap();
    fs::write(zoo.cache().join(&new_path), &bytes).unwrap();
    // A later version notes more than this one knows.
    record["converted"] = json!({"path": new_path, "sha256": new_sha256, "size": bytes.len(), "compressed": false});
    record["layout"] = json!({"version": 7});
    fs::write(&path, record.to_string()).unwrap();
    (record, old_sha256)
}

#[test]
fn two_versions_of_the_program_share_it() {
    let server = Server::of([("/x", ok(&good()))]);
    let zoo = Zoo::new(&[server.url("/x")]);
    assert_eq!(zoo.run(&["fetch", NAME], &[]).code, 0);
    let (record, old_sha256) = convert_otherwise(&zoo, |bytes| {
        let tool = b"\"tool\":\"densenet-zoo ";
        let at = bytes.windows(tool.len()).position(|window| window == tool).unwrap() + tool.len();
        bytes[at] = b'9';
    });
    // It is used as it is, without another download or conversion.
    let outcome = zoo.run(&["fetch", NAME], &[("DENSENET_ZOO_OFFLINE", "1")]);
    assert_eq!((outcome.code, server.connections()), (0, 1), "{}", outcome.stderr);
    let kept = fs::read(zoo.cache().join("names").join(format!("{NAME}.json"))).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&kept).unwrap(), record);
    let outcome = zoo.run(&["verify", NAME], &[]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("converted by another version"), "{}", outcome.stdout);
    // And its own objects are there for the other one as long as neither prunes.
    assert!(objects(&zoo.cache()).contains(&old_sha256));
}

#[test]
fn a_converted_file_that_the_original_does_not_give_is_found() {
    let server = Server::of([("/x", ok(&good()))]);
    let zoo = Zoo::new(&[server.url("/x")]);
    assert_eq!(zoo.run(&["fetch", NAME], &[]).code, 0);
    // A weight is another, and the record knows of it: only converting again tells.
    let (record, made_here) = convert_otherwise(&zoo, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let outcome = zoo.run(&["verify", NAME], &[]);
    assert_eq!(outcome.code, 1, "{}", outcome.stdout);
    let noted = record["converted"]["sha256"].as_str().unwrap();
    let message = format!(
        "{NAME}: converting the original again gives sha256 {made_here}, and the converted file has {noted}; `fetch {NAME} --force` \
         makes it anew"
    );
    assert!(outcome.stderr.contains(&message), "{}", outcome.stderr);
    assert_eq!(zoo.run(&["fetch", NAME, "--force"], &[]).code, 0);
    assert_eq!(zoo.run(&["verify", NAME], &[]).code, 0);
}
