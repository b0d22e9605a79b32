//! A published network made ready for other images: a new classifier, frozen parts, an input of one channel.

use densenet_arch::{Config, Head, Protocol, Resize};
use densenet_engine::train::Part;

use super::augment::Augmentation;
use super::recipe::{Falls, Recipe};
use crate::error::{Error, Result};

/// What the classifier, which begins from nothing, learns faster by.
const HEAD_RATE: f64 = 10.0;

impl Recipe {
    /// How a network with weights goes on with other images: at a tenth of the original's rate, ten times that in the new
    /// classifier, along a cosine. The network is the model's, with so many classes and one or three input channels.
    pub fn fine_tuning(config: &Config, protocol: Protocol, num_classes: usize, in_channels: usize) -> Result<Self> {
        // The loss takes logits, and dropout is for training from nothing.
        let config = Config { num_classes, in_channels, head: Head::Logits, drop_rate: 0.0, ..config.clone() };
        Ok(Self {
            epochs: 20,
            batch: 32,
            rate: 0.01,
            falls: Falls::Cosine,
            rates: vec![(Part::Classifier.to_string(), HEAD_RATE)],
            augmentation: Augmentation::named(if protocol.resize.is_some() { "random-resized-crop" } else { "cifar" })?,
            ..Self::original("fine-tuning".into(), config, protocol)
        })
    }
}

/// The protocol with another side of the input; images are resized in proportion.
pub fn resized(protocol: Protocol, side: Option<usize>) -> Result<Protocol> {
    let Some(side) = side.filter(|&side| side != protocol.crop) else { return Ok(protocol) };
    let Some(resize) = protocol.resize else {
        return Err(Error::Usage(format!(
            "protocol {} takes images as they are; --protocol names another",
            protocol.name
        )));
    };
    let short = (resize.size as f64 * side as f64 / protocol.crop as f64).round() as usize;
    let name = format!("{}-{short}-{side}", protocol.name);
    let resized = Protocol { name, resize: Some(Resize { size: short, ..resize }), crop: side, ..protocol };
    // The way through its text checks the sizes.
    Ok(Protocol::from_text(&resized.to_text())?)
}

/// The first part that is trained where these are frozen: `stem`, `block1`, `transition1` … , by torchvision's names too,
/// or `backbone` for all but the classifier.
///
/// # Errors
///
/// A part that the network does not have, and one that is frozen while a part before it is trained.
pub fn first_trained(frozen: &[String], blocks: usize) -> Result<String> {
    let order = parts(blocks);
    let index = |name: &String| {
        let known = if name == "backbone" { Some(Part::Norm) } else { part(name) };
        let known = known.and_then(|part| order.iter().position(|&known| known == part));
        known.filter(|&at| at + 1 < order.len()).ok_or_else(|| {
            let names: Vec<_> = order[..order.len() - 1].iter().map(short).collect();
            Error::Usage(format!("no part {name:?} to freeze; there is backbone, {}", names.join(", ")))
        })
    };
    let frozen_parts = frozen.iter().map(index).collect::<Result<Vec<_>>>()?;
    let first = match frozen_parts.iter().max() {
        None => 0,
        // Everything before the classifier, said at once.
        Some(_) if frozen.iter().any(|name| name == "backbone") => return Ok(Part::Classifier.to_string()),
        Some(last) => last + 1,
    };
    match (0..first).find(|at| !frozen_parts.contains(at)) {
        Some(missing) => Err(Error::Usage(format!(
            "{} is frozen and {} before it is not; gradients would go through it for nothing: freeze that too",
            short(&order[first - 1]),
            short(&order[missing])
        ))),
        None => Ok(order[first].to_string()),
    }
}

/// The part of that name: torchvision's, or `stem`, `block1` …
pub fn part(name: &str) -> Option<Part> {
    match name {
        "stem" | "norm0" => Some(Part::Stem),
        _ => Part::named(name).or_else(|| Part::named(&format!("dense{name}"))),
    }
}

