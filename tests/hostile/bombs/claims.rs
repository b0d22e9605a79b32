//! Sizes of 2^40 that are announced, and views that repeat a small storage: memory is bounded.

use super::{bounded, refused};
use crate::harness::alone;
use crate::make::{FOUR, Pickle, Torch7, Zip, archive, legacy, safetensors, tar};

#[test]
fn claims_of_a_trillion_elements() {
    let _alone = alone();
    let huge = 1_i64 << 40;
    let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", huge);
    let object = Pickle::new(2).op(b"}").text("w").tensor(floats, 0, &[huge], &[1]).op(b"s").stop();
    refused("zip", &archive(&object, &[("0", &FOUR)]), "");
    refused("legacy", &legacy(&object, &[("0", huge, &FOUR)]), "announced");
    let four = |pickle: Pickle| pickle.storage("FloatStorage", "0", 4);
    let object = Pickle::new(2).op(b"}").text("w").tensor(four, 0, &[huge], &[0]).op(b"s").stop();
    refused("zip, stride 0", &archive(&object, &[("0", &FOUR)]), "repeats");
    refused("legacy, stride 0", &legacy(&object, &[("0", 4, &FOUR)]), "repeats");

    let header = format!("{{\"w\":{{\"dtype\":\"F32\",\"shape\":[{huge}],\"data_offsets\":[0,{}]}}}}", huge * 4);
    refused("safetensors", &safetensors(&header, &FOUR), "outside the file");
    let header = format!("{{\"w\":{{\"dtype\":\"F32\",\"shape\":[{huge}],\"data_offsets\":[0,16]}}}}");
    refused("safetensors", &safetensors(&header, &FOUR), "");

    let storage = Torch7::default().object(1, "torch.FloatStorage").long(huge);
    refused("t7 storage", &storage.0, "announced");
    refused("t7 strides", &Torch7::default().tensor(1, &[huge], &[0], &[1.0]).0, "repeats");
    refused("t7 table", &Torch7::default().table(1, i32::MAX).int(0).0, "does not fit");
    refused("t7 text", &Torch7::default().int(2).int(i32::MAX).0, "announced");
    refused("t7 as text", format!("4\n1\n3\nV 1\n18\ntorch.FloatStorage\n{huge}\n1 2 3\n").as_bytes(), "announced");
    refused("t7 as text", format!("3\n1\n{}\n0\n", i32::MAX).as_bytes(), "does not fit");

    for opcode in [&b"\x8d"[..], b"\x8e", b"\x96", b"\x95"] {
        refused("pickle", &Pickle::new(4).op(opcode).op(&(1_u64 << 40).to_le_bytes()).op(b"1234.").0, "bytes");
    }
    refused("pickle", &Pickle::new(4).op(b"\x8b").op(&i32::MAX.to_le_bytes()).op(b"1234.").0, "announced");

    let mut lies = Zip::default();
    lies.add("a/data.pkl", 8, 0, &[3, 0], usize::MAX);
    refused("zip, inflated", &lies.finish(), "inflate");
    let text: Vec<u8> = tar(&[("storages", b"")]);
    let mut text = text;
    text[124..136].copy_from_slice(b"77777777777\0");
    refused("tar", &text, "announced");

    let storages = [&b"\x80\x02K\x01.\x80\x02(K\x01Nctorch\nFloatStorage\nt."[..], &huge.to_le_bytes(), &FOUR].concat();
    let members: &[(&str, &[u8])] =
        &[("storages", &storages), ("tensors", b"\x80\x02K\x00."), ("pickle", b"\x80\x02}.")];
    refused("tar storage", &tar(members), "");
}

/// Empty tensors may be of any size in their other dimensions.
#[test]
fn empty_tensors_of_a_trillion() {
    let _alone = alone();
    let huge = 1_i64 << 62;
    let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", 4);
    for shape in [[0, huge, huge, 1], [huge, huge, 0, 1], [huge, 0, 3, 3], [0, 0, huge, huge]] {
        let pickle = Pickle::new(2).op(b"}(").text("features.conv0.weight").tensor(floats, 0, &shape, &[huge; 4]);
        let pickle = pickle.text("classifier.weight").tensor(floats, 0, &shape[..2], &[1; 2]);
        let pickle = pickle.text("features.denseblock1.denselayer1.conv1.weight").tensor(floats, 0, &shape, &[0; 4]);
        bounded("empty tensors", &legacy(&pickle.op(b"u").stop(), &[("0", 4, &FOUR)]));
        let header = format!("{{\"w\":{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[0,0]}}}}");
        bounded("empty tensors, safetensors", &safetensors(&header, &[]));
    }
}

