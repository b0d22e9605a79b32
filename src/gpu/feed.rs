//! Images on their way to the card, while it computes.
#![allow(unsafe_code)]

use std::fmt;
use std::sync::Arc;
use std::thread;

use candle_core::cuda::cudarc::driver::{CudaEvent, CudaSlice, CudaStream, PinnedHostSlice};
use candle_core::cuda::{CudaStorage, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{Device, Result, Storage, Tensor};

use super::launch::card;

/// Two batches' room in pinned memory and on the card, filled in turn, and a stream for the copies.
pub(crate) struct Feed {
    device: Device,
    copies: Arc<CudaStream>,
    slots: [Option<Slot>; 2],
    next: usize,
}

struct Slot {
    pinned: PinnedHostSlice<f32>,
    on_card: CudaSlice<f32>,
    /// On the card.
    arrived: CudaEvent,
    /// Read by the device's stream.
    taken: CudaEvent,
    copies: Arc<CudaStream>,
}

impl Slot {
    fn new(copies: &Arc<CudaStream>, count: usize) -> Result<Self> {
        let context = copies.context();
        // SAFETY: the pinned memory is filled here, and the card's is copied to before it is read.
        let (mut pinned, on_card) = unsafe { (context.alloc_pinned(count).w()?, copies.alloc(count).w()?) };
        pinned.as_mut_slice().w()?.fill(0.0);
        let (arrived, taken) = (context.new_event(None).w()?, context.new_event(None).w()?);
        Ok(Self { pinned, on_card, arrived, taken, copies: copies.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Its memory on the card is freed in the order of the copies, behind its last use; pinned memory is freed at once. Where
        // waiting fails, so has all else.
        let _ = self.copies.wait(&self.taken);
        let _ = self.arrived.synchronize();
    }
}

impl Feed {
    pub(crate) fn new(device: &Device) -> Result<Self> {
        let copies = card(device)?.cuda_stream().context().new_stream().w()?;
        Ok(Self { device: device.clone(), copies, slots: [None, None], next: 0 })
    }

    /// A tensor of that shape on the card, which has the pixels by the time the device's stream reads it. It returns when they are
    /// in pinned memory: before, if the copy of the last but one has not ended, it waits for that.
    pub(crate) fn push(&mut self, pixels: &[f32], shape: &[usize]) -> Result<Tensor> {
        let card = card(&self.device)?;
        let stream = card.cuda_stream();
        let place = &mut self.slots[self.next];
        self.next = (self.next + 1) % 2;
        let known = place.take().filter(|slot| slot.pinned.len() >= pixels.len());
        let slot = place.insert(match known {
            Some(slot) => slot,
            None => Slot::new(&self.copies, pixels.len())?,
        });
        // The pinned slice knows of no copy where the device tracks none.
        slot.arrived.synchronize().w()?;
        copy(pixels, slot.pinned.as_mut_slice().w()?);
        self.copies.wait(&slot.taken).w()?;
        self.copies.memcpy_htod(&slot.pinned, &mut slot.on_card).w()?;
        slot.arrived.record(&self.copies).w()?;
        stream.wait(&slot.arrived).w()?;
        // SAFETY: all of it is written by the copy.
        let mut images = unsafe { card.alloc::<f32>(pixels.len())? };
        card.memcpy_dtod(&slot.on_card.slice(..pixels.len()), &mut images)?;
        slot.taken.record(&stream).w()?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(images, card.clone()));
        Ok(Tensor::from_storage(storage, shape.to_vec(), BackpropOp::none(), false))
    }
}

/// By some threads: one does not fill the memory's width.
fn copy(from: &[f32], to: &mut [f32]) {
    const PART: usize = 1 << 20;
    let parts = from.len().div_ceil(PART).clamp(1, 8);
    let size = from.len().div_ceil(parts).max(1);
    thread::scope(|scope| {
        let mut parts = from.chunks(size).zip(to.chunks_mut(size));
        let first = parts.next();
        for (from, to) in parts {
            scope.spawn(|| to[..from.len()].copy_from_slice(from));
        }
        if let Some((from, to)) = first {
            to[..from.len()].copy_from_slice(from);
        }
    });
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Feed").field("device", &self.device).finish_non_exhaustive()
    }
}
