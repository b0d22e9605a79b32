//! A DenseNet's training step in f64, by plain loops and the chain rule.

use std::collections::HashMap;

use densenet_arch::{Config, Stem};

/// (n, channels, height, width)
type Shape = [usize; 4];

/// Goes from the gradients of all maps to those of a step's inputs and weights.
type Back = Box<dyn Fn(&mut Tape)>;

/// What a step computes.
pub(crate) struct Reference {
    pub(crate) loss: f64,
    pub(crate) gradients: HashMap<String, Vec<f64>>,
    /// Running statistics after the step.
    pub(crate) statistics: HashMap<String, Vec<f64>>,
}

struct Tape {
    config: Config,
    weights: HashMap<String, Vec<f64>>,
    maps: Vec<(Shape, Vec<f64>)>,
    map_gradients: Vec<Vec<f64>>,
    gradients: HashMap<String, Vec<f64>>,
    statistics: HashMap<String, Vec<f64>>,
    back: Vec<Back>,
    /// Names of the parts that run as in evaluation.
    frozen: Vec<String>,
}

/// One step. Parts of `frozen` (`denseblock1`) use their running statistics.
pub(crate) fn step(
    config: &Config,
    weights: HashMap<String, Vec<f64>>,
    (images, labels): (&[f32], &[usize]),
    (height, width): (usize, usize),
    smoothing: f64,
    frozen: &[&str],
) -> Reference {
    let shape = [labels.len(), config.in_channels, height, width];
    let images = images.iter().map(|&value| f64::from(value)).collect();
    let frozen = frozen.iter().map(ToString::to_string).collect();
    let mut tape = Tape {
        config: config.clone(),
        weights,
        maps: vec![(shape, images)],
        map_gradients: Vec::new(),
        gradients: HashMap::new(),
        statistics: HashMap::new(),
        back: Vec::new(),
        frozen,
    };
    let logits = tape.network();
    tape.map_gradients = tape.maps.iter().map(|(_, values)| vec![0.0; values.len()]).collect();
    let loss = tape.loss(logits, labels, smoothing);
    for back in std::mem::take(&mut tape.back).into_iter().rev() {
        back(&mut tape);
    }
    Reference { loss, gradients: tape.gradients, statistics: tape.statistics }
}

impl Tape {
    fn network(&mut self) -> usize {
        let config = self.config.clone();
        let mut x = match config.stem {
            Stem::Cifar => self.conv(0, "features.conv0", 3, 1),
            Stem::Imagenet => {
                let x = self.conv(0, "features.conv0", 7, 2);
                let x = self.norm_relu(x, "features.norm0");
                self.max_pool(x)
            }
        };
        for (block, &layers) in (1..).zip(&config.block_config) {
            for layer in 1..=layers {
                let path = format!("features.denseblock{block}.denselayer{layer}");
                let mut y = self.norm_relu(x, &format!("{path}.norm1"));
                y = if config.bn_size.is_some() {
                    y = self.conv(y, &format!("{path}.conv1"), 1, 1);
                    y = self.norm_relu(y, &format!("{path}.norm2"));
                    self.conv(y, &format!("{path}.conv2"), 3, 1)
                } else {
                    self.conv(y, &format!("{path}.conv1"), 3, 1)
                };
                x = self.join(x, y);
            }
            if block < config.block_config.len() {
                let path = format!("features.transition{block}");
                x = self.norm_relu(x, &format!("{path}.norm"));
                x = self.conv(x, &format!("{path}.conv"), 1, 1);
                x = self.average(x, (2, 2));
            }
        }
        x = self.norm_relu(x, "features.norm5");
        let [_, _, height, width] = self.maps[x].0;
        x = self.average(x, (height, width));
        let logits = self.conv(x, "classifier", 1, 1);
        let [_, classes, ..] = self.maps[logits].0;
        let bias = self.weights["classifier.bias"].clone();
        for (index, value) in self.maps[logits].1.iter_mut().enumerate() {
            *value += bias[index % classes];
        }
        self.back.push(Box::new(move |tape| {
            let gradient = tape.gradients.entry("classifier.bias".into()).or_insert_with(|| vec![0.0; classes]);
            for (index, d) in tape.map_gradients[logits].iter().enumerate() {
                gradient[index % classes] += d;
            }
        }));
        logits
    }

    fn push(&mut self, shape: Shape, values: Vec<f64>) -> usize {
        self.maps.push((shape, values));
        self.maps.len() - 1
    }