/// Each tensor repeats its storage within reason, all together do not.
#[test]
fn terabytes_of_stride_zero() {
    let _alone = alone();
    let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", 4);
    let each = |pickle: Pickle, key: i32| {
        let pickle = pickle.op(b"J").op(&key.to_le_bytes());
        pickle.tensor(floats, 0, &[1 << 18], &[0])
    };
    let pickle = Pickle::new(2).op(b"}(").each(0..4000, each).op(b"u").stop();
    refused("views of stride 0, pickle", &legacy(&pickle, &[("0", 4, &FOUR)]), "repeat their storages");
    refused("views of stride 0, zip", &archive(&pickle, &[("0", &FOUR)]), "repeat their storages");
    let shared =
        Pickle::new(2).tensor(floats, 0, &[1 << 18], &[0]).put(0).op(b"0](").repeat(9000, b"h\x00").op(b"e").stop();
    refused("one view of stride 0", &legacy(&shared, &[("0", 4, &FOUR)]), "repeat their storages");
    let mut file = Torch7::default().table(1, 1000);
    for index in 0..1000 {
        file = file.number(f64::from(index)).tensor(2 * index + 2, &[1 << 18], &[0], &[1.0]);
    }
    refused("views of stride 0, t7", &file.0, "repeat their storages");
}

/// A part of a storage that is checked first: not a copy for every tensor.
#[test]
fn parts_of_a_storage_again_and_again() {
    let _alone = alone();
    let data = vec![0; 4 << 20];
    let part = |pickle: Pickle| {
        let pickle = pickle.op(b"(").text("storage").global("torch", "FloatStorage").text("0").text("cpu").int(1 << 20);
        pickle.op(b"(").text("1").int(1).int((1 << 20) - 1).op(b"ttQ")
    };
    let pickle = Pickle::new(2).tensor(part, 0, &[4], &[1]).put(0).op(b"0](").repeat(500, b"h\x00").op(b"e").stop();
    bounded("parts of a storage", &archive(&pickle, &[("0", &data)]));
}

/// What is worked into a tensor needs room for its values, and a view may have many more than its storage.
#[test]
fn statistics_that_repeat_their_storage() {
    let _alone = alone();
    let count = 1_i64 << 20;
    let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", count);
    let module = |pickle: Pickle, name: &str, eps: Option<f64>, tensors: &[(&str, &[i64])]| {
        let pickle = pickle.text(name).global("net", "Net").op(b")\x81}(").text("_parameters").op(b"}(");
        let pickle = pickle.each(tensors, |pickle, (name, shape)| {
            let strides = [&vec![0; shape.len() - 1][..], &[1]].concat();
            pickle.text(name).tensor(floats, 0, shape, &strides)
        });
        let pickle = pickle.op(b"u");
        let pickle = match eps {
            Some(eps) => pickle.text("eps").op(b"G").op(&eps.to_be_bytes()),
            None => pickle,
        };
        pickle.op(b"ub")
    };
    let pickle =
        Pickle::new(2).global("net", "Net").op(b")\x81}(").text("_parameters").op(b"}").text("_modules").op(b"}(");
    let pickle = module(pickle, "features.conv0", None, &[("weight", &[1, 1, 3, 3])]);
    let pickle = module(pickle, "features.denseblock1.denselayer1.conv1", None, &[("weight", &[1, 1, 3, 3])]);
    let pickle = module(pickle, "features.norm0", Some(1e-5), &[("weight", &[1])]);
    let pickle = module(pickle, "features.norm5", Some(2e-5), &[("weight", &[2]), ("running_var", &[15, count])]);
    let pickle = module(pickle, "classifier", None, &[("weight", &[2, 2])]);
    let pickle = pickle.op(b"uub").stop();
    bounded("statistics", &archive(&pickle, &[("0", &vec![0; 4 << 20])]));
}
