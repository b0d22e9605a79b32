//! The device that commands compute on.

use crate::run::run;

/// Every command that computes, on a model that is there.
#[cfg(not(any(feature = "cuda", feature = "metal")))]
fn commands(model: &str) -> Vec<Vec<String>> {
    use crate::run::path;

    let (image, reference) = (path("jpeg/rgb.jpg"), path("pytorch/tiny_64.ref.safetensors"));
    let commands = [
        vec!["classify", model, &image],
        vec!["eval", model, "--data", "digits"],
        vec!["explain", model, &image, "--output", "seen.png"],
        vec!["parity", model, "--reference", &reference],
        vec!["bench", model],
        vec!["bench", model, "--train"],
        vec!["train", "--preset", "digits"],
        vec!["report", "results.json", "--output", "report.html"],
    ];
    commands.into_iter().map(|command| command.into_iter().map(str::to_owned).collect()).collect()
}

#[cfg(not(any(feature = "cuda", feature = "metal")))]
#[test]
fn a_device_that_was_not_compiled_in_names_its_feature() {
    let folder = tempfile::tempdir().unwrap();
    for (device, feature) in [("cuda:3", "cuda"), ("metal", "metal")] {
        for mut command in commands("digits") {
            command.extend(["--device".into(), device.into()]);
            let outcome = run(folder.path(), &command.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(outcome.code, 2, "{command:?}: {}", outcome.stderr);
            let expected = format!("this build has no {feature}; build with --features {feature}\n");
            assert!(outcome.stderr.ends_with(&expected), "{command:?}: {}", outcome.stderr);
            assert!(outcome.stdout.is_empty());
        }
    }
}

#[test]
fn devices_and_types_that_do_not_go_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], reason: &str| {
        let outcome = run(folder.path(), arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(reason), "{arguments:?}: {}", outcome.stderr);
    };
    refused(&["bench", "digits", "--device", "gpu"], "auto, cpu, cuda, cuda:N, metal or metal:N is expected");
    refused(&["bench", "digits", "--device", "cpu", "--precision", "f16"], "the engine has no f16");
    refused(&["bench", "digits", "--device", "cpu", "--precision", "tf32"], "the engine has no TF32");
    let candle = ["bench", "digits", "--device", "cpu", "--backend", "candle", "--precision", "tf32"];
    refused(&candle, "cpu: TF32 is of NVIDIA cards; take --precision f32");
    refused(&["train", "--preset", "digits", "--device", "cpu", "--precision", "bf16"], "the engine trains in f32");
    let candle = ["train", "--preset", "digits", "--device", "cpu", "--backend", "candle"];
    refused(&[&candle[..], &["--precision", "bf16"]].concat(), "candle has no bf16 on the CPU");
}

#[test]
fn bench_measures_candle_too() {
    let folder = tempfile::tempdir().unwrap();
    let bench = ["bench", "densenet-bc-100-12", "--train", "--batch", "2", "--size", "8", "--seconds", "0"];
    let outcome = run(folder.path(), &[&bench[..], &["--device", "cpu", "--backend", "candle"]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("training densenet-bc-100-12, 8x8, candle, "), "{}", outcome.stdout);
    // And of inference, without weights of any origin.
    let bench = ["bench", "densenet-121", "--new-weights", "--batch", "1", "--size", "32", "--seconds", "0"];
    for (backend, name) in [("candle", "densenet-121, 32x32, candle, "), ("engine", "densenet-121, 32x32, engine, ")] {
        let outcome = run(folder.path(), &[&bench[..], &["--device", "cpu", "--backend", backend]].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert!(outcome.stdout.starts_with(name), "{}", outcome.stdout);
    }
}
