//! HDF5, protobuf, ONNX and MXNet files that lie, each with the error that it must end in.

use std::io;
use std::process::Command;

use densenet_converters::{Options, Source, convert, neighbours, read};

use crate::harness::{alone, exercise, fixture, tensors};
use crate::make::{FOUR, Member, zip};
use crate::make_ports::{Proto, array, blob, caffe, external, layer, mxnet, mxnet_small, onnx, tensor};

fn refused(name: &str, bytes: &[u8], cause: &str) {
    let text = exercise(name, bytes).refused(name);
    assert!(text.contains(cause) && text.contains("byte "), "{name}: {text}");
}

#[test]
fn hdf5_that_leads_elsewhere_or_lies() {
    let _alone = alone();
    for (name, cause) in [
        ("external_link", "\"w\" is a link into another file; refused"),
        ("external_storage", "data in another file; refused"),
        ("virtual", "a virtual array, whose data lie in other files; refused"),
        ("chunked", "a chunked array, which is not read; h5repack -l CONTI -f NONE makes it whole"),
        ("never_written", "its data were never written"),
        ("shape", "shape [1099511627776] repeats a storage of 16 bytes"),
        ("doubling", "more than 65536 objects; refused"),
        ("cycle", "groups nest more than 24 deep; refused"),
        ("dense_group", "a group of the newest form, which is not read"),
    ] {
        refused(name, &fixture(&format!("hdf5/{name}.h5")), cause);
    }
    // 3000 attributes that are one text take no more memory than it.
    exercise("texts", &fixture("hdf5/texts.h5")).raw.expect("it is sound");
    let soft = tensors("soft_link", &fixture("hdf5/soft_link.h5")).expect("it is sound");
    assert_eq!(soft.keys().collect::<Vec<_>>(), ["w"]);
    let small = tensors("small", &fixture("hdf5/small.h5")).expect("it is sound");
    let floats = [1.0_f32, 2.0, 3.0, 4.0].map(f32::to_le_bytes).concat();
    assert_eq!(small["w"], ("F32".into(), vec![4], floats));
    // 1.5 and -2 as halves.
    assert_eq!(small["g/h"], ("F16".into(), vec![1, 2], vec![0, 0x3e, 0, 0xc0]));
    let cut = fixture("hdf5/small.h5");
    refused("cut", &cut[..cut.len() - 8], "bytes are announced and there are");
    refused("cut early", &cut[..20], "");
    let inside = zip(&[("model.weights.h5", Member::Stored(&fixture("hdf5/external_link.h5")))]);
    refused("a .keras", &inside, "is a link into another file");
}

#[test]
fn protobuf_that_lies() {
    let _alone = alone();
    let one = |blob: Proto| caffe(&[layer("a", "Scale", &["data"], "a", &[blob])]);
    assert_eq!(exercise("sound", &one(blob(&[4]))).raw.ok(), Some(1));
    let huge = 1 << 40;
    let shaped = |shape: &[u64]| {
        let dimensions = shape.iter().fold(Proto::default(), |proto, &size| proto.number(1, size));
        Proto::default().bytes(5, &FOUR).message(7, dimensions)
    };
    refused("a shape", &one(shaped(&[huge])), "repeats a storage of 16 bytes");
    refused("a negative shape", &one(shaped(&[u64::MAX])), "overflows");
    refused("shapes", &one(shaped(&[huge, huge])), "overflows");
    refused("many dimensions", &one(shaped(&[1; 40])), "more than 32 dimensions");
    refused("other numbers", &one(shaped(&[5])), "");
    refused("two kinds", &one(blob(&[4]).bytes(8, &[0; 32])), "numbers of two kinds");
    refused(
        "a length",
        &caffe(&[layer("a", "Scale", &["data"], "a", &[]).announced(7, huge, &[1])]),
        "are announced and 1 are left",
    );
    refused(
        "a group",
        &[&caffe(&[layer("a", "ReLU", &["data"], "a", &[])])[..], &[0x0b]].concat(),
        "a field of wire type 3",
    );
    let packed = Proto::default().bytes(4, &vec![1; 100_000]);
    refused(
        "many sizes",
        &caffe(&[layer("a", "Convolution", &["data"], "a", &[]).message(106, packed)]),
        "more than 65536 numbers",
    );
    // Messages in messages, which nobody follows.
    let deep = (0..20_000).fold(Proto::default(), |inner, _| Proto::default().message(6, inner));
    let graph = Proto::default().message(5, tensor("w", &[4]).bytes(9, &FOUR));
    let node = Proto::default().bytes(4, b"If").message(5, Proto::default().message(6, deep));
    assert_eq!(exercise("deep", &onnx(graph.message(1, node))).raw.ok(), Some(1));
}

