//! `convert`, `parity` and `inspect`.

use std::fs;

use crate::run::{fixture, path, run};

/// Input, and the reference that its output is compared with.
const PAIRS: [(&str, &str); 11] = [
    ("torch7/a_cifar_bc_mem2/model_1.t7", "torch7/a_cifar_bc_mem2/model_1.ref.safetensors"),
    ("torch7/b_cifar_orig_drop/model_1.t7", "torch7/b_cifar_orig_drop/model_1.ref.safetensors"),
    ("torch7/b_cifar100_bc_drop/model_1.t7", "torch7/b_cifar100_bc_drop/model_1.ref.safetensors"),
    ("torch7/h_cifar_2016aug/model_1.t7", "torch7/h_cifar_2016aug/model_1.ref.safetensors"),
    ("torch7/d_imagenet_mem2/model_1.t7", "torch7/d_imagenet_mem2/parity.ref.safetensors"),
    ("pytorch/tiny_zip.pt", "pytorch/tiny_64.ref.safetensors"),
    ("pytorch/tiny_legacy.pth", "pytorch/tiny_75x53.ref.safetensors"),
    ("pytorch/tiny_legacy_oldkeys.pth", "pytorch/tiny_64.ref.safetensors"),
    ("pytorch/tiny_ckpt_examples_imagenet.pth.tar", "pytorch/tiny_64.ref.safetensors"),
    ("pytorch/cifar_gpleiss_zip.pt", "pytorch/cifar_gpleiss.ref.safetensors"),
    ("pytorch/gpleiss_imagenet_stem_zip.pt", "pytorch/gpleiss_imagenet_stem_64.ref.safetensors"),
];

#[test]
fn conversions_compute_what_the_original_framework_did_and_are_the_same_on_every_run() {
    let folder = tempfile::tempdir().unwrap();
    for (input, reference) in PAIRS {
        let outputs = ["a", "b"].map(|name| folder.path().join(format!("{name}.safetensors")));
        for output in &outputs {
            let outcome = run(folder.path(), &["convert", &path(input), "-o", output.to_str().unwrap(), "--force"]);
            assert_eq!(outcome.code, 0, "{input}: {}", outcome.stderr);
        }
        assert!(fs::read(&outputs[0]).unwrap() == fs::read(&outputs[1]).unwrap(), "{input}");
        let outcome = run(folder.path(), &["parity", outputs[0].to_str().unwrap(), "--reference", &path(reference)]);
        assert_eq!(outcome.code, 0, "{input}: {}{}", outcome.stdout, outcome.stderr);
        // The checkpoint itself is a MODEL as well.
        let outcome = run(folder.path(), &["parity", &path(input), "--reference", &path(reference), "--device", "cpu"]);
        assert_eq!(outcome.code, 0, "{input}: {}", outcome.stderr);
    }
}

#[test]
fn parity_says_no_and_names_what_a_reference_lacks() {
    let cache = tempfile::tempdir().unwrap();
    let model = path("pytorch/tiny_zip.pt");
    let other = path("pytorch/timm_tiny_64.ref.safetensors");
    let outcome = run(cache.path(), &["parity", &model, "--reference", &other]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("outside the tolerance"), "{}", outcome.stderr);
    let outcome = run(cache.path(), &["parity", &model, "--reference", &path("pytorch/tiny_expected.safetensors")]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("missing: input, output"), "{}", outcome.stderr);
}

#[test]
fn broken_files_give_one_line_exit_5_and_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(fixture("pytorch/tiny_zip.pt")).unwrap();
    let noise: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 | 1).collect();
    for (name, bytes) in
        [("truncated", &whole[..whole.len() / 2]), ("empty", &[]), ("text", b"not a model\n"), ("noise", &noise)]
    {
        let input = folder.path().join(name);
        fs::write(&input, bytes).unwrap();
        let output = folder.path().join(format!("{name}.safetensors"));
        let outcome = run(folder.path(), &["convert", input.to_str().unwrap(), "-o", output.to_str().unwrap()]);
        assert_eq!(outcome.code, 5, "{name}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{name}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(name), "{}", outcome.stderr);
        assert!(!output.exists() && outcome.stdout.is_empty(), "{name}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
}

#[test]
fn outputs_are_not_overwritten_and_folders_get_the_input_s_name() {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("{}/new/", folder.path().display());
    let input = path("pytorch/tiny_zip.pt");
    assert_eq!(run(folder.path(), &["convert", &input, "-o", &target]).code, 0);
    assert!(folder.path().join("new/tiny_zip.safetensors").is_file());
    let outcome = run(folder.path(), &["convert", &input, "-o", &target]);
    assert_eq!(outcome.code, 4);
    assert!(outcome.stderr.contains("--force overwrites it"), "{}", outcome.stderr);
    assert_eq!(run(folder.path(), &["convert", &input, "-o", &target, "--force"]).code, 0);
    let outcome = run(folder.path(), &["convert", "missing.pth", "-o", &target]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
}

#[test]
fn what_is_no_densenet_exits_1_and_raw_takes_it_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let output = output.to_str().unwrap();
    let input = path("pytorch/odd_storages_zip.pt");
    let outcome = run(folder.path(), &["convert", &input, "-o", output]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("\"features.conv0.weight\" is missing"), "{}", outcome.stderr);
    assert_eq!(run(folder.path(), &["convert", &input, "-o", output, "--raw"]).code, 0);
    let tiny = path("pytorch/tiny_zip.pt");
    let outcome = run(folder.path(), &["convert", &tiny, "-o", output, "--force", "--arch", "densenet-121"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    let outcome = run(folder.path(), &["convert", &tiny, "-o", output, "--force", "--arch", "resnet-50"]);
    assert_eq!(outcome.code, 2);
}

#[test]
fn inspect_shows_modules_and_tensors() {
    let cache = tempfile::tempdir().unwrap();
    let outcome = run(cache.path(), &["inspect", &path("torch7/v_tiny/model_1.t7")]);
    assert_eq!(outcome.code, 0);
    assert!(outcome.stdout.contains("nn.Sequential") && outcome.stdout.contains("cudnn.SpatialConvolution"));
    let outcome = run(cache.path(), &["inspect", &path("pytorch/tiny_zip.pt"), "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(shown["format"], "pytorch-zip");
    assert_eq!(shown["tensors"][0]["name"], "features.conv0.weight");
    assert_eq!(shown["tensors"][0]["shape"], serde_json::json!([8, 3, 7, 7]));
    let outcome = run(cache.path(), &["inspect", &path("malicious/exec_os_system.pt")]);
    assert_eq!(outcome.code, 5);
    assert!(outcome.stderr.contains("os.system"), "{}", outcome.stderr);
}
