//! Training against a plain network in f64, and what holds for every step.

#[path = "support/reference.rs"]
mod reference;
mod support;

use std::sync::Arc;

use densenet_arch::{Config, Role};
use densenet_engine::train::{Curve, Optimiser, Options, Part, Schedule, Targets, Trainer};
use densenet_engine::{Convolutions, Isa, Session, Shape};
use reference::Reference;
use support::{Numbers, weights};

/// A batch of `count` images.
fn batch(config: &Config, (height, width): (usize, usize), count: usize) -> (Vec<f32>, Vec<usize>) {
    let images = Numbers::new(9).take(count * config.in_channels * height * width);
    (images, (0..count).map(|image| image * 7 % config.num_classes).collect())
}

fn trainer(
    config: &Config,
    (height, width): (usize, usize),
    (batch, threads): (usize, usize),
    options: &Options,
) -> Trainer {
    Trainer::new(config, weights(config), Shape { height, width, batch, threads }, options).unwrap()
}

fn plain(config: &Config, size: (usize, usize), count: usize, smoothing: f64, frozen: &[&str]) -> Reference {
    let source = weights(config);
    let params = config.params().into_iter().filter(|param| param.role != Role::NumBatchesTracked);
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
    let weights = params.map(|param| (param.name.clone(), wide(source(&param.name).unwrap().1))).collect();
    let (images, labels) = batch(config, size, count);
    reference::step(config, weights, (&images, &labels), size, smoothing, frozen)
}

/// The largest difference, as a share of the largest value that is expected.
fn distance(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let most = expected.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    let worst = found.iter().zip(expected).map(|(&found, expected)| (f64::from(found) - expected).abs());
    worst.fold(0.0, f64::max) / most.max(1e-9)
}

/// One step of every instruction set and both memory levels against the reference.
fn check(config: &Config, size: (usize, usize), count: usize) {
    check_by(config, size, count, Convolutions::Exact);
}

/// The same; fast convolutions may err ten times as much.
fn check_by(config: &Config, size: (usize, usize), count: usize, convolutions: Convolutions) {
    let more = if convolutions == Convolutions::Fast { 10.0 } else { 1.0 };
    let expected = plain(config, size, count, 0.1, &[]);
    let (images, labels) = batch(config, size, count);
    for isa in Isa::available() {
        for memory_level in [3, 4] {
            let what =
                format!("{}, {size:?}, {count} images, {isa}, {convolutions:?}, level {memory_level}", config.name());
            // A rate of zero: what an update leaves is only that the next batch begins anew.
            let options = Options {
                isa: Some(isa),
                convolutions,
                memory_level,
                label_smoothing: 0.1,
                schedule: Schedule::constant(0.0),
                ..Options::default()
            };
            let mut trainer = trainer(config, size, (count, 2), &options);
            let step = trainer.accumulate(&images, Targets::Labels(&labels)).unwrap();
            assert!((step.loss / expected.loss - 1.0).abs() < 1e-6 * more, "{what}: {} {}", step.loss, expected.loss);
            for (name, gradient) in &expected.gradients {
                let distance = distance(trainer.gradient(name).unwrap().1, gradient);
                // The next norm undoes what this scale does, so that its gradient is a small difference of large sums.
                let most = if name == "features.norm0.weight" { 1e-3 } else { 1e-4 };
                assert!(distance < most * more, "{what}, {name}: {distance}");
            }
            for (name, statistics) in &expected.statistics {
                let distance = distance(trainer.tensor(name).unwrap().1, statistics);
                assert!(distance < 1e-5 * more, "{what}, {name}: {distance}");
            }
            // Nothing of a pass is left in the next: the same batch gives the same gradient once more.
            let now = |name: &str, trainer: &Trainer| trainer.gradient(name).unwrap().1.to_vec();
            let before: Vec<_> = expected.gradients.keys().map(|name| (name, now(name, &trainer))).collect();
            trainer.update().unwrap();
            trainer.accumulate(&images, Targets::Labels(&labels)).unwrap();
            for (name, before) in before {
                assert!(now(name, &trainer) == before, "{what}, {name} is not the same again");
            }
        }
    }
}

