//! `/-/ready` after the start.

use std::sync::{Arc, Mutex};

use crate::harness::{Proxy, eventually};
use crate::upstream::{Upstream, ok, reply};

#[test]
fn the_proxy_is_ready_once_each_target_has_been_polled() {
    let gate = Arc::new(Mutex::new(()));
    let (closed, behind) = (gate.lock().unwrap(), Arc::clone(&gate));
    let upstream = Upstream::start(move |request| {
        if request.path == "/slow" {
            drop(behind.lock());
        }
        match &*request.path {
            "/bad" => reply("500 Internal Server Error", &[], b""),
            _ => ok("m 1\n"),
        }
    });
    let target = |name: &str| {
        format!(
            "[[poll_external.targets]]\nname = \"{name}\"\nurl = \"http://{}/{name}\"\n\
             interval = \"50ms\"\ntimeout = \"1h\"\n",
            upstream.address
        )
    };
    let proxy = Proxy::start(&(target("good") + &target("bad") + &target("slow")));
    let ready = || proxy.get("/-/ready");
    let waiting = "waiting for the first poll of 1 of 3 targets: slow\n";
    eventually(ready, |answer| answer.text() == waiting);
    assert_eq!(ready().status, 503);
    // It serves before it is ready.
    assert_eq!(proxy.get("/health").status, 200);
    assert_eq!(proxy.push("PUT", "/metrics/job/a", "g 1\n").status, 200);
    assert_eq!(proxy.get("/-/healthy").status, 200);
    drop(closed);
    eventually(ready, |answer| answer.status == 200);
    assert_eq!(ready().text(), "OK\n");
}

/// The polls of three targets each hour are spread over the hour, but not the first ones.
#[test]
fn targets_with_long_intervals_are_polled_at_once() {
    let upstream = Upstream::start(|request| ok(&format!("m{{path=\"{}\"}} 1\n", request.path)));
    let target = |name: &str| {
        format!(
            "[[poll_external.targets]]\nname = \"{name}\"\nurl = \"http://{}/{name}\"\n",
            upstream.address
        )
    };
    let proxy = Proxy::start(&format!(
        "[poll_external]\npoll_interval = \"1h\"\nclient_timeout = \"50s\"\n{}{}{}",
        target("a"),
        target("b"),
        target("c")
    ));
    let count = || proxy.metrics().matches("m{path=").count();
    eventually(count, |count| *count == 3);
}
