//! One small file of each format.

use crate::harness::fixture;
use crate::make::{
    FOUR, Member, NETWORK, Pickle, Torch7, archive, four_floats, legacy, network, network_of_modules, safetensors,
    storage_within, tar, zip,
};
use crate::make_ports::{caffe_network, mxnet_network, onnx_network};

/// Where a file's own checksums show damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksums {
    None,
    /// CRC-32 of every entry.
    Zip,
    /// None, and no end either: cut between two of its parts, it is a smaller file of its sort.
    NoEnd,
}

/// A file of a format.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) checksums: Checksums,
}

fn floats(pickle: Pickle) -> Pickle {
    pickle.storage("FloatStorage", "0", 4)
}

/// A module, its class and its state.
fn module(class: (&str, &str)) -> Vec<u8> {
    let pickle = Pickle::new(2).global(class.0, class.1).op(b")\x81}(").text("_parameters").op(b"}");
    let pickle = pickle.text("weight").tensor(floats, 0, &[2, 2], &[2, 1]).op(b"s");
    let pickle = pickle.text("_buffers").op(b"}").text("_modules").op(b"}").text("training").op(b"\x89ub");
    pickle.stop()
}

fn torchscript() -> Vec<u8> {
    let object = Pickle::new(2).global("__torch__", "Net").op(b")\x81}(").text("training").op(b"\x89");
    let object = object.text("weight").tensor(floats, 0, &[2, 2], &[2, 1]).op(b"ub").stop();
    zip(&[
        ("a/data.pkl", Member::Stored(&object)),
        ("a/constants.pkl", Member::Stored(b"\x80\x02).")),
        ("a/data/0", Member::Stored(&FOUR)),
        ("a/version", Member::Stored(b"3\n")),
    ])
}

fn tar_of_torch() -> Vec<u8> {
    let storages = b"\x80\x02K\x01.\x80\x02(K\x01Nctorch\nFloatStorage\nt.";
    let storages = [&storages[..], &4_i64.to_le_bytes(), &FOUR, b"\x80\x02]((K\x02K\x01K\x01K\x02te."].concat();
    let sizes = [2_i64, 2, 2, 1, 0].map(i64::to_le_bytes).concat();
    let tensors = [&b"\x80\x02K\x02.\x80\x02(K\x03K\x01Nt."[..], &[2, 0, 0, 0, 0, 0, 0, 0], &sizes].concat();
    let sizes = [2_i64, 1, 0].map(i64::to_le_bytes).concat();
    let tensors = [&tensors[..], b"\x80\x02(K\x04K\x02Nt.", &[1, 0, 0, 0, 0, 0, 0, 0], &sizes].concat();
    let object = Pickle::new(2).op(b"}(").text("w").op(b"K\x03Q").text("b").op(b"K\x04Qu").stop();
    tar(&[("storages", &storages), ("tensors", &tensors), ("pickle", &object)])
}

/// The last thing in it is a number, with nothing but a line feed behind.
fn ascii_ending_in_a_number() -> Vec<u8> {
    b"4\n1\n3\nV 1\n17\ntorch.FloatTensor\n1\n2\n1\n1\n4\n2\n3\nV 1\n18\ntorch.FloatStorage\n2\n1.25 3.75\n".to_vec()
}

fn safetensors_network() -> Vec<u8> {
    let mut at = 0;
    let entries = NETWORK.iter().map(|(name, shape)| {
        let from = at;
        at += 2 * shape.iter().product::<i64>();
        format!("\"{name}\":{{\"dtype\":\"F16\",\"shape\":{shape:?},\"data_offsets\":[{from},{at}]}}")
    });
    let metadata =
        r#""__metadata__":{"architecture":"densenet(1)-k1-s1","eps":"0.001","head":"log_softmax","num_classes":"2"}"#;
    let header = format!("{{{metadata},{}}}", entries.collect::<Vec<_>>().join(","));
    safetensors(&header, &[0, 0x3c].repeat(at as usize / 2))
}

/// Four numbers, columns first, in the other byte order.
fn npy() -> Vec<u8> {
    let header = format!("{:<117}\n", "{'descr': '>f4', 'fortran_order': True, 'shape': (2, 2), }");
    [&b"\x93NUMPY\x01\x00\x76\x00"[..], header.as_bytes(), &FOUR].concat()
}

