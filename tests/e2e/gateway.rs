//! A gateway that is pushed to: the proxy, or a Pushgateway to compare it with. Requests with
//! bodies, and parsed pages.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::harness::{Answer, PATIENCE, Proxy};
use crate::tools::{Server, Tool, command, logged_address};

/// `host:port` of the proxy's listener for pushes.
pub fn push_address(proxy: &Proxy) -> String {
    proxy.push.clone()
}

/// A running gateway. Dropping it ends the process.
pub struct Gateway {
    /// Where to push, `127.0.0.1:port`.
    pub push: String,
    /// Where to scrape.
    pub scrape: String,
    _process: Process,
}

enum Process {
    Proxy { _running: Box<Proxy> },
    Pushgateway { _running: Server },
}

impl Gateway {
    /// The proxy, with `config`, a TOML text.
    pub fn proxy(config: &str) -> Self {
        let proxy = Proxy::start(config);
        Gateway {
            push: push_address(&proxy),
            scrape: proxy.http.clone(),
            _process: Process::Proxy {
                _running: Box::new(proxy),
            },
        }
    }

    /// The real Pushgateway, with further flags.
    pub fn pushgateway(flags: &[&str]) -> Self {
        let server = Server::start(
            command(Tool::Pushgateway)
                .arg("--web.listen-address=127.0.0.1:0")
                // Without this, Debian's Pushgateway keeps a file.
                .arg("--persistence.file=")
                .args(flags),
            logged_address,
        );
        Gateway {
            push: server.address.clone(),
            scrape: server.address.clone(),
            _process: Process::Pushgateway { _running: server },
        }
    }

    /// Pushes a text, which must be accepted.
    #[track_caller]
    pub fn put(&self, path: &str, text: &str) {
        let answer = send(&self.push, "PUT", path, &[], text.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn get(&self, path: &str) -> Answer {
        send(&self.scrape, "GET", path, &[], b"")
    }

    /// The parsed `/metrics`, without the gateway's own metrics.
    pub fn page(&self) -> Page {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = Page::parse(&answer.text());
        assert!(page.twice.is_empty(), "series that stand twice: {page:#?}");
        page
    }
}

/// One HTTP request with a body, over a connection that is closed after the answer. The path is
/// sent unchanged.
pub fn send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the gateway accepts");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout is set");
    let length = body.len();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n"
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    // The gateway may answer and close before it has read everything.
    let _ = stream.write_all(&request);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert!(!answer.is_empty(), "no answer: {error}");
    }
    parse_answer(&answer)
}

fn parse_answer(bytes: &[u8]) -> Answer {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no HTTP answer: {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8(bytes[..end].to_vec()).expect("the head is text");
    let (status, lines) = head.split_once("\r\n").unwrap_or((&head, ""));
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let headers: Vec<(String, String)> = lines
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = &bytes[end + 4..];
    Answer {
        status: status.expect("a status code"),
        headers,
        body: if chunked { joined(body) } else { body.to_vec() },
    }
}

/// Decodes a chunked body.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = chunks.iter().position(|byte| *byte == b'\r');
        let (size, rest) = chunks.split_at(end.expect("a chunk's size ends"));
        let size = std::str::from_utf8(size).expect("a chunk's size is text");
        let size = usize::from_str_radix(size, 16).expect("a chunk has a size");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[2..2 + size]);
        chunks = &rest[2 + size + 2..];
    }
}

/// Families by name, of a page in the text format.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    pub families: BTreeMap<String, Family>,
    /// Repeated series, which no page may have.
    pub twice: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Family {
    pub kind: String,
    pub help: Option<String>,
    /// By series, such as `m{a="b"}`, with labels sorted by name.
    pub samples: BTreeMap<String, Sample>,
}

/// A value; for push times, 1 unless the time is zero.
#[derive(Debug, Clone, Copy)]
pub struct Sample(pub f64);

impl PartialEq for Sample {
    fn eq(&self, other: &Sample) -> bool {
        self.0 == other.0 || self.0.is_nan() && other.0.is_nan()
    }
}

/// Prefixes of the gateways' own metrics.
const OWN: [&str; 5] = [
    "exporter_proxy_",
    "pushgateway_",
    "go_",
    "process_",
    "promhttp_",
];

/// Whether a family holds push times. These differ between runs, unless they are zero.
pub fn is_push_time(family: &str) -> bool {
    ["push_time_seconds", "push_failure_time_seconds"].contains(&family)
}

