//! A catalogue of published DenseNet weights, and the byte path that fetches and verifies them.
//!
//! - [`Catalogue`]: one [`Weight`] a published file, embedded from `models/*.toml`, with the user's own added.
//! - [`fetch`]: the right bytes into a [`Cache`], or a clear error. Nothing wrong is ever kept.
//! - [`verify`]: the cache hashed again.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod cache;
mod catalogue;
mod clock;
mod digest;
mod embedded;
mod error;
mod fetch;
mod http;
#[cfg(feature = "hub")]
pub mod hub;
mod lock;
mod partial;
mod progress;
mod retry;
mod signature;
mod source;
mod verify;
mod weight;

pub use cache::{Cache, Object, Record, temporary_in};
pub use catalogue::Catalogue;
pub use clock::{Clock, SystemClock};
pub use digest::Digest;
pub use embedded::embedded;
pub use error::{Error, ErrorKind};
pub use fetch::{FetchOptions, fetch};
pub use progress::{Progress, Silent};
pub use signature::Key;
pub use verify::{Verified, verify};
pub use weight::{Known, Like, Member, Network, Published, SourceFormat, Weight, WeightFile};
