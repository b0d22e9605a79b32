//! Training: a recipe, run epoch by epoch on a learner, which computes.
//!
//! What is drawn depends on seed, epoch and image alone, and the engine gives the same bits for any number of threads: so
//! does a run. A checkpoint holds all that a run needs to go on to the same bits.

mod augment;
mod candle;
mod check;
mod checkpoint;
mod draws;
mod epoch;
mod figures;
pub mod finetune;
mod folder;
mod labelled;
mod learner;
mod preset;
mod recipe;
mod run;
mod sets;
mod source;
mod split;
mod step;
mod tensorboard;
mod torch7;

pub use augment::{Augmentation, RandomResizedCrop, RandomSizedCrop, Shift};
pub use check::{check, check_images, shared};
pub use checkpoint::{Checkpoint, Origin, Position, State, Stored};
pub use densenet_engine::train::initial_weights;
pub use draws::{Draws, Random};
pub use epoch::{Epoch, Score};
pub use folder::{Folder, Kept};
pub use labelled::{Count, Labelled, Targets};
pub use learner::{Compute, Entry, Following, Learner, Named, Tensors};
pub use preset::Data;
pub use recipe::{Falls, Optimiser, Recipe};
pub use run::{Advance, Moment, Run, Settings};
pub use sets::{Choice, Sets};
pub use source::Source;
pub use split::Split;
pub use torch7::Torch7;
