use std::hash::RandomState;

use super::*;
use crate::exposition::{CanonicalOptions, TextLimits, TimestampPolicy, canonicalize};

fn built(name: &str, kind: Kind, add: impl FnOnce(&mut FamilyBuilder)) -> FamilyText {
    let mut family = FamilyBuilder::new(name, kind, "");
    add(&mut family);
    family.build_unhashed().expect("a family without mistakes")
}

#[test]
fn families_have_metadata_and_samples() {
    let help = "back\\slash\nand \"quotes\"";
    let mut family = FamilyBuilder::new("m_total", Kind::Counter, help);
    assert!(family.is_empty());
    family.sample(&[], 1.0);
    family.sample(&[("a", "x\"\\\n"), ("b", "é")], 0.5);
    assert!(!family.is_empty());
    let family = family.build_unhashed().expect("a family");
    assert_eq!(
        family.head(),
        "# HELP m_total back\\\\slash\\nand \"quotes\"\n# TYPE m_total counter\n"
    );
    assert_eq!(
        family.samples.bytes(),
        "m_total 1\nm_total{a=\"x\\\"\\\\\\n\",b=\"é\"} 0.5\n"
    );
    assert_eq!(family.series_text(1), "m_total{a=\"x\\\"\\\\\\n\",b=\"é\"}");
}

#[test]
fn points_at_several_times_are_those_of_a_pushed_text() {
    const TEXT: &str = "# TYPE m gauge\nm 1 5\nm{a=\"x\"} 2 5\nm{a=\"x\"} 3 6\nm{a=\"y\"} 4\n";
    let hash = RandomState::new();
    let mut family = FamilyBuilder::new("m", Kind::Gauge, "");
    family.sample_at(&[], 1.0, 5);
    family.sample_at(&[("a", "x")], 2.0, 5);
    family.sample_at(&[("a", "x")], 3.0, 6);
    family.sample(&[("a", "y")], 4.0);
    let family = family.build(&hash).expect("a family without mistakes");
    let options = CanonicalOptions {
        limits: TextLimits::default(),
        added: &[],
        timestamps: TimestampPolicy::Keep,
        hash: &hash,
    };
    let mut pushed = canonicalize(TEXT, &options).expect("valid text");
    for family in &mut pushed {
        family.line = 0;
    }
    assert_eq!(pushed, [family]);
}

#[test]
fn times_ascend_and_are_not_before_1970() {
    let times = |times: &[i64]| {
        let mut family = FamilyBuilder::new("m", Kind::Gauge, "");
        for time in times {
            family.sample_at(&[], 1.0, *time);
        }
        family.build_unhashed().map(drop)
    };
    assert_eq!(times(&[0, 1]), Ok(()));
    for wrong in [&[5, 5][..], &[6, 5], &[1, 2, 2]] {
        let problem = times(wrong).unwrap_err();
        assert!(matches!(problem, BuildError::Repeated { .. }), "{wrong:?}");
    }
    assert!(matches!(times(&[-1]), Err(BuildError::Time { .. })));
    let mut family = FamilyBuilder::new("m", Kind::Gauge, "");
    family.sample(&[], 1.0).sample_at(&[], 1.0, 5);
    let problem = family.build_unhashed().unwrap_err();
    assert!(matches!(problem, BuildError::Repeated { .. }));
    let mut family = FamilyBuilder::new("s", Kind::Summary, "");
    family.sample_at(&[], 1.0, 5);
    let problem = family.build_unhashed().unwrap_err();
    assert!(matches!(problem, BuildError::Kind { .. }));
}

#[test]
fn histograms_have_buckets_sum_and_count() {
    let family = built("h", Kind::Histogram, |family| {
        family.histogram(&[("a", "x")], &[0.5, 1.0], &[1, 3, 4], 2.5);
    });
    assert_eq!(
        family.samples.bytes(),
        "h_bucket{a=\"x\",le=\"0.5\"} 1\nh_bucket{a=\"x\",le=\"1\"} 3\n\
         h_bucket{a=\"x\",le=\"+Inf\"} 4\nh_sum{a=\"x\"} 2.5\nh_count{a=\"x\"} 4\n"
    );
    let sorted = built("h", Kind::GaugeHistogram, |family| {
        family.histogram(&[("z", "1"), ("a", "2")], &[], &[1], 0.0);
    });
    assert_eq!(
        sorted.samples.bytes(),
        "h_bucket{a=\"2\",le=\"+Inf\",z=\"1\"} 1\nh_gsum{a=\"2\",z=\"1\"} 0\n\
         h_gcount{a=\"2\",z=\"1\"} 1\n"
    );
}

#[test]
fn summaries_have_quantiles_sum_and_count() {
    let family = built("s", Kind::Summary, |family| {
        family.summary(&[], &[(0.5, 1.0), (0.9, f64::NAN)], 3.0, 2);
    });
    assert_eq!(
        family.samples.bytes(),
        "s{quantile=\"0.5\"} 1\ns{quantile=\"0.9\"} NaN\ns_sum 3\ns_count 2\n"
    );
}

