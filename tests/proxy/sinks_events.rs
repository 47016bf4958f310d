//! Events to stand-ins for Loki and OpenSearch.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;
use tempfile::tempdir;

use crate::harness::certificates::Authority;
use crate::harness::{PATIENCE, eventually, free_address};
use crate::operations::{Bench, bench};
use crate::sinks::listed;
use crate::support::logged;
use crate::upstream::{Reply, Request, Upstream, ok, reply};

/// A proxy with a sink for Loki that sends JSON, in small batches.
fn to_loki(address: &str, more: &str) -> Bench {
    bench(&format!(
        "[sinks.log]\ntype = \"loki\"\nurl = \"http://{address}/\"\nencoding = \"json\"\n\
         line = \"value\"\nbatch_items = 100\nbatch_wait = \"10ms\"\n{more}"
    ))
}

/// Events with these values.
pub fn events(values: impl IntoIterator<Item = usize>) -> String {
    let mut text = String::new();
    for value in values {
        let _ = writeln!(
            text,
            "{{\"name\":\"e\",\"op\":\"event\",\"value\":{value},\"labels\":{{\"app\":\"shop\"}}}}"
        );
    }
    text
}

/// The lines of one request in order, by the labels of their streams.
fn lines(request: &Request) -> BTreeMap<String, Vec<String>> {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let mut streams = BTreeMap::new();
    for stream in body["streams"].as_array().unwrap() {
        let entries = stream["values"].as_array().unwrap().iter();
        let lines = entries.map(|entry| entry[1].as_str().unwrap().to_owned());
        streams.insert(stream["stream"].to_string(), lines.collect());
    }
    streams
}

/// The sent values, in order.
pub fn values(server: &Upstream) -> Vec<usize> {
    let requests = server.requests();
    let lines = requests
        .iter()
        .flat_map(|request| lines(request).into_values());
    lines.flatten().map(|line| line.parse().unwrap()).collect()
}

pub fn no_content() -> Reply {
    reply("204 No Content", &[], b"")
}

#[test]
fn events_arrive_whole_and_in_order() {
    let server = Upstream::start(|_| no_content());
    let near = to_loki(&server.address, "tenant = \"team\"\n");
    assert_eq!(near.send(events(0..2000).as_bytes()), "");
    let seen = eventually(|| values(&server), |values| values.len() == 2000);
    assert!(seen.into_iter().eq(0..2000));
    let requests = server.requests();
    assert_eq!(requests[0].path, "/loki/api/v1/push");
    assert_eq!(requests[0].header("x-scope-orgid"), Some("team"));
    assert_eq!(lines(&requests[0]).len(), 1, "one stream");
    near.comes_to(
        "exporter_proxy_sink_items_total{result=\"ok\",sink=\"log\"}",
        2000.0,
    );
    near.comes_to("exporter_proxy_sink_queued_bytes{sink=\"log\"}", 0.0);
    assert_eq!(near.results("unix", "ok"), 2000.0);
    assert_eq!(near.proxy.sample("e"), None, "events are no metrics");
}

#[test]
fn events_wait_for_a_server_that_is_away_and_come_once() {
    let address = free_address();
    let near = to_loki(&address, "");
    assert_eq!(near.send(events(0..300).as_bytes()), "");
    eventually(
        || listed(&near.proxy, "log")["state"].clone(),
        |it| it == "failing",
    );
    let server = Upstream::at(&address, |_| no_content());
    assert_eq!(near.send(events(300..600).as_bytes()), "");
    let seen = eventually(|| values(&server), |values| values.len() >= 600);
    assert!(seen.into_iter().eq(0..600));
    drop(server);
    assert_eq!(near.send(events(600..700).as_bytes()), "");
    let server = Upstream::at(&address, |_| no_content());
    let seen = eventually(|| values(&server), |values| values.len() >= 100);
    assert!(seen.into_iter().eq(600..700));
}

