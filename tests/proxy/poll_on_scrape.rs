//! Targets that are polled when the proxy is scraped, and `/probe`.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Proxy, eventually};
use crate::reload::reload;
use crate::support::detail;
use crate::upstream::{Reply, Upstream, ok, reply};

/// A server whose answer is the number of its requests.
fn counting() -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::start(move |_| ok(&format!("m {}\n", 1 + count.fetch_add(1, Ordering::SeqCst))))
}

fn target(name: &str, address: &str, more: &str) -> String {
    format!("[[poll_external.targets]]\nname = \"{name}\"\nurl = \"http://{address}/\"\n{more}\n")
}

const BY_SCRAPES: &str = "interval = \"scrape\"";

/// Less than the time that a scrape waits.
const PATIENT: &str = "[poll_external]\nclient_timeout = \"9s\"\n";

#[test]
fn a_scrape_polls_its_targets_and_shows_what_they_answer() {
    let (upstream, other) = (counting(), counting());
    let proxy = Proxy::start(
        &(PATIENT.to_owned()
            + &target("t", &upstream.address, BY_SCRAPES)
            + &target("u", &other.address, BY_SCRAPES)),
    );
    // Readiness does not wait for targets that only scrapes poll.
    assert_eq!(proxy.get("/-/ready").status, 200);
    assert_eq!(detail(&proxy, "t").unwrap()["state"], "waiting");
    let listed = proxy.get("/api/v1/sd").json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(upstream.requests().len() + other.requests().len(), 0);

    let text = proxy.metrics();
    assert!(text.ends_with("\nm 1\nm 1\n"), "{text}");
    assert!(text.contains("exporter_proxy_poll_success{target=\"t\"} 1\n"));
    assert_eq!(detail(&proxy, "t").unwrap()["state"], "fresh");
    // Only the targets that a scrape selects are polled.
    assert_eq!(proxy.get("/metrics?app=t").text(), "m 2\n");
    assert_eq!(proxy.get("/apps/t/metrics").text(), "m 3\n");
    assert_eq!(proxy.get("/apps/t/metrics?kind=target").text(), "m 4\n");
    assert_eq!(proxy.get("/metrics?app=t&kind=app").status, 200);
    assert_eq!((upstream.requests().len(), other.requests().len()), (4, 1));
    let targets = proxy.get("/api/v1/targets").json();
    assert_eq!(
        targets["data"]["activeTargets"][0]["scrapeInterval"],
        "scrape"
    );

    // A reload changes how it is polled.
    reload(
        &proxy,
        &target("t", &upstream.address, "interval = \"50ms\""),
    );
    eventually(|| upstream.requests().len(), |count| *count > 6);
    reload(&proxy, &target("t", &upstream.address, BY_SCRAPES));
    let before = upstream.requests().len();
    proxy.metrics();
    assert!((before..=before + 2).contains(&upstream.requests().len()));
}

