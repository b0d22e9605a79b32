//! Conversions through the library, against what the original frameworks hold.

pub(crate) mod ports;
mod pytorch;
pub(crate) mod round_trip;
mod t7_format;
pub(crate) mod t7_modules;
mod torch7;

use std::collections::BTreeMap;

use densenet_converters::{Conversion, Options, Source, convert, read, write_raw};
use densenet_zoo::parity::{Difference, Reference};
use safetensors::SafeTensors;

use crate::run::fixture;

/// Type, shape and bytes.
pub(crate) type Content = (String, Vec<usize>, Vec<u8>);
/// By name.
pub(crate) type Tensors = BTreeMap<String, Content>;

pub(crate) fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The tensors of a safetensors file, as the safetensors crate reads them.
pub(crate) fn tensors(bytes: &[u8]) -> Tensors {
    let read = SafeTensors::deserialize(bytes).unwrap();
    let views = read.tensors().into_iter();
    views
        .map(|(name, view)| (name, (format!("{:?}", view.dtype()), view.shape().to_vec(), view.data().to_vec())))
        .collect()
}

pub(crate) fn written(conversion: &Conversion) -> Vec<u8> {
    let mut out = Vec::new();
    conversion.write(&mut out).unwrap();
    out
}

/// The tensors that a checkpoint becomes. Every one of the source must be accounted for.
pub(crate) fn converted(name: &str, options: &Options) -> Tensors {
    let bytes = bytes(name);
    let source = Source::new(&bytes);
    let conversion = convert(&source, options).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(conversion.report.is_complete(false), "{name}: {}", conversion.report);
    tensors(&written(&conversion))
}

/// Why a checkpoint does not convert.
pub(crate) fn refused(name: &str, options: &Options) -> String {
    let bytes = bytes(name);
    let source = Source::new(&bytes);
    match convert(&source, options) {
        Err(error) => error.to_string(),
        Ok(conversion) => {
            assert!(!conversion.report.is_complete(false), "{name} was converted");
            conversion.report.to_string()
        }
    }
}

/// A file's tensors under their own names.
pub(crate) fn raw(name: &str) -> Tensors {
    let bytes = bytes(name);
    let source = Source::new(&bytes);
    let mut out = Vec::new();
    let checkpoint = read(&source).unwrap_or_else(|error| panic!("{name}: {error}"));
    write_raw(&checkpoint, &source, &mut out).unwrap();
    tensors(&out)
}

/// Without the counters, which old files lack.
pub(crate) fn uncounted(mut tensors: Tensors) -> Tensors {
    tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
    tensors
}

/// The difference of a checkpoint's output to a reference's, on that reference's input or another's.
pub(crate) fn difference(model: &str, input: &str, output: &str) -> Difference {
    let store = densenet_zoo::store::Store::open(&[]).unwrap();
    let model = store.model(fixture(model).to_str().unwrap(), &mut densenet_registry::Silent).unwrap();
    let network = model.network(&candle_core::Device::Cpu, candle_core::DType::F32).unwrap();
    let input = Reference::open(&fixture(input)).unwrap().input;
    let found: Vec<f32> = network.forward(&input, false).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let (_, _, expected) = tensors(&bytes(output)).remove("output").unwrap();
    let expected: Vec<f32> = expected.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
    assert_eq!(found.len(), expected.len());
    Difference::between(&found, &expected)
}
