//! What is learned of labels and findings, and what class weights and the parts' rates change.

mod support;

use densenet_arch::Config;
use densenet_engine::train::{Optimiser, Options, Part, Progress, Schedule, Targets, Trainer};
use densenet_engine::{Error, Shape};
use support::{Numbers, weights};

const CLASSES: usize = 3;
const IMAGES: usize = 4;

fn config() -> Config {
    Config::imagenet(&[1, 2], 12, 20).with_classes(CLASSES)
}

fn trainer(options: &Options) -> Trainer {
    let shape = Shape { height: 32, width: 32, batch: IMAGES, threads: 2 };
    Trainer::new(&config(), weights(&config()), shape, options).unwrap()
}

fn images() -> Vec<f32> {
    Numbers::new(9).take(IMAGES * 3 * 32 * 32)
}

/// The most by which two vectors differ.
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max)
}

#[test]
fn findings_are_learned_one_by_one() {
    let unknown = f32::NAN;
    // Some images have several, some none.
    let findings = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, unknown, 1.0, 1.0, 0.0, 1.0, unknown];
    let options = Options { optimiser: Optimiser::ADAMW, schedule: Schedule::constant(0.005), ..Options::default() };
    let mut trainer = trainer(&options);
    let steps: Vec<_> = (0..60).map(|_| trainer.step(&images(), Targets::Findings(&findings)).unwrap()).collect();
    assert!(steps[0].loss > 0.5 && steps[59].loss < 0.05, "{} {}", steps[0].loss, steps[59].loss);
    for (logit, finding) in steps[59].logits.iter().zip(findings).filter(|(_, finding)| !finding.is_nan()) {
        assert_eq!(*logit > 0.0, finding == 1.0, "{logit} {finding}");
    }
    // No gradient where no value is known.
    let step = trainer.accumulate(&images(), Targets::Findings(&[unknown; IMAGES * CLASSES])).unwrap();
    assert_eq!(step.loss, 0.0);
    assert_eq!(trainer.update().unwrap(), 0.0);
}

#[test]
fn classes_count_by_their_weights() {
    let bias = |class_weights: Option<Vec<f32>>, targets: Targets| {
        let mut trainer = trainer(&Options { class_weights, ..Options::default() });
        let step = trainer.accumulate(&images(), targets).unwrap();
        (step, trainer.gradient("classifier.bias").unwrap().1.to_vec())
    };
    // Images whose label has weight 0 count as little as if they were not there.
    let labels = Targets::Labels(&[2, 0, 2, 0]);
    let (step, some) = bias(Some(vec![0.0, 1.0, 3.0]), labels);
    let logits: Vec<_> = step.logits.chunks(CLASSES).collect();
    let probability =
        |logits: &[f32], class: usize| logits[class].exp() / logits.iter().map(|logit| logit.exp()).sum::<f32>();
    let mean = |class: usize| 0.5 * (probability(logits[0], class) + probability(logits[2], class));
    assert!(distance(&some, &[mean(0), mean(1), mean(2) - 1.0]) < 1e-6, "{some:?}");
    // A finding that is present counts by its class's weight, one that is absent once.
    let findings = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, f32::NAN, 1.0, 1.0, 0.0, 1.0, f32::NAN];
    let (step, some) = bias(Some(vec![2.0, 0.5, 1.0]), Targets::Findings(&findings));
    let mut expected = [0.0; CLASSES];
    for (index, (logit, finding)) in step.logits.iter().zip(findings).enumerate() {
        let present = 1.0 / (1.0 + (-logit).exp());
        expected[index % CLASSES] += match finding {
            1.0 => [2.0, 0.5, 1.0][index % CLASSES] * (present - 1.0) / 10.0,
            0.0 => present / 10.0,
            _ => 0.0,
        };
    }
    assert!(distance(&some, &expected) < 1e-6, "{some:?} {expected:?}");
}

