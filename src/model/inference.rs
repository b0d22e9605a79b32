//! The network for inference alone, with its norms folded.

use candle_core::{D, DType, Device, Result, Shape, Tensor};
use densenet_arch::{Config, Stem};

use super::affine::Affine;
use super::feed::Feed;
use super::maps::{Grid, room};
use super::window::Window;
use super::{Source, convolution, output, pool};
#[cfg(feature = "cuda")]
use crate::gpu::Recorder;

/// A DenseNet that gives the same outputs as [`DenseNet`](super::DenseNet) by fewer operations.
///
/// Norms that follow a convolution (norm0, norm2) are folded into it. A dense block is one buffer of rows, a channel each:
/// what a layer gives is written behind what it read, and nothing is concatenated. Buffers stay for the next batch of the
/// same shape.
#[derive(Debug)]
pub struct Inference {
    config: Config,
    device: Device,
    dtype: DType,
    /// (stem, C, 7, 7), CIFAR (stem, C, 3, 3)
    conv0: Tensor,
    /// What norm0 leaves behind conv0.
    shift0: Option<Affine>,
    blocks: Vec<Vec<Layer>>,
    /// Norm and 1x1, one between each two blocks.
    transitions: Vec<(Affine, Tensor)>,
    norm5: Affine,
    /// (features, classes) and (classes), f32.
    classifier: (Tensor, Tensor),
    /// Of the last batches' shapes, the latest last.
    places: Vec<Place>,
    feed: Feed,
}

/// How many shapes of batches are remembered: the whole ones, and what is left over at the end.
const PLACES: usize = 2;

/// Up to so many pixels a card takes longer to be told what to do than to do it.
#[cfg(feature = "cuda")]
const SMALL: usize = 32 * 224 * 224;

/// What stays for the next batch of the same shape.
#[derive(Debug)]
struct Place {
    /// (B, C, H, W)
    shape: Shape,
    /// A block's each.
    buffers: Vec<Tensor>,
    #[cfg(feature = "cuda")]
    recorder: Option<Recorder>,
}

/// A dense layer.
#[derive(Debug)]
struct Layer {
    norm1: Affine,
    /// With bottleneck: the 1x1 by norm2, and what norm2 leaves behind it.
    narrow: Option<(Tensor, Affine)>,
    /// 3x3
    new: Tensor,
}

/// Reads weights and folds them, in f32 on the CPU.
struct Weights<'a, 's> {
    source: &'a mut Source<'s>,
    eps: f64,
    device: &'a Device,
    dtype: DType,
}