#[test]
fn scrapes_at_one_time_share_a_poll_and_a_slow_target_costs_no_more_than_their_time() {
    let (go, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let upstream = Upstream::start(move |_| {
        // The answer ends when the sender of `go` is dropped, too.
        let _ = gate.lock().unwrap().recv();
        ok("slow 1\n")
    });
    let fast = counting();
    let proxy = Proxy::start(
        &(PATIENT.to_owned()
            + &target(
                "slow",
                &upstream.address,
                "interval = \"scrape\"\ntimeout = \"1m\"",
            )
            + &target("fast", &fast.address, BY_SCRAPES)),
    );
    thread::scope(|scope| {
        let scrapes: Vec<_> = (0..5).map(|_| scope.spawn(|| proxy.metrics())).collect();
        eventually(|| upstream.requests().len(), |count| *count == 1);
        go.send(()).unwrap();
        for scrape in scrapes {
            assert!(scrape.join().unwrap().contains("\nslow 1\n"));
        }
    });

    // An impatient reader gets what is available, and does not make the target fail for others.
    let begin = Instant::now();
    let timeout = [("X-Prometheus-Scrape-Timeout-Seconds", "0.4")];
    let hasty = |path: &str| proxy.request("GET", path, &timeout);
    let text = hasty("/metrics").text();
    assert!(text.contains("\nslow 1\n"), "{text}");
    for success in ["slow", "fast"].map(success) {
        assert!(text.contains(&success), "{text}");
    }
    for path in ["/apps/slow/metrics", "/probe?target=slow"] {
        let late = hasty(path);
        assert_eq!(late.status, 504, "{path}");
        assert_eq!(late.text(), "target \"slow\" has not answered in time\n");
    }
    assert_eq!(hasty("/apps/slow/metrics?stale=1").text(), "slow 1\n");
    assert!(begin.elapsed() < Duration::from_secs(20));
    let shown = detail(&proxy, "slow").unwrap();
    assert_eq!(shown["state"], "fresh");
    assert_eq!(shown["last_problem"], json!(null));
    // The readers waited for one poll, which goes on.
    assert_eq!(upstream.requests().len(), 2);
    drop(go);
    assert_eq!(proxy.get("/apps/slow/metrics").text(), "slow 1\n");
}

#[test]
fn targets_that_hang_make_no_other_fail() {
    // As many as may be polled on request at one time.
    let hanging = Upstream::start(|_| Reply::Hang(Vec::new()));
    let good = counting();
    let names: Vec<String> = (0..100).map(|number| format!("hanging-{number}")).collect();
    let settings = |timeout: &str| format!("{BY_SCRAPES}\ntimeout = \"{timeout}\"");
    let targets = names
        .iter()
        .map(|name| target(name, &hanging.address, &settings("4s")));
    let targets: String = targets.collect();
    // The good target waits for longer than its own timeout.
    let proxy = Proxy::start(&(targets + &target("good", &good.address, &settings("2500ms"))));
    thread::scope(|scope| {
        scope.spawn(|| proxy.get(&format!("/metrics?app={}", names.join("&app="))));
        eventually(|| hanging.requests().len(), |count| *count == 100);
        assert_eq!(proxy.get("/apps/good/metrics").text(), "m 1\n");
    });
    assert_eq!(detail(&proxy, "good").unwrap()["state"], "fresh");
}

fn success(target: &str) -> String {
    format!("exporter_proxy_poll_success{{target=\"{target}\"}} 1\n")
}

#[test]
fn a_probe_polls_one_configured_target_and_nothing_else() {
    let upstream = counting();
    let settings = "interval = \"1h\"\ntimeout = \"50s\"";
    let proxy = Proxy::start(&target("a target", &upstream.address, settings));
    eventually(|| upstream.requests().len(), |count| *count == 1);
    let probe = |query: &str| {
        let answer = proxy.get(&format!("/probe{query}"));
        (answer.status, answer.text())
    };
    assert_eq!(probe("?target=a%20target"), (200, "m 2\n".to_owned()));
    for unknown in [
        format!("?target={}", upstream.address),
        format!("?target=http://{}/", upstream.address),
        "?target=".to_owned(),
    ] {
        let (status, text) = probe(&unknown);
        assert_eq!(status, 404, "{text}");
        assert!(text.contains("no target is called \""), "{text}");
    }
    assert_eq!(probe("").0, 400);
    assert_eq!(upstream.requests().len(), 2);
    upstream.change(|_| reply("500 Internal Server Error", &[], b""));
    let (status, text) = probe("?target=a%20target");
    assert_eq!(status, 502);
    assert_eq!(
        text,
        "the last poll of target \"a target\" failed: status: answered 500 Internal Server Error\n"
    );
}

#[test]
fn responses_being_received_and_polls_on_request_are_shown() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap().to_string();
    // Accepts a request, and sends a half of the response.
    let answer_half = || {
        let (mut stream, _) = upstream.accept().unwrap();
        let mut head = [0; 4096];
        assert_ne!(stream.read(&mut head).unwrap(), 0);
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 80\r\n\r\n";
        let half = head.to_owned() + &"m 1\n".repeat(10);
        stream.write_all(half.as_bytes()).unwrap();
        stream
    };
    let proxy = Proxy::start(&target(
        "t",
        &address,
        "interval = \"1h\"\ntimeout = \"1m\"",
    ));
    let gauges = |expected: [f64; 2]| {
        let names = [
            "exporter_proxy_poll_received_bytes",
            "exporter_proxy_polls_requested",
        ];
        let seen = || names.map(|name| proxy.sample(name));
        eventually(seen, |seen| *seen == expected.map(Some));
    };
    let rest = "m 2\n".repeat(10);
    let mut scheduled = answer_half();
    gauges([40.0, 0.0]);
    scheduled.write_all(rest.as_bytes()).unwrap();
    gauges([0.0, 0.0]);
    thread::scope(|scope| {
        let probe = scope.spawn(|| proxy.get("/probe?target=t").status);
        let mut requested = answer_half();
        gauges([40.0, 1.0]);
        requested.write_all(rest.as_bytes()).unwrap();
        assert_eq!(probe.join().unwrap(), 200);
    });
    gauges([0.0, 0.0]);
    // The result of a poll is of no use once its target is removed.
    thread::scope(|scope| {
        let probe = scope.spawn(|| proxy.get("/probe?target=t"));
        let _requested = answer_half();
        gauges([40.0, 1.0]);
        reload(&proxy, "");
        let answer = probe.join().unwrap();
        let expected = "target \"t\" was changed or removed while it was polled, or the proxy is \
                        stopping; try again\n";
        assert_eq!((answer.status, &*answer.text()), (503, expected));
    });
    gauges([0.0, 0.0]);
    let limits = [
        "exporter_proxy_poll_received_max_bytes",
        "exporter_proxy_polls_requested_max",
    ];
    let limits = limits.map(|name| proxy.sample(name));
    assert_eq!(limits, [Some(536_870_912.0), Some(100.0)]);
}
