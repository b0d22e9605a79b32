//! Small files that ask for much: of memory, of the stack, of time. Each is refused or read within the bounds of any file.

use std::fmt::Write;

use densenet_converters::ErrorKind;

use crate::harness::{alone, exercise};
use crate::make::{
    FOUR, Member, Pickle, Torch7, Zip, archive, container, convolution, crc, dense, four_floats, legacy, legacy_parts,
    norm, relu, safetensors, storage_within, tar, zip,
};

/// The input is refused as malformed, with this in the text.
fn refused(name: &str, bytes: &[u8], cause: &str) {
    let text = exercise(name, bytes).refused(name);
    assert!(text.contains(cause), "{name}: {text}");
}

/// Whatever becomes of it, it stays within bounds.
fn bounded(name: &str, bytes: &[u8]) {
    exercise(name, bytes);
}

// --- nesting -----------------------------------------------------------------------------------------------------------

#[test]
fn nested_tables_of_torch7() {
    let _alone = alone();
    let deep = (1..=200_000).fold(Torch7::default(), |file, index| file.table(index, 1).number(1.0));
    refused("t7 tables, each in the other", &deep.clone().int(0).0, "nested");
    let text: String = (1..=200_000).fold(String::new(), |mut text, index| {
        let _ = write!(text, "3\n{index}\n1\n1\n1\n");
        text
    });
    refused("the same as text", (text + "0\n").as_bytes(), "nested");
    let functions = (1..=200_000).fold(Torch7::default(), |file, index| file.int(8).int(index).raw(b""));
    refused("functions in the upvalues of functions", &functions.int(0).0, "nested");
}

/// No object is within another, but a walk from the last goes through all.
#[test]
fn a_long_chain_of_torch7_objects() {
    let _alone = alone();
    let count = 60_000;
    for class in [None, Some("nn.Sequential")] {
        let mut file = Torch7::default().table(1, count);
        for index in 0..count {
            file = file.number(f64::from(-index));
            file = match class {
                None => file.table(2 * index + 2, 1),
                Some(class) => file.object(2 * index + 2, class).table(2 * index + 3, 1),
            };
            // Numbers of modules do not lengthen the path.
            file = file.text(b"modules");
            file = match (index, class) {
                (0, _) => file.tensor(2 * count + 2, &[1], &[1], &[1.0]),
                (_, None) => file.again(2 * index),
                (_, Some(_)) => file.int(4).int(2 * index),
            };
        }
        bounded("t7 chain of objects", &file.0);
    }
}

/// Each module holds the next one twice: 2^30 ways through 30 modules.
#[test]
fn modules_that_share_their_modules() {
    let _alone = alone();
    let depth = 30;
    let mut file = Torch7::default().table(2000, 2).text(b"weight").tensor(2001, &[1], &[1], &[1.0]).text(b"model");
    for level in 0..depth {
        let index = 3 * level + 1;
        file = file.object(index, "nn.Sequential").table(index + 1, 1).text(b"modules").table(index + 2, 2);
        file = file.number(1.0);
    }
    file = file.object(1000, "nn.Identity").table(1001, 0);
    for level in (0..depth).rev() {
        let next = if level + 1 == depth { 1000 } else { 3 * (level + 1) + 1 };
        file = file.number(2.0).int(4).int(next);
    }
    bounded("t7 modules within modules", &file.0);
}

#[test]
fn nested_lists_and_tuples_of_a_pickle() {
    let _alone = alone();
    for (name, opcode) in [("tuples", &b"\x85"[..]), ("lists", b"]\x94\x86")] {
        refused(name, &Pickle::new(4).op(b"N").repeat(300_000, opcode).stop(), "");
    }
    let lists = Pickle::new(2).repeat(100_000, b"]").repeat(99_999, b"a").stop();
    refused("lists in lists", &lists, "");
}

#[test]
fn nested_json() {
    let _alone = alone();
    refused("json", &safetensors(&format!("{{\"a\":{}", "[".repeat(2_000_000)), &[]), "");
    refused("json", &safetensors(&format!("{{\"a\":{{\"x\":{}", "[".repeat(2_000_000)), &[]), "");
    refused("json", &safetensors(&"{\"a\":".repeat(1_000_000), &[]), "");
}

/// A storage in a storage in a storage.
#[test]
fn nested_storages_of_a_pickle() {
    let _alone = alone();
    let mut inner = storage_within(Pickle::new(3));
    for _ in 0..2000 {
        let object = Pickle::new(3).global("torch.storage", "_load_from_bytes").bytes(&inner).op(b"\x85R0");
        inner = storage_within(object);
    }
    let file = Pickle::new(3).global("torch.storage", "_load_from_bytes").bytes(&inner).op(b"\x85R.").0;
    bounded("storages in storages", &file);
}

