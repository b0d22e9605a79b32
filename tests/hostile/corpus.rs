//! The hostile checkpoints of tests/fixtures/malicious, which say themselves what must come of them.

use std::path::Path;
use std::process::Command;

use densenet_converters::ErrorKind;

use crate::harness::{alone, exercise, fixture, fixtures, tensors};

/// What becomes of the files where either is allowed.
const EITHER: &[(&str, bool, &str)] = &[
    ("bad_protocol.pt", false, "protocol 99 is unknown: what its opcodes mean is too"),
    ("key_not_string.pt", true, "a number names a tensor as well as text does"),
    ("tensor_in_key.pt", true, "a name is never a path of a file here"),
    ("dup_key.pt", false, "one of the two would be lost without a word"),
    ("zip_path_traversal.pt", true, "entries are looked up by name, and nothing is unpacked"),
    ("zip_entry_size_4g.pt", false, "its announced bytes leave the file"),
    ("zip_two_roots.pt", false, "which of the two is meant is not known"),
    ("zip_bigendian_valid.pt", true, "its byteorder is read, and its elements are swapped"),
    ("zip_record_long.pt", false, "a storage has not the size that the pickle announces"),
    ("legacy_trailing_garbage.pth", false, "what follows the last storage belongs to nothing"),
];

/// Rows of expect.tsv: file and what is wanted.
fn rows() -> Vec<(String, String)> {
    let text = String::from_utf8(fixture("malicious/expect.tsv")).expect("it is text");
    let rows = text.lines().skip(1).map(|line| {
        let mut columns = line.split('\t').map(str::to_owned);
        (columns.next().expect("a file"), columns.next().expect("what is wanted"))
    });
    rows.collect()
}

fn nothing_ran() {
    let entries = std::fs::read_dir("/tmp").expect("there is a /tmp").flatten();
    let traces: Vec<_> = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("PWNED")).collect();
    assert!(traces.is_empty(), "a hostile file did what it wanted: {traces:?}");
}

#[test]
fn every_file_of_the_corpus() {
    let _alone = alone();
    let rows = rows();
    assert_eq!(rows.len(), 85);
    let mut either = 0;
    let mut without_place = Vec::new();
    for (file, want) in &rows {
        let bytes = fixture(&format!("malicious/{file}"));
        let outcome = exercise(file, &bytes);
        let reads = match want.as_str() {
            "5" => false,
            "5 or read" => {
                either += 1;
                let row = EITHER.iter().find(|(name, ..)| name == file);
                row.unwrap_or_else(|| panic!("{file}: which of the two?")).1
            }
            want => panic!("{file}: {want:?} is none of the known"),
        };
        if reads {
            assert_eq!(outcome.raw.as_ref().ok(), Some(&1), "{file}");
            // Four floats are no network.
            assert_eq!(outcome.converted.expect_err(file).kind(), ErrorKind::Incomplete, "{file}");
        } else {
            let text = outcome.refused(file);
            if !text.contains("byte ") {
                without_place.push(text);
            }
        }
    }
    assert_eq!(either, EITHER.len());
    assert!(without_place.is_empty(), "errors without a place: {without_place:#?}");
    nothing_ran();
}

#[test]
fn what_is_read_of_the_corpus_is_right() {
    let _alone = alone();
    let zeros = [0_f32; 4];
    for (file, name, values) in [
        ("_ok_baseline.pt", "w", zeros),
        ("_ok_baseline_legacy.pth", "w", zeros),
        ("key_not_string.pt", "5", zeros),
        ("tensor_in_key.pt", "../../etc/passwd", zeros),
        ("zip_path_traversal.pt", "w", zeros),
        ("zip_bigendian_valid.pt", "w", [1.0, 2.0, 3.0, 4.0]),
    ] {
        let found = tensors(file, &fixture(&format!("malicious/{file}"))).expect(file);
        let (dtype, shape, data) = &found[name];
        assert_eq!((found.len(), dtype.as_str(), &shape[..]), (1, "F32", &[4][..]), "{file}");
        assert_eq!(data, &values.map(f32::to_le_bytes).concat(), "{file}");
    }
}

