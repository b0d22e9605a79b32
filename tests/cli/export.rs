//! `export`.

use std::fs;

use densenet_arch::Metadata;
use densenet_zoo::{Error, hf};

use crate::conversions::ports::gives;
use crate::conversions::{bytes, tensors, uncounted};
use crate::run::{path, run};

#[test]
fn an_export_is_a_model_like_any_other_and_gives_its_tensors_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (onnx, back) = (file("tiny.onnx"), file("back.safetensors"));
    let model = path("pytorch/tiny_zip.pt");
    let outcome = run(folder.path(), &["export", &model, "-o", &onnx]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("opset 17, any images of 224x224"), "{}", outcome.stdout);
    let first = fs::read(&onnx).unwrap();

    // The same bytes every time, and nothing is overwritten unasked.
    assert_eq!(run(folder.path(), &["export", &model, "-o", &onnx]).code, 4);
    assert_eq!(run(folder.path(), &["export", &model, "-o", &onnx, "--force"]).code, 0);
    assert!(fs::read(&onnx).unwrap() == first);

    assert_eq!(run(folder.path(), &["convert", &onnx, "-o", &back]).code, 0);
    let expected = uncounted(tensors(&bytes("pytorch/tiny_expected.safetensors")));
    assert!(uncounted(tensors(&fs::read(&back).unwrap())) == expected);
    let reference = path("pytorch/tiny_75x53.ref.safetensors");
    let parity = |model: &str, tolerance: &str| {
        run(folder.path(), &["parity", model, "--reference", &reference, "--tolerance", tolerance])
    };
    assert_eq!(parity(&onnx, "1e-5").code, 0);
    for (options, tolerance) in
        [(&["--fold"][..], "1e-5"), (&["--opset", "13", "--batch", "4"], "1e-5"), (&["--dtype", "f16"], "2e-3")]
    {
        let outcome = run(folder.path(), &[&["export", &model, "-o", &onnx, "--force"], options].concat());
        assert_eq!(outcome.code, 0, "{options:?}: {}", outcome.stderr);
        let outcome = parity(&onnx, tolerance);
        assert_eq!(outcome.code, 0, "{options:?}: {}{}", outcome.stdout, outcome.stderr);
    }
    // Eleven bits are not twenty-four.
    assert_eq!(parity(&onnx, "1e-5").code, 1);
}

#[test]
fn what_the_file_of_a_port_says_comes_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (model, said) in [
        (
            "mxnet/densenet-tiny-0000.params",
            ["eps 1e-4", "head logits, poolings rounded up", "protocol opencv-bilinear\n"],
        ),
        ("keras/flyy_keras2.0.5_tf.h5", ["eps 1.1e-5", "head softmax", "protocol opencv-bilinear\n"]),
    ] {
        let (onnx, back) = (file("port.onnx"), file("port.safetensors"));
        assert_eq!(run(folder.path(), &["export", &path(model), "-o", &onnx, "--force"]).code, 0);
        let outcome = run(folder.path(), &["convert", &onnx, "-o", &back, "--force"]);
        for said in said {
            assert!(outcome.stdout.contains(said), "{model}: {}{}", outcome.stdout, outcome.stderr);
        }
    }
}

#[test]
fn what_cannot_be_written_is_said_first() {
    let folder = tempfile::tempdir().unwrap();
    let onnx = folder.path().join("x.onnx");
    for (options, code, cause) in [
        (["--opset", "12"], 2, "from 13 to 22"),
        (["--batch", "0"], 2, "dynamic, or a number"),
        (["--dtype", "f16"], 2, "needs --opset 15"),
    ] {
        let model = path("pytorch/tiny_zip.pt");
        let more = if options[0] == "--dtype" { &["--opset", "14"][..] } else { &[] };
        let outcome =
            run(folder.path(), &[&["export", &model, "-o", onnx.to_str().unwrap()], &options[..], more].concat());
        assert_eq!(outcome.code, code, "{}", outcome.stderr);
        assert!(outcome.stderr.contains(cause), "{}", outcome.stderr);
        assert!(!onnx.exists());
    }
    let outcome = run(folder.path(), &["export", "digits", "-o", "x.pt"]);
    let said = "densenet-zoo: -o x.pt: export writes ONNX, and `convert` safetensors; name it .onnx\n";
    assert_eq!((outcome.code, outcome.stderr.as_str()), (2, said));
}

