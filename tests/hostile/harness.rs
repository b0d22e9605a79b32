//! Runs the library on one input at a time and measures what that takes.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use densenet_converters::{DType, Error, ErrorKind, Options, Source, convert, read, write_raw};
use safetensors::SafeTensors;

use crate::HEAP;

/// What any file may take beside itself.
const BASE: usize = 64 << 20;
/// An error is a line for a terminal.
const LONGEST_ERROR: usize = 2000;
/// Threads get this much from Rust unless told otherwise; callers of the library have no more to give.
const STACK: usize = 2 << 20;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Only one test allocates at a time: the peak is that of its input.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs work on a thread of usual size and ends the process if it hangs: a hung thread cannot be stopped.
pub(crate) fn watched<T: Send>(name: &str, seconds: u64, work: impl FnOnce() -> T + Send) -> T {
    let (done, waits) = channel();
    std::thread::scope(|scope| {
        // The sender goes with the work, so that a panic ends the wait too.
        let work = move || {
            let result = work();
            // The receiver is gone only if the process is about to end.
            let _ = done.send(());
            result
        };
        let builder = std::thread::Builder::new().stack_size(STACK).name(name.to_owned());
        let thread = builder.spawn_scoped(scope, work).expect("a thread starts");
        if waits.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout) && !thread.is_finished() {
            eprintln!("{name}: it hangs: no answer after {seconds} s");
            std::process::exit(101);
        }
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What became of an input, by each way through the library.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// `convert --raw`: the number of tensors.
    pub(crate) raw: Result<usize, Error>,
    /// `convert`: whether the network was complete.
    pub(crate) converted: Result<bool, Error>,
    /// Peaks of raw, convert and inspect, beside the file.
    pub(crate) peaks: [usize; 3],
    allowed: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let shown = |error: &Error| shorten(&error.to_string()).escape_debug().to_string();
        let (raw, converted) = (self.raw.as_ref().map_err(shown), self.converted.as_ref().map_err(shown));
        write!(f, "raw {raw:?}, converted {converted:?}, peaks {:?} of {}", self.peaks, self.allowed)
    }
}

impl Outcome {
    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let (raw, first) = peak(|| {
            let source = Source::new(bytes);
            let checkpoint = read(&source)?;
            write_raw(&checkpoint, &source, &mut io::sink())?;
            Ok(checkpoint.tensors().len())
        });
        let (converted, second) = peak(|| {
            let source = Source::new(bytes);
            let conversion = convert(&source, &Options::default())?;
            conversion.write(&mut io::sink())?;
            Ok(conversion.report.is_complete(false))
        });
        let ((), third) = peak(|| {
            let source = Source::new(bytes);
            drop(read(&source).map(|checkpoint| checkpoint.tree()));
        });
        Self { raw, converted, peaks: [first, second, third], allowed: BASE + 2 * bytes.len() }
    }

    /// Asserts what holds for every input: bounded memory, and errors that a terminal can show.
    pub(crate) fn check(self, name: &str) -> Self {
        assert!(self.peaks.iter().all(|&peak| peak <= self.allowed), "{name}: too much memory: {self}");
        for error in [self.raw.as_ref().err(), self.converted.as_ref().err()].into_iter().flatten() {
            check_error(name, error);
        }
        self
    }

    /// The text of the error that both ways must have ended in, of a malformed file.
    pub(crate) fn refused(&self, name: &str) -> String {
        let text = |error: Option<&Error>| {
            let error = error.unwrap_or_else(|| panic!("{name}: it is read"));
            assert_eq!(error.kind(), ErrorKind::Malformed, "{name}: {error}");
            error.to_string()
        };
        text(self.converted.as_ref().err());
        text(self.raw.as_ref().err())
    }
}

/// Runs an input with its own watchdog and checks what holds for all.
pub(crate) fn exercise(name: &str, bytes: &[u8]) -> Outcome {
    let outcome = watched(name, 60, || Outcome::of(bytes));
    println!("{name}: {} bytes: {outcome}", bytes.len());
    outcome.check(name)
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

/// One line, not too long, without anything that a terminal would obey.
pub(crate) fn check_error(name: &str, error: &Error) {
    let text = error.to_string();
    let shown = shorten(&text).escape_debug().to_string();
    assert!(text.len() <= LONGEST_ERROR, "{name}: an error of {} bytes: {shown}", text.len());
    assert!(!text.chars().any(char::is_control), "{name}: an error with control characters: {shown}");
}

fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let result = work();
    (result, HEAP.peak_usage().saturating_sub(before))
}

/// Tensors by name: type, shape, bytes.
pub(crate) type Tensors = BTreeMap<String, (String, Vec<usize>, Vec<u8>)>;

/// The tensors of a file as its raw conversion holds them, read back by the safetensors crate.
pub(crate) fn tensors(name: &str, bytes: &[u8]) -> Result<Tensors, Error> {
    let source = Source::new(bytes);
    let checkpoint = read(&source)?;
    let mut out = Vec::new();
    write_raw(&checkpoint, &source, &mut out)?;
    let written =
        SafeTensors::deserialize(&out).unwrap_or_else(|error| panic!("{name}: what is written is wrong: {error}"));
    assert_eq!(written.len(), checkpoint.tensors().len(), "{name}: a name is written twice");
    let views = written.tensors().into_iter();
    let held: Tensors = views
        .map(|(name, view)| (name, (view.dtype().to_string(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    for named in checkpoint.tensors() {
        let (dtype, shape, data) = &held[&named.name];
        assert_eq!((dtype.as_str(), shape.as_slice()), (named.tensor.dtype().name(), named.tensor.shape()), "{name}");
        assert_eq!(data.len(), shape.iter().product::<usize>() * named.tensor.dtype().size(), "{name}");
    }
    Ok(held)
}

/// A conversion is written as the network that it says: these tensors of these shapes.
fn converts_soundly(bytes: &[u8]) -> Result<(), Error> {
    let source = Source::new(bytes);
    let conversion = convert(&source, &Options { dtype: Some(DType::F16), ..Options::default() })?;
    let mut out = Vec::new();
    conversion.write(&mut out)?;
    let written = SafeTensors::deserialize(&out).unwrap_or_else(|error| panic!("what is written is wrong: {error}"));
    let shapes: BTreeMap<_, _> =
        written.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect();
    let params = conversion.config.params();
    for (name, shape) in &shapes {
        assert!(params.iter().any(|param| param.name == *name && param.shape == *shape), "{name} {shape:?}");
    }
    if conversion.report.is_complete(false) {
        assert_eq!(shapes.len(), params.len(), "it is called complete");
    }
    Ok(())
}

/// Runs one generated input in a loop: no panic, bounded memory, sound output or a sound error.
pub(crate) fn attempt(name: &dyn Fn() -> String, bytes: &[u8]) -> Result<Tensors, Error> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        Outcome::of(bytes).check("");
        if let Err(error) = converts_soundly(bytes) {
            check_error("", &error);
        }
        tensors("", bytes)
    }));
    result.unwrap_or_else(|_| panic!("{}: see above", name()))
}

/// A file under tests/fixtures.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = fixtures().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}
