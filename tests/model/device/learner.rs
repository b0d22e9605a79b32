//! A run's learner on a device.

use std::collections::HashMap;

use candle_core::DType;
use densenet_engine::Convolutions;
use densenet_engine::train::{Targets, initial_weights};
use densenet_zoo::device::DeviceChoice;
use densenet_zoo::train::{Compute, Following, Learner, Recipe, Settings};

use super::{apart, here};

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
