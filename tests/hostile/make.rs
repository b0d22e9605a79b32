//! Files made by hand: pickles, and the containers around them.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// A pickle, opcode by opcode (Python's pickletools).
#[derive(Clone, Debug, Default)]
pub(crate) struct Pickle(pub(crate) Vec<u8>);

impl Pickle {
    pub(crate) fn new(protocol: u8) -> Self {
        Self(vec![0x80, protocol])
    }

    /// Opcodes as they are.
    pub(crate) fn op(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The same opcodes again and again.
    pub(crate) fn repeat(mut self, count: usize, bytes: &[u8]) -> Self {
        self.0.extend(bytes.repeat(count));
        self
    }

    pub(crate) fn each<T>(mut self, items: impl IntoIterator<Item = T>, add: impl Fn(Self, T) -> Self) -> Self {
        for item in items {
            self = add(self, item);
        }
        self
    }

    /// GLOBAL.
    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        self.op(format!("c{module}\n{name}\n").as_bytes())
    }

    /// BINUNICODE.
    pub(crate) fn text(self, text: &str) -> Self {
        self.op(b"X").op(&(text.len() as u32).to_le_bytes()).op(text.as_bytes())
    }

    /// BINBYTES.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        self.op(b"B").op(&(bytes.len() as u32).to_le_bytes()).op(bytes)
    }

    /// LONG1 of eight bytes.
    pub(crate) fn int(self, value: i64) -> Self {
        self.op(&[0x8a, 8]).op(&value.to_le_bytes())
    }

    /// LONG_BINPUT.
    pub(crate) fn put(self, index: u32) -> Self {
        self.op(b"r").op(&index.to_le_bytes())
    }

    /// LONG_BINGET.
    pub(crate) fn get(self, index: u32) -> Self {
        self.op(b"j").op(&index.to_le_bytes())
    }

    /// A storage by key.
    pub(crate) fn storage(self, class: &str, key: &str, elements: i64) -> Self {
        self.op(b"(").text("storage").global("torch", class).text(key).text("cpu").int(elements).op(b"tQ")
    }

    /// A tensor over the storage that is on the stack's top, which `first` puts there.
    pub(crate) fn tensor(self, first: impl Fn(Self) -> Self, offset: i64, shape: &[i64], strides: &[i64]) -> Self {
        let tuple =
            |pickle: Self, sizes: &[i64]| pickle.op(b"(").each(sizes, |pickle, size| pickle.int(*size)).op(b"t");
        let pickle = first(self.global("torch._utils", "_rebuild_tensor_v2").op(b"("));
        let pickle = tuple(tuple(pickle.int(offset), shape), strides);
        pickle.op(b"\x89ccollections\nOrderedDict\n)RtR")
    }

    /// STOP.
    pub(crate) fn stop(self) -> Vec<u8> {
        self.op(b".").0
    }
}

/// `{"w": tensor}` over four floats in storage "0".
pub(crate) fn four_floats(protocol: u8) -> Vec<u8> {
    let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", 4);
    Pickle::new(protocol).op(b"}").text("w").tensor(floats, 0, &[4], &[1]).op(b"s").stop()
}

pub(crate) const FOUR: [u8; 16] = [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40, 0, 0, 0x80, 0x40];

const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The stream of `torch.save` before 1.6. Each storage: key, elements, bytes.
pub(crate) fn legacy(object: &[u8], storages: &[(&str, i64, &[u8])]) -> Vec<u8> {
    let system = Pickle::new(2).op(b"}").text("little_endian").op(b"\x88s").stop();
    legacy_parts(MAGIC, b"\x80\x02M\xe9\x03.", &system, object, storages)
}

pub(crate) fn legacy_parts(
    magic: &[u8],
    protocol: &[u8],
    system: &[u8],
    object: &[u8],
    storages: &[(&str, i64, &[u8])],
) -> Vec<u8> {
    let keys = Pickle::new(2).op(b"](").each(storages, |pickle, (key, ..)| pickle.text(key)).op(b"e").stop();
    let mut bytes = [magic, protocol, system, object, &keys].concat();
    for (_, elements, data) in storages {
        bytes.extend(elements.to_le_bytes());
        bytes.extend_from_slice(data);
    }
    bytes
}

/// A storage as `torch.storage._load_from_bytes` takes it: a stream whose object is one storage.
pub(crate) fn storage_within(before: Pickle) -> Vec<u8> {
    let object = before.storage("FloatStorage", "0", 4).stop();
    legacy(&object, &[("0", 4, &FOUR)])
}

/// A file for a zip.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Member<'a> {
    Stored(&'a [u8]),
    Deflated(&'a [u8]),
}

/// A zip of these files (PKWARE APPNOTE 4.3), zip64 where there are too many.
pub(crate) fn zip(members: &[(&str, Member)]) -> Vec<u8> {
    let mut zip = Zip::default();
    for (name, member) in members {
        match member {
            Member::Stored(data) => zip.add(name, 0, crc(data), data, data.len()),
            Member::Deflated(data) => zip.add(name, 8, crc(data), &deflated(data), data.len()),
        }
    }
    zip.finish()
}

pub(crate) fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).and_then(|()| encoder.finish()).expect("memory takes it")
}

