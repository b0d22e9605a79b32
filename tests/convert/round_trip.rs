//! Every ImageNet network at full size: random weights written as torch writes them, and converted back.

use densenet_arch::{Config, Role, networks};
use densenet_arch::{Metadata, Stem};
use densenet_converters::{Conversion, Export, Options, Source, convert};
use densenet_engine::{Options as EngineOptions, Plan, Session, Shape};
use densenet_zoo::parity::Difference;

use crate::engine::random_weights;

/// Name, shape, whether it is a counter (int64; else float32), data.
pub(crate) type Written = (String, Vec<usize>, bool, Vec<u8>);

/// What `torch.save` writes for a state dict of these tensors, all contiguous (pickle protocol 2).
struct Pickle(Vec<u8>);

impl Pickle {
    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn int(&mut self, value: usize) {
        self.0.push(b'J');
        self.0.extend((value as i32).to_le_bytes());
    }

    fn sizes(&mut self, sizes: &[usize]) {
        self.0.push(b'(');
        for size in sizes {
            self.int(*size);
        }
        self.0.push(b't');
    }

    /// `name: _rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`
    fn tensor(&mut self, name: &str, key: usize, long: bool, shape: &[usize]) {
        let strides: Vec<_> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        self.text(name);
        self.0.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.0.extend(if long { &b"ctorch\nLongStorage\n"[..] } else { b"ctorch\nFloatStorage\n" });
        self.text(&key.to_string());
        self.text("cpu");
        self.int(shape.iter().product());
        self.0.extend(b"tQ");
        self.int(0);
        self.sizes(shape);
        self.sizes(&strides);
        self.0.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
}

/// The network's tensors with random bytes.
pub(crate) fn random(config: &Config) -> Vec<Written> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let params = config.params().into_iter().map(|param| {
        let counter = param.role == Role::NumBatchesTracked;
        let len = param.elements() * if counter { 8 } else { 4 };
        let data = (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(len).collect();
        (param.name, param.shape, counter, data)
    });
    params.collect()
}

fn state_dict(tensors: &[Written]) -> Vec<u8> {
    let mut pickle = Pickle(b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec());
    for (key, (name, shape, counter, _)) in tensors.iter().enumerate() {
        pickle.tensor(name, key, *counter, shape);
    }
    pickle.0.extend(b"u.");
    pickle.0
}

/// Magic number, protocol, system, object, keys, then counts and elements.
pub(crate) fn legacy(tensors: &[Written]) -> Vec<u8> {
    let mut file =
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."
            .to_vec();
    file.extend(state_dict(tensors));
    let mut keys = Pickle(b"\x80\x02](".to_vec());
    for key in 0..tensors.len() {
        keys.text(&key.to_string());
    }
    keys.0.extend(b"e.");
    file.extend(keys.0);
    for (_, shape, _, data) in tensors {
        file.extend((shape.iter().product::<usize>() as i64).to_le_bytes());
        file.extend(data);
    }
    file
}

/// Stored entries without a CRC, as torch writes them with `set_crc32_options(False)`.
fn zip(tensors: &[Written]) -> Vec<u8> {
    let pickle = state_dict(tensors);
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    let mut add = |name: String, data: &[u8]| {
        let offset = file.len() as u32;
        let sizes = [0, data.len() as u32, data.len() as u32].map(u32::to_le_bytes).concat();
        let lens = [name.len() as u16, 0].map(u16::to_le_bytes).concat();
        file.extend([b"PK\x03\x04", &[0; 10][..], &sizes, &lens, name.as_bytes(), data].concat());
        directory.extend(
            [b"PK\x01\x02", &[0; 12][..], &sizes, &lens, &[0; 10], &offset.to_le_bytes(), name.as_bytes()].concat(),
        );
    };
    add("archive/data.pkl".into(), &pickle);
    for (key, (_, _, _, data)) in tensors.iter().enumerate() {
        add(format!("archive/data/{key}"), data);
    }
    let count = (tensors.len() as u16 + 1).to_le_bytes();
    let place = [directory.len() as u32, file.len() as u32].map(u32::to_le_bytes).concat();
    file.extend(directory);
    file.extend([b"PK\x05\x06", &[0; 4][..], &count, &count, &place, &[0; 2]].concat());
    file
}

#[test]
fn every_imagenet_network_converts_back_to_the_same_tensors() {
    // Batch norms of five tensors, convolutions of one, the classifier's two; 121 has 121 batch norms and 120 convolutions.
    let counts = [
        ("densenet-121", 727),
        ("densenet-169", 1015),
        ("densenet-201", 1207),
        ("densenet-161", 967),
        ("densenet-264", 1591),
        ("densenet-232", 1399),
        ("densenet-cosine-264", 1591),
        ("densenet-cosine-264-k48", 1591),
    ];
    for (name, count) in counts {
        let config = &networks::find(name).unwrap().config;
        let tensors = random(config);
        assert_eq!(tensors.len(), count, "{name}");
        for (form, write) in [("legacy", legacy as fn(&[_]) -> Vec<u8>), ("zip", zip)] {
            let file = write(&tensors);
            let source = Source::hashed(&file, "00".repeat(32));
            let conversion =
                convert(&source, &Options::default()).unwrap_or_else(|error| panic!("{name} {form}: {error}"));
            assert!(conversion.report.is_complete(false), "{name} {form}: {}", conversion.report);
            assert!(conversion.config.same_network(config), "{name}");
            assert_eq!(conversion.tensors.len(), count, "{name} {form}");
            for (found, (name, shape, _, data)) in conversion.tensors.iter().zip(&tensors) {
                assert_eq!((&found.name, found.tensor.shape()), (name, &shape[..]));
                assert!(found.tensor.to_bytes().unwrap() == *data, "{name}");
            }
        }
    }
}

/// The engine's logits for one made-up image.
fn logits(config: &Config, weights: impl FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)>) -> Vec<f32> {
    let plan = std::sync::Arc::new(Plan::new(config, weights, &EngineOptions::default()).unwrap());
    let mut session = Session::new(&plan, Shape { height: 64, width: 64, batch: 1, threads: 2 }).unwrap();
    let image: Vec<f32> =
        (0..3 * 64 * 64_u32).map(|index| (index.wrapping_mul(2_654_435_769) >> 16) as f32 / 32768.0 - 1.0).collect();
    session.run(&image).unwrap().to_vec()
}

