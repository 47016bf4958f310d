use std::hash::{BuildHasherDefault, DefaultHasher};

use super::*;
use crate::exposition::{CanonicalOptions, TextLimits, TimestampPolicy, canonicalize};

fn families(text: &str) -> Vec<FamilyText> {
    const HASH: &BuildHasherDefault<DefaultHasher> = &BuildHasherDefault::new();
    let options = CanonicalOptions {
        limits: TextLimits::default(),
        added: &[],
        timestamps: TimestampPolicy::Keep,
        hash: HASH,
    };
    canonicalize(text, &options).unwrap()
}

fn batch_of(text: &str, config: &Aggregation) -> Result<Batch, Rejection> {
    batch(&families(text), config, None)
}

fn config_with(change: impl FnOnce(&mut Aggregation)) -> Aggregation {
    let mut config = Aggregation::default();
    change(&mut config);
    config
}

fn rule(pattern: &str, policy: Option<Policy>, drop: &[&str]) -> Rule {
    Rule {
        pattern: pattern.to_owned(),
        policy,
        drop_labels: drop.iter().map(|&label| label.to_owned()).collect(),
    }
}

/// Each update as text: family, labels, kind and change.
fn describe(batch: &Batch) -> Vec<String> {
    let updates = batch.updates.iter();
    updates
        .map(|it| {
            let (family, kind) = (&it.family, it.kind.as_str());
            format!("{family}{{{}}} {kind} {:?}", it.labels, it.change)
        })
        .collect()
}

const EACH_KIND: &str = "# TYPE c_total counter\nc_total{b=\"1\",a=\"2\"} 3\n# TYPE g gauge\ng 4\n\
                         u 5\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 2\ns_count 3\n\
                         # TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";

#[test]
fn each_kind_has_a_default_combination() {
    let updates = describe(&batch_of(EACH_KIND, &config_with(|_| {})).unwrap());
    assert_eq!(
        updates,
        [
            "c_total{a=\"2\",b=\"1\"} counter Add(3.0)",
            "g{} gauge Set(4.0)",
            "u{} untyped Add(5.0)",
            "s{} summary Summary { sum: Some(2.0), count: Some(3.0), quantiles: [(0.5, 1.0)] }",
            "h{} histogram Histogram { buckets: [(1.0, 1.0), (inf, 2.0)], sum: Some(3.0), count: Some(2.0) }",
        ]
    );
}

#[test]
fn gauges_follow_the_configured_policy() {
    for (policy, change) in [
        (Policy::Last, "Set(1.0)"),
        (Policy::Sum, "Add(1.0)"),
        (Policy::Min, "Min(1.0)"),
        (Policy::Max, "Max(1.0)"),
    ] {
        let config = config_with(|config| config.gauges = policy);
        let batch = batch_of("# TYPE g gauge\ng 1\n", &config).unwrap();
        assert_eq!(describe(&batch), [format!("g{{}} gauge {change}")]);
    }
}

#[test]
fn the_first_matching_rule_applies() {
    let config = config_with(|config| {
        config.rules = vec![
            rule("c_*", Some(Policy::Max), &["a"]),
            rule("*", Some(Policy::Last), &[]),
        ];
    });
    let text = "# TYPE c_total counter\nc_total{b=\"1\",a=\"2\"} 3\nu 5\n";
    assert_eq!(
        describe(&batch_of(text, &config).unwrap()),
        ["c_total{b=\"1\"} counter Max(3.0)", "u{} untyped Set(5.0)"]
    );
    // A replaced histogram is deleted first, then added.
    let text = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\n";
    let updates = describe(&batch_of(text, &config).unwrap());
    assert_eq!(updates[0], "h{} histogram Delete");
    assert!(updates[1].contains("Histogram {"), "{}", updates[1]);
}

#[test]
fn clearmode_overrides_the_settings() {
    let config = config_with(|config| config.gauges = Policy::Max);
    let text = "# TYPE g gauge\ng{clearmode=\"sum\",a=\"1\"} 1\ng{clearmode=\"replace\"} 2\n\
                # TYPE w_total counter\nw_total{clearmode=\"mean5m\"} 3\n\
                # TYPE i gauge\ni{clearmode=\"info\",version=\"1\"} 1\n";
    let batch = batch_of(text, &config).unwrap();
    assert_eq!(
        describe(&batch),
        [
            "g{a=\"1\"} gauge Add(1.0)",
            "g{} gauge Set(2.0)",
            "w_total{} gauge Window { mean: true, span: 300s, value: 3.0 }",
            "i{version=\"1\"} gauge Set(1.0)",
        ]
    );
    assert_eq!(batch.replace, [Arc::from("i")]);
}

#[test]
fn rejections_name_the_family_and_the_line() {
    let rejection = |text: &str| {
        batch_of(text, &config_with(|_| {}))
            .unwrap_err()
            .to_string()
    };
    assert!(
        rejection("u 1\nm{clearmode=\"never\"} 1\n")
            .starts_with("family m, line 2: clearmode \"never\" is not known"),
    );
    let window = "# TYPE h histogram\nh_bucket{le=\"+Inf\",clearmode=\"sum5m\"} 2\n";
    assert!(rejection(window).ends_with("a histogram has no window (clearmode)"));
    assert!(rejection("# TYPE h histogram\nh 1\n").ends_with("h is not part of a histogram"));
    let config = config_with(|config| config.rules = vec![rule("h", Some(Policy::Min), &[])]);
    let rejected = batch_of("# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\n", &config);
    assert!(rejected.unwrap_err().message.ends_with("(policy \"min\")"));
}

#[test]
fn patterns_match_whole_names() {
    for (pattern, name, expected) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a*", "ab", true),
        ("*b", "ab", true),
        ("*", "", true),
        ("a*b", "ab", true),
        ("ab*b", "ab", false),
        ("a*b*c", "axbxc", true),
        ("a*b*c", "axcxb", false),
        ("*x*x*", "axa", false),
        ("*é*", "aéa", true),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
    }
}
