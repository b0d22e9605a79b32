//! What an old network does beyond a DenseNet's own modules, worked into its tensors: exactly, up to the rounding of each
//! changed value.

use std::collections::BTreeMap;

use densenet_arch::{Config, Stem};

use crate::error::Error;
use crate::report::{Change, Made};
use crate::tensor::{DType, Tensor};

/// A network's tensors by torchvision's names.
pub(crate) type Named<'a> = BTreeMap<String, Tensor<'a>>;

/// Something that a module of the source does and ours does not. Layers are called by torchvision's names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fold {
    /// Torch7's first batch norm kept (var + eps)^(-1/2).
    StdToVar { norm: String, eps: f64 },
    /// Another eps than the network's: var + from = (var + from - to) + to.
    Eps { norm: String, from: f64, to: f64 },
    /// A batch norm without scale, shift or both.
    Affine { norm: String },
    /// Mean and variance were multiplied by `factor`, as Caffe accumulates them.
    Factor { norm: String },
    /// A second scale and shift follow: `second.weight`, `second.bias`.
    Second { norm: String },
    /// The batch norm was folded into the convolution before it, and its bias is all that is left of it.
    Absorbed { norm: String, conv: String },
    /// A factor on a layer's input or output: a dropout that scales at evaluation, a pooling that sums.
    Scale { layer: String, factor: f64, of_input: bool },
}

/// What was done to which tensor.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) changes: Vec<(String, Change)>,
    pub(crate) made: Vec<Made>,
    /// Tensors that are gone, and those they were worked into.
    pub(crate) into: Vec<(String, Vec<String>)>,
}

impl Done {
    fn changed(&mut self, name: String, what: String) {
        self.changes.push((name, Change::Folded(what)));
    }
}

/// Applies all, then works the biases of convolutions into the batch norms that read their channels.
pub(crate) fn apply(config: &Config, folds: &[Fold], tensors: &mut Named) -> Result<Done, Error> {
    let mut done = Done::default();
    for fold in folds {
        match fold {
            Fold::StdToVar { norm, eps } => {
                let name = format!("{norm}.running_var");
                edit(tensors, &name, |std| *std = std.powi(-2) - eps)?;
                done.changed(name, "running_var = running_std^-2 - eps".into());
            }
            Fold::Eps { norm, from, to } => {
                let name = format!("{norm}.running_var");
                edit(tensors, &name, |var| *var += from - to)?;
                done.changed(name, format!("eps {from:e} became {to:e}, the network's"));
            }
            Fold::Affine { norm } => {
                for (field, value) in [("weight", 1.0), ("bias", 0.0)] {
                    let Some(mean) = tensors.get(&format!("{norm}.running_mean")) else { continue };
                    let shape = mean.shape().to_vec();
                    let why = format!("{value}: the batch norm is not affine");
                    make(tensors, &mut done, format!("{norm}.{field}"), (shape, value), why)?;
                }
            }
            Fold::Factor { norm } => factor(norm, tensors, &mut done)?,
            Fold::Second { norm } => second(norm, tensors, &mut done)?,
            Fold::Absorbed { norm, conv } => {
                let Some(bias) = tensors.remove(&format!("{conv}.bias")) else { continue };
                let why = |value: &str| format!("{value}: the batch norm was folded into {conv}");
                let one = "such that var + eps is 1";
                for (field, value, said) in
                    [("weight", 1.0, "1"), ("running_mean", 0.0, "0"), ("running_var", 1.0 - config.eps, one)]
                {
                    let made = (bias.shape().to_vec(), value);
                    make(tensors, &mut done, format!("{norm}.{field}"), made, why(said))?;
                }
                let name = format!("{norm}.bias");
                tensors.insert(name.clone(), bias);
                done.into.push((format!("{conv}.bias"), vec![name]));
            }
            Fold::Scale { layer, factor, of_input } => {
                // A batch norm's input x * f: its weight grows by f and its mean shrinks; anything else is linear.
                let is_norm = tensors.contains_key(&format!("{layer}.running_mean"));
                let changes: &[(&str, f64)] = match (of_input, is_norm) {
                    (true, true) => &[("weight", *factor), ("running_mean", 1.0 / factor)],
                    (true, false) => &[("weight", *factor)],
                    (false, _) => &[("weight", *factor), ("bias", *factor)],
                };
                for (field, factor) in changes {
                    let name = format!("{layer}.{field}");
                    if tensors.contains_key(&name) {
                        edit(tensors, &name, |value| *value *= factor)?;
                        done.changed(name, format!("multiplied by {factor}, which a module did"));
                    }
                }
            }
        }
    }
    biases(config, tensors, &mut done)?;
    Ok(done)
}

