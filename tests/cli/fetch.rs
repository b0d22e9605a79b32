//! `fetch` against a loopback server that says what it is told to: the right bytes end up in the cache, or nothing does.

use std::fs;
use std::path::PathBuf;

use crate::net::server::{Server, answer, ok, ok_unannounced};
use crate::net::zoo::{NAME, Zoo, files, good, sha256, wrong};
use crate::run::path;

impl Zoo {
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

#[test]
fn good_bytes_are_kept_and_not_fetched_twice() {
    for response in [ok(&good()), ok_unannounced(&good())] {
        let server = Server::of([("/tiny.pt", response)]);
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
    let server = Server::of([("/tiny.pt", ok(&wrong()))]);
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
        let server = Server::of([("/tiny.pt", response)]);
        let zoo = Zoo::new(&[server.url("/tiny.pt")]);
        zoo.fails(&[], 3, &["/tiny.pt", &telling]);
        assert_eq!(files(&zoo.cache()), Vec::<PathBuf>::new());
    }
}

#[test]
fn an_error_or_a_web_page_is_no_model() {
    let page = b"\n<!DOCTYPE html><title>Sign in</title>";
    let server = Server::of([
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
    let server = Server::of([
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
    let server = Server::of([("/wrong", ok(&wrong())), ("/tiny.pt", ok(&good()))]);
    for first in ["/wrong", "/absent"] {
        Zoo::new(&[server.url(first), server.url("/tiny.pt")]).succeeds(&[]);
    }
    let zoo = Zoo::new(&[server.url("/wrong"), server.url("/absent")]);
    zoo.fails(
        &[],
        1,
        &["every source failed", &sha256(&wrong()), "404", "; `fetch tiny.test --from FILE` takes a file"],
    );
    assert_eq!(files(&zoo.cache()), Vec::<PathBuf>::new());
}

#[test]
fn without_a_digest_nothing_is_asked_for() {
    let server = Server::of([("/tiny.pt", ok(&good()))]);
    let zoo = Zoo::without_digest(&[server.url("/tiny.pt")]);
    let said = format!(
        "densenet-zoo: {NAME}: no digest is known for this file, so it cannot be verified. `fetch {NAME} --from FILE` with a \
         file you have is the expected way; `fetch {NAME} --trust-on-first-use` takes what the server sends"
    );
    zoo.fails(&[], 1, &[&said]);
    let outcome = zoo.run(&["fetch", "densenet-121.torch"], &[]);
    assert_eq!((outcome.code, outcome.stderr.contains("way (the original Torch7 links are dead); ")), (1, true));
    assert_eq!(files(&zoo.cache()), Vec::<PathBuf>::new());
    assert_eq!(server.connections(), 0);
}

#[test]
fn what_is_trusted_on_first_use_is_pinned() {
    let server = Server::of([("/tiny.pt", ok(&good()))]);
    let url = server.url("/tiny.pt");
    let zoo = Zoo::without_digest(std::slice::from_ref(&url));
    zoo.succeeds(&["--trust-on-first-use"]);
    zoo.succeeds(&["--force"]);
    drop(server);

    let server = Server::of([("/tiny.pt", ok(&wrong()))]);
    let file = zoo.file();
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
    let server = Server::of([("/tiny.pt", ok(&good()[..1000]))]);
    let zoo = Zoo::without_digest(&[server.url("/tiny.pt")]);
    zoo.fails(&["--trust-on-first-use"], 5, &["zip: byte 1000: "]);
    zoo.succeeds(&["--from", &path("pytorch/tiny_zip.pt")]);
}

#[test]
fn a_file_at_hand_is_verified_as_well() {
    let from = path("pytorch/tiny_zip.pt");
    let server = Server::of([]);
    Zoo::new(&[server.url("/absent")]).succeeds(&["--from", &from]);
    Zoo::without_digest(&[]).succeeds(&["--from", &from]);
    Zoo::new(&[format!("file:///{}", from.replace('\\', "/").trim_start_matches('/'))]).succeeds(&[]);
    assert_eq!(server.connections(), 0);

    let zoo = Zoo::new(&[server.url("/absent")]);
    let file = zoo.folder.path().join("mine.pt");
    fs::write(&file, wrong()).unwrap();
    zoo.fails(&["--from", file.to_str().unwrap()], 1, &["mine.pt", &sha256(&good()), &sha256(&wrong())]);
    fs::write(&file, b"short").unwrap();
    zoo.fails(&["--from", file.to_str().unwrap()], 1, &["mine.pt", "received 5"]);
    zoo.fails(&["--from", "/absent/mine.pt"], 4, &["/absent/mine.pt"]);
    assert_eq!(files(&zoo.cache()), Vec::<PathBuf>::new());
}
