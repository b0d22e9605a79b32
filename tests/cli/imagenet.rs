//! `eval` over ImageNet's validation set in each form that it comes in, here its first thousand images, made up.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::run::{Outcome, fixture, run};

const IMAGES: usize = 1000;
/// Every fifth cannot be read.
const EACH_BAD: usize = 5;

/// A folder with the same images in all forms.
struct Imagenet {
    folder: tempfile::TempDir,
}

fn name(number: usize) -> String {
    format!("ILSVRC2012_val_{number:08}.JPEG")
}

/// The labels of the challenge.
fn labels() -> Vec<usize> {
    let packed = fs::File::open("src/data/imagenet_val_labels.txt.gz").unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    text.lines().take(IMAGES).map(|line| line.parse().unwrap()).collect()
}

fn wordnet_ids() -> Vec<String> {
    let classes = fs::read_to_string("src/data/imagenet_classes.tsv").unwrap();
    classes.lines().skip(1).map(|row| row.split('\t').nth(1).unwrap().to_owned()).collect()
}

/// A JPEG of its own for each number; every fifth is spoilt in one of five ways.
fn jpeg(number: usize) -> Vec<u8> {
    let (width, height) = (40 + number as u32 % 37, 40 + number as u32 % 23);
    let image = image::RgbImage::from_fn(width, height, |x, y| {
        let wave = |step: u32| ((x * step + y * (number as u32 % 11 + 1) + number as u32 * 7) % 256) as u8;
        image::Rgb([wave(3), wave(5), wave(number as u32 % 9)])
    });
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 85).encode_image(&image).unwrap();
    if number.is_multiple_of(EACH_BAD) {
        match number / EACH_BAD % 5 {
            0 => bytes.clear(),
            1 => bytes = b"<html>moved</html>".to_vec(),
            2 => bytes.truncate(bytes.len() * 2 / 3),
            3 => bytes.truncate(20),
            _ => bytes[..20].fill(0),
        }
    }
    bytes
}

