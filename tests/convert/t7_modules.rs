//! Modules that no fixture holds: a network of one dense layer, written as Torch's text form and changed in one place.

use std::fmt::Write;

use densenet_arch::Head;
use densenet_converters::{Choice, Conversion, Options, Source, convert};

/// A value of a `.t7`.
#[derive(Clone)]
enum Lua {
    Number(f64),
    Boolean(bool),
    List(Vec<Lua>),
    Table(Vec<(&'static str, Lua)>),
    Tensor(Vec<usize>, Vec<f32>),
    Object { class: &'static str, version: u32, before: Option<Box<Lua>>, fields: Vec<(&'static str, Lua)> },
}

use Lua::{Boolean, List, Number, Table};

fn object(class: &'static str, version: u32, fields: Vec<(&'static str, Lua)>) -> Lua {
    Lua::Object { class, version, before: None, fields }
}

/// Appends the object's text; every object gets an index of its own.
fn write(value: &Lua, index: &mut usize, out: &mut String) {
    let mut next = || {
        *index += 1;
        *index
    };
    let text = |string: &str| format!("{}\n{string}\n", string.len());
    match value {
        Number(number) => {
            let _ = write!(out, "1\n{number}\n");
        }
        Boolean(boolean) => {
            let _ = write!(out, "5\n{}\n", u8::from(*boolean));
        }
        List(items) => {
            let _ = write!(out, "3\n{}\n{}\n", next(), items.len());
            for (number, item) in (1..).zip(items) {
                let _ = write!(out, "1\n{number}\n");
                write(item, index, out);
            }
        }
        Table(pairs) => {
            let _ = write!(out, "3\n{}\n{}\n", next(), pairs.len());
            for (key, item) in pairs {
                let _ = write!(out, "2\n{}", text(key));
                write(item, index, out);
            }
        }
        Lua::Tensor(shape, values) => {
            let line = |sizes: &[usize]| sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
            let strides: Vec<_> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
            let _ = write!(out, "4\n{}\n{}{}", next(), text("V 1"), text("torch.FloatTensor"));
            let _ = write!(out, "{}\n{}\n{}\n1\n", shape.len(), line(shape), line(&strides));
            let _ = write!(out, "4\n{}\n{}{}", next(), text("V 1"), text("torch.FloatStorage"));
            let numbers: Vec<_> = values.iter().map(f32::to_string).collect();
            let _ = write!(out, "{}\n{}\n", values.len(), numbers.join(" "));
        }
        Lua::Object { class, version, before, fields } => {
            let _ = write!(out, "4\n{}\n{}{}", next(), text(&format!("V {version}")), text(class));
            if let Some(before) = before {
                write(before, index, out);
            }
            write(&Table(fields.clone()), index, out);
        }
    }
}

fn file(root: &Lua) -> Vec<u8> {
    let mut out = String::new();
    write(root, &mut 0, &mut out);
    out.into_bytes()
}

fn filled(shape: &[usize]) -> Lua {
    let values = (0..shape.iter().product()).map(|n: usize| n as f32 + 1.0).collect();
    Lua::Tensor(shape.to_vec(), values)
}

