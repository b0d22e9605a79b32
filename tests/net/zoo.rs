//! Catalogues and caches for the tests, and fetching through the library with a clock that does not wait.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use densenet_registry::{Cache, Catalogue, Clock, ErrorKind, FetchOptions, Record, Silent, fetch};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::run::{Outcome, fixture};

pub(crate) const NAME: &str = "tiny.test";

/// A checkpoint that converts.
pub(crate) fn good() -> Vec<u8> {
    fs::read(fixture("pytorch/tiny_zip.pt")).unwrap()
}

/// Of the same length, one bit off.
pub(crate) fn wrong() -> Vec<u8> {
    let mut bytes = good();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

/// The checkpoint with one more entry of `size` bytes that nothing reads.
pub(crate) fn padded(size: usize, seed: u64) -> Vec<u8> {
    let good = good();
    let end = good.len() - 22;
    let number = |at: usize| u32::from_le_bytes(good[at..at + 4].try_into().unwrap());
    let (length, start) = (number(end + 12), number(end + 16));
    let directory = &good[start as usize..(start + length) as usize];
    let entries = u16::from_le_bytes(good[end + 10..end + 12].try_into().unwrap()) + 1;

    let pad = noise(size, seed);
    let mut crc = flate2::Crc::new();
    crc.update(&pad);
    let name = b"tiny_zip/pad";
    let size = u32::try_from(size).unwrap();
    // Version, flags, method, time, date; crc, both sizes; lengths of name and extra field.
    let mut facts = [20_u16, 0, 0, 0, 0x21].map(u16::to_le_bytes).concat();
    facts.extend([crc.sum(), size, size].map(u32::to_le_bytes).concat());
    facts.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());

    let mut file = good[..start as usize].to_vec();
    file.extend([b"PK\x03\x04", facts.as_slice(), name, &pad].concat());
    let directory_start = file.len() as u32;
    file.extend(directory);
    // Comment, disk, attributes; where the entry begins.
    file.extend([b"PK\x01\x02\x14\x00", facts.as_slice(), &[0; 10], &start.to_le_bytes(), name].concat());
    let length = file.len() as u32 - directory_start;
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([entries, entries].map(u16::to_le_bytes).concat());
    file.extend([length, directory_start].map(u32::to_le_bytes).concat());
    file.extend([0, 0]);
    file
}

/// Bytes that look like nothing, the same for the same seed.
pub(crate) fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(size);
    bytes
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The size and sha256 of bytes, as a catalogue states them.
pub(crate) fn known(bytes: &[u8]) -> String {
    format!("size = {}\nsha256 = \"{}\"", bytes.len(), sha256(bytes))
}

/// One entry of a catalogue.
pub(crate) fn entry(name: &str, urls: &[String], known: &str) -> String {
    format!(
        r#"
        [[weight]]
        name = "{name}"
        format = "pytorch"
        protocol = "pil-bilinear"
        licence = "none"
        provenance = "made for the tests"
        [weight.network]
        block_config = [2, 2, 2, 2]
        growth_rate = 4
        num_init_features = 8
        stem = "imagenet"
        bn_size = 4
        compression = 0.5
        num_classes = 10
        [weight.file]
        name = "tiny.pt"
        urls = {urls:?}
        {known}
        "#
    )
}

/// A user's catalogue, with a cache of its own beside it.
pub(crate) struct Zoo {
    pub(crate) folder: TempDir,
}

impl Zoo {
    /// The checkpoint that converts, with its size and sha256.
    pub(crate) fn new(urls: &[String]) -> Self {
        Self::with(urls, &known(&good()))
    }

    /// The weight of which nothing is known but the addresses.
    pub(crate) fn without_digest(urls: &[String]) -> Self {
        Self::with(urls, "")
    }

    pub(crate) fn with(urls: &[String], known: &str) -> Self {
        Self::of(&entry(NAME, urls, known))
    }

