//! Pickles that name what could do anything if it were called, in every way that a pickle can. Nothing is ever called here;
//! all are refused, by the name.

use crate::harness::{alone, exercise};
use crate::make::{FOUR, Pickle, archive, legacy};

fn short(pickle: Pickle, text: &str) -> Pickle {
    pickle.op(&[0x8c, text.len() as u8]).op(text.as_bytes())
}

fn stack_global(pickle: Pickle, module: &str, name: &str) -> Pickle {
    short(short(pickle, module), name).op(b"\x93")
}

/// A dictionary with a sound tensor before the rest, so that only the name can be the reason.
fn beside(add: impl Fn(Pickle) -> Pickle) -> Vec<u8> {
    let floats = |pickle: Pickle| pickle.storage("FloatStorage", "0", 4);
    let pickle = Pickle::new(4).op(b"}(").text("w").tensor(floats, 0, &[4], &[1]).text("x");
    add(pickle).op(b"u").stop()
}

fn refused(name: &str, shown: &str, pickle: &[u8]) {
    for (container, bytes) in
        [("zip", archive(pickle, &[("0", &FOUR)])), ("legacy", legacy(pickle, &[("0", 4, &FOUR)]))]
    {
        let name = format!("{name}, {container}");
        let text = exercise(&name, &bytes).refused(&name);
        assert!(text.contains(shown), "{name}: {text}");
        assert!(text.contains("byte "), "{name}: {text}");
    }
}

#[test]
fn a_sound_pickle_of_the_same_form_is_read() {
    let _alone = alone();
    let pickle = beside(|pickle| pickle.op(b"N"));
    assert_eq!(exercise("sound", &archive(&pickle, &[("0", &FOUR)])).raw.ok(), Some(1));
    assert_eq!(exercise("sound", &legacy(&pickle, &[("0", 4, &FOUR)])).raw.ok(), Some(1));
}

