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
pub(crate) mod offline;
mod resume;
mod sources;

/// The same tests at the size of the issue, minutes long: `just kill`, `just crowd`, `just memory` set the variable.
fn at_length<T>(short: T, long: T) -> T {
    if std::env::var_os("DENSENET_ZOO_LONG").is_some() { long } else { short }
}