pub(crate) fn crc(data: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    crc.sum()
}

/// A zip in the making: what its records say is the caller's.
#[derive(Debug, Default)]
pub(crate) struct Zip {
    pub(crate) bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u64,
}

impl Zip {
    pub(crate) fn add(&mut self, name: &str, method: u16, crc: u32, stored: &[u8], size: usize) {
        let at = self.bytes.len();
        self.local(name, method, crc, stored.len(), size);
        self.bytes.extend_from_slice(stored);
        self.record(name, method, crc, stored.len(), size, at);
    }

    pub(crate) fn local(&mut self, name: &str, method: u16, crc: u32, stored: usize, size: usize) {
        self.bytes.extend(b"PK\x03\x04\x14\x00\x00\x00");
        self.bytes.extend(method.to_le_bytes());
        self.bytes.extend([0; 4]);
        for value in [crc, stored as u32, size as u32] {
            self.bytes.extend(value.to_le_bytes());
        }
        self.bytes.extend((name.len() as u16).to_le_bytes());
        self.bytes.extend([0; 2]);
        self.bytes.extend(name.as_bytes());
    }

    pub(crate) fn record(&mut self, name: &str, method: u16, crc: u32, stored: usize, size: usize, at: usize) {
        self.directory.extend(b"PK\x01\x02\x14\x00\x14\x00\x00\x00");
        self.directory.extend(method.to_le_bytes());
        self.directory.extend([0; 4]);
        for value in [crc, stored as u32, size as u32] {
            self.directory.extend(value.to_le_bytes());
        }
        self.directory.extend((name.len() as u16).to_le_bytes());
        self.directory.extend([0; 12]);
        self.directory.extend((at as u32).to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.count += 1;
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let (start, size) = (self.bytes.len(), self.directory.len());
        self.bytes.append(&mut self.directory);
        let short = u16::try_from(self.count);
        if short.is_err() {
            let record = self.bytes.len() as u64;
            self.bytes.extend(b"PK\x06\x06");
            self.bytes.extend(44_u64.to_le_bytes());
            self.bytes.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            for value in [self.count, self.count, size as u64, start as u64] {
                self.bytes.extend(value.to_le_bytes());
            }
            self.bytes.extend(b"PK\x06\x07\0\0\0\0");
            self.bytes.extend(record.to_le_bytes());
            self.bytes.extend(1_u32.to_le_bytes());
        }
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend(short.unwrap_or(u16::MAX).to_le_bytes().repeat(2));
        self.bytes.extend((size as u32).to_le_bytes());
        self.bytes.extend((start as u32).to_le_bytes());
        self.bytes.extend([0; 2]);
        self.bytes
    }
}

/// A zip as `torch.save` writes it. Each storage: key and bytes.
pub(crate) fn archive(object: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let names: Vec<_> = storages.iter().map(|(key, _)| format!("a/data/{key}")).collect();
    let mut members = vec![("a/data.pkl", Member::Stored(object))];
    members.extend(names.iter().zip(storages).map(|(name, (_, data))| (name.as_str(), Member::Stored(data))));
    zip(&members)
}

/// A Torch7 file, little-endian with longs of 64 bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Torch7(pub(crate) Vec<u8>);

impl Torch7 {
    pub(crate) fn int(mut self, value: i32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn long(mut self, value: i64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self = self.int(bytes.len() as i32);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn number(mut self, value: f64) -> Self {
        self = self.int(1);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(crate) fn text(self, text: &[u8]) -> Self {
        self.int(2).raw(text)
    }

    /// A table whose pairs follow, or one that was before, of which nothing follows.
    pub(crate) fn table(self, index: i32, pairs: i32) -> Self {
        self.int(3).int(index).int(pairs)
    }

    pub(crate) fn again(self, index: i32) -> Self {
        self.int(3).int(index)
    }

    /// An object whose content follows.
    pub(crate) fn object(self, index: i32, class: &str) -> Self {
        self.int(4).int(index).raw(b"V 1").raw(class.as_bytes())
    }

    /// A float tensor with a storage of its own, which takes the next index.
    pub(crate) fn tensor(self, index: i32, shape: &[i64], strides: &[i64], data: &[f32]) -> Self {
        let sizes = |file: Self, sizes: &[i64]| sizes.iter().fold(file, |file, size| file.long(*size));
        let file = self.object(index, "torch.FloatTensor").int(shape.len() as i32);
        let file = sizes(sizes(file, shape), strides).long(1);
        let mut file = file.object(index + 1, "torch.FloatStorage").long(data.len() as i64);
        file.0.extend(data.iter().flat_map(|value| value.to_le_bytes()));
        file
    }
}

/// A convolution of stride 1; it takes 4 indices.
pub(crate) fn convolution(file: Torch7, index: i32, size: f64, weight: (&[i64], &[i64])) -> Torch7 {
    let file = file.object(index, "nn.SpatialConvolution").table(index + 1, 5).text(b"weight");
    let file = file.tensor(index + 2, weight.0, weight.1, &[1.0]);
    let file = file.text(b"kW").number(size).text(b"kH").number(size);
    let pad = (size - 1.0) / 2.0;
    file.text(b"padW").number(pad).text(b"padH").number(pad)
}

/// A batch norm without scale and shift; it takes 6 indices.
pub(crate) fn norm(file: Torch7, index: i32, channels: i64) -> Torch7 {
    let file = file.object(index, "nn.SpatialBatchNormalization").table(index + 1, 2);
    let file = file.text(b"running_mean").tensor(index + 2, &[channels], &[0], &[0.0]);
    file.text(b"running_var").tensor(index + 4, &[channels], &[0], &[1.0])
}

/// It takes 2 indices.
pub(crate) fn relu(file: Torch7, index: i32) -> Torch7 {
    file.object(index, "nn.ReLU").table(index + 1, 0)
}

/// A container whose modules follow, each behind its number; it takes 3 indices.
pub(crate) fn container(file: Torch7, index: i32, class: &str, children: i32) -> Torch7 {
    file.object(index, class).table(index + 1, 1).text(b"modules").table(index + 2, children)
}

/// A dense layer that adds one channel; it takes 30 indices.
pub(crate) fn dense(file: Torch7, index: i32, channels: i64) -> Torch7 {
    let file = container(file, index, "nn.Concat", 2).number(1.0).object(index + 3, "nn.Identity").table(index + 4, 0);
    let file = container(file.number(2.0), index + 5, "nn.Sequential", 3);
    let file = relu(norm(file.number(1.0), index + 8, channels).number(2.0), index + 20);
    convolution(file.number(3.0), index + 22, 3.0, (&[1, channels, 3, 3], &[0; 4]))
}

/// The smallest network: one block of one layer.
pub(crate) fn network() -> Torch7 {
    let file = container(Torch7::default(), 1, "nn.Sequential", 7).number(1.0);
    let file = convolution(file, 10, 3.0, (&[1, 3, 3, 3], &[0; 4]));
    let file = norm(dense(file.number(2.0), 20, 1).number(3.0), 60, 2);
    let file = relu(file.number(4.0), 80).number(5.0).object(90, "nn.Linear").table(91, 2);
    let file = file.text(b"weight").tensor(92, &[2, 2], &[2, 1], &[1.0, 2.0, 3.0, 4.0]);
    let file = file.text(b"bias").tensor(94, &[2], &[1], &[5.0, 6.0]);
    let file = file.number(6.0).object(96, "nn.Dropout").table(97, 1).text(b"p").number(0.5);
    file.number(7.0).object(98, "nn.LogSoftMax").table(99, 0)
}

/// The same network's tensors by torchvision's names.
pub(crate) const NETWORK: &[(&str, &[i64])] = &[
    ("classifier.bias", &[2]),
    ("classifier.weight", &[2, 2]),
    ("features.conv0.bias", &[1]),
    ("features.conv0.weight", &[1, 3, 3, 3]),
    ("features.denseblock1.denselayer1.conv1.weight", &[1, 1, 3, 3]),
    ("features.denseblock1.denselayer1.norm1.bias", &[1]),
    ("features.denseblock1.denselayer1.norm1.running_mean", &[1]),
    ("features.denseblock1.denselayer1.norm1.running_var", &[1]),
    ("features.denseblock1.denselayer1.norm1.weight", &[1]),
    ("features.norm5.bias", &[2]),
    ("features.norm5.running_mean", &[2]),
    ("features.norm5.running_var", &[2]),
    ("features.norm5.weight", &[2]),
];

/// A module whose object is a network: each layer an object of its own, with another eps.
pub(crate) fn network_of_modules() -> Vec<u8> {
    let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", 4);
    let open = |pickle: Pickle| pickle.global("net", "Net").op(b")\x81}(").text("_parameters").op(b"}(");
    let mut pickle = open(Pickle::new(2)).op(b"u").text("_modules").op(b"}(");
    let layers = NETWORK.chunk_by(|(a, _), (b, _)| a.rsplit_once('.').map(|a| a.0) == b.rsplit_once('.').map(|b| b.0));
    for (number, layer) in (1_u8..).zip(layers) {
        let path = layer[0].0.rsplit_once('.').map_or("", |(path, _)| path);
        pickle = open(pickle.text(path)).each(layer, |pickle, (name, shape)| {
            let field = name.rsplit_once('.').map_or("", |(_, field)| field);
            pickle.text(field).tensor(floats, 0, shape, &vec![0; shape.len()])
        });
        pickle = pickle.op(b"u").text("eps").op(b"G").op(&(f64::from(number) * 1e-5).to_be_bytes()).op(b"ub");
    }
    pickle.op(b"uub").stop()
}

/// A safetensors file.
pub(crate) fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A tar of these files (POSIX.1-1988).
pub(crate) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, data) in members {
        let mut header = vec![0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(header);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}
