//! The tables of the original repository and paper, with what was measured beside what was published.

use densenet_arch::networks;
use densenet_registry::{Catalogue, Weight};
use serde::Serialize;

use super::Measured;
use crate::metrics::Rate;

/// Errors on CIFAR-10, CIFAR-10 with augmentation, CIFAR-100, CIFAR-100 with augmentation, in per cent (README of
/// liuzhuang13/DenseNet; arXiv 1608.06993, table 2).
const CIFAR: [(&str, [Option<f64>; 4]); 9] = [
    ("densenet-40-12", [Some(7.0), Some(5.24), Some(27.55), Some(24.42)]),
    ("densenet-100-12", [Some(5.77), Some(4.10), Some(23.79), Some(20.20)]),
    ("densenet-100-24", [Some(5.83), Some(3.74), Some(23.42), Some(19.25)]),
    ("densenet-bc-100-12", [Some(5.92), Some(4.51), Some(24.15), Some(22.27)]),
    ("densenet-bc-250-24", [Some(5.19), Some(3.62), Some(19.64), Some(17.60)]),
    ("densenet-bc-190-40", [None, Some(3.46), None, Some(17.18)]),
    ("densenet-wide-bc-40-36", [None, Some(4.58), None, Some(22.30)]),
    ("densenet-wide-bc-40-48", [None, Some(3.99), None, Some(20.29)]),
    ("densenet-wide-bc-40-60", [None, Some(4.01), None, Some(19.99)]),
];

/// A data set as the tables call it, as `eval` calls it, and its published protocol.
const CIFAR_DATA: [(&str, &str, &str); 4] = [
    ("C10", "cifar10-test", "cifar10"),
    ("C10+", "cifar10-test", "cifar10"),
    ("C100", "cifar100-test", "cifar100"),
    ("C100+", "cifar100-test", "cifar100"),
];

/// Which table a row stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// ImageNet, one crop: the README's.
    Imagenet,
    /// ImageNet, one crop and ten: the paper's table 3.
    Paper,
    /// CIFAR-10 and CIFAR-100; `+` is with augmentation in training.
    Cifar,
    /// What was published for the very weights that were evaluated.
    Weights,
}

impl Set {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Imagenet, Self::Paper, Self::Cifar, Self::Weights];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Imagenet => "imagenet",
            Self::Paper => "paper",
            Self::Cifar => "cifar",
            Self::Weights => "weights",
        }
    }

    /// A heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Imagenet => "ImageNet, one crop (README of liuzhuang13/DenseNet)",
            Self::Paper => "ImageNet, one and ten crops (arXiv 1608.06993, table 3)",
            Self::Cifar => "CIFAR (README of liuzhuang13/DenseNet; + with augmentation in training)",
            Self::Weights => "Weights, each beside what was published for it",
        }
    }
}

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The same figure, within the published one's rounding.
    Reproduced,
    /// Another figure, whose 95 % interval holds the published one.
    WithinInterval,
    /// The interval does not hold it.
    Differs,
    /// Measured by another protocol than the published one, so that a difference says nothing.
    OtherProtocol,
    /// There is no result for it.
    NotMeasured,
}

impl Verdict {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::WithinInterval => "within the interval",
            Self::Differs => "differs",
            Self::OtherProtocol => "another protocol",
            Self::NotMeasured => "not measured",
        }
    }
}

/// One published figure, and what was measured for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The table.
    pub table: Set,
    /// The network, or the weight in the table of weights.
    pub name: String,
    /// Its parameters, with the data's classes.
    pub parameters: Option<usize>,
    /// The data.
    pub dataset: String,
    /// `top-1` or `top-5`.
    pub metric: &'static str,
    /// Crops an image.
    pub crops: usize,
    /// The published error, in per cent.
    pub published: f64,
    /// The protocol that it was published with.
    pub published_protocol: String,
    /// Where it was published.
    pub source: String,
    /// What was measured.
    pub measured: Option<Found>,
    /// What follows.
    pub verdict: Verdict,
}

/// A measured figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// The weights, as they were asked for.
    pub weights: String,
    /// The error with its interval.
    #[serde(flatten)]
    pub rate: Rate,
    /// Measured less published, in points of per cent.
    pub difference: f64,
    /// The protocol.
    pub protocol: String,
}

/// A published figure before anything is measured.
struct Figure {
    set: Set,
    name: String,
    parameters: Option<usize>,
    dataset: String,
    metric: &'static str,
    crops: usize,
    published: f64,
    protocol: String,
    source: String,
}

