//! The CPU engine against the network on candle, and against what PyTorch computed.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use densenet_arch::{Config, Head, Role, Rounding, Stem, networks};
use densenet_engine::{Convolutions, Isa, Options, Plan, Session, Shape};
use densenet_zoo::model::DenseNet;
use densenet_zoo::parity::{Difference, Reference};
use densenet_zoo::store::Store;

use crate::run::{fixture, path, run};

/// As uniform numbers between -1 and 1, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn take(&mut self, count: usize) -> Vec<f32> {
        let mut next = || {
            // Knuth's MMIX generator; the upper bits are the good ones.
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }
}

/// Convolutions by He et al., variances between 0.5 and 1.5, means and biases small.
pub(crate) fn random_weights(config: &Config) -> HashMap<String, (Vec<usize>, Vec<f32>)> {
    let mut numbers = Numbers(1);
    let params = config.params().into_iter().filter(|param| param.role != Role::NumBatchesTracked);
    let random = params.map(|param| {
        let fan_in: usize = param.shape[1..].iter().product();
        let (scale, shift) = match param.role {
            Role::ConvWeight => ((6.0 / fan_in as f32).sqrt(), 0.0),
            Role::LinearWeight => ((1.0 / fan_in as f32).sqrt(), 0.0),
            Role::NormWeight | Role::RunningVar => (0.5, 1.0),
            _ => (0.1, 0.0),
        };
        let values = numbers.take(param.elements()).into_iter().map(|number| number * scale + shift).collect();
        (param.name, (param.shape, values))
    });
    random.collect()
}

