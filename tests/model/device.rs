//! Training on candle, on the device that DENSENET_ZOO_TEST_DEVICE names (the CPU without it), against PyTorch, Torch7 and
//! the engine.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use densenet_arch::{Config, Head, Param, Role, Rounding, networks};
use densenet_engine::train::{self, Optimiser, Options, Part, Schedule, Targets, initial_weights};
use densenet_engine::{Convolutions, Shape};
use densenet_zoo::device::DeviceChoice;
use densenet_zoo::model::train::Trainer;
use densenet_zoo::model::{DenseNet, Inference};
use densenet_zoo::parity::Difference;
use densenet_zoo::runner::{Backend, Precision, Runner};
use densenet_zoo::train::{Compute, Following, Learner, Recipe, Settings};

use crate::engine::random_weights;
use crate::trainer::{Reference, pytorch, torch7};

/// Where the tests of this file compute.
pub(crate) fn here() -> Device {
    let choice = std::env::var("DENSENET_ZOO_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    choice.parse::<DeviceChoice>().unwrap().open().unwrap()
}

fn images(values: &[f32], config: &Config, side: (usize, usize)) -> Tensor {
    Tensor::from_slice(values, ((), config.in_channels, side.0, side.1), &Device::Cpu).unwrap()
}

fn values(tensor: candle_core::Result<Tensor>) -> Vec<f32> {
    tensor.unwrap().to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// As a share of the reference's largest value.
fn apart(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    Difference::between(found, expected).relative()
}

fn of_reference(reference: &Reference, dtype: DType, options: &Options) -> Trainer {
    let model = &reference.model;
    Trainer::new(&model.config, &mut |name| model.tensor(name).ok(), &here(), dtype, options).unwrap()
}

#[test]
fn five_steps_are_torch7_s_and_pytorch_s() {
    for (name, reference) in [
        ("torch7, layers joined", torch7("torch7/a_cifar_bc_mem2")),
        ("torch7, memory level 3", torch7("torch7/c_cifar_bc_mem3")),
        ("pytorch", pytorch()),
    ] {
        let x = images(&reference.images, &reference.model.config, (32, 32));
        let labels = Targets::Labels(&reference.labels);
        for memory_level in [3, 4] {
            let options = Options { memory_level, ..Options::default() };
            let mut trainer = of_reference(&reference, DType::F32, &options);
            for (step, &expected) in reference.losses.iter().enumerate().take(5) {
                let found = trainer.step(&x, labels).unwrap();
                // The fifth of Torch7's as in the engine's test: an input of a ReLU is 2e-7 from zero.
                let most = if step == 4 && name.starts_with("torch7") { 4e-5 } else { 1e-6 };
                assert!((found.loss / expected - 1.0).abs() < most, "{name}, step {step}: {} {expected}", found.loss);
                if step > 0 {
                    continue;
                }
                assert!(apart(&found.logits, &reference.logits) < 1e-5, "{name}");
                for (tensor, expected) in &reference.gradients {
                    let apart = apart(&values(trainer.gradient(tensor).unwrap()), expected);
                    assert!(apart < 1e-4, "{name}: gradient of {tensor}: {apart}");
                }
                for (tensor, expected) in &reference.statistics {
                    let apart = apart(&values(trainer.tensor(tensor).unwrap()), expected);
                    assert!(apart < 1e-6, "{name}: {tensor}: {apart}");
                }
            }
            if name == "pytorch" {
                // Sums in another order open a ReLU or shut it where its input is zero but for rounding: one or two of 4,096.
                let most = if here().is_cpu() { 1e-5 } else { 2.0 / 4096.0 };
                for (tensor, expected) in &reference.weights {
                    let apart = apart(&values(trainer.tensor(tensor).unwrap()), expected);
                    assert!(apart < most, "{name}: {tensor} after five steps: {apart}");
                }
            }
        }
    }
}

/// An ImageNet network small enough for a test, on maps of odd sizes.
struct Small {
    /// Whether its ReLUs are all far from zero: wide open or, in one channel of four, shut. None changes sides by rounding.
    open: bool,
    config: Config,
    size: (usize, usize),
    images: Vec<f32>,
    labels: Vec<usize>,
}

impl Small {
    fn new() -> Self {
        Self::of((72, 53), 3)
    }

    fn of(size: (usize, usize), images: usize) -> Self {
        let config = Config { num_classes: 7, ..Config::imagenet(&[2, 3, 2], 4, 8) };
        let pixel = |index: usize| ((index % 977) as f32 * 0.37).sin() + ((index / 53) as f32 * 0.05).cos();
        let labels = [3, 0, 6].into_iter().cycle().take(images).collect();
        let images = (0..images * 3 * size.0 * size.1).map(pixel).collect();
        Self { open: true, config, size, images, labels }
    }

    fn weights(&self) -> impl FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)> {
        let mut drawn = initial_weights(&self.config, 3);
        let open = self.open;
        move |name| {
            let (shape, mut values) = drawn(name)?;
            if name.contains("norm") && name.ends_with("bias") {
                let biases = if open { [7.0, 7.0, 7.0, -7.0] } else { [0.5, -0.25, 0.75, 0.0] };
                values.iter_mut().zip(biases.iter().cycle()).for_each(|(value, bias)| *value = *bias);
            }
            Some((shape, values))
        }
    }

    fn on_device(&self, dtype: DType, options: &Options) -> Trainer {
        Trainer::new(&self.config, &mut self.weights(), &here(), dtype, options).unwrap()
    }

    fn on_the_engine(&self, options: &Options) -> train::Trainer {
        let shape = Shape { height: self.size.0, width: self.size.1, batch: self.labels.len(), threads: 2 };
        train::Trainer::new(&self.config, self.weights(), shape, options).unwrap()
    }

    /// Three steps by both: losses, logits, and what the weights and statistics are then.
    fn agrees_with_the_engine(&self, what: &str, targets: Targets, options: &Options) -> (Trainer, train::Trainer) {
        let (mut found, mut expected) = (self.on_device(DType::F32, options), self.on_the_engine(options));
        for step in 0..3 {
            let (a, b) = (found.step(&self.x(), targets).unwrap(), expected.step(&self.images, targets).unwrap());
            assert!((a.loss / b.loss - 1.0).abs() < 1e-5, "{what}, step {step}: {} {}", a.loss, b.loss);
            assert!(apart(&a.logits, &b.logits) < 1e-5, "{what}, step {step}");
        }
        for Param { name, .. } in self.params(|role| role != Role::NumBatchesTracked) {
            let (_, expected_values) = expected.tensor(&name).unwrap();
            let apart = apart(&values(found.tensor(&name).unwrap()), expected_values);
            assert!(apart < 3e-5, "{what}: {name}: {apart}");
        }
        (found, expected)
    }

    fn x(&self) -> Tensor {
        images(&self.images, &self.config, self.size)
    }

    fn params(&self, keep: fn(Role) -> bool) -> impl Iterator<Item = Param> {
        self.config.params().into_iter().filter(move |param| keep(param.role))
    }
}

#[test]
fn every_option_gives_what_the_engine_gives() {
    let small = Small::new();
    let labels = Targets::Labels(&small.labels);
    let findings: Vec<f32> = (0..21).map(|at| if at % 5 == 4 { f32::NAN } else { (at % 3) as f32 / 2.0 }).collect();
    let options = Options { schedule: Schedule::constant(0.05), ..Options::default() };
    for (what, targets, options) in [
        ("as it is", labels, options.clone()),
        ("memory level 4", labels, Options { memory_level: 4, ..options.clone() }),
        ("findings", Targets::Findings(&findings), options.clone()),
        (
            "smoothing and weights",
            labels,
            Options {
                label_smoothing: 0.1,
                class_weights: Some(vec![1.0, 2.0, 0.5, 3.0, 1.0, 1.0, 0.25]),
                ..options.clone()
            },
        ),
        ("clipped", labels, Options { clip: Some(0.1), ..options.clone() }),
        ("norms spared, averaged", labels, Options { decay_norms: false, average: Some(0.75), ..options.clone() }),
        (
            "AdamW",
            labels,
            Options {
                // Where eps is small, a gradient of mere rounding moves a weight as far as any other.
                optimiser: Optimiser::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-3 },
                schedule: Schedule::constant(1e-3),
                weight_decay: 0.05,
                ..options.clone()
            },
        ),
        ("from the second block on", labels, Options { first_trained: Part::Block(2), ..options.clone() }),
        ("from a transition on", labels, Options { first_trained: Part::Transition(2), ..options.clone() }),
        ("the last norm", labels, Options { first_trained: Part::Norm, ..options.clone() }),
        ("the classifier", labels, Options { first_trained: Part::Classifier, ..options.clone() }),
        ("slower parts", labels, Options { rates: vec![(Part::Stem, 0.1), (Part::Block(2), 0.0)], ..options.clone() }),
    ] {
        let (found, expected) = small.agrees_with_the_engine(what, targets, &options);
        if options.average.is_some() {
            let name = "features.norm5.running_var";
            let (_, expected_values) = expected.averaged_tensor(name).unwrap();
            assert!(apart(&values(found.averaged_tensor(name).unwrap()), expected_values) < 1e-5);
        }
        assert_eq!(found.progress(), expected.progress(), "{what}");
        // What is not trained has not changed at all.
        let first = options.first_trained.index("first_trained", &small.config).unwrap();
        let mut weights = small.weights();
        for param in small.params(|role| role != Role::NumBatchesTracked) {
            if Part::of(&param).index("", &small.config).unwrap() < first {
                let (_, before) = weights(&param.name).unwrap();
                assert_eq!(values(found.tensor(&param.name).unwrap()), before, "{what}: {}", param.name);
            }
        }
    }
}