/// Decimals of a figure as it is printed: 25.0 has one, 5.24 two.
pub(super) fn decimals(figure: f64) -> i32 {
    (0..6)
        .find(|&digits| ((figure * 10_f64.powi(digits)).round() / 10_f64.powi(digits) - figure).abs() < 1e-9)
        .unwrap_or(6)
}

impl Figure {
    /// One row for each result that belongs here, or one that says that there is none.
    fn rows<'m>(self, results: impl Iterator<Item = &'m Measured>) -> Vec<Row> {
        let rows: Vec<Row> = results.map(|result| self.row(Some(result))).collect();
        if rows.is_empty() { vec![self.row(None)] } else { rows }
    }

    fn row(&self, result: Option<&Measured>) -> Row {
        let measured = result.map(|result| {
            let rate = if self.metric == "top-1" { result.summary.top1_error } else { result.summary.top5_error };
            Found {
                weights: result.run.model.clone(),
                rate,
                difference: rate.percent - self.published,
                protocol: result.run.protocol.clone(),
            }
        });
        // Tables print one decimal at least.
        let rounding = 0.5 * 10_f64.powi(-decimals(self.published).max(1)) + 1e-9;
        let verdict = match (&measured, result) {
            (Some(found), Some(result)) if found.protocol != self.protocol || result.run.crops != self.crops => {
                Verdict::OtherProtocol
            }
            (Some(found), _) if found.difference.abs() <= rounding => Verdict::Reproduced,
            (Some(found), _) if (found.rate.low..=found.rate.high).contains(&self.published) => Verdict::WithinInterval,
            (Some(_), _) => Verdict::Differs,
            (None, _) => Verdict::NotMeasured,
        };
        Row {
            table: self.set,
            name: self.name.clone(),
            parameters: self.parameters,
            dataset: self.dataset.clone(),
            metric: self.metric,
            crops: self.crops,
            published: self.published,
            published_protocol: self.protocol.clone(),
            source: self.source.clone(),
            measured,
            verdict,
        }
    }
}

/// The tables, row by row.
pub fn rows(catalogue: &Catalogue, results: &[Measured]) -> Vec<Row> {
    let mut rows = imagenet(catalogue, results);
    rows.extend(cifar(results));
    rows.extend(weights(catalogue, results));
    rows
}

/// The figures that were published for a weight, top-1 and top-5.
fn figures(weight: &Weight, set: Set, name: &str) -> Vec<Figure> {
    let parameters = weight.network.config().map(|config| config.parameter_count());
    let rows = weight.published.iter().flat_map(|published| {
        let figure = |metric, error| Figure {
            set,
            name: name.to_owned(),
            parameters,
            dataset: published.dataset.clone(),
            metric,
            crops: published.crops as usize,
            published: error,
            protocol: published.protocol.clone(),
            source: published.source.clone(),
        };
        let top5 = published.top5_error.map(|error| figure("top-5", error));
        std::iter::once(figure("top-1", published.top1_error)).chain(top5)
    });
    rows.collect()
}

/// The original networks' figures, which the catalogue holds with their weights.
fn imagenet(catalogue: &Catalogue, results: &[Measured]) -> Vec<Row> {
    let mut rows = Vec::new();
    for weight in catalogue.weights().iter().filter(|weight| weight.name.rsplit('.').next() == Some("torch")) {
        let network = weight.network.name();
        let of_imagenet = |figure: &Figure| figure.dataset == "imagenet-val";
        for figure in figures(weight, Set::Imagenet, &network).into_iter().filter(of_imagenet) {
            let set = if figure.source.contains("README") { Set::Imagenet } else { Set::Paper };
            let figure = Figure { set, ..figure };
            // A row for one crop takes no result of ten, and the other way round.
            let belongs = |result: &&Measured| {
                result.run.architecture == network
                    && result.run.dataset.starts_with("imagenet-val")
                    && result.run.dataset != "imagenet-val-real"
            };
            let crops = figure.crops;
            rows.extend(figure.rows(results.iter().filter(belongs).filter(|result| result.run.crops == crops)));
        }
    }
    rows.sort_by_key(|row| row.table);
    rows
}

fn cifar(results: &[Measured]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, errors) in CIFAR {
        for ((column, kind, protocol), published) in CIFAR_DATA.into_iter().zip(errors) {
            let Some(published) = published else { continue };
            let classes = if kind == "cifar10-test" { 10 } else { 100 };
            let network = networks::find(name);
            let figure = Figure {
                set: Set::Cifar,
                name: name.to_owned(),
                parameters: network.map(|network| network.config.clone().with_classes(classes).parameter_count()),
                dataset: column.to_owned(),
                metric: "top-1",
                crops: 1,
                published,
                protocol: protocol.to_owned(),
                source: "README of liuzhuang13/DenseNet".to_owned(),
            };
            // The weights do not say how they were trained: their name does, and without a word they had augmentation.
            let plain = |model: &str| {
                let model = model.to_ascii_lowercase();
                ["cifar10-", "cifar100-"].iter().any(|set| model.contains(set)) && !model.contains('+')
            };
            let belongs = |result: &&Measured| {
                result.run.architecture == name
                    && result.run.dataset == kind
                    && plain(&result.run.model) != column.ends_with('+')
            };
            rows.extend(figure.rows(results.iter().filter(belongs)));
        }
    }
    rows
}