/// The parts of a network of so many blocks, in the order of computation.
fn parts(blocks: usize) -> Vec<Part> {
    let middle = (1..=blocks).flat_map(|number| [Part::Block(number), Part::Transition(number)]);
    let mut parts: Vec<_> = std::iter::once(Part::Stem).chain(middle).collect();
    // Behind the last block comes the norm.
    parts.pop();
    parts.extend([Part::Norm, Part::Classifier]);
    parts
}

/// A part's name on the command line.
fn short(part: &Part) -> String {
    match part {
        Part::Stem => "stem".into(),
        Part::Block(number) => format!("block{number}"),
        other => other.to_string(),
    }
}

/// The model's weights with a classifier of `drawn` numbers, and with its input's channels summed where one is wanted: a grey
/// image repeated over three channels gives the same sums where their means and deviations are equal.
pub fn weights<'w>(
    mut model: impl FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)> + 'w,
    mut drawn: impl FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)> + 'w,
    in_channels: usize,
) -> impl FnMut(&str) -> Option<(Vec<usize>, Vec<f32>)> + 'w {
    move |name| {
        if name.starts_with("classifier.") {
            return drawn(name);
        }
        let (mut shape, values) = model(name)?;
        match (name, &shape[..]) {
            ("features.conv0.weight", &[outputs, inputs, height, width])
                if inputs != in_channels && in_channels == 1 =>
            {
                let kernel = height * width;
                let sum = |at: usize| {
                    let (output, tap) = (at / kernel, at % kernel);
                    let of = |input: usize| values.get((output * inputs + input) * kernel + tap);
                    (0..inputs).filter_map(of).sum::<f32>()
                };
                shape = vec![outputs, 1, height, width];
                Some((shape, (0..outputs * kernel).map(sum).collect()))
            }
            _ => Some((shape, values)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(frozen: &[&str]) -> Result<String, String> {
        let frozen: Vec<_> = frozen.iter().map(ToString::to_string).collect();
        first_trained(&frozen, 4).map_err(|error| error.to_string())
    }

    #[test]
    fn parts_are_frozen_from_the_stem_on() {
        assert_eq!(first(&[]).unwrap(), "conv0");
        assert_eq!(first(&["stem"]).unwrap(), "denseblock1");
        assert_eq!(first(&["block1", "conv0"]).unwrap(), "transition1");
        assert_eq!(first(&["stem", "denseblock1", "transition1", "block2"]).unwrap(), "transition2");
        assert_eq!(first(&["backbone"]).unwrap(), "classifier");
        assert_eq!(
            first(&["stem", "block2"]).unwrap_err(),
            "block2 is frozen and block1 before it is not; gradients would go through it for nothing: freeze that too"
        );
        let unknown = first(&["block5"]).unwrap_err();
        assert!(
            unknown.starts_with("no part \"block5\" to freeze; there is backbone, stem, block1, transition1,"),
            "{unknown}"
        );
        assert!(first(&["classifier"]).is_err() && first(&["transition4"]).is_err());
    }

    #[test]
    fn a_grey_input_gets_the_sum_of_the_colours_weights() {
        let model = |_: &str| Some((vec![2, 3, 1, 2], (1..=12).map(|value| value as f32).collect::<Vec<_>>()));
        let drawn = |_: &str| Some((vec![1], vec![0.5]));
        let mut weights = weights(model, drawn, 1);
        // 1 + 3 + 5, 2 + 4 + 6; 7 + 9 + 11, 8 + 10 + 12.
        assert_eq!(weights("features.conv0.weight"), Some((vec![2, 1, 1, 2], vec![9.0, 12.0, 27.0, 30.0])));
        assert_eq!(weights("classifier.bias"), Some((vec![1], vec![0.5])));
        assert_eq!(weights("features.norm0.weight").unwrap().0, [2, 3, 1, 2]);
    }
}
