#![no_main]
//! Torch7's object files as text.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| densenet_converters_fuzz::run(bytes));
