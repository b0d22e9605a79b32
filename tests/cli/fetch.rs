//! `fetch` against a loopback server that says what it is told to: the right bytes end up in the cache, or nothing does.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::run::{Outcome, fixture, path};

const NAME: &str = "tiny.test";

/// Answers each GET with the whole bytes that stand under its path, and remembers what it was sent.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start<const N: usize>(answers: [(&str, Vec<u8>); N]) -> Self {
        let answers: HashMap<_, _> = answers.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let mut stream = stream.unwrap();
                let request = read_request(&mut stream);
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                seen.lock().unwrap().push(request);
                // The client hangs up in the middle where it has seen enough.
                let _ = stream.write_all(answers.get(&path).map_or(&answer("404 Not Found", "", b""), |bytes| bytes));
            }
        });
        Self { address, requests, stop, thread: Some(thread) }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn read_request(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        request.extend(byte);
    }
    String::from_utf8(request).unwrap()
}

/// A response; `headers` are lines, each with its end.
fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend(body);
    bytes
}

/// 200 with the body's length announced.
fn ok(body: &[u8]) -> Vec<u8> {
    answer("200 OK", &format!("Content-Length: {}\r\n", body.len()), body)
}

/// 200 with a body that ends where the connection does.
fn ok_unannounced(body: &[u8]) -> Vec<u8> {
    answer("200 OK", "", body)
}

fn good() -> Vec<u8> {
    fs::read(fixture("pytorch/tiny_zip.pt")).unwrap()
}

