//! The folded network, against the network as it is and the engine.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use densenet_arch::{Config, Head, Rounding, networks};
use densenet_engine::Convolutions;
use densenet_zoo::model::{DenseNet, Inference};
use densenet_zoo::runner::{Backend, Precision, Runner};

use super::{apart, here, images, values};
use crate::engine::random_weights;

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
