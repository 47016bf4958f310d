//! Native histograms of every kind, pushed and read back.

use std::fs;

use serde_json::json;
use tempfile::tempdir;

use crate::harness::Proxy;
use crate::natives::{
    Bucket, GAUGE_HISTOGRAM, HISTOGRAM, Histogram, Span, family, five_observations, histogram_of,
    push, push_with, scrape,
};
use crate::operations::bench;

const QUIET: &str = "[exporter]\nown_metrics = false\n";

/// Two buckets without observations, counted in floats.
fn empty_floats() -> Histogram {
    Histogram {
        sum: Some(0.0),
        count_float: Some(0.0),
        schema: Some(3),
        zero_threshold: Some(0.001),
        zero_count_float: Some(0.0),
        positive_span: vec![Span {
            offset: 0,
            length: 2,
        }],
        positive_count: vec![0.0, 0.0],
        ..Histogram::default()
    }
}

#[test]
fn a_histogram_of_floats_without_observations_stays_native() {
    let proxy = Proxy::start(QUIET);
    let pushed = push(
        &proxy,
        "/metrics/job/j",
        &[family("h", HISTOGRAM, empty_floats())],
    );
    assert_eq!(pushed.status, 200);
    let shown = histogram_of(&scrape(&proxy, "/metrics"), "h");
    let expected = Histogram {
        sum: Some(0.0),
        schema: Some(3),
        zero_threshold: Some(0.001),
        positive_span: empty_floats().positive_span,
        positive_delta: vec![0, 0],
        ..Histogram::default()
    };
    assert_eq!(shown, expected);
    assert!(
        proxy
            .metrics()
            .contains("h_count{instance=\"\",job=\"j\"} 0\n")
    );
}

#[test]
fn a_gauge_histogram_is_one_to_readers_of_protobuf_and_a_histogram_in_text() {
    let proxy = Proxy::start(QUIET);
    let classic = Histogram {
        count: Some(2),
        sum: Some(-3.0),
        ..Histogram::default()
    };
    let families = [
        family("g", GAUGE_HISTOGRAM, five_observations()),
        family("classic", GAUGE_HISTOGRAM, classic),
    ];
    assert_eq!(push(&proxy, "/metrics/job/j", &families).status, 200);
    let text = proxy.metrics();
    for line in [
        "# TYPE g histogram",
        "g_bucket{instance=\"\",job=\"j\",le=\"+Inf\"} 5",
        "g_sum{instance=\"\",job=\"j\"} 5.5",
        "g_count{instance=\"\",job=\"j\"} 5",
        "classic_sum{instance=\"\",job=\"j\"} -3",
    ] {
        assert!(text.lines().any(|it| it == line), "{text}");
    }
    let shown = scrape(&proxy, "/metrics");
    assert_eq!(histogram_of(&shown, "g"), five_observations());
    // Prometheus 2 drops classic histograms that have an explicit type.
    for (name, kind) in [("g", GAUGE_HISTOGRAM), ("classic", HISTOGRAM)] {
        let family = shown.iter().find(|family| family.name == name).unwrap();
        assert_eq!(family.kind, Some(kind), "{name}");
    }
    let groups = proxy.push("GET", "/api/v1/metrics", "").json();
    assert_eq!(groups["data"][0]["g"]["type"], "GAUGE_HISTOGRAM");
    // A push of an ordinary histogram replaces it.
    let pushed = push(
        &proxy,
        "/metrics/job/j",
        &[family("g", HISTOGRAM, five_observations())],
    );
    assert_eq!(pushed.status, 200);
    assert_eq!(scrape(&proxy, "/metrics")[0].kind, Some(HISTOGRAM));
}