#[test]
fn a_folder_for_the_hub_has_a_card_and_is_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let hub = folder.path().join("hub");
    let to = hub.to_str().unwrap();
    let model = path("mxnet/densenet-tiny-0000.params");
    let arguments = ["export", &model, "--hf-folder", to];
    let outcome = run(folder.path(), &arguments);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.ends_with("\", pretrained=True)\n"), "{}", outcome.stdout);
    let card = fs::read_to_string(hub.join("README.md")).unwrap();
    for said in [
        "---\nlibrary_name: timm\ntags:\n- image-classification\n",
        "- licence: not known; find it out",
        "- torchvision and timm: they add 1e-5 to the variances where it is 1e-4\n",
        "- torchvision and timm: their poolings round down where its own round up\n",
        "- preprocessing: the network takes blue first",
        "timm.create_model(\"local-dir:DIR\", pretrained=True)",
    ] {
        assert!(card.contains(said), "{said}: {card}");
    }
    // It gives what the file gave: eps and rounding came along.
    let again = folder.path().join("again.safetensors");
    let outcome = run(
        folder.path(),
        &["convert", hub.join("model.safetensors").to_str().unwrap(), "-o", again.to_str().unwrap()],
    );
    assert!(outcome.stdout.contains("eps 1e-4, head logits, poolings rounded up"), "{}", outcome.stdout);
    let again = again.to_str().unwrap();
    for size in ["64", "75x53"] {
        let [image, output] = ["input", "output"].map(|what| format!("mxnet/{what}_{size}.npy"));
        gives(hub.as_ref(), &image, &output);
        gives(again.as_ref(), &image, &output);
    }
    // Nothing that stands there is overwritten, the card alone neither.
    for name in ["model.safetensors", "config.json"] {
        fs::remove_file(hub.join(name)).unwrap();
        assert_eq!(run(folder.path(), &arguments).code, 4);
        assert!(!hub.join("model.safetensors").exists());
    }
    assert_eq!(run(folder.path(), &[&arguments[..], &["--force"]].concat()).code, 0);
    assert!(hub.join("model.safetensors").exists());
}

#[test]
fn the_card_of_a_converted_file_says_where_it_came_from_and_what_is_assumed_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let [converted, hub] = ["keras.safetensors", "hub"].map(|name| folder.path().join(name));
    let [converted, hub_path] = [&converted, &hub].map(|path| path.to_str().unwrap());
    let flyy = path("keras/flyy_keras2.0.5_tf.h5");
    assert_eq!(run(folder.path(), &["convert", &flyy, "-o", converted]).code, 0);
    for (model, said) in [
        // sha256sum of the files.
        (
            converted.to_owned(),
            [
                "- made from: sha256 `03fae583356c17eb090bbaa6b4bdbdd16f67522068a35dd7414010dbab732e9b`\n",
                "Protocol `opencv-bilinear`: resized to 256, cropped to 224x224, blue first, 0 to 255, ",
                "- torchvision and timm: they end in logits where it ends in their softmax\n",
                "- preprocessing: images are resized without antialiasing, which Pillow always does",
            ],
        ),
        (
            path("pytorch/tiny_zip.pt"),
            [
                "- made from: sha256 `2e51174c4fd36a5ee28d7730d687f4b8b5d11efe7beac25251994d0e5aebd70e`\n",
                " (the network's default: the file names none): ",
                "- licence: not known; find it out before you publish this folder\n",
                "## Errors\n\nNone is known for these weights.\n",
            ],
        ),
    ] {
        let outcome = run(folder.path(), &["export", &model, "--hf-folder", hub_path, "--force"]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let card = fs::read_to_string(hub.join("README.md")).unwrap();
        for said in said {
            assert!(card.contains(said), "{said}: {card}");
        }
        let weights = fs::read(hub.join("model.safetensors")).unwrap();
        let digest = densenet_converters::sha256(&weights);
        assert!(card.contains(&format!("- model.safetensors: sha256 `{digest}`\n")), "{card}");
    }
}