fn conv(input: usize, output: usize, kernel: usize, more: Vec<(&'static str, Lua)>) -> Lua {
    let mut fields = vec![("weight", filled(&[output, input, kernel, kernel]))];
    let size = |value: usize| Number(value as f64);
    fields.extend([
        ("nInputPlane", size(input)),
        ("nOutputPlane", size(output)),
        ("kW", size(kernel)),
        ("kH", size(kernel)),
    ]);
    // What is said later counts.
    for (name, value) in [("padW", size(kernel / 2)), ("padH", size(kernel / 2))].into_iter().chain(more) {
        fields.retain(|(known, _)| *known != name);
        fields.push((name, value));
    }
    object("nn.SpatialConvolution", 1, fields)
}

fn norm(channels: usize, version: u32, fields: Vec<(&'static str, Lua)>) -> Lua {
    let mean = vec![("running_mean", filled(&[channels]))];
    object("nn.SpatialBatchNormalization", version, mean.into_iter().chain(fields).collect())
}

fn plain_norm(channels: usize) -> Lua {
    let fields = ["weight", "bias", "running_var"].map(|name| (name, filled(&[channels])));
    norm(channels, 2, fields.to_vec())
}

fn relu() -> Lua {
    object("nn.ReLU", 1, Vec::new())
}

fn pool(fields: Vec<(&'static str, Lua)>) -> Lua {
    let sizes = ["kW", "kH", "dW", "dH"].map(|name| (name, Number(4.0)));
    object("nn.SpatialAveragePooling", 1, sizes.into_iter().chain(fields).collect())
}

fn divided() -> Lua {
    pool(vec![("divide", Boolean(true))])
}

fn sequential(modules: Vec<Lua>) -> Lua {
    object("nn.Sequential", 1, vec![("modules", List(modules))])
}

/// A dense layer over two channels that adds one.
fn dense(container: &'static str, first: Lua) -> Lua {
    let net = sequential(vec![first, relu(), conv(2, 1, 3, Vec::new())]);
    object(container, 1, vec![("modules", List(vec![object("nn.Identity", 1, Vec::new()), net]))])
}

/// conv0 (1 -> 2), one dense layer, the last norm over 3 channels, the classifier of 2 classes. Each part can be another.
struct Network {
    conv0: Lua,
    layer: Vec<Lua>,
    norm5: Vec<Lua>,
    pool: Lua,
    tail: Vec<Lua>,
}

impl Network {
    fn new() -> Self {
        Self {
            conv0: conv(1, 2, 3, Vec::new()),
            layer: vec![dense("nn.Concat", plain_norm(2))],
            norm5: vec![plain_norm(3), relu()],
            pool: divided(),
            tail: Vec::new(),
        }
    }

    fn root(self) -> Lua {
        let linear = object("nn.Linear", 1, vec![("weight", filled(&[2, 3])), ("bias", filled(&[2]))]);
        let parts = [vec![self.conv0], self.layer, self.norm5, vec![self.pool, linear], self.tail];
        sequential(parts.into_iter().flatten().collect())
    }
}

/// What a file becomes, handed to `check`.
fn with(root: &Lua, check: impl FnOnce(&Conversion)) {
    let bytes = file(root);
    let source = Source::new(&bytes);
    let conversion = convert(&source, &Options::default()).unwrap();
    assert!(conversion.report.is_complete(false), "{}", conversion.report);
    check(&conversion);
}

fn refusal(root: &Lua) -> String {
    let bytes = file(root);
    convert(&Source::new(&bytes), &Options::default()).unwrap_err().to_string()
}

fn values(conversion: &Conversion, name: &str) -> Vec<f32> {
    let found = conversion.tensors.iter().find(|named| named.name == name);
    found.unwrap_or_else(|| panic!("{name} is not there")).tensor.to_f32().unwrap()
}

/// A checkpoint of the network and of so many numbers that have nothing to do with it.
pub(crate) fn beside_numbers(count: usize) -> Vec<u8> {
    file(&Table(vec![("model", Network::new().root()), ("numbers", filled(&[count]))]))
}

#[test]
fn the_network_itself_converts_and_so_does_another_way_to_write_its_layers() {
    with(&Network::new().root(), |conversion| {
        assert_eq!(conversion.config.block_config, [1]);
        assert_eq!((conversion.config.growth_rate, conversion.config.num_classes), (1, 2));
        assert_eq!(values(conversion, "features.norm5.running_var"), [1.0, 2.0, 3.0]);
    });
    let join = object("nn.JoinTable", 1, Vec::new());
    let table = Network { layer: vec![dense("nn.ConcatTable", plain_norm(2)), join], ..Network::new() };
    with(&table.root(), |conversion| assert_eq!(conversion.config.block_config, [1]));
    let tail = vec![object("nn.LogSoftMax", 1, Vec::new())];
    with(&Network { tail, ..Network::new() }.root(), |conversion| {
        assert_eq!(conversion.config.head, Head::LogSoftmax);
        assert_eq!(conversion.metadata.to_map()["head"], "log-softmax");
    });
    let single = conv(1, 2, 3, vec![("padding", Number(1.0))]);
    let Lua::Object { class, version, before, mut fields } = single else { unreachable!() };
    fields.retain(|(name, _)| !name.starts_with("pad") || *name == "padding");
    with(&Network { conv0: Lua::Object { class, version, before, fields }, ..Network::new() }.root(), |_| {});
}

#[test]
fn old_batch_norms_keep_their_function() {
    let std = Lua::Tensor(vec![2], vec![0.5, 0.25]);
    let old = |version| {
        let fields = vec![("weight", filled(&[2])), ("bias", filled(&[2])), ("running_std", std.clone())];
        Network { layer: vec![dense("nn.Concat", norm(2, version, fields))], ..Network::new() }.root()
    };
    for version in [0, 1] {
        with(&old(version), |conversion| {
            // std^-2 - 1e-5
            let var = values(conversion, "features.denseblock1.denselayer1.norm1.running_var");
            assert_eq!(var, [4.0 - 1e-5_f64, 16.0 - 1e-5_f64].map(|var| var as f32));
        });
    }
    // Since version 2 the field means nothing, and the variance is missing.
    let bytes = file(&old(2));
    let source = Source::new(&bytes);
    let report = convert(&source, &Options::default()).unwrap().report;
    assert_eq!(report.missing, ["features.denseblock1.denselayer1.norm1.running_var"]);

    let bare = norm(2, 2, vec![("running_var", filled(&[2])), ("affine", Boolean(false)), ("eps", Number(1e-3))]);
    with(&Network { layer: vec![dense("nn.Concat", bare)], ..Network::new() }.root(), |conversion| {
        assert_eq!(values(conversion, "features.denseblock1.denselayer1.norm1.weight"), [1.0, 1.0]);
        assert_eq!(values(conversion, "features.denseblock1.denselayer1.norm1.bias"), [0.0, 0.0]);
        // The first norm's eps is the network's; the last norm's variance makes up for the difference.
        assert_eq!(conversion.config.eps, 1e-3);
        let var = values(conversion, "features.norm5.running_var");
        assert_eq!(var, [1.0, 2.0, 3.0].map(|var: f64| (var + (1e-5 - 1e-3)) as f32));
    });
}

#[test]
fn what_scales_at_evaluation_is_worked_into_a_layer_that_can_take_it() {
    // A pooling without `divide` sums 16 values; the last norm gives 16 times its output.
    with(&Network { pool: pool(Vec::new()), ..Network::new() }.root(), |conversion| {
        assert_eq!(values(conversion, "features.norm5.weight"), [16.0, 32.0, 48.0]);
        assert_eq!(values(conversion, "features.norm5.bias"), [16.0, 32.0, 48.0]);
    });
    // Behind a dense layer, the norm that reads it: weight * 0.5, mean / 0.5.
    let dropout = || object("nn.Dropout", 1, vec![("p", Number(0.5))]);
    let norm5 = vec![dropout(), plain_norm(3), relu()];
    with(&Network { norm5, ..Network::new() }.root(), |conversion| {
        assert_eq!(values(conversion, "features.norm5.weight"), [0.5, 1.0, 1.5]);
        assert_eq!(values(conversion, "features.norm5.bias"), [1.0, 2.0, 3.0]);
        assert_eq!(values(conversion, "features.norm5.running_mean"), [2.0, 4.0, 6.0]);
    });
    let two = vec![dense("nn.Concat", plain_norm(2)), dropout(), dense("nn.Concat", plain_norm(3))];
    let text = refusal(&Network { layer: two, ..Network::new() }.root());
    assert!(text.contains("module 4 (nn.Concat) gets a scaled input"), "{text}");
    // The second version scales in training only.
    let newer = object("nn.Dropout", 1, vec![("p", Number(0.5)), ("v2", Boolean(true))]);
    with(&Network { norm5: vec![newer, plain_norm(3), relu()], ..Network::new() }.root(), |conversion| {
        assert_eq!(values(conversion, "features.norm5.weight"), [1.0, 2.0, 3.0]);
    });
}

#[test]
fn modules_that_compute_something_else_are_refused_by_place_and_reason() {
    let conv0 = |more| Network { conv0: conv(1, 2, 3, more), ..Network::new() }.root();
    for (root, reason) in [
        (conv0(vec![("groups", Number(2.0))]), "module 1 (nn.SpatialConvolution) is a grouped convolution"),
        (conv0(vec![("dW", Number(2.0))]), "module 1: its dW is 2 where a DenseNet has 1"),
        (conv0(vec![("padH", Number(0.0))]), "module 1: its padH is 0 where a DenseNet has 1"),
        (Network { norm5: vec![plain_norm(3)], ..Network::new() }.root(), "module 3: no ReLU follows"),
        (Network { pool: pool(vec![("ceil_mode", Boolean(true))]), ..Network::new() }.root(), "rounds sizes up"),
        (Network { pool: pool(vec![("padW", Number(1.0))]), ..Network::new() }.root(), "is padded"),
        (
            Network { tail: vec![object("nn.Sigmoid", 1, vec![])], ..Network::new() }.root(),
            "(nn.Sigmoid) is no part of a DenseNet",
        ),
        (Network { layer: vec![dense("nn.Concat", relu())], ..Network::new() }.root(), "follows no batch norm"),
        (Table(vec![("epoch", Number(3.0))]), "the file ends and no tensor was in it"),
        (Table(vec![("w", filled(&[2]))]), "the file holds no network"),
    ] {
        let text = refusal(&root);
        assert!(text.contains(reason), "{text:?} where {reason:?} is expected");
    }
}

#[test]
fn networks_in_tables_and_behind_gpus_are_found() {
    let gpus = |version, before| Lua::Object {
        class: "nn.DataParallelTable",
        version,
        before,
        fields: vec![("modules", List(vec![Network::new().root()]))],
    };
    // One payload before version 2, two since.
    with(&gpus(1, None), |_| {});
    with(&gpus(3, Some(Box::new(List(vec![Number(1.0), Number(2.0)])))), |_| {});
    with(&Table(vec![("epoch", Number(1.0)), ("net", Network::new().root())]), |_| {});

    let two = file(&Table(vec![("a", Network::new().root()), ("b", Network::new().root())]));
    let source = Source::new(&two);
    let text = convert(&source, &Options::default()).unwrap_err().to_string();
    assert!(text.contains("\"a\", \"b\"; --prefix NAME chooses one"), "{text}");
    let choice = Choice { prefix: Some("b".into()), ema: false };
    let conversion = convert(&source, &Options { choice, ..Options::default() }).unwrap();
    assert!(conversion.report.is_complete(false), "{}", conversion.report);
    let text: Vec<_> = conversion.report.entries.iter().map(ToString::to_string).collect();
    assert!(text.contains(&"a.1.weight -> dropped: beside the network".to_owned()), "{text:#?}");
}
