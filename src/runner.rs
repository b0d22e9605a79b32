//! The two ways to run a network behind one front: the engine on the CPU, and candle on any device.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use densenet_arch::Config;
pub use densenet_engine::{Convolutions, Precision, Profile, Stage};
use densenet_engine::{Options, Plan, Session, Shape};

use crate::device::{DeviceChoice, allows_tf32, computes, is_out_of_memory};
use crate::error::{Error, Result};
use crate::model::{Inference, Source};
use crate::store::Model;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// densenet-engine; the CPU's.
    Engine {
        /// Threads that work at once.
        threads: usize,
        /// How it computes the 3x3 convolutions.
        convolutions: Convolutions,
        /// What its 1x1 convolutions multiply.
        precision: Precision,
    },
    /// candle, in that type.
    Candle(DType),
}

/// A network ready to be run.
#[derive(Debug)]
pub struct Runner {
    config: Config,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Engine {
        plan: Arc<Plan>,
        threads: usize,
        session: Option<Session>,
    },
    Candle {
        network: Box<Inference>,
        /// Images that its memory takes at once, as far as is known.
        most: usize,
    },
}

impl Runner {
    /// Builds the model's network for images of some height and width; others run as well, if perhaps slower. The engine
    /// runs on the CPU only.
    pub fn new(model: &Model, input: (usize, usize), backend: Backend, device: &Device) -> Result<Self> {
        Self::of_weights(&model.config, &mut |name| model.tensor(name).ok(), input, backend, device)
    }

    /// The same of a network's weights by torchvision's names.
    pub fn of_weights(
        config: &Config,
        weights: &mut Source,
        input: (usize, usize),
        backend: Backend,
        device: &Device,
    ) -> Result<Self> {
        match backend {
            Backend::Engine { .. } if !device.is_cpu() => {
                Err(Error::Usage("the engine runs on the CPU; take --backend candle for other devices".into()))
            }
            Backend::Engine { threads, convolutions, precision } => {
                let options = Options { convolutions, precision, input: Some(input), isa: None };
                Ok(Self::of_plan(Plan::new(config, weights, &options)?, threads))
            }
            Backend::Candle(dtype) => {
                computes(device, dtype)?;
                Ok(Self::of_inference(Inference::new(config, weights, device, dtype)?))
            }
        }
    }

    /// A plan of the engine, run by so many threads.
    pub fn of_plan(plan: Plan, threads: usize) -> Self {
        let config = plan.config().clone();
        Self { config, way: Way::Engine { plan: Arc::new(plan), threads, session: None } }
    }

    /// candle's network.
    pub fn of_inference(network: Inference) -> Self {
        let config = network.config().clone();
        Self { config, way: Way::Candle { network: Box::new(network), most: usize::MAX } }
    }

    /// The network's sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What runs it, recorded with every result: `engine, avx512, exact`, `engine, avx512, fast, bf16`, `candle` or
    /// `candle, cuda:0, bf16`.
    pub fn name(&self) -> String {
        match &self.way {
            Way::Engine { plan, .. } => {
                let convolutions = match plan.convolutions() {
                    Convolutions::Exact => "exact",
                    Convolutions::Fast => "fast",
                };
                let precision = match plan.precision() {
                    Precision::F32 => "",
                    Precision::Bf16 => ", bf16",
                };
                format!("engine, {}, {convolutions}{precision}", plan.isa())
            }
            Way::Candle { network, .. } => candle_name(network.device(), network.dtype()),
        }
    }

    /// The outputs, (images, classes), of images (images, channels, height, width).
    pub fn run(&mut self, images: &[f32], size: (usize, usize)) -> Result<Vec<f32>> {
        self.begin(images, size)?.finish()
    }

    /// Has them computed. A device goes on with it while the next images are made; the engine is done when it returns.
    pub fn begin(&mut self, images: &[f32], (height, width): (usize, usize)) -> Result<Begun> {
        let channels = self.config.in_channels;
        let batch = images.len() / (channels * height * width).max(1);
        match &mut self.way {
            Way::Candle { network, most } => {
                let image = channels * height * width;
                let outputs = in_parts(batch, most, |part| {
                    let shape = [part.len(), channels, height, width];
                    network.run_pixels(&images[part.start * image..part.end * image], &shape)
                })?;
                Ok(Begun { outputs: Outputs::OnDevice(outputs) })
            }
            Way::Engine { plan, threads, session } => {
                let shape = Shape { height, width, batch, threads: *threads };
                Ok(Begun { outputs: Outputs::Here(fitting(session, plan, shape)?.run(images)?.to_vec()) })
            }
        }
    }

