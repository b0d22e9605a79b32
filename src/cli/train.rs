//! `train`: a network from nothing, by a published recipe or the original's options; and any run that goes on.

use std::path::{Path, PathBuf};

use clap::Args;
use densenet_arch::{Config, networks};
use densenet_zoo::data::labels::Labels;
use densenet_zoo::data::transform::Transform;
use densenet_zoo::store::{Model, Store};
use densenet_zoo::train::{
    Data, Folder, Kept, Labelled, Optimiser, Origin, Position, Recipe, Run, Sets, Settings, Source, State, Stored,
    Targets, Tensors, Torch7, check, check_images, initial_weights, shared,
};
use densenet_zoo::{Error, Result};

use serde_json::json;

use super::changes::{Changes, Machine};
use super::progress::Downloads;
use super::{Format, FormatArg, output, progress, run};

#[derive(Args)]
pub(super) struct Train {
    /// The network, its data and how it is trained, as published: cifar10+-bc-100-12, imagenet-121, digits … (--presets lists
    /// them).
    #[arg(long, conflicts_with_all = ["dataset", "network"])]
    preset: Option<String>,
    /// List the presets.
    #[arg(long)]
    presets: bool,
    /// The data set, whose rules hold for a network of your own: cifar10, cifar100 (with a plus: augmented), svhn, imagenet.
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    #[command(flatten)]
    network: Network,
    /// Where the images are: the data set's folder, holding its training and test sets as they are published. ImageNet: a
    /// folder with train and val inside.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    begin: Begin,
    /// How many classes the data have, where they are not the data set's own.
    #[arg(long, value_name = "N", alias = "nClasses")]
    n_classes: Option<usize>,
    /// Only measure the error of --retrain's model.
    #[arg(long, requires = "retrain", alias = "testOnly", conflicts_with = "out")]
    test_only: bool,
    /// Go on with the run whose folder this is, to the same bits as if it had not stopped; all but the machine's options is as it
    /// was. A folder of Torch's checkpoints (latest.t7) needs --preset or --dataset, and --out.
    #[arg(long, value_name = "DIR", conflicts_with = "retrain")]
    resume: Option<PathBuf>,
    /// Where to leave model.safetensors (the best epoch's), last.safetensors (all of the run, to resume it) and the figures;
    /// nothing is kept otherwise.
    #[arg(long, value_name = "DIR", alias = "save")]
    out: Option<PathBuf>,
    /// Replace what an earlier run left in DIR.
    #[arg(long, requires = "out")]
    force: bool,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    print: FormatArg,
}

/// What weights a training begins with.
#[derive(Args)]
struct Begin {
    /// Begin with a model's weights: a name or a file.
    #[arg(long, value_name = "MODEL")]
    retrain: Option<String>,
    /// With --retrain: a new classifier.
    #[arg(long, requires = "retrain", alias = "resetClassifier")]
    reset_classifier: bool,
}

/// A network that is not a preset's.
#[derive(Args)]
#[group(id = "network", multiple = true)]
struct Network {
    /// A network of the table instead of the sizes below: densenet-121, densenet-bc-100-12 …
    #[arg(long, value_name = "NAME", conflicts_with_all = ["depth", "growth_rate", "bottleneck", "reduction"])]
    arch: Option<String>,
    /// Layers; 3n + 4 without bottlenecks, 6n + 4 with them.
    #[arg(long, requires = "growth_rate")]
    depth: Option<usize>,
    /// Channels that each dense layer adds.
    #[arg(long, value_name = "K", alias = "growthRate", requires = "depth")]
    growth_rate: Option<usize>,
    /// Whether 1x1 convolutions of 4K channels stand before the 3x3.
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
    bottleneck: Option<bool>,
    /// The share of the channels that a transition keeps.
    #[arg(long, value_name = "SHARE")]
    reduction: Option<f64>,
}

impl Network {
    /// The sizes asked for; the original's opts.lua takes bottlenecks and a half where nothing is said.
    fn config(&self) -> Result<Config> {
        if let Some(name) = &self.arch {
            let found = networks::find(name).map(|network| network.config.clone());
            return found.ok_or_else(|| Error::Usage(format!("no network {name:?}; `list` shows them")));
        }
        let (Some(depth), Some(growth_rate)) = (self.depth, self.growth_rate) else {
            return Err(Error::Usage("which network? --preset NAME, or --arch, or --depth and --growth-rate".into()));
        };
        let config = if self.bottleneck.unwrap_or(true) {
            Config::cifar_bc(depth, growth_rate)
        } else {
            Config::cifar(depth, growth_rate)
        };
        let config = config.map_err(|error| Error::Usage(error.to_string()))?;
        Ok(Config { compression: self.reduction.unwrap_or(config.compression), ..config })
    }
}

