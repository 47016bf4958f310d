//! CPU profiles of the proxy.

use std::io::Read as _;
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;

use crate::harness::{Proxy, eventually, http_request};

const PATH: &str = "/debug/pprof/profile";

#[test]
fn a_profile_names_functions_and_is_recorded_alone() {
    let proxy = Proxy::start("");
    let text: String = (0..20_000)
        .map(|at| format!("m{{a=\"{at}\"}} {at}\n"))
        .collect();
    let profile = thread::scope(|scope| {
        let profile = scope.spawn(|| {
            let path = format!("{PATH}?seconds=3");
            http_request(&proxy.push, "GET", &path, &[])
        });
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

/// The program does not wait for a profile at its end; the profile is a shorter one.
#[test]
fn a_profile_ends_with_the_program() {
    let mut proxy = Proxy::start("");
    let push = proxy.push.clone();
    let start = Instant::now();
    let asked =
        thread::spawn(move || http_request(&push, "GET", &format!("{PATH}?seconds=300"), &[]));
    let busy = || proxy.push("GET", &format!("{PATH}?seconds=1"), "").status;
    eventually(busy, |status| *status == 409);
    proxy.signal("TERM");
    assert!(proxy.wait().success());
    assert_eq!(asked.join().unwrap().status, 200);
    assert!(start.elapsed() < Duration::from_secs(100));
}
