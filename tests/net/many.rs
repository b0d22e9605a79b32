//! Many processes at once on one cache, with locks and without.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use super::at_length;
use super::offline::tool_works;
use super::server::{Server, Step, answer, whole_or_rest};
use super::zoo::{NAME, Zoo, entry, known, objects, outcome, padded, sha256};

const NAMES: [&str; 4] = ["tiny.a", "tiny.b", "tiny.c", "tiny.d"];

/// So many processes that each fetch the four models, each beginning with another.
fn at_once(processes: usize, rounds: usize, locks: bool) {
    let contents: HashMap<_, _> =
        NAMES.iter().zip(1..).map(|(name, seed)| (format!("/{name}"), Arc::new(padded(100_000, seed)))).collect();
    let right: Vec<_> = contents.values().map(|content| sha256(content)).collect();
    for round in 0..rounds {
        let own = contents.clone();
        let server = Server::start(move |request| whole_or_rest(&own[request.path()], request));
        let entries: String = NAMES
            .iter()
            .map(|name| {
                let path = format!("/{name}");
                entry(name, &[server.url(&path)], &known(&contents[&path]))
            })
            .collect();
        let zoo = Zoo::of(&entries);
        let children: Vec<_> = (0..processes)
            .map(|number| {
                let mut names = NAMES;
                names.rotate_left(number % 4);
                let mut command = zoo.command(&["fetch"]);
                command.args(names);
                if !locks {
                    command.arg("--no-locks");
                }
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in children {
            let outcome = outcome(child.wait_with_output().unwrap());
            assert_eq!(outcome.code, 0, "round {round}, locks {locks}: {}", outcome.stderr);
        }
        let kept = objects(&zoo.cache());
        assert!(right.iter().all(|sha256| kept.contains(sha256)) && kept.len() == 8, "{kept:?}");
        let verified = zoo.run(&["verify"], &[]);
        assert_eq!((verified.code, verified.stdout.lines().count()), (0, 4), "{}", verified.stderr);
        let asked = server.requests().len();
        assert!(if locks { asked == 4 } else { (4..=4 * processes).contains(&asked) }, "{asked}");
        // Nothing is left of what was on its way.
        assert_eq!(zoo.run(&["cache", "prune"], &[]).stdout, "0 files of 0 bytes were removed\n");
    }
}

#[test]
fn many_processes_at_once() {
    let (processes, rounds) = at_length((4, 1), (16, 10));
    at_once(processes, rounds, true);
    at_once(processes, rounds, false);
}

/// One that takes no lock is at work on wrong bytes; one that holds the lock must not write to the same file.
#[test]
fn who_takes_no_lock_does_not_spoil_what_another_fetches() {
    let content = Arc::new(padded(1 << 20, 1));
    let own = Arc::clone(&content);
    // The first client gets half, and after a while a page of the wrong length.
    let server = Server::start(move |request| {
        let half = own.len() / 2;
        let head = |length: usize| Step::Send(answer("200 OK", &format!("Content-Length: {length}\r\n"), b""));
        match request.number {
            0 => vec![
                head(own.len()),
                Step::Body(Arc::clone(&own), 0..half),
                Step::Pause(Duration::from_secs(2)),
                Step::Reset,
            ],
            1 => {
                let rest = if request.start() > 0 { &own[half..] } else { &own[..] };
                let range = format!(
                    "Content-Length: {}\r\nContent-Range: bytes {half}-{}/{}\r\n",
                    rest.len(),
                    own.len() - 1,
                    own.len()
                );
                let head = if request.start() > 0 {
                    answer("206 Partial Content", &range, &rest[..1000])
                } else {
                    answer("200 OK", &format!("Content-Length: {}\r\n", rest.len()), &rest[..1000])
                };
                let rest = rest[1000..].to_vec();
                vec![Step::Send(head), Step::Pause(Duration::from_secs(5)), Step::Send(rest)]
            }
            // The first again: from its beginning.
            _ => vec![
                Step::Send(answer("200 OK", &format!("Content-Length: {}\r\n", own.len()), &[b'x'; 5000])),
                Step::Hold,
            ],
        }
    });
    let zoo = Zoo::with(&[server.url("/file")], &known(&content));
    let start =
        |arguments: &[&str]| zoo.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut without = start(&["fetch", NAME, "--no-locks"]);
    while server.body_bytes() < (content.len() / 2) as u64 {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(300));
    let with = outcome(start(&["fetch", NAME]).wait_with_output().unwrap());
    assert_eq!(with.code, 0, "{}", with.stderr);
    let kept = objects(&zoo.cache());
    assert!(kept.contains(&sha256(&content)), "{kept:?}");
    without.kill().unwrap();
    without.wait().unwrap();
}

/// In containers every process has the same number.
#[test]
fn processes_of_the_same_number_have_files_of_their_own() {
    let unshare = ["unshare", "-r", "--pid", "--fork"];
    if !tool_works(&unshare) {
        println!("not checked here: unshare does not work");
        return;
    }
    let content = Arc::new(padded(1 << 20, 1));
    let own = Arc::clone(&content);
    let server = Server::start(move |request| {
        let mut wrong = own.to_vec();
        wrong[request.number] ^= u8::from(request.number == 0);
        let half = own.len() / 2;
        let head = answer("200 OK", &format!("Content-Length: {}\r\n", own.len()), &wrong[..half]);
        vec![Step::Send(head), Step::Pause(Duration::from_millis(500)), Step::Send(wrong[half..].to_vec())]
    });
    let zoo = Zoo::with(&[server.url("/file")], &known(&content));
    let program = zoo.command(&["fetch", NAME, "--no-locks"]);
    let start = || {
        let mut command = std::process::Command::new(unshare[0]);
        command.args(&unshare[1..]).arg(program.get_program()).args(program.get_args());
        command.env("DENSENET_ZOO_CACHE", zoo.cache()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let first = start();
    while server.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let others: Vec<_> = (0..2).map(|_| start()).collect();
    assert_eq!(outcome(first.wait_with_output().unwrap()).code, 1);
    for other in others {
        let outcome = outcome(other.wait_with_output().unwrap());
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    }
    assert!(objects(&zoo.cache()).contains(&sha256(&content)));
}
