#![no_main]
//! Arrays of NumPy's: in an archive, and as the one array of an archive.

use densenet_converters_fuzz::{archive, run_arrays};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    run_arrays(bytes);
    run_arrays(&archive(&[("conv1_weight.npy", bytes)]));
});
