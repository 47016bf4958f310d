//! Starts the real program on free ports of the loopback, talks to it, and
//! stops it by its process id.
//!
//! Nothing here sleeps for a condition: [`eventually`] checks again until it holds, and fails with
//! the last value.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub mod certificates;
pub mod printed;

use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use printed::PrintedLines;

/// How long a test waits for anything before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running proxy. Dropping it ends the process.
pub struct Proxy {
    child: Child,
    /// Holds the socket and the configuration.
    pub dir: TempDir,
    /// `127.0.0.1:port` of the TCP receiver; empty if it is off.
    pub tcp: String,
    /// The Unix receiver's socket.
    pub unix: PathBuf,
    /// `127.0.0.1:port` of the listener for scrapes.
    pub http: String,
    /// `127.0.0.1:port` of the listener for pushes; empty if there is none, or the path of its Unix
    /// socket.
    pub push: String,
    log: PrintedLines<ChildStderr>,
}

/// Settings for every test: free ports, and a separate socket.
fn base_config(dir: &Path) -> Vec<(String, String)> {
    let socket = dir.join("receiver.sock").display().to_string();
    [
        ("EXPORTER_SCRAPE_EXPOSE_ENDPOINT", "127.0.0.1:0"),
        ("PUSH_LISTEN", "127.0.0.1:0"),
        ("RECEIVER_RECEIVER_TCP_SOCKET", "127.0.0.1:0"),
        ("RECEIVER_RECEIVER_UNIX_SOCKET", &socket),
    ]
    .map(|(key, value)| (format!("EXPORTER_PROXY_{key}"), value.to_owned()))
    .to_vec()
}

impl Proxy {
    /// Starts the proxy with `config`, a TOML text that need not name ports and socket.
    pub fn start(config: &str) -> Self {
        Proxy::start_with(config, &[])
    }

    /// Like [`Self::start`], with settings in the environment: `("RECEIVER_FORMAT", "json")`.
    pub fn start_with(config: &str, settings: &[(&str, &str)]) -> Self {
        Proxy::launch(config, settings, |command| command)
    }

    /// Like [`start_with`](Self::start_with); `adjust` can change the command.
    pub fn launch(
        config: &str,
        settings: &[(&str, &str)],
        adjust: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("config.toml");
        std::fs::write(&file, config).expect("the configuration is written");

        let mut command = program();
        command
            .arg("--config")
            .arg(&file)
            .envs(base_config(dir.path()))
            .envs(
                settings
                    .iter()
                    .map(|(k, v)| (format!("EXPORTER_PROXY_{k}"), v)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        adjust(&mut command);
        let mut child = command.spawn().expect("the proxy starts");
        let log = PrintedLines::read(child.stderr.take().expect("stderr is piped"));

        let mut proxy = Proxy {
            child,
            tcp: String::new(),
            unix: dir.path().join("receiver.sock"),
            http: String::new(),
            push: String::new(),
            dir,
            log,
        };
        proxy.wait_until_bound();
        proxy
    }

    /// The log has the chosen ports, and says when everything is bound.
    fn wait_until_bound(&mut self) {
        let start = Instant::now();
        loop {
            let log = self.log();
            if log.contains("] ready\n") || log.contains("\"message\":\"ready\"}\n") {
                self.tcp = after(&log, "receiving on TCP socket ").unwrap_or_default();
                let url = after(&log, "serving http://")
                    .or_else(|| after(&log, "serving https://"))
                    .expect("the address is logged");
                self.http = url.split('/').next().unwrap_or_default().to_owned();
                self.push = after(&log, "accepting pushes on http://")
                    .or_else(|| after(&log, "accepting pushes on https://"))
                    .or_else(|| after(&log, "accepting pushes on Unix socket "))
                    .unwrap_or_default();
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the proxy ended with {status}:\n{log}");
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the proxy does not serve:\n{log}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Sends `bytes` over TCP, half-closes, and returns the answer.
    pub fn push_tcp(&self, bytes: &[u8]) -> String {
        let stream = TcpStream::connect(&self.tcp).expect("the TCP receiver accepts");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout is set");
        exchange(&stream, &stream, bytes, || stream.shutdown(Shutdown::Write))
    }

    /// Like [`push_tcp`](Self::push_tcp), over the Unix socket.
    pub fn push_unix(&self, bytes: &[u8]) -> String {
        let stream = UnixStream::connect(&self.unix).expect("the Unix receiver accepts");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout is set");
        exchange(&stream, &stream, bytes, || stream.shutdown(Shutdown::Write))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[])
    }

    /// One HTTP request on a new connection.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        http_request(&self.http, method, path, headers)
    }

    /// One HTTP request with a body to the listener for pushes.
    pub fn push(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.push_with(method, path, &[], body)
    }

    /// Like [`push`](Self::push), with further headers.
    pub fn push_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        http_send(&self.push, method, path, headers, body.as_ref())
    }

    /// The body of `/metrics`, the proxy's own metrics included.
    pub fn metrics(&self) -> String {
        self.get("/metrics").text()
    }

    /// The value of a sample of `/metrics`, such as `m{a="b"}`.
    pub fn sample(&self, series: &str) -> Option<f64> {
        self.metrics().lines().find_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (name == series).then(|| value.parse().expect("a number"))
        })
    }

