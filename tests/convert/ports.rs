//! Files of Caffe, MXNet, ONNX and Keras, against what those frameworks computed.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use densenet_arch::{Channels, Config, Head, Rounding};
use densenet_converters::{Options, Source, convert};
use densenet_zoo::data::npy;
use densenet_zoo::parity::Difference;
use densenet_zoo::runner::{Backend, Convolutions, Precision, Runner};
use densenet_zoo::store::Store;

use super::{bytes, tensors, written};
use crate::run::{path, run};

const SYMBOL: &str = "d27dd6cd28f3590530d576ef1f96ad5776ec687480174e36723a82d9fd476e96";

/// (images, channels, height, width), also of an image whose channels come last.
fn input(name: &str) -> (Vec<f32>, (usize, usize)) {
    let (shape, values) = npy::read_f32(&bytes(name)).unwrap();
    if shape[1] == 3 {
        return (values, (shape[2], shape[3]));
    }
    let [images, height, width, channels] = shape[..] else { panic!("{shape:?}") };
    let plane = height * width;
    let at = |index: usize| {
        let (image, channel, pixel) = (index / (channels * plane), index / plane % channels, index % plane);
        values[(image * plane + pixel) * channels + channel]
    };
    ((0..images * channels * plane).map(at).collect(), (height, width))
}

/// The network of a file, as the engine and candle run it, gives what its framework gave.
pub(crate) fn gives(model: &Path, image: &str, output: &str) -> Config {
    let (_, expected) = npy::read_f32(&bytes(output)).unwrap();
    let (images, size) = input(image);
    let model = Store::open(&[]).unwrap().model(model.to_str().unwrap(), &mut densenet_registry::Silent).unwrap();
    let (convolutions, precision) = (Convolutions::Exact, Precision::F32);
    // Two to three units in the last place of the largest output.
    let x = Tensor::from_slice(&images, ((), 3, size.0, size.1), &Device::Cpu).unwrap();
    let found: Vec<f32> = model
        .network(&Device::Cpu, DType::F32)
        .unwrap()
        .forward(&x, false)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let difference = Difference::between(&found, &expected);
    assert!(difference.absolute <= 2e-6, "{output}: {difference:?}");
    for backend in [Backend::Candle(DType::F32), Backend::Engine { threads: 2, convolutions, precision }] {
        let mut runner = Runner::new(&model, (64, 64), backend, &Device::Cpu).unwrap();
        let found = runner.run(&images, size).unwrap();
        assert_eq!(found.len(), expected.len());
        let difference = Difference::between(&found, &expected);
        // With norms folded into convolutions the sums are others.
        let most = 2e-6_f64.max(difference.scale * 2_f64.powi(-21));
        assert!(difference.absolute <= most, "{output}, {}: {difference:?}", runner.name());
    }
    model.config
}

/// Converts with these arguments, and compares what was written.
fn converts(model: &str, arguments: &[&str], image: &str, output: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out.safetensors");
    let input = path(model);
    let outcome = run(folder.path(), &[&["convert", &input, "-o", to.to_str().unwrap()], arguments].concat());
    assert_eq!(outcome.code, 0, "{model}: {}", outcome.stderr);
    gives(&to, image, output)
}

#[test]
fn caffe_pools_up_or_down_as_it_is_told() {
    let model = "caffe/tiny_python_written.caffemodel";
    let down = converts(model, &[], "caffe/input_64.npy", "caffe/output_64_ceil_mode_false.npy");
    assert_eq!((down.eps, down.head, down.pooling), (1e-5, Head::Logits, Rounding::Floor));
    let up = converts(model, &["--pooling", "ceil"], "caffe/input_64.npy", "caffe/output_64_ceil_mode_true.npy");
    assert_eq!(up.pooling, Rounding::Ceil);
    gives(path(model).as_ref(), "caffe/input_64.npy", "caffe/output_64_ceil_mode_false.npy");
    // What shicai's README asks of an image.
    let file = bytes(model);
    let source = Source::new(&file);
    let conversion = convert(&source, &Options::default()).unwrap();
    assert_eq!((conversion.protocol.name.as_str(), conversion.protocol.channels), ("opencv-bilinear", Channels::Bgr));
    assert_eq!(conversion.protocol.mean, [103.94, 116.78, 123.68]);
}