#[test]
fn what_is_dropped_is_what_the_engine_drops() {
    let whole = Small::new();
    let options = Options { schedule: Schedule::constant(0.05), seed: 9, ..Options::default() };
    for (what, bn_size, options) in [
        ("bottlenecks", whole.config.bn_size, options.clone()),
        ("memory level 4", whole.config.bn_size, Options { memory_level: 4, ..options.clone() }),
        ("plain layers", None, options.clone()),
        // Frozen parts drop nothing.
        (
            "from the second block on",
            whole.config.bn_size,
            Options { first_trained: Part::Block(2), ..options.clone() },
        ),
    ] {
        let small = Small { config: Config { drop_rate: 0.3, bn_size, ..whole.config.clone() }, ..Small::new() };
        small.agrees_with_the_engine(what, Targets::Labels(&small.labels), &options);
    }
}

#[test]
fn maps_that_many_blocks_of_a_card_share_have_the_engine_s_moments() {
    // 12,288 values a channel, where a block takes 8,192; the last images are brighter, so that the blocks' means differ.
    let config = Config { num_classes: 7, ..Config::cifar_bc(16, 4).unwrap() };
    let mut small = Small { config, ..Small::of((32, 32), 12) };
    small.images[8 * 3 * 32 * 32..].iter_mut().for_each(|value| *value += 2.0);
    let options = Options { schedule: Schedule::constant(0.05), ..Options::default() };
    small.agrees_with_the_engine("many blocks", Targets::Labels(&small.labels), &options);
}

