//! Very many small things: opcodes, objects, numbers, members.

use std::fmt::Write;

use super::{bounded, refused};
use crate::harness::{alone, exercise};
use crate::make::{FOUR, Member, Pickle, Torch7, four_floats, legacy_parts, safetensors, storage_within, tar, zip};

#[test]
fn megabytes_of_small_opcodes() {
    let _alone = alone();
    let size = 16 << 20;
    for (name, opcode) in [
        ("marks", &b"("[..]),
        ("empty tuples", b")"),
        ("empty lists", b"]"),
        ("empty dictionaries", b"}"),
        ("memoised tuples", b")\x94"),
        ("numbers", b"K\x01"),
        ("duplicates", b"N2"),
        ("nothing, popped", b"N0"),
        ("marks, popped", b"(1"),
        ("calls", b"cbuiltins\nset\n)R"),
        ("names", b"ctorch\nSize\n"),
    ] {
        let pickle = Pickle::new(4).op(b"N").repeat(size / opcode.len(), opcode);
        bounded(name, &pickle.op(b".").0);
    }
    let list = Pickle::new(4).op(b"](").repeat(600_000, b"N").op(b"e.").0;
    bounded("a list of many", &list);
    let pairs = Pickle::new(4).op(b"}(").repeat(500_000, b"N").op(b"u.").0;
    bounded("a dictionary of many", &pairs);
    let rising = Pickle::new(2).op(b"N").each(0..4_000_000_u32, Pickle::put).stop();
    bounded("a memo of many", &rising);
}

