//! `preprocess`: what the network sees, against Pillow and torchvision.

use std::fs;

use densenet_zoo::data::npy;

use crate::run::{fixture, path, run};

#[test]
fn the_input_is_torchvision_s_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let image = path("preproc/decoded/photo_320x240_444_jpg.png");
    let preprocess = |output: &str, more: &[&str]| {
        let arguments = [&["preprocess", &image, "--protocol", "pil-bilinear", "-o", output], more].concat();
        run(folder.path(), &arguments)
    };
    for name in ["x.npy", "x.safetensors", "x.png"] {
        let outcome = preprocess(&file(name), &[]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert!(outcome.stdout.contains("1 x 3 x 224 x 224, protocol pil-bilinear"), "{}", outcome.stdout);
    }
    let (shape, values) = npy::read_f32(&fs::read(file("x.npy")).unwrap()).unwrap();
    assert_eq!(shape, [1, 3, 224, 224]);
    // torchvision's ToTensor and Normalize, the first 32 x 32 pixels.
    let corner = fs::read(fixture("preproc/one_full.f32_corner.npy")).unwrap();
    let (corner_shape, corner) = npy::read_f32(&corner).unwrap();
    assert_eq!(corner_shape, [3, 32, 32]);
    for (at, expected) in corner.iter().enumerate() {
        let (channel, row, column) = (at / 1024, at / 32 % 32, at % 32);
        let found = values[(channel * 224 + row) * 224 + column];
        assert!((found - expected).abs() <= 5e-7, "{channel} {row} {column}: {found} {expected}");
    }
    let bytes = fs::read(file("x.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let input = tensors.tensor("input").unwrap();
    assert!(input.data().as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).eq(values.iter().copied()));
    // Pillow's own crop, as a picture.
    let shown = image::load_from_memory(&fs::read(file("x.png")).unwrap()).unwrap().to_rgb8();
    let expected = fs::read(fixture("preproc/photo_320x240_444_jpg.bilinear.crop224.u8.npy")).unwrap();
    assert!(expected.ends_with(shown.as_raw()));

    let outcome = run(folder.path(), &["preprocess", &image, "-o", &file("none.npy")]);
    let said =
        "densenet-zoo: --protocol NAME|FILE.toml says how the images are prepared; there are torch7, pil-bilinear, ";
    assert_eq!((outcome.code, outcome.stderr.starts_with(said)), (2, true), "{}", outcome.stderr);
    let help = run(folder.path(), &["preprocess", "--help"]).stdout;
    assert!(help.contains("[OPTIONS] --protocol <NAME|FILE.toml> --output <FILE> <IMAGES>...\n"), "{help}");
    assert!(!help.contains("instead of the model's own"), "{help}");
    assert_eq!(preprocess(&file("x.npy"), &[]).code, 4);
    let outcome = preprocess(&file("ten.npy"), &["--ten-crop"]);
    assert!(outcome.stdout.contains("10 x 3 x 224 x 224"), "{}", outcome.stdout);
}

#[test]
fn a_protocol_may_be_described_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let protocol = folder.path().join("own.toml");
    fs::write(
        &protocol,
        "name = \"own\"\ncrop = 56\nchannels = \"bgr\"\nrange = \"byte\"\nmean = [103.94, 116.78, 123.68]\nstd = [58.8, 58.8, 58.8]\n\
         [resize]\nsize = 64\ninterpolation = \"opencv-bilinear\"\n",
    )
    .unwrap();
    let output = folder.path().join("x.npy");
    let image = path("preproc/decoded/photo_320x240_444_jpg.png");
    let preprocess = |protocol: &str| {
        run(folder.path(), &["preprocess", &image, "--protocol", protocol, "-o", output.to_str().unwrap(), "--force"])
    };
    let outcome = preprocess(protocol.to_str().unwrap());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    // OpenCV's bytes of the same crop, less Caffe's means, blue first.
    let (_, found) = npy::read_f32(&fs::read(&output).unwrap()).unwrap();
    let bytes = fs::read(fixture("preproc_opencv/photo_320x240_444_jpg.r64c56.u8.npy")).unwrap();
    let bytes = &bytes[bytes.len() - 56 * 56 * 3..];
    let expected = [(2, 103.94_f32), (1, 116.78), (0, 123.68)].into_iter().flat_map(|(channel, mean)| {
        bytes.iter().skip(channel).step_by(3).map(move |&byte| (f32::from(byte) - mean) / 58.8)
    });
    assert!(found.iter().copied().eq(expected));
    fs::write(&protocol, "name = \"own\"\ncrop = 0\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n").unwrap();
    assert_ne!(preprocess(protocol.to_str().unwrap()).code, 0);
    assert_eq!(preprocess("no-such").code, 2);
}

#[test]
fn a_crop_fraction_is_timm_s() {
    let folder = tempfile::tempdir().unwrap();
    let image = path("preproc/decoded/photo_320x240_444_jpg.png");
    let output = folder.path().join("x.npy");
    let preprocess = |more: &str, resize: &str| {
        let protocol = folder.path().join("own.toml");
        let rest = "name = \"own\"\ncrop = 224\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n";
        let text = format!("{rest}{more}\n[resize]\n{resize}\ninterpolation = \"pil-bicubic\"\n");
        fs::write(&protocol, text).unwrap();
        let arguments = ["preprocess", &image, "--force", "-o", output.to_str().unwrap(), "--protocol"];
        let outcome = run(folder.path(), &[&arguments[..], &[protocol.to_str().unwrap()]].concat());
        (outcome, fs::read(&output).unwrap_or_default())
    };
    // floor(224 / 0.95) = 235
    let (outcome, fraction) = preprocess("crop_fraction = 0.95", "");
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(fraction == preprocess("", "size = 235").1);
    for (more, resize, message) in [
        ("crop_fraction = 1.5", "", "crop_fraction must be above 0 and at most 1"),
        ("crop_fraction = 0.95", "size = 235", "crop_fraction and resize.size say the same; leave one out"),
    ] {
        let (outcome, _) = preprocess(more, resize);
        assert_eq!(outcome.code, 5);
        assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    }
}