#[test]
fn imagenet_networks_come_back_from_onnx() {
    for network in networks::all().iter().filter(|network| network.config.stem == Stem::Imagenet) {
        let config = &network.config;
        let weights = random_weights(config);
        let metadata = Metadata::default();
        let export =
            Export { config, metadata: &metadata, opset: 17, fold: false, half: false, batch: None, side: 224 };
        let written = |export: &Export| {
            let mut out = Vec::new();
            export.write(&|name| Ok(weights[name].1.clone()), &mut out).unwrap();
            out
        };
        let complete = |conversion: &Conversion| {
            assert_eq!(conversion.config, *config, "{}", network.name);
            assert!(conversion.report.is_complete(false), "{}: {}", network.name, conversion.report);
        };
        // Unfolded: the same tensors.
        let onnx = written(&export);
        let source = Source::new(&onnx);
        let conversion = convert(&source, &Options::default()).unwrap();
        complete(&conversion);
        let kept = conversion.tensors.iter().filter(|named| !named.name.ends_with("num_batches_tracked"));
        assert_eq!(kept.clone().count(), weights.len());
        for named in kept {
            let (shape, values) = &weights[&named.name];
            assert_eq!((named.tensor.shape(), &named.tensor.to_f32().unwrap()), (&shape[..], values), "{}", named.name);
        }
        // Folded: the same logits.
        let onnx = written(&Export { fold: true, ..export });
        let source = Source::new(&onnx);
        let conversion = convert(&source, &Options::default()).unwrap();
        complete(&conversion);
        let found = logits(config, |name| {
            let named = conversion.tensors.iter().find(|named| named.name == name)?;
            Some((named.tensor.shape().to_vec(), named.tensor.to_f32().ok()?))
        });
        let expected = logits(config, |name| weights.get(name).cloned());
        let difference = Difference::between(&found, &expected);
        assert!(difference.within(1e-5), "{}: {difference:?}", network.name);
    }
}