#[test]
fn every_kind_of_network_has_the_gradients_of_a_plain_one() {
    let bc = Config::cifar_bc(10, 12).unwrap();
    let imagenet = Config::imagenet(&[1, 2], 12, 20).with_classes(7);
    for growth_rate in [12, 24, 32, 36, 40, 48, 60] {
        check(
            &Config { growth_rate, num_init_features: 2 * growth_rate, block_config: vec![2, 1], ..bc.clone() },
            (5, 7),
            3,
        );
        check(&Config { growth_rate, bn_size: None, compression: 1.0, ..bc.clone() }, (13, 10), 3);
    }
    check(&Config { in_channels: 1, compression: 0.7, eps: 1e-3, num_classes: 33, ..bc.clone() }, (13, 8), 4);
    check(&Config { growth_rate: 5, bn_size: Some(3), num_init_features: 7, ..bc }, (4, 17), 9);
    check(&imagenet, (32, 32), 2);
    check(&Config { in_channels: 2, growth_rate: 7, ..imagenet }, (29, 43), 3);
}

#[test]
fn fast_convolutions_have_nearly_the_same() {
    let bc = Config { block_config: vec![2, 1], ..Config::cifar_bc(10, 12).unwrap() };
    for (growth_rate, size) in [(12, (24, 31)), (32, (13, 26)), (40, (27, 12))] {
        check_by(&Config { growth_rate, ..bc.clone() }, size, 3, Convolutions::Fast);
        check_by(&Config { growth_rate, bn_size: None, ..bc.clone() }, size, 2, Convolutions::Fast);
    }
}

fn tiny() -> Config {
    Config::imagenet(&[1, 2], 12, 20).with_classes(7)
}

/// Both kinds of layers, with dropout.
fn dropping() -> [Config; 2] {
    let bc = Config { drop_rate: 0.2, ..Config::cifar_bc(16, 12).unwrap() };
    [Config { bn_size: None, compression: 1.0, ..bc.clone() }, bc]
}

/// Every number that a trainer shows.
fn all(trainer: &Trainer) -> Vec<(String, Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    trainer.state().map(|(name, _, values)| (name, bits(values))).collect()
}

#[test]
fn nothing_depends_on_threads_and_memory_levels() {
    let [plain, bc] = dropping();
    let fast = Config { block_config: vec![2, 1], ..Config::cifar_bc(10, 12).unwrap() };
    let (exact, fast) = ([(plain, (9, 8)), (bc, (11, 6)), (tiny(), (33, 41))], (fast, (25, 14)));
    let cases = exact.map(|case| (case, Convolutions::Exact)).into_iter().chain([(fast, Convolutions::Fast)]);
    for ((config, size), convolutions) in cases {
        for isa in Isa::available() {
            let (images, labels) = batch(&config, size, 11);
            let run = |threads: usize, memory_level: u8| {
                let options = Options { isa: Some(isa), convolutions, memory_level, ..Options::default() };
                let mut trainer = trainer(&config, size, (11, threads), &options);
                let mut seen = Vec::new();
                for count in [11, 11, 5] {
                    let image = images.len() / 11;
                    seen.push(trainer.step(&images[..count * image], Targets::Labels(&labels[..count])).unwrap());
                }
                (seen, all(&trainer))
            };
            let expected = run(1, 3);
            for (threads, level) in [(2, 3), (3, 4), (8, 3), (1, 4), (2, 0), (2, 1), (2, 2)] {
                assert!(run(threads, level) == expected, "{}, {isa}, {threads} threads, level {level}", config.name());
            }
        }
    }
}

