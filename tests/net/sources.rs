//! What the environment and the kind of address make of a request. Through the program, since it reads its environment.

use super::server::{Server, Step, answer, ok};
use super::zoo::{NAME, Zoo, files, good, objects, sha256};

/// Fetches, and gives the requests that each server saw.
#[track_caller]
fn succeeds(zoo: &Zoo, arguments: &[&str], environment: &[(&str, &str)]) {
    let outcome = zoo.run(&[&["fetch", NAME], arguments].concat(), environment);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(objects(&zoo.cache()).contains(&sha256(&good())));
}

#[track_caller]
fn fails(zoo: &Zoo, environment: &[(&str, &str)], message: &str) {
    let outcome = zoo.run(&["fetch", NAME, "--retries", "0"], environment);
    assert_eq!((outcome.code, outcome.stderr), (3, format!("{NAME} …\ndensenet-zoo: {message}\n")));
    assert!(files(&zoo.cache()).is_empty());
}

fn paths(server: &Server) -> Vec<String> {
    server.requests().iter().map(|request| request.path().to_owned()).collect()
}

#[test]
fn a_mirror_is_asked_first_by_the_file_s_name() {
    let (mirror, origin) = (Server::of([("/a/tiny.pt", ok(&good()))]), Server::of([("/x", ok(&good()))]));
    let zoo = Zoo::new(&[origin.url("/x")]);
    succeeds(&zoo, &["--mirror", &mirror.url("/a/")], &[]);
    assert_eq!((paths(&mirror), origin.connections()), (vec!["/a/tiny.pt".to_owned()], 0));

    // What it lacks is had from the catalogue's own address.
    let zoo = Zoo::new(&[origin.url("/x")]);
    succeeds(&zoo, &["--mirror", &mirror.url("/b")], &[]);
    assert_eq!((paths(&mirror).len(), paths(&origin)), (2, vec!["/x".to_owned()]));
}

#[test]
fn hugging_face_s_address_can_be_another_and_a_token_is_not_sent_in_the_clear() {
    let other = Server::of([("/tiny.pt", ok(&good()))]);
    let to = format!("Location: {}\r\nContent-Length: 0\r\n", other.url("/tiny.pt"));
    let hub = Server::of([("/org/repo/resolve/main/a/tiny.pt", answer("302 Found", &to, b""))]);
    let zoo = Zoo::new(&["hf:org/repo@main/a/tiny.pt".to_owned()]);
    succeeds(&zoo, &[], &[("HF_ENDPOINT", &hub.url("/")), ("HF_TOKEN", "hf_secret")]);
    for server in [&hub, &other] {
        let requests = server.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].header("authorization"), None);
        assert!(!requests[0].text.contains("hf_secret"));
    }
}

#[test]
#[cfg(not(feature = "hub"))]
fn without_the_hub_s_client_its_list_says_what_to_build() {
    let outcome = Zoo::new(&[]).run(&["list", "--hub", "org/repo"], &[]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("build with --features hub"), "{}", outcome.stderr);
}

#[test]
#[cfg(feature = "hub")]
fn a_repository_s_files_are_listed_with_their_digests() {
    let listed = r#"[{"type": "directory", "oid": "1", "size": 0, "path": "a"},
        {"type": "file", "oid": "2", "size": 12, "path": "config.json"},
        {"type": "file", "oid": "3", "size": 32342954, "path": "a/model.safetensors",
         "lfs": {"oid": "ab12", "sha256": "ab12", "size": 32342954, "pointerSize": 134}}]"#;
    let page = answer("200 OK", "Content-Type: application/json\r\n", listed.as_bytes());
    let hub = Server::of([("/api/models/org/repo/tree/v1?recursive=true", page)]);
    let zoo = Zoo::new(&[]);
    let environment = [("HF_ENDPOINT", hub.url("")), ("HF_TOKEN", "hf_secret".to_owned())];
    let environment = [(environment[0].0, environment[0].1.as_str()), (environment[1].0, environment[1].1.as_str())];
    let outcome = zoo.run(&["list", "--hub", "org/repo@v1"], &environment);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let lines: Vec<_> = outcome.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[1], ["hf:org/repo@v1/a/model.safetensors", "32,342,954", "ab12"]);
    assert_eq!(lines[2], ["hf:org/repo@v1/config.json", "12"]);
    assert_eq!(hub.requests()[0].header("authorization"), Some("Bearer hf_secret"));
    let json: serde_json::Value =
        serde_json::from_str(&zoo.run(&["list", "--hub", "org/repo@v1", "--format", "json"], &environment).stdout)
            .unwrap();
    assert_eq!((&json[0]["sha256"], &json[1]["sha256"]), (&"ab12".into(), &serde_json::Value::Null));
    let outcome = zoo.run(&["list", "--hub", "org/other"], &environment);
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
}

