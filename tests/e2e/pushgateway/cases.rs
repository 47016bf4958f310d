//! The requests that are sent to both gateways.

use super::bodies::{
    COUNTER, GAUGE, HISTOGRAM, PROTOBUF, SUMMARY, counter, family, gauge, gzip, histogram, metric,
    snappy, summary, timestamp, zstd,
};
use super::tables::{PATHS, TEXTS};

/// One or more requests, to empty gateways.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    pub requests: Vec<Request>,
}

/// Cases in which families of several groups have different help texts: Pushgateway shows one of
/// them at random.
pub const HELP_BY_CHANCE: &[&str] = &["help-differs", "help-in-one-alone"];

#[derive(Debug)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: Vec<u8>,
}

impl Request {
    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }
}

fn request(method: &'static str, path: &str, body: impl AsRef<[u8]>) -> Request {
    Request {
        method,
        path: path.to_owned(),
        headers: Vec::new(),
        body: body.as_ref().to_vec(),
    }
}

fn put(path: &str, body: impl AsRef<[u8]>) -> Request {
    request("PUT", path, body)
}

fn post(path: &str, body: impl AsRef<[u8]>) -> Request {
    request("POST", path, body)
}

fn delete(path: &str) -> Request {
    request("DELETE", path, "")
}

fn get(path: &str) -> Request {
    request("GET", path, "")
}

const X: &str = "/metrics/job/x";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(one_push_to_each_path());
    cases.extend(one_push_of_each_text());
    cases.extend(verbs());
    cases.extend(conflicts());
    cases.extend(codings());
    cases.extend(routes());
    cases
}

/// Paths, each with `m 1`.
fn one_push_to_each_path() -> Vec<Case> {
    let cases = PATHS.iter();
    cases
        .map(|(name, path)| case(name, vec![put(path, "m 1\n")]))
        .collect()
}

/// Texts, each pushed to the same group.
fn one_push_of_each_text() -> Vec<Case> {
    let cases = TEXTS.iter();
    cases
        .map(|(name, text)| case(name, vec![put(X, text)]))
        .collect()
}

fn case(name: &'static str, requests: Vec<Request>) -> Case {
    Case { name, requests }
}

/// Effects of PUT, POST and DELETE.
fn verbs() -> Vec<Case> {
    let two = "# TYPE a gauge\na 1\n# TYPE b gauge\nb{n=\"1\"} 1\nb{n=\"2\"} 2\n";
    vec![
        case("put-replaces-the-group", vec![put(X, two), put(X, "b 3\n")]),
        case(
            "post-replaces-families",
            vec![post(X, two), post(X, "# TYPE b gauge\nb{n=\"3\"} 3\n")],
        ),
        case("post-makes-a-group", vec![post(X, "m 1\n")]),
        case(
            "put-leaves-other-groups",
            vec![
                put(X, two),
                put("/metrics/job/x/instance/i", "# TYPE a gauge\na 5\n"),
                put(X, "c 1\n"),
            ],
        ),
        case("empty-put-empties", vec![put(X, two), put(X, "")]),
        case("empty-post-keeps", vec![put(X, two), post(X, "")]),
        case("delete", vec![put(X, two), delete(X)]),
        case("delete-nothing", vec![delete(X)]),
        case(
            "delete-another",
            vec![put(X, two), delete("/metrics/job/x/instance/i")],
        ),
        case(
            "delete-wrong-path",
            vec![put(X, two), delete("/metrics/job/x/a")],
        ),
        case(
            "delete-in-another-order",
            vec![
                put("/metrics/job/x/a/1/b/2", two),
                delete("/metrics/job/x/b/2/a/1"),
            ],
        ),
        case(
            "delete-by-base64",
            vec![
                put("/metrics/job/x/a/1", two),
                delete("/metrics/job@base64/eA/a@base64/MQ=="),
            ],
        ),
        case(
            "empty-instance-is-another-group",
            vec![
                put(X, "a 1\n"),
                put("/metrics/job/x/instance@base64/=", "b 1\n"),
                delete(X),
            ],
        ),
        case(
            "delete-then-push",
            vec![put(X, two), delete(X), post(X, "b 3\n")],
        ),
        case(
            "rejected-push-keeps-the-group",
            vec![put(X, two), put(X, "a 1 5\n")],
        ),
        case(
            "unparsed-push-keeps-the-group",
            vec![put(X, two), put(X, "a one\n")],
        ),
        case(
            "rejected-then-pushed",
            vec![put(X, "a 1 5\n"), put(X, "a 1\n")],
        ),
        case(
            "pushed-then-rejected-then-deleted",
            vec![put(X, "a 1\n"), post(X, "a 1 5\n"), delete(X)],
        ),
        case("empty-put-of-nothing", vec![put(X, "")]),
        case(
            "kind-changes-in-the-only-group",
            vec![
                put(X, "# TYPE m gauge\nm 1\n"),
                put(X, "# TYPE m counter\nm 2\n"),
                post(X, "# TYPE m gauge\nm 3\n"),
            ],
        ),
    ]
}

