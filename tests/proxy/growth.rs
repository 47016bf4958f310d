//! Small bodies that would become large: text, families.

use serde_json::json;

use crate::harness::{Answer, Proxy};

/// A field of protobuf that has a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

/// A body of one histogram; in text, each of its buckets has all labels.
fn histogram(labels: usize, length: usize, buckets: u32) -> Vec<u8> {
    let value = "v".repeat(length);
    let labels = (0..labels).flat_map(|n| {
        let name = field(1, format!("l{n}").as_bytes());
        field(1, &[name, field(2, value.as_bytes())].concat())
    });
    let buckets: Vec<u8> = (0..buckets)
        .flat_map(|at| {
            let mut bucket = vec![8, 1, 2 << 3 | 1];
            bucket.extend_from_slice(&f64::from(at).to_le_bytes());
            field(3, &bucket)
        })
        .collect();
    let metric: Vec<u8> = labels.chain(field(7, &buckets)).collect();
    let family = [field(1, b"h"), vec![3 << 3, 4], field(4, &metric)].concat();
    field(0, &family)[1..].to_vec()
}

fn push(proxy: &Proxy, method: &str, path: &str, body: &[u8]) -> Answer {
    let protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    proxy.push_with(method, path, &[("Content-Type", protobuf)], body)
}

#[test]
fn a_small_body_that_becomes_too_much_text_is_rejected_with_its_size() {
    let proxy = Proxy::start("");
    let body = histogram(62, 16 << 10, 250);
    assert!(body.len() < 1_100_000);
    for (method, path) in [
        ("PUT", "/metrics/job/x"),
        ("POST", "/metrics/job/x"),
        ("POST", "/metrics/job/x?mode=aggregate"),
    ] {
        let answer = push(&proxy, method, path, &body);
        assert_eq!(answer.status, 413, "{path}");
        let text = answer.text();
        assert!(text.contains("becomes at least 25"), "{text}");
        assert!(
            text.contains("the limit is 134217728 (exposition.max_text)"),
            "{text}"
        );
    }
    let rejected = "exporter_proxy_pushes_total{method=\"put\",result=\"too_large\"}";
    assert_eq!(proxy.sample(rejected), Some(1.0));
    // A rejected text was never built.
    assert!(crate::support::resident(proxy.pid()) < 100 << 20);
}

#[test]
fn text_that_is_made_of_a_body_counts_as_what_is_being_taken_in() {
    let proxy = Proxy::start("[push]\nmax_buffered = \"4MiB\"\n");
    // 8 MB as text.
    let answer = push(
        &proxy,
        "PUT",
        "/metrics/job/x",
        &histogram(10, 16 << 10, 50),
    );
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert!(
        answer.text().contains("(push.max_buffered)"),
        "{}",
        answer.text()
    );
    // 2 MB, released each time.
    for _ in 0..4 {
        let answer = push(&proxy, "PUT", "/metrics/job/x", &histogram(10, 4 << 10, 50));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn families_of_a_text_are_bounded_wherever_it_comes_in() {
    let settings =
        "[exposition]\nmode = \"merged\"\nmax_families = 3\n[exporter]\nown_metrics = false\n";
    let proxy = Proxy::start(settings);
    let text = |count: usize| (0..count).map(|n| format!("m{n} 1\n")).collect::<String>();
    let words = "at most 3 families";
    let app = |count| proxy.push_tcp(json!({ "app": text(count) }).to_string().as_bytes());
    assert_eq!(app(3), "");
    assert!(app(4).contains(words), "{}", app(4));
    let batch = json!({ "groups": [{ "labels": { "job": "b" }, "metrics": text(4) }] });
    let created: Vec<_> = (0..4)
        .map(|n| json!({ "name": format!("c{n}"), "metrics": [] }))
        .collect();
    let json = [("Content-Type", "application/json")];
    for (what, answer) in [
        ("PUT", proxy.push("PUT", "/metrics/job/x", text(4))),
        ("POST", proxy.push("POST", "/metrics/job/x", text(4))),
        (
            "added",
            proxy.push("POST", "/metrics/job/x?mode=aggregate", text(4)),
        ),
        (
            "batch",
            proxy.push("POST", "/api/v1/batch", batch.to_string()),
        ),
    ] {
        assert_eq!(answer.status, 400, "{what}");
        assert!(answer.text().contains(words), "{what}: {}", answer.text());
    }
    let answer = proxy.push_with("POST", "/create", &json, json!(created).to_string());
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("more than 3 families"),
        "{}",
        answer.text()
    );
    assert_eq!(proxy.metrics().lines().count(), 6, "{}", proxy.metrics());
}