    /// Sends a signal: `TERM`, `INT`, `STOP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the proxy does not end:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of the proxy\n{}---", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The built program, with an environment without settings and without an HTTP proxy.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exporter-proxy"));
    for (name, _) in std::env::vars() {
        let lower = name.to_ascii_lowercase();
        if name.starts_with("EXPORTER_PROXY_") || lower.ends_with("_proxy") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command with this input until it ends by itself.
pub fn output_of(command: &mut Command, input: impl AsRef<[u8]>) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    // The command may end before it reads.
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let _ = stdin.write_all(input.as_ref());
    drop(stdin);
    child.wait_with_output().expect("the command ends")
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name)?;
        Some(&found.1)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is UTF-8")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// One HTTP request over a connection that is closed after the answer.
pub fn http_request(address: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    exchange_http(address, method, path, headers, &[])
}

/// Like [`http_request`], with a body.
pub fn http_send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let length = body.len().to_string();
    let mut all = vec![("Content-Length", length.as_str())];
    all.extend_from_slice(headers);
    exchange_http(address, method, path, &all, body)
}

fn exchange_http(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the HTTP side accepts");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout is set");
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    // The proxy may answer and close before all of it is sent. If this client is slow,
    // the connection is reset after the answer.
    let _ = stream
        .write_all(request.as_bytes())
        .and_then(|()| stream.write_all(body));
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let is_reset = matches!(&read, Err(problem) if problem.kind() == ErrorKind::ConnectionReset);
    if !is_reset {
        read.expect("the answer is read");
    }
    let answer = parse_answer(&bytes);
    if is_reset {
        let length = answer.header("content-length").map(str::parse);
        assert_eq!(
            length,
            Some(Ok(answer.body.len())),
            "all of the answer is read"
        );
    }
    answer
}

fn parse_answer(bytes: &[u8]) -> Answer {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no HTTP answer: {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8(bytes[..end].to_vec()).expect("the head is text");
    let mut lines = head.split("\r\n");
    let status_line = lines.next().expect("a status line");
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok());
    let mut answer = Answer {
        status: status.expect("a status code"),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: bytes[end + 4..].to_vec(),
    };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = joined(&answer.body);
    }
    answer
}

/// Decodes a chunked body. The last chunk must be there.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = chunks.iter().position(|byte| *byte == b'\r');
        let (size, rest) = chunks.split_at(end.expect("a size in front of a chunk"));
        let size = std::str::from_utf8(size).expect("a size in digits");
        let size = usize::from_str_radix(size, 16).expect("a size in hex digits");
        let rest = &rest[2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..size]);
        chunks = &rest[size + 2..];
    }
}

fn exchange(
    mut reader: impl Read,
    mut writer: impl Write,
    bytes: &[u8],
    half_close: impl FnOnce() -> std::io::Result<()>,
) -> String {
    // The proxy may close before everything is sent, to report an error.
    let _ = writer.write_all(bytes);
    let _ = half_close();
    let mut answer = String::new();
    let _ = reader.read_to_string(&mut answer);
    answer
}

/// The word after `marker` in `text`.
fn after(text: &str, marker: &str) -> Option<String> {
    let start = text.find(marker)? + marker.len();
    let line = text[start..].split('\n').next()?;
    // In a JSON log, a quote ends the message.
    let mut words = line.split(|c: char| c.is_whitespace() || c == '"');
    words.next().map(str::to_owned)
}

/// An address that nothing listens on, and that no other call returns.
///
/// Other tests and outgoing connections use ports of 127.0.0.1, so a port that was free a moment
/// ago may be taken. Each call uses another loopback host.
pub fn free_address() -> String {
    static CALLS: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let host = Ipv4Addr::new(127, high.max(1), low, call);
    let listener = TcpListener::bind((host, 0)).expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

/// Calls `seen` until `holds`, and returns the last value.
#[track_caller]
pub fn eventually<T: Debug>(seen: impl FnMut() -> T, holds: impl Fn(&T) -> bool) -> T {
    eventually_within(PATIENCE, seen, holds)
}

/// Like [`eventually`], for conditions that take a busy machine longer than [`PATIENCE`].
#[track_caller]
pub fn eventually_within<T: Debug>(
    patience: Duration,
    mut seen: impl FnMut() -> T,
    holds: impl Fn(&T) -> bool,
) -> T {
    let start = Instant::now();
    loop {
        let value = seen();
        if holds(&value) {
            return value;
        }
        assert!(
            start.elapsed() < patience,
            "it did not come to hold; last seen: {value:?}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// A Cap'n Proto message of the schema in one segment, written by hand so that tests do not trust
/// the code they test.
pub fn capnp_message(name: &str, data: &str) -> Vec<u8> {
    let text_words = |text: &str| (text.len() + 1).div_ceil(8) as u32;
    let (name_words, data_words) = (text_words(name), text_words(data));
    let mut message = Vec::new();
    let mut word = |low: u32, high: u32| {
        message.extend_from_slice(&low.to_le_bytes());
        message.extend_from_slice(&high.to_le_bytes());
    };
    word(0, 3 + name_words + data_words);
    // A struct without data and with two pointers, right after this word.
    word(0, 2 << 16);
    // Lists of bytes (2), including NUL: the first begins after the second pointer, the second
    // after the words of the first.
    word(1 << 2 | 1, ((name.len() as u32 + 1) << 3) | 2);
    word(name_words << 2 | 1, ((data.len() as u32 + 1) << 3) | 2);
    for (text, words) in [(name, name_words), (data, data_words)] {
        let start = message.len();
        message.extend_from_slice(text.as_bytes());
        message.resize(start + 8 * words as usize, 0);
    }
    message
}