#[test]
fn onnx_with_and_without_its_batch_norms_folded() {
    for model in ["onnx/tiny_nofold.onnx", "onnx/tiny_folded.onnx"] {
        gives(path(model).as_ref(), "pytorch/tiny_input_64.npy", "pytorch/tiny_output_64.npy");
        let config = converts(model, &[], "pytorch/tiny_input_75x53.npy", "pytorch/tiny_output_75x53.npy");
        assert_eq!((config.eps, config.pooling), (1e-5, Rounding::Floor));
    }
    // Unfolded, the tensors are those that the export was made from, bit for bit.
    let file = bytes("onnx/tiny_nofold.onnx");
    let source = Source::new(&file);
    let conversion = convert(&source, &Options::default()).unwrap();
    let expected = tensors(&bytes("pytorch/tiny_expected.safetensors"));
    assert!(super::uncounted(tensors(&written(&conversion))) == super::uncounted(expected));
}

#[test]
fn mxnet_takes_eps_and_rounding_from_its_symbol() {
    let model = "mxnet/densenet-tiny-0000.params";
    // The names and values that MXNet itself saw, and arrays of other types.
    assert!(super::raw(model) == super::raw("mxnet/densenet-tiny-v1.params"));
    let half = super::raw("mxnet/half.params");
    // 1, 2.5, 3 and -4 as halves.
    let halves = [0x3c00_u16, 0x4100, 0x4200, 0xc400].map(u16::to_le_bytes).concat();
    assert_eq!(half["arg:w"], ("F16".into(), vec![2, 2], halves));
    assert_eq!(half["arg:i"].0, "I32");
    for size in ["64", "75x53"] {
        let (image, output) = (format!("mxnet/input_{size}.npy"), format!("mxnet/output_{size}.npy"));
        let config = converts(model, &[], &image, &output);
        assert_eq!((config.eps, config.head, config.pooling), (1e-4, Head::Logits, Rounding::Ceil));
        gives(path(model).as_ref(), &image, &output);
        // Without a symbol, what it says has to be stated.
        let stated = ["--eps", "1e-4", "--pooling", "ceil"];
        converts("mxnet/densenet-tiny-v1.params", &stated, &image, &output);
    }
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out.safetensors");
    let convert = |model: &str, arguments: &[&str]| {
        run(folder.path(), &[&["convert", &path(model), "-o", to.to_str().unwrap()], arguments].concat())
    };
    let outcome = convert("mxnet/densenet-tiny-v1.params", &["--eps", "1e-4"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("state --eps and --pooling"), "{}", outcome.stderr);
    let outcome = convert(model, &["--pooling", "floor"]);
    assert!(outcome.stderr.contains("the file says pooling ceil, and floor was asked for"), "{}", outcome.stderr);
    assert!(!to.exists());
    // What takes eps and rounding for granted is named.
    let outcome = convert(model, &[]);
    let differ =
        "their outputs will differ: they add 1e-5 to the variances where it is 1e-4; their poolings round down where";
    assert!(outcome.stderr.contains(differ), "{}", outcome.stderr);
}

/// The digests are those of coreutils' sha256sum.
#[test]
fn what_was_read_beside_a_file_is_named_by_its_digest() {
    let model = "mxnet/densenet-tiny-0000.params";
    let beside = serde_json::json!({ "densenet-tiny-symbol.json": SYMBOL });
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let json = |arguments: &[&str]| -> serde_json::Value {
        let outcome = run(folder.path(), arguments);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        serde_json::from_str(&outcome.stdout).unwrap()
    };
    let inspect = |file: &str| json(&["inspect", file, "--format", "json"]);
    let named = |file: &str| -> serde_json::Value {
        serde_json::from_str(inspect(file)["metadata"]["source_files"].as_str().unwrap()).unwrap()
    };
    assert_eq!(inspect(&path(model))["files"], beside);
    let text = run(folder.path(), &["inspect", &path(model)]).stdout;
    assert!(text.contains(&format!("  with densenet-tiny-symbol.json, sha256 {SYMBOL}\n")), "{text}");

    let (whole, raw, onnx) = (at("whole.safetensors"), at("raw.safetensors"), at("whole.onnx"));
    let report = json(&["convert", &path(model), "-o", &whole, "--report", "json"]);
    assert_eq!(report["source_files"], beside);
    json(&["convert", &path(model), "-o", &raw, "--raw", "--report", "json"]);
    json(&["export", &path(model), "-o", &onnx, "--format", "json"]);
    for written in [&whole, &raw, &onnx] {
        assert_eq!(named(written), beside, "{written}");
    }
    // A card names them also where the model was converted before.
    for (source, card) in [(path(model), "first"), (whole, "second")] {
        json(&["convert", &source, "-o", &at(card), "--hf-folder", "--report", "json"]);
        let text = std::fs::read_to_string(folder.path().join(card).join("README.md")).unwrap();
        assert!(text.contains(&format!("- with densenet-tiny-symbol.json: sha256 `{SYMBOL}`\n")), "{text}");
    }
    // Where there are none, nothing is said of them.
    let alone = at("alone.safetensors");
    json(&["convert", &path("onnx/tiny_nofold.onnx"), "-o", &alone, "--report", "json"]);
    assert_eq!(inspect(&alone)["metadata"]["source_files"], serde_json::Value::Null);
}

/// eps of 1e-3 and gammas that count as 1 are what MXNet's BatchNorm takes where it is told nothing (1.9.1, batch_norm-inl.h).
#[test]
fn mxnet_s_defaults_stand_in_for_what_a_symbol_leaves_out() {
    let file = bytes("mxnet/densenet-tiny-0000.params");
    let symbol = String::from_utf8(bytes("mxnet/densenet-tiny-symbol.json")).unwrap();
    let weights = |symbol: &str| {
        let beside = [("densenet-tiny-symbol.json".to_owned(), symbol.as_bytes())];
        let source = Source::new(&file).with_neighbours(&beside);
        let conversion = convert(&source, &Options::default()).unwrap();
        assert!(conversion.report.is_complete(false), "{}", conversion.report);
        let (_, _, weight) = tensors(&written(&conversion)).remove("features.norm5.weight").unwrap();
        (conversion.config.eps, weight)
    };
    let ones = |weight: &[u8]| weight.as_chunks().0.iter().all(|&value| f32::from_le_bytes(value) == 1.0);
    let (eps, stated) = weights(&symbol);
    assert!(eps == 1e-4 && !ones(&stated));
    let silent = symbol.replace("\"eps\": \"0.0001\", ", "").replace("\"fix_gamma\": \"False\", ", "");
    assert!(!silent.contains("fix_gamma"));
    let (eps, fixed) = weights(&silent);
    assert!(eps == 1e-3 && ones(&fixed));
}

#[test]
fn keras_of_every_age_and_kernel_order() {
    for (model, image, output, eps) in [
        ("apps_keras2.2.4.h5", "apps", "apps_keras2.2.4", 1.001e-5),
        ("apps_keras3.weights.h5", "apps", "apps_keras3", 1.001e-5),
        ("flyy_keras1.2.2_theano_th.h5", "flyy", "flyy_keras1.2.2_theano_th", 1.1e-5),
        ("flyy_keras2.0.5_tf.h5", "flyy", "flyy_keras2.0.5_tf", 1.1e-5),
    ] {
        let (model, image) = (format!("keras/{model}"), format!("keras/{image}_input_nhwc_64.npy"));
        let config = converts(&model, &[], &image, &format!("keras/{output}_prob.npy"));
        assert_eq!((config.eps, config.head, config.pooling), (eps, Head::Softmax, Rounding::Floor), "{model}");
    }
}

#[test]
fn whole_keras_models_say_their_eps_and_layers_without_names_are_counted() {
    let image = "keras/blocks12_input_nhwc_37x45.npy";
    for model in ["keras/blocks12_keras3.keras", "keras/blocks12_keras3_whole.h5"] {
        let config = converts(model, &[], image, "keras/blocks12_eps2e-5_prob.npy");
        assert_eq!((config.eps, config.head, config.num_classes), (2e-5, Head::Softmax, 3), "{model}");
    }
    let unnamed = "keras/blocks12_keras3_unnamed.weights.h5";
    assert_eq!(converts(unnamed, &[], image, "keras/blocks12_unnamed_prob.npy").eps, 1.001e-5);
    // Weights alone do not say eps, and it may be stated.
    converts(unnamed, &["--eps", "2e-5"], image, "keras/blocks12_eps2e-5_prob.npy");
    // The features alone.
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("features.safetensors");
    let outcome = run(folder.path(), &["convert", &path(unnamed), "--no-top", "-o", to.to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    // timm has its network, and loads no features alone.
    assert_eq!(outcome.stderr, "");
    assert!(
        outcome.stdout.contains("\n  densenet-bc(1,2)-k2-s4, 1,240 parameters, no classifier, eps 1.001e-5\n"),
        "{}",
        outcome.stdout
    );
    let features = tensors(&std::fs::read(to).unwrap());
    let whole = super::converted(unnamed, &Options::default());
    assert_eq!(features.len() + 2, whole.len());
    assert!(features.iter().all(|(name, content)| whole[name] == *content));
}

/// What the catalogue says of a weight stands in for what its file does not: MXNet's symbol is no part of the fetched one.
#[test]
fn fetched_ports_are_converted_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = "block_config = [2, 2, 2, 2], growth_rate = 4, num_init_features = 8, bn_size = 4, compression = 0.5, num_classes = 10";
    for (format, file, more, image, output) in [
        (
            "caffe",
            "caffe/tiny_python_written.caffemodel",
            "",
            "caffe/input_64.npy",
            "caffe/output_64_ceil_mode_false.npy",
        ),
        (
            "mxnet",
            "mxnet/densenet-tiny-0000.params",
            ", eps = 1e-4, pooling = \"ceil\"",
            "mxnet/input_75x53.npy",
            "mxnet/output_75x53.npy",
        ),
        ("onnx", "onnx/tiny_folded.onnx", "", "pytorch/tiny_input_64.npy", "pytorch/tiny_output_64.npy"),
        (
            "keras",
            "keras/flyy_keras1.2.2_theano_th.h5",
            ", eps = 1.1e-5",
            "keras/flyy_input_nhwc_64.npy",
            "keras/flyy_keras1.2.2_theano_th_prob.npy",
        ),
    ] {
        let (file, name) = (path(file), file.rsplit('/').next().unwrap());
        let sha256 = crate::net::zoo::sha256(&std::fs::read(&file).unwrap());
        let text = format!(
            "[[weight]]\nname = \"tiny.{format}\"\nnetwork = {{ {sizes}{more} }}\nformat = \"{format}\"\n\
             protocol = \"opencv-bilinear\"\nlicence = \"MIT\"\nprovenance = \"a fixture\"\n[weight.file]\n\
             name = \"{name}\"\nurls = [\"file:{file}\"]\nsha256 = \"{sha256}\"\n"
        );
        let zoo = folder.path().join(format!("{format}.toml"));
        std::fs::write(&zoo, text).unwrap();
        let cache = folder.path().join(format);
        let with_zoo = |arguments: &[&str]| run(&cache, &[arguments, &["--zoo", zoo.to_str().unwrap()]].concat());
        let outcome = with_zoo(&["fetch", &format!("tiny.{format}"), "--format", "json"]);
        assert_eq!(outcome.code, 0, "{format}: {}", outcome.stderr);
        let record: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        let converted = record["converted"]["path"].as_str().unwrap_or_else(|| panic!("{record}"));
        gives(converted.as_ref(), image, output);
        let outcome = with_zoo(&["verify", &format!("tiny.{format}")]);
        assert_eq!(outcome.code, 0, "{format}: {}", outcome.stderr);
        assert!(outcome.stdout.contains("converting it again gives the same bytes"), "{}", outcome.stdout);
    }
}

#[test]
fn npz_holds_the_arrays_that_the_other_files_do() {
    let blobs =
        super::raw("caffe/expected_blobs.npz").into_iter().map(|(name, content)| (name.replace('#', "."), content));
    assert!(blobs.collect::<super::Tensors>() == super::raw("caffe/tiny_python_written.caffemodel"));
    assert!(super::raw("mxnet/expected_params.npz") == super::raw("mxnet/densenet-tiny-0000.params"));
    let stated = ["--layout", "layers", "--eps", "1e-4", "--pooling", "ceil"];
    converts("mxnet/expected_params.npz", &stated, "mxnet/input_64.npy", "mxnet/output_64.npy");
    let text = super::refused("mxnet/expected_params.npz", &Options::default());
    assert!(text.contains("--layout pytorch (features.conv0.weight) or --layout layers"), "{text}");
}
