#![no_main]
//! A ModelProto of ONNX.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| densenet_converters_fuzz::run(bytes));