#[test]
fn a_refused_event_is_counted_and_does_not_spoil_others() {
    let server = Upstream::start(|request| {
        let bad = lines(request)
            .into_values()
            .flatten()
            .any(|line| line == "77");
        match bad {
            true => reply("400 Bad Request", &[], b"77 is  too old\n"),
            false => no_content(),
        }
    });
    let near = to_loki(&server.address, "");
    assert_eq!(near.send(events(0..200).as_bytes()), "");
    near.comes_to(
        "exporter_proxy_sink_items_total{result=\"ok\",sink=\"log\"}",
        199.0,
    );
    near.comes_to(
        "exporter_proxy_sink_items_total{result=\"refused\",sink=\"log\"}",
        1.0,
    );
    let sink = listed(&near.proxy, "log");
    let error = sink["last_error"]["message"].as_str().unwrap();
    assert_eq!(error, "the server answered 400 Bad Request: 77 is too old");
    let line =
        "exporter_proxy::sinks] sink log: 1 item refused: the server answered 400 Bad Request\n";
    let log = logged(&near.proxy, line, 1);
    assert!(!log.contains("too old"), "the log does not quote: {log}");
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Upstream::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => reply("429 Too Many Requests", &[("Retry-After", "1")], b""),
        _ => no_content(),
    });
    let near = to_loki(&server.address, "");
    let begun = Instant::now();
    assert_eq!(near.send(events(0..5).as_bytes()), "");
    near.comes_to(
        "exporter_proxy_sink_items_total{result=\"ok\",sink=\"log\"}",
        5.0,
    );
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    near.comes_to("exporter_proxy_sink_failures_total{sink=\"log\"}", 1.0);
}

#[test]
fn a_slow_sink_delays_neither_senders_nor_another_sink() {
    let slow = Upstream::start(|_| Reply::Hang(Vec::new()));
    let quick = Upstream::start(|_| no_content());
    let second = format!(
        "[sinks.other]\ntype = \"loki\"\nurl = \"http://{}\"\nbatch_wait = 0\n\
         timeout = \"1h\"\n",
        slow.address
    );
    let near = to_loki(&quick.address, &second);
    let begun = Instant::now();
    assert_eq!(near.send(events(0..500).as_bytes()), "");
    assert!(begun.elapsed() < PATIENCE / 2);
    eventually(|| values(&quick).len(), |count| *count == 500);
    let waiting = listed(&near.proxy, "other");
    assert_eq!(waiting["queued_items"], 500);
    assert!(waiting["oldest_age_seconds"].as_f64().is_some());
}

#[test]
fn a_full_queue_rejects_events_and_names_the_setting() {
    let near = to_loki(
        &free_address(),
        "max_queue = \"8KiB\"\nbatch_bytes = \"1KiB\"\n",
    );
    let answer = near.send(events(0..1000).as_bytes());
    assert!(answer.contains("max_queue"), "{answer}");
    let dropped = "exporter_proxy_sink_items_total{result=\"no_buffer\",sink=\"log\"}";
    let dropped = near.proxy.sample(dropped).unwrap();
    assert_eq!(near.results("unix", "no_buffer"), dropped);
    assert!(dropped > 0.0 && dropped <= 1000.0, "{dropped}");
    let queued = "exporter_proxy_sink_queued_bytes{sink=\"log\"}";
    assert!(near.proxy.sample(queued).unwrap() <= 8192.0);
}

/// Events that are sent at once fill the queue, and only those without room are rejected.
#[test]
fn a_small_queue_takes_as_many_events_as_fit() {
    let near = to_loki(
        &free_address(),
        "max_queue = \"4KiB\"\nbatch_bytes = \"1KiB\"\n",
    );
    let answer = near.send(events(0..60).as_bytes());
    let problem =
        "the queue of the sink for op event is full (sinks.log.max_queue); try again later";
    assert!(answer.contains(problem), "{answer}");
    let items = "exporter_proxy_sink_queued_items{sink=\"log\"}";
    let taken = near.proxy.sample(items).unwrap();
    let bytes = "exporter_proxy_sink_queued_bytes{sink=\"log\"}";
    let bytes = near.proxy.sample(bytes).unwrap();
    // There is no room for one more.
    assert!(
        bytes <= 4096.0 && bytes + bytes / taken > 4090.0,
        "{taken}: {bytes}"
    );
    assert_eq!(near.results("unix", "ok"), taken);
    assert_eq!(near.results("unix", "no_buffer"), 60.0 - taken);
    let dropped = "exporter_proxy_sink_items_total{result=\"no_buffer\",sink=\"log\"}";
    assert_eq!(near.proxy.sample(dropped), Some(60.0 - taken));
}

