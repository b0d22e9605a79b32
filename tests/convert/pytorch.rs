//! PyTorch checkpoints of every container and code base against one state dict.

use densenet_converters::{Choice, Options, Source, convert, read};

use super::{Tensors, bytes, converted, difference, raw, refused, tensors, uncounted};

fn expected() -> Tensors {
    tensors(&bytes("pytorch/tiny_expected.safetensors"))
}

#[test]
fn every_container_and_wrapper_gives_the_same_tensors() {
    let expected = expected();
    for name in [
        "pytorch/tiny_zip.pt",
        "pytorch/tiny_legacy.pth",
        "pytorch/tiny_legacy_proto5.pth",
        "pytorch/tiny_ckpt_examples_imagenet.pth.tar",
        "pytorch/tiny_ckpt_examples_imagenet_legacy.pth.tar",
        "pytorch/tiny_ckpt_torchvision_ref.pth",
        "pytorch/tiny_ckpt_compiled_prefix.pth",
        "pytorch/tiny_parameters_keepvars_zip.pt",
        "pytorch/tiny_whole_module_own_zip.pt",
        "pytorch/tiny_torchscript_script.pt",
        "pytorch_more/bare_pickle_proto2.pth",
        "pytorch_more/bare_pickle_proto4.pkl",
        "pytorch_more/numpy_pickle_proto2.pkl",
        "pytorch_more/numpy_pickle_proto2_numpy1.pkl",
        "pytorch_more/numpy_pickle_proto4.pkl",
        "pytorch_more/numpy_pickle_proto5.pkl",
        "pytorch_more/deflated.pt",
        "pytorch_more/zip64.pt",
        "pytorch_more/zip64_local.pt",
        "pytorch_more/no_crc.pt",
        "pytorch_more/nested_stored.zip",
        "pytorch_more/nested_deflated.zip",
        "pytorch_more/whole_module_torchvision_zip.pt",
        "pytorch_more/whole_module_torchvision_legacy.pth",
        "pytorch_more/whole_module_dataparallel.pt",
        "pytorch_more/whole_in_checkpoint.pt",
        "pytorch_more/torchscript_trace.pt",
        "pytorch_more/torchscript_script_model.pt",
        "pytorch_more/lightning.ckpt",
        "pytorch_more/ema_timm.pth.tar",
        "pytorch_more/swa.pt",
        "pytorch_more/mmpretrain_names.pth",
        "pytorch_more/pytorchcv_names.pth",
    ] {
        assert!(converted(name, &Options::default()) == expected, "{name}");
    }
    // These are older than the counters of batches, which become 0.
    for name in [
        "pytorch/tiny_legacy_oldkeys.pth",
        "pytorch/tiny_legacy_v1rebuild_cuda0_oldkeys.pth",
        "pytorch_more/py2_strings_legacy.pth",
        "pytorch_more/tar_torch01.tar",
        "pytorch_more/tar_torch01_views.tar",
    ] {
        let ours = converted(name, &Options::default());
        assert_eq!(ours["features.norm5.num_batches_tracked"], ("I64".into(), vec![], vec![0; 8]));
        assert!(uncounted(ours) == uncounted(expected.clone()), "{name}");
    }
}

#[test]
fn other_networks_of_other_code_bases_give_theirs() {
    let gpleiss = tensors(&bytes("pytorch/cifar_gpleiss_expected.safetensors"));
    let gpleiss: Tensors =
        gpleiss.into_iter().map(|(name, tensor)| (name.replace("norm_final", "norm5"), tensor)).collect();
    for name in [
        "pytorch/cifar_gpleiss_zip.pt",
        "pytorch/cifar_gpleiss_legacy.pth",
        "pytorch_more/pytorchcv_cifar_bc_names.pth",
    ] {
        assert!(converted(name, &Options::default()) == gpleiss, "{name}");
    }
    let plain = converted("pytorch_more/pytorchcv_cifar_plain_names.pth", &Options::default());
    assert!(plain == tensors(&bytes("pytorch_more/pytorchcv_cifar_plain_expected.safetensors")));
    assert!(!converted("pytorch/gpleiss_imagenet_stem_zip.pt", &Options::default()).is_empty());
    assert!(!converted("pytorch/timm_tiny.safetensors", &Options::default()).is_empty());
}

#[test]
fn float_types_are_kept_unless_asked_otherwise() {
    for (name, dtype) in [
        ("tiny_f16_zip.pt", "F16"),
        ("tiny_f16_legacy.pth", "F16"),
        ("tiny_bf16_zip.pt", "BF16"),
        ("tiny_bf16_legacy.pth", "BF16"),
        ("tiny_f64_zip.pt", "F64"),
    ] {
        let model = format!("pytorch/{name}");
        assert_eq!(converted(&model, &Options::default())["classifier.weight"].0, dtype);
        // The reference's output is that of the float32 network with these rounded weights.
        let output = format!("pytorch/{}_output_64.npy", name.split('_').take(2).collect::<Vec<_>>().join("_"));
        let found = against_npy(&model, &output);
        assert!(found.within(1e-5), "{name}: {found:?}");
    }
}