/// Each storage reads the one within it many times.
#[test]
fn storages_that_are_read_again_and_again() {
    let _alone = alone();
    let mut inner = storage_within(Pickle::new(3));
    for _ in 0..6 {
        let object = Pickle::new(3).bytes(&inner).put(0).op(b"0").global("torch.storage", "_load_from_bytes").put(1);
        let object = object.op(b"0").repeat(2000, b"h\x01h\x00\x85R0");
        inner = storage_within(object);
    }
    let file = Pickle::new(3).global("torch.storage", "_load_from_bytes").bytes(&inner).op(b"\x85R.").0;
    bounded("storages read again and again", &file);
}

/// Sizes that are a size of a size, without end.
#[test]
fn sizes_that_refer_to_themselves() {
    let _alone = alone();
    let rebuild = |sizes: Pickle| {
        let pickle = sizes.op(b"0").global("torch._utils", "_rebuild_tensor_v2").op(b"(");
        pickle.storage("FloatStorage", "0", 4).op(b"K\x00").get(0).op(b")\x89NtR").stop()
    };
    let two =
        Pickle::new(2).global("builtins", "set").op(b")R").put(0).global("builtins", "set").get(0).op(b"\x85R").put(1);
    let cycle = two.op(b"0").get(0).get(1).op(b"a");
    refused("sizes in a circle", &legacy(&rebuild(cycle), &[("0", 4, &FOUR)]), "");
    let chain = Pickle::new(2).op(b")").put(0).op(b"0");
    let chain = chain.global("torch", "Size").put(1).op(b"0").repeat(60_000, b"h\x01h\x00\x85Rq\x000").get(0);
    refused("sizes in a chain", &legacy(&rebuild(chain), &[("0", 4, &FOUR)]), "");
}

// --- expansion ---------------------------------------------------------------------------------------------------------

/// Ten lists, each of ten times the one before.
#[test]
fn lists_of_lists_through_the_memo() {
    let _alone = alone();
    let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", 4);
    let first = Pickle::new(2).tensor(floats, 0, &[4], &[1]).put(0);
    let lists = first.each(1..=10, |pickle, index| {
        let inner = pickle.op(b"0](");
        inner.each(0..10, |pickle, _| pickle.get(index - 1)).op(b"e").put(index)
    });
    refused("lists of lists", &legacy(&lists.stop(), &[("0", 4, &FOUR)]), "");

    let long = "k".repeat(1 << 20);
    let keys = Pickle::new(2).text(&long).put(0).op(b"0").tensor(floats, 0, &[4], &[1]).put(1);
    let keys = keys.each(2..12, |pickle, index| {
        let inner = pickle.op(b"0}(").get(0).get(index - 1).op(b"K\x01").get(index - 1);
        inner.op(b"u").put(index)
    });
    refused("long keys", &legacy(&keys.stop(), &[("0", 4, &FOUR)]), "");
}

/// One tensor under very many names.
#[test]
fn a_tensor_under_many_names() {
    let _alone = alone();
    let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", 4);
    for count in [50_000, 150_000, 400_000] {
        let pickle = Pickle::new(2).tensor(floats, 0, &[2, 2], &[2, 1]).put(0).op(b"0}(");
        let pickle = pickle.each(0..count, |pickle, key: i32| pickle.op(b"J").op(&key.to_le_bytes()).op(b"h\x00"));
        bounded("pickle, many names", &legacy(&pickle.op(b"u").stop(), &[("0", 4, &FOUR)]));

        let mut file =
            Torch7::default().table(1, count).number(-1.0).tensor(2, &[2, 2], &[2, 1], &[1.0, 2.0, 3.0, 4.0]);
        for key in 1..count {
            file = file.number(f64::from(key)).int(4).int(2);
        }
        bounded("t7, many names", &file.0);
    }
}