#[test]
fn memory_levels_give_the_same_bits() {
    let small = Small::new();
    let gradients = |memory_level| {
        let mut trainer = small.on_device(DType::F32, &Options { memory_level, ..Options::default() });
        trainer.accumulate(&small.x(), Targets::Labels(&small.labels)).unwrap();
        let names = small.params(Role::is_parameter).map(|param| param.name);
        names.map(|name| (values(trainer.gradient(&name).unwrap()), name)).collect::<Vec<_>>()
    };
    let expected = gradients(0);
    for level in 1..=4 {
        assert!(gradients(level) == expected, "level {level}");
    }
}

#[test]
fn gradients_are_the_engine_s() {
    let small = Small { open: false, ..Small::new() };
    let (mut found, mut expected) =
        (small.on_device(DType::F32, &Options::default()), small.on_the_engine(&Options::default()));
    let targets = Targets::Labels(&small.labels);
    found.accumulate(&small.x(), targets).unwrap();
    expected.accumulate(&small.images, targets).unwrap();
    for Param { name, .. } in small.params(Role::is_parameter) {
        let apart = apart(&values(found.gradient(&name).unwrap()), expected.gradient(&name).unwrap().1);
        assert!(apart < 1e-4, "{name}: {apart}");
    }
}

#[test]
fn a_run_goes_on_from_its_state() {
    let small = Small::new();
    let targets = Targets::Labels(&small.labels);
    let options = Options { average: Some(0.9), ..Options::default() };
    let mut through = small.on_device(DType::F32, &options);
    through.step(&small.x(), targets).unwrap();
    let state: HashMap<String, (Vec<usize>, Vec<f32>)> = through
        .state()
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| (name, (tensor.dims().to_vec(), values(Ok(tensor)))))
        .collect();
    assert!(state.contains_key("optimiser.momentum.classifier.weight"));
    let mut again = small.on_device(DType::F32, &options);
    let lost = again
        .restore(&mut |name| (!name.ends_with("norm5.bias")).then(|| state.get(name).cloned())?, through.progress());
    assert!(lost.unwrap_err().to_string().contains("no tensor features.norm5.bias"));
    again.restore(&mut |name| state.get(name).cloned(), through.progress()).unwrap();
    let (a, b) = (through.step(&small.x(), targets).unwrap(), again.step(&small.x(), targets).unwrap());
    assert_eq!(a, b);
    let all = |trainer: &Trainer| {
        trainer.state().unwrap().into_iter().map(|(_, tensor)| values(Ok(tensor))).collect::<Vec<_>>()
    };
    assert!(all(&through) == all(&again));
}