    fn conv(&mut self, x: usize, name: &str, kernel: usize, stride: usize) -> usize {
        let name = format!("{name}.weight");
        let ([n, inputs, height, width], values) = &self.maps[x];
        let [n, inputs, height, width] = [*n, *inputs, *height, *width];
        let weight = self.weights[&name].clone();
        let outputs = weight.len() / (inputs * kernel * kernel);
        let (rows, columns) = (height.div_ceil(stride), width.div_ceil(stride));
        // Each product: output value, input value, weight.
        let products = move |each: &mut dyn FnMut(usize, usize, usize)| {
            for index in 0..n * outputs * rows * columns {
                let (column, row) = (index % columns, index / columns % rows);
                let (output, image) = (index / (rows * columns) % outputs, index / (rows * columns * outputs));
                for at in 0..inputs * kernel * kernel {
                    let (across, down, input) = (at % kernel, at / kernel % kernel, at / (kernel * kernel));
                    let (y, x) = (row * stride + down, column * stride + across);
                    let inside = |at: usize, side: usize| (kernel / 2..side + kernel / 2).contains(&at);
                    if inside(y, height) && inside(x, width) {
                        let (y, x) = (y - kernel / 2, x - kernel / 2);
                        let from = ((image * inputs + input) * height + y) * width + x;
                        each(index, from, output * inputs * kernel * kernel + at);
                    }
                }
            }
        };
        let mut out = vec![0.0; n * outputs * rows * columns];
        products(&mut |to, from, at| out[to] += values[from] * weight[at]);
        let to = self.push([n, outputs, rows, columns], out);
        self.back.push(Box::new(move |tape| {
            let mut gradient = vec![0.0; weight.len()];
            let d = tape.map_gradients[to].clone();
            let (values, back) = (&tape.maps[x].1, &mut tape.map_gradients[x]);
            products(&mut |to, from, at| {
                gradient[at] += d[to] * values[from];
                back[from] += d[to] * weight[at];
            });
            tape.gradients.insert(name.clone(), gradient);
        }));
        to
    }

    fn norm_relu(&mut self, x: usize, name: &str) -> usize {
        let ([n, channels, height, width], values) = self.maps[x].clone();
        let (count, plane) = ((n * height * width) as f64, height * width);
        let name = name.to_owned();
        let vector = |field: &str| self.weights[&format!("{name}.{field}")].clone();
        let [weight, bias, mut mean, mut var] = ["weight", "bias", "running_mean", "running_var"].map(vector);
        let fixed = self.frozen.iter().any(|part| name.contains(part.as_str()));
        let channel = move |index: usize| index / plane % channels;
        if !fixed {
            let (old_mean, old_var) = (mean.clone(), var.clone());
            mean.fill(0.0);
            var.fill(0.0);
            values.iter().enumerate().for_each(|(index, value)| mean[channel(index)] += value / count);
            for (index, value) in values.iter().enumerate() {
                var[channel(index)] += (value - mean[channel(index)]).powi(2) / count;
            }
            let moved = |old: &[f64], new: &[f64], factor: f64| -> Vec<f64> {
                old.iter().zip(new).map(|(old, new)| 0.9 * old + 0.1 * new * factor).collect()
            };
            self.statistics.insert(format!("{name}.running_mean"), moved(&old_mean, &mean, 1.0));
            self.statistics.insert(format!("{name}.running_var"), moved(&old_var, &var, count / (count - 1.0)));
        }
        let inverse: Vec<f64> = var.iter().map(|var| 1.0 / (var + self.config.eps).sqrt()).collect();
        let normalise = |(index, value): (usize, &f64)| (value - mean[channel(index)]) * inverse[channel(index)];
        let normalised: Vec<f64> = values.iter().enumerate().map(normalise).collect();
        let affine = |(index, value): (usize, &f64)| weight[channel(index)] * value + bias[channel(index)];
        let out: Vec<f64> = normalised.iter().enumerate().map(affine).map(|value| value.max(0.0)).collect();
        let to = self.push([n, channels, height, width], out);
        self.back.push(Box::new(move |tape| {
            let (mut plain, mut unit) = (vec![0.0; channels], vec![0.0; channels]);
            let mut d = tape.map_gradients[to].clone();
            for (index, d) in d.iter_mut().enumerate() {
                if tape.maps[to].1[index] <= 0.0 {
                    *d = 0.0;
                }
                plain[channel(index)] += *d;
                unit[channel(index)] += *d * normalised[index];
            }
            for (index, d) in d.into_iter().enumerate() {
                let at = channel(index);
                let rest = if fixed { 0.0 } else { (plain[at] + normalised[index] * unit[at]) / count };
                tape.map_gradients[x][index] += weight[at] * inverse[at] * (d - rest);
            }
            tape.gradients.insert(format!("{name}.bias"), plain);
            tape.gradients.insert(format!("{name}.weight"), unit);
        }));
        to
    }

