//! Training on candle, on any device.
//!
//! candle's automatic differentiation keeps what every operation read. In a DenseNet these are concatenations, so that it
//! grows with the square of the depth; it has no way back through the stem's max-pool, and only a slow one through
//! convolutions on CUDA. Here the way back is written out, as in the engine ([`densenet_engine::train`]), by operations that
//! candle has on every device. Nothing is tracked.
//!
//! # Rows
//!
//! Maps are (C, B*H*W): a channel is a row. A dense block's channels are the rows of one buffer. What a layer reads is the
//! first of them, as they lie, and what it gives is copied behind: no concatenation exists. A 1x1 convolution, forward and
//! back, is one product of matrices for the whole batch. So is each tap of a kernel's gradient.
//!
//! # What is kept
//!
//! A block's map, each channel once, and what its 1x1s give; not at memory level 4, where that is computed again from the
//! map. Levels 0 to 2 mean 3: concatenations and normalised maps, which they keep besides, are computed again at all levels.
//! The moments of a channel are taken once, whoever reads it, and running statistics move once a step.
//!
//! # Batch norm on the way back
//!
//! All norms that read a channel have the same x̂. Each gives the channel's gradient `s·d - s·S1/M - x̂·s·S2/M`, with d the
//! gradient by what it made (zero where the ReLU was closed), s its scale and S1, S2 the sums of d and of d·x̂ over the M
//! values. The three terms are summed apart and put together when the last reader is done.
//!
//! # Types
//!
//! In half precision the maps and the convolutions' kernels are f16 or bf16. Weights, statistics, sums, the classifier and
//! the loss are f32.

mod block;
mod network;
mod norm;
mod optimiser;
mod pass;
mod store;
mod trainer;
mod unit;
mod values;

pub use trainer::Trainer;
