//! What every target does with a file, and the containers that a target puts around its bytes.
//!
//! With `cargo install cargo-fuzz`, in `converters`, on stable:
//! `cargo fuzz run -s none TARGET -- -max_total_time=600 -max_len=6000 -rss_limit_mb=800 -timeout=10`
//! It adds what it finds to the seeds' folder; give it a folder of its own before that one to keep the seeds as they are.
#![forbid(unsafe_code)]

use std::io;

use densenet_arch::Rounding;
use densenet_converters::{DType, Error, Kernels, Layout, Options, Source, convert, read, write_raw};
use safetensors::SafeTensors;

/// An error is a line for a terminal.
const LONGEST_ERROR: usize = 2000;

/// Every way through the library. Panics where one does not hold what it promises.
pub fn run(bytes: &[u8]) {
    let source = Source::new(bytes);
    if let Err(error) = raw(&source) {
        check(&error);
    }
    for options in [Options::default(), Options { dtype: Some(DType::F16), ..Options::default() }] {
        converted(&source, &options);
    }
}

/// The same for arrays of NumPy's, by every way that their names and kernels can be told.
pub fn run_arrays(bytes: &[u8]) {
    run(bytes);
    let source = Source::new(bytes);
    for layout in [Layout::Pytorch, Layout::Layers] {
        for kernels in [Kernels::Tensorflow, Kernels::Theano] {
            let (layout, kernels) = (Some(layout), Some(kernels));
            let (eps, pooling) = (Some(1e-4), Some(Rounding::Ceil));
            converted(&source, &Options { layout, kernels, eps, pooling, ..Options::default() });
        }
    }
}

fn converted(source: &Source, options: &Options) {
    let written = convert(source, options).and_then(|conversion| conversion.write(&mut io::sink()));
    if let Err(error) = written {
        check(&error);
    }
}

/// The same for a file with another beside it: what follows a line `beside`.
pub fn run_beside(bytes: &[u8], name: &str) {
    const MARK: &[u8] = b"\nbeside\n";
    run(bytes);
    let Some(at) = bytes.windows(MARK.len()).position(|window| window == MARK) else { return };
    let files = [(name.to_owned(), &bytes[at + MARK.len()..])];
    converted(&Source::new(&bytes[..at]).with_neighbours(&files), &Options::default());
}

fn raw(source: &Source) -> Result<(), Error> {
    let checkpoint = read(source)?;
    drop(checkpoint.tree());
    let mut out = Vec::new();
    write_raw(&checkpoint, source, &mut out)?;
    let written = SafeTensors::deserialize(&out).expect("what is written is safetensors");
    assert_eq!(written.len(), checkpoint.tensors().len(), "a name is written twice");
    for named in checkpoint.tensors() {
        let view = written.tensor(&named.name).expect("every tensor is written");
        assert_eq!(view.shape(), named.tensor.shape());
        assert_eq!(view.data(), named.tensor.to_bytes()?);
    }
    Ok(())
}

fn check(error: &Error) {
    let text = error.to_string();
    assert!(text.len() <= LONGEST_ERROR, "an error of {} bytes", text.len());
    assert!(!text.chars().any(char::is_control), "an error with control characters: {text:?}");
}

/// A zip without checksums, which no fuzzer guesses.
pub fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for &(name, data) in members {
        let (at, size) = ((bytes.len() as u32).to_le_bytes(), (data.len() as u32).to_le_bytes());
        // Method, time and checksum are 0 in the middle; then both sizes, the name's length and no extra field.
        let middle = [&[0; 10][..], &size, &size, &(name.len() as u16).to_le_bytes(), &[0; 2]].concat();
        bytes.extend([b"PK\x03\x04\x14\0\0\0", &middle[..], name.as_bytes(), data].concat());
        directory.extend([b"PK\x01\x02\x14\0\x14\0\0\0", &middle[..], &[0; 10], &at, name.as_bytes()].concat());
    }
    let count = (members.len() as u16).to_le_bytes();
    let (start, size) = ((bytes.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    bytes.extend([&directory[..], b"PK\x05\x06\0\0\0\0", &count, &count, &size, &start, &[0; 2]].concat());
    bytes
}