#[test]
fn events_that_wait_too_long_are_dropped_and_counted() {
    let near = to_loki(&free_address(), "max_age = \"1s\"\n");
    assert_eq!(near.send(events(0..10).as_bytes()), "");
    near.comes_to(
        "exporter_proxy_sink_items_total{result=\"timeout\",sink=\"log\"}",
        10.0,
    );
    near.comes_to("exporter_proxy_sink_queued_items{sink=\"log\"}", 0.0);
    let line = "sink log: 10 items dropped: they waited for longer than 1s (max_age)\n";
    logged(&near.proxy, line, 1);
}

#[test]
fn what_waits_at_shutdown_is_sent_or_logged() {
    let server = Upstream::start(|_| no_content());
    let address = &server.address;
    let mut near = bench(&format!(
        "[sinks.log]\ntype = \"loki\"\nurl = \"http://{address}\"\nencoding = \"json\"\n\
         line = \"value\"\nbatch_wait = \"1h\"\n"
    ));
    assert_eq!(near.send(events(0..50).as_bytes()), "");
    assert!(values(&server).is_empty());
    near.proxy.signal("TERM");
    assert!(near.proxy.wait().success());
    assert!(values(&server).into_iter().eq(0..50));

    let mut near = to_loki(&free_address(), "");
    assert_eq!(near.send(events(0..50).as_bytes()), "");
    near.proxy.signal("TERM");
    assert!(near.proxy.wait().success());
    logged(&near.proxy, "sink log: 50 items, ", 1);
}

#[test]
fn a_sink_proves_itself_with_a_certificate_and_a_token_from_a_file() {
    let dir = tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    let (server, own) = (authority.issue("server"), authority.issue("client"));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&authority.ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let chain = vec![CertificateDer::from_pem_file(&server.cert).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&server.key).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let loki = Upstream::tls(Arc::new(config), |_| no_content());
    let token = dir.path().join("token");
    fs::write(&token, "s3cret\n").unwrap();
    let near = |own: &str| {
        bench(&format!(
            "[sinks.log]\ntype = \"loki\"\nurl = \"https://{}\"\nencoding = \"json\"\nline = \"value\"\n\
             batch_wait = 0\nbearer_token_file = \"{}\"\ntls = {{ ca_file = \"{}\"{own} }}\n",
            loki.address,
            token.display(),
            authority.ca.display(),
        ))
    };
    let known = near(&format!(", {}", own.settings()));
    assert_eq!(known.send(events(0..3).as_bytes()), "");
    eventually(|| values(&loki).len(), |count| *count == 3);
    let requests = loki.requests();
    let authorization = requests[0].header("authorization");
    assert_eq!(authorization, Some("Bearer s3cret"));

    let unknown = near("");
    assert_eq!(unknown.send(events(0..1).as_bytes()), "");
    let failing = eventually(
        || listed(&unknown.proxy, "log"),
        |it| it["state"] == "failing",
    );
    let error = failing["last_error"]["message"].as_str().unwrap();
    assert!(!error.contains("s3cret"), "{error}");
    assert_eq!(values(&loki).len(), 3);
}

#[test]
fn an_op_without_a_sink_is_rejected() {
    let server = Upstream::start(|_| no_content());
    let near = to_loki(&server.address, "");
    for (op, kind) in [("raw", "cql"), ("index", "opensearch")] {
        let answer = near.send(format!("{{\"name\":\"a\",\"op\":\"{op}\"}}").as_bytes());
        let words = format!("type = \\\"{kind}\\\"");
        assert!(answer.contains(&words) || answer.contains(kind), "{answer}");
    }
    assert_eq!(near.results("unix", "unsupported"), 2.0);
    let bad = near.send(b"{\"name\":\"a\",\"op\":\"event\",\"timestamp\":\"now\"}");
    assert!(bad.contains("RFC 3339"), "{bad}");
    let log = near.proxy.log();
    for line in [
        "a message is rejected (unsupported): op raw needs a sink, and none is configured: add a \
         table [sinks.NAME] with type = \"cql\"\n",
        "a message is rejected (bad_value): timestamp must be text such as \
         \"2026-01-31T12:00:00Z\" (RFC 3339): a value is invalid or cannot be added\n",
    ] {
        assert!(log.contains(line), "{log}");
    }
}