#[test]
fn onnx_that_lies() {
    let _alone = alone();
    let of = |tensor: Proto| onnx(Proto::default().message(5, tensor));
    let huge = 1 << 40;
    refused("a shape", &of(tensor("w", &[huge]).bytes(9, &FOUR)), "repeats a storage of 16 bytes");
    refused("a type", &of(Proto::default().number(2, 77).bytes(8, b"w").bytes(9, &FOUR)), "number 77 of onnx.proto's");
    refused("two places", &of(tensor("w", &[4]).bytes(4, &FOUR).number(5, 1)), "several places");
    refused("many dimensions", &of(tensor("w", &[1; 40])), "more than 32 dimensions");
    refused("sparse", &onnx(Proto::default().bytes(15, b"")), "a sparse initialiser");
    refused("no graph", &Proto::default().number(1, 8).message(7, Proto::default()).0, "is the file whole?");
    for file in ["/etc/passwd", "../w", "a/../../w", "./w", "a//b", "c:w", "a\\w", "\0"] {
        refused(
            &file.escape_debug().to_string(),
            &of(external(&[("location", file)])),
            "only files beneath the model's folder are read; refused",
        );
    }
    refused("no file", &of(external(&[])), "external data without a location");
    refused("an offset", &of(external(&[("location", "w"), ("offset", "-1")])), "offset is no number");
    refused("not there", &of(external(&[("location", "w.bin")])), "is not beside the model");
    let many = (0..65)
        .fold(Proto::default(), |graph, number| graph.message(5, external(&[("location", &number.to_string())])));
    let text = neighbours(&onnx(many), "m.onnx").expect_err("65 files").to_string();
    assert!(text.contains("its tensors lie in more than 64 files"), "{text}");
    let entry = |number: u32| Proto::default().bytes(1, number.to_string().as_bytes());
    let many = (0..257).fold(Proto::default(), |model, number| model.message(14, entry(number))).0;
    let whole = onnx(Proto::default().message(5, tensor("w", &[4]).bytes(9, &FOUR)));
    refused("metadata", &[whole, many].concat(), "more than 256 entries of metadata");
    // Maps that double: 2^40 channels in forty nodes.
    let concat = |from: &str, to: &str| {
        let node = Proto::default().bytes(1, from.as_bytes()).bytes(1, from.as_bytes());
        node.bytes(2, to.as_bytes()).bytes(4, b"Concat")
    };
    let conv = Proto::default().bytes(1, b"x").bytes(1, b"w").bytes(2, b"0").bytes(4, b"Conv");
    let weight = tensor("w", &[1, 1, 3, 3]).bytes(9, &[0; 36]);
    let graph = Proto::default().message(5, weight).message(11, Proto::default().bytes(1, b"x")).message(1, conv);
    let doubled = |times: usize| {
        (0..times).fold(graph.clone(), |graph, number| {
            graph.message(1, concat(&number.to_string(), &(number + 1).to_string()))
        })
    };
    let fails = |graph: Proto, cause: &str| {
        let text = exercise("doubling", &onnx(graph)).converted.expect_err("no network").to_string();
        assert!(text.contains(cause), "{text}");
    };
    fails(doubled(40), "it joins more maps than any network has");
    // The largest map that there may be, over and over.
    let again = Proto::default().bytes(1, b"12").bytes(2, b"again").bytes(4, b"Concat");
    let held = (0..260).fold(doubled(12), |graph, _| graph.message(1, again.clone()));
    fails(held, "its maps are of more parts than any network's");
}

#[test]
fn external_data_lie_beside_the_model_and_nowhere_else() {
    let _alone = alone();
    let of = |entries: &[(&str, &str)]| onnx(Proto::default().message(5, external(entries)));
    let model = of(&[("location", "data/w.bin"), ("offset", "4"), ("length", "16")]);
    assert_eq!(neighbours(&model, "m.onnx").expect("it is sound"), ["data/w.bin"]);
    let files = [("data/w.bin".to_owned(), &[&[9; 4], &FOUR[..], &[9; 4]].concat()[..])];
    let source = Source::new(&model).with_neighbours(&files);
    assert_eq!(read(&source).expect("it is sound").tensors()[0].tensor.to_bytes().expect("it is there"), FOUR);
    // Of 09 09 09 09, four floats and 09 09 09 09, by coreutils' sha256sum.
    let digest = "cb1b9bc6f25e3fb99b7817bba21fe347fba06b8590bcedc81d286bf3724b63eb";
    assert_eq!(source.sha256_beside().into_iter().collect::<Vec<_>>(), [("data/w.bin".to_owned(), digest.to_owned())]);
    for (offset, length) in [("12", "16"), ("0", "99"), ("18446744073709551615", "1"), ("99", "0")] {
        let model = of(&[("location", "data/w.bin"), ("offset", offset), ("length", length)]);
        let source = Source::new(&model).with_neighbours(&files);
        let text = read(&source).expect_err("it leaves its file").to_string();
        assert!(text.contains("its data leave \"data/w.bin\", which has 24 bytes"), "{text}");
    }

    // Through the program: a file beneath the folder, a link within it, a link out of it, a folder.
    let folder = tempfile::tempdir().expect("a folder");
    let inside = folder.path().join("model");
    std::fs::create_dir_all(inside.join("data")).expect("it is made");
    let model = of(&[("location", "data/w.bin")]);
    std::fs::write(inside.join("m.onnx"), model).expect("it is written");
    let run = || {
        let output = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"))
            .args(["convert", "--raw", "--force", "-o"])
            .arg(folder.path().join("out.safetensors"))
            .arg(inside.join("m.onnx"))
            .output()
            .expect("the binary runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("it is text"))
    };
    let (code, text) = run();
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("is not beside the model"), "{text}");
    std::fs::write(inside.join("real.bin"), FOUR).expect("it is written");
    std::fs::write(folder.path().join("outside.bin"), FOUR).expect("it is written");
    let place = inside.join("data/w.bin");
    for (target, allowed) in [(inside.join("real.bin"), true), (folder.path().join("outside.bin"), false)] {
        std::os::unix::fs::symlink(target, &place).expect("it is linked");
        let (code, text) = run();
        assert_eq!(code == Some(0), allowed, "{text}");
        assert_eq!(text.contains("a link that leads out of the model's folder; refused"), !allowed, "{text}");
        std::fs::remove_file(&place).expect("it is there");
    }
    std::fs::create_dir(&place).expect("it is made");
    assert!(run().1.contains("it is no plain file"));
}

