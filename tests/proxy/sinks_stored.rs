//! Queues of sinks in storage, whose items survive the end of the program.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::tempdir;

use crate::harness::{eventually, free_address};
use crate::operations::{Bench, bench};
use crate::sinks::listed;
use crate::sinks_events::{documents, events, no_content, values};
use crate::storage::{kill_9, ok};
use crate::support::logged;
use crate::upstream::{self, Upstream, reply};

/// A proxy that stores its state, with a sink for Loki.
fn to_loki(directory: &Path, address: &str, more: &str) -> Bench {
    bench(&format!(
        "[storage]\npath = {directory:?}\n\
         [sinks.log]\ntype = \"loki\"\nurl = \"http://{address}/\"\nencoding = \"json\"\n\
         line = \"value\"\nbatch_items = 100\nbatch_wait = 0\n{more}"
    ))
}

/// Waits until everything so far is stored: a push is acknowledged after that.
fn stored(near: &Bench) {
    ok(&near.proxy.push("PUT", "/metrics/job/stored", "m 1\n"));
}

#[test]
fn what_waits_survives_kill_9_in_its_order() {
    let directory = tempdir().unwrap();
    let address = free_address();
    for round in 0..3 {
        let near = to_loki(directory.path(), &address, "");
        assert_eq!(listed(&near.proxy, "log")["queued_items"], round * 1000);
        let sent = round * 1000..(round + 1) * 1000;
        assert_eq!(near.send(events(sent).as_bytes()), "");
        stored(&near);
        kill_9(near.proxy);
    }
    let server = Upstream::at(&address, |_| no_content());
    let near = to_loki(directory.path(), &address, "");
    assert_eq!(near.send(events(3000..3100).as_bytes()), "");
    let seen = eventually(|| values(&server), |seen| seen.len() >= 3100);
    assert!(seen.into_iter().eq(0..3100), "each once and in order");
    near.comes_to("exporter_proxy_sink_queued_items{sink=\"log\"}", 0.0);
    stored(&near);
    kill_9(near.proxy);
    let near = to_loki(directory.path(), &address, "");
    assert_eq!(listed(&near.proxy, "log")["queued_items"], 0);
}

#[test]
fn what_was_not_sent_at_a_stop_is_sent_after_the_next_start() {
    let directory = tempdir().unwrap();
    let works = Arc::new(AtomicBool::new(true));
    let is_up = Arc::clone(&works);
    // After each request the server is busy.
    let server = Upstream::start(move |_| match is_up.swap(false, Ordering::SeqCst) {
        true => no_content(),
        false => reply("503 Busy", &[], b""),
    });
    let sent = "exporter_proxy_sink_items_total{result=\"ok\",sink=\"log\"}";
    for start in 0..4 {
        works.store(true, Ordering::SeqCst);
        let mut near = to_loki(directory.path(), &server.address, "");
        if start == 0 {
            assert_eq!(near.send(events(0..350).as_bytes()), "");
        }
        eventually(
            || listed(&near.proxy, "log")["state"].clone(),
            |state| *state == if start == 3 { "working" } else { "failing" },
        );
        let expected = [100.0, 100.0, 100.0, 50.0][start];
        near.comes_to(sent, expected);
        near.proxy.signal("TERM");
        assert!(near.proxy.wait().success());
        if start < 3 {
            logged(&near.proxy, "wait in storage", 1);
        }
    }
    let ok: BTreeSet<usize> = values(&server).into_iter().collect();
    assert!(ok.into_iter().eq(0..350));
}

#[test]
fn documents_that_are_sent_again_after_a_kill_have_the_same_identity() {
    let directory = tempdir().unwrap();
    // The server takes documents, but the proxy never gets the answer.
    let server = Upstream::start(|_| upstream::Reply::Hang(Vec::new()));
    let start = || {
        bench(&format!(
            "[storage]\npath = {:?}\n[sinks.search]\ntype = \"opensearch\"\n\
             url = \"http://{}\"\nbatch_wait = 0\n",
            directory.path(),
            server.address
        ))
    };
    let near = start();
    let text = events(0..20).replace("\"event\"", "\"index\"");
    assert_eq!(near.send(text.as_bytes()), "");
    eventually(|| server.requests().len(), |count| *count == 1);
    stored(&near);
    kill_9(near.proxy);
    let _near = start();
    eventually(|| server.requests().len(), |count| *count == 2);
    let requests = server.requests();
    let (first, second) = (documents(&requests[0]), documents(&requests[1]));
    assert_eq!(first.len(), 20);
    assert_eq!(first, second, "with their identities, indices and times");
}

#[test]
fn a_queue_over_a_lower_limit_keeps_what_it_has() {
    let directory = tempdir().unwrap();
    let address = free_address();
    let near = to_loki(directory.path(), &address, "");
    assert_eq!(near.send(events(0..1000).as_bytes()), "");
    stored(&near);
    kill_9(near.proxy);
    let less = "max_queue = \"16KiB\"\nbatch_bytes = \"1KiB\"\n";
    let near = to_loki(directory.path(), &address, less);
    assert_eq!(listed(&near.proxy, "log")["queued_items"], 1000);
    let answer = near.send(events(1000..1001).as_bytes());
    assert!(answer.contains("max_queue"), "{answer}");
    let server = Upstream::at(&address, |_| no_content());
    let seen = eventually(|| values(&server), |seen| seen.len() >= 1000);
    assert!(seen.into_iter().eq(0..1000));
}

#[test]
fn operations_to_forward_survive_kill_9() {
    let directory = tempdir().unwrap();
    let address = free_address();
    let start = || {
        bench(&format!(
            "forward_to = \"tcp://{address}\"\n[storage]\npath = {:?}\n",
            directory.path()
        ))
    };
    let near = start();
    assert_eq!(near.send("c:1|c|#instance:i\n".repeat(500).as_bytes()), "");
    stored(&near);
    kill_9(near.proxy);
    let far = crate::harness::Proxy::start(&format!("[operations]\ntcp = \"{address}\"\n"));
    let near = start();
    assert_eq!(near.send(b"c:1|c|#instance:i\n"), "");
    eventually(
        || far.sample("c{instance=\"i\"}"),
        |sum| *sum == Some(501.0),
    );
}