/// A model's output for tiny_input_64.npy against a stored one.
fn against_npy(model: &str, output: &str) -> densenet_zoo::parity::Difference {
    use densenet_zoo::data::npy;
    let store = densenet_zoo::store::Store::open(&[]).unwrap();
    let path = crate::run::path(model);
    let model = store.model(&path, &mut densenet_registry::Silent).unwrap();
    let network = model.network(&candle_core::Device::Cpu, candle_core::DType::F32).unwrap();
    let (shape, input) = npy::read_f32(&bytes("pytorch/tiny_input_64.npy")).unwrap();
    let input = candle_core::Tensor::from_vec(input, shape, &candle_core::Device::Cpu).unwrap();
    let found: Vec<f32> = network.forward(&input, false).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let (_, expected) = npy::read_f32(&bytes(output)).unwrap();
    assert_eq!(found.len(), expected.len());
    densenet_zoo::parity::Difference::between(&found, &expected)
}

#[test]
fn a_replaced_classifier_is_found_where_it_can_be_only_one() {
    let chexnet = converted("pytorch_more/chexnet_old.pth.tar", &Options::default());
    assert_eq!(chexnet["classifier.weight"].1, [14, 16]);
    assert!(against_npy("pytorch_more/chexnet_old.pth.tar", "pytorch_more/chexnet_old_logits.npy").within(1e-5));
    let dropout = "pytorch_more/head_dropout_linear.pt";
    assert_eq!(converted(dropout, &Options::default())["classifier.bias"].1, [3]);
    assert!(against_npy(dropout, "pytorch_more/head_dropout_linear_output.npy").within(1e-5));
    assert_eq!(converted("pytorch_more/head_three_classes.pt", &Options::default())["classifier.bias"].1, [3]);
    let two = refused("pytorch_more/head_two_linears.pt", &Options::default());
    assert!(two.contains("(classifier.0, classifier.2)"), "{two}");
}

#[test]
fn several_networks_need_a_choice_and_averages_are_had_on_request() {
    let file = "pytorch_more/teacher_student.pt";
    let text = refused(file, &Options::default());
    assert!(text.contains("\"student\", \"teacher\"; --prefix NAME chooses one"), "{text}");
    let choose =
        |prefix: &str| Options { choice: Choice { prefix: Some(prefix.into()), ema: false }, ..Options::default() };
    assert!(converted(file, &choose("student")) == expected());
    let teacher = converted(file, &choose("teacher"));
    let ema = Options { choice: Choice { prefix: None, ema: true }, ..Options::default() };
    // Both were written as the weights plus one.
    assert!(converted("pytorch_more/ema_timm.pth.tar", &ema) == teacher);
    assert!(teacher != expected());
    assert!(!converted("pytorch/tiny_ckpt_torchvision_ref.pth", &ema).is_empty());
    assert!(refused("pytorch/tiny_zip.pt", &ema).contains("no averaged weights"));
}

#[test]
fn whole_modules_say_their_eps_and_name_their_classes() {
    let file = bytes("pytorch_more/whole_module_torchvision_zip.pt");
    let source = Source::new(&file);
    assert_eq!(convert(&source, &Options::default()).unwrap().config.eps, 1.1e-5);
    let checkpoint = read(&source).unwrap();
    let names: Vec<_> = checkpoint.names().iter().map(|name| name.name.as_str()).collect();
    assert!(names.contains(&"torchvision.models.densenet.DenseNet"), "{names:?}");
    let input = "pytorch/tiny_64.ref.safetensors";
    assert!(difference("pytorch/tiny_whole_module_own_zip.pt", input, input).within(1e-5));
}

#[test]
fn raw_tensors_of_any_kind_and_stride_are_bit_equal() {
    for kind in ["odd_storages", "dtypes"] {
        let expected = tensors(&bytes(&format!("pytorch/{kind}_expected.safetensors")));
        for form in ["zip.pt", "legacy.pth"] {
            let ours = raw(&format!("pytorch/{kind}_{form}"));
            assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{kind}_{form}");
            assert!(ours == expected, "{kind}_{form}");
        }
    }
    let containers = raw("pytorch/containers_zip.pt");
    assert_eq!(containers.keys().collect::<Vec<_>>(), ["nested.deep.0.w"]);
    assert_eq!(containers["nested.deep.0.w"].1, [2]);
    // Fortran order, other byte order, steps, no dimensions: as NumPy gives them.
    let arrays = raw("pytorch_more/numpy_odd_arrays_proto4.pkl");
    let floats = |name: &str| {
        let (kind, _, data) = &arrays[name];
        assert_eq!(kind, "F32", "{name}");
        data.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect::<Vec<_>>()
    };
    let names: Vec<_> = arrays.keys().map(String::as_str).collect();
    assert_eq!(names, ["big_endian", "bool", "empty", "f16", "fortran", "strided", "zero_d"]);
    assert_eq!(floats("fortran"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(floats("big_endian"), [0.0, 1.0, 2.0]);
    assert_eq!(floats("strided"), [0.0, 2.0, 4.0, 6.0]);
}

#[test]
fn kinds_that_safetensors_cannot_hold_are_refused_by_name() {
    let all = refused("pytorch/unsupported_kinds_zip.pt", &Options::default());
    for kind in ["complex64", "float8_e4m3fn", "sparse", "quantised"] {
        assert!(all.contains(kind), "{all}");
    }
    for (file, kind) in [
        ("kind_complex64_legacy.pth", "complex64"),
        ("kind_quantized_tensor_legacy.pth", "quantised"),
        ("kind_negative_bit_zip.pt", "negates"),
        ("kind_meta_zip.pt", "without data"),
        ("kind_uint16_zip.pt", "uint16"),
    ] {
        let text = refused(&format!("pytorch_more/{file}"), &Options::default());
        assert!(text.contains(kind), "{file}: {text}");
    }
}
