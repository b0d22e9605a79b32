//! `fetch` and `verify`: the cache.

use std::path::PathBuf;

use clap::Args;
use densenet_registry::{Cache, FetchOptions, Record};
use densenet_zoo::store::Store;
use densenet_zoo::{Error, Result};
use serde_json::json;

use super::progress::Download;
use super::{Format, FormatArg, catalogue, output};

#[derive(Args)]
pub(super) struct Fetch {
    /// As `list` shows it, or a network's name for its recommended file.
    name: String,
    /// A file that you have, instead of the network: the way for the original Torch7 files.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Take what the server sends where no digest is known, and pin it.
    #[arg(long)]
    trust_on_first_use: bool,
    /// Fetch again what is cached.
    #[arg(long)]
    force: bool,
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
        let weight = store.catalogue.find(&self.name)?;
        let options =
            FetchOptions { from: self.from.as_deref(), trust_on_first_use: self.trust_on_first_use, force: self.force };
        let record = store.fetch(weight, &Cache::open_default()?, &options, &mut Download::default())?;
        match self.print.format {
            Format::Json => output::print_json(&json!(record)),
            Format::Human => output::print(&describe(&record)),
        }
    }
}

impl Verify {
    pub(super) fn run(self, store: &Store) -> Result<()> {
        let cache = Cache::open_default()?;
        let weights: Vec<_> = match &self.name {
            Some(name) => vec![store.catalogue.find(name)?],
            None => store.catalogue.weights().iter().filter(|weight| catalogue::is_cached(weight)).collect(),
        };
        let mut good = Vec::new();
        let mut bad: Vec<Error> = Vec::new();
        for weight in weights {
            match densenet_registry::verify(weight, &cache, &mut Download::default()) {
                Ok(verified) => good.push(verified),
                Err(error) => bad.push(error.into()),
            }
        }
        match self.print.format {
            Format::Json => output::print_json(&json!({
                "verified": good.iter().map(|verified| &verified.record).collect::<Vec<_>>(),
                "failed": bad.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }))?,
            Format::Human => {
                for verified in &good {
                    let record = &verified.record;
                    output::print(&format!(
                        "{}: as fetched (sha256 {}; {})",
                        record.name, record.original.sha256, verified.digest_strength
                    ))?;
                }
                if good.is_empty() && bad.is_empty() {
                    output::print("nothing is cached")?;
                }
            }
        }
        for error in bad.iter().skip(1) {
            eprintln!("densenet-zoo: {error}");
        }
        bad.into_iter().next().map_or(Ok(()), Err)
    }
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
    if let Some(converted) = &record.converted {
        lines.push(format!("  converted {}\n  sha256    {}", converted.path.display(), converted.sha256));
    }
    lines.join("\n")
}
