//! What an interrupted run left goes on, and is never trusted.

use std::collections::BTreeSet;
use std::sync::Arc;

use densenet_registry::FetchOptions;

use super::server::Server;
use super::zoo::{Random, Zoo, known, leave_partial, noise, objects, runs_elsewhere, sha256};

const SIZE: usize = 1 << 20;

/// Fetches with that left of an earlier run; gives the bytes that the server sent.
fn fetched_again(left: &[u8], digest: &dyn Fn(&[u8]) -> String) -> u64 {
    let content = Arc::new(noise(SIZE, 1));
    let server = Server::file(Arc::clone(&content));
    let zoo = Zoo::with(&[server.url("/file")], &digest(&content));
    leave_partial(&zoo.cache(), left, &server.url("/file"));
    zoo.fetch(&FetchOptions::default()).unwrap();
    assert_eq!(objects(&zoo.cache()), BTreeSet::from([sha256(&content)]));
    assert_eq!(std::fs::read_dir(zoo.cache().join("partial")).unwrap().count(), 0);
    server.body_bytes()
}

/// A digest that says little: the rest is asked for by the server's own word for the file.
fn prefix(bytes: &[u8]) -> String {
    format!("size = {}\nsha256_prefix = \"{}\"", bytes.len(), &sha256(bytes)[..8])
}

#[test]
fn only_the_rest_is_fetched_wherever_it_was_cut() {
    if runs_elsewhere("net::resume::only_the_rest_is_fetched_wherever_it_was_cut") {
        return;
    }
    let content = noise(SIZE, 1);
    let mut random = Random(4);
    let seeded = (0..50).map(|_| random.below(SIZE as u64) as usize);
    for cut in [0, 1, 4095, 4096, SIZE - 1, SIZE].into_iter().chain(seeded) {
        for digest in [known as fn(&[u8]) -> String, prefix] {
            assert_eq!(fetched_again(&content[..cut], &digest), (SIZE - cut) as u64, "cut at {cut}");
        }
    }
}

#[test]
fn what_was_spoiled_meanwhile_is_fetched_anew() {
    if runs_elsewhere("net::resume::what_was_spoiled_meanwhile_is_fetched_anew") {
        return;
    }
    let content = noise(SIZE, 1);
    let cut = 300_000;
    for at in [0, cut / 2, cut - 1] {
        let mut left = content[..cut].to_vec();
        left[at] ^= 0x80;
        // The rest, which shows that the beginning was wrong, and then all.
        assert_eq!(fetched_again(&left, &known), (SIZE - cut + SIZE) as u64, "byte {at}");
    }
    let mut whole = content.clone();
    whole[7] ^= 1;
    assert_eq!(fetched_again(&whole, &known), SIZE as u64, "all of it");
    for more in [1, SIZE] {
        let left = [content.as_slice(), &noise(more, 9)].concat();
        assert_eq!(fetched_again(&left, &known), SIZE as u64, "longer by {more}");
    }
}

#[test]
fn another_address_goes_on_where_the_digest_is_full_and_begins_anew_where_it_is_not() {
    if runs_elsewhere("net::resume::another_address_goes_on_where_the_digest_is_full_and_begins_anew_where_it_is_not") {
        return;
    }
    let content = Arc::new(noise(SIZE, 1));
    for (known, expected) in [(known(&content), SIZE - 1000), (prefix(&content), SIZE)] {
        let server = Server::file(Arc::clone(&content));
        let zoo = Zoo::with(&[server.url("/file")], &known);
        leave_partial(&zoo.cache(), &content[..1000], "http://models.invalid/file");
        zoo.fetch(&FetchOptions::default()).unwrap();
        assert_eq!(objects(&zoo.cache()), BTreeSet::from([sha256(&content)]));
        assert_eq!(server.body_bytes(), expected as u64, "{known}");
    }
}
