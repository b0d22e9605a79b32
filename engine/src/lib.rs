//! DenseNet inference on the CPU.
//!
//! A general runtime copies the growing feature map at every layer and cannot see that the network's batch norms fold.
//! This engine knows the network: [`Plan`] packs the weights once, [`Session`] owns every buffer and runs images
//! without allocating.
//!
//! ```
//! # fn main() -> Result<(), densenet_engine::Error> {
//! use std::sync::Arc;
//!
//! use densenet_arch::Config;
//! use densenet_engine::{Options, Plan, Session, Shape};
//!
//! let config = Config::imagenet(&[1, 1], 4, 8).with_classes(5);
//! let shapes: std::collections::HashMap<_, _> = config.params().into_iter().map(|p| (p.name, p.shape)).collect();
//! let weights = |name: &str| shapes.get(name).map(|shape| (shape.clone(), vec![0.5; shape.iter().product()]));
//! let plan = Arc::new(Plan::new(&config, weights, &Options::default())?);
//! let mut session = Session::new(&plan, Shape { height: 64, width: 48, batch: 2, threads: 1 })?;
//! let logits = session.run(&[0.0; 3 * 64 * 48])?; // one image: (1, classes)
//! assert_eq!(logits.len(), 5);
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! Channels go in blocks of sixteen, which is a cache line and the logical vector of every kernel. A row of a map is
//! `[block][pixel][16 channels]`, and a map is its rows:
//!
//! ```text
//! row y    | block 0: pixel 0, 1, … w-1 | block 1: pixel 0, 1, … w-1 | …
//! row y+1  | …
//! ```
//!
//! A dense block has one map for all the channels that it will ever hold. A layer reads the blocks in front and writes
//! its own behind them, so that concatenation does not exist:
//!
//! ```text
//!           | input of the block | layer 1 | layer 2 |        |
//! layer 2:  |<------- reads ------------->|  writes  |
//! ```
//!
//! Growth rates that are no multiple of sixteen leave lanes unused in the last block of each layer. These hold zeros,
//! and no kernel multiplies by them. Rows are separate, so that threads can write to different ones.
//!
//! # What folds
//!
//! With s = γ / √(var + eps) and t = β - mean · s, a batch norm is x ↦ s·x + t. s and t are computed in f64.
//!
//! | norm | followed by | goes |
//! |---|---|---|
//! | norm0, norm2, behind a convolution W | ReLU | into it: weights s·W, bias t |
//! | norm1, before a 1x1 or 3x3 | ReLU | into the copy of the pixels that the convolution reads |
//! | a transition's, norm5 | ReLU, average | into the average |
//!
//! A transition averages *before* its 1x1: both are linear and the one acts on pixels, the other on channels, so that
//! they commute, and a quarter of the products is left.
//!
//! # Packing
//!
//! Outputs are computed in tiles of some pixels by one or two vectors of output channels, whose sums stay in registers
//! (14 by 2 with AVX-512, 6 by 1 with AVX2 and NEON). Weights lie in the order in which a tile reads them:
//! `[output group][input block][tap][channel][vector][16]`. The 1x1's pixels are packed by up to 56 into a panel,
//! `[tile][input block][pixel][16]`, normalised on the way once and read for all outputs. The 3x3 reads a map with a
//! border of zeros and needs no panel, and the stem reads the image's planes. The classifier is a 1x1 over one pixel an image.
//!
//! # Winograd
//!
//! [`Convolutions::Fast`] computes a 3x3 on 4x4 outputs at a time, from the 6x6 inputs d that they see, as
//! A^T [(G g G^T) · (B^T d B)] A: both are taken as polynomials, evaluated at 0, ±3/4, ±3/2 and infinity in each
//! direction, multiplied point by point and interpolated. 36 products are left of 144. Small maps take 2x2 outputs from
//! 4x4 inputs, at 0, ±1 and infinity: 16 products of 36, and 16 sets of weights to read instead of 36.
//!
//! G g G^T is computed once, in f64. The products of a point are a 1x1 over the channels, with tiles as its pixels. What
//! a tile sees beyond the border is zero, and what it computes beyond the map is dropped. Which form a layer is packed
//! for follows from the products and the weights that it would read at the plan's input size; on the smallest maps that
//! is the direct one.
//!
//! # bf16
//!
//! [`Precision::Bf16`] multiplies in bf16 where the 1x1 convolutions of dense layers are. A lane holds two
//! neighbouring channels, of a pixel in the panel, rounded on the way into it, and of an output's weights: one
//! instruction multiplies sixteen outputs by two channels and adds in f32. What the rounding of its weights shifts an output
//! by on average, as far as the norms tell, is taken out of its bias. Transitions, few of the products and much of the error,
//! stay in f32, and all else does.
//!
//! # Threads
//!
//! Whole images go to one thread each. Images that are left over, and a single one, are shared: each step, threads take
//! equal runs of pixels or tiles, and of the outputs too where there are fewer tiles than threads, and meet at a barrier.
//! A thread computes the small maps of several images at once, one below the other, so that a layer's weights are read
//! once for all. Each output is summed by one thread in one order, so that it is the same bit for bit however the work is
//! split.
//!
//! # Numbers
//!
//! NaN stays NaN through ReLU, pooling, Winograd's transforms and the rounding to bf16: one in an image reaches every
//! logit. So does an infinity, as itself or as NaN, unless ReLU stops it in every channel of the stem. Subnormal weights, inputs and outputs of a ReLU become zero, as processors take
//! long over them. That is done with the numbers and not with the processor's mode for them, which Rust does not let a
//! program change. Kernels of different instruction sets agree up to rounding, and so do exact
//! and fast convolutions, the fast with some bits less.
// The kernels' vectors alone need it.
#![deny(unsafe_code, clippy::undocumented_unsafe_blocks)]

mod chunk;
mod error;
mod fold;
mod forward;
mod isa;
mod kernels;
mod lanes;
mod maps;
mod packed;
mod plan;
mod profile;
mod rounding;
mod session;
mod team;
pub mod train;
mod winograd;

pub use error::Error;
pub use isa::Isa;
pub use plan::{Convolutions, Options, Plan, Precision};
pub use profile::{Profile, Stage};
pub use session::{Session, Shape};