#[test]
fn the_api_shows_the_buckets_of_native_histograms_with_their_rules() {
    let proxy = Proxy::start(QUIET);
    let histogram = Histogram {
        count: Some(9),
        negative_span: vec![Span {
            offset: 1,
            length: 2,
        }],
        negative_delta: vec![3, -2],
        ..five_observations()
    };
    let floats = Histogram {
        sum: Some(1.0),
        count_float: Some(2.5),
        schema: Some(-1),
        zero_threshold: Some(0.5),
        zero_count_float: Some(0.5),
        positive_span: vec![Span {
            offset: -1,
            length: 3,
        }],
        positive_count: vec![1.5, 0.0, 0.5],
        ..Histogram::default()
    };
    let families = [
        family("floats", HISTOGRAM, floats),
        family("h", HISTOGRAM, histogram),
    ];
    assert_eq!(push(&proxy, "/metrics/job/j", &families).status, 200);
    let groups = proxy.push("GET", "/api/v1/metrics", "").json();
    let shown = |name: &str| groups["data"][0][name]["metrics"][0].clone();
    assert_eq!(
        shown("h"),
        json!({
            "labels": { "instance": "", "job": "j" },
            "count": "9",
            "sum": "5.5",
            "buckets": [
                [1, "-4", "-2", "1"],
                [1, "-2", "-1", "3"],
                [3, "-1e-128", "1e-128", "1"],
                [0, "0.5", "1", "2"],
                [0, "1", "2", "2"],
            ],
        })
    );
    assert_eq!(
        shown("floats")["buckets"],
        json!([
            [3, "-0.5", "0.5", "0.5"],
            [0, "0.0625", "0.25", "1.5"],
            [0, "1", "4", "0.5"],
        ])
    );
}

#[test]
fn native_buckets_alone_are_rejected_where_histograms_are_added_up() {
    let proxy = Proxy::start(QUIET);
    let native = family("h", HISTOGRAM, five_observations());
    let rejected = push_with(&proxy, "POST", "/metrics/job/j?mode=aggregate", &[native]);
    assert_eq!(rejected.status, 400);
    let reported = rejected.text();
    assert!(reported.contains("has only native buckets"), "{reported}");
    assert!(!proxy.metrics().contains("h_count"), "nothing was changed");

    // With classic buckets, those are added up.
    let bucket = |count, bound| Bucket { count, bound };
    let both = Histogram {
        bucket: vec![bucket(3, 1.0), bucket(5, f64::INFINITY)],
        ..five_observations()
    };
    for kind in [HISTOGRAM, GAUGE_HISTOGRAM] {
        let name = format!("h{kind}");
        for _ in 0..2 {
            let families = [family(&name, kind, both.clone())];
            let added = push_with(&proxy, "POST", "/metrics/job/j?mode=aggregate", &families);
            assert!(added.status < 300, "{}", added.text());
        }
    }
    let text = proxy.metrics();
    let line = |line: &str| text.lines().any(|it| it == line);
    assert!(line("h4_bucket{job=\"j\",le=\"1\"} 6"), "{text}");
    // A gauge histogram has the last pushed values, as gauges do.
    assert!(line("h5_bucket{job=\"j\",le=\"1\"} 3"), "{text}");
}

#[test]
fn statsd_histograms_have_native_buckets_by_mapping() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("mapping.yml");
    let mapping = "
defaults: {observer_type: histogram}
mappings:
- {match: coarse, name: coarse, histogram_options: {buckets: [1], native_histogram_bucket_factor: 4}}
- {match: none, name: none, histogram_options: {native_histogram_bucket_factor: 1}}
";
    fs::write(&file, mapping).unwrap();
    let bench = bench(&format!("statsd_mapping = {file:?}\n"));
    let lines = b"coarse:0|h\ncoarse:1|h\ncoarse:16|h|@0.5\nnone:1|h\nusual:2|h\n";
    assert_eq!(bench.send(lines), "");
    let text = bench.proxy.metrics();
    for line in [
        "coarse_bucket{le=\"1\"} 2",
        "coarse_bucket{le=\"+Inf\"} 4",
        "coarse_sum 33",
    ] {
        assert!(text.lines().any(|it| it == line), "{text}");
    }
    let families = scrape(&bench.proxy, "/metrics");
    let coarse = Histogram {
        count: Some(4),
        sum: Some(33.0),
        bucket: vec![Bucket {
            count: 2,
            bound: 1.0,
        }],
        schema: Some(-1),
        zero_threshold: Some(2_f64.powi(-128)),
        zero_count: Some(1),
        positive_span: vec![Span {
            offset: 0,
            length: 3,
        }],
        positive_delta: vec![1, -1, 2],
        ..Histogram::default()
    };
    assert_eq!(histogram_of(&families, "coarse"), coarse);
    assert_eq!(histogram_of(&families, "none").schema, None);
    // The same as in statsd_exporter.
    let usual = histogram_of(&families, "usual");
    assert_eq!((usual.schema, usual.bucket.len()), (Some(3), 11));
    assert_eq!(
        usual.positive_span,
        [Span {
            offset: 8,
            length: 1
        }]
    );
    // Families selected by name are the same.
    assert_eq!(
        histogram_of(&scrape(&bench.proxy, "/metrics?name[]=coarse"), "coarse"),
        coarse
    );
}