/// Layers are counted from names, each layer has a dozen tensors and reads all layers before it.
#[test]
fn a_block_of_very_many_layers() {
    let _alone = alone();
    let view = |pickle: Pickle, shape: &[i64]| {
        let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", 4);
        pickle.tensor(floats, 0, shape, &vec![0; shape.len()])
    };
    for (layers, bottleneck, every, field) in [
        (1_000, false, 2, "norm1.weight"),
        (30_000, false, 2, "norm1.weight"),
        (36_000, true, 2, "norm1.weight"),
        (12_000, false, 1, "conv1.bias"),
    ] {
        let pickle = Pickle::new(2).op(b"}(").text("features.conv0.weight");
        let pickle = view(pickle, &[2, 3, 3, 3]).text("classifier.weight");
        let pickle = view(pickle, &[10, 2]).text("features.denseblock1.denselayer1.conv1.weight");
        let pickle = view(pickle, &[1, 2, 3, 3]).text("features.denseblock1.denselayer1.norm1.weight");
        let pickle = view(pickle, &[1]).put(0);
        let pickle = if bottleneck {
            view(pickle.text("features.denseblock1.denselayer1.conv2.weight"), &[1, 1, 3, 3])
        } else {
            pickle
        };
        let name = |layer: i32, field: &str| format!("features.denseblock1.denselayer{layer}.{field}");
        let pickle =
            pickle.each((3..layers).step_by(2), |pickle, layer| pickle.text(&name(layer, "norm1.weight")).get(0));
        let odd = (2..layers).step_by(every).filter(|_| field != "norm1.weight");
        let pickle = pickle.each(odd, |pickle, layer| pickle.text(&name(layer, field)).get(0));
        bounded("a block of many layers", &legacy(&pickle.op(b"u").stop(), &[("0", 4, &FOUR)]));
    }
}

/// A module with a long list of attributes, met again and again.
#[test]
fn a_large_module_again_and_again() {
    let _alone = alone();
    let pickle = Pickle::new(2).global("net", "Net").op(b")\x81").put(0).op(b"}(").text("_parameters").op(b"}");
    let pickle = pickle.each(0..100_000, |pickle, key: i32| pickle.op(b"J").op(&key.to_le_bytes()).op(b"N"));
    let pickle = pickle.op(b"ub0](").repeat(200_000, b"j\0\0\0\0").op(b"e").stop();
    bounded("a large module", &pickle);

    let states = Pickle::new(2).global("net", "Net").put(0).op(b"0}(");
    let states = states.each(0..100_000, |pickle, key: i32| pickle.op(b"J").op(&key.to_le_bytes()).op(b"N"));
    let states = states.op(b"u").put(1).op(b"0").repeat(100_000, b"h\x00)\x81h\x01b0").op(b"N").stop();
    bounded("objects of one large state", &states);
}

/// A dictionary beside a tensor's sizes, looked through for every tensor.
#[test]
fn a_large_dictionary_given_again_and_again() {
    let _alone = alone();
    let pickle =
        Pickle::new(2).op(b"}(").each(0..120_000, |pickle, key: i32| pickle.op(b"J").op(&key.to_le_bytes()).op(b"N"));
    let pickle = pickle.op(b"u").put(0).op(b"0").storage("FloatStorage", "0", 4).put(1).op(b"0");
    let pickle = pickle.op(b"(").get(1).op(b"K\x00))\x89N").get(0).op(b"t").put(2).op(b"0");
    let pickle = pickle.global("torch._utils", "_rebuild_tensor_v2").put(3).op(b"0").repeat(60_000, b"h\x03h\x02R0");
    bounded("a large dictionary", &legacy(&pickle.op(b"N").stop(), &[("0", 4, &FOUR)]));
}

/// Modules of very many fields, met 2^15 times.
#[test]
fn large_modules_that_are_shared() {
    let _alone = alone();
    for (class, within) in [("nn.Dropout", "x"), ("nn.DataParallelTable", "modules"), ("nn.Sequential", "x")] {
        let depth = 15;
        let mut file = Torch7::default().table(2000, 2).text(b"weight").tensor(2001, &[1], &[1], &[1.0]).text(b"model");
        for level in 0..depth {
            let index = 3 * level + 1;
            file = file
                .object(index, "nn.Sequential")
                .table(index + 1, 1)
                .text(b"modules")
                .table(index + 2, 2)
                .number(1.0);
        }
        let count = 200_000;
        file = file.object(1000, class).table(1001, 1 + if within == "modules" { 0 } else { count });
        if within == "modules" {
            file = file.text(b"modules").table(1002, count);
        } else {
            file = file.text(b"y").int(0);
        }
        for key in 0..count {
            file = file.number(f64::from(key));
            file = if key == 0 { file.object(1003, "nn.Identity").table(1004, 0) } else { file.int(0) };
        }
        for level in (0..depth).rev() {
            let next = if level + 1 == depth { 1000 } else { 3 * (level + 1) + 1 };
            file = file.number(2.0).int(4).int(next);
        }
        bounded("large modules", &file.0);
    }
}