#[test]
fn dropout_s_gradients_are_those_of_finite_differences() {
    for config in dropping() {
        let (size, count) = ((12, 12), 6);
        let (images, labels) = batch(&config, size, count);
        let source = weights(&config);
        // Along the gradient, where the loss changes most.
        let mut at = trainer(&config, size, (count, 2), &Options::default());
        at.accumulate(&images, Targets::Labels(&labels)).unwrap();
        let gradients: Vec<(String, Vec<f32>)> = (config.params().iter())
            .filter_map(|param| Some((param.name.clone(), at.gradient(&param.name)?.1.to_vec())))
            .collect();
        let square: f64 = gradients.iter().flat_map(|(_, values)| values).map(|&d| f64::from(d).powi(2)).sum();
        let loss = |distance: f64, seed: u64| {
            let moved = |name: &str| {
                let (shape, mut values) = source(name)?;
                if let Some((_, gradient)) = gradients.iter().find(|(other, _)| other == name) {
                    values.iter_mut().zip(gradient).for_each(|(value, d)| *value += distance as f32 * d);
                }
                Some((shape, values))
            };
            let shape = Shape { height: size.0, width: size.1, batch: count, threads: 2 };
            let options = Options { seed, ..Options::default() };
            Trainer::new(&config, moved, shape, &options)
                .unwrap()
                .accumulate(&images, Targets::Labels(&labels))
                .unwrap()
                .loss
        };
        // The loss changes by some 1e-3 to either side.
        let distance = 1e-3 / square;
        let slope = (loss(distance, 0) - loss(-distance, 0)) / (2.0 * distance);
        assert!((slope / square - 1.0).abs() < 5e-3, "{}: {slope} {square}", config.name());
        // Other draws, and none.
        assert_ne!(loss(0.0, 0), loss(0.0, 1));
        let none = plain(&config, size, count, 0.0, &[]).loss;
        assert!((loss(0.0, 0) / none - 1.0).abs() > 1e-3);
        let still = Options { first_trained: Part::Norm, ..Options::default() };
        let loss =
            trainer(&config, size, (count, 2), &still).accumulate(&images, Targets::Labels(&labels)).unwrap().loss;
        let eval = plain(&config, size, count, 0.0, &["conv0", "norm0", "denseblock", "transition"]).loss;
        assert!((loss / eval - 1.0).abs() < 1e-5, "{loss} {eval}");
    }
}

#[test]
fn frozen_parts_stay_as_they_are() {
    let config = tiny();
    let size = (40, 33);
    let (images, labels) = batch(&config, size, 4);
    let order = ["conv0", "norm0", "denseblock1", "transition1", "denseblock2", "norm5", "classifier"];
    for (part, frozen) in [
        (Part::Stem, 0),
        (Part::Block(1), 2),
        (Part::Transition(1), 3),
        (Part::Block(2), 4),
        (Part::Norm, 5),
        (Part::Classifier, 6),
    ] {
        let frozen = &order[..frozen];
        let expected = plain(&config, size, 4, 0.0, frozen);
        let options = Options { first_trained: part, ..Options::default() };
        let mut trainer = trainer(&config, size, (4, 2), &options);
        let before = all(&trainer);
        let step = trainer.step(&images, Targets::Labels(&labels)).unwrap();
        assert!((step.loss / expected.loss - 1.0).abs() < 1e-5, "{part}: {} {}", step.loss, expected.loss);
        for ((name, before), (_, after)) in before.iter().zip(all(&trainer)) {
            let still = frozen.iter().any(|part| name.contains(part));
            // The optimiser remembers nothing of them either.
            assert_eq!(*before == after, still, "{part}, {name}");
        }
        for (name, gradient) in &expected.gradients {
            let found = trainer.gradient(name).unwrap().1;
            if frozen.iter().any(|part| name.contains(part)) {
                assert!(found.iter().all(|&value| value == 0.0), "{part}, {name}");
            } else {
                let most = if name == "features.norm0.weight" { 1e-3 } else { 1e-4 };
                assert!(distance(found, gradient) < most, "{part}, {name}: {}", distance(found, gradient));
            }
        }
    }
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing() {
    let config = tiny();
    let (size, count) = ((32, 32), 3);
    let (images, labels) = batch(&config, size, count);
    let fresh = || trainer(&config, size, (count, 2), &Options { average: Some(0.9), ..Options::default() });
    let (mut trainer, mut other) = (fresh(), fresh());
    let before = all(&trainer);
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bad = images.clone();
        bad[images.len() / 2] = value;
        assert_eq!(
            trainer.step(&bad, Targets::Labels(&labels)).unwrap_err().to_string(),
            "the loss is not finite; the weights are unchanged. Take a lower learning rate, or look for bad inputs"
        );
        assert!(all(&trainer) == before, "{value}");
    }
    // Then it goes on as if nothing had been.
    assert_eq!(
        trainer.step(&images, Targets::Labels(&labels)).unwrap(),
        other.step(&images, Targets::Labels(&labels)).unwrap()
    );
    assert!(all(&trainer) == all(&other));
}

