//! Killed at any moment: no object is wrong, and the next run ends right.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::at_length;
use super::offline::tool_works;
use super::server::{Server, Step, answer, whole_or_rest};
use super::zoo::{NAME, Random, Zoo, known, objects, padded, sha256};

/// A zoo of one checkpoint, with the server that has it.
struct Scene {
    content: Arc<Vec<u8>>,
    server: Server,
    zoo: Zoo,
    /// What the cache holds in the end.
    right: BTreeSet<String>,
}

impl Scene {
    fn new(size: usize) -> Self {
        let content = Arc::new(padded(size, 1));
        let server = Server::file(Arc::clone(&content));
        let zoo = Zoo::with(&[server.url("/file")], &known(&content));
        let mut scene = Self { content, server, zoo, right: BTreeSet::new() };
        scene.ends();
        scene.right = objects(&scene.zoo.cache());
        assert_eq!((scene.right.len(), scene.right.contains(&sha256(&scene.content))), (2, true));
        scene.forget();
        scene
    }

    fn forget(&self) {
        std::fs::remove_dir_all(self.zoo.cache()).unwrap();
    }

    fn start(&self) -> Child {
        let mut command = self.zoo.command(&["fetch", NAME]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// A run that nothing disturbs.
    fn ends(&self) {
        let outcome = self.zoo.run(&["fetch", NAME], &[]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    }

    /// After a kill: nothing wrong is there; the next run ends right, and leaves nothing but what it should.
    fn recovers(&self) {
        for object in objects(&self.zoo.cache()) {
            assert!(self.right.is_empty() || self.right.contains(&object), "{object}");
        }
        self.server.settle();
        let before = self.server.body_bytes();
        self.ends();
        assert_eq!(objects(&self.zoo.cache()), self.right);
        assert!(self.server.body_bytes() - before <= self.content.len() as u64);
        assert_eq!(std::fs::read_dir(self.zoo.cache().join("partial")).into_iter().flatten().count(), 0);
        assert_eq!(self.zoo.run(&["verify", NAME], &[]).code, 0);
        self.forget();
    }
}

fn kill(mut child: Child) -> bool {
    let was_running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    was_running
}

/// Kills at so many moments of the time that a run takes; gives how many were in time.
fn killed_at_moments(size: usize, moments: u64) -> u64 {
    let scene = Scene::new(size);
    let start = Instant::now();
    scene.ends();
    let whole = start.elapsed();
    scene.forget();
    let mut random = Random(4);
    (0..moments)
        .map(|_| {
            let child = scene.start();
            std::thread::sleep(Duration::from_nanos(random.below(whole.as_nanos() as u64)));
            let in_time = kill(child);
            scene.recovers();
            u64::from(in_time)
        })
        .sum()
}

#[test]
fn killed_at_any_moment() {
    let (bytes, moments) = at_length((4 << 20, 6), (64 << 20, 200));
    let in_time = killed_at_moments(bytes, moments);
    println!("{moments} moments, {in_time} of them while it ran; no wrong object, every next run right");
    assert!(in_time > 0);
}

/// A fetch that has taken so many bytes and waits for more, of a server that gives the rest to whoever asks next.
fn held_at(content: &Arc<Vec<u8>>, cut: usize) -> (Server, Zoo, Child) {
    let own = Arc::clone(content);
    let server = Server::start(move |request| {
        let mut steps = whole_or_rest(&own, request);
        if request.number == 0 {
            steps.truncate(1);
            steps.extend([Step::Body(Arc::clone(&own), 0..cut), Step::Hold]);
        }
        steps
    });
    let zoo = Zoo::with(&[server.url("/file")], &known(content));
    let child = zoo.command(&["fetch", NAME]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let there = || {
        let files = std::fs::read_dir(zoo.cache().join("partial")).into_iter().flatten().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).any(|length| length == cut as u64)
    };
    while server.holding() == 0 || !there() {
        std::thread::sleep(Duration::from_millis(2));
    }
    (server, zoo, child)
}

/// Kills when so many bytes have been sent, and all of them before that have been taken.
#[test]
fn killed_at_counts_of_bytes_and_gone_on_from_there() {
    let content = Arc::new(padded(1 << 20, 1));
    let size = content.len();
    for cut in [0, 1, 4095, 4096, size / 2, size - 1] {
        let (server, zoo, child) = held_at(&content, cut);
        assert!(kill(child));
        assert!(objects(&zoo.cache()).is_empty());
        server.settle();
        let before = server.body_bytes();
        assert_eq!(zoo.run(&["fetch", NAME], &[]).code, 0);
        assert!(objects(&zoo.cache()).contains(&sha256(&content)));
        assert_eq!(server.body_bytes() - before, (size - cut) as u64, "cut at {cut}");
    }
}

/// The system calls by which the cache changes, and the connection. A tracer kills the program as it enters the N-th of
/// them, so the program needs no fail points of its own.
const FAIL_POINTS: [&str; 8] = [
    "mkdir,mkdirat",
    "openat",
    "flock",
    "connect",
    "write",
    "fsync",
    "chmod,fchmod,fchmodat",
    "rename,renameat,renameat2",
];

fn killed_at_fail_points(each: u64) {
    if !tool_works(&["strace", "-f", "-o", "/dev/null"]) {
        println!("not checked here: strace does not work");
        return;
    }
    let scene = Scene::new(1 << 20);
    for point in FAIL_POINTS {
        let (mut killed, mut number) = (0, 1);
        while killed < each {
            let program = scene.zoo.command(&["fetch", NAME]);
            let mut command = Command::new("strace");
            command.args(["-f", "-o", "/dev/null", "-e", &format!("inject={point}:signal=KILL:when={number}")]);
            command.arg(program.get_program()).args(program.get_args());
            command.env("DENSENET_ZOO_CACHE", scene.zoo.cache()).stdout(Stdio::null()).stderr(Stdio::null());
            let ended = command.status().unwrap().success();
            std::fs::create_dir_all(scene.zoo.cache()).unwrap();
            scene.recovers();
            assert!(!ended || number > 1, "{point} is never called");
            // Past its last call it goes around. Of the many openings and writes, some are passed over.
            let step = if ["openat", "write"].contains(&point) { 7 } else { 1 };
            (killed, number) = if ended { (killed, 1) } else { (killed + 1, number + step) };
        }
        println!("{point}: killed {killed} times, no wrong object, every next run right");
    }
}

#[test]
fn killed_at_each_fail_point() {
    killed_at_fail_points(at_length(2, 20));
}

/// A server that lies is no way around it either: killed while wrong bytes arrive.
#[test]
fn killed_with_wrong_bytes_on_the_disk() {
    let content = Arc::new(padded(1 << 20, 1));
    let own = Arc::clone(&content);
    let server = Server::start(move |request| {
        if request.number > 0 {
            return whole_or_rest(&own, request);
        }
        let mut wrong = own[..9000].to_vec();
        wrong[4000] ^= 1;
        vec![Step::Send(answer("200 OK", &format!("Content-Length: {}\r\n", own.len()), &wrong)), Step::Hold]
    });
    let zoo = Zoo::with(&[server.url("/file")], &known(&content));
    let child = zoo.command(&["fetch", NAME]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while server.holding() == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(100));
    assert!(kill(child));
    assert_eq!(zoo.run(&["fetch", NAME], &[]).code, 0);
    assert!(objects(&zoo.cache()).contains(&sha256(&content)));
}

/// Ctrl-C: what has arrived is kept, that is said, and the next run goes on from there.
#[test]
fn interrupted_it_says_so_and_keeps_what_arrived() {
    let content = Arc::new(padded(1 << 20, 1));
    let half = content.len() / 2;
    let (server, zoo, child) = held_at(&content, half);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let outcome = child.wait_with_output().unwrap();
    assert_eq!(outcome.status.code(), Some(130));
    let stderr = String::from_utf8(outcome.stderr).unwrap();
    assert!(
        stderr.contains("interrupted; what has arrived is kept, and the next fetch goes on from there"),
        "{stderr}"
    );
    assert_eq!(zoo.run(&["fetch", NAME], &[]).code, 0);
    assert_eq!(server.requests()[1].start(), half);
    assert!(objects(&zoo.cache()).contains(&sha256(&content)));
}
