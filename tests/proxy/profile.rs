//! CPU profiles of the proxy: on request, and sent to a stand-in for Pyroscope.

use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;

use crate::harness::{Answer, Proxy, eventually, http_request};
use crate::sinks::listed;
use crate::upstream::{Upstream, reply};

const PATH: &str = "/debug/pprof/profile";

/// Requests a profile, again as long as another one is being recorded.
fn asked(address: &str, seconds: u32) -> Answer {
    let path = format!("{PATH}?seconds={seconds}");
    loop {
        let answer = http_request(address, "GET", &path, &[]);
        if answer.status != 409 {
            return answer;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_profile_names_functions_and_is_recorded_alone() {
    let proxy = Proxy::start("");
    let text: String = (0..20_000)
        .map(|at| format!("m{{a=\"{at}\"}} {at}\n"))
        .collect();
    let profile = thread::scope(|scope| {
        let profile = scope.spawn(|| asked(&proxy.push, 3));
        let busy = || proxy.push("GET", &format!("{PATH}?seconds=1"), "");
        let busy = eventually(busy, |answer| answer.status == 409);
        assert!(busy.text().contains("another profile is being recorded"));
        while !profile.is_finished() {
            assert_eq!(proxy.push("PUT", "/metrics/job/busy", &text).status, 200);
        }
        profile.join().unwrap()
    });
    assert_eq!(profile.status, 200);
    assert_eq!(
        profile.header("content-type"),
        Some("application/octet-stream")
    );
    let mut message = Vec::new();
    let mut unpacked = GzDecoder::new(&*profile.body);
    unpacked.read_to_end(&mut message).unwrap();
    let has = |text: &str| {
        message
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(has("exporter_proxy::ingest") && has("nanoseconds") && has("thread"));
    for (query, status) in [("?seconds=0", 400), ("?seconds=301", 400), ("?hz=1", 400)] {
        let answer = proxy.push("GET", &format!("{PATH}{query}"), "");
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
    }
    let elsewhere = proxy.get(PATH);
    assert_eq!(elsewhere.status, 404, "only where one pushes");
    let log = proxy.log();
    assert!(!log.contains("profiler"), "{log}");
}

/// At its end, the program does not wait for a profile; the profile is just shorter.
#[test]
fn a_profile_ends_with_the_program() {
    let mut proxy = Proxy::start("");
    let push = proxy.push.clone();
    let start = Instant::now();
    let asked = thread::spawn(move || asked(&push, 300));
    let busy = || proxy.push("GET", &format!("{PATH}?seconds=1"), "").status;
    eventually(busy, |status| *status == 409);
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    assert_eq!(asked.join().unwrap().status, 200);
    assert!(start.elapsed() < Duration::from_secs(100));
}

#[test]
fn profiles_are_sent_one_after_another() {
    let server = Upstream::start(|_| reply("200 OK", &[], b""));
    let proxy = Proxy::start(&format!(
        "[profiling]\nurl = \"http://{}/\"\ninterval = \"1s\"\nlabels = {{ zone = \"a\" }}\n\
         basic_auth = {{ username = \"me\", password = \"secret\" }}\n",
        server.address
    ));
    let requests = eventually(|| server.requests().len(), |count| *count >= 2);
    // A requested profile interrupts these.
    let asked = proxy.push("GET", &format!("{PATH}?seconds=1"), "");
    assert_eq!(asked.status, 200);
    eventually(|| server.requests().len(), |count| *count > requests + 1);
    let mut last = 0;
    for request in server.requests() {
        let (path, query) = request.path.split_once('?').unwrap();
        assert_eq!(path, "/ingest");
        let value = |name: &str| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(key, _)| key == name).unwrap().1.into_owned()
        };
        assert_eq!(value("name"), "exporter-proxy{zone=a}");
        assert_eq!((&*value("format"), &*value("sampleRate")), ("pprof", "100"));
        let [from, until] = ["from", "until"].map(|name| value(name).parse::<u64>().unwrap());
        assert!(last <= from + 1 && from < until, "{query}");
        last = until;
        assert_eq!(request.header("authorization"), Some("Basic bWU6c2VjcmV0"));
        let form = request.header("content-type").unwrap();
        let boundary = form.strip_prefix("multipart/form-data; boundary=").unwrap();
        assert!(
            request
                .body
                .starts_with(format!("--{boundary}\r\n").as_bytes())
        );
        assert!(
            request
                .body
                .ends_with(format!("\r\n--{boundary}--\r\n").as_bytes())
        );
    }
    let sink = listed(&proxy, "profiling");
    assert_eq!(
        (&sink["type"], &sink["state"]),
        (&"pyroscope".into(), &"working".into())
    );
}

#[test]
fn profiles_wait_for_a_server_that_is_away_and_the_end_does_not() {
    let server = Upstream::start(|_| reply("503 Service Unavailable", &[], b""));
    let mut proxy = Proxy::start(&format!(
        "[profiling]\nurl = \"http://{}\"\ninterval = \"1s\"\n",
        server.address
    ));
    let failing = || listed(&proxy, "profiling")["state"].clone();
    eventually(failing, |state| state == "failing");
    let waiting = || listed(&proxy, "profiling")["queued_items"].as_u64();
    eventually(waiting, |waiting| *waiting >= Some(2));
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    let log = proxy.log();
    let left = log
        .lines()
        .find(|line| line.contains("were not sent before shutdown"));
    let left = left.expect("the log has a line about the rest");
    assert!(
        left.contains("exporter_proxy::sinks] sink profiling: "),
        "{left}"
    );
}
