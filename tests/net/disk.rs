//! Disks that are full, read-only, elsewhere or not there: exit code 4 with what to do, and a cache that goes on.

use std::process::Command;

use super::offline::tool_works;
use super::server::{Server, ok};
use super::zoo::{NAME, Zoo, good, known, objects, outcome, padded, sha256};

/// Runs a shell script in a mount namespace of its own, with a disk of `size` at $DISK. $FETCH fetches into it.
fn on_a_small_disk(zoo: &Zoo, size: &str, script: &str) -> Option<(i32, String)> {
    if !tool_works(&["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]) {
        println!("not checked here: a namespace with a disk of its own cannot be had");
        return None;
    }
    let disk = zoo.folder.path().join("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let program = zoo.command(&[]);
    let fetch = format!(
        "{} --zoo {} fetch {NAME} --retries 0",
        program.get_program().to_str().unwrap(),
        zoo.file().to_str().unwrap()
    );
    let script = format!("mount -t tmpfs -o size={size} tmpfs \"$DISK\" || exit 99\nset +e\n{script}");
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script]).env("DISK", &disk).env("FETCH", fetch);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    let outcome = outcome(command.env("DENSENET_ZOO_CACHE", disk.join("cache")).output().unwrap());
    Some((outcome.code, outcome.stdout + &outcome.stderr.replace(disk.to_str().unwrap(), "DISK")))
}

