//! Which layers a trained DenseNet reads: the mean absolute weight between each pair of layers of a block (arXiv 1608.06993,
//! figure 5).

use std::path::Path;

use densenet_arch::Config;
use serde::Serialize;

use super::canvas::{Anchor, Canvas, Ink, heat};
use crate::error::Result;

/// The weights within one dense block.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Block {
    /// From 1.
    pub number: usize,
    /// For each layer of the block, and last for what reads the block's output (the transition, or the classifier behind the
    /// last block): the mean absolute weight upon the block's input, then upon each layer before it.
    pub targets: Vec<Vec<f32>>,
}

/// The blocks of a network; `weight` gives a tensor's shape and values by its name.
pub fn blocks(config: &Config, mut weight: impl FnMut(&str) -> Result<(Vec<usize>, Vec<f32>)>) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut input = config.num_init_features;
    for ((number, &layers), output) in (1..).zip(&config.block_config).zip(config.block_outputs()) {
        let last = number == config.block_config.len();
        let mut names: Vec<_> =
            (1..=layers).map(|layer| format!("features.denseblock{number}.denselayer{layer}.conv1.weight")).collect();
        names.push(if last { "classifier.weight".into() } else { format!("features.transition{number}.conv.weight") });
        let targets = names.iter().map(|name| Ok(by_source(weight(name)?, input, config.growth_rate)));
        blocks.push(Block { number, targets: targets.collect::<Result<_>>()? });
        input = if last { output } else { config.transition_output(output) };
    }
    Ok(blocks)
}

/// The mean absolute weight of each source, of a weight (out, channels, …) whose first `input` channels are the block's input.
fn by_source((shape, values): (Vec<usize>, Vec<f32>), input: usize, growth: usize) -> Vec<f32> {
    let channels = shape.get(1).copied().unwrap_or(1).max(1);
    let kernel: usize = shape.iter().skip(2).product();
    let mut sums = vec![0.0_f64; channels];
    for (index, value) in values.iter().enumerate() {
        sums[index / kernel.max(1) % channels] += f64::from(value.abs());
    }
    let each = values.len() as f64 / channels as f64;
    let mean = |sums: &[f64]| (sums.iter().sum::<f64>() / (each * sums.len() as f64)) as f32;
    let (first, later) = sums.split_at(input.min(channels));
    std::iter::once(mean(first)).chain(later.chunks(growth).map(mean)).collect()
}

/// All blocks side by side: sources from the top, targets from the left.
fn drawn(name: &str, blocks: &[Block]) -> Canvas {
    // Cells are smaller where a block has many.
    let most = blocks.iter().map(|block| block.targets.len()).max().unwrap_or(1);
    let cell = (288.0 / most as f64).clamp(3.0, 24.0);
    let (left, top, gap) = (34.0, 64.0, 40.0);
    let width: f64 = blocks.iter().map(|block| block.targets.len() as f64 * cell + gap).sum();
    let mut canvas = Canvas::new((left + width).max(420.0), top + most as f64 * cell + 74.0);
    canvas.text((left, 18.0), Anchor::Start, &format!("{name}: mean |weight| between layers"));
    canvas.text((left, 34.0), Anchor::Start, "down: source (0 is the block's input)");
    canvas.text((left, 48.0), Anchor::Start, "across: target (last: what follows)");
    let mut x = left;
    for block in blocks {
        let layers = block.targets.len();
        let largest = block.targets.iter().flatten().copied().fold(0.0_f32, f32::max);
        for (target, sources) in block.targets.iter().enumerate() {
            for (source, &mean) in sources.iter().enumerate() {
                let share = f64::from(mean / largest.max(f32::MIN_POSITIVE));
                let title = format!("block {}, {source} to {}: {mean:.5}", block.number, target + 1);
                let place = (x + target as f64 * cell, top + source as f64 * cell);
                canvas.rect(place, (cell, cell), Ink::Rgb(heat(share)), Some(title));
            }
        }
        let side = layers as f64 * cell;
        for number in [0, layers - 1] {
            let place = (number as f64 + 0.5) * cell;
            canvas.text((x - 3.0, top + place + 4.0), Anchor::End, &number.to_string());
            canvas.text((x + place, top + side + 14.0), Anchor::Middle, &(number + 1).to_string());
        }
        canvas.text((x, top + side + 32.0), Anchor::Start, &format!("block {}", block.number));
        canvas.text((x, top + side + 46.0), Anchor::Start, &format!("max {largest:.3}"));
        x += side + gap;
    }
    canvas
}

/// Draws the figure into a file, as PNG if its name ends so, else as SVG.
pub fn save(path: &Path, name: &str, blocks: &[Block]) -> Result<()> {
    drawn(name, blocks).save(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_averaged_by_where_they_read() {
        // Two blocks of two layers, growth 2, stem 3, no bottleneck; a weight's size is its channel's number, its sign its output's.
        let config = Config {
            block_config: vec![2, 2],
            growth_rate: 2,
            num_init_features: 3,
            bn_size: None,
            num_classes: 5,
            ..Config::cifar(7, 2).unwrap()
        };
        let mut asked = Vec::new();
        let blocks = blocks(&config, |name| {
            asked.push(name.to_owned());
            let params = config.params();
            let shape = params.iter().find(|param| param.name == name).unwrap().shape.clone();
            let kernel: usize = shape.iter().skip(2).product();
            let value = |index: usize| {
                let channel = (index / kernel % shape[1]) as f32;
                if (index / kernel / shape[1]).is_multiple_of(2) { channel } else { -channel }
            };
            let values = (0..shape.iter().product()).map(value).collect();
            Ok((shape, values))
        })
        .unwrap();
        assert_eq!(asked.len(), 6);
        assert_eq!(asked[2], "features.transition1.conv.weight");
        // Channels 0 to 2, then pairs.
        let expected = vec![vec![1.0], vec![1.0, 3.5], vec![1.0, 3.5, 5.5]];
        assert_eq!(blocks[0], Block { number: 1, targets: expected });
        // Behind the transition (no compression): seven channels come in.
        let expected = vec![vec![3.0], vec![3.0, 7.5], vec![3.0, 7.5, 9.5]];
        assert_eq!((blocks[1].targets.clone(), asked[5].as_str()), (expected, "classifier.weight"));
        let drawn = drawn("tiny", &blocks);
        let svg = drawn.svg(true);
        assert!(svg.contains("<title>block 2, 2 to 3: 9.50000</title>"));
        assert_eq!(svg.matches("<rect").count(), 1 + 2 * (1 + 2 + 3));
        assert!(drawn.pixels().width() >= 840);
    }
}
