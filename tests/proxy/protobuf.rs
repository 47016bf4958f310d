//! Answers to scrapers that ask for protobuf, decoded with the tests' own schema.

use std::io::Read;

use flate2::read::GzDecoder;
use prost::Message;

use crate::harness::{Answer, Proxy};

/// `io.prometheus.client.MetricFamily`.
#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Single>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Single>,
    #[prost(message, optional, tag = "4")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "5")]
    untyped: Option<Single>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
    #[prost(int64, optional, tag = "6")]
    timestamp_ms: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Single {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    quantile: Vec<Point>,
}

/// A quantile and its value.
#[derive(Clone, PartialEq, Message)]
struct Point {
    #[prost(double, tag = "1")]
    at: f64,
    #[prost(double, tag = "2")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "2")]
    bound: f64,
}

const DELIMITED: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

const MERGED: &str = "[exporter]\nown_metrics = false\n[exposition]\nmode = \"merged\"\n";

fn scrape(proxy: &Proxy, path: &str, accept: &str) -> Answer {
    proxy.request("GET", path, &[("Accept", accept)])
}

fn families(mut body: &[u8]) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    while !body.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut body).expect("a message"));
    }
    families
}

fn names(families: &[MetricFamily]) -> Vec<&str> {
    families
        .iter()
        .filter_map(|it| it.name.as_deref())
        .collect()
}

const APPS: &str = r##"{
    "web": "# HELP requests_total Requests \\\\ \"all\".\n# TYPE requests_total counter\nrequests_total{path=\"/\\\"x\"} 5 1500\n# TYPE up gauge\nup 7\n{\"my.m\",\"a b\"=\"1\"} 1\n",
    "api": "# TYPE requests_total counter\nrequests_total{path=\"/v1\"} 6\n# TYPE took histogram\ntook_sum{a=\"1\"} 3\ntook_bucket{le=\"+Inf\",a=\"1\"} 2\ntook_bucket{a=\"1\",le=\"0.5\"} 1\ntook_count{a=\"1\"} 2\n# TYPE sizes summary\nsizes{quantile=\"0.9\"} 8\nsizes_sum 10\nsizes_count 3\n"
}"##;

#[test]
fn merged_families_are_protobuf_for_readers_that_prefer_it() {
    let proxy = Proxy::start(MERGED);
    assert_eq!(proxy.push_tcp(APPS.as_bytes()), "");
    let accept = format!("{DELIMITED};q=0.7,text/plain;version=0.0.4;q=0.3,*/*;q=0.2");
    let answer = scrape(&proxy, "/metrics", &accept);
    assert_eq!(
        answer.header("content-type"),
        Some(
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
        )
    );
    assert_eq!(answer.header("vary"), Some("Accept, Accept-Encoding"));
    assert_eq!(
        answer.header("content-length"),
        Some(&*answer.body.len().to_string())
    );

    let label = |name: &str, value: &str| Label {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let single = |value| Some(Single { value });
    let family = |name: &str, kind, metric| MetricFamily {
        name: Some(name.to_owned()),
        help: None,
        kind: Some(kind),
        metric,
    };
    let expected = [
        family(
            "my_m",
            3,
            vec![Metric {
                label: vec![label("a_b", "1")],
                untyped: single(1.0),
                ..Metric::default()
            }],
        ),
        MetricFamily {
            help: Some("Requests \\ \"all\".".to_owned()),
            ..family(
                "requests_total",
                0,
                vec![
                    Metric {
                        label: vec![label("path", "/v1")],
                        counter: single(6.0),
                        ..Metric::default()
                    },
                    Metric {
                        label: vec![label("path", "/\"x")],
                        counter: single(5.0),
                        timestamp_ms: Some(1500),
                        ..Metric::default()
                    },
                ],
            )
        },
        family(
            "sizes",
            2,
            vec![Metric {
                summary: Some(Summary {
                    count: 3,
                    sum: 10.0,
                    quantile: vec![Point {
                        at: 0.9,
                        value: 8.0,
                    }],
                }),
                ..Metric::default()
            }],
        ),
        family(
            "took",
            4,
            vec![Metric {
                label: vec![label("a", "1")],
                histogram: Some(Histogram {
                    count: 2,
                    sum: 3.0,
                    bucket: vec![
                        Bucket {
                            count: 1,
                            bound: 0.5,
                        },
                        Bucket {
                            count: 2,
                            bound: f64::INFINITY,
                        },
                    ],
                }),
                ..Metric::default()
            }],
        ),
        family(
            "up",
            1,
            vec![Metric {
                gauge: single(7.0),
                ..Metric::default()
            }],
        ),
    ];
    assert_eq!(families(&answer.body), expected);

    let utf8 = scrape(
        &proxy,
        "/metrics",
        &format!("{DELIMITED};escaping=allow-utf-8"),
    );
    assert_eq!(names(&families(&utf8.body))[0], "my.m");
    let packed = proxy.request(
        "GET",
        "/metrics",
        &[("Accept", DELIMITED), ("Accept-Encoding", "gzip")],
    );
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut unpacked = Vec::new();
    let mut reader = GzDecoder::new(&*packed.body);
    reader.read_to_end(&mut unpacked).expect("one gzip member");
    assert_eq!(unpacked, answer.body);
}

#[test]
fn parts_of_the_output_are_messages_too() {
    let proxy = Proxy::start(MERGED);
    assert_eq!(proxy.push_tcp(APPS.as_bytes()), "");
    for (path, expected) in [
        ("/metrics?app=api", &["requests_total", "sizes", "took"][..]),
        ("/metrics?name[]=took&name[]=up", &["took", "up"]),
        ("/apps/web/metrics", &["my_m", "requests_total", "up"]),
        (
            "/metrics",
            &["my_m", "requests_total", "sizes", "took", "up"],
        ),
    ] {
        let answer = scrape(&proxy, path, DELIMITED);
        assert_eq!(names(&families(&answer.body)), expected, "{path}");
    }
}

#[test]
fn what_changes_between_scrapes_is_seen() {
    let proxy = Proxy::start("[exposition]\nmode = \"merged\"\n");
    let value = |name: &str| {
        let families = families(&scrape(&proxy, "/metrics", DELIMITED).body);
        let family = families
            .into_iter()
            .find(|it| it.name.as_deref() == Some(name))?;
        family.metric[0].gauge.as_ref().map(|gauge| gauge.value)
    };
    for round in 1..4 {
        let text = format!("# TYPE round gauge\nround {round}\n");
        proxy.push_tcp(serde_json::json!({ "app": text }).to_string().as_bytes());
        assert_eq!(value("round"), Some(f64::from(round)));
    }
    assert_eq!(value("exporter_proxy_apps"), Some(1.0));
    proxy.push_tcp(serde_json::json!({ "app": "" }).to_string().as_bytes());
    assert_eq!(value("round"), None);
}
