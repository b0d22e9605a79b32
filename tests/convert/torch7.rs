//! Torch7 networks against their parameters and outputs as Torch itself read and computed them.

use densenet_arch::Head;
use densenet_converters::t7::{Latest, OptimState};
use densenet_converters::{DType, Fate, Options, Source, convert};

use super::{bytes, converted, difference, tensors, uncounted, written};

/// Every applied tensor against the parameters that Torch read, by its path in the file.
fn assert_bit_equal(folder: &str) {
    let file = bytes(&format!("torch7/{folder}/model_1.t7"));
    let source = Source::new(&file);
    let conversion = convert(&source, &Options::default()).unwrap();
    assert!(conversion.report.is_complete(false), "{folder}: {}", conversion.report);
    let ours = tensors(&written(&conversion));
    let mut reference = tensors(&bytes(&format!("torch7/{folder}/model_1.params.safetensors")));
    for entry in &conversion.report.entries {
        let Fate::Applied { target, .. } = &entry.fate else { continue };
        // Torch lists the two nets of a custom layer as its modules 1 and 2.
        let path = entry.source.replace("net1", "1").replace("net2", "2");
        let expected = reference.remove(&path).unwrap_or_else(|| panic!("{folder}: {path} is no parameter"));
        assert!(ours[target] == expected, "{folder}: {path} -> {target}");
    }
    assert!(reference.is_empty(), "{folder}: {:?} are left", reference.keys());
}

#[test]
fn parameters_are_bit_equal_in_every_generation_of_layers() {
    for folder in [
        "a_cifar_bc_mem2",
        "b_cifar_orig_drop",
        "b_cifar100_bc_drop",
        "c_cifar_bc_mem3",
        "d_imagenet_mem2",
        "d_imagenet_mem3",
        "h_cifar_2016aug",
        "v_tiny",
    ] {
        assert_bit_equal(folder);
    }
}

#[test]
fn the_same_network_in_two_layouts_gives_the_same_tensors() {
    let none = Options::default();
    let concat = converted("torch7/a_cifar_bc_mem2/model_1.t7", &none);
    // 21 batch norms of five tensors, 21 convolutions, the classifier's two.
    assert_eq!(concat.len(), 128);
    assert!(concat == converted("torch7/c_cifar_bc_mem3/model_1.t7", &none));
    let digits = std::fs::read("zoo/models/digits/model_best.t7").unwrap();
    let source = Source::new(&digits);
    let digits = tensors(&written(&convert(&source, &none).unwrap()));
    assert!(digits == converted("torch7_digits/model_best_mem3.t7", &none));
}

#[test]
fn every_encoding_of_one_network_gives_its_tensors() {
    let expected = converted("torch7/v_tiny/model_1.t7", &Options::default());
    for variant in [
        "evaluate",
        "own_storages",
        "no_grads",
        "ascii",
        "nn_classes",
        "conv_mm_2d",
        "long32",
        "big_endian",
        "cuda_names",
        "in_table",
        "data_parallel_table_v3",
    ] {
        let name = format!("torch7/v_variants/{variant}.t7");
        assert!(converted(&name, &Options::default()) == expected, "{variant}");
        let input = "torch7/v_tiny/model_1.ref.safetensors";
        assert!(difference(&name, input, input).within(1e-5), "{variant}");
    }
    let double = "torch7/v_variants/double.t7";
    assert_eq!(converted(double, &Options::default())["classifier.weight"].0, "F64");
    // The doubles are the floats widened: rounded back, they are the same.
    assert!(converted(double, &Options { dtype: Some(DType::F32), ..Options::default() }) == expected);
}

#[test]
fn modules_that_compute_otherwise_are_worked_into_the_weights() {
    let input = "torch7/v_tiny/model_1.ref.safetensors";
    for (variant, output, tolerance) in [
        ("v_variants/bn_eps_1e-3", "v_variants/bn_eps_1e-3", 1e-5),
        ("v_variants/dropout_v1", "v_variants/dropout_v1", 1e-5),
        // Weights of 11 bits: half a unit in the last place is 2^-11.
        ("v_variants/half_weights", "v_tiny/model_1", 2e-3),
    ] {
        let model = format!("torch7/{variant}.t7");
        let found = difference(&model, input, &format!("torch7/{output}.ref.safetensors"));
        assert!(found.within(tolerance), "{variant}: {found:?}");
    }
    let biased = "torch7/a_cifar_bc_convbias/model_1";
    let reference = format!("{biased}.ref.safetensors");
    assert!(difference(&format!("{biased}.t7"), &reference, &reference).within(1e-5));
}

