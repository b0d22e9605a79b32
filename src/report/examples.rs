//! What the commonest errors look like: their images, and where the network saw what in the first of them.

use candle_core::{DType, Device};

use super::Measured;
use crate::data::imagenet::LabelSet;
use crate::data::resize::{Rgb8, pillow};
use crate::data::transform::Transform;
use crate::data::{Dataset, Image};
use crate::error::{Error, Result};
use crate::explain::explain;
use crate::metrics::Confusion;
use crate::model::Inference;
use crate::store::Model;
use densenet_arch::Protocol;

/// Longer side of a thumbnail.
const THUMBNAIL: usize = 96;
/// Images shown of one confusion.
const MOST: usize = 6;
/// Confusions that are explained.
const EXPLAINED: usize = 3;

/// Images of one confusion.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Which.
    pub confusion: Confusion,
    /// Some images of it, small, with their names.
    pub images: Vec<(String, Rgb8)>,
    /// The first of them, with where the network saw the right class and the one that it said.
    pub maps: Option<(Rgb8, Rgb8)>,
}

/// The images of each of the commonest confusions of a run whose predictions were kept; `model` explains the first ones, on `device`.
pub fn examples(measured: &Measured, model: Option<&Model>, device: &Device) -> Result<Vec<Example>> {
    if measured.predictions.is_empty() {
        return Ok(Vec::new());
    }
    let dataset = Dataset::open(&measured.run.data, &LabelSet::Original)?;
    let mut explainer = model.map(|model| Explainer::new(measured, model, device)).transpose()?;
    let mut examples = Vec::new();
    for (rank, &confusion) in measured.summary.confusions.iter().enumerate() {
        let is_one = |prediction: &&crate::metrics::Prediction| {
            prediction.labels.first() == Some(&confusion.label)
                && prediction.top.first() == Some(&confusion.predicted)
                && !prediction.top1()
        };
        let mut example = Example { confusion, images: Vec::new(), maps: None };
        for prediction in measured.predictions.iter().filter(is_one).take(MOST) {
            let Some(sample) = dataset.samples.iter().find(|sample| sample.id == prediction.image) else {
                return Err(Error::Usage(format!(
                    "{}: {} is not among the data any more",
                    measured.run.data, prediction.image
                )));
            };
            let pixels = sample.image.pixels()?;
            if let Some(explainer) = explainer.as_mut().filter(|_| rank < EXPLAINED && example.images.is_empty()) {
                example.maps = Some(explainer.maps(&sample.image, &sample.id, confusion)?);
            }
            example.images.push((sample.id.clone(), thumbnail(&pixels)));
        }
        examples.push(example);
    }
    Ok(examples)
}

/// The network as it was run.
struct Explainer {
    network: Inference,
    transform: Transform,
}

impl Explainer {
    fn new(measured: &Measured, model: &Model, device: &Device) -> Result<Self> {
        // A result names its protocol; the model's own may be a described one of that name.
        let protocol = if model.protocol.name == measured.run.protocol {
            model.protocol.clone()
        } else {
            Protocol::named(&measured.run.protocol)?
        };
        Ok(Self {
            network: model.inference(device, DType::F32)?,
            transform: Transform::new(&protocol, model.config.in_channels)?,
        })
    }

    fn maps(&mut self, image: &Image, name: &str, confusion: Confusion) -> Result<(Rgb8, Rgb8)> {
        let pixels = image.pixels()?;
        let mut map = |class| {
            let found = explain(&mut self.network, &self.transform, &pixels, name, Some(class))?;
            Ok::<_, Error>(thumbnail(&found.overlay()))
        };
        Ok((map(confusion.label)?, map(confusion.predicted)?))
    }
}

fn thumbnail(image: &Rgb8) -> Rgb8 {
    let longer = image.width().max(image.height());
    let side = |length: usize| (length * THUMBNAIL / longer).max(1);
    pillow::resize(image, side(image.width()), side(image.height()), pillow::Filter::Bilinear)
}
