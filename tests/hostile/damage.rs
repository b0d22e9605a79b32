//! Truncations, bit flips and random mutations of a sample of each format.

use crate::harness::{Tensors, alone, attempt, exercise, fixture, tensors, watched};
use crate::samples::{Checksums, Sample, samples};

/// The samples that are networks convert completely, so that their damage is met by every part of the way.
#[test]
fn the_networks_among_the_samples_are_complete() {
    let _alone = alone();
    let samples = samples();
    let networks = samples.iter().filter(|sample| sample.name.contains("a network"));
    let complete: Vec<_> = networks.map(|sample| exercise(sample.name, &sample.bytes).converted.ok()).collect();
    assert_eq!(complete, [Some(true); 8]);
}

/// A cut file is refused, or says the same: nothing in between.
fn truncate(sample: &Sample, step: usize) {
    let whole = tensors(sample.name, &sample.bytes).expect(sample.name);
    let mut same = Vec::new();
    for cut in (0..sample.bytes.len()).step_by(step) {
        let name = || format!("{} cut at {cut} of {}", sample.name, sample.bytes.len());
        if let Ok(found) = attempt(&name, &sample.bytes[..cut]) {
            if sample.checksums == Checksums::NoEnd {
                // What is left of it is right, and no network.
                assert!(found.iter().all(|(name, content)| whole.get(name) == Some(content)), "{}", name());
                let complete = exercise(&name(), &sample.bytes[..cut]).converted.is_ok_and(|complete| complete);
                assert!(!complete, "{}", name());
                continue;
            }
            assert!(found == whole, "{}: other tensors: {:?}", name(), found.keys());
            same.push(cut);
        }
    }
    // Only a tar's padding and a text's last line feed carry nothing.
    let padding = sample.bytes.iter().rev().take_while(|&&byte| matches!(byte, 0 | b'\n')).count();
    assert!(same.iter().all(|cut| cut + padding >= sample.bytes.len()), "{}: cut at {same:?}", sample.name);
}

#[test]
fn truncations_at_every_byte() {
    let _alone = alone();
    for sample in samples() {
        watched(sample.name, 120, || truncate(&sample, 1));
    }
}

/// What torch itself wrote, at every seventh byte: these are larger.
#[test]
fn truncations_of_real_files() {
    let _alone = alone();
    for (name, checksums) in [
        ("pytorch_more/nested_deflated.zip", Checksums::Zip),
        ("pytorch_more/deflated.pt", Checksums::Zip),
        ("pytorch_more/torchscript_script_model.pt", Checksums::Zip),
        ("pytorch_more/zip64.pt", Checksums::Zip),
        ("pytorch_more/tar_torch01_views.tar", Checksums::None),
        ("pytorch_more/bare_pickle_proto4.pkl", Checksums::None),
        ("pytorch_more/numpy_pickle_proto5.pkl", Checksums::None),
        ("pytorch/cifar_gpleiss_legacy.pth", Checksums::None),
        ("torch7/v_tiny/model_1.t7", Checksums::None),
        ("caffe/tiny_python_written.caffemodel", Checksums::NoEnd),
        ("onnx/tiny_folded.onnx", Checksums::None),
        ("mxnet/densenet-tiny-v1.params", Checksums::None),
        ("keras/apps_keras3.weights.h5", Checksums::None),
        ("keras/blocks12_keras3.keras", Checksums::Zip),
        ("torch7/v_variants/ascii.t7", Checksums::None),
    ] {
        let sample = Sample { name, bytes: fixture(name), checksums };
        watched(name, 120, || truncate(&sample, 97));
    }
}

/// Whether a damaged file that is read still says what it said, where its format can tell.
fn sound(sample: &Sample, whole: &Tensors, found: &Tensors) -> bool {
    match sample.checksums {
        Checksums::Zip => found == whole,
        Checksums::None | Checksums::NoEnd => true,
    }
}

