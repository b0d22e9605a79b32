//! `fetch` and `verify`: the cache.

use std::path::PathBuf;
use std::sync::Mutex;

use clap::Args;
use densenet_registry::{Cache, FetchOptions, Known, Record, Weight};
use densenet_zoo::store::{Checked, Store};
use densenet_zoo::{Error, Result};
use serde_json::json;

use super::progress::Downloads;
use super::{Format, FormatArg, catalogue, output};

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Fetch {
    /// As `list` shows them, or networks' names for their recommended files.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
    /// Everything that `convert` reads and whose digest is known.
    #[arg(long)]
    all: bool,
    /// How many at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
    /// A file that you have, instead of the network: the way for the original Torch7 files.
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    from: Option<PathBuf>,
    /// Take what the server sends where no digest is known, and pin it.
    #[arg(long)]
    trust_on_first_use: bool,
    /// Fetch again what is cached.
    #[arg(long)]
    force: bool,
    /// Open no connection.
    #[arg(long, env = "DENSENET_ZOO_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    offline: bool,
    /// Say what would be fetched, and fetch nothing.
    #[arg(long)]
    dry_run: bool,
    /// Where to look first for a file by its name: URL/FILE.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// How often a server is asked again after a failure that may pass.
    #[arg(long, default_value_t = 4)]
    retries: u32,
    /// Do not wait for other processes that fetch the same file. The result is right either way.
    #[arg(long)]
    no_locks: bool,
    #[command(flatten)]
    print: FormatArg,
}

#[derive(Args)]
pub(super) struct Verify {
    /// What to hash; everything that is cached otherwise.
    #[arg(conflicts_with = "all")]
    name: Option<String>,
    /// Everything that is cached.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    print: FormatArg,
}

impl Fetch {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let weights = self.weights(store)?;
        if self.from.is_some() && weights.len() > 1 {
            return Err(Error::Usage("--from takes one name: a file is one weight".into()));
        }
        if self.dry_run {
            return self.plan(&weights);
        }
        let cache = Cache::open_default()?;
        let options = FetchOptions {
            from: self.from.as_deref(),
            trust_on_first_use: self.trust_on_first_use,
            force: self.force,
            offline: self.offline,
            mirror: self.mirror.as_deref(),
            retries: self.retries,
            locks: !self.no_locks,
            ..FetchOptions::default()
        };
        interruptible();
        let downloads = Downloads::default();
        let queue = Mutex::new(weights.iter().enumerate());
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..usize::from(self.jobs).min(weights.len()) {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().ok().and_then(|mut queue| queue.next());
                        let Some((number, weight)) = next else { break };
                        let record = store.fetch(weight, &cache, &options, &mut downloads.one());
                        if let Ok(mut done) = done.lock() {
                            done.push((number, record));
                        }
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_default();
        done.sort_by_key(|(number, _)| *number);
        let (good, bad): (Vec<_>, Vec<_>) = done.into_iter().map(|(_, record)| record).partition(Result::is_ok);
        let records: Vec<_> = good.into_iter().flatten().collect();
        self.say(&records, weights.len())?;
        outcome(bad.into_iter().filter_map(Result::err).collect())
    }

    fn weights<'s>(&self, store: &'s Store) -> Result<Vec<&'s Weight>> {
        if self.all {
            let all = store.catalogue.weights().iter();
            let can_be_had = |weight: &&Weight| weight.file.known() != Known::None && !weight.file.urls.is_empty();
            return Ok(all.filter(|weight| weight.config().is_ok()).filter(can_be_had).collect());
        }
        let mut weights: Vec<&Weight> = Vec::new();
        for name in &self.names {
            let weight = store.catalogue.find(name)?;
            if !weights.iter().any(|known| known.name == weight.name) {
                weights.push(weight);
            }
        }
        Ok(weights)
    }

    fn say(&self, records: &[Record], asked: usize) -> Result<()> {
        match self.print.format {
            Format::Json if asked == 1 => records.iter().try_for_each(|record| output::print_json(&json!(record))),
            Format::Json => output::print_json(&json!(records)),
            Format::Human => records.iter().try_for_each(|record| output::print(&describe(record))),
        }
    }

    /// What would be done, from what is known without asking anyone.
    fn plan(&self, weights: &[&Weight]) -> Result<()> {
        let rows = weights.iter().map(|weight| {
            let size = weight.file.size.map_or("not stated".into(), output::thousands);
            let cached = catalogue::is_cached(weight) && !self.force;
            let from = self.from.as_ref().map(|path| path.display().to_string());
            let from = from.or_else(|| weight.file.urls.first().cloned()).unwrap_or_else(|| "-".into());
            let what = if cached { "nothing: it is cached".to_owned() } else { format!("fetch from {from}") };
            vec![weight.name.clone(), size, weight.digest_strength().to_owned(), what]
        });
        output::print(&output::table(&["name", "bytes", "digest", "would"], &[1], rows.collect()))
    }
}

/// Ctrl-C ends the program and keeps what has arrived.
fn interruptible() {
    // Fails only where a handler stands already, which ends the program as well.
    let _ = ctrlc::set_handler(|| {
        eprintln!("densenet-zoo: interrupted; what has arrived is kept, and the next fetch goes on from there");
        std::process::exit(130);
    });
}

impl Verify {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let cache = Cache::open_default()?;
        let weights: Vec<_> = match &self.name {
            Some(name) => vec![store.catalogue.find(name)?],
            None => store.catalogue.weights().iter().filter(|weight| catalogue::is_cached(weight)).collect(),
        };
        let downloads = Downloads::default();
        let mut good = Vec::new();
        let mut bad: Vec<Error> = Vec::new();
        for weight in weights {
            match store.verify(weight, &cache, &mut downloads.one()) {
                Ok(checked) => good.push(checked),
                Err(error) => bad.push(error),
            }
        }
        match self.print.format {
            Format::Json => output::print_json(&json!({
                "verified": good.iter().map(|checked| &checked.verified.record).collect::<Vec<_>>(),
                "failed": bad.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }))?,
            Format::Human => {
                for Checked { verified, conversion } in &good {
                    let record = &verified.record;
                    let (sha256, strength) = (&record.original.sha256, &verified.digest_strength);
                    let line = format!("{}: as fetched (sha256 {sha256}; {strength}); {conversion}", record.name);
                    output::print(&line)?;
                }
                if good.is_empty() && bad.is_empty() {
                    output::print("nothing is cached")?;
                }
            }
        }
        outcome(bad)
    }
}

/// The first error is the command's; the others are said before it.
fn outcome(errors: Vec<Error>) -> Result<()> {
    for error in errors.iter().skip(1) {
        eprintln!("densenet-zoo: {error}");
    }
    errors.into_iter().next().map_or(Ok(()), Err)
}

fn describe(record: &Record) -> String {
    let mut lines = vec![format!(
        "{}\n  from      {}\n  original  {} ({} bytes)\n  sha256    {} (verified by: {})",
        record.name,
        record.source,
        record.original.path.display(),
        output::thousands(record.original.size),
        record.original.sha256,
        record.digest_strength
    )];
    if record.converted.is_none() {
        lines.push("  not converted: `convert` does not read it".to_owned());
    }
    if let Some(converted) = &record.converted {
        lines.push(format!("  converted {}\n  sha256    {}", converted.path.display(), converted.sha256));
    }
    lines.join("\n")
}