impl Imagenet {
    fn new() -> Self {
        let all = Self { folder: tempfile::tempdir().unwrap() };
        let (flat, tree, kit) = (all.path("flat"), all.path("tree"), all.path("devkit/data"));
        fs::create_dir_all(&flat).unwrap();
        fs::create_dir_all(&kit).unwrap();
        let ids = wordnet_ids();
        let mut tar = Vec::new();
        for (number, label) in (1..).zip(labels()) {
            let (name, bytes) = (name(number), jpeg(number));
            fs::write(flat.join(&name), &bytes).unwrap();
            fs::create_dir_all(tree.join(&ids[label])).unwrap();
            fs::write(tree.join(&ids[label]).join(&name), &bytes).unwrap();
            let mut header = [0; 512];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
            header[156] = b'0';
            tar.extend(header);
            tar.extend(bytes);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.extend([0; 1024]);
        fs::write(all.path("ILSVRC2012_img_val.tar"), &tar).unwrap();
        // The kit counts from 1 in an order of its own: id i + 1 is class 7 i mod 1000.
        let id = |class: usize| (0..1000).find(|i| 7 * i % 1000 == class).unwrap() + 1;
        let truth: Vec<_> = labels().iter().map(|&label| id(label).to_string()).collect();
        fs::write(kit.join("ILSVRC2012_validation_ground_truth.txt"), truth.join("\n")).unwrap();
        fs::copy(fixture("mat/devkit/data/meta.mat"), kit.join("meta.mat")).unwrap();
        // The original's arithmetic at a size that runs quickly.
        fs::write(
            all.path("small.toml"),
            "name = \"small\"\ncrop = 56\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n[resize]\nsize = 64\n\
             interpolation = \"torch7-bicubic\"\n",
        )
        .unwrap();
        all
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn eval(&self, data: &str, more: &[&str]) -> Outcome {
        let model = crate::run::path("torch7/d_imagenet_mem2/model_1.t7");
        let (data, protocol) = (self.path(data), self.path("small.toml"));
        let arguments = ["eval", &model, "--data", text(&data), "--protocol", text(&protocol), "--device", "cpu"];
        run(self.folder.path(), &[&arguments[..], &["--format", "json"], more].concat())
    }

    /// What was said of each image, by its name.
    fn said(&self, data: &str, more: &[&str]) -> BTreeMap<String, Value> {
        let file = self.path("predictions");
        let outcome = self.eval(data, &[more, &["--skip-bad", "--force", "--predictions", text(&file)]].concat());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let lines = fs::read_to_string(file).unwrap();
        let lines = lines.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
        let said = lines.filter(|line| line["reason"].is_null());
        said.map(|line| {
            let name = line["image"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            (name, json!([line["labels"], line["top"], line["loss"], line["confidence"]]))
        })
        .collect()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_form_gives_the_same_predictions_and_bad_images_are_named() {
    let all = Imagenet::new();
    let expected = all.said("flat", &[]);
    assert_eq!(expected.len(), IMAGES - IMAGES / EACH_BAD);
    assert_eq!(expected[&name(2)][0], json!([970]));
    assert!(all.said("ILSVRC2012_img_val.tar", &[]) == expected);
    let kit = all.path("devkit");
    assert!(all.said("flat", &["--labels", text(&kit)]) == expected);
    assert!(all.said("ILSVRC2012_img_val.tar", &["--labels", text(&kit)]) == expected);
    // In folders, the data's classes are known by their WordNet ids.
    assert!(all.said("tree", &[]) == expected);

    // Each bad image is named, and the run fails at its end.
    for data in ["flat", "tree", "ILSVRC2012_img_val.tar"] {
        let outcome = all.eval(data, &[]);
        assert_eq!(outcome.code, 5, "{data}");
        for number in (EACH_BAD..=IMAGES).step_by(EACH_BAD) {
            assert!(outcome.stderr.contains(&name(number)), "{data}: {number}");
        }
        assert!(outcome.stderr.contains("200 images could not be read; --skip-bad leaves them out"), "{data}");
        let result: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!((&result["images"], result["bad"].as_array().map(Vec::len)), (&800.into(), Some(200)), "{data}");
    }

    // ReaL leaves some images out, and knows two classes for the second.
    let real = all.said("flat", &["--labels", "real"]);
    assert_eq!((real.contains_key(&name(1)), &real[&name(2)][0]), (false, &json!([970, 795])));
}

#[test]
fn folders_are_told_apart_by_a_class_map_by_numbers_or_not_at_all() {
    let all = Imagenet { folder: tempfile::tempdir().unwrap() };
    fs::write(
        all.path("small.toml"),
        "name = \"small\"\ncrop = 32\nmean = [0.5, 0.5, 0.5]\nstd = [0.2, 0.2, 0.2]\n[resize]\nsize = 32\n\
         interpolation = \"pil-bilinear\"\n",
    )
    .unwrap();
    let folders = |root: &str, names: &[&str]| {
        for (number, folder) in (1..).zip(names) {
            let folder = all.path(root).join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("x.jpg"), jpeg(number)).unwrap();
        }
    };
    // ImageNet-V2's folders are numbers, which sorted as text would be classes 0, 1, 2.
    folders("v2", &["2", "10", "999"]);
    let labels = |data: &str, more: &[&str]| {
        let file = all.path("predictions");
        let outcome = all.eval(data, &[more, &["--force", "--predictions", text(&file)]].concat());
        let lines = fs::read_to_string(&file).unwrap_or_default();
        let labels: Vec<Value> =
            lines.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap()["labels"].clone()).collect();
        (outcome, labels)
    };
    assert_eq!(labels("v2", &[]).1, [json!([10]), json!([2]), json!([999])]);

    folders("named", &["cock", "hen"]);
    let (outcome, _) = labels("named", &[]);
    assert_eq!(outcome.code, 2);
    assert!(
        outcome.stderr.contains("\"cock\" is none of the network's names; --class-map FILE says"),
        "{}",
        outcome.stderr
    );
    let map = all.path("map.csv");
    fs::write(&map, "cock,n01514668\nhen,8\n").unwrap();
    assert_eq!(labels("named", &["--class-map", text(&map)]).1, [json!([7]), json!([8])]);

    // A class without images is counted and named.
    fs::create_dir(all.path("v2/5")).unwrap();
    let (outcome, _) = labels("v2", &[]);
    assert_eq!(outcome.code, 5);
    assert!(outcome.stderr.contains("v2/5: this class has no images (jpg, jpeg"), "{}", outcome.stderr);
    assert!(
        labels("v2", &["--labels", "nothing"]).0.stderr.contains("original, real, or the path of a development kit")
    );
}

#[test]
fn svhn_is_read_as_published() {
    let folder = tempfile::tempdir().unwrap();
    let data = crate::run::path("mat/svhn");
    let arguments = ["eval", "digits", "--data", &data, "--device", "cpu", "--format", "json"];
    let outcome = run(folder.path(), &arguments);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let result: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&result["dataset"], &result["images"]), (&"svhn-test".into(), &4.into()));
}
