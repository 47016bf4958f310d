//! Helpers of these tests beside the harness: raw connections, and the proxy's counts and stored
//! texts.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::harness::{Answer, PATIENCE, Proxy, eventually};

/// A connection to the TCP receiver that stays open until it is dropped.
pub struct Sender(pub TcpStream);

impl Sender {
    pub fn connect(proxy: &Proxy) -> Self {
        Sender::to(&proxy.tcp)
    }

    pub fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it accepts");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout is set");
        stream.set_nodelay(true).expect("an option is set");
        Sender(stream)
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the receiver takes it");
    }

    pub fn half_close(&self) {
        self.0
            .shutdown(Shutdown::Write)
            .expect("the connection is open");
    }

    /// Everything that arrives until the other side closes, with an end or with a reset: a reset
    /// ends a connection that is closed with bytes unread.
    #[track_caller]
    pub fn read_to_end(&mut self) -> String {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => all.extend_from_slice(&buffer[..read]),
                Err(problem) if problem.kind() == ErrorKind::ConnectionReset => break,
                // The process was stopped for a while.
                Err(problem) if problem.kind() == ErrorKind::Interrupted => {}
                Err(problem) => panic!("the connection is not closed: {problem}"),
            }
        }
        String::from_utf8(all).expect("an answer in UTF-8")
    }
}

/// The value of the proxy's own counter of received messages; 0 if it does not exist.
pub fn received(proxy: &Proxy, receiver: &str, format: &str, result: &str) -> f64 {
    let series = format!(
        "exporter_proxy_received_messages_total{{format=\"{format}\",receiver=\"{receiver}\",result=\"{result}\"}}"
    );
    proxy.sample(&series).unwrap_or(0.0)
}

/// Rejected messages of all receivers, as (format, reason, count).
pub fn rejected(proxy: &Proxy) -> Vec<(String, String, u64)> {
    proxy
        .metrics()
        .lines()
        .filter(|line| line.starts_with("exporter_proxy_received_messages_total{"))
        .filter(|line| !line.contains("result=\"ok\""))
        .map(|line| {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\"")).expect("a label");
                rest.split('"').next().expect("its value").to_owned()
            };
            let (_, count) = line.rsplit_once(' ').expect("a value");
            (
                label("format"),
                label("result"),
                count.parse().expect("a number"),
            )
        })
        .collect()
}

/// The path of an app's page.
pub fn app_path(name: &str) -> String {
    format!("/apps/{}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

/// The exposed text of one app or target, even if its last poll failed; `None` if it is not known.
pub fn text_of(proxy: &Proxy, name: &str) -> Option<String> {
    let answer = proxy.get(&format!("{}/metrics?stale=1", app_path(name)));
    (answer.status == 200).then(|| answer.text())
}

/// `/apps/{name}` of one app or target.
pub fn detail(proxy: &Proxy, name: &str) -> Option<serde_json::Value> {
    let answer = proxy.get(&app_path(name));
    (answer.status == 200).then(|| answer.json())
}

/// The names of all apps, targets and groups, in the proxy's order.
pub fn names(proxy: &Proxy) -> Vec<String> {
    let list = proxy.get("/apps?format=json").json();
    let apps = list["apps"].as_array().expect("a list").iter();
    apps.map(|app| app["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// Reads one HTTP answer by its `Content-Length`, and leaves the connection open. `None` if the
/// other side closes instead.
pub fn read_answer(stream: &mut impl Read, body: bool) -> Option<Answer> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("the head is text");
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    if body {
        let length = answer.header("content-length")?.parse().ok()?;
        answer.body = vec![0; length];
        stream.read_exact(&mut answer.body).ok()?;
    }
    Some(answer)
}

/// Waits until the log contains `words` this often, and returns it. A line may be written a little
/// after its event has been seen.
#[track_caller]
pub fn logged(proxy: &Proxy, words: &str, times: usize) -> String {
    eventually(|| proxy.log(), |log| log.matches(words).count() >= times)
}

/// The result of `act`, which must be done within a time limit of the proxy. If it fails after
/// `limit`, the proxy may have given up on a slow machine, and `act` is called again.
#[track_caller]
pub fn in_time<T>(limit: Duration, mut act: impl FnMut() -> io::Result<T>) -> T {
    let start = Instant::now();
    loop {
        let begun = Instant::now();
        match act() {
            Ok(value) => return value,
            Err(problem) => assert!(
                begun.elapsed() >= limit && start.elapsed() < PATIENCE,
                "{problem} after {:?}",
                begun.elapsed()
            ),
        }
    }
}

/// Runs a test, which must be faster than a fixed time of the proxy, until it was fast enough.
/// The test returns whether it was.
#[track_caller]
pub fn until_fast_enough(mut test: impl FnMut() -> bool) {
    let start = Instant::now();
    while !test() {
        assert!(start.elapsed() < PATIENCE, "this machine is too slow");
    }
}

/// Resident memory of a process, in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("its memory is reported");
    let kilobytes: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kilobytes * 1024
}

/// User and system CPU time of a process.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name, in brackets, may contain anything, so fields are counted after it.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    // Linux shows times in hundredths of a second.
    Duration::from_millis(ticks * 10)
}

/// Whether a text is `YYYY-MM-DD HH:MM:SS[.fraction] UTC`, of this minute.
pub fn is_utc_now(text: &str) -> bool {
    let Some(time) = text.strip_suffix(" UTC") else {
        return false;
    };
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let Ok(parsed) = chrono::NaiveDateTime::parse_from_str(whole, "%Y-%m-%d %H:%M:%S") else {
        return false;
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    whole.len() == 19
        && matches!(fraction.len(), 0 | 3 | 6 | 9)
        && digits(fraction)
        && (now - parsed.and_utc().timestamp()).abs() < 60
}