#[test]
fn by_every_opcode() {
    let _alone = alone();
    let command = |pickle: Pickle| pickle.text("touch /tmp/PWNED_hostile");
    let cases: [(&str, &str, Vec<u8>); 14] = [
        ("REDUCE", "os.system", beside(|p| command(p.global("os", "system")).op(b"\x85R"))),
        ("INST", "os.system", beside(|p| command(p.op(b"(")).op(b"ios\nsystem\n"))),
        ("OBJ", "os.system", beside(|p| command(p.op(b"(").global("os", "system")).op(b"o"))),
        ("NEWOBJ", "os.system", beside(|p| command(p.global("os", "system")).op(b"\x85\x81"))),
        ("NEWOBJ without arguments", "os.system", beside(|p| p.global("os", "system").op(b")\x81"))),
        ("NEWOBJ_EX", "os.system", beside(|p| command(p.global("os", "system").op(b")}")).op(b"Ns\x92"))),
        ("STACK_GLOBAL", "os.system", beside(|p| command(stack_global(p, "os", "system")).op(b"\x85R"))),
        ("BUILD", "os.system", beside(|p| command(p.global("os", "system")).op(b"b"))),
        ("nothing but the name", "os.system", beside(|p| p.global("os", "system"))),
        ("popped", "os.system", beside(|p| p.global("os", "system").op(b"0N"))),
        ("popped to a mark", "os.system", beside(|p| p.op(b"(").global("os", "system").op(b"1N"))),
        ("popped after a call", "os.system", beside(|p| command(p.global("os", "system")).op(b"\x85R0N"))),
        ("only in the memo", "os.system", beside(|p| p.global("os", "system").put(9).op(b"0N"))),
        ("a key", "os.system", beside(|p| p.op(b"}").global("os", "system").op(b"Ns"))),
    ];
    for (name, shown, pickle) in &cases {
        refused(name, shown, pickle);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a case a way")]
fn by_roundabout_ways() {
    let _alone = alone();
    let state = |pickle: Pickle| pickle.op(b"}").text("_parameters").op(b"}s");
    let cases: Vec<(&str, &str, Vec<u8>)> = vec![
        (
            "memoised strings",
            "os.system",
            beside(|p| {
                let p = short(short(p, "os").op(b"\x94"), "system").op(b"\x9400");
                p.op(b"h\x00h\x01\x93").text("true").op(b"\x85R")
            }),
        ),
        (
            "copyreg",
            "os.system",
            beside(|p| {
                p.global("copyreg", "_reconstructor")
                    .op(b"(")
                    .global("os", "system")
                    .global("builtins", "object")
                    .op(b"NtR")
            }),
        ),
        (
            "copyreg's base",
            "os.system",
            beside(|p| {
                let p = p.global("copyreg", "_reconstructor").op(b"(").global("net", "Net");
                state(p.global("os", "system").op(b"NtR")).op(b"b")
            }),
        ),
        (
            "a module's state",
            "subprocess.Popen",
            beside(|p| state(p.global("subprocess", "Popen").op(b")\x81")).op(b"b")),
        ),
        (
            "a module of Python 2",
            "commands.getoutput",
            beside(|p| state(p.global("commands", "getoutput").op(b")\x81")).op(b"b")),
        ),
        ("torch.hub", "torch.hub.load", beside(|p| p.global("torch.hub", "load").text("x").op(b"\x85R"))),
        (
            "torch.hub as a module",
            "torch.hub.load",
            beside(|p| state(p.global("torch.hub", "load").op(b")\x81")).op(b"b")),
        ),
        ("torch's own load", "torch.load", beside(|p| p.global("torch", "load").text("x").op(b"\x85R"))),
        (
            "a dotted name",
            "torch.nn.os.system",
            beside(|p| stack_global(p, "torch.nn", "os.system").text("x").op(b"\x85R")),
        ),
        (
            "a dotted name of builtins",
            "builtins.eval.__call__",
            beside(|p| stack_global(p, "builtins", "eval.__call__").text("x").op(b"\x85R")),
        ),
        (
            "a dotted name of a harmless one",
            "collections.OrderedDict.fromkeys",
            beside(|p| stack_global(p, "collections", "OrderedDict.fromkeys").op(b")\x85R")),
        ),
        (
            "split elsewhere",
            "os.path.os.system",
            beside(|p| stack_global(p, "os.path", "os.system").text("x").op(b"\x85R")),
        ),
        ("control characters", "os?.system", beside(|p| stack_global(p, "os\u{1b}", "system").text("x").op(b"\x85R"))),
        ("a line feed in the name", "os.sys?tem", beside(|p| stack_global(p, "os", "sys\ntem").text("x").op(b"\x85R"))),
        (
            "a wrapper around it",
            "os.system",
            beside(|p| p.global("torch._utils", "_rebuild_parameter").op(b"(").global("os", "system").op(b"\x89NtR")),
        ),
        (
            "an argument of a harmless one",
            "os.system",
            beside(|p| p.global("collections", "defaultdict").global("os", "system").op(b"\x85R")),
        ),
        (
            "a set state",
            "net.Net",
            beside(|p| {
                let p =
                    state(p.global("net", "Net").op(b")\x81")).op(b"b}").text("__setstate__").global("os", "system");
                p.op(b"sb").text("true").op(b"b")
            }),
        ),
        (
            "source of a module",
            "os.system",
            beside(|p| p.op(b"(").text("module").global("os", "system").text("file").text("source").op(b"tQ")),
        ),
        (
            "getattr",
            "builtins.getattr",
            beside(|p| {
                p.global("builtins", "getattr").op(b"(").global("builtins", "object").text("__subclasses__").op(b"tR")
            }),
        ),
        ("apply", "__builtin__.apply", beside(|p| p.global("__builtin__", "apply").op(b")R"))),
        ("numpy.load", "numpy.load", beside(|p| p.global("numpy", "load").text("x").op(b"\x85R"))),
        ("a class of nobody", "net.Net", beside(|p| p.global("net", "Net").op(b")R"))),
        ("a class without state", "net.Net", beside(|p| p.global("net", "Net").op(b")\x81"))),
        ("a class with other state", "net.Net", beside(|p| p.global("net", "Net").op(b")\x81}b"))),
    ];
    for (name, shown, pickle) in &cases {
        refused(name, shown, pickle);
    }
}

/// What makes a module's object proper does not excuse a call of the same name.
#[test]
fn by_a_name_that_is_also_a_module() {
    let _alone = alone();
    let object = |pickle: Pickle| pickle.global("net", "run").op(b")\x81}").text("_parameters").op(b"}sb");
    for (name, pickle) in [
        ("called before", beside(|p| object(p.global("net", "run").text("x").op(b"\x85R0")))),
        ("called after", beside(|p| object(p).op(b"0").global("net", "run").text("x").op(b"\x85R"))),
        ("instantiated", beside(|p| object(p.op(b"(").text("x").op(b"inet\nrun\n0")))),
        ("made with arguments", beside(|p| object(p.global("net", "run").text("x").op(b"\x85\x810")))),
        (
            "base of another",
            beside(|p| {
                let p =
                    p.global("copyreg", "_reconstructor").op(b"(").global("net", "Net").global("net", "run").op(b"NtR");
                object(p.op(b"}").text("_parameters").op(b"}sb0"))
            }),
        ),
        ("popped", beside(|p| object(p.global("net", "run").text("x").op(b"\x85R0")).op(b"0N"))),
    ] {
        refused(name, "net.run", &pickle);
    }
    let proper = beside(object);
    assert_eq!(exercise("only a module", &archive(&proper, &[("0", &FOUR)])).raw.ok(), Some(1));
}
