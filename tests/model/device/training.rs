//! Training on candle, against PyTorch, Torch7 and the engine.

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use densenet_arch::{Config, Param, Role};
use densenet_engine::Shape;
use densenet_engine::train::{self, Optimiser, Options, Part, Schedule, Targets, initial_weights};
use densenet_zoo::model::train::Trainer;

use super::{apart, here, images, values};
use crate::trainer::{Reference, pytorch, torch7};

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