/// A sample of every format, none above 12 kB.
pub(crate) fn samples() -> Vec<Sample> {
    use Checksums::{NoEnd, None, Zip};
    let object = four_floats(2);
    let sample = |name, checksums, bytes: Vec<u8>| {
        assert!(bytes.len() < 12_000, "{name} has {} bytes", bytes.len());
        Sample { name, bytes, checksums }
    };
    let small = archive(&object, &[("0", &FOUR)]);
    let deflated = zip(&[("a/data.pkl", Member::Deflated(&object)), ("a/data/0", Member::Deflated(&FOUR))]);
    let inner = legacy(&object, &[("0", 4, &FOUR)]);
    let within = storage_within(Pickle::new(3));
    let memory = |pickle: Pickle| pickle.global("torch.storage", "_load_from_bytes").bytes(&within).op(b"\x85R");
    let bare = Pickle::new(3).op(b"}").text("w").tensor(memory, 0, &[4], &[1]).op(b"s").stop();
    let header = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"I64","shape":[1],"data_offsets":[16,24]}}"#;
    let modules = Torch7::default().object(1, "nn.Sequential").table(2, 1).text(b"modules").table(3, 2).number(1.0);
    let modules = modules.object(4, "nn.SpatialConvolution").table(5, 2).text(b"weight");
    let modules = modules.tensor(6, &[1, 1, 3, 3], &[9, 9, 3, 1], &[1.0; 9]).text(b"kW").number(3.0).number(2.0);
    let modules = modules.object(8, "nn.Linear").table(9, 1).text(b"weight").tensor(10, &[2, 1], &[1, 1], &[2.0; 2]);
    vec![
        sample("t7, 64-bit longs", None, fixture("torch7/format/tensors.t7")),
        sample("t7, 32-bit longs", None, fixture("torch7/format/long32.t7")),
        sample("t7, big-endian", None, fixture("torch7/format/big_endian.t7")),
        sample("t7, modules", None, modules.0),
        sample("t7 as text", None, fixture("torch7/format/tensors.ascii.t7")),
        sample("t7 as text, a number last", None, ascii_ending_in_a_number()),
        sample("zip of torch", Zip, fixture("pytorch/dtypes_zip.pt")),
        sample("zip, small", Zip, small.clone()),
        sample("zip of a module", Zip, archive(&module(("net", "Net")), &[("0", &FOUR)])),
        sample("zip, deflated", Zip, deflated),
        sample("zip in a zip", Zip, zip(&[("x.pt", Member::Stored(&small))])),
        sample("deflated zip in a zip", Zip, zip(&[("x.pth", Member::Deflated(&inner))])),
        sample("TorchScript", Zip, torchscript()),
        sample("legacy", None, fixture("pytorch/dtypes_legacy.pth")),
        sample("legacy, small", None, inner),
        sample("tar", None, tar_of_torch()),
        sample("pickle", None, bare),
        sample("pickle of NumPy arrays", None, fixture("pytorch_more/numpy_odd_arrays_proto4.pkl")),
        sample("safetensors", None, fixture("pytorch/dtypes_expected.safetensors")),
        sample("t7, a network", None, network().0),
        sample("legacy, a network of modules", None, legacy(&network_of_modules(), &[("0", 4, &FOUR)])),
        sample("zip, a network of modules", Zip, archive(&network_of_modules(), &[("0", &FOUR)])),
        sample("safetensors, a network", None, safetensors_network()),
        sample("caffe, a network", NoEnd, caffe_network()),
        sample("onnx, a network", None, onnx_network()),
        sample("mxnet, a network", None, mxnet_network()),
        sample("mxnet, the first form", None, fixture("mxnet/half.params")),
        sample("hdf5", None, fixture("hdf5/small.h5")),
        sample("hdf5 of the newer form, a network", None, fixture("hdf5/network_latest.h5")),
        sample("npz", Zip, zip(&[("w.npy", Member::Stored(&npy())), ("v.npy", Member::Deflated(&npy()))])),
        sample("keras", Zip, zip(&[("model.weights.h5", Member::Stored(&fixture("hdf5/small.h5")))])),
        sample("safetensors, small", None, safetensors(header, &[&FOUR[..], &[1; 8]].concat())),
    ]
}
