#![no_main]
//! A NetParameter of Caffe.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| densenet_converters_fuzz::run(bytes));