impl Weights<'_, '_> {
    fn get(&mut self, name: &str) -> Result<Tensor> {
        let Some((shape, values)) = (self.source)(name) else { candle_core::bail!("no tensor {name}") };
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    /// Scale and shift of a norm, (C, 1) each.
    fn norm(&mut self, path: &str) -> Result<Affine> {
        let mut get = |name| self.get(&format!("{path}.{name}"))?.unsqueeze(1);
        let (weight, bias, mean, var) = (get("weight")?, get("bias")?, get("running_mean")?, get("running_var")?);
        let scale = (weight / (var + self.eps)?.sqrt()?)?;
        let shift = (bias - (mean * &scale)?)?;
        Ok(Affine { scale, shift })
    }

    fn affine(&mut self, path: &str) -> Result<Affine> {
        let Affine { scale, shift } = self.norm(path)?;
        Ok(Affine { scale: scale.to_device(self.device)?, shift: shift.to_device(self.device)? })
    }

    fn kernel(&mut self, path: &str) -> Result<Tensor> {
        let kernel = self.get(&format!("{path}.weight"))?;
        convolution::laid(&kernel.to_dtype(self.dtype)?.to_device(self.device)?)
    }

    /// A convolution and the norm behind it as a convolution and a shift.
    fn folded(&mut self, conv: &str, norm: &str) -> Result<(Tensor, Affine)> {
        let Affine { scale, shift } = self.norm(norm)?;
        let kernel = self.get(&format!("{conv}.weight"))?.broadcast_mul(&scale.unsqueeze(2)?.unsqueeze(3)?)?;
        let ones = scale.ones_like()?.to_device(self.device)?;
        let shift = Affine { scale: ones, shift: shift.to_device(self.device)? };
        Ok((convolution::laid(&kernel.to_dtype(self.dtype)?.to_device(self.device)?)?, shift))
    }
}

impl Inference {
    /// Takes the weights by torchvision's names.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or has another shape.
    pub fn new(config: &Config, source: &mut Source, device: &Device, dtype: DType) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let mut weights = Weights { source, eps: config.eps, device, dtype };
        let (conv0, shift0) = match config.stem {
            Stem::Imagenet => {
                let (kernel, shift) = weights.folded("features.conv0", "features.norm0")?;
                (kernel, Some(shift))
            }
            Stem::Cifar => (weights.kernel("features.conv0")?, None),
        };
        let (mut blocks, mut transitions) = (Vec::new(), Vec::new());
        for (number, &layers) in (1..).zip(&config.block_config) {
            let layers = (1..=layers).map(|layer| {
                let path = format!("features.denseblock{number}.denselayer{layer}");
                let (conv1, conv2) = (format!("{path}.conv1"), format!("{path}.conv2"));
                let norm1 = weights.affine(&format!("{path}.norm1"))?;
                Ok(match config.bn_size {
                    Some(_) => {
                        let narrow = Some(weights.folded(&conv1, &format!("{path}.norm2"))?);
                        Layer { norm1, narrow, new: weights.kernel(&conv2)? }
                    }
                    None => Layer { norm1, narrow: None, new: weights.kernel(&conv1)? },
                })
            });
            blocks.push(layers.collect::<Result<_>>()?);
            if number < config.block_config.len() {
                let path = format!("features.transition{number}");
                transitions.push((weights.affine(&format!("{path}.norm"))?, weights.kernel(&format!("{path}.conv"))?));
            }
        }
        let norm5 = weights.affine("features.norm5")?;
        let (weight, bias) = (weights.get("classifier.weight")?, weights.get("classifier.bias")?);
        let classifier = (weight.t()?.contiguous()?.to_device(device)?, bias.to_device(device)?);
        Ok(Self {
            config: config.clone(),
            dtype,
            conv0,
            shift0,
            blocks,
            transitions,
            norm5,
            classifier,
            places: Vec::new(),
            feed: Feed::new(device),
            device: device.clone(),
        })
    }

    /// The sizes it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type it computes in; sums, norms and the classifier are f32.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Logits, or what the config's head makes of them, (B, classes) in f32, of images (B, C, H, W) on any device.
    pub fn run(&mut self, images: &Tensor) -> Result<Tensor> {
        let images = images.to_device(&self.device)?.to_dtype(DType::F32)?;
        let mut place = self.place(images.shape());
        let output = self.run_in(&mut place, &images);
        self.places.push(place);
        output
    }

    /// What the head reads: (B, features, h, w) behind the last norm and ReLU, in f32, of images (B, C, H, W) on any device.
    pub fn features(&mut self, images: &Tensor) -> Result<Tensor> {
        let images = images.to_device(&self.device)?.to_dtype(DType::F32)?;
        let mut place = self.place(images.shape());
        let map = self.last_map(&images, &mut place.buffers);
        self.places.push(place);
        map?.transpose(0, 1)?.to_dtype(DType::F32)
    }

    /// From what [`features`](Self::features) gives to what [`run`](Self::run) does.
    pub fn head(&self, features: &Tensor) -> Result<Tensor> {
        self.classify(&features.transpose(0, 1)?)
    }

    /// Where a class is seen (Zhou et al. 2016): what [`features`](Self::features) gives, weighted by what the classifier gives each,
    /// (B, h, w). Exact: its mean over the map and the class's bias are the class's logit.
    pub fn class_map(&self, features: &Tensor, class: usize) -> Result<Tensor> {
        let weight = self.classifier.0.narrow(1, class, 1)?.reshape((1, (), 1, 1))?; // (1, features, 1, 1)
        features.broadcast_mul(&weight)?.sum(1)
    }