#[test]
fn the_report_says_what_was_folded_and_the_header_what_the_modules_say() {
    let file = bytes("torch7/a_cifar_bc_convbias/model_1.t7");
    let source = Source::new(&file);
    let report = convert(&source, &Options::default()).unwrap().report;
    let text: Vec<_> = report.entries.iter().map(ToString::to_string).collect();
    assert!(
        text.iter().any(|line| line.starts_with("1.bias -> folded into features.denseblock1.denselayer1.norm1.")),
        "{text:#?}"
    );
    assert!(text.iter().any(|line| line.contains("(renamed; folded: less features.conv0.bias")), "{text:#?}");
    // One convolution before the blocks, two in each of three layers, two transitions.
    assert_eq!(report.folded(), 9);

    let file = bytes("torch7/v_variants/dropout_v1.t7");
    let source = Source::new(&file);
    let report = convert(&source, &Options::default()).unwrap().report;
    let scaled = report.entries.iter().map(ToString::to_string).filter(|line| line.contains("multiplied by 0.75"));
    assert_eq!(scaled.count(), 1);

    let file = bytes("torch7/v_variants/bn_eps_1e-3.t7");
    let source = Source::new(&file);
    let conversion = convert(&source, &Options::default()).unwrap();
    assert_eq!(conversion.config.eps, 1e-3);
    assert_eq!(conversion.metadata.to_map()["eps"], "1e-3");
    assert_eq!(conversion.config.head, Head::Logits);
    // Nine batch norms: two in each of three layers, two transitions, the last.
    assert_eq!(conversion.report.made.len(), 9);
    assert!(conversion.report.made.iter().all(|made| made.target.ends_with("num_batches_tracked")));
}

#[test]
fn a_cast_rounds_the_weights_and_keeps_the_statistics_whole() {
    for (dtype, name, bytes_each) in [(DType::F16, "F16", 2), (DType::BF16, "BF16", 2), (DType::F32, "F32", 4)] {
        let cast = converted("pytorch/tiny_f64_zip.pt", &Options { dtype: Some(dtype), ..Options::default() });
        let (kind, shape, data) = &cast["features.conv0.weight"];
        assert_eq!((kind.as_str(), data.len()), (name, shape.iter().product::<usize>() * bytes_each));
        assert_eq!(cast["features.norm0.weight"].0, name);
        assert_eq!(cast["features.norm0.running_var"].0, "F32");
        assert_eq!(cast["features.norm0.num_batches_tracked"].0, "I64");
    }
    // torch rounded these itself.
    for (dtype, file) in [(DType::F16, "pytorch/tiny_f16_zip.pt"), (DType::BF16, "pytorch/tiny_bf16_zip.pt")] {
        let ours = converted("pytorch/tiny_zip.pt", &Options { dtype: Some(dtype), ..Options::default() });
        let theirs = converted(file, &Options::default());
        for (name, tensor) in &theirs {
            if !name.contains("running_") {
                assert!(ours[name] == *tensor, "{file}: {name}");
            }
        }
        assert_eq!(uncounted(ours).len(), uncounted(theirs).len());
    }
}

#[test]
fn a_checkpoint_folder_of_torch_can_be_gone_on_from() {
    let folder = "torch7/a_cifar_bc_mem2";
    let latest = Latest::read(&bytes(&format!("{folder}/latest.t7"))).unwrap();
    assert_eq!(latest, Latest { epoch: 1, model: "model_1.t7".into(), optimiser: "optimState_1.t7".into() });
    let model = bytes(&format!("{folder}/model_1.t7"));
    let state = bytes(&format!("{folder}/optimState_1.t7"));
    let found = OptimState::read(&model, &state).unwrap();
    // results of inspect: evalCounter, and 65 weights of 8714 values.
    let values: usize = found.momentum.values().map(|(_, values)| values.len()).sum();
    assert_eq!((found.updates, found.momentum.len(), values), (2, 65, 8714));
    // The first of the vector is the first convolution, the last the classifier's bias.
    let whole = densenet_converters::read(&Source::new(&state)).unwrap().tensors()[0].tensor.to_f32().unwrap();
    let (shape, first) = &found.momentum["features.conv0.weight"];
    assert_eq!((&shape[..], &first[..]), (&[8, 3, 3, 3][..], &whole[..216]));
    assert_eq!(found.momentum["classifier.bias"].1, whole[8704..]);
    // Of another model, and of none.
    let other = bytes("torch7/c_cifar_bc_mem3/model_1.t7");
    assert!(OptimState::read(&other, &state).is_ok_and(|found| found.momentum.len() == 65));
    for (model, state, says) in [
        (&model, &model, "no evalCounter"),
        (&bytes("torch7/v_tiny/model_1.t7"), &state, "its momentum has 8714 values"),
        (&state, &state, "holds no network"),
    ] {
        let error = OptimState::read(model, state).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(Latest::read(&state).unwrap_err().to_string().contains("no epoch in it"));
}
