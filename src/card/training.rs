//! The card of a network that was trained here.

use std::fmt::Write as _;

use densenet_arch::{Config, Protocol};
use densenet_converters::TOOL;

use super::{header, network, preprocessing, section, usage};
use crate::hf;
use crate::metrics::Rate;
use crate::train::{Origin, Score};

/// Classes that get a row each; the figures of more are in the run's own.
const ROWS: usize = 100;

/// How a network was trained, and what came of it.
#[derive(Clone, Debug)]
pub struct Training<'t> {
    /// What it is called: the folder's name.
    pub name: &'t str,
    /// The network.
    pub config: &'t Config,
    /// How an image becomes its input.
    pub protocol: &'t Protocol,
    /// What it began from, if not from weights drawn at random.
    pub origin: Option<&'t Origin>,
    /// What the images are called: a data set's name, or the last component of their path.
    pub data: &'t str,
    /// Images to train on, and for the score.
    pub images: (usize, usize),
    /// How the two were told apart: `as given`, `a fifth of each class, seed 0` …
    pub split: &'t str,
    /// What everything else was drawn from.
    pub seed: u64,
    /// The classes, in the order of the network's outputs.
    pub classes: Vec<Class<'t>>,
    /// How it was trained: names and values.
    pub recipe: Vec<(String, String)>,
    /// The epoch that it is of, from 1, and how many there were to be.
    pub epoch: (usize, usize),
    /// How good it is.
    pub score: &'t Score,
}

/// A class, or a finding that an image may have beside others.
#[derive(Clone, Copy, Debug)]
pub struct Class<'t> {
    /// Its name.
    pub name: &'t str,
    /// Images of it to train on, and for the score.
    pub images: (usize, usize),
    /// The area under its ROC curve, from 0 to 1, where that is the measure and there are images with and without it.
    pub auroc: Option<f64>,
}

/// The card of a training whose weights have that sha256.
pub fn of_training(training: &Training, sha256: &str) -> String {
    let licence = training.origin.and_then(|origin| origin.licence.as_deref());
    let began = match training.origin {
        Some(Origin { model, .. }) => format!("fine-tuned from `{}`", plain(last_component(model))),
        None => "trained from nothing".to_owned(),
    };
    let sections = [
        header(licence),
        format!("# {}\n\n{}, {began}.", plain(training.name), network(training.config)),
        section("Result", &result(training)),
        section("Data", &data(training)),
        section("Recipe", &recipe(training)),
        section("Preprocessing", &preprocessing(training.protocol, "")),
        section("Source", &source(training, sha256)),
        section("Use", &usage(training.config, training.protocol)),
    ];
    sections.join("\n\n") + "\n"
}

fn result(training: &Training) -> String {
    let (epoch, epochs) = training.epoch;
    let images = training.images.1;
    let score = match training.score {
        Score::Error { error: Rate { wrong, of, percent, low, high }, .. } => format!(
            "Top-1 error: {percent:.2} % ({wrong} of {of} images; 95 % interval {low:.2} to {high:.2}, by Wilson)"
        ),
        Score::Findings { auroc } => {
            let mean = auroc.mean_auroc.map_or_else(|| "not known".into(), |mean| format!("{mean:.4}"));
            format!("AUROC, mean over the classes: {mean} ({images} images)")
        }
    };
    format!(
        "{score}, after epoch {epoch} of {epochs}. The epoch was chosen as the best on these same images, so it will do less \
         well on new ones.\n\nIf the images are medical: this network is no medical device, and was validated on these images \
         only."
    )
}

fn data(training: &Training) -> String {
    let Training { data, images, split, seed, classes, .. } = training;
    let mut text = format!(
        "`{}`: {} images to train on, {} for validation; split: {}. Order and augmentation were drawn with seed {seed}.",
        plain(data),
        images.0,
        images.1,
        plain(split)
    );
    if classes.len() > ROWS {
        return text;
    }
    let aurocs = matches!(training.score, Score::Findings { .. });
    let (title, rule) = if aurocs { (" AUROC |", "--:|") } else { ("", "") };
    _ = write!(text, "\n\n| class | training | validation |{title}\n|---|--:|--:|{rule}");
    for Class { name, images, auroc } in classes {
        _ = write!(text, "\n| {} | {} | {} |", plain(name), images.0, images.1);
        if aurocs {
            _ = write!(text, " {} |", auroc.map_or("-".to_owned(), |auroc| format!("{auroc:.4}")));
        }
    }
    text
}

fn recipe(training: &Training) -> String {
    let rows = training.recipe.iter().map(|(name, value)| format!("\n| {} | {} |", plain(name), plain(value)));
    rows.fold("| setting | value |\n|---|---|".to_owned(), |text, row| text + &row)
}

fn source(training: &Training, sha256: &str) -> String {
    let (began, licence) = match training.origin {
        Some(Origin { model, sha256, licence }) => {
            let model = plain(last_component(model));
            let licence = licence.as_ref().map_or_else(
                || "not stated".to_owned(),
                |licence| format!("derived from {model}, stated as: {}", plain(licence)),
            );
            (format!("`{model}`, sha256 `{sha256}`"), licence)
        }
        None => (format!("weights drawn with seed {}", training.seed), "not stated".to_owned()),
    };
    format!("- began from: {began}\n- licence: {licence}\n- {}: sha256 `{sha256}`\n- written by: {TOOL}", hf::WEIGHTS)
}