/// Very many objects of the same hundred thousand fields.
#[test]
fn objects_that_share_their_fields() {
    let _alone = alone();
    let (objects, fields) = (30_000, 60_000);
    let mut file = Torch7::default().table(1, objects).number(0.0).object(2, "a").table(3, fields);
    for key in 0..fields {
        file = file.number(f64::from(key)).int(0);
    }
    for index in 1..objects {
        file = file.number(f64::from(index)).object(index + 3, "a").again(3);
    }
    bounded("objects of the same fields", &file.0);
}

/// A factor that is worked into a weight, which is a view of far more elements than its storage has.
#[test]
fn factors_of_views_that_repeat_their_storage() {
    let _alone = alone();
    let file = container(Torch7::default(), 1, "nn.Sequential", 6).number(1.0);
    let file = convolution(file, 10, 3.0, (&[511, 3, 3, 3], &[0; 4]));
    let file = norm(dense(file.number(2.0), 20, 511).number(3.0), 60, 512);
    let file = relu(file.number(4.0), 80).number(5.0).object(90, "nn.Linear").table(91, 1).text(b"weight");
    // Eight million weights over two megabytes.
    let (classes, count) = (1 << 14, 1 << 19);
    let file = file.object(92, "torch.FloatTensor").int(2).long(classes).long(512).long(16).long(1);
    let mut file = file.long(1).object(93, "torch.FloatStorage").long(count);
    file.0.extend(vec![0; 4 * count as usize]);
    let file = file.number(6.0).object(95, "nn.Dropout").table(96, 1).text(b"p").number(0.5);
    let outcome = exercise("a scaled view", &file.0);
    assert_eq!(outcome.raw.as_ref().ok(), Some(&7), "{outcome}");
}

/// One dense layer that a network refers to ten thousand times.
#[test]
fn a_dense_layer_shared_by_all() {
    let _alone = alone();
    let depth = 13;
    let mut file = container(Torch7::default(), 1, "nn.Sequential", 5).number(1.0);
    file = convolution(file, 10, 3.0, (&[1, 3, 3, 3], &[0; 4])).number(2.0);
    for level in 0..depth {
        file = container(file, 1000 + 3 * level, "nn.Sequential", 2).number(1.0);
    }
    file = dense(file, 20, 1);
    for level in (0..depth).rev() {
        let next = if level + 1 == depth { 20 } else { 1000 + 3 * (level + 1) };
        file = file.number(2.0).int(4).int(next);
    }
    let file = relu(norm(file.number(3.0), 60, 2).number(4.0), 80);
    let file =
        file.number(5.0).object(90, "nn.Linear").table(91, 1).text(b"weight").tensor(92, &[2, 2], &[0, 0], &[1.0]);
    bounded("a shared dense layer", &file.0);
}

/// What is unsupported is listed; not without end.
#[test]
fn unsupported_tensors_without_end() {
    let _alone = alone();
    let pickle = Pickle::new(2).global("torch._utils", "_rebuild_sparse_tensor").op(b")R").put(0).op(b"0](");
    let pickle = pickle.repeat(300_000, b"h\x00").op(b"e").stop();
    refused("unsupported tensors", &pickle, "");
}

/// Escapes make a name longer in a header than it is.
#[test]
fn a_name_of_megabytes() {
    let _alone = alone();
    let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", 4);
    for letter in ["k", "\u{1}"] {
        let pickle =
            Pickle::new(2).op(b"}").text(&letter.repeat(8 << 20)).tensor(floats, 0, &[4], &[1]).op(b"s").stop();
        bounded("a long name, pickle", &legacy(&pickle, &[("0", 4, &FOUR)]));
        let file = Torch7::default().table(1, 1).text(letter.repeat(8 << 20).as_bytes());
        bounded("a long name, t7", &file.tensor(2, &[1], &[1], &[1.0]).0);
        let file = Torch7::default().table(1, 2).text(format!("{}1", letter.repeat(8 << 20)).as_bytes());
        let file = file.number(1.0).text(format!("{}2", letter.repeat(8 << 20)).as_bytes());
        bounded("two long names, t7", &file.tensor(2, &[1], &[1], &[1.0]).0);
    }
    let header = |name: &str| format!("{{\"{name}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}}}");
    bounded("a long name, safetensors", &safetensors(&header(&"k".repeat(7 << 20)), &[0]));
    bounded("a long name, safetensors", &safetensors(&header(&"\\u0001".repeat(1 << 20)), &[0]));
    let wrong = header(&"k".repeat(7 << 20)).replace("U8", "U9");
    refused("a long name, safetensors", &safetensors(&wrong, &[0]), "not supported");
}

