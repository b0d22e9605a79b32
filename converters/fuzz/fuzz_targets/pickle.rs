#![no_main]
//! Pickles: alone, and as the object of a zip with a storage.

use densenet_converters_fuzz::{archive, run};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    run(bytes);
    run(&archive(&[("a/data.pkl", bytes), ("a/data/0", &[0; 16])]));
});