/// Groups that conflict.
fn conflicts() -> Vec<Case> {
    let y = "/metrics/job/y";
    let histogram = "# TYPE m histogram\nm_bucket{le=\"+Inf\"} 1\nm_sum 1\nm_count 1\n";
    vec![
        case(
            "kind-conflict",
            vec![
                put(X, "# TYPE m gauge\nm 1\n"),
                put(y, "# TYPE m counter\nm 1\n"),
            ],
        ),
        case(
            "kind-conflict-with-untyped",
            vec![put(X, "# TYPE m gauge\nm 1\n"), put(y, "m 1\n")],
        ),
        case(
            "kind-conflict-in-part-of-a-push",
            vec![
                put(X, "# TYPE m gauge\nm 1\n"),
                put(y, "a 1\n# TYPE m counter\nm 1\n"),
            ],
        ),
        case(
            "kind-conflict-gone-with-its-group",
            vec![
                put(X, "# TYPE m gauge\nm 1\n"),
                put(y, "# TYPE m counter\nm 1\n"),
                delete(X),
                put(y, "# TYPE m counter\nm 1\n"),
            ],
        ),
        case(
            "help-differs",
            vec![
                put(X, "# HELP m One.\n# TYPE m gauge\nm 1\n"),
                put(y, "# HELP m Another.\n# TYPE m gauge\nm 1\n"),
            ],
        ),
        case(
            "help-in-one-alone",
            vec![
                put(X, "# HELP m One.\n# TYPE m gauge\nm 1\n"),
                put(y, "# TYPE m gauge\nm 1\n"),
            ],
        ),
        case(
            "same-series-by-labels-in-the-body",
            vec![
                put(X, "m{instance=\"i\"} 1\n"),
                put("/metrics/job/x/instance/i", "m 2\n"),
            ],
        ),
        case(
            "same-series-by-an-empty-label",
            vec![put(X, "m 1\n"), put("/metrics/job/x/a@base64/=", "m 2\n")],
        ),
        case(
            "histogram-after-its-count",
            vec![put(X, "m_count 1\n"), put(y, histogram)],
        ),
        case(
            "histogram-before-its-count",
            vec![put(X, histogram), put(y, "m_count 1\n")],
        ),
        case(
            "histogram-after-its-bucket",
            vec![put(X, "m_bucket 1\n"), put(y, histogram)],
        ),
        case(
            "histogram-before-its-sum",
            vec![put(X, histogram), put(y, "m_sum 1\n")],
        ),
        case(
            "summary-before-its-sum",
            vec![
                put(X, "# TYPE m summary\nm_sum 1\nm_count 1\n"),
                put(y, "m_sum 1\n"),
            ],
        ),
        case(
            "summary-beside-a-bucket",
            vec![
                put(X, "# TYPE m summary\nm_sum 1\nm_count 1\n"),
                put(y, "m_bucket 1\n"),
            ],
        ),
        case(
            "collision-in-one-group",
            vec![
                put(X, "# TYPE m summary\nm_sum 1\nm_count 1\n"),
                post(X, "m_count 1\n"),
            ],
        ),
        case(
            "push-time-in-another-group",
            vec![put(X, "push_time_seconds{job=\"y\"} 5\n"), put(y, "m 1\n")],
        ),
    ]
}

