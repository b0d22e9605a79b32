//! Files made by hand: protobuf messages, Caffe's and ONNX's networks, MXNet's lists.

use densenet_arch::{Config, Metadata};
use densenet_converters::Export;

use crate::make::{FOUR, NETWORK};

/// A message, field by field.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proto(pub(crate) Vec<u8>);

impl Proto {
    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    pub(crate) fn number(self, field: u64, value: u64) -> Self {
        self.varint(field << 3).varint(value)
    }

    pub(crate) fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        self.announced(field, bytes.len() as u64, bytes)
    }

    /// A field that says another length than it has.
    pub(crate) fn announced(self, field: u64, len: u64, bytes: &[u8]) -> Self {
        let mut proto = self.varint(field << 3 | 2).varint(len);
        proto.0.extend_from_slice(bytes);
        proto
    }

    pub(crate) fn message(self, field: u64, message: Self) -> Self {
        self.bytes(field, &message.0)
    }
}

/// BlobProto of ones.
pub(crate) fn blob(shape: &[u64]) -> Proto {
    let count = shape.iter().product::<u64>() as usize;
    let dimensions = shape.iter().fold(Proto::default(), |proto, &size| proto.number(1, size));
    Proto::default().bytes(5, &1_f32.to_le_bytes().repeat(count)).message(7, dimensions)
}

/// LayerParameter.
pub(crate) fn layer(name: &str, kind: &str, bottoms: &[&str], top: &str, blobs: &[Proto]) -> Proto {
    let proto = Proto::default().bytes(1, name.as_bytes()).bytes(2, kind.as_bytes());
    let proto = bottoms.iter().fold(proto, |proto, bottom| proto.bytes(3, bottom.as_bytes()));
    let proto = proto.bytes(4, top.as_bytes());
    blobs.iter().cloned().fold(proto, |proto, blob| proto.message(7, blob))
}

/// The layers as a NetParameter.
pub(crate) fn caffe(layers: &[Proto]) -> Vec<u8> {
    let net = Proto::default().bytes(1, b"tiny").bytes(3, b"data");
    layers.iter().cloned().fold(net, |net, layer| net.message(100, layer)).0
}

/// A network of one plain layer, as Caffe would hold it.
pub(crate) fn caffe_network() -> Vec<u8> {
    let three = Proto::default().number(3, 1).number(4, 3);
    let convolution = |name, bottom, shape: &[u64]| {
        layer(name, "Convolution", &[bottom], name, &[blob(shape)]).message(106, three.clone())
    };
    let norm = |name: &str, bottom, channels| {
        let (own, scale) = (format!("{name}/bn"), format!("{name}/scale"));
        [
            layer(&own, "BatchNorm", &[bottom], &own, &[blob(&[channels]), blob(&[channels]), blob(&[1])]),
            layer(&scale, "Scale", &[&own], &own, &[blob(&[channels]), blob(&[channels])]),
            layer("relu", "ReLU", &[&own], &own, &[]),
        ]
    };
    let mut layers = vec![convolution("conv1", "data", &[1, 3, 3, 3])];
    layers.extend(norm("x1", "conv1", 1));
    layers.push(convolution("x1", "x1/bn", &[1, 1, 3, 3]));
    layers.push(layer("concat", "Concat", &["conv1", "x1"], "concat", &[]));
    layers.extend(norm("last", "concat", 2));
    layers.push(
        layer("pool", "Pooling", &["last/bn"], "pool", &[]).message(121, Proto::default().number(1, 1).number(12, 1)),
    );
    layers.push(
        layer("fc6", "Convolution", &["pool"], "fc6", &[blob(&[2, 2, 1, 1]), blob(&[2])])
            .message(106, Proto::default().number(4, 1)),
    );
    caffe(&layers)
}

/// The same network as we write it.
pub(crate) fn onnx_network() -> Vec<u8> {
    let config = Config { num_init_features: 1, bn_size: None, ..Config::cifar(7, 1).expect("three blocks") };
    let config = Config { block_config: vec![1], num_classes: 2, ..config };
    let metadata = Metadata { tool: Some("densenet-zoo 9".into()), eps: Some(1e-5), ..Metadata::default() };
    let export =
        Export { config: &config, metadata: &metadata, opset: 17, fold: false, half: false, batch: None, side: 32 };
    let mut out = Vec::new();
    let ones = |name: &str| {
        let (_, shape) = NETWORK.iter().find(|(known, _)| *known == name).expect("it is in the network");
        Ok(vec![1.0; shape.iter().product::<i64>() as usize])
    };
    export.write(&ones, &mut out).expect("it is written");
    out
}

/// TensorProto of float32, whose shape, data and further fields may lie.
pub(crate) fn tensor(name: &str, shape: &[u64]) -> Proto {
    let proto = shape.iter().fold(Proto::default(), |proto, &size| proto.number(1, size));
    proto.number(2, 1).bytes(8, name.as_bytes())
}

/// A tensor that says to lie in another file.
pub(crate) fn external(entries: &[(&str, &str)]) -> Proto {
    let pair = |(key, value): &(&str, &str)| Proto::default().bytes(1, key.as_bytes()).bytes(2, value.as_bytes());
    entries.iter().fold(tensor("w", &[4]), |proto, entry| proto.message(13, pair(entry))).number(14, 1)
}

/// A model of these fields of its graph.
pub(crate) fn onnx(graph: Proto) -> Vec<u8> {
    let opset = Proto::default().bytes(1, b"").number(2, 17);
    Proto::default().number(1, 8).message(7, graph).message(8, opset).0
}

/// One array of MXNet's second form.
pub(crate) fn array(shape: &[i64], data: &[u8]) -> Vec<u8> {
    let sizes: Vec<u8> = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
    let head = [&0xf993_fac9_u32.to_le_bytes()[..], &[0; 4], &(shape.len() as u32).to_le_bytes(), &sizes];
    [&head.concat()[..], &[1, 0, 0, 0, 0, 0, 0, 0], &[0; 4], data].concat()
}

/// A list of arrays with names.
pub(crate) fn mxnet(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let count = (arrays.len() as u64).to_le_bytes();
    let mut bytes = [&0x112_u64.to_le_bytes()[..], &[0; 8], &count].concat();
    for (_, array) in arrays {
        bytes.extend_from_slice(array);
    }
    bytes.extend(count);
    for (name, _) in arrays {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
    }
    bytes
}

/// The network of one plain layer by Gluon's names.
pub(crate) fn mxnet_network() -> Vec<u8> {
    let ones = |shape: &[i64]| array(shape, &1_f32.to_le_bytes().repeat(shape.iter().product::<i64>() as usize));
    let norm = |name: &str, channels: i64| {
        ["gamma", "beta", "running_mean", "running_var"].map(|field| (format!("{name}_{field}"), ones(&[channels])))
    };
    let mut arrays = vec![("conv0_weight".to_owned(), ones(&[1, 3, 3, 3]))];
    arrays.extend(norm("stage1_batchnorm0", 1));
    arrays.push(("stage1_conv0_weight".into(), ones(&[1, 1, 3, 3])));
    arrays.extend(norm("batchnorm1", 2));
    arrays.extend([("dense0_weight".into(), ones(&[2, 2])), ("dense0_bias".into(), ones(&[2]))]);
    mxnet(&arrays.iter().map(|(name, array)| (name.as_str(), array.clone())).collect::<Vec<_>>())
}

/// One array of four numbers.
pub(crate) fn mxnet_small() -> Vec<u8> {
    mxnet(&[("arg:w", array(&[4], &FOUR))])
}
