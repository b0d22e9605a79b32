//! A large file passes through little memory.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use super::at_length;
use super::server::Server;
use super::zoo::{NAME, Zoo, known, outcome, padded, sha256};

/// As large as the original densenet-264-32's file.
#[cfg(target_os = "linux")]
fn peak_while_fetching(size: usize) -> u64 {
    let content = Arc::new(padded(size, 1));
    let server = Server::file(Arc::clone(&content));
    let zoo = Zoo::with(&[server.url("/file")], &known(&content));
    let start = Instant::now();
    let mut child = zoo.command(&["fetch", NAME]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        // Until it is the program, it is a copy of this test.
        if text.starts_with("Name:\tdensenet-zoo\n") {
            peak = peak.max(kib.unwrap_or(0) * 1024);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let whole = start.elapsed();
    let outcome = outcome(child.wait_with_output().unwrap());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let kept = zoo.cache().join("objects").join(sha256(&content)).join("tiny.pt");
    // Read once, so that both read what is at hand.
    let mut spent = Vec::new();
    for _ in 0..2 {
        let start = Instant::now();
        assert!(std::process::Command::new("sha256sum").arg(&kept).stdout(Stdio::null()).status().unwrap().success());
        spent.push(start.elapsed().as_secs_f64());
    }
    let rate = |seconds: f64| content.len() as f64 / 1e6 / seconds;
    println!(
        "{} bytes: fetched, verified, synced and converted in {:.2} s ({:.0} MB/s), peak {} KiB; sha256sum {:.2} s ({:.0} MB/s)",
        content.len(),
        whole.as_secs_f64(),
        rate(whole.as_secs_f64()),
        peak / 1024,
        spent[1],
        rate(spent[1])
    );
    peak
}

#[cfg(target_os = "linux")]
#[test]
fn a_large_file_takes_less_than_64_mib() {
    let peak = peak_while_fetching(at_length(100_000_000, 557_000_000));
    assert!(peak > 0 && peak < 64 << 20, "{peak} bytes");
}