/// Compressed bodies, and other formats.
fn codings() -> Vec<Case> {
    let text = "m 1\n";
    let encoded = |coding, body: Vec<u8>| put(X, body).with("Content-Encoding", coding);
    let proto = |body: Vec<u8>| put(X, body).with("Content-Type", PROTOBUF);
    let one = |value: &[u8]| metric(("a", "1"), value);
    let m = family("m", GAUGE, &[one(&gauge(1.5))]);
    let mut late = gauge(1.0);
    late.extend(timestamp(5));
    let many = [
        m.clone(),
        family("c_total", COUNTER, &[one(&counter(2.0))]),
        family("s", SUMMARY, &[one(&summary(3, 4.5, &[(0.5, 1.0)]))]),
        family(
            "h",
            HISTOGRAM,
            &[one(&histogram(3, 4.5, &[(1, 0.5), (2, 1.0)]))],
        ),
    ];
    let openmetrics = |text: &str| {
        put(X, text).with(
            "Content-Type",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )
    };
    vec![
        case("gzip", vec![encoded("gzip", gzip(text.as_bytes()))]),
        case(
            "gzip-upper-case",
            vec![encoded("GZIP", gzip(text.as_bytes()))],
        ),
        case("gzip-wrong", vec![encoded("gzip", b"m 1\n".to_vec())]),
        case(
            "gzip-cut",
            vec![encoded("gzip", gzip(text.as_bytes())[..15].to_vec())],
        ),
        case("gzip-wrong-inside", vec![encoded("gzip", gzip(b"m one\n"))]),
        case(
            "gzip-post",
            vec![
                put(X, "a 1\n"),
                post(X, gzip(text.as_bytes())).with("Content-Encoding", "gzip"),
            ],
        ),
        case("snappy", vec![encoded("snappy", snappy(text.as_bytes()))]),
        case("snappy-wrong", vec![encoded("snappy", b"m 1\n".to_vec())]),
        case("zstd", vec![encoded("zstd", zstd(text.as_bytes()))]),
        case("identity", vec![encoded("identity", text.into())]),
        case("protobuf", vec![proto(m.clone())]),
        case("protobuf-of-each-kind", vec![proto(many.concat())]),
        case(
            "protobuf-gzip",
            vec![proto(gzip(&m)).with("Content-Encoding", "gzip")],
        ),
        case("protobuf-cut", vec![proto(m[..m.len() - 3].to_vec())]),
        case("protobuf-wrong", vec![proto(b"m 1\n".to_vec())]),
        case("protobuf-empty", vec![proto(Vec::new())]),
        case(
            "protobuf-timestamp",
            vec![proto(family("m", GAUGE, &[one(&late)]))],
        ),
        case(
            "protobuf-duplicate-series",
            vec![proto(family(
                "m",
                GAUGE,
                &[one(&gauge(1.0)), one(&gauge(2.0))],
            ))],
        ),
        case(
            "protobuf-family-twice",
            vec![proto(
                [
                    m.clone(),
                    family("m", GAUGE, &[metric(("a", "2"), &gauge(2.0))]),
                ]
                .concat(),
            )],
        ),
        case(
            "protobuf-wrong-name",
            vec![proto(family("a b", GAUGE, &[one(&gauge(1.0))]))],
        ),
        case(
            "protobuf-wrong-label",
            vec![proto(family(
                "m",
                GAUGE,
                &[metric(("a-b", "1"), &gauge(1.0))],
            ))],
        ),
        case(
            "protobuf-value-of-another-kind",
            vec![proto(family("m", GAUGE, &[one(&counter(1.0))]))],
        ),
        case(
            "protobuf-without-metrics",
            vec![proto(family("m", GAUGE, &[]))],
        ),
        case(
            "protobuf-by-another-name",
            vec![put(X, m.clone()).with("Content-Type", "application/vnd.google.protobuf")],
        ),
        case(
            "protobuf-and-text-replace-each-other",
            vec![
                proto(many.concat()),
                post(X, "# TYPE m gauge\nm 7\n"),
                post(X, family("c_total", COUNTER, &[one(&counter(3.0))]))
                    .with("Content-Type", PROTOBUF),
            ],
        ),
        case(
            "text-of-another-version",
            vec![put(X, text).with("Content-Type", "text/plain; version=0.0.5")],
        ),
        case(
            "text-as-form",
            vec![put(X, text).with("Content-Type", "application/x-www-form-urlencoded")],
        ),
        case(
            "text-as-json",
            vec![put(X, text).with("Content-Type", "application/json")],
        ),
        case(
            "openmetrics",
            vec![openmetrics(
                "# HELP jobs Jobs.\n# TYPE jobs counter\njobs_total 3\n# EOF\n",
            )],
        ),
        case(
            "openmetrics-exemplar",
            vec![openmetrics(
                "# TYPE jobs counter\njobs_total 3 # {trace=\"1\"} 1\n# EOF\n",
            )],
        ),
        case(
            "openmetrics-info",
            vec![openmetrics(
                "# TYPE build info\nbuild_info{v=\"1\"} 1\n# EOF\n",
            )],
        ),
        case(
            "openmetrics-timestamp",
            vec![openmetrics("# TYPE m gauge\nm 1 1700000000\n# EOF\n")],
        ),
    ]
}