#[test]
fn a_file_of_hugging_face_s_own_cache_is_taken_if_it_is_right() {
    let server = Server::of([("/org/repo/resolve/main/tiny.pt", ok(&good()))]);
    let zoo = Zoo::new(&["hf:org/repo@main/tiny.pt".to_owned()]);
    let model = zoo.folder.path().join("hub/models--org--repo");
    std::fs::create_dir_all(model.join("snapshots/abc")).unwrap();
    std::fs::create_dir_all(model.join("refs")).unwrap();
    std::fs::write(model.join("refs/main"), "abc").unwrap();
    let at_hand = model.join("snapshots/abc/tiny.pt");
    let hub = zoo.folder.path().join("hub");
    let environment = [("HF_HUB_CACHE", hub.to_str().unwrap()), ("HF_ENDPOINT", &server.url(""))];

    std::fs::write(&at_hand, super::zoo::wrong()).unwrap();
    succeeds(&zoo, &[], &environment);
    assert_eq!(server.connections(), 1);
    std::fs::write(&at_hand, good()).unwrap();
    succeeds(&zoo, &["--force"], &environment);
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_proxy_is_used_unless_the_host_is_excepted() {
    let (proxy, server) = (Server::start(|_| vec![Step::Send(ok(&good()))]), Server::of([("/x", ok(&good()))]));
    let url = server.url("/x");
    for name in ["HTTP_PROXY", "http_proxy"] {
        succeeds(&Zoo::new(std::slice::from_ref(&url)), &[], &[(name, &proxy.url(""))]);
    }
    // A proxy is asked for the whole address.
    assert_eq!((paths(&proxy), server.connections()), (vec![url.clone(), url.clone()], 0));

    succeeds(&Zoo::new(&[url]), &[], &[("HTTP_PROXY", &proxy.url("")), ("NO_PROXY", "127.0.0.1")]);
    assert_eq!((proxy.connections(), paths(&server)), (2, vec!["/x".to_owned()]));

    // What https needs is a tunnel, by the name of the host; the proxy of http is not asked for it.
    let (tunnel, plain) = (Server::start(|_| vec![Step::Send(answer("403 Forbidden", "", b""))]), Server::of([]));
    let zoo = Zoo::new(&["https://models.invalid/x".to_owned()]);
    let outcome = zoo
        .run(&["fetch", NAME, "--retries", "0"], &[("HTTPS_PROXY", &tunnel.url("")), ("HTTP_PROXY", &plain.url(""))]);
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    assert!(tunnel.requests()[0].text.starts_with("CONNECT models.invalid:443 HTTP/1.1\r\n"));
    assert_eq!((tunnel.connections(), plain.connections()), (1, 0));
}

#[test]
fn google_s_form_is_confirmed_once_and_on_the_same_host_only() {
    let page = |action: &str| {
        let form = format!(
            "<!DOCTYPE html><html><body><form id=\"download-form\" action=\"{action}\" method=\"get\"><input \
             type=\"hidden\" name=\"id\" value=\"1a_B\"><input type=\"hidden\" name=\"confirm\" value=\"t\"></form></html>"
        );
        answer("200 OK", "Content-Type: text/html\r\n", form.as_bytes())
    };
    let asked = "/download?id=1a_B&export=download";
    let confirmed = "/get?id=1a_B&confirm=t";
    let zoo = || Zoo::new(&["gdrive:1a_B".to_owned()]);

    let drive = Server::of([(asked, page("/get")), (confirmed, ok(&good()))]);
    succeeds(&zoo(), &[], &[("DENSENET_ZOO_GDRIVE", &drive.url(""))]);
    assert_eq!(paths(&drive), [asked, asked, confirmed]);

    // A file that needs no form.
    let drive = Server::of([(asked, ok(&good()))]);
    succeeds(&zoo(), &[], &[("DENSENET_ZOO_GDRIVE", &drive.url(""))]);
    assert_eq!(paths(&drive), [asked]);

    let browser = |url: &str| {
        format!("{url}: a web page instead of a model; download it in a browser and give it with --from FILE")
    };
    let elsewhere = Server::of([(confirmed, ok(&good()))]);
    let drive = Server::of([(asked, page(&elsewhere.url("/get")))]);
    fails(&zoo(), &[("DENSENET_ZOO_GDRIVE", &drive.url(""))], &browser(&drive.url(asked)));
    assert_eq!((paths(&drive).len(), elsewhere.connections()), (2, 0));

    // A form that leads to the next form.
    let drive = Server::of([(asked, page("/get")), (confirmed, page("/get"))]);
    fails(&zoo(), &[("DENSENET_ZOO_GDRIVE", &drive.url(""))], &browser(&drive.url(confirmed)));
    assert_eq!(paths(&drive), [asked, asked, confirmed]);
}
