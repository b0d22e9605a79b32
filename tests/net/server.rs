//! A server on loopback that says what it is told to, byte by byte, and remembers what it was asked.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is done on a connection once the request is read.
#[derive(Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// A part of a large content, counted as body.
    Body(Arc<Vec<u8>>, Range<usize>),
    Pause(Duration),
    /// Ends with a reset instead of a close.
    Reset,
    /// Neither sends nor ends until the client does.
    Hold,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Which one it is, from 0.
    pub(crate) number: usize,
    /// The whole head.
    pub(crate) text: String,
}

impl Request {
    /// What stands after the method.
    pub(crate) fn path(&self) -> &str {
        self.text.split(' ').nth(1).unwrap_or_default()
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The first byte that is asked for.
    pub(crate) fn start(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |start| start.parse().unwrap())
    }
}

type Script = dyn Fn(&Request) -> Vec<Step> + Send + Sync;

struct Shared {
    script: Box<Script>,
    connections: AtomicUsize,
    ended: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    body: AtomicU64,
    holding: AtomicUsize,
    stop: AtomicBool,
}

pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Does on each connection what `script` says for its request.
    pub(crate) fn start(script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            connections: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            requests: Mutex::default(),
            body: AtomicU64::new(0),
            holding: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.stop.load(Ordering::SeqCst) {
                    break;
                }
                let (stream, shared) = (stream.unwrap(), Arc::clone(&own));
                shared.connections.fetch_add(1, Ordering::SeqCst);
                // A client that hangs up is no failure of the server's.
                std::thread::spawn(move || {
                    let _ = shared.serve(stream);
                    shared.ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// Answers each GET with the whole bytes that stand under its path.
    pub(crate) fn of<const N: usize>(answers: [(&str, Vec<u8>); N]) -> Self {
        let answers = answers.map(|(path, bytes)| (path.to_owned(), bytes));
        Self::start(move |request| {
            let found = answers.iter().find(|(path, _)| path == request.path());
            vec![Step::Send(found.map_or_else(|| answer("404 Not Found", "", b""), |(_, bytes)| bytes.clone()))]
        })
    }

    /// Serves one content as a careful server does: ranges, and If-Range by its ETag.
    pub(crate) fn file(content: Arc<Vec<u8>>) -> Self {
        Self::start(move |request| whole_or_rest(&content, request))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until nothing is written any more to clients that have gone.
    pub(crate) fn settle(&self) {
        // Connections are taken in their order, so all before this one are counted when it ends.
        let mut last = TcpStream::connect(self.address).unwrap();
        last.shutdown(Shutdown::Write).unwrap();
        let _ = last.read(&mut [0]);
        while self.shared.ended.load(Ordering::SeqCst) < self.connections() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Bytes of bodies that were written.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.shared.body.load(Ordering::SeqCst)
    }

    /// How many connections have come to a hold.
    pub(crate) fn holding(&self) -> usize {
        self.shared.holding.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut text = Vec::new();
        let mut byte = [0];
        // The last byte is left unread: a close with something unread is a reset.
        while !text.ends_with(b"\r\n\r") {
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            text.extend(byte);
        }
        let text = String::from_utf8(text).unwrap();
        let request = {
            let mut requests = self.requests.lock().unwrap();
            let request = Request { number: requests.len(), text };
            requests.push(request.clone());
            request
        };
        for step in (self.script)(&request) {
            match step {
                Step::Send(bytes) => stream.write_all(&bytes)?,
                Step::Body(content, range) => {
                    for chunk in content[range].chunks(1 << 16) {
                        stream.write_all(chunk)?;
                        self.body.fetch_add(chunk.len() as u64, Ordering::SeqCst);
                    }
                }
                Step::Pause(time) => std::thread::sleep(time),
                Step::Reset => return Ok(()),
                Step::Hold => {
                    stream.read_exact(&mut byte)?;
                    self.holding.fetch_add(1, Ordering::SeqCst);
                    while stream.read(&mut byte)? > 0 {}
                    return Ok(());
                }
            }
        }
        stream.read_exact(&mut byte)
    }
}

/// A response; `headers` are lines, each with its end.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend(body);
    bytes
}

/// 200 with the body's length announced.
pub(crate) fn ok(body: &[u8]) -> Vec<u8> {
    answer("200 OK", &format!("Content-Length: {}\r\n", body.len()), body)
}

/// 200 with a body that ends where the connection does.
pub(crate) fn ok_unannounced(body: &[u8]) -> Vec<u8> {
    answer("200 OK", "", body)
}

pub(crate) fn whole_or_rest(content: &Arc<Vec<u8>>, request: &Request) -> Vec<Step> {
    let (start, size) = (request.start(), content.len());
    let is_same = request.header("if-range").is_none_or(|tag| tag == "\"1\"");
    if start > 0 && start >= size {
        return vec![Step::Send(answer(
            "416 Range Not Satisfiable",
            &format!("Content-Range: bytes */{size}\r\n"),
            b"",
        ))];
    }
    if start == 0 || !is_same {
        let head = format!("Content-Length: {size}\r\nETag: \"1\"\r\n");
        return vec![Step::Send(answer("200 OK", &head, b"")), Step::Body(Arc::clone(content), 0..size)];
    }
    let (last, length) = (size - 1, size - start);
    let head = format!("Content-Length: {length}\r\nContent-Range: bytes {start}-{last}/{size}\r\nETag: \"1\"\r\n");
    vec![Step::Send(answer("206 Partial Content", &head, b"")), Step::Body(Arc::clone(content), start..size)]
}