/// Each result beside what was published for its very weights, known by their name in the catalogue.
fn weights(catalogue: &Catalogue, results: &[Measured]) -> Vec<Row> {
    let mut rows = Vec::new();
    for result in results {
        let Ok(weight) = catalogue.find(&result.run.model) else { continue };
        for figure in figures(weight, Set::Weights, &weight.name) {
            if figure.dataset == result.run.dataset {
                rows.push(figure.row(Some(result)));
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Shard;
    use crate::metrics::Summary;
    use crate::predictions::Header;

    fn measured(model: &str, architecture: &str, dataset: &str, protocol: &str, wrong: usize, of: usize) -> Measured {
        let summary = Summary { images: of, top1_error: Rate::new(wrong, of), ..Summary::of(&[]) };
        let run = Header {
            tool: String::new(),
            model: model.into(),
            sha256: String::new(),
            architecture: architecture.into(),
            protocol: protocol.into(),
            crops: 1,
            decoder: String::new(),
            data: "val".into(),
            dataset: dataset.into(),
            images: of,
            batch_size: 32,
            device: "cpu".into(),
            backend: String::new(),
            logits: false,
            shard: Shard::WHOLE,
        };
        Measured { path: "result.json".into(), run, summary, bad: 0, rate: None, predictions: Vec::new() }
    }

    fn row(results: &[Measured], table: Set, name: &str, dataset: &str) -> Row {
        let rows = rows(&Catalogue::builtin().unwrap(), results);
        rows.into_iter().find(|row| row.table == table && row.name == name && row.dataset == dataset).unwrap()
    }

    #[test]
    fn the_published_tables_are_whole() {
        let rows = rows(&Catalogue::builtin().unwrap(), &[]);
        let count = |set| rows.iter().filter(|row| row.table == set).count();
        assert_eq!(Set::ALL.map(count), [8, 16, 28, 0]);
        assert!(rows.iter().all(|row| row.verdict == Verdict::NotMeasured));
        assert_eq!(
            (rows[0].name.as_str(), rows[0].parameters, rows[0].published),
            ("densenet-121", Some(7_978_856), 25.0)
        );
    }

    #[test]
    fn a_verdict_follows_from_rounding_interval_and_protocol() {
        let of = |protocol, wrong| measured("densenet-121.tv", "densenet-121", "imagenet-val", protocol, wrong, 50_000);
        let verdict = |result| row(&[result], Set::Imagenet, "densenet-121", "imagenet-val").verdict;
        // 25.0 stands for 24.95 to 25.05.
        assert_eq!(verdict(of("torch7", 12_525)), Verdict::Reproduced);
        assert_eq!(verdict(of("torch7", 12_526)), Verdict::WithinInterval);
        // Wilson at 25.4 %: 25.02 to 25.78.
        assert_eq!(verdict(of("torch7", 12_700)), Verdict::Differs);
        assert_eq!(verdict(of("pil-bilinear", 12_500)), Verdict::OtherProtocol);
        let found = row(&[of("torch7", 12_526)], Set::Imagenet, "densenet-121", "imagenet-val").measured.unwrap();
        assert!((found.difference - 0.052).abs() < 1e-9, "{}", found.difference);
    }

    #[test]
    fn cifar_weights_had_augmentation_unless_their_name_says_otherwise() {
        let of = |model| [measured(model, "densenet-40-12", "cifar10-test", "cifar10", 524, 10_000)];
        assert_eq!(row(&of("best.safetensors"), Set::Cifar, "densenet-40-12", "C10+").verdict, Verdict::Reproduced);
        assert_eq!(row(&of("cifar10+-40-12"), Set::Cifar, "densenet-40-12", "C10+").verdict, Verdict::Reproduced);
        assert_eq!(row(&of("cifar10-40-12"), Set::Cifar, "densenet-40-12", "C10+").verdict, Verdict::NotMeasured);
        assert_eq!(row(&of("cifar10-40-12"), Set::Cifar, "densenet-40-12", "C10").verdict, Verdict::Differs);
    }
}
