#![no_main]
//! Torch7's object files: either byte order, longs of 32 and 64 bits.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| densenet_converters_fuzz::run(bytes));
