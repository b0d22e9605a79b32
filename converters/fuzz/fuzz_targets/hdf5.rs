#![no_main]
//! HDF5, as Keras has it.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| densenet_converters_fuzz::run(bytes));
