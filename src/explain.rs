//! Where in an image a network sees a class: class activation maps (Zhou et al. 2016), which are exact for a DenseNet, since
//! its classifier reads the mean of the last features.

use candle_core::Tensor;

use crate::data::resize::Rgb8;
use crate::data::transform::Transform;
use crate::error::{Error, Result};
use crate::eval::{best, probabilities, scores};
use crate::model::Inference;

/// One class in one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The class.
    pub class: usize,
    /// Its output.
    pub logit: f32,
    /// Its share of the softmax.
    pub probability: f32,
    /// What each place adds to the logit, row after row; their mean and the class's bias are the logit.
    pub map: Vec<f32>,
    /// Places across and down.
    pub size: (usize, usize),
    /// The image as the network sees it.
    pub picture: Rgb8,
}

/// Explains a class, or the likeliest where none is given, of one image that `transform` makes ready; `name` is the image's.
pub fn explain(
    network: &mut Inference,
    transform: &Transform,
    image: &Rgb8,
    name: &str,
    class: Option<usize>,
) -> Result<Explanation> {
    let classes = network.config().num_classes;
    if let Some(class) = class.filter(|&class| class >= classes) {
        return Err(Error::Usage(format!("class {class} is none of the network's {classes}, which count from 0")));
    }
    let mut input = Vec::new();
    transform.append(image, &mut input).map_err(|error| error.of(name))?;
    let (channels, height, width) = transform.shape();
    let x = Tensor::from_slice(&input, (1, channels, height, width), network.device())?;
    let features = network.features(&x)?; // (1, features, h, w)
    let outputs: Vec<f32> = network.head(&features)?.flatten_all()?.to_vec1()?;
    let outputs = scores(network.config().head, outputs);
    let likeliest = best(&outputs, 1, name)?.first().copied().unwrap_or_default();
    let class = class.unwrap_or(likeliest);
    let map = network.class_map(&features, class)?.squeeze(0)?; // (h, w)
    let (down, across) = map.dims2()?;
    Ok(Explanation {
        class,
        logit: outputs[class],
        probability: probabilities(&outputs)[class],
        map: map.flatten_all()?.to_vec1()?,
        size: (across, down),
        picture: transform.picture(&input),
    })
}

impl Explanation {
    /// The map over the picture: the more a place speaks for the class, the redder; where it speaks least, the picture is grey.
    pub fn overlay(&self) -> Rgb8 {
        let (least, most) = self
            .map
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
        let span = (most - least).max(f32::MIN_POSITIVE);
        let (width, height) = (self.picture.width(), self.picture.height());
        let pixels = self.picture.data().chunks_exact(3).enumerate().flat_map(|(at, pixel)| {
            let share = (self.at(at % width, at / width, (width, height)) - least) / span;
            let grey = pixel.iter().map(|&byte| f32::from(byte)).sum::<f32>() / 3.0;
            // Transparent, then yellow, then red.
            let warm = [255.0, 230.0 * (1.0 - share), 40.0 * (1.0 - share)];
            let strength = 0.65 * share;
            [0, 1, 2].map(|channel| {
                let under = grey + (f32::from(pixel[channel]) - grey) * share;
                (under + (warm[channel] - under) * strength).round().clamp(0.0, 255.0) as u8
            })
        });
        Rgb8::new(width, height, pixels.collect()).unwrap_or_else(|_| self.picture.clone())
    }

    /// The map at a pixel, between the centres of its places.
    fn at(&self, x: usize, y: usize, (width, height): (usize, usize)) -> f32 {
        let place = |at: usize, length: usize, places: usize| {
            let centre = (at as f32 + 0.5) * places as f32 / length as f32 - 0.5;
            let low = centre.floor().clamp(0.0, places as f32 - 1.0);
            let high = (low + 1.0).min(places as f32 - 1.0);
            (low as usize, high as usize, (centre - low).clamp(0.0, 1.0))
        };
        let (across, down) = self.size;
        let (left, right, x) = place(x, width, across);
        let (top, bottom, y) = place(y, height, down);
        let row = |row: usize| {
            let (a, b) = (self.map[row * across + left], self.map[row * across + right]);
            a + (b - a) * x
        };
        row(top) + (row(bottom) - row(top)) * y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_lies_over_the_picture_between_its_places() {
        let explanation = Explanation {
            class: 0,
            logit: 0.0,
            probability: 0.0,
            map: vec![0.0, 1.0, 0.0, 1.0],
            size: (2, 2),
            picture: Rgb8::new(4, 4, vec![90; 48]).unwrap(),
        };
        let row: Vec<f32> = (0..4).map(|x| explanation.at(x, 1, (4, 4))).collect();
        assert_eq!(row, [0.0, 0.25, 0.75, 1.0]);
        let overlay = explanation.overlay();
        // 90 + 0.65 * (255 - 90), 90 + 0.65 * (0 - 90)
        assert_eq!((&overlay.data()[..3], &overlay.data()[9..12]), (&[90, 90, 90][..], &[197, 32, 32][..]));
    }
}