/// A tensor of one value, where there is none.
fn make(
    tensors: &mut Named,
    done: &mut Done,
    name: String,
    (shape, value): (Vec<usize>, f64),
    why: String,
) -> Result<(), Error> {
    if !tensors.contains_key(&name) {
        let elements = shape.iter().product();
        let made = Tensor::of_f64(DType::F32, shape, &vec![value; elements]).map_err(Error::Layout)?;
        tensors.insert(name.clone(), made);
        done.made.push(Made { target: name, why });
    }
    Ok(())
}

/// Divides mean and variance by the factor that they were multiplied by; all are zero where that is 0.
fn factor(norm: &str, tensors: &mut Named, done: &mut Done) -> Result<(), Error> {
    let name = format!("{norm}.factor");
    let Some(tensor) = tensors.remove(&name) else { return Ok(()) };
    let [factor] = tensor.to_f64()?[..] else {
        return Err(Error::Layout(format!("{name} has {} values where one is expected", tensor.elements())));
    };
    let statistics = ["running_mean", "running_var"].map(|field| format!("{norm}.{field}"));
    if factor != 1.0 {
        for name in &statistics {
            edit(tensors, name, |value| *value = if factor == 0.0 { 0.0 } else { *value / factor })?;
            done.changed(name.clone(), format!("divided by {factor}, its factor"));
        }
    }
    done.into.push((name, statistics.to_vec()));
    Ok(())
}

/// (x * w1 + b1) * w2 + b2 is x * (w1 * w2) + (b1 * w2 + b2).
fn second(norm: &str, tensors: &mut Named, done: &mut Done) -> Result<(), Error> {
    let [weight, bias] = ["weight", "bias"].map(|field| format!("{norm}.{field}"));
    let mut take = |field: &str| {
        let name = format!("{norm}.second.{field}");
        let values = tensors.remove(&name).map(|tensor| tensor.to_f64()).transpose()?;
        Ok::<_, Error>(values.map(|values| (name, values)))
    };
    let (factors, summands) = (take("weight")?, take("bias")?);
    let fits = |tensor: &str, values: &[f64]| tensors.get(tensor).is_some_and(|own| own.elements() == values.len());
    for (_, values) in factors.iter().chain(&summands) {
        if !fits(&weight, values) || !fits(&bias, values) {
            return Err(Error::Layout(format!("the second scale and shift behind {norm} have other sizes")));
        }
    }
    if let Some((name, values)) = factors {
        for own in [&weight, &bias] {
            let mut factors = values.iter();
            edit(tensors, own, |value| *value *= factors.next().copied().unwrap_or(1.0))?;
            done.changed(own.clone(), "multiplied by the scale of the layer behind".into());
        }
        done.into.push((name, vec![weight, bias.clone()]));
    }
    if let Some((name, values)) = summands {
        let mut summands = values.iter();
        edit(tensors, &bias, |value| *value += summands.next().copied().unwrap_or(0.0))?;
        done.changed(bias.clone(), "plus the shift of the layer behind".into());
        done.into.push((name, vec![bias]));
    }
    Ok(())
}

/// norm(x + b) with mean m is norm(x) with mean m - b: each channel that a convolution makes is read by batch norms only.
fn biases(config: &Config, tensors: &mut Named, done: &mut Done) -> Result<(), Error> {
    // Only a convolution whose bias is there: of a long block, each has many readers.
    let biased = |tensors: &Named, conv: &str| tensors.contains_key(&format!("{conv}.bias"));
    for (conv, norms) in readers(config, |conv| biased(tensors, conv)) {
        let name = format!("{conv}.bias");
        let channels = tensors.get(&format!("{conv}.weight")).and_then(|weight| weight.shape().first().copied());
        // A bias of another length is no part of the convolution, and stays as it is for the account.
        let Some(bias) = tensors.get(&name).filter(|bias| Some(bias.elements()) == channels) else { continue };
        let bias = bias.to_f64()?;
        tensors.remove(&name);
        for (norm, at) in &norms {
            let mean = format!("{norm}.running_mean");
            let Some(tensor) = tensors.get(&mean) else { continue };
            let mut values = tensor.to_f64()?;
            for (mean, bias) in values.iter_mut().skip(*at).zip(&bias) {
                *mean -= bias;
            }
            replace(tensors, &mean, &values)?;
            done.changed(mean, format!("less {name}"));
        }
        done.into.push((name, norms.into_iter().map(|(norm, _)| format!("{norm}.running_mean")).collect()));
    }
    Ok(())
}