#[test]
fn batches_that_diverge_change_nothing() {
    let small = Small::new();
    let mut trainer = small.on_device(DType::F32, &Options::default());
    let all = |trainer: &Trainer| {
        trainer.state().unwrap().into_iter().map(|(_, tensor)| values(Ok(tensor))).collect::<Vec<_>>()
    };
    let before = all(&trainer);
    let error = trainer.step(&(small.x() * f64::NAN).unwrap(), Targets::Labels(&small.labels)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the engine: the variance of a map is not finite; the weights are unchanged. Take a lower learning rate, or look for bad inputs"
    );
    assert!(trainer.step(&small.x(), Targets::Labels(&[0, 1, 7])).is_err());
    assert!(all(&trainer) == before);
}

#[test]
fn half_maps_give_the_gradient_s_direction() {
    let narrow = Small::new();
    let wide =
        Small { config: Config { num_classes: 7, ..Config::imagenet(&[2, 1], 32, 64) }, ..Small::of((64, 32), 3) };
    [narrow, wide].iter().for_each(half_maps_give_its_gradient_s_direction);
}

fn half_maps_give_its_gradient_s_direction(small: &Small) {
    let gradient = |dtype| {
        let mut trainer = small.on_device(dtype, &Options::default());
        let step = trainer.accumulate(&small.x(), Targets::Labels(&small.labels)).unwrap();
        let names = small.params(Role::is_parameter).map(|param| param.name);
        (step.loss, names.flat_map(|name| values(trainer.gradient(&name).unwrap())).collect::<Vec<f32>>())
    };
    let (loss, exact) = gradient(DType::F32);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    // Of bf16's 8 bits and f16's 11, through 20 convolutions and as many norms. candle has no product of bf16 on the CPU.
    let types = [(DType::F16, 0.002), (DType::BF16, 0.02)];
    for (dtype, most) in types.into_iter().take(if here().is_cpu() { 1 } else { 2 }) {
        let (half_loss, half) = gradient(dtype);
        assert!((half_loss / loss - 1.0).abs() < most, "{dtype:?}: {half_loss} {loss}");
        let cosine = dot(&half, &exact) / (dot(&half, &half) * dot(&exact, &exact)).sqrt();
        assert!(cosine > 1.0 - most, "{dtype:?}: {cosine}");
    }
}

#[test]
fn evaluation_takes_the_running_statistics() {
    let small = Small::new();
    let options = Options::default();
    let (mut found, mut expected) = (small.on_device(DType::F32, &options), small.on_the_engine(&options));
    let targets = Targets::Labels(&small.labels);
    found.step(&small.x(), targets).unwrap();
    expected.step(&small.images, targets).unwrap();
    let found = values(found.inference().unwrap().run(&small.x()));
    let plan = std::sync::Arc::new(expected.plan(&densenet_engine::Options::default()).unwrap());
    let shape = Shape { height: small.size.0, width: small.size.1, batch: 3, threads: 2 };
    let mut session = densenet_engine::Session::new(&plan, shape).unwrap();
    assert!(apart(&found, session.run(&small.images).unwrap()) < 2e-5);
}

