//! Objects within objects, and chains of them: the stack and the walk are bounded.

use std::fmt::Write;

use super::{bounded, refused};
use crate::harness::alone;
use crate::make::{FOUR, Pickle, Torch7, legacy, safetensors, storage_within};

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
