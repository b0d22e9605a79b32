//! Fetching as if the network, the disk and other processes were enemies: what is kept is right, or nothing is.

pub(crate) mod server;
pub(crate) mod zoo;

mod cache;
mod digest;
mod disk;
mod http;
mod kill;
mod many;
mod memory;
mod offline;
mod resume;
mod sources;