/// Documents of a request by identity: the index and the document.
pub fn documents(request: &Request) -> Vec<(String, String, Value)> {
    let body = String::from_utf8(request.body.clone()).unwrap();
    let lines: Vec<Value> = body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines
        .chunks(2)
        .map(|pair| {
            let action = &pair[0]["create"];
            (
                text(&action["_id"]),
                text(&action["_index"]),
                pair[1].clone(),
            )
        })
        .collect()
}

#[test]
fn documents_keep_their_identity_and_get_a_verdict_each() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Upstream::start(move |request| {
        let results: Vec<String> = documents(request)
            .iter()
            .map(|(_, _, document)| match document["value"].as_f64().unwrap() {
                3.0 => "{\"create\":{\"status\":400,\"error\":{\"type\":\"mapper_parsing_exception\"}}}",
                5.0 if count.load(Ordering::SeqCst) < 2 => "{\"create\":{\"status\":429}}",
                _ => "{\"create\":{\"status\":201}}",
            })
            .map(str::to_owned)
            .collect();
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => reply("503 Unavailable", &[], b""),
            _ => ok(&format!(
                "{{\"errors\":true,\"items\":[{}]}}",
                results.join(",")
            )),
        }
    });
    let near = bench(&format!(
        "[sinks.search]\ntype = \"opensearch\"\nurl = \"http://{}\"\nbatch_wait = \"200ms\"\n",
        server.address
    ));
    let mut text = String::new();
    for value in 0..10 {
        let _ = writeln!(
            text,
            "{{\"name\":\"d\",\"op\":\"index\",\"index\":\"shop\",\"value\":{value},\
             \"timestamp\":\"2026-01-31T12:00:00Z\"}}"
        );
    }
    assert_eq!(near.send(text.as_bytes()), "");
    near.comes_to(
        "exporter_proxy_sink_items_total{result=\"ok\",sink=\"search\"}",
        9.0,
    );
    near.comes_to(
        "exporter_proxy_sink_items_total{result=\"refused\",sink=\"search\"}",
        1.0,
    );
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[0].path.starts_with("/_bulk?filter_path="));
    let (first, second) = (documents(&requests[0]), documents(&requests[1]));
    assert_eq!(first, second, "a repeated request has the same identities");
    let mut ids: Vec<&String> = first.iter().map(|(id, ..)| id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 10);
    assert!(first.iter().all(|(_, index, _)| index == "shop-2026-01-31"));
    assert_eq!(first[0].2["timestamp"], "2026-01-31T12:00:00Z");
    let last = documents(&requests[2]);
    assert_eq!(last, [first[5].clone()], "only the one that was not taken");
}

#[test]
fn an_index_template_is_made_before_the_first_document() {
    let server = Upstream::start(|_| ok("{\"errors\":false}"));
    let near = bench(&format!(
        "[sinks.search]\ntype = \"opensearch\"\nurl = \"http://{}/base/\"\nbatch_wait = 0\n\
         index = \"m-%Y\"\ntemplate = {{ shards = 1, replicas = 0 }}\n",
        server.address
    ));
    assert_eq!(near.send(b"{\"name\":\"d\",\"op\":\"index\"}\n"), "");
    near.comes_to(
        "exporter_proxy_sink_items_total{result=\"ok\",sink=\"search\"}",
        1.0,
    );
    let requests = server.requests();
    assert_eq!(requests[0].path, "/base/_index_template/metric-events");
    let template: Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!(template["index_patterns"], serde_json::json!(["m-*"]));
    assert_eq!(template["template"]["settings"]["number_of_shards"], 1);
    assert!(requests[1].path.starts_with("/base/_bulk"));
}
