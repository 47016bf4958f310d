use super::*;
use crate::exposition::{Families, TextLimits};

fn shown(text: &str, format: InputFormat) -> Vec<String> {
    let families = Families::parse(text, format, &TextLimits::default()).expect("valid");
    let mut out = Vec::new();
    for family in families.iter() {
        let metrics = Metrics::of(&family);
        for metric in &metrics.metrics {
            out.push(format!(
                "{}{{{}}} {:?} {:?}",
                family.name(),
                metric.labels_text(),
                metric.value,
                metric.timestamp
            ));
        }
        if let Some(first) = metrics.first_unmatched {
            out.push(format!("{} unmatched: {first}", metrics.unmatched));
        }
    }
    out
}

#[test]
fn scattered_components_make_one_metric() {
    let text = "# TYPE h histogram\nh_sum{b=\"2\",a=\"1\"} 3\nh_bucket{le=\"+Inf\",a=\"1\",b=\"2\"} 4\n\
                h_bucket{le=\"1\"} 5\nh_bucket{a=\"1\",le=\"0.5\",b=\"2\"} 2 7\nh_count{a=\"1\",b=\"2\"} 4 6\n\
                # TYPE s summary\ns{quantile=\"0.5\"} 1\ns_count 2\ns{x=\"y\",quantile=\"0.9\"} 3\ns_sum 4\n";
    assert_eq!(
        shown(text, InputFormat::Text),
        [
            "h{a=\"1\",b=\"2\"} Histogram { buckets: [(0.5, 2.0), (inf, 4.0)], sum: Some(3.0), count: Some(4.0) } Some(7)",
            "h{} Histogram { buckets: [(1.0, 5.0)], sum: None, count: None } None",
            "s{} Summary { quantiles: [(0.5, 1.0)], sum: Some(4.0), count: Some(2.0) } None",
            "s{x=\"y\"} Summary { quantiles: [(0.9, 3.0)], sum: None, count: None } None",
        ]
    );
}

#[test]
fn single_values_have_their_familys_kind() {
    let text = "# TYPE c counter\nc 1 5\n# TYPE g gauge\ng{le=\"x\"} NaN\nu -1\n";
    assert_eq!(
        shown(text, InputFormat::Text),
        [
            "c{} Counter(1.0) Some(5)",
            "g{le=\"x\"} Gauge(NaN) None",
            "u{} Untyped(-1.0) None",
        ]
    );
}

#[test]
fn samples_outside_a_metric_are_unmatched() {
    for (text, stray) in [
        ("# TYPE h histogram\nh 1\n", "1 unmatched: h"),
        (
            "# TYPE h histogram\nh_bucket{a=\"b\"} 1\n",
            "1 unmatched: h_bucket{a=\"b\"}",
        ),
        (
            "# TYPE h histogram\nh_bucket{le=\"NaN\"} 1\n",
            "1 unmatched: h_bucket{le=\"NaN\"}",
        ),
        (
            "# TYPE h histogram\nh_sum{le=\"1\"} 1\n",
            "1 unmatched: h_sum{le=\"1\"}",
        ),
        ("# TYPE s summary\ns 1\n", "1 unmatched: s"),
        (
            "# TYPE s summary\ns_count{quantile=\"1\"} 1\n",
            "1 unmatched: s_count{quantile=\"1\"}",
        ),
    ] {
        assert_eq!(shown(text, InputFormat::Text), [stray], "{text}");
    }
    let twice = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"0.5\"} 0\nh_bucket{le=\"1.0\"} 2\n";
    assert_eq!(
        shown(twice, InputFormat::Text),
        [
            "h{} Histogram { buckets: [(0.5, 0.0), (1.0, 1.0)], sum: None, count: None } None",
            "1 unmatched: h{}"
        ]
    );
}

#[test]
fn open_metrics_component_names() {
    let text = "# TYPE c counter\nc_total 1\nc_created 2\n# TYPE i info\ni_info{v=\"1\"} 1\n\
                # TYPE g gaugehistogram\ng_bucket{le=\"+Inf\"} 1\ng_gcount 1\ng_gsum 2\n# EOF\n";
    assert_eq!(
        shown(text, InputFormat::OpenMetrics),
        [
            "c{} Counter(1.0) None",
            "1 unmatched: c_created",
            "i{v=\"1\"} Gauge(1.0) None",
            "g{} Histogram { buckets: [(inf, 1.0)], sum: Some(2.0), count: Some(1.0) } None",
        ]
    );
}

#[test]
fn labels_round_trip_through_text() {
    let line = "m{\"z z\"=\"1\",b=\"x\\\\y\\\"\\n\",\"a\\\"\"=\"\"} 1\n";
    let metrics = Metrics::of_lines("m", Kind::Gauge, line);
    let metric = &metrics.metrics[0];
    assert_eq!(metric.labels[1], ("b".into(), "x\\y\"\n".into()));
    let text = metric.labels_text();
    assert_eq!(text, "\"a\\\"\"=\"\",b=\"x\\\\y\\\"\\n\",\"z z\"=\"1\"");
    let pairs = parse_labels(&text).expect("labels");
    let reversed: Vec<_> = pairs.iter().rev().cloned().collect();
    assert_eq!(labels_text(&reversed), text);
    assert_eq!(parse_labels(""), Some(Vec::new()));
    assert_eq!(parse_labels("a"), None);
    assert_eq!(parse_labels("} 1 2"), None);
}

#[test]
fn canonical_lines_make_metrics() {
    let lines = "# TYPE \"h.x\" histogram\n{\"h.x_bucket\",le=\"1\"} 1\n{\"h.x_sum\"} 2\n";
    let metrics = Metrics::of_lines("h.x", Kind::Histogram, lines);
    assert_eq!(metrics.unmatched, 0);
    assert_eq!(
        metrics.metrics[0].value,
        MetricValue::Histogram {
            buckets: vec![(1.0, 1.0)],
            sum: Some(2.0),
            count: None
        }
    );
}