/// The wanted convolutions, each with the batch norms that read its channels, and the first of those there.
fn readers(config: &Config, wanted: impl Fn(&str) -> bool) -> Vec<(String, Vec<(String, usize)>)> {
    let blocks = config.block_config.len();
    // All that read channel `at` of a block's input or of what layer `first - 1` adds.
    let of_block = |block: usize, first: usize, at: usize| -> Vec<(String, usize)> {
        let layers = config.block_config.get(block - 1).copied().unwrap_or_default();
        let inner = (first..=layers).map(|layer| format!("features.denseblock{block}.denselayer{layer}.norm1"));
        let last =
            if block == blocks { "features.norm5".to_owned() } else { format!("features.transition{block}.norm") };
        inner.chain([last]).map(|norm| (norm, at)).collect()
    };
    let mut all = Vec::new();
    let mut add = |conv: String, norms: &dyn Fn() -> Vec<(String, usize)>| {
        if wanted(&conv) {
            all.push((conv, norms()));
        }
    };
    add("features.conv0".to_owned(), &|| match config.stem {
        Stem::Imagenet => vec![("features.norm0".to_owned(), 0)],
        Stem::Cifar => of_block(1, 1, 0),
    });
    let mut channels = config.num_init_features;
    for (block, &layers) in (1..).zip(&config.block_config) {
        for layer in 1..=layers {
            let name = format!("features.denseblock{block}.denselayer{layer}");
            let grown = || of_block(block, layer + 1, channels);
            if config.bn_size.is_some() {
                add(format!("{name}.conv1"), &|| vec![(format!("{name}.norm2"), 0)]);
                add(format!("{name}.conv2"), &grown);
            } else {
                add(format!("{name}.conv1"), &grown);
            }
            channels += config.growth_rate;
        }
        if block < blocks {
            channels = config.transition_output(channels);
            add(format!("features.transition{block}.conv"), &|| of_block(block + 1, 1, 0));
        }
    }
    all
}

fn edit(tensors: &mut Named, name: &str, change: impl FnMut(&mut f64)) -> Result<(), Error> {
    let Some(tensor) = tensors.get(name) else { return Ok(()) };
    if tensor.repeats() {
        return Err(Error::Layout(format!("{name} repeats its storage, and would have to be changed")));
    }
    let mut values = tensor.to_f64()?;
    values.iter_mut().for_each(change);
    replace(tensors, name, &values)
}