    pub(crate) fn of(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("zoo.toml"), text).unwrap();
        Self { folder }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("zoo.toml")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// The program, with nothing of the environment that changes where bytes come from or go.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"));
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(changes_the_way) {
                command.env_remove(name);
            }
        }
        command.env("DENSENET_ZOO_CACHE", self.cache()).args(arguments).arg("--zoo").arg(self.file());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
        outcome(self.command(arguments).envs(environment.iter().copied()).output().unwrap())
    }

    /// The library, on the first weight of the catalogue.
    pub(crate) fn fetch(&self, options: &FetchOptions) -> Result<Record, densenet_registry::Error> {
        let mut catalogue = Catalogue::default();
        catalogue.add(&self.file()).unwrap();
        fetch(&catalogue.weights()[0], &Cache::at(self.cache()), options, &mut Silent)
    }
}

pub(crate) fn outcome(output: Output) -> Outcome {
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn changes_the_way(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name.ends_with("_PROXY") || name.starts_with("HF_") || name.starts_with("DENSENET_ZOO_")
}

/// The library reads proxies from the environment of the tests. Where there are any, this runs the test in a process
/// that has none, and says so.
pub(crate) fn runs_elsewhere(test: &str) -> bool {
    let proxies: Vec<_> = std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.to_str().is_some_and(|name| name.to_ascii_uppercase().ends_with("_PROXY")))
        .collect();
    if proxies.is_empty() {
        return false;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    for name in &proxies {
        command.env_remove(name);
    }
    assert!(command.args(["--exact", test]).status().unwrap().success(), "{test} without proxies");
    true
}

/// A clock that notes each wait and lets none pass. It is always the time of RFC 9110's example, and chance is 1.
#[derive(Default)]
pub(crate) struct Noting(pub(crate) Mutex<Vec<u64>>);

impl Clock for Noting {
    fn now(&self) -> SystemTime {
        // Sun, 06 Nov 1994 08:49:37 GMT
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    fn sleep(&self, time: Duration) {
        self.0.lock().unwrap().push(time.as_millis() as u64);
    }

    fn chance(&self) -> f64 {
        1.0
    }
}

/// The exit code of an error's kind, as the README lists them.
pub(crate) fn code(kind: ErrorKind) -> i32 {
    match kind {
        ErrorKind::Negative => 1,
        ErrorKind::Usage => 2,
        ErrorKind::Network => 3,
        ErrorKind::Disk => 4,
        ErrorKind::Malformed => 5,
    }
}

/// Every file below but locks and what is on its way, which nobody trusts; and every folder with nothing in it but those that the cache consists of.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        let below = if path.is_dir() { files(&path) } else { vec![path.clone()] };
        let is = |names: &[&str]| path.file_name().is_some_and(|name| names.iter().any(|known| name == *known));
        if is(&["locks", "partial"]) {
            continue;
        }
        let is_part = is(&["objects", "names"]);
        found.extend(if below.is_empty() && !is_part { vec![path] } else { below });
    }
    found.sort();
    found
}

/// Hashes every object: each is what the name of its folder says. Returns those names.
#[track_caller]
pub(crate) fn objects(cache: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in fs::read_dir(cache.join("objects")).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        // A file here is on its way.
        for file in fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            let name = file.file_name().unwrap().to_str().unwrap();
            if name.starts_with(".partial-") || name.ends_with(".provenance.json") {
                continue;
            }
            let expected = folder.file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(sha256(&fs::read(&file).unwrap()), expected, "{}", file.display());
            found.insert(expected);
        }
    }
    found
}

/// Puts a partial file where a run that was interrupted leaves it.
pub(crate) fn leave_partial(cache: &Path, bytes: &[u8], url: &str) {
    let folder = cache.join("partial");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(NAME), bytes).unwrap();
    let origin = format!(r#"{{"url":"{url}","validator":"\"1\""}}"#);
    fs::File::create(folder.join(format!("{NAME}.json"))).unwrap().write_all(origin.as_bytes()).unwrap();
}