/// Of the same length, one bit off.
fn wrong() -> Vec<u8> {
    let mut bytes = good();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A user's catalogue of one weight, with a cache of its own beside it.
struct Zoo {
    folder: TempDir,
}

impl Zoo {
    /// The weight with its size and sha256.
    fn new(urls: &[String]) -> Self {
        let good = good();
        Self::with(urls, &format!("size = {}\nsha256 = \"{}\"", good.len(), sha256(&good)))
    }

    /// The weight of which nothing is known but the addresses.
    fn without_digest(urls: &[String]) -> Self {
        Self::with(urls, "")
    }

    fn with(urls: &[String], known: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            r#"
            [[weight]]
            name = "{NAME}"
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
        );
        fs::write(folder.path().join("zoo.toml"), text).unwrap();
        Self { folder }
    }

    fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
        let mut command = Command::new(env!("CARGO_BIN_EXE_densenet-zoo"));
        for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_TOKEN"] {
            command.env_remove(name);
        }
        let output = command
            .env("DENSENET_ZOO_CACHE", self.cache())
            .envs(environment.iter().copied())
            .args(arguments)
            .arg("--zoo")
            .arg(self.folder.path().join("zoo.toml"))
            .output()
            .unwrap();
        Outcome {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Fetches, and finds the original, its converted form and the record in the cache, and nothing else.
    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) {
        let outcome = self.run(&[&["fetch", NAME], arguments].concat(), &[]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let sha256 = sha256(&good());
        assert!(outcome.stdout.contains(&sha256), "{}", outcome.stdout);
        let files = files(&self.cache());
        // The original, the converted one with its provenance, the record.
        assert_eq!(files.len(), 4, "{files:?}");
        let original = self.cache().join("objects").join(sha256).join("tiny.pt");
        assert_eq!(fs::read(original).unwrap(), good());
        let verified = self.run(&["verify", NAME], &[]);
        assert_eq!(verified.code, 0, "{}", verified.stderr);
    }

    /// Fails to fetch with that exit code and one line that says all of `telling`; the cache is as it was.
    #[track_caller]
    fn fails(&self, arguments: &[&str], code: i32, telling: &[&str]) {
        let before = files(&self.cache());
        let outcome = self.run(&[&["fetch", NAME, "--retries", "0"], arguments].concat(), &[]);
        assert_eq!(outcome.code, code, "{}", outcome.stderr);
        // Beside it stand the lines that say that a transfer has begun.
        let mut lines = outcome.stderr.lines().filter(|line| *line != format!("{NAME} …"));
        let line = lines.next().unwrap();
        assert!(line.starts_with("densenet-zoo: "), "{line}");
        assert_eq!(lines.next(), None);
        assert_eq!(outcome.stdout, "");
        for part in telling {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
        assert_eq!(files(&self.cache()), before);
    }
}

/// Every file below but locks and what is on its way, which nobody trusts; and every folder with nothing in it but those that the cache consists of.
fn files(folder: &Path) -> Vec<PathBuf> {
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

#[test]
fn good_bytes_are_kept_and_not_fetched_twice() {
    for response in [ok(&good()), ok_unannounced(&good())] {
        let server = Server::start([("/tiny.pt", response)]);
        let zoo = Zoo::new(&[server.url("/tiny.pt")]);
        zoo.succeeds(&[]);
        assert_eq!(server.requests().len(), 1);
        drop(server);
        zoo.succeeds(&[]);
        zoo.fails(&["--force"], 3, &["/tiny.pt"]);
    }
}

#[test]
fn wrong_bytes_of_the_right_size_are_refused() {
    let server = Server::start([("/tiny.pt", ok(&wrong()))]);
    let zoo = Zoo::new(&[server.url("/tiny.pt")]);
    zoo.fails(&[], 1, &["/tiny.pt", &sha256(&good()), &sha256(&wrong())]);
    assert_eq!(files(&zoo.cache()), Vec::<PathBuf>::new());
}

#[test]
fn a_body_of_another_length_is_refused() {
    let good = good();
    let size = good.len();
    let short = &good[..size / 2];
    let long = [good.as_slice(), b"!"].concat();
    let broken = answer("200 OK", &format!("Content-Length: {size}\r\n"), short);
    let expected = format!("expected {size} bytes, received ");
    for (response, telling) in [
        (broken, format!("broke after {} of {size} bytes", short.len())),
        (ok(short), format!("{expected}the announcement of {}", short.len())),
        (ok_unannounced(short), format!("{expected}{}", short.len())),
        (ok(b""), format!("{expected}the announcement of 0")),
        (ok(&long), format!("{expected}the announcement of {}", long.len())),
        (ok_unannounced(&long), format!("{expected}at least {}", long.len())),
    ] {
        let server = Server::start([("/tiny.pt", response)]);
        let zoo = Zoo::new(&[server.url("/tiny.pt")]);
        zoo.fails(&[], 3, &["/tiny.pt", &telling]);
        assert_eq!(files(&zoo.cache()), Vec::<PathBuf>::new());
    }
}

#[test]
fn an_error_or_a_web_page_is_no_model() {
    let page = b"\n<!DOCTYPE html><title>Sign in</title>";
    let server = Server::start([
        ("/typed", answer("200 OK", "Content-Type: text/html; charset=utf-8\r\n", b"<p>Sign in")),
        ("/untyped", ok_unannounced(page)),
    ]);
    for (path, telling) in [("/absent", "404"), ("/typed", "--from FILE"), ("/untyped", "--from FILE")] {
        let zoo = Zoo::new(&[server.url(path)]);
        zoo.fails(&[], 3, &[path, telling]);
        assert_eq!(files(&zoo.cache()), Vec::<PathBuf>::new());
    }
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let server = Server::start([
        ("/moved", answer("302 Found", "Location: /tiny.pt\r\nContent-Length: 0\r\n", b"")),
        ("/loop", answer("302 Found", "Location: /loop\r\nContent-Length: 0\r\n", b"")),
        ("/tiny.pt", ok(&good())),
    ]);
    Zoo::new(&[server.url("/moved")]).succeeds(&[]);
    let zoo = Zoo::new(&[server.url("/loop")]);
    zoo.fails(&[], 3, &["/loop", "more than 10 redirects"]);
    assert_eq!(files(&zoo.cache()), Vec::<PathBuf>::new());
}

#[test]
fn the_next_url_is_tried_and_a_wrong_file_weighs_more_than_none() {
    let server = Server::start([("/wrong", ok(&wrong())), ("/tiny.pt", ok(&good()))]);
    for first in ["/wrong", "/absent"] {
        Zoo::new(&[server.url(first), server.url("/tiny.pt")]).succeeds(&[]);
    }
    let zoo = Zoo::new(&[server.url("/wrong"), server.url("/absent")]);
    zoo.fails(&[], 1, &["every source failed", &sha256(&wrong()), "404"]);
    assert_eq!(files(&zoo.cache()), Vec::<PathBuf>::new());
}

#[test]
fn without_a_digest_nothing_is_asked_for() {
    let server = Server::start([("/tiny.pt", ok(&good()))]);
    let zoo = Zoo::without_digest(&[server.url("/tiny.pt")]);
    zoo.fails(&[], 1, &["no digest is known", "--from FILE", "--trust-on-first-use"]);
    assert_eq!(files(&zoo.cache()), Vec::<PathBuf>::new());
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn what_is_trusted_on_first_use_is_pinned() {
    let server = Server::start([("/tiny.pt", ok(&good()))]);
    let url = server.url("/tiny.pt");
    let zoo = Zoo::without_digest(std::slice::from_ref(&url));
    zoo.succeeds(&["--trust-on-first-use"]);
    zoo.succeeds(&["--force"]);
    drop(server);

    let server = Server::start([("/tiny.pt", ok(&wrong()))]);
    let file = zoo.folder.path().join("zoo.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&url, &server.url("/tiny.pt"))).unwrap();
    for trust in [&["--force"][..], &["--force", "--trust-on-first-use"]] {
        zoo.fails(trust, 1, &["differs from the file first fetched", &sha256(&good()), &sha256(&wrong())]);
    }
    assert_eq!(server.requests().len(), 2);
    // The file that was right stays.
    zoo.succeeds(&[]);
}

#[test]
fn what_is_trusted_and_is_no_model_is_not_pinned() {
    let server = Server::start([("/tiny.pt", ok(&good()[..1000]))]);
    let zoo = Zoo::without_digest(&[server.url("/tiny.pt")]);
    zoo.fails(&["--trust-on-first-use"], 5, &["zip: byte 1000: "]);
    zoo.succeeds(&["--from", &path("pytorch/tiny_zip.pt")]);
}

#[test]
fn a_file_at_hand_is_verified_as_well() {
    let from = path("pytorch/tiny_zip.pt");
    let server = Server::start([]);
    Zoo::new(&[server.url("/absent")]).succeeds(&["--from", &from]);
    Zoo::without_digest(&[]).succeeds(&["--from", &from]);
    Zoo::new(&[format!("file:///{}", from.replace('\\', "/").trim_start_matches('/'))]).succeeds(&[]);
    assert_eq!(server.requests(), Vec::<String>::new());

    let zoo = Zoo::new(&[server.url("/absent")]);
    let file = zoo.folder.path().join("mine.pt");
    fs::write(&file, wrong()).unwrap();
    zoo.fails(&["--from", file.to_str().unwrap()], 1, &["mine.pt", &sha256(&good()), &sha256(&wrong())]);
    fs::write(&file, b"short").unwrap();
    zoo.fails(&["--from", file.to_str().unwrap()], 1, &["mine.pt", "received 5"]);
    zoo.fails(&["--from", "/absent/mine.pt"], 4, &["/absent/mine.pt"]);
    assert_eq!(files(&zoo.cache()), Vec::<PathBuf>::new());
}

#[test]
fn a_token_is_not_sent_in_the_clear() {
    let server = Server::start([("/org/repo/resolve/main/tiny.pt", ok(&good()))]);
    let zoo = Zoo::new(&["hf:org/repo@main/tiny.pt".to_owned()]);
    let environment = [("HF_ENDPOINT", server.url("")), ("HF_TOKEN", "hf_secret".to_owned())];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let outcome = zoo.run(&["fetch", NAME], &environment);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert!(!requests[0].to_ascii_lowercase().contains("authorization"), "{}", requests[0]);
}