#[test]
fn a_folder_s_description_says_what_its_weights_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let [hub, own] = ["hub", "own"].map(|name| folder.path().join(name));
    let [hub_path, own_path] = [&hub, &own].map(|path| path.to_str().unwrap());
    assert_eq!(run(folder.path(), &["export", "digits", "--hf-folder", hub_path]).code, 0);
    let store = densenet_zoo::store::Store::open(&[]).unwrap();
    let model = store.model(hub_path, &mut densenet_registry::Silent).unwrap();
    let names = ["nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    // Nothing but the tensors: what else is known comes from the description.
    let tensors = model.config.params();
    let tensors: Vec<_> =
        tensors.iter().filter_map(|param| Some((&param.name, model.tensor(&param.name).ok()?))).collect();
    let description = hf::config_json(&model.config, &model.protocol, Some(&names.map(str::to_owned)));
    let sha256 = hf::write(
        &own,
        &description,
        |out| {
            let rows = tensors.iter().map(|(name, (shape, values))| ((*name).clone(), &shape[..], &values[..]));
            Ok(densenet_converters::write_f32(&Metadata::default(), rows, out).unwrap())
        },
        |sha256| format!("a card of {sha256}"),
    )
    .unwrap();
    assert_eq!(sha256, densenet_converters::sha256(&fs::read(own.join("model.safetensors")).unwrap()));
    let card = fs::read_to_string(own.join("README.md")).unwrap();
    assert_eq!(card, format!("a card of {sha256}"));
    assert_eq!(fs::read_dir(&own).unwrap().count(), 3);
    let outcome =
        run(folder.path(), &["eval", own_path, "--data", "digits", "--protocol", "digits", "--format", "json"]);
    let measured: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&measured["top1_wrong"], &measured["images"]), (&8.into(), &360.into()), "{}", outcome.stderr);
    let image = folder.path().join("image.png");
    image::RgbImage::new(32, 32).save(&image).unwrap();
    let arguments = ["classify", own_path, image.to_str().unwrap(), "--protocol", "digits", "--format", "json"];
    let outcome = run(folder.path(), &arguments);
    let said: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let top = &said["images"][0]["top"][0];
    assert_eq!(top["name"], names[top["class"].as_u64().unwrap() as usize], "{}", outcome.stderr);

    // Weights that cannot be written leave everything as it was.
    let failed = hf::write(&own, &description, |_| Err(Error::Usage("full".into())), |_| String::new());
    assert_eq!(failed.unwrap_err().to_string(), "full");
    assert_eq!(fs::read_to_string(own.join("README.md")).unwrap(), card);
    assert_eq!(fs::read_dir(&own).unwrap().count(), 3);
}

#[test]
fn the_card_of_a_published_weight_names_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let hub = folder.path().join("hub");
    let model = "digits.torch";
    let outcome = run(folder.path(), &["export", model, "--hf-folder", hub.to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.ends_with("\n  timm has no such network\n"), "{}", outcome.stdout);
    let card = fs::read_to_string(hub.join("README.md")).unwrap();
    for said in [
        "---\nlicense: cc-by-4.0\nlibrary_name: timm\n",
        "\n# digits.torch\n",
        "| digits-val | 2.22 | 0.28 | digits | 1 | measured by Torch7 on this file |",
        "- made from: sha256 `5992b6bb4b68b242beac2f9343402fd02b4a1f2ea16fe07b19d47936f63732cb`\n",
        "- address: embedded:digits/model_best.t7\n",
        "- licence, as stated: CC BY 4.0 (data: Optical Recognition of Handwritten Digits",
        "timm has no such network.",
    ] {
        assert!(card.contains(said), "{said}: {card}");
    }
}