#[test]
fn batches_come_together_and_long_gradients_are_cut() {
    let config = tiny();
    let (size, count) = ((32, 32), 4);
    let (images, labels) = batch(&config, size, 2 * count);
    let half = images.len() / 2;
    let optimiser = Optimiser::Sgd { momentum: 0.0, nesterov: false, dampening: 0.0 };
    let schedule = Schedule { rate: 0.5, warm_up: 2, curve: Curve::Constant };
    let (decay_norms, weight_decay) = (false, 0.01);
    let options = Options { optimiser, schedule, decay_norms, weight_decay, average: Some(0.75), ..Options::default() };
    let names = ["classifier.weight", "classifier.bias", "features.norm5.weight", "features.conv0.weight"];
    for clip in [None, Some(0.125)] {
        let mut trainer = trainer(&config, size, (count, 2), &Options { clip, ..options.clone() });
        let of = |trainer: &Trainer, name: &str| trainer.tensor(name).unwrap().1.to_vec();
        let before = names.map(|name| of(&trainer, name));
        let one = trainer.accumulate(&images[..half], Targets::Labels(&labels[..count])).unwrap();
        let first = names.map(|name| trainer.gradient(name).unwrap().1.to_vec());
        let two = trainer.accumulate(&images[half..], Targets::Labels(&labels[count..])).unwrap();
        assert_ne!(one, two);
        assert_eq!(trainer.progress().updates, 0);
        assert_eq!(trainer.rate(), 0.25);
        let length = trainer.update().unwrap();
        assert!(length > 0.125, "{length}");
        let shrink = clip.map_or(1.0, |clip| clip / length);
        for ((name, before), first) in names.iter().zip(before).zip(first) {
            let (shape, both) = trainer.gradient(name).unwrap();
            assert_ne!(first, both, "{name}");
            let decay = if shape.len() == 1 { 0.0 } else { weight_decay };
            let after = of(&trainer, name);
            let averaged = trainer.averaged_tensor(name).unwrap().1;
            for index in 0..before.len() {
                let old = f64::from(before[index]);
                let want = old - 0.25 * (f64::from(both[index]) / 2.0 * shrink + decay * old);
                assert!((f64::from(after[index]) - want).abs() < 1e-6, "{name} {index}: {} {want}", after[index]);
                let mean = 0.75 * old + 0.25 * f64::from(after[index]);
                assert!((f64::from(averaged[index]) - mean).abs() < 1e-6, "{name} {index}");
            }
        }
        assert_eq!((trainer.rate(), trainer.progress().updates, trainer.progress().passes), (0.5, 1, 2));
        // Nothing waits any more.
        let after = all(&trainer);
        assert_eq!(trainer.update().unwrap(), 0.0);
        assert!(all(&trainer) == after);
    }
}