fn session(plan: &Arc<Plan>, input: &Tensor, threads: usize) -> Session {
    let (batch, _, height, width) = input.dims4().unwrap();
    Session::new(plan, Shape { height, width, batch, threads }).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn logits(plan: &Arc<Plan>, input: &Tensor, threads: usize) -> Vec<f32> {
    session(plan, input, threads).run(&values(input)).unwrap().to_vec()
}

/// Runs random weights and a random image of that size through both.
fn agrees_with_candle(config: &Config, (height, width): (usize, usize)) {
    let weights = random_weights(config);
    let tensors = weights.iter().map(|(name, (shape, values))| {
        (name.clone(), Tensor::from_slice(values, shape.as_slice(), &Device::Cpu).unwrap())
    });
    let vb = VarBuilder::from_tensors(tensors.collect(), DType::F32, &Device::Cpu);
    let candle = DenseNet::new(config, vb).unwrap();
    let input = Numbers(2).take(config.in_channels * height * width);
    let input = Tensor::from_vec(input, (1, config.in_channels, height, width), &Device::Cpu).unwrap();
    let expected = values(&candle.forward(&input, false).unwrap());
    let pre_logits = values(&candle.pre_logits(&input, false).unwrap());
    let features = candle.forward_features(&input, false).unwrap();
    for isa in Isa::available() {
        for (convolutions, most) in [(Convolutions::Exact, 1e-5), (Convolutions::Fast, 2e-5)] {
            let options = Options { isa: Some(isa), convolutions, input: Some((height, width)), ..Options::default() };
            let plan = Arc::new(Plan::new(config, |name| weights.get(name).cloned(), &options).unwrap());
            let difference = Difference::between(&logits(&plan, &input, 2), &expected);
            assert_eq!(difference.values, config.num_classes);
            assert!(difference.within(most), "{}, {isa}, {convolutions:?}: {difference:?}", config.name());
            let mut session = session(&plan, &input, 2);
            let difference = Difference::between(session.pre_logits(&values(&input)).unwrap(), &pre_logits);
            assert!(difference.within(most), "{}, {isa}, {convolutions:?}: {difference:?}", config.name());
            assert_eq!(session.features_shape(), features.dims()[1..]);
            let difference = Difference::between(session.features(&values(&input)).unwrap(), &values(&features));
            assert!(difference.within(most), "{}, {isa}, {convolutions:?}: {difference:?}", config.name());
        }
    }
}

#[test]
fn every_architecture_agrees_with_candle() {
    for network in networks::all() {
        let side = if network.config.stem == Stem::Cifar { 32 } else { 64 };
        agrees_with_candle(&network.config, (side, side));
    }
}

#[test]
fn densenet_121_agrees_with_candle_at_its_own_size() {
    agrees_with_candle(&networks::find("densenet-121").unwrap().config, (224, 224));
}

#[test]
fn free_networks_and_odd_sizes_agree_with_candle() {
    let bc = Config::cifar_bc(22, 8).unwrap();
    for (config, size) in [
        (Config { compression: 0.7, in_channels: 1, eps: 1e-3, ..bc.clone() }, (37, 45)),
        (Config { growth_rate: 5, bn_size: Some(3), head: Head::LogSoftmax, ..bc.clone() }, (33, 32)),
        (Config { growth_rate: 17, num_init_features: 7, bn_size: None, ..bc }.with_classes(1), (32, 71)),
        (Config { compression: 0.25, in_channels: 2, ..Config::imagenet(&[2, 3, 4], 6, 10) }, (53, 97)),
        (Config::imagenet(&[1], 1, 1).with_classes(50), (32, 33)),
        // Poolings that round up: maps of 14 by 25 pixels and half of that, and the smallest of all.
        (Config { pooling: Rounding::Ceil, head: Head::Softmax, ..Config::imagenet(&[2, 1, 2], 6, 10) }, (53, 97)),
        (Config { pooling: Rounding::Ceil, ..Config::imagenet(&[2, 2, 2, 2], 4, 8) }, (224, 100)),
        (Config { pooling: Rounding::Ceil, ..Config::imagenet(&[1, 1, 1], 4, 8) }, (1, 2)),
    ] {
        agrees_with_candle(&config, size);
    }
}

#[test]
fn outputs_are_pytorch_s() {
    for (model, reference, threads) in [
        ("pytorch/tiny_zip.pt", "pytorch/tiny_64.ref.safetensors", 1),
        ("pytorch/tiny_zip.pt", "pytorch/tiny_75x53.ref.safetensors", 3),
        ("pytorch/cifar_gpleiss_zip.pt", "pytorch/cifar_gpleiss.ref.safetensors", 2),
    ] {
        let store = Store::open(&[]).unwrap();
        let model = store.model(&path(model), &mut densenet_registry::Silent).unwrap();
        let Reference { input, output } = Reference::open(&fixture(reference)).unwrap();
        let output = values(&output);
        for isa in Isa::available() {
            let options = Options { isa: Some(isa), ..Options::default() };
            let plan = Arc::new(Plan::new(&model.config, |name| model.tensor(name).ok(), &options).unwrap());
            let difference = Difference::between(&logits(&plan, &input, threads), &output);
            assert!(difference.within(1e-5), "{reference}, {isa}: {difference:?}");
        }
    }
}

#[test]
fn both_ways_say_the_same_of_every_digit_and_results_name_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let said = |arguments: &[&str]| {
        let file = folder.path().join("predictions");
        let all = ["eval", "digits", "--data", "digits", "--device", "cpu", "--predictions", file.to_str().unwrap()];
        let outcome = run(folder.path(), &[&all[..], &["--force"], arguments].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let tops: Vec<serde_json::Value> = lines[1..].iter().map(|line| line["top"].clone()).collect();
        (lines[0]["backend"].as_str().unwrap().to_owned(), tops, text)
    };
    let (name, candle, _) = said(&["--backend", "candle"]);
    assert_eq!(name, "candle");
    let (name, exact, _) = said(&["--exact"]);
    assert!(name.starts_with("engine, ") && name.ends_with(", exact"), "{name}");
    let (name, engine, text) = said(&[]);
    assert!(name.starts_with("engine, ") && name.ends_with(", fast"), "{name}");
    assert!(engine == candle && exact == candle);
    // To the last bit, whatever the threads and the batch.
    let body = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    for arguments in [["--threads", "3", "--batch-size", "32"], ["--threads", "1", "--batch-size", "7"]] {
        assert!(body(&said(&arguments).2) == body(&text), "{arguments:?}");
    }
}

#[test]
fn bf16_says_the_same_of_the_digits_wherever_the_gap_is_wider_than_its_error() {
    let folder = tempfile::tempdir().unwrap();
    // The logits of each digit.
    let logits = |isa: &str, precision: &str| -> Option<Vec<Vec<f64>>> {
        let file = folder.path().join(format!("{isa}-{precision}"));
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_densenet-zoo"));
        command.env("DENSENET_ZOO_CACHE", folder.path()).env("DENSENET_ZOO_ISA", isa).current_dir(folder.path());
        command.args(["eval", "digits", "--data", "digits", "--device", "cpu", "--logits", "--precision", precision]);
        let output = command.arg("--predictions").arg(&file).output().unwrap();
        if output.status.code() == Some(6) {
            assert_eq!(isa, "", "{output:?}");
            return None;
        }
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = std::fs::read_to_string(file).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let head = lines.next().unwrap();
        assert_eq!(head["backend"].as_str().unwrap().ends_with(", fast, bf16"), precision == "bf16", "{head}");
        let row =
            |line: serde_json::Value| line["outputs"].as_array().unwrap().iter().map(|l| l.as_f64().unwrap()).collect();
        Some(lines.map(row).collect())
    };
    let exact = logits("portable", "f32").unwrap();
    assert_eq!(exact.len(), 360);
    let all: Vec<f64> = exact.iter().flatten().copied().collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let deviation = (all.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
    // The larger of the two outputs' indices, and by how much.
    let top = |row: &[f64]| {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        (order[0], row[order[0]] - row[order[1]])
    };
    // The processor's own where it has them, and the emulation everywhere.
    for rows in ["portable", ""].into_iter().filter_map(|isa| logits(isa, "bf16")) {
        let errors = rows.iter().flatten().zip(&all).map(|(a, b)| (a - b).abs());
        let error = errors.fold(0.0, f64::max);
        let squares: f64 = rows.iter().flatten().zip(&all).map(|(a, b)| (a - b).powi(2)).sum();
        let mean = (squares / all.len() as f64).sqrt();
        assert!(error < 0.017 * deviation && mean < 0.004 * deviation, "{error} {mean} {deviation}");
        let same = rows.iter().zip(&exact).filter(|(a, b)| top(a).0 == top(b).0).count();
        assert!(same >= 358, "{same}");
        for (row, exact) in rows.iter().zip(&exact) {
            assert!(top(row).0 == top(exact).0 || top(exact).1 <= 2.0 * error);
        }
    }
    let outcome = run(folder.path(), &["bench", "digits", "--backend", "candle", "--precision", "bf16"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("candle has no bf16 on the CPU"), "{}", outcome.stderr);
}

#[test]
fn kernels_that_are_not_there_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["parity", &path("pytorch/tiny_zip.pt"), "--reference", &path("pytorch/tiny_64.ref.safetensors")];
    let run = |isa: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_densenet-zoo"));
        let output =
            command.env("DENSENET_ZOO_CACHE", folder.path()).env("DENSENET_ZOO_ISA", isa).args(arguments).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run("portable").0, Some(0));
    let (code, error) = run("sse9");
    assert_eq!(code, Some(2));
    assert!(
        error.ends_with("the engine: DENSENET_ZOO_ISA is \"sse9\"; it may be portable, avx2, avx512 or neon\n"),
        "{error}"
    );
}

#[test]
fn bench_measures_each_batch() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "bench",
        "digits",
        "--batch",
        "1,3",
        "--seconds",
        "0.05",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--format",
        "json",
    ];
    let outcome = run(folder.path(), &arguments);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let results: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let batches: Vec<_> = results.as_array().unwrap().iter().map(|result| result["batch"].as_u64().unwrap()).collect();
    assert_eq!(batches, [1, 3]);
    for result in results.as_array().unwrap() {
        let number = |key: &str| result[key].as_f64().unwrap();
        assert!(number("best_ms") <= number("median_ms") && number("median_ms") <= number("p90_ms"), "{result}");
        let rate = number("batch") * 1e3 / number("median_ms");
        assert!((number("images_per_s") - rate).abs() < 1e-6 * rate, "{result}");
        assert_eq!((&result["size"], &result["threads"]), (&32.into(), &1.into()));
    }
    let human = run(folder.path(), &["bench", "digits", "--batch", "2", "--seconds", "0.05", "--backend", "candle"]);
    assert!(human.stdout.starts_with("digits, 32x32, candle"), "{}", human.stdout);
    assert_eq!(run(folder.path(), &["bench", "digits", "--batch", "0"]).code, 2);
    assert_eq!(run(folder.path(), &["bench", "digits", "--seconds", "nan"]).code, 2);
}