/// A built family equals the same family parsed from text, with the hashes of
/// its series.
#[test]
fn a_built_family_equals_the_same_family_read_from_text() {
    let hash = RandomState::new();
    let mut built = Vec::new();
    let mut family = FamilyBuilder::new("c_total", Kind::Counter, "A \"help\".");
    family.sample(&[("b", "x\"y"), ("a", "")], 1.5);
    family.sample(&[("a", "1")], 2e30);
    built.push(family);
    let mut family = FamilyBuilder::new("my.gauge", Kind::Gauge, "");
    family.sample(&[("é", "1"), ("a", "2")], -0.0);
    built.push(family);
    let mut family = FamilyBuilder::new("h", Kind::Histogram, "");
    family.histogram(&[("x", "1")], &[1e6], &[1, 2], 3.0);
    family.histogram(&[("a", "1")], &[1e6], &[1, 2], 3.0);
    built.push(family);
    let mut family = FamilyBuilder::new("s", Kind::Summary, "");
    family.summary(&[("x", "1")], &[(0.99, 1.0)], 3.0, 1);
    built.push(family);
    let built: Vec<FamilyText> = built
        .into_iter()
        .map(|family| family.build(&hash).expect("a family"))
        .collect();
    let mut text = String::new();
    for family in &built {
        text += &String::from_utf8_lossy(&family.head());
        text += family.samples.as_str();
    }
    let options = CanonicalOptions {
        limits: TextLimits::default(),
        added: &[],
        timestamps: TimestampPolicy::Refuse,
        hash: &hash,
    };
    let mut read = canonicalize(&text, &options).expect("valid text");
    for family in &mut read {
        family.line = 0;
    }
    assert_eq!(built, read);
}

#[test]
fn units_and_kinds_of_open_metrics_are_kept_beside_the_text() {
    let family = built("wait_seconds_total", Kind::Counter, |family| {
        family.unit("seconds").sample(&[], 1.0);
    });
    let open = family.open.expect("a unit");
    assert_eq!((open.kind, open.unit.as_deref()), (None, Some("seconds")));
    let family = built("build_info", Kind::Info, |family| {
        family.sample(&[("version", "1")], 1.0);
    });
    assert_eq!(family.kind, Kind::Gauge);
    assert_eq!(family.open.and_then(|open| open.kind), Some(Kind::Info));
}

#[test]
fn mistakes_are_errors() {
    let error = |name: &str, kind, add: &dyn Fn(&mut FamilyBuilder)| {
        let mut family = FamilyBuilder::new(name, kind, "");
        add(&mut family);
        family.sample(&[("after", "it")], 1.0);
        let error = family.build_unhashed().expect_err("a mistake");
        error.to_string()
    };
    for name in ["", "a\0b"] {
        assert!(error(name, Kind::Gauge, &|_| {}).contains("cannot be the name of a metric"));
    }
    let gauge = |labels: &[(&str, &str)]| {
        error("g", Kind::Gauge, &|family| {
            family.sample(labels, 1.0);
        })
    };
    assert_eq!(
        gauge(&[("a", "1"), ("a", "2")]),
        "family g: label \"a\" is given twice"
    );
    assert_eq!(
        gauge(&[("__name__", "x")]),
        "family g: label \"__name__\" is the name of the metric itself"
    );
    assert_eq!(gauge(&[("", "x")]), "family g: a label has no name");
    for (first, second) in [
        (&[("a", "1")][..], &[("a", "1")][..]),
        (&[("a", "1"), ("b", "2")], &[("b", "2"), ("a", "1")]),
        (&[], &[("a", "")]),
        (&[("a", "1")], &[("b", ""), ("a", "1")]),
    ] {
        let message = error("g", Kind::Gauge, &|family| {
            family.sample(first, 1.0).sample(second, 2.0);
        });
        assert!(
            message.starts_with("family g: two of its metrics have the labels"),
            "{message}"
        );
    }
    assert_eq!(
        error("c", Kind::Counter, &|family| {
            family.histogram(&[], &[], &[1], 1.0);
        }),
        "family c is a counter: it cannot hold a histogram"
    );
    assert_eq!(
        error("h", Kind::Histogram, &|_| {}),
        "family h is a histogram: it cannot hold a single value"
    );
    let histogram = |labels: &[(&str, &str)], bounds: &[f64], counts: &[u64]| {
        error("h", Kind::Histogram, &|family| {
            family.histogram(labels, bounds, counts, 1.0);
        })
    };
    assert_eq!(
        histogram(&[("le", "1")], &[], &[1]),
        "family h: label \"le\" is given twice"
    );
    for bounds in [
        &[2.0, 1.0][..],
        &[1.0, 1.0],
        &[1.0, f64::INFINITY],
        &[f64::NAN, 1.0],
    ] {
        assert!(histogram(&[], bounds, &[1, 2, 3]).contains("bounds must be finite"));
    }
    for counts in [&[1, 2][..], &[3, 2, 4]] {
        assert!(histogram(&[], &[1.0, 2.0], counts).contains("a cumulative count for each"));
    }
    assert!(
        error("s", Kind::Summary, &|family| {
            family.summary(&[], &[(1.5, 1.0)], 1.0, 1);
        })
        .contains("quantiles from 0 to 1")
    );
    assert_eq!(
        error("wait_ms", Kind::Gauge, &|family| {
            family.unit("seconds");
        }),
        "family wait_ms: its name does not end in its unit, _seconds"
    );
}
