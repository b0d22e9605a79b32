//! Pixels on their way to a device.

use candle_core::{Device, Result, Tensor};

/// Brings one batch after another to a device.
#[derive(Debug)]
pub(crate) struct Feed {
    device: Device,
    /// Through pinned memory, beside the computing.
    #[cfg(feature = "cuda")]
    card: Option<crate::gpu::Feed>,
}

impl Feed {
    pub(crate) fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            #[cfg(feature = "cuda")]
            card: None,
        }
    }

    /// The pixels as a tensor of that shape, f32 on the device; they are free when it returns.
    pub(crate) fn push(&mut self, pixels: &[f32], shape: &[usize]) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if self.device.is_cuda() {
            let card = match self.card.take() {
                Some(card) => card,
                None => crate::gpu::Feed::new(&self.device)?,
            };
            return self.card.insert(card).push(pixels, shape);
        }
        Tensor::from_slice(pixels, shape, &Device::Cpu)?.to_device(&self.device)
    }
}
