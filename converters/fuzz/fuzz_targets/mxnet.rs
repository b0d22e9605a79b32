#![no_main]
//! A list of MXNet's NDArrays, alone, and with what follows a line `beside` as its symbol.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| densenet_converters_fuzz::run_beside(bytes, "m-symbol.json"));
