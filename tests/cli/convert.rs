//! `convert`, `parity` and `inspect`.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use densenet_arch::networks;
use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::conversions::round_trip::{legacy, random};
use crate::conversions::t7_modules::beside_numbers;
use crate::conversions::{bytes, tensors};
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
    let written = folder.path().join("new/tiny_zip.safetensors");
    assert!(written.is_file());
    // Others may read it as they may any file made here.
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    assert_eq!(fs::metadata(&written).unwrap().permissions(), fs::metadata(&plain).unwrap().permissions());
    let outcome = run(folder.path(), &["convert", &input, "-o", &target]);
    assert_eq!(outcome.code, 4);
    assert!(outcome.stderr.contains("--force overwrites it"), "{}", outcome.stderr);
    assert_eq!(run(folder.path(), &["convert", &input, "-o", &target, "--force"]).code, 0);
    // Nor is another format promised than the one that is written.
    for name in ["a.onnx", "a.PTH", "a.pth.tar"] {
        let outcome = run(folder.path(), &["convert", &input, "-o", name]);
        let said =
            format!("densenet-zoo: -o {name}: convert writes safetensors, and `export` ONNX; name it .safetensors\n");
        assert_eq!((outcome.code, outcome.stderr), (2, said));
    }
    let unknown = format!("{}/model_1.2", folder.path().display());
    assert_eq!(run(folder.path(), &["convert", &input, "-o", &unknown]).code, 0);
    let outcome = run(folder.path(), &["convert", "missing.pth", "-o", &target]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    for arguments in [&["inspect", "densenet-121"][..], &["convert", "densenet-121", "-o", &target]] {
        let outcome = run(folder.path(), arguments);
        let said = "densenet-zoo: densenet-121: cannot read: No such file or directory (os error 2); `fetch densenet-121` \
                    converts it\n";
        assert_eq!((outcome.code, outcome.stderr.as_str()), (4, said));
    }
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
fn stdout_gets_the_same_bytes_and_the_report_goes_to_stderr() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let input = path("pytorch/tiny_zip.pt");
    assert_eq!(run(folder.path(), &["convert", &input, "-o", output.to_str().unwrap()]).code, 0);
    let piped = bytes_of(&["convert", &input, "-o", "-", "--report", "json"]);
    assert!(piped.0 == fs::read(&output).unwrap());
    let report: serde_json::Value = serde_json::from_slice(&piped.1).unwrap();
    assert_eq!(report["output"], "stdout");
    // Damage in the last tensors' data shows when others are written already: nothing reaches the pipe.
    let mut damaged = fs::read(fixture("pytorch/tiny_zip.pt")).unwrap();
    let (_, _, classifier) = &tensors(&bytes("pytorch/tiny_expected.safetensors"))["classifier.weight"];
    let at = damaged.windows(classifier.len()).position(|window| window == classifier).unwrap();
    damaged[at] ^= 1;
    let spoilt = folder.path().join("spoilt.pt");
    fs::write(&spoilt, damaged).unwrap();
    let (stdout, stderr) = bytes_of(&["convert", spoilt.to_str().unwrap(), "-o", "-"]);
    assert!(stdout.is_empty(), "{} bytes", stdout.len());
    assert!(String::from_utf8_lossy(&stderr).contains("CRC-32"), "{}", String::from_utf8_lossy(&stderr));
}

/// What a command puts out, whatever its exit code.
fn bytes_of(arguments: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let output = Command::new(env!("CARGO_BIN_EXE_densenet-zoo")).args(arguments).output().unwrap();
    (output.stdout, output.stderr)
}

#[test]
fn the_report_accounts_for_every_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let output = output.to_str().unwrap();
    let input = path("torch7/a_cifar_bc_convbias/model_1.t7");
    let convert = |more: &[&str]| {
        let outcome = run(folder.path(), &[&["convert", &input, "-o", output, "--force"], more].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        outcome.stdout
    };
    let human = convert(&["--report", "human", "--dtype", "f16"]);
    assert!(human.contains("  1.weight -> features.conv0.weight (renamed; cast from F32)\n"), "{human}");
    assert!(human.contains("  1.bias -> folded into features.denseblock1.denselayer1.norm1.running_mean, "), "{human}");
    assert!(human.contains("  1.gradWeight -> dropped: gradient\n"), "{human}");
    assert!(human.contains("  made features.norm5.num_batches_tracked: 0: the source counts no batches\n"), "{human}");
    let json: serde_json::Value = serde_json::from_str(&convert(&["--report", "json"])).unwrap();
    let entries = json["report"]["entries"].as_array().unwrap();
    let inspected = run(folder.path(), &["inspect", &input, "--format", "json"]).stdout;
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(entries.len(), inspected["tensors"].as_array().unwrap().len());
    assert_eq!(json["source_sha256"], inspected["sha256"]);
    let written = run(folder.path(), &["inspect", output, "--format", "json"]).stdout;
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(json["sha256"], written["sha256"]);
    assert_eq!(written["metadata"]["source_sha256"], json["source_sha256"]);
}

