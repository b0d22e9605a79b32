//! JPEG decoders on the fixtures: how many bytes differ from what Pillow decoded, the largest difference, and the time. Then
//! the time from a file of 500x375 pixels to an input of 224x224, for evaluation and for training.
//!
//! `cargo bench --bench decode` prints two tables; with `--features turbojpeg`, ours is libjpeg-turbo.

use std::path::Path;
use std::time::Instant;

use densenet_arch::Protocol;
use densenet_zoo::data::decode;
use densenet_zoo::data::transform::Transform;
use densenet_zoo::train::{Augmentation, Draws};

/// Files whose pixels, as Pillow 13 with libjpeg-turbo 3.2 decoded them, lie beside them.
const FILES: [&str; 7] = [
    "gray",
    "photo_320x240_444",
    "photo_320x240_422",
    "photo_500x375_420",
    "odd_255x257",
    "restart_q50_333x223",
    "wide_640x120",
];

fn image_crate(bytes: &[u8]) -> Vec<u8> {
    image::load_from_memory(bytes).expect("the fixture is sound").into_rgb8().into_raw()
}

fn ours(bytes: &[u8]) -> Vec<u8> {
    decode::bytes(bytes, Path::new("fixture")).expect("the fixture is sound").data().to_vec()
}

/// Share of the bytes that differ, in per cent, and the largest difference.
fn difference(found: &[u8], expected: &[u8]) -> (f64, u8) {
    let differences = || found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b));
    let count = differences().filter(|&difference| difference > 0).count();
    (100.0 * count as f64 / expected.len() as f64, differences().max().unwrap_or(0))
}

/// The median of 41 runs, in milliseconds.
fn median<T>(mut run: impl FnMut() -> T) -> f64 {
    let mut times: Vec<f64> = (0..41)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(run());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[20]
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/preproc");
    decoders(&folder);
    inputs(&folder);
}

fn decoders(folder: &Path) {
    println!("ours: {}\n", decode::DECODER);
    println!("| file | ours differs | image (zune-jpeg) differs | by at most | ours ms | image ms |");
    println!("|---|--:|--:|--:|--:|--:|");
    for file in FILES {
        let bytes = std::fs::read(folder.join(format!("{file}.jpg"))).expect("the fixture is there");
        let pillow = image::open(folder.join(format!("decoded/{file}_jpg.png"))).expect("the fixture is there");
        let pillow = pillow.into_rgb8().into_raw();
        let (mine, _) = difference(&ours(&bytes), &pillow);
        let (other, most) = difference(&image_crate(&bytes), &pillow);
        let (my_time, other_time) = (median(|| ours(&bytes)), median(|| image_crate(&bytes)));
        println!("| {file} | {mine:.2} % | {other:.2} % | {most} | {my_time:.2} | {other_time:.2} |");
    }
}

fn inputs(folder: &Path) {
    println!("\n| protocol | augmentation | ms | images/s, one thread |");
    println!("|---|---|--:|--:|");
    let bytes = std::fs::read(folder.join("photo_500x375_420.jpg")).expect("the fixture is there");
    for protocol in ["torch7", "pil-bilinear"] {
        let transform = Protocol::named(protocol).map(|protocol| Transform::new(&protocol, 3));
        let transform = transform.expect("it is a name").expect("networks read colour");
        for name in Augmentation::names() {
            let augmentation = Augmentation::named(name).expect("it is a name");
            let mut draws = Draws::of(&[1]);
            let time = median(|| {
                let image = decode::bytes(&bytes, Path::new("fixture")).expect("the fixture is sound");
                let mut pixels = Vec::new();
                augmentation.append(&image, &transform, &mut draws, &mut pixels).expect("it is large enough");
                pixels
            });
            println!("| {protocol} | {name} | {time:.2} | {:.0} |", 1e3 / time);
        }
    }
}
