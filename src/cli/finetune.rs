//! `finetune`: a model's weights for other images.

use std::path::{Path, PathBuf};

use clap::Args;
use densenet_zoo::data::sheet::{Reading, Uncertain};
use densenet_zoo::store::Store;
use densenet_zoo::train::{Choice, Folder, Origin, Recipe, Source, State, finetune, initial_weights};
use densenet_zoo::{Error, Result};

use super::changes::{Changes, Machine};
use super::progress::Downloads;
use super::{FormatArg, ProtocolArg, run, train};

/// What a network learns from.
#[derive(Args)]
struct Images {
    /// The images: a folder with a folder a class, or with train and val inside, each so; a CSV file; or the folder that the
    /// paths in --labels are relative to.
    #[arg(long, value_name = "DIR|FILE.csv")]
    data: PathBuf,
    /// A CSV file with a column path, and one label, or a column a finding (1, 0, empty for unknown, -1 for uncertain):
    /// an image may then show several. ChestX-ray14's and CheXpert's files are read as they are.
    #[arg(long, value_name = "FILE.csv")]
    labels: Option<PathBuf>,
    /// What an uncertain finding is taken for: ignore, 0 or 1.
    #[arg(long, value_name = "ignore|0|1", default_value = "ignore")]
    uncertain: Uncertain,
    /// The column whose equal values are never on both sides of the split, as a patient's number.
    #[arg(long, value_name = "COLUMN")]
    group: Option<String>,
    /// The classes in this order, or the findings to learn; otherwise sorted by name, or as the columns stand.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    classes: Option<Vec<String>>,
    /// The share of the images that the error is measured on, where none are kept apart.
    #[arg(long, value_name = "SHARE", default_value_t = Choice::SHARE, conflicts_with = "split")]
    share: f64,
    /// The split.csv of an earlier run: the same images on either side.
    #[arg(long, value_name = "FILE.csv")]
    split: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Finetune {
    /// A name or a file: its weights, but for the classifier.
    model: String,
    #[command(flatten)]
    images: Images,
    /// Where to leave the model (the folder is one), its card and curves, the checkpoint, the figures and the split.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace what an earlier run left in DIR.
    #[arg(long)]
    force: bool,
    /// Keep parts as they are, with their statistics: stem, block1, transition1 … from the stem on, or backbone for all but the
    /// classifier.
    #[arg(long, value_name = "PART,…", value_delimiter = ',')]
    freeze: Vec<String>,
    /// Multiply the learning rate in some parts, as denseblock1=0.1; the classifier's is multiplied by 10 unless it is named.
    #[arg(long, value_name = "PART=FACTOR", value_delimiter = ',', value_parser = factor)]
    lr_of: Vec<(String, f64)>,
    /// Let every class count the same, however many images it has; of findings, the present ones as much as the absent.
    #[arg(long)]
    balanced: bool,
    /// End after so many epochs without a better one.
    #[arg(long, value_name = "EPOCHS", value_parser = clap::value_parser!(u16).range(1..))]
    patience: Option<u16>,
    /// Read grey images as one channel instead of three equal ones.
    #[arg(long)]
    grey: bool,
    /// The side of the network's input instead of the model's own.
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// The least share of an image that a random crop shows.
    #[arg(long, value_name = "SHARE")]
    min_area: Option<f64>,
    #[command(flatten)]
    protocol: ProtocolArg,
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    print: FormatArg,
}

fn factor(text: &str) -> Result<(String, f64), String> {
    let (part, factor) = text.split_once('=').ok_or("PART=FACTOR is expected")?;
    Ok((part.to_owned(), factor.parse().map_err(|_| format!("{factor:?} is no number"))?))
}

impl Finetune {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let model = store.model(&self.model, &mut Downloads::default().one())?;
        let settings = self.machine.settings(self.changes.seed(), self.changes.exact())?;
        let mut choice = self.images.choice(settings.seed)?;
        Folder::check(&self.out, self.force)?;
        if choice.data.is_dir() && real(&self.out)?.starts_with(real(&choice.data)?) {
            let reason = "--out lies in --data, where its pictures would become images of a class; leave them apart";
            return Err(Error::Usage(reason.into()));
        }
        let sets = choice.open()?;
        let protocol = finetune::resized(self.protocol.of(&model)?, self.size)?;
        let in_channels = if self.grey { 1 } else { model.config.in_channels };
        let mut recipe = Recipe::fine_tuning(&model.config, protocol, sets.training.classes(), in_channels)?;
        self.changes.apply(&mut recipe)?;
        recipe.first_trained = finetune::first_trained(&self.freeze, recipe.config.block_config.len())?;
        recipe.patience = self.patience.map(usize::from);
        recipe.class_weights = self.balanced.then(|| sets.training.class_weights());
        if let Some(share) = self.min_area {
            recipe.augmentation = recipe.augmentation.with_min_area(share)?;
        }
        for (name, factor) in self.lr_of {
            let part = finetune::part(&name).map(|part| part.to_string());
            let part =
                part.ok_or_else(|| Error::Usage(format!("no part {name:?} of a DenseNet; there is stem, block1, …")))?;
            recipe.rates.retain(|(known, _)| *known != part);
            recipe.rates.push((part, factor));
        }
        let mut drawn = initial_weights(&recipe.config, settings.seed);
        let mut weights = finetune::weights(|name: &str| model.tensor(name).ok(), &mut drawn, in_channels);
        train::possible(&recipe, &sets)?;
        let images = [&sets.training, &sets.validation];
        train::look(&sets, &images, &recipe, settings.threads, self.machine.no_check)?;
        let split = sets.split.clone();
        if split.is_some() {
            // It goes on with the split that it leaves.
            choice.split = Some(absolute(&self.out)?.join(Folder::SPLIT));
        }
        let state = State::new(recipe, &settings, Source::Chosen(choice), Some(Origin::of(&model, store)));
        let run = train::start(state, &settings, sets, &mut weights, None)?;
        let folder = Folder::create(&self.out, self.force)?.with_split(split);
        run::to_the_end(run, Some(folder), self.print.format)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|source| Error::Io { action: "find", path: path.to_owned(), source })
}

/// Where a path that need not be there leads to, by all links and `..` of what is.
fn real(path: &Path) -> Result<PathBuf> {
    let path = absolute(path)?;
    let there = path.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    Ok(there.map_or_else(
        || path.clone(),
        |(part, real)| path.strip_prefix(part).map_or(real.clone(), |rest| real.join(rest)),
    ))
}

impl Images {
    fn choice(&self, seed: u64) -> Result<Choice> {
        let absolute = |path: &PathBuf| absolute(path);
        let Self { uncertain, group, classes, .. } = self;
        Ok(Choice {
            data: absolute(&self.data)?,
            labels: self.labels.as_ref().map(absolute).transpose()?,
            reading: Reading { uncertain: *uncertain, group: group.clone(), classes: classes.clone() },
            split: self.split.as_ref().map(absolute).transpose()?,
            share: self.share,
            seed,
        })
    }
}
