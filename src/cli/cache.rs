//! `cache`: what lies on the disk.

use clap::{Args, Subcommand};
use densenet_registry::Cache as Store;
use densenet_zoo::Result;
use serde_json::json;

use super::{Format, FormatArg, output};

#[derive(Args)]
pub(super) struct Cache {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// What is cached, and how large it is.
    List {
        #[command(flatten)]
        print: FormatArg,
    },
    /// Remove what no name refers to: unfinished downloads, and files whose name was fetched anew.
    Prune {
        /// Everything, also what is in use.
        #[arg(long)]
        all: bool,
        /// Say what would be removed.
        #[arg(long)]
        dry_run: bool,
    },
    /// The cache's folder.
    Dir,
}

impl Cache {
    pub(super) fn run(self) -> Result<()> {
        let cache = Store::open_default()?;
        match self.verb {
            Verb::Dir => output::print(&cache.dir().display().to_string()),
            Verb::List { print } => {
                let records = cache.records()?;
                if print.format == Format::Json {
                    return output::print_json(&json!(records));
                }
                if records.is_empty() {
                    return output::print("nothing is cached");
                }
                let rows = records.iter().map(|record| {
                    let converted = record.converted.as_ref().map_or(0, |object| object.size);
                    vec![
                        record.name.clone(),
                        output::thousands(record.original.size),
                        output::thousands(converted),
                        record.digest_strength.clone(),
                        record.source.clone(),
                    ]
                });
                let header = ["name", "original", "converted", "verified by", "from"];
                output::print(&output::table(&header, &[1, 2], rows.collect()))
            }
            Verb::Prune { all, dry_run } => {
                let (files, bytes) = cache.prune(all, dry_run)?;
                let (what, bytes) = (if dry_run { "would be" } else { "were" }, output::thousands(bytes));
                output::print(&format!("{files} files of {bytes} bytes {what} removed"))
            }
        }
    }
}
