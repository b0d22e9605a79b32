//! Training on the CPU.

mod backward;
mod batch;
mod dropped;
mod forward;
mod init;
mod loss;
mod network;
mod optimiser;
mod options;
mod pass;
mod schedule;
pub(crate) mod statistics;
mod store;
mod trainer;

pub use init::initial_weights;
pub use optimiser::Optimiser;
pub use options::{Options, Part};
pub use schedule::{Curve, Schedule};
pub use trainer::{Progress, Step, Trainer};

use pass::Core;
