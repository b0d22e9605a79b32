//! What the originals drew and what came out: a folder of the fixtures with `draws.json` and files of tensors.

use std::collections::VecDeque;

use densenet_arch::{Protocol, Range};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::data::resize::Rgb8;
use crate::data::resize::fixtures::{json, read};
use crate::data::transform::Transform;
use crate::train::draws::Random;

/// The tensors of one file, and the draws that each was made by.
pub(super) struct Reference {
    file: Vec<u8>,
    draws: Value,
}

impl Reference {
    pub(super) fn read(folder: &str, file: &str) -> Self {
        Self { file: read(&format!("{folder}/{file}")), draws: json(&format!("{folder}/draws.json")) }
    }

    /// The values of a tensor, split along its first axis, and its last axis's length.
    fn tensor(&self, name: &str) -> (Vec<Vec<f32>>, usize) {
        let file = SafeTensors::deserialize(&self.file).unwrap();
        let tensor = file.tensor(name).unwrap();
        let values: Vec<f32> = match tensor.dtype() {
            safetensors::Dtype::U8 => tensor.data().iter().map(|&byte| f32::from(byte)).collect(),
            _ => tensor.data().as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect(),
        };
        let shape = tensor.shape();
        let parts = values.chunks(values.len() / shape[0]).map(<[f32]>::to_vec).collect();
        (parts, shape[shape.len() - 1])
    }

    /// Images stored as (n, 3, height, width), or one as (3, height, width).
    pub(super) fn images(&self, name: &str) -> Vec<Rgb8> {
        let (mut parts, width) = self.tensor(name);
        if SafeTensors::deserialize(&self.file).unwrap().tensor(name).unwrap().shape().len() == 3 {
            parts = vec![parts.concat()];
        }
        parts.iter().map(|planes| interleaved(planes, width)).collect()
    }

    /// Compares what `make` gives for each case of a tensor, (channels, height, width), with the tensor's; what `make`
    /// draws are the draws of `draws`, and it draws all of them.
    pub(super) fn check(
        &self,
        (draws, tensor): (&str, &str),
        tolerance: f32,
        mut make: impl FnMut(usize, &mut Replay) -> Vec<f32>,
    ) {
        let (expected, _) = self.tensor(tensor);
        let cases = self.draws[draws].as_array().unwrap();
        assert_eq!(cases.len(), expected.len(), "{draws}");
        for (index, (case, expected)) in cases.iter().zip(&expected).enumerate() {
            let mut replay = Replay::of(case);
            let found = make(index, &mut replay);
            assert!(replay.calls.is_empty(), "{tensor} {index} drew too little: {:?}", replay.calls);
            assert_eq!(found.len(), expected.len(), "{tensor} {index}");
            let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= tolerance, "{tensor} {index}: off by {worst}");
        }
    }
}

/// A transform that leaves values on that scale as they are.
pub(super) fn as_it_is(crop: usize, range: Range) -> Transform {
    let plain =
        Protocol { name: "as it is".into(), range, mean: [0.0; 3], std: [1.0; 3], ..Protocol::named("svhn").unwrap() };
    Transform::new(&Protocol { crop, ..plain }, 3).unwrap()
}

/// An image of planes.
fn interleaved(planes: &[f32], width: usize) -> Rgb8 {
    let plane = planes.len() / 3;
    let bytes = (0..planes.len()).map(|at| planes[at % 3 * plane + at / 3] as u8).collect();
    Rgb8::new(width, plane / width, bytes).unwrap()
}

/// Planes of an image.
pub(super) fn planar(pixels: &[[f32; 3]]) -> Vec<f32> {
    (0..3).flat_map(|channel| pixels.iter().map(move |pixel| pixel[channel])).collect()
}

/// Another program's draws, which must be asked for as it did.
pub(super) struct Replay {
    calls: VecDeque<Value>,
}

impl Replay {
    fn of(case: &Value) -> Self {
        Self { calls: case["draws"].as_array().unwrap().iter().cloned().collect() }
    }

    fn next(&mut self, function: &str, arguments: &[(&str, f64)]) -> Value {
        let call = self.calls.pop_front().unwrap_or_else(|| panic!("{function} is not drawn"));
        assert_eq!(call["fn"], function, "{call}");
        for (name, value) in arguments {
            // torchvision's arguments are single precision.
            assert!((call[name].as_f64().unwrap() - value).abs() < 1e-7, "{function}, {name} of {value}: {call}");
        }
        call["v"].clone()
    }
}

impl Random for Replay {
    fn uniform(&mut self, from: f64, to: f64) -> f64 {
        self.next("uniform", &[("a", from), ("b", to)]).as_f64().unwrap()
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next("random", &[("a", 0.0), ("b", bound as f64 - 1.0)]).as_u64().unwrap() as usize
    }

    /// Torch counts from 1.
    fn permutation(&mut self, count: usize) -> Vec<usize> {
        let order = self.next("randperm", &[("n", count as f64)]);
        order.as_array().unwrap().iter().map(|place| place.as_u64().unwrap() as usize - 1).collect()
    }

    /// Torch draws several at once.
    fn normal(&mut self, deviation: f64) -> f64 {
        let mut call = self.calls.pop_front().unwrap();
        assert!(call["fn"] == "normal" && call["std"].as_f64() == Some(deviation), "{call}");
        let values = call["v"].as_array_mut().unwrap();
        let value = values.remove(0).as_f64().unwrap();
        if !values.is_empty() {
            self.calls.push_front(call);
        }
        value
    }
}
