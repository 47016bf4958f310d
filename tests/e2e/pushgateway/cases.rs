//! The requests that both gateways get.

use super::bodies::{
    COUNTER, GAUGE, HISTOGRAM, PROTOBUF, SUMMARY, counter, family, gauge, gzip, histogram, metric,
    snappy, summary, timestamp, zstd,
};

/// One or more requests, to gateways that hold nothing.
#[derive(Debug)]
pub struct Case {
    pub name: &'static str,
    pub requests: Vec<Request>,
}

/// Cases in which families of several groups differ in their help, and so
/// which of them Pushgateway shows is chance.
pub const HELP_BY_CHANCE: &[&str] = &[
    "help-differs",
    "help-in-one-alone",
    "push-failure-time-pushed",
];

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
    [
        ("job", "/metrics/job/x"),
        ("job-and-instance", "/metrics/job/x/instance/i"),
        ("many-labels", "/metrics/job/x/b/2/a/1/zone/eu"),
        ("upper-case-and-underscore", "/metrics/job/x/_A_b9/v"),
        ("odd-number-of-parts", "/metrics/job/x/instance"),
        ("odd-number-of-parts-later", "/metrics/job/x/a/1/b"),
        ("trailing-slash", "/metrics/job/x/a/1/"),
        ("trailing-slash-is-an-empty-value", "/metrics/job/x/a/"),
        ("empty-job", "/metrics/job/"),
        ("no-job", "/metrics/job"),
        ("no-group", "/metrics"),
        ("no-group-slash", "/metrics/"),
        ("not-job-first", "/metrics/instance/i/job/x"),
        ("empty-job-in-the-middle", "/metrics/job//a/1"),
        ("empty-value-in-the-middle", "/metrics/job/x/a//b/1"),
        ("doubled-slash", "//metrics/job/x"),
        ("dots", "/metrics/job/x/a/../b/1"),
        ("label-with-dash", "/metrics/job/x/a-b/1"),
        ("label-with-digit-first", "/metrics/job/x/9a/1"),
        ("label-with-colon", "/metrics/job/x/a:b/1"),
        ("label-with-utf8", "/metrics/job/x/gr%C3%BCn/1"),
        ("label-reserved", "/metrics/job/x/__name__/y"),
        ("label-of-two-underscores", "/metrics/job/x/__a/y"),
        ("label-le", "/metrics/job/x/le/1"),
        ("label-quantile", "/metrics/job/x/quantile/1"),
        ("label-twice", "/metrics/job/x/a/1/a/2"),
        ("job-twice", "/metrics/job/x/job/y"),
        ("value-percent-encoded", "/metrics/job/a%20b%C3%BC%22%5C"),
        ("value-with-line-feed", "/metrics/job/a%0Ab"),
        ("value-not-utf8", "/metrics/job/a%FFb"),
        ("value-with-plus", "/metrics/job/a+b"),
        ("value-with-equals-and-at", "/metrics/job/a=b@c"),
        ("encoded-slash-in-job", "/metrics/job/a%2Fb"),
        ("encoded-slash-in-value", "/metrics/job/x/path/%2Fsrv"),
        ("query-is-no-label", "/metrics/job/x?a=1"),
        ("base64-job", "/metrics/job@base64/YS9i"),
        ("base64-job-padded", "/metrics/job@base64/YWI="),
        ("base64-value-unpadded", "/metrics/job/x/path@base64/L3Nydg"),
        (
            "base64-url-safe",
            "/metrics/job/x/a@base64/Pz8-/b@base64/Pz8_",
        ),
        ("base64-standard-alphabet", "/metrics/job/x/a@base64/ab+c"),
        ("base64-empty", "/metrics/job/x/a@base64/="),
        ("base64-three-equals", "/metrics/job/x/a@base64/==="),
        ("base64-empty-job", "/metrics/job@base64/="),
        ("base64-wrong", "/metrics/job/x/a@base64/%21%21"),
        ("base64-wrong-length", "/metrics/job/x/a@base64/abcde"),
        ("base64-not-utf8", "/metrics/job/x/a@base64/_w"),
        ("base64-upper-case-suffix", "/metrics/job/x/a@BASE64/YQ"),
        ("other-suffix", "/metrics/job/x/a@base32/YQ"),
        ("percent-wrong", "/metrics/job/%zz"),
        ("percent-cut", "/metrics/job/x%2"),
    ]
    .into_iter()
    .map(|(name, path)| Case {
        name,
        requests: vec![put(path, "m 1\n")],
    })
    .collect()
}