impl Train {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        if self.presets {
            let presets: Vec<_> = Recipe::presets().collect();
            return match self.print.format {
                Format::Human => output::print(&presets.join("\n")),
                Format::Json => output::print_json(&json!(presets)),
            };
        }
        let Some(path) = &self.resume else { return self.begin(store, None) };
        match Torch7::open(path)? {
            Some(torch7) => self.begin(store, Some(torch7)),
            None if self.asks() => Err(Error::Usage(
                "--resume goes on by the recipe and in the folder of the run; leave the others out".into(),
            )),
            None => resume(path, self.data.as_deref(), &self.machine, self.print.format),
        }
    }

    /// Whether anything was asked for that a run has already.
    fn asks(&self) -> bool {
        let Self { preset, dataset, network, changes, out, n_classes, .. } = self;
        let named = [preset, dataset, &network.arch].into_iter().any(Option::is_some);
        let Network { depth, bottleneck, reduction, .. } = network;
        let sized = depth.is_some() || bottleneck.is_some() || reduction.is_some();
        named || sized || changes.any() || out.is_some() || n_classes.is_some()
    }

    /// Begins a run, or one that Torch7 began.
    fn begin(self, store: &Store, torch7: Option<Torch7>) -> Result<()> {
        let (mut recipe, kind) = self.recipe()?;
        self.changes.apply(&mut recipe)?;
        recipe.config.num_classes = self.n_classes.unwrap_or(recipe.config.num_classes);
        let settings = self.machine.settings(self.changes.seed(), self.changes.exact())?;
        if let Some(path) = &self.out {
            Folder::check(path, self.force)?;
            if torch7.is_some() && path.join(Torch7::LATEST).exists() {
                let reason = "--out is the folder of Torch's checkpoints, which would be resumed again; give another";
                return Err(Error::Usage(reason.into()));
            }
        }
        let source = Source::of_preset(kind, self.data.as_deref())?;
        let sets = source.open()?;
        possible(&recipe, &sets)?;
        let model = match (&self.begin.retrain, &torch7) {
            (_, Some(torch7)) => Some(torch7.model.display().to_string()),
            (model, None) => model.clone(),
        };
        let model = model.map(|model| store.model(&model, &mut Downloads::default().one())).transpose()?;
        let outputs = recipe.config.num_classes;
        if sets.training.classes() != outputs {
            let classes = sets.training.classes();
            let reason = format!(
                "the images are of {classes} classes, and the network has {outputs} outputs; --n-classes {classes}"
            );
            return Err(Error::Usage(reason));
        }
        if let Some(model) = model.as_ref().filter(|_| !self.begin.reset_classifier) {
            same_classes(model, &sets)?;
        }
        if let Some(model) = &model {
            recipe.config.eps = model.config.eps;
            if model.protocol_stated && model.protocol != recipe.protocol {
                eprintln!(
                    "the model's own protocol is {}; it is trained by {}",
                    model.protocol.name, recipe.protocol.name
                );
            }
        }
        if torch7.is_some() && (recipe.average.is_some() || recipe.optimiser == Optimiser::Adamw) {
            let reason = "Torch7 kept the momentum of SGD alone; --optimiser sgd --average 0 go on from that";
            return Err(Error::Usage(reason.into()));
        }
        let looked_at = if self.test_only { &[&sets.validation][..] } else { &[&sets.training, &sets.validation] };
        look(&sets, looked_at, &recipe, settings.threads, self.machine.no_check)?;
        let origin = model.as_ref().map(|model| Origin::of(model, store));
        let mut state = State::new(recipe, &settings, source, origin);
        let mut drawn = initial_weights(&state.recipe.config, settings.seed);
        let mut weights = |name: &str| match &model {
            Some(model) if !(self.begin.reset_classifier && name.starts_with("classifier.")) => model.tensor(name).ok(),
            _ => drawn(name),
        };
        let run = match torch7 {
            None => start(state, &settings, sets, &mut weights, None)?,
            Some(torch7) => {
                state.earlier = torch7.epochs;
                let steps = sets.training.len().div_ceil(state.recipe.batch);
                state.position = Position::of(torch7.progress(steps));
                let memory = torch7.memory(&state.recipe.config);
                let mut all = |name: &str| memory.get(name).cloned().or_else(|| model.as_ref()?.tensor(name).ok());
                start(state, &settings, sets, &mut weights, Some(&mut all))?
            }
        };
        if self.test_only {
            return run::measured(&run, self.print.format);
        }
        let folder = self.out.as_deref().map(|path| Folder::create(path, self.force)).transpose()?;
        run::to_the_end(run, folder, self.print.format)
    }

    fn recipe(&self) -> Result<(Recipe, &'static str)> {
        let (Some(name), None) = (&self.dataset, &self.preset) else {
            let missing =
                || Error::Usage("what to train? --preset NAME (--presets lists them), or --dataset NAME".into());
            return Recipe::preset(self.preset.as_deref().ok_or_else(missing)?);
        };
        let known =
            || Error::Usage(format!("no data set {name:?}; there is {}", Data::names().collect::<Vec<_>>().join(", ")));
        let data = Data::named(name).ok_or_else(known)?;
        let config = self.network.config()?;
        Ok((data.recipe(format!("{name}, {}", config.name()), config)?, data.kind))
    }
}