fn convert(file: &str, arguments: &[&str], out: &Path) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"))
        .env("DENSENET_ZOO_CACHE", out)
        .arg("convert")
        .arg(fixtures().join("malicious").join(file))
        .arg("-o")
        .arg(out.join("out.safetensors"))
        .args(arguments)
        .output()
        .expect("the binary runs");
    (output.status.code().expect("it was not killed"), String::from_utf8(output.stderr).expect("it is text"))
}

#[test]
fn the_binary_refuses_in_one_line_and_writes_nothing() {
    for (file, format, cause) in [
        ("exec_os_system.pt", "pytorch-zip", "os.system"),
        ("exec_builtins_eval_legacy.pth", "pytorch-legacy", "builtins.eval"),
        ("exec_inst_opcode.pt", "pytorch-zip", "os.system"),
        ("exec_ext_opcode.pt", "pytorch-zip", "extension registry"),
        ("deep_recursion_lists.pt", "pytorch-zip", "deep"),
        ("geom_numel_huge_legacy.pth", "pytorch-legacy", "announced with 1099511627776"),
        ("zip_cd_count_wrong.pt", "zip", "65000 entries"),
        ("tar_legacy_torch_0.1.pth", "pytorch-tar", ""),
        ("html_page.pt", "no known format", "web page"),
        ("one_byte.pt", "no known format", "this is text"),
        ("trunc_legacy_312.pth", "pytorch-legacy", "are left"),
    ] {
        for arguments in [&[][..], &["--raw"]] {
            let folder = tempfile::tempdir().expect("a folder");
            let (code, stderr) = convert(file, arguments, folder.path());
            assert_eq!(code, 5, "{file} {arguments:?}: {stderr}");
            let line = stderr.strip_suffix('\n').unwrap_or_else(|| panic!("{file}: {stderr:?}"));
            assert!(!line.contains('\n'), "{file}: {stderr}");
            assert!(line.contains(format) && line.contains("byte ") && line.contains(cause), "{file}: {stderr}");
            let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder is there").collect();
            assert!(left.is_empty(), "{file}: {left:?}");
        }
    }
    nothing_ran();
}

#[test]
fn the_binary_reads_what_is_only_odd() {
    let folder = tempfile::tempdir().expect("a folder");
    for (file, reads, _) in EITHER {
        let (code, stderr) = convert(file, &["--raw", "--force"], folder.path());
        assert_eq!(code, if *reads { 0 } else { 5 }, "{file}: {stderr}");
    }
    let (code, stderr) = convert("_ok_baseline.pt", &["--force"], folder.path());
    assert_eq!(code, 1, "four floats are no network: {stderr}");
}

#[test]
fn truncations_of_the_list_are_refused() {
    let _alone = alone();
    let list: serde_json::Value =
        serde_json::from_slice(&fixture("malicious/truncations.json")).expect("the list is JSON");
    let mut cuts = 0;
    let mut cut = |file: &str, bytes: &[u8], at: usize| {
        let name = format!("{file} cut at {at}");
        exercise(&name, &bytes[..at]).refused(&name);
        cuts += 1;
    };
    for kind in ["zip", "legacy"] {
        let file = list[kind]["file"].as_str().expect("a file");
        let bytes = fixture(&format!("malicious/{file}"));
        assert_eq!(bytes.len() as u64, list[kind]["size"].as_u64().expect("a size"));
        for at in list[kind]["offsets"].as_array().expect("offsets") {
            cut(file, &bytes, at.as_u64().expect("an offset") as usize);
        }
    }
    for file in ["_ok_baseline.pt", "_ok_baseline_legacy.pth"] {
        let bytes = fixture(&format!("malicious/{file}"));
        (0..bytes.len()).for_each(|at| cut(file, &bytes, at));
    }
    assert_eq!(cuts, 11 + 12 + 610 + 313);
}