impl Page {
    /// Parses a page. Panics if a family has two heads, which Prometheus would reject.
    pub fn parse(text: &str) -> Page {
        let mut page = Page::default();
        let mut open = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                let family = page.families.entry(name.to_owned()).or_default();
                assert!(family.help.is_none(), "a second HELP of {name}:\n{text}");
                family.help = Some(help.to_owned());
                open = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a TYPE has a kind");
                let family = page.families.entry(name.to_owned()).or_default();
                assert_eq!(family.kind, "", "a second TYPE of {name}:\n{text}");
                family.kind = kind.to_owned();
                open = name.to_owned();
            } else if !line.starts_with('#') {
                page.sample(line, &mut open);
            }
        }
        for family in page.families.values_mut() {
            // A family without a TYPE is untyped.
            if family.kind.is_empty() {
                "untyped".clone_into(&mut family.kind);
            }
        }
        page.families.retain(|name, family| {
            !family.samples.is_empty() && !OWN.iter().any(|own| name.starts_with(own))
        });
        page
    }

    fn sample(&mut self, line: &str, open: &mut String) {
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let name = series.split('{').next().unwrap_or(series);
        let suffix = name.strip_prefix(open.as_str());
        // A family without a head begins with its first sample.
        if !matches!(suffix, Some("" | "_sum" | "_count" | "_bucket")) {
            name.clone_into(open);
        }
        let mut value: f64 = value.parse().expect("a value is a number");
        if is_push_time(name) {
            value = f64::from(value != 0.0);
        }
        let family = self.families.entry(open.clone()).or_default();
        let before = family.samples.insert(ordered(series), Sample(value));
        if before.is_some() {
            self.twice.push(line.to_owned());
        }
    }

    /// The value of a series such as `m{a="b"}`.
    pub fn value(&self, series: &str) -> Option<f64> {
        let mut families = self.families.values();
        families.find_map(|family| family.samples.get(&ordered(series)).map(|it| it.0))
    }

    /// The page without the series that have this label, written `name="…"`.
    pub fn without(mut self, label: &str) -> Page {
        self.families.retain(|_, family| {
            family.samples.retain(|series, _| !series.contains(label));
            !family.samples.is_empty()
        });
        self
    }

    #[track_caller]
    pub fn expect(&self, samples: &[(&str, f64)]) {
        for (series, value) in samples {
            assert_eq!(self.value(series), Some(*value), "{series} in {self:#?}");
        }
    }
}

/// A series with its labels sorted by name.
fn ordered(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else {
        return series.to_owned();
    };
    let labels = labels.strip_suffix('}').expect("labels end");
    let mut list = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in labels.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                list.push(&labels[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    list.push(&labels[start..]);
    list.retain(|label| !label.is_empty());
    list.sort_unstable();
    for pair in list.windows(2) {
        let names = [pair[0], pair[1]].map(|it| it.split('=').next());
        assert_ne!(names[0], names[1], "a label twice in {series}");
    }
    if list.is_empty() {
        return name.to_owned();
    }
    format!("{name}{{{}}}", list.join(","))
}

/// The sorted groups of `/api/v1/metrics`, without times and without the help texts of push
/// times, which differ between the programs.
pub fn groups(gateway: &Gateway) -> Vec<Value> {
    let answer = send(&gateway.push, "GET", "/api/v1/metrics", &[], b"");
    if answer.status != 200 {
        return vec![Value::from(format!("status {}", answer.status))];
    }
    let document = answer.json();
    assert_eq!(document["status"], "success");
    let mut groups = document["data"].as_array().cloned().unwrap_or_default();
    for group in &mut groups {
        for (name, family) in group.as_object_mut().expect("a group is an object") {
            timeless(name, family);
        }
    }
    groups.sort_by_key(|group| group["labels"].to_string());
    groups
}

fn timeless(name: &str, family: &mut Value) {
    let Some(time) = family.get("time_stamp") else {
        return;
    };
    let time = time.as_str().expect("a time is text");
    assert!(
        time.len() > "2026-01-02T03:04:05".len() && time.as_bytes()[10] == b'T',
        "no time of RFC 3339: {time}"
    );
    let family = family.as_object_mut().expect("a family is an object");
    family.remove("time_stamp");
    if is_push_time(name) {
        family.remove("help");
    }
    let metrics = family.get_mut("metrics").and_then(Value::as_array_mut);
    let metrics = metrics.expect("a family has metrics");
    if is_push_time(name) {
        for metric in metrics.iter_mut() {
            let value = metric["value"].as_str().expect("a value is text");
            metric["value"] = Value::from(value != "0");
        }
    }
    metrics.sort_by_key(|metric| metric["labels"].to_string());
}
