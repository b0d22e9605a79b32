//! Wrong bytes: refused, or had from the next address, every time; and nothing of them is kept.

use std::collections::BTreeSet;

use densenet_registry::FetchOptions;

use super::server::{Server, ok, ok_unannounced};
use super::zoo::{NAME, Noting, Zoo, code, files, known, noise, objects, runs_elsewhere, sha256};
use crate::run::fixture;

const SIZE: usize = 10_000;

/// Every way of being wrong, with the exit code.
fn wrong() -> Vec<(&'static str, Vec<u8>, i32)> {
    let good = noise(SIZE, 1);
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    vec![
        ("the first byte", flipped(0), 1),
        ("the middle byte", flipped(SIZE / 2), 1),
        ("the last byte", flipped(SIZE - 1), 1),
        ("other bytes", noise(SIZE, 2), 1),
        ("one byte more", [good.as_slice(), b"!"].concat(), 3),
        ("one byte less", good[..SIZE - 1].to_vec(), 3),
        ("nothing", Vec::new(), 3),
    ]
}

#[test]
fn wrong_bytes_are_refused_or_had_elsewhere() {
    if runs_elsewhere("net::digest::wrong_bytes_are_refused_or_had_elsewhere") {
        return;
    }
    let good = noise(SIZE, 1);
    let right = BTreeSet::from([sha256(&good)]);
    let (clock, none) = (Noting::default(), BTreeSet::new());
    let options = FetchOptions { clock: &clock, ..FetchOptions::default() };
    for (name, bytes, exit) in wrong() {
        for wrong in [ok(&bytes), ok_unannounced(&bytes)] {
            let server = Server::of([("/wrong", wrong), ("/good", ok(&good))]);
            let (bad, fine) = (server.url("/wrong"), server.url("/good"));
            let zoo = Zoo::with(std::slice::from_ref(&bad), &known(&good));
            assert_eq!(code(zoo.fetch(&options).unwrap_err().kind()), exit, "{name}");
            assert_eq!((objects(&zoo.cache()), files(&zoo.cache())), (none.clone(), vec![]), "{name}");
            // Nothing of it is taken up later.
            assert_eq!(std::fs::read_dir(zoo.cache().join("partial")).unwrap().count(), 0, "{name}");
            assert_eq!(server.requests().len(), 1, "{name}");

            // One good of three, wherever it stands.
            for place in 0..3 {
                let mut urls = vec![bad.clone(); 3];
                urls[place].clone_from(&fine);
                let before = server.requests().len();
                let zoo = Zoo::with(&urls, &known(&good));
                let record = zoo.fetch(&options).unwrap();
                assert_eq!((record.original.sha256, record.source), (sha256(&good), fine.clone()), "{name}");
                assert_eq!(objects(&zoo.cache()), right, "{name}");
                assert_eq!(server.requests().len() - before, place + 1, "{name}");
            }
        }
    }
    assert!(clock.0.lock().unwrap().is_empty());
}

#[test]
fn weaker_digests_refuse_wrong_bytes_as_well() {
    if runs_elsewhere("net::digest::weaker_digests_refuse_wrong_bytes_as_well") {
        return;
    }
    // The published digests of "abc" (FIPS 180, RFC 1321).
    for digest in [
        "sha256_prefix = \"ba7816bf\"",
        "sha1 = \"a9993e364706816aba3e25717850c26c9cd0d89d\"",
        "md5 = \"900150983cd24fb0d6963f7d28e17f72\"",
    ] {
        let server = Server::of([("/abc", ok(b"abc")), ("/abd", ok(b"abd"))]);
        let zoo = Zoo::with(&[server.url("/abd")], digest);
        assert_eq!(code(zoo.fetch(&FetchOptions::default()).unwrap_err().kind()), 1, "{digest}");
        assert!(files(&zoo.cache()).is_empty(), "{digest}");
        let zoo = Zoo::with(&[server.url("/abd"), server.url("/abc")], digest);
        zoo.fetch(&FetchOptions::default()).unwrap();
        assert_eq!(objects(&zoo.cache()), BTreeSet::from([sha256(b"abc")]), "{digest}");
    }
}

/// pytorchcv publishes the digest of the file inside its zips.
#[test]
fn the_file_inside_is_what_the_digest_is_compared_with() {
    // As `unzip -p nested_stored.zip | sha256sum` prints it: the member is pytorch_more's plain zip form.
    let archive = fixture("pytorch_more/nested_stored.zip");
    let bytes = std::fs::read(&archive).unwrap();
    let start = bytes.windows(4).skip(1).position(|window| window == b"PK\x03\x04").unwrap() + 1;
    let end = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    let right = sha256(&bytes[start..end]);
    for (digest, code) in [(right.clone(), 0), ("0".repeat(64), 1)] {
        let member = format!("member = {{ name = \"densenet_tiny.pth\", sha256 = \"{digest}\" }}");
        let zoo = Zoo::with(&[format!("file://{}", archive.display())], &member);
        let outcome = zoo.run(&["fetch", NAME], &[]);
        assert_eq!(outcome.code, code, "{}", outcome.stderr);
        if code == 0 {
            assert!(outcome.stdout.contains("verified by: sha256 of the file inside"), "{}", outcome.stdout);
        } else {
            let wrong = outcome.stderr.contains("densenet_tiny.pth: wrong sha256");
            assert!(wrong && outcome.stderr.contains(&right), "{}", outcome.stderr);
            // Nothing wrong is kept.
            assert!(objects(&zoo.cache()).is_empty());
        }
    }
}