#[test]
fn folded_networks_give_what_the_network_gives() {
    let device = here();
    for (config, sizes) in [
        (Config { in_channels: 1, eps: 1e-3, ..Config::cifar_bc(22, 8).unwrap() }, [(37, 45), (32, 32)]),
        (Config { head: Head::Softmax, ..Config::cifar(13, 5).unwrap() }, [(32, 32), (16, 33)]),
        (Config { head: Head::LogSoftmax, ..Config::imagenet(&[2, 3, 2], 6, 10) }, [(53, 97), (64, 64)]),
        (Config { pooling: Rounding::Ceil, ..Config::imagenet(&[2, 1, 2], 6, 10) }, [(53, 97), (100, 64)]),
        // As wide as the published ones: more than a tile of the tensor cores, and a part of one.
        (Config { num_classes: 10, ..Config::imagenet(&[3, 1], 32, 64) }, [(48, 64), (35, 40)]),
        (Config { num_classes: 10, ..Config::imagenet(&[2, 1], 48, 96) }, [(64, 32), (40, 44)]),
    ] {
        let weights = random_weights(&config);
        let tensors = weights.iter().map(|(name, (shape, values))| {
            (name.clone(), Tensor::from_slice(values, shape.as_slice(), &device).unwrap())
        });
        let network = DenseNet::new(&config, VarBuilder::from_tensors(tensors.collect(), DType::F32, &device)).unwrap();
        let folded = |dtype| Inference::new(&config, &mut |name| weights.get(name).cloned(), &device, dtype).unwrap();
        let (mut exact, mut half) = (folded(DType::F32), folded(DType::F16));
        // What one shape of batch left is not of another, and is written over by the next of the same; a card records the second
        // batch of a shape and repeats it from the third on.
        let [first, second] = [(2, sizes[0]), (3, sizes[1])];
        let shapes = [first, second, second, second, first, second, (1, sizes[0]), first, first, first];
        for (turn, (batch, (height, width))) in shapes.into_iter().enumerate() {
            let count = batch * config.in_channels * height * width;
            let pixels = (0..count).map(|at| ((at * (turn + 3)) as f32 * 0.37).sin()).collect::<Vec<_>>();
            let x = images(&pixels, &config, (height, width));
            let expected = values(network.forward(&x.to_device(&device).unwrap(), false));
            let apart_by = |found: &mut Inference| apart(&values(found.run(&x)), &expected);
            let what = format!("{}, {batch}x{height}x{width}, turn {turn}", config.name());
            let (single, short) = (apart_by(&mut exact), apart_by(&mut half));
            assert!(single < 1e-5, "{what}: {single}");
            // 2^-11 a rounding, of which some ten a block add up.
            assert!(short < 2e-2, "{what} in f16: {short}");
        }
    }
}

#[test]
fn a_published_network_at_its_size_gives_the_engine_s_logits() {
    let config = &networks::find("densenet-121").unwrap().config;
    let weights = random_weights(config);
    let pixels: Vec<f32> = (0..3 * 224 * 224).map(|at| ((at % 977) as f32 * 0.37).sin() * 2.0).collect();
    let run = |backend, device: &Device| {
        let mut runner =
            Runner::of_weights(config, &mut |name| weights.get(name).cloned(), (224, 224), backend, device).unwrap();
        runner.run(&pixels, (224, 224)).unwrap()
    };
    let (convolutions, precision) = (Convolutions::Exact, Precision::F32);
    let expected = run(Backend::Engine { threads: 2, convolutions, precision }, &Device::Cpu);
    let found = apart(&run(Backend::Candle(DType::F32), &here()), &expected);
    // Sums of up to 1,152 products in another order, 120 convolutions deep.
    assert!(found < 1e-5, "{found}");
}

#[test]
fn batches_may_be_begun_before_the_last_one_is_finished() {
    let config = Config::cifar_bc(22, 8).unwrap();
    let weights = random_weights(&config);
    let of = |dtype| {
        Runner::of_inference(Inference::new(&config, &mut |name| weights.get(name).cloned(), &here(), dtype).unwrap())
    };
    for dtype in [DType::F32, DType::F16] {
        let (mut alone, mut ahead) = (of(dtype), of(dtype));
        // The last one is smaller than the others, as at the end of a data set, and then they grow.
        let batches = [3, 3, 3, 3, 2, 4, 4].into_iter().enumerate().map(|(turn, images)| -> Vec<f32> {
            (0..images * 3 * 32 * 32).map(|at| ((at * (turn + 2)) as f32 * 0.37).sin()).collect()
        });
        let batches: Vec<_> = batches.collect();
        let expected: Vec<_> = batches.iter().map(|pixels| alone.run(pixels, (32, 32)).unwrap()).collect();
        let begun: Vec<_> = batches
            .into_iter()
            // Given away, and gone, before they are computed.
            .map(|pixels| ahead.begin(&pixels, (32, 32)).unwrap())
            .collect();
        assert_eq!(begun[0].is_under_way(), !here().is_cpu());
        for (begun, expected) in begun.into_iter().zip(expected) {
            assert_eq!(begun.finish().unwrap(), expected, "{dtype:?}");
        }
    }
}