/// A path tells of a machine what nobody else needs.
fn last_component(path: &str) -> &str {
    path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(path)
}

/// On one line, with no end of a table's cell or of code in it.
fn plain(text: &str) -> String {
    text.replace(|character: char| character.is_control(), " ").replace('|', "\\|").replace('`', "'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::FindingsSummary;

    fn origin(model: &str, licence: Option<&str>) -> Origin {
        Origin { model: model.into(), sha256: "aa11".into(), licence: licence.map(str::to_owned) }
    }

    fn error() -> Score {
        Score::Error { error: Rate::new(8, 360), top5_error: Rate::new(1, 360) }
    }

    fn training<'t>(config: &'t Config, protocol: &'t Protocol, score: &'t Score) -> Training<'t> {
        Training {
            name: "lungs",
            config,
            protocol,
            origin: None,
            data: "chest",
            images: (80, 20),
            split: "a fifth of each class, seed 7",
            seed: 7,
            classes: vec![
                Class { name: "normal", images: (50, 12), auroc: None },
                Class { name: "a|b\n`c`", images: (30, 8), auroc: None },
            ],
            recipe: vec![("learning rate".into(), "0.01, to a tenth after 5 epochs".into())],
            epoch: (4, 10),
            score,
        }
    }

    #[test]
    fn every_fact_is_on_the_card() {
        let config = Config::cifar_bc(100, 12).unwrap().with_classes(2);
        let protocol = Protocol::named("cifar10").unwrap();
        let (error, origin) = (error(), origin("/home/me/densenet-121.tv", Some("BSD-3-Clause code (pytorch/vision)")));
        let card = of_training(&Training { origin: Some(&origin), ..training(&config, &protocol, &error) }, "bb22");
        for said in [
            "---\nlicense: bsd-3-clause\nlibrary_name: timm\ntags:\n- image-classification\n- timm\n- densenet\n- safetensors\n---\n",
            "\n# lungs\n\nA densenet-bc-100-12: ",
            " parameters, 2 classes, fine-tuned from `densenet-121.tv`.\n",
            // statsmodels: proportion_confint(8, 360, method="wilson") = (0.0113024, 0.0432308)
            "Top-1 error: 2.22 % (8 of 360 images; 95 % interval 1.13 to 4.32, by Wilson), after epoch 4 of 10.",
            "chosen as the best on these same images",
            "no medical device, and was validated on these images only.",
            "`chest`: 80 images to train on, 20 for validation; split: a fifth of each class, seed 7. Order and augmentation were drawn with seed 7.",
            "| class | training | validation |\n|---|--:|--:|\n| normal | 50 | 12 |\n| a\\|b 'c' | 30 | 8 |\n",
            "| learning rate | 0.01, to a tenth after 5 epochs |\n",
            "Protocol `cifar10`: cropped to 32x32, red first, 0 to 255, mean [125.3, 123.0, 113.9]",
            "- began from: `densenet-121.tv`, sha256 `aa11`\n",
            "- licence: derived from densenet-121.tv, stated as: BSD-3-Clause code (pytorch/vision)\n",
            "- model.safetensors: sha256 `bb22`\n",
            concat!("- written by: densenet-zoo ", env!("CARGO_PKG_VERSION"), "\n"),
            "densenet-zoo classify DIR image.jpg",
            "timm has no such network.",
        ] {
            assert!(card.contains(said), "{said}: {card}");
        }
        // Nothing of the machine.
        assert!(!card.contains("/home"), "{card}");
    }

    #[test]
    fn findings_have_an_area_each_and_weights_of_one_s_own_no_licence() {
        let config = densenet_arch::networks::find("densenet-121").unwrap().config.clone().with_classes(2);
        let protocol = Protocol::named("pil-bilinear").unwrap();
        let auroc = FindingsSummary { images: 20, mean_auroc: Some(0.8125), loss: 0.5, per_class: Vec::new() };
        let score = Score::Findings { auroc };
        let mut training = training(&config, &protocol, &score);
        training.classes[0].auroc = Some(0.8125);
        let card = of_training(&training, "bb22");
        for said in [
            "---\nlibrary_name: timm\n",
            "A densenet-121: 6955906 parameters, 2 classes, trained from nothing.\n",
            "AUROC, mean over the classes: 0.8125 (20 images), after epoch 4 of 10.",
            "| class | training | validation | AUROC |\n|---|--:|--:|--:|\n| normal | 50 | 12 | 0.8125 |\n| a\\|b 'c' | 30 | 8 | - |\n",
            "- began from: weights drawn with seed 7\n- licence: not stated\n",
            "timm.create_model(\"local-dir:DIR\", pretrained=True)",
        ] {
            assert!(card.contains(said), "{said}: {card}");
        }
        let (unknown, licensed) = (origin("mine.pth", None), origin("mine.pth", Some("MIT-0")));
        for (origin, said) in
            [(unknown, "- licence: not stated\n"), (licensed, "- licence: derived from mine.pth, stated as: MIT-0\n")]
        {
            let card = of_training(&Training { origin: Some(&origin), ..training.clone() }, "bb22");
            assert!(card.contains(said) && !card.contains("license: "), "{card}");
        }
    }
}