/// Refuses a classifier whose outputs stand for other classes than the images', or for the same in another order.
fn same_classes(model: &Model, sets: &Sets) -> Result<()> {
    let (found, expected) = (&model.labels, &sets.training.dataset.classes);
    let differs = match found {
        Labels::Own(names) => names != expected,
        _ => model.config.num_classes != expected.len(),
    };
    if !differs {
        return Ok(());
    }
    let reason =
        "the model's classes are not the images', or in another order; --reset-classifier begins a new classifier";
    Err(Error::Usage(format!("{}: {reason}", model.name)))
}

/// Says what of a recipe makes no sense, and what little, before any image is looked at.
pub(super) fn possible(recipe: &Recipe, sets: &Sets) -> Result<()> {
    let steps = sets.training.len().div_ceil(recipe.batch);
    recipe.check_for(matches!(sets.training.targets, Targets::Findings(_)), steps)?;
    let left = 100.0 * recipe.share_of_first(steps);
    if left > 10.0 {
        eprintln!(
            "{left:.0} % of the first weights will be left in the average of these {} steps; --average with less keeps fewer",
            recipe.epochs * steps
        );
    }
    Ok(())
}

/// Says what stands in the way of a training before its first step; decodes these images.
pub(super) fn look(sets: &Sets, images: &[&Labelled], recipe: &Recipe, threads: usize, no_check: bool) -> Result<()> {
    let Sets { training, validation, .. } = sets;
    for note in check(training, validation, recipe.config.num_classes)? {
        eprintln!("{note}");
    }
    if no_check {
        return Ok(());
    }
    if sets.split.is_some() {
        shared(training, validation)?.into_iter().for_each(|note| eprintln!("{note}"));
    }
    let transform = Transform::new(&recipe.protocol, recipe.config.in_channels)?;
    let bar = progress::images(images.iter().map(|labelled| labelled.len()).sum());
    bar.set_message("looked at");
    let looked = images
        .iter()
        .try_for_each(|labelled| check_images(labelled, &transform, threads, |images| bar.inc(images as u64)));
    bar.finish_and_clear();
    looked
}

/// A run from weights, and where it goes on from a state.
pub(super) fn start(
    mut state: State,
    settings: &Settings,
    sets: Sets,
    weights: &mut Tensors,
    from: Option<&mut Tensors>,
) -> Result<Run> {
    let steps = sets.training.len().div_ceil(state.recipe.batch);
    let learner = settings.compute.learner(&state.recipe, settings, steps, weights)?;
    if !(state.learner.is_empty() || state.learner == learner.name()) {
        let (before, now) = (&state.learner, learner.name());
        eprintln!("the run was computed by {before}, and goes on by {now}: its last bits will be others");
    }
    state.learner = learner.name();
    Run::new(state, settings.threads, learner, sets, from)
}

/// Goes on with a run.
fn resume(path: &Path, data: Option<&Path>, machine: &Machine, format: Format) -> Result<()> {
    let folder = Folder::open(path);
    let stored = Stored::open(&folder.file(Kept::Last))?;
    let tensors = stored.tensors()?;
    let mut state = stored.state;
    if let Some(data) = data {
        state.source = state.source.moved(data)?;
    }
    state.source = state.source.with_split(&path.join(Folder::SPLIT));
    let sets = state.source.open()?;
    let settings = machine.settings(state.seed, state.exact)?;
    let tensor = |name: &str| tensors.get(name).cloned();
    let run = start(state, &settings, sets, &mut { tensor }, Some(&mut { tensor }))?;
    run::to_the_end(run, Some(folder), format)
}
