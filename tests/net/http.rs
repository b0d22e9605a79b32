//! What a server may answer: each answer has its exit code, its message, its waits and its number of requests.

use std::sync::Arc;
use std::time::Duration;

use densenet_registry::FetchOptions;

use super::server::{Server, Step, answer};
use super::zoo::{NAME, Noting, Zoo, code, files, known, noise, objects, runs_elsewhere, sha256};

const SIZE: usize = 10_000;

/// What is sent on one connection. `%` in headers is the server's address.
enum Act {
    /// Status and headers, without a body.
    Head(&'static str, &'static [&'static str]),
    /// Bytes of the right file, from and to.
    Part(usize, usize),
    Text(&'static str),
    Wait,
    Reset,
}
use Act::{Head, Part, Reset, Text, Wait};

struct Case {
    name: &'static str,
    /// One script a connection; the last serves all that follow.
    script: &'static [&'static [Act]],
    /// Exit code and message, `%` for the address; or 0.
    outcome: (i32, &'static str),
    /// The waits that the clock was asked for, in milliseconds.
    waits: &'static [u64],
    /// Path, range and If-Range of each request.
    requests: &'static [&'static str],
}

const LENGTH: &str = "Content-Length: 10000";
const TAG: &str = "ETag: \"1\"";
const WHOLE: &[Act] = &[Head("200 OK", &[LENGTH]), Part(0, SIZE)];
/// Half of it, then the connection drops.
const HALF: &[Act] = &[Head("200 OK", &[LENGTH, TAG]), Part(0, 5000), Reset];
const REST: &[Act] = &[
    Head("206 Partial Content", &["Content-Length: 5000", "Content-Range: bytes 5000-9999/10000", TAG]),
    Part(5000, SIZE),
];
const RESUMED: &[&str] = &["/file", "/file bytes=5000- \"1\""];
const TWICE: &[&str] = &["/file", "/file"];
const ELEVEN: [&str; 11] = ["/file", "/1", "/1", "/1", "/1", "/1", "/1", "/1", "/1", "/1", "/1"];
const HOP: &[Act] = &[Head("302 Found", &["Location: /1", "Content-Length: 0"])];

const CASES: &[Case] = &[
    Case { name: "whole", script: &[WHOLE], outcome: (0, ""), waits: &[], requests: &["/file"] },
    Case {
        name: "chunked",
        script: &[&[
            Head("200 OK", &["Transfer-Encoding: chunked"]),
            Text("1388\r\n"),
            Part(0, 5000),
            Text("\r\n1388\r\n"),
            Part(5000, SIZE),
            Text("\r\n0\r\n\r\n"),
        ]],
        outcome: (0, ""),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "no length",
        script: &[&[Head("200 OK", &[]), Part(0, SIZE)]],
        outcome: (0, ""),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "301",
        script: &[&[Head("301 Moved Permanently", &["Location: %/1"])], WHOLE],
        outcome: (0, ""),
        waits: &[],
        requests: &["/file", "/1"],
    },
    Case { name: "302, relative", script: &[HOP, WHOLE], outcome: (0, ""), waits: &[], requests: &["/file", "/1"] },
    Case {
        name: "303",
        script: &[&[Head("303 See Other", &["Location: %/1"])], WHOLE],
        outcome: (0, ""),
        waits: &[],
        requests: &["/file", "/1"],
    },
    Case {
        name: "307, relative to the folder",
        script: &[&[Head("307 Temporary Redirect", &["Location: a/b"])], WHOLE],
        outcome: (0, ""),
        waits: &[],
        requests: &["/file", "/a/b"],
    },
    Case {
        name: "308",
        script: &[&[Head("308 Permanent Redirect", &["Location: ?x=1"])], WHOLE],
        outcome: (0, ""),
        waits: &[],
        requests: &["/file", "/file?x=1"],
    },
    Case {
        name: "ten redirects",
        script: &[HOP, HOP, HOP, HOP, HOP, HOP, HOP, HOP, HOP, HOP, WHOLE],
        outcome: (0, ""),
        waits: &[],
        requests: &ELEVEN,
    },
    Case {
        name: "a loop, and so eleven",
        script: &[HOP],
        outcome: (3, "%/file: error following redirect: more than 10 redirects"),
        waits: &[],
        requests: &ELEVEN,
    },
    Case {
        name: "a redirect to nowhere",
        script: &[&[Head("302 Found", &["Content-Length: 0"])]],
        outcome: (3, "%/file: the server answers 302 Found"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "a redirect to a file",
        script: &[&[Head("302 Found", &["Location: file:///etc/passwd", "Content-Length: 0"])]],
        outcome: (3, "%/file: the server answers 302 Found"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "300",
        script: &[&[Head("300 Multiple Choices", &["Content-Length: 0"])]],
        outcome: (3, "%/file: the server answers 300 Multiple Choices"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "401",
        script: &[&[Head("401 Unauthorized", &["Content-Length: 0"])]],
        outcome: (3, "%/file: the server answers 401 Unauthorized"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "403",
        script: &[&[Head("403 Forbidden", &["Content-Length: 0"])]],
        outcome: (3, "%/file: the server answers 403 Forbidden"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "404",
        script: &[&[Head("404 Not Found", &["Content-Length: 0"])]],
        outcome: (3, "%/file: the server answers 404 Not Found"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "408, once",
        script: &[&[Head("408 Request Timeout", &["Content-Length: 0"])], WHOLE],
        outcome: (0, ""),
        waits: &[1000],
        requests: TWICE,
    },
    Case {
        name: "429, in seconds",
        script: &[&[Head("429 Too Many Requests", &["Retry-After: 7"])], WHOLE],
        outcome: (0, ""),
        waits: &[7000],
        requests: TWICE,
    },
    Case {
        name: "429, by a date",
        script: &[&[Head("429 Too Many Requests", &["Retry-After: Sun, 06 Nov 1994 08:49:40 GMT"])], WHOLE],
        outcome: (0, ""),
        waits: &[3000],
        requests: TWICE,
    },
    Case {
        name: "429, by a date that has passed",
        script: &[&[Head("429 Too Many Requests", &["Retry-After: Sun, 06 Nov 1994 08:49:30 GMT"])], WHOLE],
        outcome: (0, ""),
        waits: &[0],
        requests: TWICE,
    },
    Case {
        name: "429, neither",
        script: &[&[Head("429 Too Many Requests", &["Retry-After: soon"])], WHOLE],
        outcome: (0, ""),
        waits: &[1000],
        requests: TWICE,
    },
    Case {
        name: "429, too long in seconds",
        script: &[&[Head("429 Too Many Requests", &["Retry-After: 121"])]],
        outcome: (3, "%/file: the server answers 429 Too Many Requests"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "429, too long by a date",
        script: &[&[Head("429 Too Many Requests", &["Retry-After: Sun, 06 Nov 1994 09:49:37 GMT"])]],
        outcome: (3, "%/file: the server answers 429 Too Many Requests"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "500, always",
        script: &[&[Head("500 Internal Server Error", &["Content-Length: 0"])]],
        outcome: (3, "%/file: the server answers 500 Internal Server Error"),
        waits: &[1000, 2000, 4000, 8000],
        requests: &["/file", "/file", "/file", "/file", "/file"],
    },
    Case {
        name: "501",
        script: &[&[Head("501 Not Implemented", &["Content-Length: 0"])]],
        outcome: (3, "%/file: the server answers 501 Not Implemented"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "502, 503 and 504",
        script: &[
            &[Head("502 Bad Gateway", &[])],
            &[Head("503 Service Unavailable", &["Retry-After: 5"])],
            &[Head("504 Gateway Timeout", &[])],
            WHOLE,
        ],
        outcome: (0, ""),
        waits: &[1000, 5000, 4000],
        requests: &["/file", "/file", "/file", "/file"],
    },
    Case { name: "a reset at once", script: &[&[Reset], WHOLE], outcome: (0, ""), waits: &[1000], requests: TWICE },
    Case {
        name: "a reset in the headers",
        script: &[&[Text("HTTP/1.1 200 OK\r\nConte"), Reset], WHOLE],
        outcome: (0, ""),
        waits: &[1000],
        requests: TWICE,
    },
    Case { name: "a reset after half", script: &[HALF, REST], outcome: (0, ""), waits: &[1000], requests: RESUMED },
    Case {
        name: "a reset after half, always",
        script: &[
            &[Head("200 OK", &[LENGTH]), Part(0, 5000), Reset],
            &[Head("206 Partial Content", &["Content-Range: bytes 5000-9999/10000"]), Reset],
        ],
        outcome: (
            3,
            "%/file: the connection broke after 5000 of 10000 bytes: request or response body error: error reading a body from connection: Connection reset by peer (os error 104)",
        ),
        waits: &[1000, 2000, 4000, 8000],
        requests: &["/file", "/file bytes=5000-", "/file bytes=5000-", "/file bytes=5000-", "/file bytes=5000-"],
    },
    Case {
        name: "a close after half",
        script: &[&[Head("200 OK", &[LENGTH, TAG]), Part(0, 5000)], REST],
        outcome: (0, ""),
        waits: &[1000],
        requests: RESUMED,
    },
    Case {
        name: "a close within a chunk",
        script: &[&[Head("200 OK", &["Transfer-Encoding: chunked", TAG]), Text("2710\r\n"), Part(0, 5000)], REST],
        outcome: (0, ""),
        waits: &[1000],
        requests: RESUMED,
    },
    Case {
        name: "a stall after half",
        script: &[&[Head("200 OK", &[LENGTH, TAG]), Part(0, 5000), Wait], REST],
        outcome: (0, ""),
        waits: &[1000],
        requests: RESUMED,
    },
    Case {
        name: "a stall before the headers, always",
        script: &[&[Wait]],
        outcome: (3, "%/file: error sending request: operation timed out"),
        waits: &[1000, 2000, 4000, 8000],
        requests: &["/file", "/file", "/file", "/file", "/file"],
    },
    Case {
        name: "a longer length announced",
        script: &[&[Head("200 OK", &["Content-Length: 10001"]), Part(0, SIZE)]],
        outcome: (3, "%/file: expected 10000 bytes, received the announcement of 10001"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "a shorter length announced",
        script: &[&[Head("200 OK", &["Content-Length: 9999"]), Part(0, SIZE)]],
        outcome: (3, "%/file: expected 10000 bytes, received the announcement of 9999"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "a longer body",
        script: &[&[Head("200 OK", &[]), Part(0, SIZE), Text("!")]],
        outcome: (3, "%/file: expected 10000 bytes, received at least 10001"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "a shorter body, in chunks",
        script: &[&[
            Head("200 OK", &["Transfer-Encoding: chunked"]),
            Text("1388\r\n"),
            Part(0, 5000),
            Text("\r\n0\r\n\r\n"),
        ]],
        outcome: (3, "%/file: expected 10000 bytes, received 5000"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "gzip",
        script: &[&[Head("200 OK", &[LENGTH, "Content-Encoding: gzip"]), Part(0, SIZE)]],
        outcome: (3, "%/file: the server packs the file (gzip) though it was asked not to"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "206 with a wrong range",
        script: &[
            HALF,
            &[
                Head("206 Partial Content", &["Content-Length: 5001", "Content-Range: bytes 4999-9999/10000", TAG]),
                Part(4999, SIZE),
            ],
            WHOLE,
        ],
        outcome: (0, ""),
        waits: &[1000],
        requests: &["/file", "/file bytes=5000- \"1\"", "/file"],
    },
    Case {
        name: "206 without a range",
        script: &[HALF, &[Head("206 Partial Content", &["Content-Length: 5000", TAG]), Part(5000, SIZE)], WHOLE],
        outcome: (0, ""),
        waits: &[1000],
        requests: &["/file", "/file bytes=5000- \"1\"", "/file"],
    },
    Case {
        name: "206 though nothing of the kind was asked",
        script: &[&[
            Head("206 Partial Content", &["Content-Length: 5000", "Content-Range: bytes 5000-9999/10000"]),
            Part(5000, SIZE),
        ]],
        outcome: (3, "%/file: asked for the bytes from 0, the server sends bytes 5000-9999/10000"),
        waits: &[],
        requests: &["/file"],
    },
    Case { name: "200 to a range", script: &[HALF, WHOLE], outcome: (0, ""), waits: &[1000], requests: RESUMED },
    Case {
        name: "another file, which the server sends whole",
        script: &[
            &[Head("200 OK", &[LENGTH, TAG]), Text("another"), Reset],
            &[Head("200 OK", &[LENGTH, "ETag: \"2\""]), Part(0, SIZE)],
        ],
        outcome: (0, ""),
        waits: &[1000],
        requests: &["/file", "/file bytes=7- \"1\""],
    },
    Case {
        name: "another file, of which the server sends the rest",
        script: &[
            &[Head("200 OK", &[LENGTH, TAG]), Text("another"), Reset],
            &[
                Head(
                    "206 Partial Content",
                    &["Content-Length: 9993", "Content-Range: bytes 7-9999/10000", "ETag: \"2\""],
                ),
                Part(7, SIZE),
            ],
            WHOLE,
        ],
        outcome: (0, ""),
        waits: &[1000],
        requests: &["/file", "/file bytes=7- \"1\"", "/file"],
    },
    Case {
        name: "no such range",
        script: &[HALF, &[Head("416 Range Not Satisfiable", &["Content-Range: bytes */10000"])], WHOLE],
        outcome: (0, ""),
        waits: &[1000],
        requests: &["/file", "/file bytes=5000- \"1\"", "/file"],
    },
    Case {
        name: "416 though no range was asked",
        script: &[&[Head("416 Range Not Satisfiable", &["Content-Length: 0"])]],
        outcome: (3, "%/file: the server answers 416 Range Not Satisfiable"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "a page that says so",
        script: &[&[Head("200 OK", &["Content-Type: Text/HTML; charset=utf-8"]), Text("<p>Sign in")]],
        outcome: (3, "%/file: a web page instead of a model; download it in a browser and give it with --from FILE"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "a page that does not",
        script: &[&[Head("200 OK", &[]), Text("\n<!DOCTYPE html><title>Sign in</title>")]],
        outcome: (3, "%/file: a web page instead of a model; download it in a browser and give it with --from FILE"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "no content",
        script: &[&[Head("204 No Content", &[])]],
        outcome: (3, "%/file: expected 10000 bytes, received 0"),
        waits: &[],
        requests: &["/file"],
    },
    Case {
        name: "something else than HTTP",
        script: &[&[Text("SSH-2.0-OpenSSH_9.6\r\n")]],
        outcome: (3, "%/file: error sending request: client error (SendRequest): invalid HTTP version parsed"),
        waits: &[1000, 2000, 4000, 8000],
        requests: &["/file", "/file", "/file", "/file", "/file"],
    },
];

#[test]
fn each_answer_has_its_outcome() {
    if runs_elsewhere("net::http::each_answer_has_its_outcome") {
        return;
    }
    // Most of the time is the servers' and the stalls'.
    std::thread::scope(|scope| {
        let checks: Vec<_> = CASES.iter().map(|case| scope.spawn(|| case.check())).collect();
        let wrong: Vec<_> = checks.into_iter().filter_map(|check| check.join().unwrap().err()).collect();
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
    });
}

impl Case {
    fn check(&self) -> Result<(), String> {
        let content = Arc::new(noise(SIZE, 1));
        let server = {
            let (script, content) = (self.script, Arc::clone(&content));
            let address = Arc::new(std::sync::OnceLock::<String>::new());
            let own = Arc::clone(&address);
            let server = Server::start(move |request| {
                let acts = script[request.number.min(script.len() - 1)];
                acts.iter().flat_map(|act| act.steps(&content, own.get().unwrap())).collect()
            });
            address.set(server.url("")).unwrap();
            server
        };
        let zoo = Zoo::with(&[server.url("/file")], &known(&content));
        let clock = Noting::default();
        let stalls = self.script.iter().flat_map(|acts| acts.iter()).any(|act| matches!(act, Wait));
        let stall = Duration::from_secs(if stalls { 1 } else { 60 });
        let options = FetchOptions { clock: &clock, stall, ..FetchOptions::default() };
        let outcome = match zoo.fetch(&options) {
            Ok(record) => {
                assert_eq!(record.original.sha256, sha256(&content), "{}", self.name);
                (0, String::new())
            }
            Err(error) => {
                let text = error.to_string().replace(&server.url(""), "%");
                // What stands around the failure of every address.
                let text = text.trim_start_matches("tiny.test: every source failed: ");
                let end = "; `fetch tiny.test --from FILE` takes a file that you have";
                (code(error.kind()), text.trim_end_matches(end).to_owned())
            }
        };
        let kept = objects(&zoo.cache()).into_iter().collect::<Vec<_>>();
        let expected = if outcome.0 == 0 { vec![sha256(&content)] } else { Vec::new() };
        assert_eq!(kept, expected, "{}", self.name);
        assert!(outcome.0 == 0 || files(&zoo.cache()).is_empty(), "{}", self.name);
        let waits = clock.0.lock().unwrap().clone();
        let requests: Vec<_> = server
            .requests()
            .iter()
            .map(|request| {
                assert_eq!(request.header("accept-encoding"), Some("identity"));
                let headers = [request.header("range"), request.header("if-range")];
                [Some(request.path())].into_iter().chain(headers).flatten().collect::<Vec<_>>().join(" ")
            })
            .collect();
        let found = ((outcome.0, outcome.1.as_str()), waits.as_slice(), requests);
        let said = (self.outcome, self.waits, self.requests.iter().map(|text| (*text).to_owned()).collect());
        if found == said { Ok(()) } else { Err(format!("{}: {found:?}\n    where {said:?}", self.name)) }
    }
}

impl Act {
    fn steps(&self, content: &Arc<Vec<u8>>, address: &str) -> Vec<Step> {
        match self {
            Head(status, headers) => {
                let headers: String = headers.iter().map(|line| line.replace('%', address) + "\r\n").collect();
                vec![Step::Send(answer(status, &headers, b""))]
            }
            Part(from, to) => vec![Step::Body(Arc::clone(content), *from..*to)],
            Text(text) => vec![Step::Send(text.as_bytes().to_vec())],
            Wait => vec![Step::Hold],
            // What was sent is to arrive first.
            Reset => vec![Step::Pause(Duration::from_millis(50)), Step::Reset],
        }
    }
}

#[test]
fn the_program_s_exit_codes_and_messages_are_the_library_s() {
    for (status, length, exit, message) in [
        ("404 Not Found", 0, 3, "the server answers 404 Not Found"),
        ("200 OK", 9_999, 3, "expected 10000 bytes, received the announcement of 9999"),
    ] {
        let server =
            Server::start(move |_| vec![Step::Send(answer(status, &format!("Content-Length: {length}\r\n"), b""))]);
        let zoo = Zoo::with(&[server.url("/file")], &known(&noise(SIZE, 1)));
        let outcome = zoo.run(&["fetch", NAME], &[]);
        assert_eq!(outcome.code, exit);
        let url = server.url("/file");
        assert_eq!(
            outcome.stderr,
            format!(
                "{NAME} …\ndensenet-zoo: {NAME}: every source failed: {url}: {message}; `fetch {NAME} --from FILE` takes a file \
                 that you have\n"
            )
        );
        assert_eq!(server.requests().len(), 1);
    }
}
