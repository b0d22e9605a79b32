//! What is named once and met again and again: the walk's work is bounded.

use super::{bounded, refused};
use crate::harness::{alone, exercise};
use crate::make::{FOUR, Pickle, Torch7, container, convolution, dense, legacy, norm, relu, safetensors};

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
