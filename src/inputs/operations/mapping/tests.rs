use super::*;

#[track_caller]
fn mapping(text: &str) -> Mapping {
    Mapping::parse(text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
}

/// The result for a name: the number of the rule, and the family with its labels.
fn result(mapping: &Mapping, name: &str, source: SourceType) -> String {
    let found = mapping.find(name, source);
    let rule = found.rule_number().map(|rule| rule.to_string());
    let rule = rule.unwrap_or_else(|| "-".to_owned());
    match found.outcome {
        Outcome::Dropped => format!("{rule} dropped"),
        Outcome::Series { family, labels, .. } => {
            let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
            let all: Vec<String> = [family.to_string()].into_iter().chain(labels).collect();
            format!("{rule} {}", all.join(" "))
        }
    }
}

#[track_caller]
fn check(text: &str, cases: &[(&str, &str)]) {
    let mapping = mapping(text);
    for (name, expected) in cases {
        assert_eq!(
            result(&mapping, name, SourceType::Counter),
            *expected,
            "{name} in\n{text}"
        );
    }
}

#[test]
fn globs_capture_the_parts_of_names() {
    let rules = "
mappings:
- match: shop.cart.*.*.*
  name: cart_events_total
  labels: {item: $1, verb: $2, outcome: $3, job: cart}
- match: shop.front-end-7.sort.cart.*
  name: host_events
  labels: {item: $1}
- match: span.*.*.*.*.*.*.*.*.*.*.*
  name: span
  labels: {a: '${1}', j: '${10}', k: '${11}'}
- match: '*.*'
  name: pair
  labels: {first: $1, second: $2, third: $3, all: $1-$2-$3, bad: $1_x, zero: $0}
- match: '*.signup.*.*'
  name: '${2}_total'
  labels: {job: '${1}_server', shop: }
- match: named.*.*.*.9-counter
  name: $1
";
    check(
        rules,
        &[
            (
                "shop.cart.Book.add.ok",
                "1 cart_events_total item=Book job=cart outcome=ok verb=add",
            ),
            ("shop.front-end-7.sort.cart.Pen", "2 host_events item=Pen"),
            (
                "span.get/a/1.b.c.d.e.f.g.h.i.jj.",
                "3 span a=get/a/1 j=jj k=",
            ),
            (
                "red.blue",
                "4 pair all=red-blue- bad= first=red second=blue third= zero=red.blue",
            ),
            (
                "red.",
                "4 pair all=red-- bad= first=red second= third= zero=red.",
            ),
            ("web.signup.x-y.no", "5 x_y_total job=web_server shop="),
            ("named.9lives.b.c.9-counter", "6 _9lives"),
            ("one", "- one"),
            ("shop.cart.only", "- shop_cart_only"),
            ("shop.cart.a.b.c.d", "- shop_cart_a_b_c_d"),
            ("a--b.c.d-e..f", "- a_b_c_d_e__f"),
        ],
    );
}

#[test]
fn the_first_glob_wins_unless_the_order_is_off() {
    let rules = "
mappings:
- {match: o.*.*, name: a, labels: {l: $1}}
- {match: o.*.b, name: b, labels: {l: $1}}
- {match: o.c.b, name: c}
- {match: '*.x.*', name: d, labels: {l: $1, m: $2}}
- {match: full.name.*, name: e, labels: {l: $1}}
- {match: back.*.bbb, name: f, labels: {l: $1}}
- {match: back.track.aaa, name: g, labels: {l: '${1}_x'}}
";
    check(
        rules,
        &[
            ("o.c.b", "1 a l=c"),
            ("q.x.r", "4 d l=q m=r"),
            ("full.name.r", "5 e l=r"),
            ("full.x.r", "4 d l=full m=r"),
            ("back.track.bbb", "6 f l=track"),
            ("back.track.aaa", "7 g l=_x"),
        ],
    );
    check(
        &format!("defaults: {{glob_disable_ordering: true}}{rules}"),
        &[
            ("o.c.b", "3 c"),
            ("o.d.b", "2 b l=d"),
            ("o.d.e", "1 a l=d"),
            ("back.good.bbb", "6 f l=good"),
            ("back.track.bbb", "6 f l=track"),
            ("back.track.aaa", "7 g l=_x"),
        ],
    );
}

#[test]
fn regular_expressions_come_after_globs_in_order() {
    let rules = r#"
defaults: {match_type: regex}
mappings:
- {match: '(.*)\.(.*)-(.*)\.(.*)', name: proxied, labels: {job: $1, how: $2, end: $3, ok: $4}}
- {match: 'deep\.(\w+)\.(?P<verb>\w+)', name: '${2}_$1', labels: {verb: '$verb', none: $9}}
- {match: web.*, match_type: glob, name: web, labels: {site: $1}}
- {match: ., action: drop}
"#;
    check(
        rules,
        &[
            (
                "p-1.http-goober.good",
                "1 proxied end=goober how=http job=p-1 ok=good",
            ),
            ("x.deep.all.get.y", "2 get_all none= verb=get"),
            ("web.deep", "3 web site=deep"),
            ("other", "4 dropped"),
        ],
    );
}

#[test]
fn rules_match_types() {
    let mapping = mapping(
        "
mappings:
- {match: a.*, name: sums, match_metric_type: counter}
- {match: a.*, name: now, match_metric_type: gauge}
- {match: 'a.(.*)', match_type: regex, name: regex_counter, match_metric_type: counter}
- {match: 'a.(.*)', match_type: regex, name: times, match_metric_type: timer}
- {match: b, name: spread, match_metric_type: observer}
",
    );
    for (name, source, expected) in [
        ("a.x", SourceType::Counter, "1 sums"),
        ("a.x", SourceType::Gauge, "2 now"),
        ("a.x", SourceType::Observer, "4 times"),
        ("a.x.y", SourceType::Counter, "3 regex_counter"),
        ("a.x.y", SourceType::Gauge, "- a_x_y"),
        ("b", SourceType::Observer, "5 spread"),
        ("b", SourceType::Counter, "- b"),
    ] {
        assert_eq!(result(&mapping, name, source), expected);
    }
}

/// The options of the rule that matches a name.
fn options(mapping: &Arc<Mapping>, name: &str) -> RuleOptions {
    let mapper = Mapper::new(mapping, 10);
    let mapped = mapper.look_up(name, SourceType::Observer, &mut Tally::default());
    mapper.options(&mapped).clone()
}

fn summary(quantiles: &[f64], max_age: u64, age_buckets: u32) -> Observer {
    Observer::Summary(Arc::new(QuantileSpec {
        quantiles: quantiles.into(),
        max_age: Duration::from_secs(max_age),
        age_buckets,
    }))
}

#[test]
fn rules_have_the_options_of_the_defaults_unless_they_have_their_own() {
    let usual: [f64; 11] = [
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ];
    let native = |bounds: &[f64], schema, max_buckets| {
        let native = NativeSpec {
            schema,
            max_buckets,
        };
        Observer::Histogram(Arc::from(bounds), Some(native))
    };
    let bounds = |bounds: &[f64]| native(bounds, 3, 256);
    let classic = |bounds: &[f64]| Observer::Histogram(Arc::from(bounds), None);
    let none = Arc::new(mapping("
mappings:
- {match: plain, name: m}
- {match: h, name: m, observer_type: histogram}
- {match: old, name: m, timer_type: histogram, buckets: [1, 2]}
- {match: both, name: m, observer_type: summary, timer_type: histogram}
- {match: new, name: m, observer_type: histogram, histogram_options: {buckets: [1, 2.5, .inf], native_histogram_bucket_factor: 1.5, native_histogram_max_buckets: 160}}
- {match: none, name: m, observer_type: histogram, histogram_options: {native_histogram_bucket_factor: 1}}
- {match: ignored, name: m, histogram_options: {buckets: [1]}}
- {match: q, name: m, quantiles: [{quantile: 0.9, error: 0.01}, {quantile: 0.42, error: 0.04}]}
- match: s
  name: m
  observer_type: summary
  ttl: 10s
  scale: 0.001
  help: \"a \\\\ b\"
  honor_labels: true
  summary_options: {quantiles: [{quantile: 0.7, error: 0.002}], max_age: 5m, age_buckets: 2, buf_cap: 1000}
"));
    for (name, observer) in [
        ("plain", summary(&[0.5, 0.9, 0.99], 600, 5)),
        ("unmapped", summary(&[0.5, 0.9, 0.99], 600, 5)),
        ("h", bounds(&usual)),
        ("old", bounds(&[1.0, 2.0])),
        ("both", summary(&[0.5, 0.9, 0.99], 600, 5)),
        ("new", native(&[1.0, 2.5], 1, 160)),
        ("none", classic(&usual)),
        ("ignored", summary(&[0.5, 0.9, 0.99], 600, 5)),
        ("q", summary(&[0.42, 0.9], 600, 5)),
        ("s", summary(&[0.7], 300, 2)),
    ] {
        assert_eq!(options(&none, name).observer, observer, "{name}");
    }
    let own = options(&none, "s");
    assert_eq!(
        (own.scale, own.ttl),
        (Some(0.001), Some(Duration::from_secs(10)))
    );
    assert_eq!(
        (own.help.as_deref(), own.honor_labels),
        (Some("a \\\\ b"), true)
    );
    let plain = options(&none, "plain");
    assert_eq!(
        (plain.scale, plain.ttl, plain.help, plain.honor_labels),
        (None, None, None, false)
    );

    let some = Arc::new(mapping(
        "
defaults:
  observer_type: histogram
  ttl: 1m2s
  buckets: [7]
  histogram_options: {buckets: [3, 4], native_histogram_bucket_factor: 1, native_histogram_max_buckets: 9}
  quantiles: [{quantile: 0.1, error: 0}]
  summary_options: {max_age: 15m, age_buckets: 3}
mappings:
- {match: h, name: m}
- {match: own, name: m, ttl: 5s, histogram_options: {buckets: [5]}}
- {match: native, name: m, histogram_options: {native_histogram_bucket_factor: 2}}
- {match: s, name: m, observer_type: summary}
- {match: age, name: m, observer_type: summary, summary_options: {max_age: 5m}}
",
    ));
    for (name, observer, ttl) in [
        ("h", classic(&[3.0, 4.0]), 62),
        ("unmapped", classic(&[3.0, 4.0]), 62),
        ("own", classic(&[5.0]), 5),
        ("native", native(&[3.0, 4.0], 0, 9), 62),
        ("s", summary(&[0.1], 900, 3), 62),
        ("age", summary(&[0.1], 300, 3), 62),
    ] {
        let found = options(&some, name);
        assert_eq!(found.observer, observer, "{name}");
        assert_eq!(found.ttl, Some(Duration::from_secs(ttl)), "{name}");
    }
}

#[test]
fn files_without_rules_map_nothing() {
    for text in [
        "",
        "---\n",
        "mappings:\n",
        "mappings: []\n",
        "defaults: {}\n",
    ] {
        assert_eq!(mapping(text).rules(), 0);
        check(text, &[("a.b", "- a_b")]);
    }
}

/// A rule with additional or replaced fields.
fn rule(fields: &str) -> String {
    format!(
        "mappings:\n- match: ok\n  name: fine\n- {}\n",
        fields.replace("; ", "\n  ")
    )
}

#[test]
fn bad_rules_are_refused_with_their_number_and_line() {
    for (fields, words) in [
        ("match: bad--.(x; name: m", "rule 2: match must have parts"),
        ("match: a..b; name: m", "rule 2: match must have parts"),
        ("match: a.*b; name: m", "rule 2: match must have parts"),
        ("match: 9a.b; name: m", "rule 2: match must have parts"),
        ("match: a.b.; name: m", "rule 2: match must have parts"),
        ("match: a.-b; name: m", "rule 2: match must have parts"),
        ("name: m", "rule 2: match is missing"),
        ("match: a.*; labels: {a: b}", "rule 2: name is missing"),
        ("match: a.*; name: 0foo", "rule 2: name must have letters"),
        ("match: a.*; name: a-b", "rule 2: name must have letters"),
        ("match: a.*; name: a$", "rule 2: name must have letters"),
        ("match: a.*; name: a${x}", "rule 2: name must have letters"),
        (
            "match: a.*; name: m; labels: {a-b: c}",
            "rule 2: label names",
        ),
        (
            "match: a.*; name: m; labels: {__a: c}",
            "rule 2: label names",
        ),
        ("match: a.*; name: m; labels: {9: c}", "rule 2: label names"),
        (
            "match: '*\\.foo'; match_type: regex; name: m",
            "rule 2: match \"*\\\\.foo\" is not a valid",
        ),
        (
            "match: a; name: m; match_type: wrong",
            "rule 2: match_type must be",
        ),
        (
            "match: a; name: m; observer_type: wrong",
            "rule 2: observer_type must be",
        ),
        (
            "match: a; name: m; timer_type: wrong",
            "rule 2: timer_type must be",
        ),
        (
            "match: a; name: m; match_metric_type: wrong",
            "rule 2: match_metric_type must be",
        ),
        ("match: a; name: m; action: wrong", "rule 2: action must be"),
        ("match: a; name: m; scale: .inf", "rule 2: scale must be"),
        (
            "match: a; name: m; observer_type: summary; histogram_options: {}",
            "rule 2: a summary cannot",
        ),
        (
            "match: a; name: m; observer_type: histogram; summary_options: {}",
            "rule 2: a histogram cannot",
        ),
        (
            "match: a; name: m; observer_type: histogram; buckets: [1]; histogram_options: {buckets: [1]}",
            "rule 2: buckets and",
        ),
        (
            "match: a; name: m; quantiles: [{quantile: 0.5}]; summary_options: {quantiles: [{quantile: 0.5}]}",
            "rule 2: quantiles and",
        ),
        (
            "match: a; name: m; quantiles: [{quantile: 1.5}]",
            "rule 2: quantiles and their errors",
        ),
        (
            "match: a; name: m; observer_type: histogram; buckets: [2, 1]",
            "rule 2: buckets must be finite",
        ),
        (
            "match: a; name: m; observer_type: histogram; buckets: [.inf]",
            "rule 2: must have 1 to 200",
        ),
        (
            "match: a; name: m; summary_options: {age_buckets: 101}",
            "rule 2: has 101 age_buckets; the limit is 100",
        ),
    ] {
        let text = rule(fields);
        let problems = Mapping::parse(&text).unwrap_err();
        let [problem] = &problems[..] else {
            panic!("{problems:?}")
        };
        assert!(problem.message.starts_with(words), "{text}{problem:?}");
        assert_eq!(problem.at.unwrap().0, 4, "{text}{problem:?}");
    }
}

#[test]
fn bad_files_are_refused_with_the_line() {
    for (text, words, line) in [
        ("mappings:\n- match: a\n  nam: m\n", "nam", 3),
        ("mapping: []\n", "mapping", 1),
        ("mappings:\n- match: *.test.*\n  name: m\n", "", 2),
        (
            "mappings:\n- match: a\n  name: m\n  ttl: soon\n",
            "must be a duration such as 1m20s",
            4,
        ),
        (
            "mappings:\n- match: a\n  name: m\n  ttl: -5s\n",
            "must be a duration such as 1m20s",
            4,
        ),
        ("mappings:\n- match: a\n  name: m\n  scale: much\n", "", 4),
        (
            "defaults: {observer_type: x}\n",
            "defaults: observer_type must be",
            1,
        ),
        (
            "defaults: {buckets: [1, 1]}\n",
            "defaults: buckets must be finite",
            1,
        ),
        (
            "defaults: {glob_disable_orderin: true}\n",
            "glob_disable_orderin",
            1,
        ),
    ] {
        let problems = Mapping::parse(text).unwrap_err();
        let [problem] = &problems[..] else {
            panic!("{problems:?}")
        };
        assert!(problem.message.contains(words), "{text}{problem:?}");
        assert_eq!(problem.at.unwrap().0, line, "{text}{problem:?}");
    }
    let two = "mappings:\n- {match: a}\n- {name: b}\n";
    assert_eq!(Mapping::parse(two).unwrap_err().len(), 2);
    let many = "mappings:\n".to_owned() + &"- {match: a, name: b}\n".repeat(10_001);
    assert!(
        Mapping::parse(&many).unwrap_err()[0]
            .message
            .contains("the limit is 10000")
    );
}

#[test]
fn lookups_are_counted_and_remembered() {
    let mapping = Arc::new(mapping(
        "mappings:\n- {match: a.*, name: m}\n- {match: b.*, action: drop}\n",
    ));
    let mapper = Mapper::new(&mapping, 10);
    let mut tally = Tally::default();
    for name in ["a.x", "a.x", "b.x", "c", "c", "c"] {
        mapper.look_up(name, SourceType::Gauge, &mut tally);
    }
    let expected = Tally {
        mapped: 2,
        dropped: 1,
        unmapped: 3,
        cache_hits: 3,
        cache_misses: 3,
    };
    assert_eq!(tally, expected);
}
