#![no_main]
//! torch.save since 1.6, TorchScript, and a zip around one file.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| densenet_converters_fuzz::run(bytes));
