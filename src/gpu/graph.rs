//! What a card is told once and then repeats: of a small batch, telling it takes longer than doing it.
#![allow(unsafe_code)]

use std::fmt;

use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use candle_core::cuda::cudarc::driver::{CudaGraph, CudaStream};
use candle_core::{Result, Tensor};

use super::device::quiet;
use super::launch::card;

/// Computes a tensor from another of the same place each time.
pub(crate) struct Recorder {
    /// What is read.
    input: Tensor,
    state: State,
}

enum State {
    /// Not yet run. The first time looks up kernels and algorithms, and uploads what kernels read besides tensors.
    New,
    /// To be recorded.
    Known,
    Recorded {
        graph: Graph,
        output: Tensor,
    },
    /// It cannot be recorded; it is computed anew each time.
    Plain,
}

/// A graph, which one thread at a time has.
struct Graph(CudaGraph);

// SAFETY: a graph may be launched from any thread, one at a time, and `Recorder::run` takes `&mut self`.
unsafe impl Send for Graph {}
// SAFETY: nothing is done through `&Graph`.
unsafe impl Sync for Graph {}

impl Recorder {
    /// For inputs like this one.
    pub(crate) fn new(input: Tensor) -> Self {
        Self { input, state: State::New }
    }

    /// What `compute` makes of the input: by itself the first time, recorded the second time, repeated from then on. It must do
    /// the same each time, on the input's device alone, and keep none of the tensors that it makes.
    pub(crate) fn run(&mut self, input: &Tensor, mut compute: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        self.input.slice_set(input, 0, 0)?;
        let card = card(self.input.device())?.clone();
        match &self.state {
            State::New => {
                let _kept = card.enable_cuda_graph_htod_cache();
                let output = compute(&self.input)?;
                self.state = State::Known;
                Ok(output)
            }
            State::Known => {
                let output = compute(&self.input)?;
                let kept = card.enable_cuda_graph_htod_cache();
                let recorded = record(&card.cuda_stream(), || output.slice_set(&compute(&self.input)?, 0, 0));
                drop(kept);
                let copy = output.copy()?;
                self.state = match recorded {
                    Some(graph) => State::Recorded { graph: Graph(graph), output },
                    None => State::Plain,
                };
                Ok(copy)
            }
            State::Recorded { graph, output } => {
                graph.0.launch().w()?;
                output.copy()
            }
            State::Plain => compute(&self.input),
        }
    }
}

/// Nothing, where some of the work cannot be recorded.
fn record(stream: &std::sync::Arc<CudaStream>, work: impl FnOnce() -> Result<()>) -> Option<CudaGraph> {
    let _quiet = quiet();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).ok()?;
    let done = work();
    // Ended in any case.
    let graph = stream.end_capture(CUgraphInstantiate_flags(0)).ok().flatten();
    done.ok().and(graph)
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Recorder").field("input", &self.input.shape()).finish_non_exhaustive()
    }
}
