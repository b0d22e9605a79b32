//! `export`.

use std::fs;

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
fn the_card_of_a_published_weight_names_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let hub = folder.path().join("hub");
    let model = "digits.torch";
    let outcome = run(folder.path(), &["export", model, "--hf-folder", hub.to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let card = fs::read_to_string(hub.join("README.md")).unwrap();
    for said in [
        "---\nlicense: cc-by-4.0\nlibrary_name: timm\n",
        "\n# digits.torch\n",
        "| digits-val | 2.2222222222222223 | 0.2777777777777778 | digits | 1 | measured by Torch7 on this file |",
        "- made from: sha256 `5992b6bb4b68b242beac2f9343402fd02b4a1f2ea16fe07b19d47936f63732cb`\n",
        "- address: embedded:digits/model_best.t7\n",
        "- licence, as stated: CC BY 4.0 (data: Optical Recognition of Handwritten Digits",
        "timm has no such network.",
    ] {
        assert!(card.contains(said), "{said}: {card}");
    }
}
