//! What holds for every network: the same bits however the work is split, and inputs and weights that do not fit.

mod support;

use std::sync::Arc;

use densenet_arch::{Config, Head};
use densenet_engine::{Convolutions, Error, Isa, Options, Plan, Precision, Session, Shape, Stage};
use support::{Numbers, weights};

fn plan(config: &Config, isa: Option<Isa>) -> Arc<Plan> {
    Arc::new(Plan::new(config, weights(config), &Options { isa, ..Options::default() }).unwrap())
}

fn tiny() -> Config {
    Config::imagenet(&[2, 3, 1, 2], 12, 24).with_classes(21)
}

/// Exact, fast, and fast in bf16.
fn ways() -> [Options; 3] {
    let exact = Options::default();
    let fast = Options { convolutions: Convolutions::Fast, ..exact.clone() };
    [exact, fast.clone(), Options { precision: Precision::Bf16, ..fast }]
}

/// One of them for images of a size; none where the processor lacks bf16.
fn plan_for(config: &Config, isa: Isa, input: (usize, usize), options: &Options) -> Option<Arc<Plan>> {
    let options = Options { isa: Some(isa), input: Some(input), ..options.clone() };
    match Plan::new(config, weights(config), &options) {
        Err(Error::NoBf16(_)) => None,
        plan => {
            let plan = plan.unwrap();
            assert_eq!((plan.convolutions(), plan.precision()), (options.convolutions, options.precision));
            Some(Arc::new(plan))
        }
    }
}

#[test]
fn an_image_s_logits_depend_on_nothing_but_the_image() {
    for options in ways() {
        depends_on_nothing_but_the_image(&options);
    }
}

fn depends_on_nothing_but_the_image(options: &Options) {
    let (height, width) = (75, 53);
    for config in [tiny(), Config { in_channels: 1, ..Config::cifar(13, 12).unwrap() }] {
        let size = config.in_channels * height * width;
        let images = Numbers::new(5).take(5 * size);
        for isa in Isa::available() {
            let Some(plan) = plan_for(&config, isa, (height, width), options) else { continue };
            let session = |batch, threads| Session::new(&plan, Shape { height, width, batch, threads }).unwrap();
            let mut alone = session(1, 1);
            let expected: Vec<f32> = images.chunks(size).flat_map(|image| alone.run(image).unwrap().to_vec()).collect();
            assert!(expected.iter().all(|logit| logit.is_finite()));
            for threads in [1, 2, 3, 8, 40] {
                let mut session = session(5, threads);
                let classes = config.num_classes;
                for images_in_batch in [5, 1, 2, 3] {
                    let got = session.run(&images[..images_in_batch * size]).unwrap();
                    assert_eq!(got, &expected[..images_in_batch * classes], "{isa}, {threads} threads");
                }
                let got = session.run(&images[3 * size..4 * size]).unwrap();
                assert_eq!(got, &expected[3 * classes..4 * classes], "{isa}, {threads} threads");
            }
        }
    }
}

#[test]
fn features_depend_on_nothing_but_the_image_either_and_make_the_logits() {
    let (height, width) = (75, 101);
    let config = tiny();
    let size = 3 * height * width;
    let images = Numbers::new(5).take(4 * size);
    let plan = plan(&config, None);
    let session = |batch, threads| Session::new(&plan, Shape { height, width, batch, threads }).unwrap();
    let mut alone = session(1, 1);
    assert_eq!(alone.features_shape(), [config.num_features(), 2, 3]);
    let mut each = |give: fn(&mut Session, &[f32]) -> Vec<f32>| -> Vec<f32> {
        images.chunks(size).flat_map(|image| give(&mut alone, image)).collect()
    };
    let features = each(|session, image| session.features(image).unwrap().to_vec());
    let pre_logits = each(|session, image| session.pre_logits(image).unwrap().to_vec());
    let logits = each(|session, image| session.run(image).unwrap().to_vec());
    assert_eq!((features.len(), pre_logits.len()), (4 * 6 * config.num_features(), 4 * config.num_features()));
    for (map, mean) in features.chunks(6).zip(&pre_logits) {
        assert!((map.iter().sum::<f32>() / 6.0 - mean).abs() <= 1e-6 * mean.abs().max(1.0));
    }
    let weights = weights(&config);
    let ((_, weight), (_, bias)) = (weights("classifier.weight").unwrap(), weights("classifier.bias").unwrap());
    for (mean, logits) in pre_logits.chunks(config.num_features()).zip(logits.chunks(21)) {
        for ((row, bias), logit) in weight.chunks(config.num_features()).zip(&bias).zip(logits) {
            let want: f32 = row.iter().zip(mean).map(|(a, b)| a * b).sum::<f32>() + bias;
            assert!((logit - want).abs() < 1e-5, "{logit} {want}");
        }
    }
    for threads in [2, 3, 8] {
        let mut session = session(4, threads);
        for images_in_batch in [4, 1, 3] {
            let images = &images[..images_in_batch * size];
            assert_eq!(session.run(images).unwrap(), &logits[..images_in_batch * 21]);
            let channels = images_in_batch * config.num_features();
            assert_eq!(session.features(images).unwrap(), &features[..6 * channels]);
            assert_eq!(session.pre_logits(images).unwrap(), &pre_logits[..channels]);
        }
    }
}