#[test]
fn parts_learn_at_their_own_rates() {
    let labels = Targets::Labels(&[2, 0, 1, 1]);
    let schedule = Schedule::constant(0.01);
    let rates = vec![(Part::Stem, 0.0), (Part::Block(2), 0.5), (Part::Classifier, 10.0)];
    let names = [
        ("features.conv0.weight", 0.0),
        ("features.norm0.bias", 0.0),
        ("features.denseblock1.denselayer1.conv1.weight", 1.0),
        ("features.transition1.conv.weight", 1.0),
        ("features.denseblock2.denselayer2.conv2.weight", 0.5),
        ("features.norm5.weight", 1.0),
        ("classifier.weight", 10.0),
    ];
    for optimiser in [Optimiser::NESTEROV, Optimiser::ADAMW] {
        let options = Options { optimiser, schedule: schedule.clone(), ..Options::default() };
        let (mut same, mut own) = (trainer(&options), trainer(&Options { rates: rates.clone(), ..options }));
        same.step(&images(), labels).unwrap();
        own.step(&images(), labels).unwrap();
        for (name, factor) in names {
            let before = weights(&config())(name).unwrap().1;
            let change = |trainer: &Trainer| -> Vec<f32> {
                trainer.tensor(name).unwrap().1.iter().zip(&before).map(|(now, before)| now - before).collect()
            };
            let expected: Vec<f32> = change(&same).iter().map(|change| factor * change).collect();
            // What is lost when a change is added to a weight near 1, ten times.
            let distance = distance(&change(&own), &expected);
            assert!(distance < 2e-6, "{optimiser:?}, {name}: {distance}");
            assert_eq!(change(&own).iter().all(|&change| change == 0.0), factor == 0.0, "{optimiser:?}, {name}");
        }
        // A rate of 0 is not frozen: the statistics follow the batch.
        let name = "features.norm0.running_mean";
        assert_ne!(own.tensor(name).unwrap().1, weights(&config())(name).unwrap().1);
    }
}

#[test]
fn targets_that_do_not_fit_are_refused() {
    let mut trainer = trainer(&Options::default());
    let mut error = |targets: Targets| trainer.step(&images(), targets).unwrap_err().to_string();
    assert_eq!(error(Targets::Labels(&[0; 3])), "3 labels for 4 images");
    assert_eq!(error(Targets::Labels(&[0, 1, 2, 3])), "label 3 is none of the network's 3 classes, which count from 0");
    assert_eq!(error(Targets::Findings(&[0.0; 11])), "11 findings for 4 images of 3 classes");
    let mut findings = [1.0; 12];
    for value in [-1.0, 1.5, f32::INFINITY] {
        findings[7] = value;
        assert_eq!(
            error(Targets::Findings(&findings)),
            format!(
                "the finding of image 2, class 1 is {value}; it must be from 0, absent, to 1, present, or NaN where it is \
                 not known"
            )
        );
    }
}

#[test]
fn a_state_of_another_network_is_refused_and_changes_nothing() {
    let mut saved = trainer(&Options::default());
    saved.step(&images(), Targets::Labels(&[0; IMAGES])).unwrap();
    let wide = config().with_classes(5);
    let shape = Shape { height: 32, width: 32, batch: IMAGES, threads: 1 };
    let mut other = Trainer::new(&wide, weights(&wide), shape, &Options::default()).unwrap();
    let values = |trainer: &Trainer| -> Vec<Vec<f32>> { trainer.state().map(|(.., values)| values.to_vec()).collect() };
    let before = values(&other);
    let state = |name: &str| {
        let (_, shape, values) = saved.state().find(|(own, ..)| own == name)?;
        Some((shape.to_vec(), values.to_vec()))
    };
    let error = other.restore(state, saved.progress()).unwrap_err();
    assert!(matches!(&error, Error::Shape { name, .. } if name == "classifier.weight"), "{error}");
    assert!(values(&other) == before && other.progress() == Progress::default());
}
