//! Opening a card.
#![allow(unsafe_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::cuda::cudarc::driver::{result, sys};
use candle_core::cuda::{CudaDevice, WrapErr};
use candle_core::{Device, Result};

/// Opening a device waits for all streams of its card, which must not be while one of them is recorded.
static QUIET: Mutex<()> = Mutex::new(());

/// Nothing is recorded, or no device is opened, as long as it is kept.
pub(super) fn quiet() -> MutexGuard<'static, ()> {
    QUIET.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the card of that number, with one stream for all threads. What its memory has given back stays with the program for the
/// next tensor; the driver would return it to the system whenever something waits for the stream.
pub(crate) fn open(ordinal: usize) -> Result<Device> {
    let quiet = quiet();
    let device = CudaDevice::new_with_stream(ordinal)?;
    drop(quiet);
    // SAFETY: of all that this device allocates, everything is read, written and freed in its stream's order; the one other
    // stream, of feed.rs, has events of its own.
    unsafe { device.disable_event_tracking() };
    let context = device.cuda_stream().context().clone();
    if context.has_async_alloc() {
        let mut most = u64::MAX;
        let threshold = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the card is open, its pool is the driver's, and this attribute is a u64.
        unsafe {
            let pool = result::device::get_default_mem_pool(context.cu_device()).w()?;
            result::mem_pool::set_attribute(pool, threshold, (&raw mut most).cast()).w()?;
        }
    }
    Ok(Device::Cuda(device))
}