/// Four pickles stand before the storages of a stream, each with its own share.
#[test]
fn a_stream_of_full_pickles() {
    let _alone = alone();
    let fill = |value: &[u8]| Pickle::new(2).repeat(130_000, b")").op(b"0").op(value).stop();
    let magic = fill(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
    let system = Pickle::new(2).repeat(130_000, b")").op(b"}").text("little_endian").op(b"\x88s").stop();
    let object = Pickle::new(2).repeat(130_000, b")").op(&four_floats(2)[2..]).0;
    bounded("full pickles", &legacy_parts(&magic, &fill(b"M\xe9\x03"), &system, &object, &[("0", 4, &FOUR)]));
    let mut inner = storage_within(Pickle::new(3));
    for _ in 0..8 {
        let object = Pickle::new(3).repeat(130_000, b")").global("torch.storage", "_load_from_bytes").bytes(&inner);
        inner = storage_within(object.op(b"\x85R0"));
    }
    let whole = Pickle::new(3).global("torch.storage", "_load_from_bytes").bytes(&inner).op(b"\x85R.").0;
    bounded("full pickles within one another", &whole);
}

/// The same arguments, given to call after call.
#[test]
fn a_large_tuple_given_again_and_again() {
    let _alone = alone();
    for (module, name) in [("builtins", "set"), ("net", "Net"), ("collections", "OrderedDict"), ("torch", "Size")] {
        for arguments in [64, 65, 100_000] {
            let pickle = Pickle::new(2).op(b"(").repeat(arguments, b"N").op(b"t").put(0).op(b"0");
            let pickle = pickle.global(module, name).put(1).op(b"0").repeat(200_000, b"h\x01h\x00R0").op(b"N").stop();
            bounded(name, &pickle);
            let pickle = Pickle::new(2).op(b"](").repeat(arguments, b"N)\x86").op(b"e\x85").put(0).op(b"0");
            let pickle = pickle.global(module, name).put(1).op(b"0").repeat(200_000, b"h\x01h\x00R0").op(b"N").stop();
            bounded(name, &pickle);
        }
    }
}

/// One long text, made into bytes again and again.
#[test]
fn text_encoded_again_and_again() {
    let _alone = alone();
    for letter in ["a", "ÿ"] {
        let text = letter.repeat(1 << 20);
        let pickle = Pickle::new(2).text(&text).put(0).op(b"0").global("_codecs", "encode").put(1).op(b"0");
        let encoded = pickle.clone().repeat(2000, b"h\x01h\x00\x85R0").op(b"N").stop();
        refused("encoded text", &encoded, "more objects");
        let text = String::from_utf8(
            storage_within(Pickle::new(2)).iter().flat_map(|&byte| char::from(byte).to_string().into_bytes()).collect(),
        );
        let pickle =
            Pickle::new(2).global("_codecs", "encode").text(&text.expect("characters")).op(b"\x85R").put(0).op(b"0");
        let pickle = pickle.global("torch.storage", "_load_from_bytes").put(1).op(b"0");
        let loaded = pickle.repeat(200_000, b"h\x01h\x00\x85R0").op(b"N").stop();
        bounded("loaded text", &loaded);
    }
    let bytes = [storage_within(Pickle::new(3).op(b"B\0\0\x10\0").op(&vec![0; 1 << 20]).op(b"0"))].concat();
    let pickle =
        Pickle::new(3).bytes(&bytes).put(0).op(b"0").global("torch.storage", "_load_from_bytes").put(1).op(b"0");
    bounded("loaded bytes", &pickle.repeat(10_000, b"h\x01h\x00\x85R0").op(b"N").stop());
}

/// Torch7 files of the smallest objects.
#[test]
fn megabytes_of_small_objects_of_torch7() {
    let _alone = alone();
    let size = 16 << 20;
    bounded("nil, binary", &vec![0; size]);
    bounded("nil, text", &b"0\n".repeat(size / 2));
    bounded(
        "tables, text",
        &(1..1_500_000)
            .fold(String::new(), |mut text, index| {
                let _ = write!(text, "3\n{index}\n0\n");
                text
            })
            .into_bytes(),
    );
    bounded("a table of nil, text", &[&b"3\n1\n4000000\n"[..], &b"0\n".repeat(8_000_000)].concat());
    bounded("references, text", &[&b"3\n1\n0\n"[..], &b"3\n1\n".repeat(4_000_000)].concat());
    let empty = |index: i32| Torch7::default().object(index, "torch.FloatTensor").int(0).long(1).int(0).0;
    bounded("empty tensors", &(1..300_000).flat_map(empty).collect::<Vec<_>>());
    let mut file = Torch7::default().table(1, 300_000);
    for index in 0..300_000 {
        file =
            file.number(f64::from(index)).object(index + 2, "torch.FloatTensor").int(1).long(0).long(1).long(1).int(0);
    }
    bounded("tensors without elements", &file.0);
}

/// Text is shorter than the numbers that it stands for.
#[test]
fn numbers_as_text() {
    let _alone = alone();
    let count = 24 << 20;
    let head =
        format!("4\n1\n3\nV 1\n18\ntorch.DoubleTensor\n1\n{count}\n1\n1\n4\n2\n3\nV 1\n19\ntorch.DoubleStorage\n");
    let digits = b"0 ".repeat(count - 1);
    bounded("doubles of one digit", &[head.as_bytes(), format!("{count}\n").as_bytes(), &digits, b"0\n"].concat());
    let mut many = format!("3\n1\n{}\n", 16).into_bytes();
    for key in 0..16 {
        let (count, index) = (2 << 20, 2 * key + 2);
        many.extend(format!("1\n{key}\n4\n{index}\n3\nV 1\n18\ntorch.DoubleTensor\n1\n{count}\n1\n1\n").into_bytes());
        many.extend(format!("4\n{}\n3\nV 1\n19\ntorch.DoubleStorage\n{count}\n", index + 1).into_bytes());
        many.extend(b"0 ".repeat(count - 1));
        many.extend(b"0\n");
    }
    bounded("doubles of one digit, in sixteen storages", &many);
    let count = 8_i32 << 20;
    let mut file = Torch7::default().object(1, "torch.LongTensor").int(1).int(count).int(1).int(1);
    file = file.object(2, "torch.LongStorage").int(count);
    file.0.extend(vec![1; 4 * (8 << 20)]);
    let outcome = exercise("longs of 32 bits", &file.0);
    assert_eq!(outcome.raw.ok(), Some(1));
}

/// tar and zip keep lists of what is in them.
#[test]
fn containers_of_very_many_members() {
    let _alone = alone();
    let number = |value: i32| [&b"J"[..], &value.to_le_bytes()].concat();
    let count = 1_000_000;
    let count_pickle = Pickle::new(2).op(&number(count)).stop();
    let one =
        [&b"\x80\x02K\x01.\x80\x02(J\0\0\0\0Nctorch\nFloatStorage\nt."[..], &4_i64.to_le_bytes(), &FOUR, b"\x80\x02]."]
            .concat();
    let mut tensors = count_pickle.clone();
    for index in 0..count {
        tensors.extend([&b"("[..], &number(index), b"K\x00Nt.", &[0; 16]].concat());
    }
    let members: &[(&str, &[u8])] = &[("storages", &one), ("tensors", &tensors), ("pickle", b"\x80\x02}.")];
    bounded("tar of many tensors", &tar(members));
    let mut storages = count_pickle.clone();
    for index in 0..count {
        storages.extend([&b"("[..], &number(index), b"Nctorch\nByteStorage\nt.", &[0; 8]].concat());
    }
    storages.extend(*b"].");
    let members: &[(&str, &[u8])] =
        &[("storages", &storages), ("tensors", b"\x80\x02K\x00."), ("pickle", b"\x80\x02}.")];
    bounded("tar of many storages", &tar(members));
    bounded("tar of many members", &tar(&vec![("x", &b""[..]); 40_000]));
    let names: Vec<_> = (1..200_000).map(|index| format!("a/data/{index}")).collect();
    let mut files = vec![("a/data.pkl".to_owned(), four_floats(2)), ("a/data/0".to_owned(), FOUR.to_vec())];
    files.extend(names.into_iter().map(|name| (name, Vec::new())));
    let members: Vec<_> = files.iter().map(|(name, data)| (name.as_str(), Member::Stored(data))).collect();
    bounded("zip of many entries", &zip(&members));
}

#[test]
fn headers_of_very_many_entries() {
    let _alone = alone();
    let entries = |count: usize| {
        let entry = |number: usize| format!("\"{number:x}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
        format!("{{{}}}", (0..count).map(entry).collect::<Vec<_>>().join(","))
    };
    for count in [30_000, 150_000] {
        bounded("many tensors", &safetensors(&entries(count), &[]));
    }
    let pairs: Vec<_> = (0..700_000).map(|number| format!("\"{number:x}\":\"\"")).collect();
    bounded("much metadata", &safetensors(&format!("{{\"__metadata__\":{{{}}}}}", pairs.join(",")), &[]));
    let sizes =
        format!("{{\"a\":{{\"dtype\":\"U8\",\"shape\":[0{}],\"data_offsets\":[0,0]}}}}", ",0".repeat(4_100_000));
    refused("many dimensions", &safetensors(&sizes, &[]), "");
    let sizes = format!("\"shape\":[0{}],", ",0".repeat(32));
    let many = (0..70_000).map(|number| format!("\"{number:x}\":{{\"dtype\":\"U8\",{sizes}\"data_offsets\":[0,0]}}"));
    bounded("many shapes", &safetensors(&format!("{{{}}}", many.collect::<Vec<_>>().join(",")), &[]));
}
