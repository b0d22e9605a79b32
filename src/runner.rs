//! The two ways to run a network behind one front: the engine on the CPU, and candle on any device.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use densenet_arch::Config;
pub use densenet_engine::{Convolutions, Precision, Profile, Stage};
use densenet_engine::{Options, Plan, Session, Shape};

use crate::error::{Error, Result};
use crate::model::DenseNet;
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
    /// candle, in f32.
    Candle,
}

/// A network ready to be run.
#[derive(Debug)]
pub struct Runner {
    config: Config,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Engine { plan: Arc<Plan>, threads: usize, session: Option<Session> },
    Candle { network: Box<DenseNet>, device: Device },
}

impl Runner {
    /// Builds the model's network for images of some height and width; others run as well, if perhaps slower. The engine
    /// runs on the CPU only.
    pub fn new(model: &Model, input: (usize, usize), backend: Backend, device: &Device) -> Result<Self> {
        let way = match backend {
            Backend::Engine { .. } if !device.is_cpu() => {
                return Err(Error::Usage("the engine runs on the CPU; take --backend candle for other devices".into()));
            }
            Backend::Engine { threads, convolutions, precision } => {
                let weights = |name: &str| model.tensor(name).ok();
                let options = Options { convolutions, precision, input: Some(input), isa: None };
                Way::Engine { plan: Arc::new(Plan::new(&model.config, weights, &options)?), threads, session: None }
            }
            Backend::Candle => {
                let network = Box::new(model.network(device, DType::F32)?);
                Way::Candle { network, device: device.clone() }
            }
        };
        Ok(Self { config: model.config.clone(), way })
    }

    /// A plan of the engine, run by so many threads.
    pub fn of_plan(plan: Plan, threads: usize) -> Self {
        let config = plan.config().clone();
        Self { config, way: Way::Engine { plan: Arc::new(plan), threads, session: None } }
    }

    /// The network's sizes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What runs it, recorded with every result: `engine, avx512, exact`, `engine, avx512, fast, bf16` or `candle`.
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
            Way::Candle { .. } => "candle".into(),
        }
    }

    /// The outputs, (images, classes), of images (images, channels, height, width).
    pub fn run(&mut self, images: &[f32], (height, width): (usize, usize)) -> Result<Vec<f32>> {
        let channels = self.config.in_channels;
        let batch = images.len() / (channels * height * width).max(1);
        match &mut self.way {
            Way::Candle { network, device } => {
                let x = Tensor::from_slice(images, (batch, channels, height, width), device)?;
                Ok(network.forward(&x, false)?.flatten_all()?.to_vec1()?)
            }
            Way::Engine { plan, threads, session } => {
                let shape = Shape { height, width, batch, threads: *threads };
                Ok(fitting(session, plan, shape)?.run(images)?.to_vec())
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