/// Other paths and methods.
fn routes() -> Vec<Case> {
    let list = [
        ("GET", "/metrics/job/x"),
        ("HEAD", "/metrics/job/x"),
        ("PATCH", "/metrics/job/x"),
        ("OPTIONS", "/metrics/job/x"),
        ("DELETE", "/metrics"),
        ("PATCH", "/metrics"),
        ("GET", "/metrics/"),
        ("GET", "/api/v1/metrics"),
        ("GET", "/api/v1/metrics/"),
        ("OPTIONS", "/api/v1/metrics"),
        ("OPTIONS", "/api/v1/status"),
        ("POST", "/api/v1/metrics"),
        ("DELETE", "/api/v1/metrics"),
        ("PUT", "/api/v1/status"),
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/nothing"),
        ("GET", "/api/v1/"),
        ("GET", "/api/v2/metrics"),
        ("GET", "/nothing"),
        ("PUT", "/nothing"),
        ("PUT", "/job/x"),
        ("GET", "/-/healthy"),
        ("GET", "/-/ready"),
        ("PUT", "/-/healthy"),
        ("POST", "/-/ready"),
        ("GET", "/-/quit"),
        ("POST", "/-/quit"),
        ("GET", "/-/nothing"),
        ("GET", "/api/v1/admin/wipe"),
        ("POST", "/api/v1/admin/wipe"),
        ("DELETE", "/api/v1/admin/wipe"),
    ];
    let mut cases: Vec<Case> = list
        .into_iter()
        .map(|(method, path)| Case {
            name: format!("{method} {path}").leak(),
            requests: vec![put("/metrics/job/z", "m 1\n"), request(method, path, "")],
        })
        .collect();
    cases.push(case(
        "wipe",
        vec![
            put(X, "m 1\n"),
            put("/metrics/job/y", "m 1\n"),
            put("/api/v1/admin/wipe", ""),
            get("/api/v1/metrics"),
        ],
    ));
    cases
}