#[test]
fn images_taken_in_ahead_are_those_of_the_step() {
    let (recipe, _) = Recipe::preset("digits").unwrap();
    let compute = Compute::Candle { device: DeviceChoice::of(&here()), dtype: DType::F32 };
    let settings = Settings { seed: 0, threads: 2, memory_level: 3, convolutions: Convolutions::Exact, compute };
    let [mut alone, mut ahead] =
        [(); 2].map(|()| compute.learner(&recipe, &settings, 10, &mut initial_weights(&recipe.config, 1)).unwrap());
    let batches = [4, 4, 2, 4, 3, 3].into_iter().enumerate().map(|(turn, images)| -> Vec<f32> {
        (0..images * 3 * 32 * 32).map(|at| ((at * (turn + 2)) as f32 * 0.37).sin()).collect()
    });
    let batches: Vec<_> = batches.collect();
    for (turn, images) in batches.iter().enumerate() {
        let labels = &[0, 9, 4, 4][..images.len() / (3 * 32 * 32)];
        let expected = alone.step(images, Targets::Labels(labels)).unwrap();
        // Once what comes is another batch than was said, of the same size.
        let mut next = batches.get(if turn == 2 { 0 } else { turn + 1 }).map_or(&[][..], Vec::as_slice);
        let next: &mut dyn Following = if next.is_empty() { &mut () } else { &mut next };
        assert_eq!(ahead.step_before(images, Targets::Labels(labels), next).unwrap(), expected, "step {turn}");
    }
}

#[test]
fn a_run_s_learner_takes_the_state_of_the_engine_s() {
    let (recipe, _) = Recipe::preset("digits").unwrap();
    let settings =
        |compute| Settings { seed: 0, threads: 2, memory_level: 3, convolutions: Convolutions::Exact, compute };
    let device = DeviceChoice::of(&here());
    let [mut engine, mut candle] = [Compute::Engine, Compute::Candle { device, dtype: DType::F32 }].map(|compute| {
        let mut weights = initial_weights(&recipe.config, 1);
        compute.learner(&recipe, &settings(compute), 10, &mut weights).unwrap()
    });
    let pixels: Vec<f32> = (0..4 * 3 * 32 * 32).map(|at| (at as f32 * 0.37).sin()).collect();
    let labels = [0, 9, 4, 4];
    let named = |learner: &dyn Learner| -> HashMap<String, (Vec<usize>, Vec<f32>)> {
        let state = learner.state().unwrap().into_iter();
        state.map(|entry| (entry.name, (entry.shape.into_owned(), entry.values.into_owned()))).collect()
    };
    engine.step(&pixels, Targets::Labels(&labels)).unwrap();
    // What the engine began, candle goes on with, and gives back the same.
    let state = named(engine.as_ref());
    candle.restore(&mut |name| state.get(name).cloned(), engine.progress()).unwrap();
    assert!(named(candle.as_ref()) == state);
    assert_eq!((candle.progress(), candle.rate()), (engine.progress(), engine.rate()));
    let (a, b) = (candle.step(&pixels, Targets::Labels(&labels)), engine.step(&pixels, Targets::Labels(&labels)));
    assert!((a.unwrap().loss / b.unwrap().loss - 1.0).abs() < 1e-5);
    let outputs = |learner: &dyn Learner| learner.runner().unwrap().run(&pixels, (32, 32)).unwrap();
    assert!(apart(&outputs(candle.as_ref()), &outputs(engine.as_ref())) < 1e-4);
    assert_eq!(candle.name(), if here().is_cpu() { "candle".to_owned() } else { format!("candle, {device}") });
}