#[test]
fn a_profile_accounts_for_the_run_and_changes_no_bit() {
    // The first two blocks' maps take Winograd's algorithm, the last are too small for it.
    let config = tiny();
    let images = Numbers::new(5).take(5 * 3 * 64 * 64);
    let options = Options { convolutions: Convolutions::Fast, input: Some((64, 64)), ..Options::default() };
    let plan = Arc::new(Plan::new(&config, weights(&config), &options).unwrap());
    for (batch, threads) in [(1, 1), (5, 1), (1, 3), (5, 3)] {
        let images = &images[..batch * 3 * 64 * 64];
        let mut session = Session::new(&plan, Shape { height: 64, width: 64, batch, threads }).unwrap();
        let expected = session.run(images).unwrap().to_vec();
        let start = std::time::Instant::now();
        let (logits, profile) = session.profile(images).unwrap();
        assert_eq!(logits, expected);
        let most = start.elapsed() * threads as u32;
        assert!(profile.total() <= most, "{batch} {threads}");
        assert_eq!(profile.blocks(), 4);
        for block in 0..4 {
            for stage in Stage::ALL {
                let there = match stage {
                    Stage::Stem => block == 0,
                    Stage::Head => block == 3,
                    Stage::Transition => block < 3,
                    Stage::Transforms => block < 2,
                    Stage::Packing | Stage::One | Stage::Three => true,
                    // Measured even where there is nobody to wait for.
                    Stage::Waiting => continue,
                };
                assert_eq!(!profile.time(block, stage).is_zero(), there, "{batch} {threads} {block} {stage:?}");
            }
        }
        assert_eq!(session.run(images).unwrap(), expected);
    }
}

#[test]
fn instruction_sets_agree_up_to_rounding() {
    let config = tiny();
    let image = Numbers::new(6).take(3 * 64 * 64);
    let run = |isa| {
        let plan = plan(&config, Some(isa));
        assert_eq!(plan.isa(), isa);
        let mut session = Session::new(&plan, Shape { height: 64, width: 64, batch: 1, threads: 1 }).unwrap();
        session.run(&image).unwrap().to_vec()
    };
    let portable = run(Isa::Portable);
    let scale = portable.iter().fold(0.0_f32, |most, logit| most.max(logit.abs()));
    for isa in Isa::available() {
        for (a, b) in run(isa).iter().zip(&portable) {
            assert!((a - b).abs() <= 1e-5 * scale, "{isa}: {a} {b}");
        }
    }
}

#[test]
fn bf16_is_near_f32_and_refused_where_there_is_none() {
    let run = |config: &Config, isa, precision| {
        let options = Options { isa: Some(isa), precision, ..Options::default() };
        let plan = Arc::new(Plan::new(config, weights(config), &options)?);
        let mut session = Session::new(&plan, Shape { height: 64, width: 64, batch: 1, threads: 1 })?;
        Ok::<_, Error>(session.run(&Numbers::new(6).take(config.in_channels * 64 * 64))?.to_vec())
    };
    for config in [tiny().with_classes(500), Config::cifar_bc(22, 13).unwrap().with_classes(500)] {
        let exact = run(&config, Isa::Portable, Precision::F32).unwrap();
        let mean = exact.iter().sum::<f32>() / 500.0;
        let deviation = (exact.iter().map(|logit| (logit - mean).powi(2)).sum::<f32>() / 500.0).sqrt();
        for isa in Isa::available() {
            match run(&config, isa, Precision::Bf16) {
                Ok(logits) => {
                    let errors = logits.iter().zip(&exact).map(|(a, b)| (a - b).abs());
                    let most = errors.fold(0.0, f32::max) / deviation;
                    // Some of bf16's 2^-9 are left: it is not f32.
                    assert!((1e-4..2e-2).contains(&most), "{isa}: {most}");
                }
                Err(error) => assert_eq!(
                    error.to_string(),
                    format!("the {isa} kernels cannot multiply in bf16 here, which needs AVX512_BF16; take f32")
                ),
            }
        }
        assert!(run(&config, Isa::Portable, Precision::Bf16).is_ok());
    }
}