/// New values for a tensor: f64 stays f64, all else becomes f32, where a change of a half would be lost.
fn replace(tensors: &mut Named, name: &str, values: &[f64]) -> Result<(), Error> {
    if let Some(tensor) = tensors.get_mut(name) {
        let dtype = if tensor.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        *tensor = Tensor::of_f64(dtype, tensor.shape().to_vec(), values).map_err(Error::Layout)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(values: &[f64]) -> Tensor<'static> {
        Tensor::of_f64(DType::F32, vec![values.len()], values).unwrap()
    }

    fn values(tensors: &Named, name: &str) -> Vec<f64> {
        tensors[name].to_f64().unwrap()
    }

    #[test]
    fn every_channel_is_read_by_batch_norms_alone() {
        // Two blocks of two layers, growth 4, stem 8, compression 0.5: blocks end with 16 channels.
        let config = Config { stem: Stem::Cifar, ..Config::imagenet(&[2, 2], 4, 8) };
        let readers: BTreeMap<_, _> = readers(&config, |_| true).into_iter().collect();
        let names = |conv: &str| readers[conv].iter().map(|(norm, at)| format!("{norm}@{at}")).collect::<Vec<_>>();
        assert_eq!(
            names("features.conv0"),
            [
                "features.denseblock1.denselayer1.norm1@0",
                "features.denseblock1.denselayer2.norm1@0",
                "features.transition1.norm@0"
            ]
        );
        assert_eq!(
            names("features.denseblock1.denselayer1.conv2"),
            ["features.denseblock1.denselayer2.norm1@8", "features.transition1.norm@8"]
        );
        assert_eq!(names("features.denseblock2.denselayer2.conv2"), ["features.norm5@12"]);
        assert_eq!(names("features.denseblock2.denselayer2.conv1"), ["features.denseblock2.denselayer2.norm2@0"]);
        assert_eq!(readers.len(), 1 + 8 + 1);
    }

    #[test]
    fn old_statistics_eps_and_factors_keep_the_function() {
        let norm = "features.norm5".to_owned();
        let mut tensors = Named::from([
            ("features.norm5.running_var".into(), vector(&[0.5])),
            ("features.norm5.running_mean".into(), vector(&[3.0])),
            ("classifier.weight".into(), vector(&[2.0])),
            ("classifier.bias".into(), vector(&[1.0])),
        ]);
        let folds = [
            Fold::StdToVar { norm: norm.clone(), eps: 1.0 },
            Fold::Eps { norm: norm.clone(), from: 1.0, to: 0.5 },
            Fold::Affine { norm: norm.clone() },
            Fold::Scale { layer: norm, factor: 4.0, of_input: true },
            Fold::Scale { layer: "classifier".into(), factor: 0.75, of_input: false },
        ];
        let done = apply(&Config::imagenet(&[1], 1, 1), &folds, &mut tensors).unwrap();
        // 0.5^-2 - 1 = 3, and 3 + 1 = 3.5 + 0.5.
        assert_eq!(values(&tensors, "features.norm5.running_var"), [3.5]);
        assert_eq!(values(&tensors, "features.norm5.running_mean"), [0.75]);
        assert_eq!(values(&tensors, "features.norm5.weight"), [4.0]);
        assert_eq!(values(&tensors, "features.norm5.bias"), [0.0]);
        assert_eq!(values(&tensors, "classifier.weight"), [1.5]);
        assert_eq!(values(&tensors, "classifier.bias"), [0.75]);
        assert_eq!((done.changes.len(), done.made.len()), (6, 2));
    }

    #[test]
    fn factors_and_second_scales_keep_the_function() {
        let norm = "features.norm5".to_owned();
        let mut tensors = Named::from([
            ("features.norm5.running_mean".into(), vector(&[6.0, 1.0])),
            ("features.norm5.running_var".into(), vector(&[8.0, 2.0])),
            ("features.norm5.factor".into(), vector(&[2.0])),
            ("features.norm5.weight".into(), vector(&[3.0, 5.0])),
            ("features.norm5.second.weight".into(), vector(&[2.0, -1.0])),
            ("features.norm5.second.bias".into(), vector(&[0.5, 0.25])),
        ]);
        let folds = [Fold::Factor { norm: norm.clone() }, Fold::Affine { norm: norm.clone() }, Fold::Second { norm }];
        apply(&Config::imagenet(&[1], 1, 1), &folds, &mut tensors).unwrap();
        assert_eq!(values(&tensors, "features.norm5.running_mean"), [3.0, 0.5]);
        assert_eq!(values(&tensors, "features.norm5.running_var"), [4.0, 1.0]);
        assert_eq!(values(&tensors, "features.norm5.weight"), [6.0, -5.0]);
        assert_eq!(values(&tensors, "features.norm5.bias"), [0.5, 0.25]);
        assert_eq!(tensors.len(), 4);
        // Caffe's own rule for statistics that were never accumulated.
        tensors.insert("features.norm5.factor".into(), vector(&[0.0]));
        let folds = [Fold::Factor { norm: "features.norm5".into() }];
        apply(&Config::imagenet(&[1], 1, 1), &folds, &mut tensors).unwrap();
        assert_eq!(values(&tensors, "features.norm5.running_var"), [0.0, 0.0]);
    }

    #[test]
    fn an_absorbed_norm_is_its_bias() {
        let mut tensors = Named::from([
            ("features.conv0.weight".into(), vector(&[5.0, 6.0])),
            ("features.conv0.bias".into(), vector(&[1.0, -2.0])),
        ]);
        let folds = [Fold::Absorbed { norm: "features.norm0".into(), conv: "features.conv0".into() }];
        let config = Config { eps: 0.25, ..Config::imagenet(&[1], 1, 2) };
        let done = apply(&config, &folds, &mut tensors).unwrap();
        assert_eq!(values(&tensors, "features.norm0.bias"), [1.0, -2.0]);
        assert_eq!(values(&tensors, "features.norm0.running_var"), [0.75, 0.75]);
        assert_eq!((done.made.len(), done.into.len(), tensors.len()), (3, 1, 5));
    }

    #[test]
    fn a_convolution_s_bias_leaves_the_means_of_its_readers() {
        let mut tensors = Named::from([
            ("features.conv0.weight".into(), vector(&[5.0, 6.0])),
            ("features.conv0.bias".into(), vector(&[1.0, -2.0])),
            ("features.norm0.running_mean".into(), vector(&[10.0, 10.0])),
        ]);
        let done = apply(&Config::imagenet(&[1], 1, 2), &[], &mut tensors).unwrap();
        assert_eq!(values(&tensors, "features.norm0.running_mean"), [9.0, 12.0]);
        assert!(!tensors.contains_key("features.conv0.bias"));
        assert_eq!(done.into, [("features.conv0.bias".into(), vec!["features.norm0.running_mean".into()])]);
    }
}