#[test]
fn a_folder_for_timm_is_a_model_too() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("hf");
    let output = output.to_str().unwrap();
    let arguments = ["convert", &path("pytorch/tiny_zip.pt"), "-o", output, "--hf-folder", "--protocol", "pil-bicubic"];
    assert_eq!(run(folder.path(), &arguments).code, 0);
    let config = fs::read(folder.path().join("hf/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["architecture"], "densenet121");
    assert_eq!(config["num_classes"], 10);
    assert_eq!(config["model_args"]["block_config"], serde_json::json!([2, 2, 2, 2]));
    assert_eq!(config["pretrained_cfg"]["interpolation"], "bicubic");
    let outcome = run(folder.path(), &arguments);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    assert!(run(folder.path(), &["inspect", output]).stdout.contains("hf/model.safetensors: safetensors file, "));
    let weights = format!("{output}/model.safetensors");
    assert!(bytes_of(&["convert", output, "-o", "-"]).0 == bytes_of(&["convert", &weights, "-o", "-"]).0);
    let reference = path("pytorch/tiny_64.ref.safetensors");
    let outcome = run(folder.path(), &["parity", output, "--reference", &reference, "--device", "cpu"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}

#[test]
fn the_readme_shows_the_digest_that_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let output = format!("{}/", folder.path().display());
    let outcome = run(folder.path(), &["convert", &path("mxnet/densenet-tiny-0000.params"), "-o", &output]);
    let (_, line) = outcome.stdout.rsplit_once('/').unwrap();
    let readme = fs::read_to_string(fixture("../../README.md")).unwrap();
    assert!(readme.contains(&format!("\n./{line}")), "{line}");
}

#[test]
fn flags_choose_among_networks() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let output = output.to_str().unwrap();
    let file = path("pytorch_more/teacher_student.pt");
    let outcome = run(folder.path(), &["convert", &file, "-o", output]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("--prefix NAME chooses one"), "{}", outcome.stderr);
    assert_eq!(run(folder.path(), &["convert", &file, "-o", output, "--prefix", "teacher"]).code, 0);
    // Neither torchvision nor timm has a network for CIFAR.
    let cifar = path("pytorch/cifar_gpleiss_zip.pt");
    let outcome = run(folder.path(), &["convert", &cifar, "-o", output, "--force", "--eps", "1e-3"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert!(outcome.stdout.contains(", eps 1e-3, head logits\n"), "{}", outcome.stdout);
    let file = path("pytorch_more/ema_timm.pth.tar");
    assert_eq!(run(folder.path(), &["convert", &file, "-o", output, "--force", "--prefer", "ema"]).code, 0);
}

#[test]
fn inspect_shows_modules_and_tensors() {
    let cache = tempfile::tempdir().unwrap();
    let outcome = run(cache.path(), &["inspect", &path("torch7/d_imagenet_mem2/model_1.t7")]);
    assert_eq!(outcome.code, 0);
    // As Torch prints them.
    for line in [
        "nn.Sequential {",
        "  [input -> (1) -> (2) -> (3) -> (4) -> (5) -> ",
        "  (1): cudnn.SpatialConvolution(3 -> 8, 7x7, 2,2, 3,3) without bias",
        "  (2): cudnn.SpatialBatchNormalization (4D) (8)",
        "  (4): nn.SpatialMaxPooling(3x3, 2,2, 1,1)",
        "      |`-> (1): nn.Identity",
        "        (3): cudnn.SpatialConvolution(8 -> 16, 1x1) without bias",
        "nn.Reshape(16)",
        "nn.Linear(16 -> 1000)",
        "    running_var: F32 [8] 32 bytes",
    ] {
        assert!(outcome.stdout.contains(line), "{line}");
    }
    let outcome = run(cache.path(), &["inspect", &path("torch7/a_cifar_bc_mem2/latest.t7")]);
    assert_eq!(outcome.code, 0);
    assert!(outcome.stdout.contains("modelFile: model_1.t7"), "{}", outcome.stdout);
    let outcome = run(cache.path(), &["inspect", &path("pytorch/tiny_zip.pt"), "--format", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(shown["format"], "pytorch-zip");
    assert_eq!(shown["tensors"][0]["name"], "features.conv0.weight");
    assert_eq!(shown["tensors"][0]["shape"], serde_json::json!([8, 3, 7, 7]));
}

#[test]
fn inspect_lists_what_a_pickle_names_and_refuses_it_all_the_same() {
    let cache = tempfile::tempdir().unwrap();
    let outcome = run(cache.path(), &["inspect", &path("malicious/exec_os_system.pt")]);
    assert_eq!(outcome.code, 5);
    assert!(outcome.stderr.contains("os.system"), "{}", outcome.stderr);
    assert!(
        outcome.stdout.contains("names os.system at byte ") && outcome.stdout.contains("(REFUSED)"),
        "{}",
        outcome.stdout
    );
    let outcome = run(cache.path(), &["inspect", &path("pytorch_more/whole_module_torchvision_zip.pt")]);
    assert_eq!(outcome.code, 0);
    let line = "names torchvision.models.densenet.DenseNet at byte 2 (a module's class, not imported)";
    assert!(outcome.stdout.contains(line), "{}", outcome.stdout);
}

/// Peak memory of a conversion: at most the output's size and 64 MiB, however large the input and however it is kept.
#[test]
#[cfg(target_os = "linux")]
fn memory_follows_the_output_and_not_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    // DenseNet-161 and as much again that belongs to nothing, as the state of an optimiser.
    let mut checkpoint = random(&networks::find("densenet-161").unwrap().config);
    let size: usize = checkpoint.iter().map(|(_, _, _, data)| data.len()).sum();
    let other = checkpoint.iter().flat_map(|(_, _, _, data)| data).copied().take(size / 4 * 4).collect();
    checkpoint.push(("optimizer".into(), vec![size / 4], false, other));
    let stream = legacy(&checkpoint);
    drop(checkpoint);
    fs::write(file("stream.pth"), &stream).unwrap();
    // The same in a zip around it, deflated (method 8 in both of its headers).
    let crc = crc32fast::hash(&stream);
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::fast());
    deflated.write_all(&stream).unwrap();
    fs::write(file("packed.zip"), zip_of_one(&deflated.finish().unwrap(), stream.len(), crc)).unwrap();
    drop(stream);
    // A small network beside 160 MB of numbers in text.
    fs::write(file("text.t7"), beside_numbers(20_000_000)).unwrap();
    for (input, dtype) in
        [("stream.pth", "f32"), ("stream.pth", "f16"), ("packed.zip", "f32"), ("packed.zip", "f16"), ("text.t7", "f32")]
    {
        let output = file("out.safetensors");
        let child = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"))
            .args(["convert", file(input).to_str().unwrap(), "-o", output.to_str().unwrap()])
            .args(["--force", "--allow-unused", "--dtype", dtype])
            .env("TMPDIR", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (peak, outcome) = peak_of(child);
        assert!(outcome.status.success(), "{input}: {}", String::from_utf8_lossy(&outcome.stderr));
        let written = fs::metadata(&output).unwrap().len();
        let allowed = written + (64 << 20);
        let read = fs::metadata(file(input)).unwrap().len();
        assert!(read > allowed, "{input} of {read} bytes would show nothing");
        assert!(peak > 0 && peak <= allowed, "{input} {dtype}: {peak} bytes for {written}, {allowed} are allowed");
    }
}

/// The kernel's own high-water mark, read for as long as the process is there.
#[cfg(target_os = "linux")]
fn peak_of(mut child: Child) -> (u64, Output) {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        // Until it is the program, it is a copy of this test.
        if text.starts_with("Name:\tdensenet-zoo\n") {
            peak = peak.max(kib.unwrap_or(0) * 1024);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    (peak, child.wait_with_output().unwrap())
}

/// A zip of one deflated file (PKWARE APPNOTE 4.3).
#[cfg(target_os = "linux")]
fn zip_of_one(deflated: &[u8], size: usize, crc: u32) -> Vec<u8> {
    let name = b"densenet161.pth";
    let sizes = [crc, deflated.len() as u32, size as u32].map(u32::to_le_bytes).concat();
    let lens = [name.len() as u16, 0].map(u16::to_le_bytes).concat();
    let method = [20, 0, 0, 0, 8, 0, 0, 0, 0, 0];
    let local = [&b"PK\x03\x04"[..], &method, &sizes, &lens, name, deflated].concat();
    let record = [&b"PK\x01\x02"[..], &[20, 0], &method, &sizes, &lens, &[0; 14], name].concat();
    let place = [record.len() as u32, local.len() as u32].map(u32::to_le_bytes).concat();
    let end = [&b"PK\x05\x06"[..], &[0; 4], &[1, 0, 1, 0], &place, &[0; 2]].concat();
    [local, record, end].concat()
}