#[test]
fn npz_that_lies() {
    let _alone = alone();
    let array = |header: &str| {
        let len = (header.len() as u32).to_le_bytes();
        zip(&[("w.npy", Member::Stored(&[b"\x93NUMPY\x02\0", &len[..], header.as_bytes(), &FOUR].concat()))])
    };
    let header = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    assert_eq!(exercise("sound", &array(&header("(4,)"))).raw.ok(), Some(1));
    refused("a shape", &array(&header("(1099511627776,)")), "repeats a storage of 16 bytes");
    refused("a negative size", &array(&header("(-4,)")), "its header says no shape that is read");
    refused("a long header", &array(&(header("(4,)") + &" ".repeat(70_000))), "with a header too long");
    refused("objects", &array(&header("(4,)").replace("<f4", "|O")), "its header says no descr that is read");
}

#[test]
fn mxnet_that_lies() {
    let _alone = alone();
    assert_eq!(exercise("sound", &mxnet_small()).raw.ok(), Some(1));
    let with = |at: usize, value: u64| {
        let mut bytes = mxnet_small();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    for count in [2, 1 << 40, u64::MAX] {
        refused("a count of arrays", &with(16, count), "");
        refused("a count of names", &with(24 + 44, count), "");
        refused("a name's length", &with(24 + 44 + 8, count + 10), "are announced");
    }
    refused("a count", &with(16, 1 << 40), "1099511627776 are announced and");
    // All there, and more than any network has.
    let many = vec![("w", array(&[4], &FOUR)); 32_769];
    refused("many arrays", &mxnet(&many), "32769 are announced and");
    let one = |array: Vec<u8>| mxnet(&[("w", array)]);
    refused("a size", &one(array(&[1 << 40], &FOUR)), "are announced");
    refused("sizes", &one(array(&[1 << 40, 1 << 40], &FOUR)), "are announced");
    refused("a negative size", &one(array(&[-4], &FOUR)), "a negative size");
    refused("many dimensions", &one(array(&[1; 40], &FOUR)), "an array of 40 dimensions");
    let mut sparse = array(&[4], &FOUR);
    sparse[4] = 1;
    refused("sparse", &one(sparse), "a sparse array, which is not supported");
    let mut odd = array(&[4], &FOUR);
    odd[28] = 99;
    refused("a type", &one(odd), "an array of type 99, which is unknown");
    refused("a byte more", &[&mxnet_small()[..], &[0]].concat(), "1 bytes follow the last name");
    refused(
        "a name twice",
        &mxnet(&[("w", array(&[1], &FOUR[..4])), ("w", array(&[1], &FOUR[..4]))]),
        "it comes twice",
    );
}

#[test]
fn symbols_that_lie() {
    let _alone = alone();
    let model = mxnet_small();
    let attempt = |text: &str| {
        let files = [("m-symbol.json".to_owned(), text.as_bytes())];
        let source = Source::new(&model).with_neighbours(&files);
        let written = convert(&source, &Options::default()).and_then(|conversion| conversion.write(&mut io::sink()));
        written.expect_err("no network").to_string()
    };
    assert_eq!(neighbours(&model, "m-0001.params").expect("it is sound"), ["m-symbol.json"]);
    let node = |inputs: &str| format!("{{\"nodes\":[{{\"op\":\"relu\",\"name\":\"a\",\"inputs\":{inputs}}}]}}");
    for (text, cause) in [
        ("{}".to_owned(), "missing field `nodes`"),
        ("[".repeat(100_000), "mxnet symbol: byte 0: m-symbol.json: "),
        (node("[[0,0,0]]"), "node 0 reads what does not come before it"),
        (node("[[7,0,0]]"), "node 0 reads what does not come before it"),
        (node("[[]]"), "node 0 reads what does not come before it"),
        (node("[]"), "node 0, \"a\" (relu), does not fit: its input is no value before it"),
        (" ".repeat(3 << 20), "no DenseNet's symbol has more than 2097152"),
    ] {
        let text = attempt(&text);
        assert!(text.contains(cause), "{text}");
    }
}
