//! Training on the CPU.
//!
//! An automatic differentiation keeps what every operation read. A DenseNet's layers read concatenations, and each
//! normalises its own, so that this grows with the square of the depth. [`Trainer`] knows the network: it keeps each
//! channel once and writes the way back out by hand.
//!
//! ```
//! # fn main() -> Result<(), densenet_engine::Error> {
//! use densenet_arch::Config;
//! use densenet_engine::Shape;
//! use densenet_engine::train::{Options, Schedule, Targets, Trainer, initial_weights};
//!
//! let config = Config::cifar_bc(10, 4).unwrap();
//! let shape = Shape { height: 8, width: 8, batch: 2, threads: 1 };
//! let options = Options { schedule: Schedule::constant(0.01), ..Options::default() };
//! let mut trainer = Trainer::new(&config, initial_weights(&config, 1), shape, &options)?;
//! let images: Vec<f32> = (0..2 * 3 * 64).map(|index| (index as f32).sin()).collect();
//! let first = trainer.step(&images, Targets::Labels(&[0, 1]))?;
//! let second = trainer.step(&images, Targets::Labels(&[0, 1]))?;
//! assert!(second.loss < first.loss);
//! let plan = trainer.plan(&densenet_engine::Options::default())?; // for evaluation
//! # assert_eq!(plan.config(), &config);
//! # Ok(())
//! # }
//! ```
//!
//! # What is kept
//!
//! Maps are `[block of sixteen channels][pixel]`, one buffer for all the channels that a dense block will ever hold:
//! concatenation does not exist. With x the block's map and y what a layer's 1x1 gives:
//!
//! | | kept for the way back | written | lives in a cache only |
//! |---|---|---|---|
//! | forward | x; y at level 3 | y, the new channels of x | relu(norm1(x)), relu(norm2(y)) |
//! | backward | | gradient of x, gradient of y | the same two again, both as 1x1's panels and 3x3's bands |
//!
//! That is linear in the depth. Level 4 keeps one y instead of each layer's and computes it again from x, which costs the
//! 1x1s' forward products once more. A norm's statistics are those of the first time, so that what comes out is the same
//! bit for bit, and running statistics move once a step. Gradients take two buffers of a block's size, by turns, and one of
//! a y's. A layer's weights are packed when it is their turn.
//!
//! # Statistics
//!
//! The batch's mean μ and variance σ² of a channel do not depend on who reads it. They are taken once, right behind the
//! convolution that wrote it, of runs of at most 64 pixels: a run's mean, then the distances from it. Runs are merged in
//! f64, image by image, then the images in their order.
//!
//! # Batch norm on the way back, deferred
//!
//! Let x̂ = (x - μ) / √(σ² + eps) over the M = images · pixels values of a channel, z = γ·x̂ + β, and d the gradient of the
//! loss by z, zero where the ReLU was closed. Then
//!
//! ```text
//! dγ = Σ d·x̂ = S2      dβ = Σ d = S1
//! dx = s · (d - S1/M - x̂ · S2/M)      with s = γ / √(σ² + eps)
//! ```
//!
//! S1 and S2 are known only when all pixels of all images have been gone back through, which seems to ask for a second
//! pass over d. But x̂ is the same for every norm that reads the channel. So each such norm n adds `s·d` to the channel's
//! gradient G as it goes, and its two sums to two numbers of the channel:
//!
//! ```text
//! G += s_n · d_n      A += s_n · S1_n / M      B += s_n · S2_n / M
//! ```
//!
//! When the channel's turn comes, all its readers are done. Its gradient `G - A - B·x̂` is linear in G and x, and is made
//! while the layer that wrote the channel reads G into its band. Norm2 has one reader: there d stays in the gradient of y,
//! and `s·(d - S1/M - ŷ·S2/M)` is made while the 1x1 reads it into its panel.
//!
//! # A layer's way back
//!
//! 1. Rows of the new channels' gradient, `G - A - B·x̂`, in a band with a border; rows of relu(norm2(y)) in another.
//! 2. The 3x3's weights: for each tap the products of both bands, shifted against one another.
//! 3. The 3x3 with its weights transposed over the first band gives d by norm2's output; gated by the ReLU, S1, S2.
//! 4. Over all images: dβ2, dγ2, and with them the factors of step 5.
//! 5. By chunks of pixels, the gradient of y in a panel, relu(norm1(x)) in another: the products are the 1x1's weights',
//!    and the transposed 1x1 gives d by norm1's output, gated, added to G; S1, S2.
//! 6. Over all images: dβ1, dγ1, A and B.
//!
//! Plain layers have steps 1 to 3, with norm1 and G in step 3. A transition's average goes before its 1x1, as in inference,
//! except with dropout, which stands between the two. The stem's max-pool is gone back through twice, once for norm0's
//! sums and once for its weights, instead of storing what comes out.
//!
//! # The same bits
//!
//! Images are worked on in parts whose number depends on the batch alone. A part sums its gradients of weights image by
//! image; the parts are added up in their order. Sums of an image are taken in the order of its pixels. Dropout's mask is a
//! function of seed, pass, convolution, image and pixel. So a step gives the same bits for any number of threads. More
//! threads than parts, 8 for 16 images and up to 32 for 128, find nothing to do.
//!
//! # When it fails
//!
//! Weights change in [`Trainer::update`] alone, running statistics when the way back has ended. A loss that is not finite,
//! a gradient that is not, and a panic in a thread are errors before that.

mod backward;
mod band;
mod batch;
mod deferred;
mod dropout;
mod dropped;
mod forward;
mod head;
mod init;
mod loss;
mod network;
mod optimiser;
mod options;
mod pass;
mod schedule;
pub(crate) mod statistics;
mod stem;
mod store;
mod targets;
mod three;
mod trainer;

pub use dropout::{Dropout, Mask, Site};
pub use init::initial_weights;
pub use optimiser::Optimiser;
pub use options::{Options, Part};
pub use schedule::{Curve, Schedule};
pub use targets::Targets;
pub use trainer::{Progress, Step, Trainer};

use pass::Core;
