//! Files that are easily read as something else than they say, and errors that repeat what a file says.

use crate::harness::{alone, attempt, exercise, tensors};
use crate::make::{FOUR, Member, Pickle, Torch7, legacy, safetensors, zip};

/// The file holds these elements of one tensor, or is refused: other elements are the one thing that must not be.
fn these_or_refused(name: &str, bytes: &[u8], elements: &[u8]) {
    match attempt(&|| name.to_owned(), bytes) {
        Ok(found) => {
            assert_eq!(found.len(), 1, "{name}");
            let (_, _, data) = found.values().next().expect("one tensor");
            assert_eq!(data, elements, "{name}: other elements, silently");
        }
        Err(error) => println!("{name}: {error}"),
    }
}

/// Protocol 0 writes bytes as text with escapes; as Python 3 and NumPy 2 pickled them.
#[test]
fn bytes_as_escaped_text() {
    let _alone = alone();
    let array = |shape: &str, dtype: &str, data: &str| {
        format!(
            "(dp0\nVw\np1\ncnumpy._core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nc_codecs\nencode\np5\n\
             (Vb\np6\nVlatin1\np7\ntp8\nRp9\ntp10\nRp11\n(I1\n({shape}tp12\ncnumpy\ndtype\np13\n(V{dtype}\np14\nI00\nI01\n\
             tp15\nRp16\n(I3\nV<\np17\nNNNI-1\nI-1\nI0\ntp18\nbI00\n{data}tp19\nbs."
        )
    };
    let encoded = |text: &str| format!("g5\n(V{text}\np20\ng7\ntp21\nRp22\n");
    let bytes = array("I1\n", "i8", &encoded("\u{1}\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000"));
    these_or_refused("a long, protocol 0", bytes.as_bytes(), &1_i64.to_le_bytes());
    let bytes = array("I1\n", "f4", &encoded("\\u0000\\u0000\\u0000?"));
    these_or_refused("a float, protocol 0", bytes.as_bytes(), &0.5_f32.to_le_bytes());
    let bytes = array("I2\n", "u1", &encoded("\\u005cx"));
    these_or_refused("a backslash, protocol 0", bytes.as_bytes(), b"\\x");
    let bytes = array("I4\n", "u1", "S'\\x00\\x01\\n\\''\np20\n");
    these_or_refused("bytes of Python 2, protocol 0", bytes.as_bytes(), b"\0\x01\n'");
    let bytes = array("I2\n", "u1", "S'ab'\np20\n");
    these_or_refused("letters of Python 2, protocol 0", bytes.as_bytes(), b"ab");
}

