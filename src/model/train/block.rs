//! A dense block, forward and backward.

use candle_core::{Result, Tensor};
use densenet_arch::Config;
use densenet_engine::train::Site;

use super::norm::{Deferred, Moments};
use super::pass::Pass;
use super::unit::{Step, Unit};
use crate::model::maps::{Grid, room};

/// Layers that each read the maps of all before them.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Channels in.
    channels: usize,
    growth: usize,
    layers: Vec<Layer>,
}

/// One layer.
#[derive(Clone, Debug)]
struct Layer {
    /// Norm1 and the 1x1, with bottleneck.
    narrow: Option<Unit>,
    /// The last norm and the 3x3.
    new: Unit,
}

/// What is kept of a block for the way back.
#[derive(Debug)]
pub(super) struct Kept {
    /// Each channel once: (C, M) for all of the block's C.
    pub(super) x: Tensor,
    pub(super) moments: Moments,
    pub(super) grid: Grid,
    /// What each layer's 1x1 gave, unless it is computed again, and its moments.
    narrow: Vec<Option<(Option<Tensor>, Moments)>>,
}

impl Block {
    /// Block `number` (from 1) over so many channels.
    pub(super) fn new(config: &Config, number: usize, channels: usize) -> Self {
        let before: usize = config.block_config[..number - 1].iter().sum();
        let layers = (1..=config.block_config[number - 1]).map(|layer| {
            let path = format!("features.denseblock{number}.denselayer{layer}");
            let unit = |place, step, site: fn(usize) -> Site| Unit {
                norm: format!("{path}.norm{place}"),
                conv: format!("{path}.conv{place}"),
                step,
                site: site(before + layer - 1),
            };
            match config.bn_size {
                Some(_) => {
                    Layer { narrow: Some(unit(1, Step::One, Site::One)), new: unit(2, Step::Three, Site::Three) }
                }
                None => Layer { narrow: None, new: unit(1, Step::Three, Site::Three) },
            }
        });
        Self { channels, growth: config.growth_rate, layers: layers.collect() }
    }

    /// From rows (C, M) to what is kept, all of the block's channels among it. `again`: what the 1x1s give is not.
    pub(super) fn forward(&self, pass: &Pass, input: &Tensor, grid: Grid, again: bool) -> Result<Kept> {
        let all = self.channels + self.layers.len() * self.growth;
        let x = room((all, grid.pixels()), input.dtype(), input.device())?;
        x.slice_set(input, 0, 0)?;
        let moments = Moments::room(all, input)?;
        pass.put_moments(&moments, 0, input)?;
        let mut narrow = Vec::new();
        for (layer, channels) in self.layers() {
            let (read, of_read) = (x.narrow(0, 0, channels)?, moments.narrow(0, channels)?);
            // (growth, M)
            let new = if let Some(unit) = &layer.narrow {
                let y = unit.forward(pass, &read, &of_read, grid)?; // (bn_size * growth, M)
                let of = pass.moments(&y)?;
                let new = layer.new.forward(pass, &y, &of, grid)?;
                narrow.push(Some(((!again).then_some(y), of)));
                new
            } else {
                narrow.push(None);
                layer.new.forward(pass, &read, &of_read, grid)?
            };
            x.slice_set(&new, 0, channels)?;
            pass.put_moments(&moments, channels, &new)?;
        }
        Ok(Kept { x, moments, grid, narrow })
    }

    /// From the gradient by all of the block's channels, which it takes over, to that by its input, (C, M).
    pub(super) fn backward(&self, pass: &Pass, kept: Kept, gradient: &Deferred) -> Result<Tensor> {
        let Kept { x, moments, grid, mut narrow } = kept;
        let resolve = |start, channels| {
            let moments = moments.narrow(start, channels)?;
            gradient.narrow(start, channels)?.resolve(&x.narrow(0, start, channels)?, &moments)
        };
        for (layer, channels) in self.layers().rev() {
            let by_new = resolve(channels, self.growth)?;
            let (read, of_read) = (x.narrow(0, 0, channels)?, moments.narrow(0, channels)?);
            match (&layer.narrow, narrow.pop().flatten()) {
                (Some(unit), Some((y, of))) => {
                    let y = y.map_or_else(|| unit.again(pass, &read, &of_read, grid), Ok)?;
                    let by_y = layer.new.backward(pass, (&y, &of), grid, &by_new, None)?.resolve(&y, &of)?;
                    unit.backward(pass, (&read, &of_read), grid, &by_y, Some(gradient))?
                }
                _ => layer.new.backward(pass, (&read, &of_read), grid, &by_new, Some(gradient))?,
            };
        }
        resolve(0, self.channels)
    }

    /// Each layer with the channels that it reads.
    fn layers(&self) -> impl DoubleEndedIterator<Item = (&Layer, usize)> {
        self.layers.iter().enumerate().map(|(index, layer)| (layer, self.channels + index * self.growth))
    }
}