#[test]
fn bench_says_where_the_time_goes() {
    let folder = tempfile::tempdir().unwrap();
    let bench = |more: &[&str]| {
        let arguments = ["bench", "digits", "--batch", "3", "--seconds", "0.05", "--threads", "1", "--device", "cpu"];
        run(folder.path(), &[&arguments[..], &["--profile"], more].concat())
    };
    let outcome = bench(&["--format", "json"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let results: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let blocks = results[0]["profile"].as_array().unwrap();
    assert_eq!(blocks.len(), 3);
    let names = ["stem", "packing", "1x1", "transforms", "3x3", "transition", "head", "waiting"];
    let sum: f64 = blocks.iter().flat_map(|block| names.map(|name| block[name].as_f64().unwrap())).sum();
    // One thread's stages are its runs, short of the copies of input and output.
    let runs = results[0]["runs"].as_f64().unwrap();
    assert!(sum > 0.5 * results[0]["best_ms"].as_f64().unwrap() && runs >= 3.0, "{results}");
    let human = bench(&[]);
    assert!(human.stdout.contains("batch 3: milliseconds a run, summed over 1 threads\n"), "{}", human.stdout);
    let other = bench(&["--backend", "candle"]);
    assert_eq!(other.code, 2);
    assert!(other.stderr.contains("candle's stages are not measured"), "{}", other.stderr);
}