/// An array has exactly the bytes of its shape.
#[test]
fn arrays_with_more_bytes_than_elements() {
    let _alone = alone();
    let array = |data: &[u8]| {
        let pickle = Pickle::new(3).op(b"}").text("w").global("numpy.core.multiarray", "_reconstruct").op(b"(");
        let pickle = pickle.global("numpy", "ndarray").op(b"K\x00\x85").bytes(b"b").op(b"tR(K\x01K\x02\x85");
        let pickle = pickle.global("numpy", "dtype").op(b"(").text("f4").op(b"K\x00K\x01tR(K\x03").text("<");
        pickle.op(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89").bytes(data).op(b"tbs").stop()
    };
    let found = tensors("two floats", &array(&FOUR[..8])).expect("it is sound");
    assert_eq!(found["w"].2, FOUR[..8]);
    exercise("fewer", &array(&FOUR[..7])).refused("fewer");
    exercise("more", &array(&FOUR[..9])).refused("more");
    exercise("many more", &array(&FOUR)).refused("many more");
}

/// Two keys that are shown as the same name are not two tensors of one name.
#[test]
fn names_that_come_twice() {
    let _alone = alone();
    let pair = |first: Torch7, second: &dyn Fn(Torch7) -> Torch7| {
        second(first.tensor(2, &[1], &[1], &[1.0])).tensor(4, &[1], &[1], &[2.0]).0
    };
    let file = pair(Torch7::default().table(1, 2).number(1.0), &|file| file.text(b"1"));
    attempt(&|| "a number and its text".into(), &file).map(|found| found.len()).expect_err("which is 1?");
    let file = pair(Torch7::default().table(1, 2).text(b"a"), &|file| file.text(b"a"));
    attempt(&|| "a text twice".into(), &file).map(|found| found.len()).expect_err("which is a?");
    let file = Torch7::default().table(1, 2).text(b"a").table(6, 1).text(b"b").tensor(2, &[1], &[1], &[1.0]);
    let file = file.text(b"a.b").tensor(4, &[1], &[1], &[2.0]).0;
    attempt(&|| "a path and a name".into(), &file).map(|found| found.len()).expect_err("which is a.b?");

    let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", 4);
    let pickle = |first: Pickle, second: &dyn Fn(Pickle) -> Pickle| {
        let pickle = second(first.tensor(floats, 0, &[1], &[1])).tensor(floats, 1, &[1], &[1]);
        legacy(&pickle.op(b"u").stop(), &[("0", 4, &FOUR)])
    };
    let file = pickle(Pickle::new(2).op(b"}(K\x01"), &|pickle| pickle.text("1"));
    attempt(&|| "a number and its text".into(), &file).map(|found| found.len()).expect_err("which is 1?");
    let file = pickle(Pickle::new(2).op(b"}(U\x01a"), &|pickle| pickle.text("a"));
    attempt(&|| "a text twice".into(), &file).map(|found| found.len()).expect_err("which is a?");
    let file = pickle(Pickle::new(3).op(b"}(C\x01\xff"), &|pickle| pickle.op(b"C\x01\xfe"));
    attempt(&|| "bytes that are no text".into(), &file).map(|found| found.len()).expect_err("both become U+FFFD");
}

/// Keys of every kind in one table are sorted without a contradiction.
#[test]
fn keys_of_every_kind_have_an_order() {
    let _alone = alone();
    let mut file = Torch7::default().table(1, 400);
    for index in 0..100_u8 {
        let odd = index.wrapping_mul(37);
        file = file.text(&[odd]).int(0);
        file = file.table(10 + i32::from(index), 0).int(0);
        file = file.text(&[b'!' + odd % 90, index]).int(0);
        file = file.int(5).int(i32::from(index % 2)).int(0);
    }
    attempt(&|| "keys of every kind".into(), &file.0).map(|found| found.len()).expect_err("no tensor is in it");
}

/// What errors repeat of a file is escaped and cut.
#[test]
fn errors_are_one_short_line() {
    let _alone = alone();
    let ugly = "x\n\u{1b}[31m\r\u{0}\u{85}y";
    let long = ugly.repeat(100_000);
    let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", 4);
    for text in [ugly, &long] {
        let json = serde_json::Value::from(text).to_string();
        for header in [
            format!("{{\"a\":{{\"dtype\":{json},\"shape\":[4],\"data_offsets\":[0,16]}}}}"),
            format!("{{{json}:{{\"dtype\":\"F99\",\"shape\":[4],\"data_offsets\":[0,16]}}}}"),
            format!("{{{json}:{{\"dtype\":\"F32\",\"shape\":{json},\"data_offsets\":[0,16]}}}}"),
            format!("{{\"a\":{json}}}"),
            format!("{{{json}:{{}},{json}:{{}}}}"),
            format!(
                "{{\"__metadata__\":{{\"eps\":{json}}},\"a\":{{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}}}"
            ),
            format!(
                "{{\"__metadata__\":{{\"protocol\":{json}}},\"a\":{{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}}}"
            ),
            format!(
                "{{\"__metadata__\":{{\"head\":{json}}},\"a\":{{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}}}"
            ),
            format!(
                "{{\"__metadata__\":{{\"labels\":{json}}},\"a\":{{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}}}"
            ),
        ] {
            exercise("safetensors", &safetensors(&header, &FOUR));
        }
        // Two networks, two heads, an unsupported tensor, a storage that is not there.
        let add = |pickle: Pickle, name: &str, shape: &[i64]| {
            pickle.text(name).tensor(floats, 0, shape, &vec![0; shape.len()])
        };
        let file = |pickle: Pickle| legacy(&pickle.op(b"u").stop(), &[("0", 4, &FOUR)]);
        let two = Pickle::new(2).op(b"}(");
        let two = add(two, &format!("{text}.features.conv0.weight"), &[1, 1, 3, 3]);
        let two = add(two, "b.features.conv0.weight", &[1, 1, 3, 3]);
        exercise("two networks", &file(two));
        let head = add(Pickle::new(2).op(b"}("), "features.conv0.weight", &[1, 1, 3, 3]);
        let head = add(head, "features.norm5.weight", &[2]);
        let one = add(head.clone(), &format!("classifier.{text}.weight"), &[2, 3]);
        exercise("a head of another width", &file(one));
        let more = add(add(head, &format!("classifier.{text}.weight"), &[2, 3]), "classifier.1.weight", &[2, 3]);
        exercise("two heads", &file(more));
        let sparse = Pickle::new(2).op(b"}(").text(text).global("torch._utils", "_rebuild_sparse_tensor").op(b")R");
        exercise("unsupported", &file(sparse));
        let absent = |pickle: Pickle| pickle.storage("FloatStorage", text, 4);
        let absent = Pickle::new(2).op(b"}(").text(text).tensor(absent, 0, &[1], &[1]);
        exercise("no storage", &file(absent));
        let key = Pickle::new(2).op(b"}(").text(text).tensor(floats, 9, &[1], &[1]);
        exercise("outside of its storage", &file(key));
        exercise("a name", &file(Pickle::new(2).op(b"}(").text("a").op(b"\x8c\x02os").text(text).op(b"\x93")));
        exercise("a float", &Pickle::new(2).op(b"F").op(text.replace('\n', "").as_bytes()).op(b"\n.").0);
        let name: String = text.chars().take(1000).collect();
        exercise("an entry twice", &zip(&[(&name, Member::Stored(b"1")), (&name, Member::Stored(b"2"))]));
        exercise("an entry", &zip(&[(&name, Member::Stored(text.as_bytes()))]));
        // Torch7: a class, a key, a number as text.
        let bytes = text.as_bytes();
        exercise("a class", &Torch7::default().object(1, text).0);
        exercise("a class of fields", &Torch7::default().object(1, &"c".repeat(text.len())).int(0).0);
        let weight = |file: Torch7| file.tensor(20, &[1], &[1], &[1.0]);
        let module =
            weight(Torch7::default().table(1, 2).text(b"w")).text(bytes).object(4, "nn.Sequential").table(5, 1);
        let module = module.text(b"modules").table(6, 1).number(1.0).object(7, &"nn.Evil".repeat(1 + text.len() / 100));
        exercise("a module", &module.table(8, 0).0);
        exercise("a number", [b"1\n", bytes].concat().as_slice());
    }
    let many = |pickle: Pickle, index: i32| {
        pickle.text(&format!("network{index}.features.conv0.weight")).tensor(floats, 0, &[1, 1, 3, 3], &[0; 4])
    };
    let many = Pickle::new(2).op(b"}(").each(0..2000, many).op(b"u").stop();
    exercise("many networks", &legacy(&many, &[("0", 4, &FOUR)]));
    let many = Pickle::new(2).op(b"}(").text("features.conv0.weight").tensor(floats, 0, &[1, 1, 3, 3], &[0; 4]);
    let many = many.text("features.norm5.weight").tensor(floats, 0, &[2], &[1]).each(0..2000, |pickle, index| {
        pickle.text(&format!("head.{index}.weight")).tensor(floats, 0, &[2, 2], &[2, 1])
    });
    exercise("many heads", &legacy(&many.op(b"u").stop(), &[("0", 4, &FOUR)]));
}