#[test]
fn a_full_disk_is_said_before_the_download_where_the_size_is_known() {
    let content = padded(2 << 20, 1);
    let server = Server::of([("/x", ok(&content))]);
    let zoo = Zoo::with(&[server.url("/x")], &known(&content));
    let Some((code, said)) = on_a_small_disk(&zoo, "1m", "$FETCH; exit $?") else { return };
    let needed = content.len() * 2;
    assert_eq!(
        (code, said),
        (
            4,
            format!(
                "densenet-zoo: DISK/cache: 1044480 bytes are free and {needed} are needed; make room, or set \
                 DENSENET_ZOO_CACHE to a folder elsewhere\n"
            )
        )
    );
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_disk_that_fills_up_is_said_with_the_remedy_and_the_rest_is_fetched_when_there_is_room() {
    let content = padded(2 << 20, 1);
    let server = Server::file(std::sync::Arc::new(content.clone()));
    let zoo = Zoo::with(&[server.url("/x")], &format!("sha256 = \"{}\"", sha256(&content)));
    let script = "$FETCH; echo \"exit $?\"; find $DISK/cache/objects -type f | wc -l\n\
                  mount -o remount,size=64m $DISK && $FETCH > /dev/null; echo \"exit $?\"\n\
                  find $DISK/cache/objects -name tiny.pt -exec sha256sum {} + | cut -c1-64";
    let Some((code, said)) = on_a_small_disk(&zoo, "1m", script) else { return };
    let lines: Vec<_> = said.lines().collect();
    assert_eq!((code, &lines[..4]), (0, &["exit 4", "0", "exit 0", sha256(&content).as_str()][..]), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("make room, or set DENSENET_ZOO_CACHE to a folder elsewhere"), "{said}");
    // What had arrived before was not fetched again.
    assert!(server.body_bytes() < content.len() as u64 * 3, "{}", server.body_bytes());
    assert!(server.requests()[1].start() > 500_000, "{:?}", server.requests()[1]);
}

#[test]
fn a_disk_with_no_room_for_the_converted_file_is_said_too() {
    // Room for the original, hardly more.
    let content = padded(1000, 1);
    let server = Server::of([("/x", ok(&content))]);
    let zoo = Zoo::with(&[server.url("/x")], &format!("sha256 = \"{}\"", sha256(&content)));
    let script = "$FETCH; echo \"exit $?\"; mount -o remount,size=64m $DISK && $FETCH > /dev/null; echo \"exit $?\"";
    let Some((code, said)) = on_a_small_disk(&zoo, "120k", script) else { return };
    assert_eq!((code, said.lines().take(2).collect::<Vec<_>>()), (0, vec!["exit 4", "exit 0"]), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("make room, or set DENSENET_ZOO_CACHE to a folder elsewhere"), "{said}");
}

#[test]
fn a_read_only_cache_serves_what_it_has_and_says_what_to_do_for_the_rest() {
    let server = Server::of([("/x", ok(&good()))]);
    let zoo = Zoo::new(&[server.url("/x")]);
    let script = "$FETCH > /dev/null 2>&1; echo \"exit $?\"; mount -o remount,ro $DISK || exit 98\n\
                  $FETCH > /dev/null; echo \"exit $?\"; $FETCH --force; echo \"exit $?\"\n\
                  mount -o remount,rw $DISK; $FETCH --force > /dev/null 2>&1; echo \"exit $?\"";
    let Some((code, said)) = on_a_small_disk(&zoo, "8m", script) else { return };
    let lines: Vec<_> = said.lines().collect();
    assert_eq!((code, &lines[..4]), (0, &["exit 0", "exit 0", "exit 4", "exit 0"][..]), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains("set DENSENET_ZOO_CACHE to a folder elsewhere"), "{said}");
}

#[test]
fn a_folder_in_the_way_is_exit_code_4() {
    let server = Server::of([("/x", ok(&good()))]);
    let zoo = Zoo::new(&[server.url("/x")]);
    std::fs::write(zoo.cache(), "a file").unwrap();
    let outcome = zoo.run(&["fetch", NAME], &[]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(zoo.cache().to_str().unwrap()), "{}", outcome.stderr);
    std::fs::remove_file(zoo.cache()).unwrap();
    assert_eq!(zoo.run(&["fetch", NAME], &[]).code, 0);
}

#[test]
fn without_a_home_it_says_what_to_set() {
    let zoo = Zoo::new(&[]);
    let mut command = zoo.command(&["fetch", NAME]);
    command.env_remove("DENSENET_ZOO_CACHE").env_remove("XDG_CACHE_HOME").env_remove("HOME");
    let outcome = outcome(command.output().unwrap());
    let message = "densenet-zoo: no home directory to keep a cache in; set DENSENET_ZOO_CACHE to a folder\n";
    assert_eq!((outcome.code, outcome.stderr.as_str()), (4, message));
}

#[test]
fn spaces_and_letters_of_any_script_are_only_a_path() {
    let server = Server::of([("/x", ok(&good()))]);
    let zoo = Zoo::new(&[server.url("/x")]);
    let cache = zoo.folder.path().join("мои веса ☂ %20");
    let environment = [("DENSENET_ZOO_CACHE", cache.to_str().unwrap())];
    let outcome = zoo.run(&["fetch", NAME], &environment);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("мои веса ☂ %20/objects"), "{}", outcome.stdout);
    assert!(objects(&cache).contains(&sha256(&good())));
    assert_eq!(zoo.run(&["verify", NAME], &environment).code, 0);
    assert_eq!(zoo.run(&["cache", "dir"], &environment).stdout, format!("{}\n", cache.display()));
    // So is a file at hand.
    let mine = zoo.folder.path().join("mein gewicht ü.pt");
    std::fs::write(&mine, good()).unwrap();
    let outcome = zoo.run(&["fetch", NAME, "--force", "--from", mine.to_str().unwrap()], &environment);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_cache_on_another_device_is_as_good() {
    let Ok(cache) = tempfile::tempdir_in("/dev/shm") else {
        println!("not checked here: there is no /dev/shm");
        return;
    };
    let server = Server::of([("/x", ok(&good()))]);
    let zoo = Zoo::new(&[server.url("/x")]);
    let environment = [("DENSENET_ZOO_CACHE", cache.path().to_str().unwrap())];
    for arguments in [&["fetch", NAME][..], &["verify", NAME]] {
        let outcome = zoo.run(arguments, &environment);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    }
    assert!(objects(cache.path()).contains(&sha256(&good())));
}
