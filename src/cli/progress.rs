//! Progress on stderr: a bar on a terminal, a line at the start and the end otherwise.

use std::io::IsTerminal;
use std::time::Duration;

use densenet_registry::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const BYTES: &str = "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
const IMAGES: &str = "[{bar:30}] {pos}/{len} {msg} {eta}";

/// Shows how far downloads are, one bar each.
#[derive(Default)]
pub(super) struct Downloads(MultiProgress);

/// One of them.
pub(super) struct Download<'d> {
    all: &'d MultiProgress,
    bar: Option<ProgressBar>,
}

impl Downloads {
    pub(super) fn one(&self) -> Download<'_> {
        Download { all: &self.0, bar: None }
    }
}

impl Progress for Download<'_> {
    fn start(&mut self, what: &str, total: Option<u64>) {
        let bar = self.all.add(bar(total.unwrap_or(0), BYTES));
        bar.set_message(what.to_owned());
        if !std::io::stderr().is_terminal() {
            eprintln!("{what} …");
        }
        self.bar = Some(bar);
    }

    fn advance(&mut self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn note(&mut self, text: &str) {
        if std::io::stderr().is_terminal() {
            let _ = self.all.println(text);
        } else {
            eprintln!("{text}");
        }
    }
}

/// A bar over so many images, whose message is the running error.
pub(super) fn images(total: usize) -> ProgressBar {
    bar(total as u64, IMAGES)
}

fn bar(total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