/// Texts, each put to the same group.
fn one_push_of_each_text() -> Vec<Case> {
    [
        ("gauge", "# HELP m Help.\n# TYPE m gauge\nm 1\n"),
        ("untyped", "m{a=\"1\"} 1\nm{a=\"2\"} 2\n"),
        ("typed-untyped", "# TYPE m untyped\nm 1\n"),
        ("type-unknown", "# TYPE m unknown\nm 1\n"),
        ("type-upper-case", "# TYPE m GAUGE\nm 1\n"),
        ("number-in-hexadecimal", "a 0x1\n"),
        ("number-with-underscore", "a 1_0\n"),
        ("numbers-special", "a NaN\nb +Inf\nc -Inf\nd infinity\n"),
        ("numbers-large", "a 1e6\nb 1e+21\nc 123456\nd 1234567.5\ne -0\nf 1e-05\n"),
        (
            "histogram",
            "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 4.5\nh_count 3\n",
        ),
        (
            "histogram-without-inf",
            "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_sum 4.5\nh_count 3\n",
        ),
        ("histogram-of-sum-alone", "# TYPE h histogram\nh_sum 4.5\n"),
        (
            "summary",
            "# TYPE s summary\ns{quantile=\"0.5\"} 2\ns_sum 4.5\ns_count 3\n",
        ),
        ("summary-without-quantiles", "# TYPE s summary\ns_sum 4.5\ns_count 3\n"),
        ("summary-of-count-alone", "# TYPE s summary\ns_count 3\n"),
        (
            "escapes",
            "# HELP m a\\\\b\\nc\n# TYPE m gauge\nm{a=\"\\\\ \\\" \\n ü\"} 1\n",
        ),
        ("empty-help", "# HELP m \n# TYPE m gauge\nm 1\n"),
        ("head-alone", "# HELP m Help.\n# TYPE m gauge\n"),
        ("comment-alone", "# nothing\n"),
        ("empty", ""),
        ("blank-lines", "\n\nm 1\n\n"),
        ("blanks", "  m { a = \"1\" , } 1\n"),
        ("no-last-newline", "m 1"),
        ("crlf", "m 1\r\n"),
        ("timestamp", "m 1 1700000000000\n"),
        ("timestamp-in-one-of-two", "a 1\nb 1 5\n"),
        ("no-value", "m\n"),
        ("wrong-value", "m one\n"),
        ("value-twice", "m 1 2 3\n"),
        ("wrong-name", "9m 1\n"),
        ("name-with-dash", "a-b 1\n"),
        ("name-with-colon", "a:b 1\n"),
        ("quoted-name", "{\"a.b\"} 1\n"),
        ("wrong-label-name", "m{9a=\"1\"} 1\n"),
        ("label-name-reserved", "m{__name__=\"n\"} 1\n"),
        ("label-name-of-two-underscores", "m{__a=\"n\"} 1\n"),
        ("label-not-closed", "m{a=\"1\" 1\n"),
        ("value-not-closed", "m{a=\"1} 1\n"),
        ("wrong-escape", "m{a=\"\\x\"} 1\n"),
        ("label-twice-in-a-sample", "m{a=\"1\",a=\"2\"} 1\n"),
        ("type-twice", "# TYPE m gauge\n# TYPE m gauge\nm 1\n"),
        ("help-twice", "# HELP m a\n# HELP m b\nm 1\n"),
        ("type-after-samples", "m 1\n# TYPE m gauge\n"),
        ("type-wrong", "# TYPE m meter\nm 1\n"),
        ("bucket-without-le", "# TYPE h histogram\nh_bucket 1\nh_sum 1\nh_count 1\n"),
        ("bucket-of-a-wrong-bound", "# TYPE h histogram\nh_bucket{le=\"x\"} 1\nh_count 1\n"),
        ("quantile-wrong", "# TYPE s summary\ns{quantile=\"x\"} 1\ns_count 1\n"),
        ("family-in-two-places", "a{n=\"1\"} 1\nb 1\na{n=\"2\"} 2\n"),
        ("duplicate-series", "m{a=\"1\"} 1\nm{a=\"1\"} 2\n"),
        ("duplicate-series-in-other-order", "m{a=\"1\",b=\"2\"} 1\nm{b=\"2\",a=\"1\"} 2\n"),
        ("duplicate-by-the-job-label", "m{job=\"a\"} 1\nm{job=\"b\"} 2\n"),
        ("job-label-is-overridden", "m{job=\"other\"} 1\n"),
        ("instance-label-is-kept", "m{instance=\"i\"} 1\nn 2\n"),
        ("empty-label-value", "m{a=\"\"} 1\n"),
        ("duplicate-by-an-empty-label", "m{a=\"\"} 1\nm 2\n"),
        ("push-time-pushed", "push_time_seconds 5\n"),
        // Of another kind, Pushgateway takes it or refuses it by chance.
        ("push-failure-time-pushed", "# TYPE push_failure_time_seconds gauge\npush_failure_time_seconds 6\n"),
        ("push-time-pushed-as-counter", "# TYPE push_time_seconds counter\npush_time_seconds 5\n"),
        ("counter-beside-a-histograms-count", "# TYPE h histogram\nh_count 1\nh_sum 1\n# TYPE h_bucket gauge\nh_bucket 1\n"),
        ("negative-counter", "# TYPE c counter\nc -1\n"),
        ("counter-that-is-nan", "# TYPE c counter\nc NaN\n"),
        ("bucket-of-a-fraction", "# TYPE h histogram\nh_bucket{le=\"1\"} 1.7\nh_count 2\nh_sum 1\n"),
        ("buckets-out-of-order", "# TYPE h histogram\nh_bucket{le=\"2\"} 2\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 1\n"),
        ("buckets-twice", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 1\n"),
    ]
    .into_iter()
    .map(|(name, text)| Case {
        name,
        requests: vec![put(X, text)],
    })
    .collect()
}

fn case(name: &'static str, requests: Vec<Request>) -> Case {
    Case { name, requests }
}

/// What PUT, POST and DELETE leave.
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
            "refused-push-keeps-the-group",
            vec![put(X, two), put(X, "a 1 5\n")],
        ),
        case(
            "unparsed-push-keeps-the-group",
            vec![put(X, two), put(X, "a one\n")],
        ),
        case(
            "refused-then-pushed",
            vec![put(X, "a 1 5\n"), put(X, "a 1\n")],
        ),
        case(
            "pushed-then-refused-then-deleted",
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

/// Groups that do not go together.
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

/// Bodies packed, and in other formats.
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
