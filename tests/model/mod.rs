//! The network against PyTorch, timm and Torch7, and at full size.

use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use densenet_arch::networks;
use densenet_zoo::data::npy;
use densenet_zoo::model::DenseNet;
use densenet_zoo::parity::{Difference, Reference};
use densenet_zoo::runner::{Backend, Convolutions, Precision, Runner};
use densenet_zoo::store::Store;

use crate::run::{fixture, path};

fn network(name: &str) -> DenseNet {
    let store = Store::open(&[]).unwrap();
    let model = store.model(&path(name), &mut densenet_registry::Silent).unwrap();
    model.network(&Device::Cpu, DType::F32).unwrap()
}

#[test]
fn outputs_equal_timm_s_and_odd_sizes_pytorch_s() {
    for (model, reference) in [
        ("pytorch/timm_tiny.safetensors", "pytorch/timm_tiny_64.ref.safetensors"),
        ("pytorch/tiny_zip.pt", "pytorch/tiny_75x53.ref.safetensors"),
    ] {
        let reference = Reference::open(&fixture(reference)).unwrap();
        let opened = Store::open(&[]).unwrap().model(&path(model), &mut densenet_registry::Silent).unwrap();
        let (convolutions, precision) = (Convolutions::Exact, Precision::F32);
        for backend in [Backend::Candle(DType::F32), Backend::Engine { threads: 2, convolutions, precision }] {
            let mut runner = Runner::new(&opened, (64, 64), backend, &Device::Cpu).unwrap();
            let difference = reference.compare(&mut runner).unwrap();
            assert!(difference.within(1e-5), "{model}, {}: {difference:?}", runner.name());
        }
    }
}

#[test]
fn features_are_torchvision_s_after_the_last_relu() {
    let network = network("pytorch/tiny_zip.pt");
    let input = Reference::open(&fixture("pytorch/tiny_64.ref.safetensors")).unwrap().input;
    // Stored before the ReLU.
    let (shape, stored) = npy::read_f32(&std::fs::read(fixture("pytorch/tiny_features_64.npy")).unwrap()).unwrap();
    let stored: Vec<f32> = stored.into_iter().map(|value| value.max(0.0)).collect();
    let features = network.forward_features(&input, false).unwrap();
    assert_eq!(features.dims(), shape);
    let features: Vec<f32> = features.flatten_all().unwrap().to_vec1().unwrap();
    assert!(Difference::between(&features, &stored).within(1e-5));
    let maps = network.features(&input, false).unwrap();
    let shapes: Vec<_> = maps.iter().map(|map| map.dims().to_vec()).collect();
    // Strides 4, 8, 16, 32 of 64 pixels; 8 + 2 * 4 channels, halved, and so on.
    assert_eq!(shapes, [[2, 16, 16, 16], [2, 16, 8, 8], [2, 16, 4, 4], [2, 16, 2, 2]]);
    assert_eq!(network.pre_logits(&input, false).unwrap().dims(), [2, 16]);
}

#[test]
fn a_full_size_network_runs_and_takes_another_head() {
    let config = &networks::find("densenet-121").unwrap().config;
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let mut network = DenseNet::new(config, vb.clone()).unwrap();
    let image = Tensor::ones((1, 3, 224, 224), DType::F32, &Device::Cpu).unwrap();
    let logits = network.forward(&image, false).unwrap();
    assert_eq!(logits.dims(), [1, 1000]);
    assert!(logits.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|value| value.is_finite()));
    network.reset_classifier(14, vb.pp("chest")).unwrap();
    assert_eq!(network.forward(&image, false).unwrap().dims(), [1, 14]);
    assert_eq!(network.config().num_classes, 14);
}

#[test]
fn a_log_softmax_head_is_applied() {
    let plain = network("pytorch/tiny_zip.pt");
    let config = densenet_arch::Config { head: densenet_arch::Head::LogSoftmax, ..plain.config().clone() };
    let weights = VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    let x = Tensor::ones((1, 3, 64, 64), DType::F32, &Device::Cpu).unwrap();
    let output = DenseNet::new(&config, vb).unwrap().forward(&x, false).unwrap();
    let sum: f32 = output.exp().unwrap().sum_all().unwrap().to_scalar().unwrap();
    assert!((sum - 1.0).abs() < 1e-5);
}

#[test]
fn ten_crops_are_torch_s() {
    use densenet_arch::{Fit, Interpolation, Protocol, Resize};
    use densenet_zoo::data::resize::Rgb8;
    use densenet_zoo::data::transform::Transform;

    let resize = Resize { size: 64, fit: Fit::ShortSide, interpolation: Interpolation::Torch7Bicubic };
    let protocol = Protocol { resize: Some(resize), crop: 56, ..Protocol::named("torch7").unwrap() };
    let transform = Transform::new(&protocol, 3).unwrap().with_ten_crops().unwrap();
    for (image, name) in [
        ("photo_500x375_420_jpg", "photo_500x375_420.jpg"),
        ("restart_q50_333x223_jpg", "restart_q50_333x223.jpg.crops1to6"),
    ] {
        let decoded = std::fs::read(fixture(&format!("preproc/decoded/{image}.png"))).unwrap();
        let decoded = image::load_from_memory(&decoded).unwrap().to_rgb8();
        let decoded = Rgb8::new(decoded.width() as usize, decoded.height() as usize, decoded.into_raw()).unwrap();
        let mut found = Vec::new();
        transform.append(&decoded, &mut found).unwrap();
        assert_eq!(found.len(), 10 * 3 * 56 * 56);
        let file = std::fs::read(fixture(&format!("torch_image/c_tencrop56_{image}.safetensors"))).unwrap();
        let file = safetensors::SafeTensors::deserialize(&file).unwrap();
        let expected = file.tensor(name).unwrap();
        let expected = expected.data().as_chunks().0.iter().map(|&value| f32::from_le_bytes(value));
        assert!(found.into_iter().take(expected.len()).eq(expected), "{image}");
    }
}
