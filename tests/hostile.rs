//! Hostile files through the library and the binary: a corpus, and generators of truncations, bit flips, mutations, bombs
//! and pickles that name callables. Whatever comes, the answer is a typed error or sound tensors, within bounded memory.

#[path = "hostile/bombs/mod.rs"]
mod bombs;
#[path = "hostile/callables.rs"]
mod callables;
#[path = "hostile/corpus.rs"]
mod corpus;
#[path = "hostile/damage.rs"]
mod damage;
#[path = "hostile/harness.rs"]
mod harness;
#[path = "hostile/make.rs"]
mod make;
#[path = "hostile/make_ports.rs"]
mod make_ports;
#[path = "hostile/misread.rs"]
mod misread;
#[path = "hostile/ports.rs"]
mod ports;
#[path = "hostile/replay.rs"]
mod replay;
#[path = "hostile/samples.rs"]
mod samples;

/// Counts what is allocated, so that a test can bound it.
#[global_allocator]
static HEAP: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