#[test]
fn every_bit_of_the_first_four_kilobytes_flipped() {
    let _alone = alone();
    for sample in samples() {
        let whole = tensors(sample.name, &sample.bytes).expect(sample.name);
        watched(sample.name, 120, || {
            let mut bytes = sample.bytes.clone();
            let (mut read, mut differ) = (0, 0);
            for bit in 0..8 * bytes.len().min(4096) {
                bytes[bit / 8] ^= 1 << (bit % 8);
                let name = || format!("{}, bit {} of byte {} flipped", sample.name, bit % 8, bit / 8);
                if let Ok(found) = attempt(&name, &bytes) {
                    read += 1;
                    differ += usize::from(found != whole);
                    assert!(sound(&sample, &whole, &found), "{}: other tensors, silently", name());
                }
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            println!("{}: {} flips, {read} read, {differ} with other tensors", sample.name, 8 * bytes.len().min(4096));
        });
    }
}

/// The headers of a tar have a sum of their bytes, which nothing else in it has.
#[test]
fn flips_in_the_headers_of_a_tar() {
    let _alone = alone();
    let samples = samples();
    let tar = samples.iter().find(|sample| sample.name == "tar").expect("there is one");
    let whole = tensors(tar.name, &tar.bytes).expect(tar.name);
    let headers: Vec<_> =
        (0..tar.bytes.len()).step_by(512).filter(|at| tar.bytes[at + 257..].starts_with(b"ustar")).collect();
    assert_eq!(headers.len(), 3);
    for bit in headers.iter().flat_map(|at| 8 * at..8 * (at + 512)) {
        let mut bytes = tar.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(found) = tensors(tar.name, &bytes) {
            assert!(found == whole, "tar: other tensors after a flip of bit {bit}");
        }
    }
}

/// A flip in the data of a tensor is a flip of that element, and of nothing else.
#[test]
fn a_flip_in_the_data_stays_there() {
    let _alone = alone();
    for sample in samples().iter().filter(|sample| ["legacy, small", "safetensors, small"].contains(&sample.name)) {
        let whole = tensors(sample.name, &sample.bytes).expect(sample.name);
        let data: usize = whole.values().map(|(_, _, data)| data.len()).sum();
        for bit in 8 * (sample.bytes.len() - data)..8 * sample.bytes.len() {
            let mut bytes = sample.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = tensors(sample.name, &bytes).expect(sample.name);
            let bits = |(_, shape, data): &(String, Vec<usize>, Vec<u8>)| (shape.clone(), data.clone());
            let pairs = whole.values().zip(found.values()).map(|(a, b)| (bits(a), bits(b)));
            let differ: u32 = pairs
                .map(|((shape, a), (other, b))| {
                    assert_eq!(shape, other);
                    a.iter().zip(&b).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
                })
                .sum();
            assert_eq!(differ, 1, "{}: bit {bit}", sample.name);
        }
    }
}

/// Steele, Lea and Flood's splitmix64: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A part of at most 64 bytes.
    fn part(&mut self, len: usize) -> std::ops::Range<usize> {
        let from = self.below(len);
        from..(from + 1 + self.below(64)).min(len)
    }
}

const EXTREMES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// One to three changes.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(9) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.insert(at, random.next() as u8),
            3 => drop(bytes.drain(random.part(bytes.len()))),
            4 => {
                let part = bytes[random.part(bytes.len())].to_vec();
                drop(bytes.splice(at..at, part));
            }
            5 => {
                let (a, b) = (random.part(bytes.len()), random.part(bytes.len()));
                for (a, b) in a.zip(b) {
                    bytes.swap(a, b);
                }
            }
            6 => {
                let width = [2, 4, 8][random.below(3)];
                let mut value = EXTREMES[random.below(EXTREMES.len())].to_le_bytes()[..width].to_vec();
                if random.below(2) == 1 {
                    value.reverse();
                }
                let end = (at + width).min(bytes.len());
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
            7 => {
                // A length as text, in octal or decimal.
                let end = at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let value = EXTREMES[random.below(EXTREMES.len())].to_string();
                drop(bytes.splice(at..end, value.into_bytes()));
            }
            _ => bytes.truncate(at),
        }
    }
}

#[test]
fn ten_thousand_mutations_of_each_format() {
    let _alone = alone();
    for (seed, sample) in (1..).zip(samples()) {
        let whole = tensors(sample.name, &sample.bytes).expect(sample.name);
        watched(sample.name, 120, || {
            let mut random = Random(seed << 32);
            let (mut read, mut differ) = (0, 0);
            for round in 0..10_000 {
                let mut bytes = sample.bytes.clone();
                mutate(&mut bytes, &mut random);
                let name = || {
                    let path = std::env::temp_dir().join("hostile-mutation");
                    let kept = std::fs::write(&path, &bytes).map(|()| path);
                    format!("{}, seed {seed}, mutation {round}, kept in {kept:?}", sample.name)
                };
                if let Ok(found) = attempt(&name, &bytes) {
                    read += 1;
                    differ += usize::from(found != whole);
                    assert!(sound(&sample, &whole, &found), "{}: other tensors, silently", name());
                }
            }
            println!("{}: 10000 mutations, {read} read, {differ} with other tensors", sample.name);
        });
    }
}