#[test]
fn nan_and_infinity_never_become_ordinary_logits() {
    let (height, width) = (64, 48);
    for (config, options) in
        [tiny(), Config::cifar_bc(16, 12).unwrap()].iter().flat_map(|config| ways().map(|options| (config, options)))
    {
        for isa in Isa::available() {
            let Some(plan) = plan_for(config, isa, (height, width), &options) else { continue };
            let mut session = Session::new(&plan, Shape { height, width, batch: 1, threads: 2 }).unwrap();
            let plane = height * width;
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for place in [0, plane - 1, plane + 1234, 3 * plane - 1] {
                    let mut image = Numbers::new(7).take(3 * plane);
                    image[place] = value;
                    let logits = session.run(&image).unwrap();
                    assert!(
                        logits.iter().all(|logit| !logit.is_finite()),
                        "{options:?}, {isa}, {value} at {place}: {logits:?}"
                    );
                }
            }
            // The session is as good as before.
            assert!(session.run(&Numbers::new(7).take(3 * plane)).unwrap().iter().all(|logit| logit.is_finite()));
        }
    }
}

#[test]
fn subnormal_numbers_count_as_zero() {
    let config = tiny();
    let good = weights(&config);
    // No shift anywhere, so that the outputs are as small as the inputs; `gain` is the stem's.
    let weights = |name: &str, gain: f32| {
        let (shape, mut values) = good(name)?;
        if name.ends_with("bias") || name.ends_with("mean") {
            values.fill(0.0);
        }
        if name == "features.norm0.weight" {
            values.fill(gain);
        }
        Some((shape, values))
    };
    for isa in Isa::available() {
        // A subnormal input that the stem would make ordinary, and an ordinary one that it makes subnormal.
        for (input, gain, zero) in [(1e-39, 1e6, true), (1e-36, 1e-3, true), (1e-36, 1e6, false)] {
            let options = Options { isa: Some(isa), ..Options::default() };
            let plan = Arc::new(Plan::new(&config, |name| weights(name, gain), &options).unwrap());
            let mut session = Session::new(&plan, Shape { height: 64, width: 64, batch: 1, threads: 1 }).unwrap();
            let image: Vec<f32> = Numbers::new(9).take(3 * 64 * 64).iter().map(|number| number * input).collect();
            let logits = session.run(&image).unwrap();
            assert_eq!(logits.iter().all(|&logit| logit == 0.0), zero, "{isa} {input} {gain}: {logits:?}");
        }
    }
}

#[test]
fn a_log_softmax_head_is_applied() {
    let config = Config { head: Head::LogSoftmax, ..tiny() };
    let mut session =
        Session::new(&plan(&config, None), Shape { height: 32, width: 32, batch: 2, threads: 1 }).unwrap();
    let output = session.run(&Numbers::new(8).take(2 * 3 * 32 * 32)).unwrap();
    for image in output.chunks(21) {
        let sum: f32 = image.iter().map(|value| value.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let config = tiny();
    let good = weights(&config);
    let name = "features.denseblock2.denselayer1.conv2.weight";
    let error = |given: Option<(Vec<usize>, Vec<f32>)>| {
        let weights = |tensor: &str| if tensor == name { given.clone() } else { good(tensor) };
        Plan::new(&config, weights, &Options::default()).unwrap_err().to_string()
    };
    assert_eq!(error(None), format!("tensor {name:?} is missing from the weights"));
    assert_eq!(
        error(Some((vec![12, 48, 3], vec![]))),
        format!("tensor {name:?} has shape [12, 48, 3], the network needs [12, 48, 3, 3]")
    );
    assert_eq!(
        error(Some((vec![12, 48, 3, 3], vec![0.0; 7]))),
        format!("tensor {name:?} has 7 values where its shape [12, 48, 3, 3] needs 5184")
    );
    let nothing = Config { growth_rate: 0, ..config.clone() };
    assert!(matches!(Plan::new(&nothing, &good, &Options::default()), Err(Error::Config(_))));
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let plan = plan(&tiny(), None);
    let shape = Shape { height: 64, width: 48, batch: 2, threads: 1 };
    let refused = |shape| Session::new(&plan, shape).unwrap_err().to_string();
    assert_eq!(
        refused(Shape { height: 28, ..shape }),
        "an input of 28x48 pixels does not fit the network; sides may be from 29 to 8192"
    );
    assert_eq!(refused(Shape { batch: 0, ..shape }), "batch is 0; it must be from 1 to 4096");
    assert_eq!(refused(Shape { threads: 5000, ..shape }), "threads is 5000; it must be from 1 to 4096");
    let mut session = Session::new(&plan, shape).unwrap();
    for length in [0, 9215, 9217, 3 * 9216] {
        let message = format!("the input has {length} values; an image has 9216, and the session takes 1 to 2 images");
        assert_eq!(session.run(&vec![0.0; length]).unwrap_err().to_string(), message);
    }
    assert!(session.run(&vec![0.0; 9216]).unwrap().iter().all(|logit| logit.is_finite()));
    let mut least = Session::new(&plan, Shape { height: 29, width: 29, batch: 1, threads: 1 }).unwrap();
    assert_eq!(least.run(&vec![0.5; 3 * 29 * 29]).unwrap().len(), 21);
}