#[test]
fn training_goes_on_from_a_state_as_if_it_had_never_stopped() {
    let [_, config] = dropping();
    let (size, count) = ((8, 8), 5);
    let (images, labels) = batch(&config, size, count);
    for optimiser in [Optimiser::NESTEROV, Optimiser::ADAMW] {
        let schedule = Schedule { rate: 0.01, warm_up: 1, curve: Curve::Cosine { total: 6 } };
        let options = Options { optimiser, schedule, average: Some(0.9), ..Options::default() };
        let fresh = || trainer(&config, size, (count, 2), &options);
        let mut whole = fresh();
        for _ in 0..2 {
            whole.step(&images, Targets::Labels(&labels)).unwrap();
        }
        let saved: std::collections::HashMap<_, _> =
            whole.state().map(|(name, shape, values)| (name, (shape.to_vec(), values.to_vec()))).collect();
        let progress = whole.progress();
        let kinds = match optimiser {
            Optimiser::Sgd { .. } => 1,
            Optimiser::AdamW { .. } => 2,
        };
        let weights = config.params().iter().filter(|param| param.role.is_parameter()).count();
        let statistics = config.params().iter().filter(|param| !param.role.is_parameter()).count() / 3 * 2;
        assert_eq!(saved.len(), weights * (2 + kinds) + 2 * statistics);
        let mut resumed = fresh();
        let missing = |name: &str| saved.get(name).filter(|_| !name.starts_with("average.")).cloned();
        let untouched = all(&resumed);
        assert_eq!(
            resumed.restore(missing, progress).unwrap_err().to_string(),
            "tensor \"average.features.conv0.weight\" is missing from the weights"
        );
        assert!(all(&resumed) == untouched);
        resumed.restore(|name| saved.get(name).cloned(), progress).unwrap();
        for _ in 0..2 {
            assert_eq!(
                whole.step(&images, Targets::Labels(&labels)).unwrap(),
                resumed.step(&images, Targets::Labels(&labels)).unwrap()
            );
        }
        assert!(all(&whole) == all(&resumed), "{optimiser:?}");
    }
}

#[test]
fn a_small_batch_is_learned_and_evaluated() {
    let config = tiny();
    let (size, count) = ((32, 32), 8);
    let (images, labels) = batch(&config, size, count);
    for (optimiser, rate) in [(Optimiser::NESTEROV, 0.05), (Optimiser::ADAMW, 0.005)] {
        let options =
            Options { optimiser, schedule: Schedule::constant(rate), average: Some(0.5), ..Options::default() };
        let mut trainer = trainer(&config, size, (count, 2), &options);
        let losses: Vec<f64> = (0..60).map(|_| trainer.step(&images, Targets::Labels(&labels)).unwrap().loss).collect();
        assert!(losses[0] > 1.5 && losses[59] < 0.05, "{optimiser:?}: {losses:?}");
        let exact = densenet_engine::Options::default();
        for plan in [trainer.plan(&exact), trainer.averaged_plan(&exact)] {
            let shape = Shape { height: 32, width: 32, batch: count, threads: 2 };
            let mut session = Session::new(&Arc::new(plan.unwrap()), shape).unwrap();
            for (logits, &label) in session.run(&images).unwrap().chunks(7).zip(&labels) {
                assert!(logits.iter().all(|&logit| logit <= logits[label]), "{optimiser:?}: {logits:?} {label}");
            }
        }
    }
}

#[test]
fn batches_and_options_that_do_not_fit_are_refused() {
    let config = Config { in_channels: 1, ..Config::cifar_bc(10, 12).unwrap() };
    let mut trainer = trainer(&config, (4, 4), (2, 1), &Options::default());
    let error = |images: usize, labels: &[usize], trainer: &mut Trainer| {
        trainer.step(&vec![0.5; images], Targets::Labels(labels)).unwrap_err().to_string()
    };
    assert_eq!(
        error(48, &[0, 1, 2], &mut trainer),
        "the input has 48 values; an image has 16, and the session takes 1 to 2 images"
    );
    assert_eq!(error(32, &[0], &mut trainer), "1 labels for 2 images");
    assert_eq!(error(32, &[0, 10], &mut trainer), "label 10 is none of the network's 10 classes, which count from 0");
    assert_eq!(
        error(16, &[3], &mut trainer),
        "batch norm needs more than one value a channel; take batches that leave no single image over, or larger images"
    );
    let shape = Shape { height: 4, width: 4, batch: 2, threads: 1 };
    let refused = |config: &Config, shape, options: &Options| {
        Trainer::new(config, weights(config), shape, options).unwrap_err().to_string()
    };
    let options = Options { first_trained: Part::Block(4), ..Options::default() };
    assert_eq!(refused(&config, shape, &options), "first_trained is denseblock4; it must be a part of the network");
    let options = Options { memory_level: 5, ..Options::default() };
    assert_eq!(refused(&config, shape, &options), "memory_level is 5; it must be from 0 to 4");
    let small = Shape { height: 3, ..shape };
    assert_eq!(
        refused(&config, small, &Options::default()),
        "an input of 3x4 pixels does not fit the network; sides may be from 4 to 8192"
    );
}