    /// Where the time of such a run goes, by dense block and stage; the engine's alone.
    pub fn profile(&mut self, images: &[f32], (height, width): (usize, usize)) -> Result<Profile> {
        let Way::Engine { plan, threads, session } = &mut self.way else {
            return Err(Error::Usage("candle's stages are not measured; take --backend engine for --profile".into()));
        };
        let batch = images.len() / (self.config.in_channels * height * width).max(1);
        let shape = Shape { height, width, batch, threads: *threads };
        Ok(fitting(session, plan, shape)?.profile(images)?.1)
    }
}

/// Outputs that a device may still be computing.
#[derive(Debug)]
#[must_use]
pub struct Begun {
    outputs: Outputs,
}

#[derive(Debug)]
enum Outputs {
    Here(Vec<f32>),
    /// (images, classes), one behind the other.
    OnDevice(Vec<Tensor>),
}

impl Begun {
    /// Whether there is something to wait for.
    pub fn is_under_way(&self) -> bool {
        matches!(&self.outputs, Outputs::OnDevice(parts) if parts.iter().any(|part| !part.device().is_cpu()))
    }

    /// The outputs, (images, classes), once they are computed.
    pub fn finish(self) -> Result<Vec<f32>> {
        match self.outputs {
            Outputs::Here(outputs) => Ok(outputs),
            Outputs::OnDevice(parts) => {
                let parts = parts.iter().map(|part| part.flatten_all()?.to_vec1());
                Ok(parts.collect::<Result<Vec<Vec<f32>>, candle_core::Error>>()?.concat())
            }
        }
    }
}

/// `candle`, with the device where it is not the CPU, and the type where it is not f32.
pub(crate) fn candle_name(device: &Device, dtype: DType) -> String {
    let place = (!device.is_cpu()).then(|| DeviceChoice::of(device).to_string());
    let dtype = match dtype {
        DType::F32 => allows_tf32(device).then(|| "tf32".to_owned()),
        other => Some(other.as_str().to_owned()),
    };
    let parts: Vec<_> = std::iter::once("candle".to_owned()).chain(place).chain(dtype).collect();
    parts.join(", ")
}

/// Runs so many images, `most` at a time. Where the device's memory is full, `most` is halved and it goes on.
fn in_parts<T>(
    images: usize,
    most: &mut usize,
    mut run: impl FnMut(Range<usize>) -> Result<T, candle_core::Error>,
) -> Result<Vec<T>> {
    let mut outputs = Vec::new();
    let mut done = 0;
    while done < images {
        let part = done..images.min(done.saturating_add(*most));
        let count = part.len();
        match run(part) {
            Ok(output) => {
                outputs.push(output);
                done += count;
            }
            Err(error) if count > 1 && is_out_of_memory(&error) => {
                *most = count / 2;
                let said = format!("the device's memory is full at {count} images; going on with {most} at a time\n");
                // Where nobody reads stderr, it goes on all the same.
                let _ = std::io::stderr().write_all(said.as_bytes());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(outputs)
}

/// The session, if it was planned for such images or for more of their size; else a new one in its place.
fn fitting<'a>(session: &'a mut Option<Session>, plan: &Arc<Plan>, shape: Shape) -> Result<&'a mut Session> {
    let fits = |session: &Session| {
        let planned = session.shape();
        (planned.height, planned.width) == (shape.height, shape.width) && planned.batch >= shape.batch
    };
    Ok(match session.take().filter(fits) {
        Some(planned) => session.insert(planned),
        None => session.insert(Session::new(plan, shape)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_memory_halves_the_batch_and_every_image_is_run_once() {
        let mut parts = Vec::new();
        let mut run = |part: Range<usize>| {
            if part.len() > 3 {
                candle_core::bail!("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
            }
            parts.push(part.clone());
            Ok(part)
        };
        let mut most = usize::MAX;
        assert_eq!(in_parts(7, &mut most, &mut run).unwrap(), [0..3, 3..6, 6..7]);
        assert_eq!(in_parts(2, &mut most, &mut run).unwrap(), std::slice::from_ref(&(0..2)));
        assert_eq!((most, parts), (3, vec![0..3, 3..6, 6..7, 0..2]));
        let mut most = usize::MAX;
        let full = |_| -> Result<(), candle_core::Error> { candle_core::bail!("CUDA_ERROR_OUT_OF_MEMORY") };
        let error = in_parts(1, &mut most, full).unwrap_err();
        assert_eq!(error.to_string(), "the device's memory is full; take a smaller batch");
        let other = |_| -> Result<(), candle_core::Error> { candle_core::bail!("no kernel") };
        assert!(in_parts(8, &mut most, other).is_err());
    }
}