/// `inspect` shows values; not the same text a thousand times.
#[test]
fn a_long_text_shown_again_and_again() {
    let _alone = alone();
    let long = "k".repeat(1 << 20);
    let pickle = Pickle::new(2).text(&long).put(0).op(b"0](").repeat(2000, b"h\x00").op(b"e").stop();
    bounded("a long text again and again", &pickle);
    let many = Pickle::new(2).op(b"](").repeat(400_000, b"K\x01").op(b"e").stop();
    bounded("a list of many numbers", &many);
}

// --- claims of 2^40 elements -------------------------------------------------------------------------------------------

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

// --- views -------------------------------------------------------------------------------------------------------------

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

// --- what is made of little --------------------------------------------------------------------------------------------

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

// --- compression -------------------------------------------------------------------------------------------------------

#[test]
fn zeros_deflated() {
    let _alone = alone();
    let floats = |count: i64| move |pickle: Pickle| pickle.storage("FloatStorage", "0", count);
    let object = |count| Pickle::new(2).op(b"}").text("w").tensor(floats(count), 0, &[4], &[1]).op(b"s").stop();
    for megabytes in [16, 31, 80] {
        let data = vec![0; megabytes << 20];
        let object = object((megabytes << 18) as i64);
        let bytes = zip(&[("a/data.pkl", Member::Stored(&object)), ("a/data/0", Member::Deflated(&data))]);
        bounded("zeros as a storage", &bytes);
        bounded("zeros as the only file", &zip(&[("zeros.pth", Member::Deflated(&data))]));
        bounded("zeros as the pickle", &zip(&[("a/data.pkl", Member::Deflated(&data))]));
        let fill = Pickle::new(4).op(b"N").repeat(megabytes << 20, b")").stop();
        bounded("tuples as the pickle", &zip(&[("a/data.pkl", Member::Deflated(&fill))]));
        bounded("tuples as the only file", &zip(&[("tuples.pth", Member::Deflated(&fill))]));
        let mut longer = Zip::default();
        let deflated = crate::make::deflated(&[&data[..], &[0]].concat());
        longer.add("a/data.pkl", 8, crc(&data), &deflated, data.len());
        bounded("zeros beyond what is announced", &longer.finish());
    }
    let data = vec![0; 24 << 20];
    let object = object(6 << 20);
    let inner = zip(&[
        ("a/data.pkl", Member::Stored(&object)),
        ("a/data/0", Member::Deflated(&data)),
        ("a/x", Member::Stored(&data)),
    ]);
    bounded("a zip within a zip", &zip(&[("inner.pth", Member::Deflated(&inner))]));
    let many: Vec<_> = (0..20).map(|key| (format!("a/data/{key}"), vec![0; 2 << 20])).collect();
    let parts = Pickle::new(2).op(b"](").each(0..20, |pickle, key| {
        pickle.tensor(|pickle| pickle.storage("FloatStorage", &key.to_string(), 1 << 19), 0, &[1 << 19], &[1])
    });
    let parts = parts.op(b"e").stop();
    let mut members = vec![("a/data.pkl", Member::Stored(&parts))];
    members.extend(many.iter().map(|(name, data)| (name.as_str(), Member::Deflated(data))));
    bounded("many deflated storages", &zip(&members));
}

/// Entries that lie over one another: n of them would be n times the file to check.
#[test]
fn entries_that_overlap() {
    let _alone = alone();
    let (count, size) = (200, 1 << 20);
    let pickle = Pickle::new(2).op(b"](").each(0..count, |pickle, key| {
        pickle.tensor(|pickle| pickle.storage("ByteStorage", &key.to_string(), size as i64), 0, &[1], &[1])
    });
    let pickle = pickle.op(b"e").stop();
    let mut file = Zip::default();
    file.add("a/data.pkl", 0, crc(&pickle), &pickle, pickle.len());
    let mut places = Vec::new();
    for key in 0..count {
        let name = format!("a/data/{key}");
        places.push((name.clone(), file.bytes.len()));
        file.local(&name, 0, 0, size, size);
    }
    let end = file.bytes.len();
    file.bytes.resize(end + size, 7);
    for (name, at) in places {
        file.record(&name, 0, 0, size, size, at);
    }
    refused("overlapping entries", &file.finish(), "");
}

/// Nothing that is read here is a failure of writing, or of a network that is not complete.
#[test]
fn what_is_refused_is_malformed() {
    let _alone = alone();
    let outcome = exercise("nothing", b"");
    assert_eq!(outcome.raw.expect_err("nothing is in it").kind(), ErrorKind::Malformed);
}