    fn max_pool(&mut self, x: usize) -> usize {
        let ([n, channels, height, width], values) = &self.maps[x];
        let (n, channels, height, width) = (*n, *channels, *height, *width);
        let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
        let mut best = Vec::new();
        for index in 0..n * channels * rows * columns {
            let (column, row, map) = (index % columns, index / columns % rows, index / (rows * columns));
            let seen = |centre: usize, side: usize| (0..side).filter(move |at| at.abs_diff(2 * centre) < 2);
            let places =
                seen(row, height).flat_map(|y| seen(column, width).map(move |x| (map * height + y) * width + x));
            best.push(places.reduce(|best, at| if values[at] > values[best] { at } else { best }).unwrap());
        }
        let out = best.iter().map(|&at| values[at]).collect();
        let to = self.push([n, channels, rows, columns], out);
        self.back.push(Box::new(move |tape| {
            for (index, &at) in best.iter().enumerate() {
                tape.map_gradients[x][at] += tape.map_gradients[to][index];
            }
        }));
        to
    }

    /// Over windows of that size, rounded down.
    fn average(&mut self, x: usize, (tall, wide): (usize, usize)) -> usize {
        let ([n, channels, height, width], values) = &self.maps[x];
        let (n, channels, height, width) = (*n, *channels, *height, *width);
        let (rows, columns) = (height / tall, width / wide);
        let pairs = move |each: &mut dyn FnMut(usize, usize)| {
            for from in 0..n * channels * height * width {
                let (column, row, map) = (from % width / wide, from / width % height / tall, from / (height * width));
                if column < columns && row < rows {
                    each((map * rows + row) * columns + column, from);
                }
            }
        };
        let share = 1.0 / (tall * wide) as f64;
        let mut out = vec![0.0; n * channels * rows * columns];
        pairs(&mut |to, from| out[to] += values[from] * share);
        let to = self.push([n, channels, rows, columns], out);
        self.back.push(Box::new(move |tape| {
            pairs(&mut |to_index, from| tape.map_gradients[x][from] += tape.map_gradients[to][to_index] * share);
        }));
        to
    }

    fn join(&mut self, first: usize, second: usize) -> usize {
        let ([images, old, height, width], new) = (self.maps[first].0, self.maps[second].0[1]);
        let pixels = height * width;
        let source = move |index: usize| {
            let (image, channel, pixel) =
                (index / ((old + new) * pixels), index / pixels % (old + new), index % pixels);
            if channel < old {
                (first, (image * old + channel) * pixels + pixel)
            } else {
                (second, (image * new + channel - old) * pixels + pixel)
            }
        };
        let count = images * (old + new) * pixels;
        let out = (0..count).map(|index| self.maps[source(index).0].1[source(index).1]).collect();
        let to = self.push([images, old + new, height, width], out);
        self.back.push(Box::new(move |tape| {
            for index in 0..count {
                let (map, at) = source(index);
                tape.map_gradients[map][at] += tape.map_gradients[to][index];
            }
        }));
        to
    }

    fn loss(&mut self, logits: usize, labels: &[usize], smoothing: f64) -> f64 {
        let classes = self.maps[logits].0[1];
        let mut loss = 0.0;
        for (image, &label) in labels.iter().enumerate() {
            let row = image * classes..(image + 1) * classes;
            let sum: f64 = self.maps[logits].1[row.clone()].iter().map(|logit| logit.exp()).sum();
            for at in row.clone() {
                let share = self.maps[logits].1[at].exp() / sum;
                let hit = f64::from(u8::from(at - row.start == label));
                let target = (1.0 - smoothing) * hit + smoothing / classes as f64;
                loss -= target * share.ln() / labels.len() as f64;
                self.map_gradients[logits][at] = (share - target) / labels.len() as f64;
            }
        }
        loss
    }
}