    /// [`run`](Self::run) of pixels in the order of such a shape. A card may still be computing when it returns, and what it reads by then
    /// is its own.
    pub(crate) fn run_pixels(&mut self, pixels: &[f32], shape: &[usize]) -> Result<Tensor> {
        let images = self.feed.push(pixels, shape)?;
        self.run(&images)
    }

    /// What is remembered of the shape, taken out; the oldest of too many is forgotten.
    fn place(&mut self, shape: &Shape) -> Place {
        if let Some(known) = self.places.iter().position(|place| place.shape == *shape) {
            return self.places.remove(known);
        }
        if self.places.len() == PLACES {
            self.places.remove(0);
        }
        Place {
            shape: shape.clone(),
            buffers: Vec::new(),
            #[cfg(feature = "cuda")]
            recorder: None,
        }
    }

    fn run_in(&self, place: &mut Place, images: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if self.device.is_cuda() && place.shape.elem_count() <= SMALL * self.config.in_channels {
            let recorder = match &mut place.recorder {
                Some(recorder) => recorder,
                none => none.insert(Recorder::new(images.zeros_like()?)),
            };
            return recorder.run(images, |images| self.compute(images, &mut place.buffers));
        }
        self.compute(images, &mut place.buffers)
    }

    /// Of images in f32 on the device. `buffers` are written over, or made.
    fn compute(&self, images: &Tensor, buffers: &mut Vec<Tensor>) -> Result<Tensor> {
        self.classify(&self.last_map(images, buffers)?)
    }

    /// Behind the last norm and ReLU, (features, B, h, w).
    fn last_map(&self, images: &Tensor, buffers: &mut Vec<Tensor>) -> Result<Tensor> {
        let Config { stem, pooling, growth_rate, .. } = self.config;
        let images = images.to_dtype(self.dtype)?;
        let window = Window::first(stem);
        let mut map = if let Some(shift) = &self.shift0 {
            convolution::first_pooled(&images, &self.conv0, window, shift, pooling)?
        } else {
            let (rows, grid) = convolution::first(&images, &self.conv0, window)?;
            grid.unfold(&rows)?
        }; // (stem, B, H, W)
        for (index, layers) in self.blocks.iter().enumerate() {
            let (channels, batch, height, width) = map.dims4()?;
            let grid = Grid { batch, height, width };
            if buffers.len() == index {
                let shape = (channels + layers.len() * growth_rate, grid.pixels());
                buffers.push(room(shape, self.dtype, &self.device)?);
            }
            let buffer = &buffers[index];
            block(layers, &map.flatten_from(1)?, grid, growth_rate, buffer)?;
            if let Some((norm, kernel)) = self.transitions.get(index) {
                // The average before the 1x1: the same, on a quarter of the pixels.
                let mean = pool::average_behind(norm, &grid.unfold(buffer)?, pooling)?;
                let out = convolution::one(&mean.flatten_from(1)?, kernel)?;
                map = out.reshape(((), batch, mean.dim(2)?, mean.dim(3)?))?;
            } else {
                map = grid.unfold(&self.norm5.relu(buffer)?)?;
            }
        }
        Ok(map)
    }

    /// From the last map (features, B, h, w).
    fn classify(&self, map: &Tensor) -> Result<Tensor> {
        let (weight, bias) = &self.classifier;
        let features = map.flatten_from(2)?.to_dtype(DType::F32)?.mean(D::Minus1)?; // (features, B)
        output(self.config.head, features.t()?.contiguous()?.matmul(weight)?.broadcast_add(bias)?)
    }
}

/// Fills a buffer with all of a block's channels, (C, M), from its input's.
fn block(layers: &[Layer], input: &Tensor, grid: Grid, growth: usize, all: &Tensor) -> Result<()> {
    let channels = input.dim(0)?;
    all.slice_set(input, 0, 0)?;
    for (channels, layer) in (channels..).step_by(growth).zip(layers) {
        let Layer { norm1, narrow, new } = layer;
        match narrow {
            Some((narrow, norm2)) => {
                convolution::narrow_three_into(all, channels, grid, (norm1, narrow), (norm2, new))?;
            }
            None => convolution::three_into(all, channels, norm1, &all.narrow(0, 0, channels)?, grid, new)?,
        }
    }
    Ok(())
}
