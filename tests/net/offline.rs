//! `--offline` opens no socket.

use std::process::Command;

use super::server::{Server, ok};
use super::zoo::{NAME, Zoo, good, outcome};

const REFUSED: &str =
    "tiny.test: it is not at hand, and --offline opens no connection; `fetch tiny.test --from FILE` takes a file";

#[test]
fn offline_no_connection_is_opened() {
    let server = Server::of([("/x", ok(&good()))]);
    let (url, proxy) = (server.url("/x"), server.url(""));
    for urls in [vec![url.clone()], vec![url, "hf:org/repo@main/x".to_owned(), "gdrive:1".to_owned()]] {
        let zoo = Zoo::new(&urls);
        let environment = [
            ("HTTP_PROXY", proxy.as_str()),
            ("HTTPS_PROXY", &proxy),
            ("HF_ENDPOINT", &proxy),
            ("DENSENET_ZOO_GDRIVE", &proxy),
        ];
        let said = zoo.run(&["fetch", NAME, "--offline", "--mirror", &proxy], &environment);
        assert_eq!(said.code, 3);
        assert!(said.stderr.contains(REFUSED), "{}", said.stderr);
        let said = zoo.run(&["fetch", NAME], &[environment.as_slice(), &[("DENSENET_ZOO_OFFLINE", "1")]].concat());
        assert_eq!(said.code, 3);
    }
    assert_eq!(server.connections(), 0);
}

/// What the program does without a network, asked of the system itself: no call that makes a socket, and the same in a
/// network namespace with nothing in it, where the machine has the tools for that.
#[test]
fn offline_the_system_sees_no_socket() {
    let server = Server::of([("/x", ok(&good()))]);
    let zoo = Zoo::new(&[server.url("/x")]);
    let trace = zoo.folder.path().join("trace");
    let strace: Vec<&str> = vec!["strace", "-f", "-e", "trace=%network", "-o", trace.to_str().unwrap()];
    let unshare: Vec<&str> = vec!["unshare", "-rn"];
    for tool in [&strace, &unshare] {
        if !tool_works(tool) {
            println!("not checked here: {} does not work", tool[0]);
            continue;
        }
        let run = |arguments: &[&str]| {
            let program = zoo.command(arguments);
            let mut command = Command::new(tool[0]);
            command.args(&tool[1..]).arg(program.get_program()).args(program.get_args());
            for (name, value) in program.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            outcome(command.output().unwrap())
        };
        let said = run(&["fetch", NAME, "--offline"]);
        assert_eq!((said.code, said.stderr), (3, format!("densenet-zoo: {REFUSED}\n")), "{}", tool[0]);
        no_socket(&trace);

        // What is cached serves.
        assert_eq!(zoo.run(&["fetch", NAME], &[]).code, 0);
        let said = run(&["fetch", NAME, "--offline"]);
        assert_eq!(said.code, 0, "{}: {}", tool[0], said.stderr);
        no_socket(&trace);
        let said = run(&["fetch", NAME, "--offline", "--force"]);
        assert_eq!(said.code, 3, "{}: {}", tool[0], said.stderr);
        no_socket(&trace);
        std::fs::remove_dir_all(zoo.cache()).unwrap();
    }

    // The trace does show sockets where there are some.
    if tool_works(&strace) {
        let program = zoo.command(&["fetch", NAME]);
        let mut command = Command::new(strace[0]);
        command.args(&strace[1..]).arg(program.get_program()).args(program.get_args());
        command.env("DENSENET_ZOO_CACHE", zoo.cache()).env_remove("http_proxy").env_remove("HTTP_PROXY");
        assert_eq!(outcome(command.output().unwrap()).code, 0);
        assert!(std::fs::read_to_string(&trace).unwrap().contains("socket(AF_INET"));
    }
}

#[track_caller]
fn no_socket(trace: &std::path::Path) {
    if let Ok(trace) = std::fs::read_to_string(trace) {
        let calls: Vec<_> =
            trace.lines().filter(|line| line.contains("socket(") || line.contains("connect(")).collect();
        assert!(calls.is_empty(), "{calls:?}");
    }
}

/// Whether the tool is here and may do what it does.
pub(crate) fn tool_works(tool: &[&str]) -> bool {
    Command::new(tool[0]).args(&tool[1..]).arg("true").output().is_ok_and(|output| output.status.success())
}
