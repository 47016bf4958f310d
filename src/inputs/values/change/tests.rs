use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::exposition::{CanonicalOptions, canonicalize};
use crate::store::StoreLimits;

struct Fixture {
    values: Changer,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        Fixture::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let limits = StoreLimits {
            apps: 1,
            groups: 1,
            bytes: 1 << 20,
            registry: crate::registry::RegistryLimits::default(),
        };
        let hash = std::hash::RandomState::new();
        Fixture {
            values: Changer {
                admission: Arc::new(Admission::new(
                    config.exposition,
                    config.push.aggregation,
                    true,
                    hash,
                )),
            },
            store: Store::new(limits, false),
        }
    }

    fn send(&self, action: Action, format: BodyFormat, body: &str) -> Result<String, Rejection> {
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        let body = Body {
            content_type: "",
            bytes: &bytes,
        };
        let addition = Addition::default();
        let done = self
            .values
            .change(&self.store, (action, format), body, &addition, Now::read());
        done.map(|(_, report)| report)
    }

    #[track_caller]
    fn create(&self, body: &str) -> String {
        self.send(Action::Create, format(body), body).unwrap()
    }

    #[track_caller]
    fn update(&self, body: &str) -> String {
        self.send(Action::Update, format(body), body).unwrap()
    }

    fn text(&self) -> String {
        let texts = self.store.snapshot().texts();
        let all: Vec<u8> = texts.flat_map(|piece| piece.to_vec()).collect();
        String::from_utf8(all).unwrap()
    }
}

fn format(body: &str) -> BodyFormat {
    if body.starts_with(['[', '{']) {
        BodyFormat::Json
    } else {
        BodyFormat::Text
    }
}

const COUNTER: &str = r#"[{"name":"hits_total","help":"Pages\nshown.","type":"COUNTER","metrics":[
    {"labels":{"b":"x\"y","a":"1"},"value":"1.5"},{"value":2}]}]"#;

#[test]
fn a_created_counter_is_added_to() {
    let fixture = Fixture::new();
    let report = "created metric...\nhits_total{a=\"1\",b=\"x\\\"y\"} 1.5\nhits_total{} 2\n\n";
    assert_eq!(fixture.create(COUNTER), report);
    assert_eq!(fixture.create(COUNTER), report, "it is there already");
    assert_eq!(
        fixture.text(),
        "# HELP hits_total Pages\\nshown.\n# TYPE hits_total counter\n\
         hits_total{a=\"1\",b=\"x\\\"y\"} 3\nhits_total 4\n"
    );
}

/// pingpong makes every family a counter. Its users send values first, and the type in a
/// later file.
#[test]
fn a_family_can_be_typed_after_its_creation() {
    for (kind, total) in [("counter", "7"), ("gauge", "1")] {
        let fixture = Fixture::new();
        fixture.create("x_total{a=\"1\"} 6\n");
        assert!(fixture.text().starts_with("# TYPE x_total untyped\n"));
        let typed = format!("# HELP x_total X.\n# TYPE x_total {kind}\nx_total{{a=\"1\"}} 1\n");
        assert_eq!(
            fixture.create(&typed),
            "created metric...\nx_total{a=\"1\"} 1\n\n"
        );
        let head = format!("# HELP x_total X.\n# TYPE x_total {kind}\n");
        assert_eq!(
            fixture.text(),
            format!("{head}x_total{{a=\"1\"}} {total}\n")
        );
        // Values without a type take the current one.
        let json =
            r#"[{"name":"x_total","type":"UNTYPED","metrics":[{"labels":{"b":"2"},"value":"3"}]}]"#;
        fixture.create(json);
        assert!(
            fixture.text().starts_with(&head) && fixture.text().ends_with("x_total{b=\"2\"} 3\n")
        );
    }
    let fixture = Fixture::new();
    fixture.create("x_total -6\n");
    let typed = "# TYPE x_total counter\nx_total 1\n";
    let rejection = fixture
        .send(Action::Create, BodyFormat::Text, typed)
        .unwrap_err();
    assert_eq!(rejection.reason, Reason::KindConflict);
    assert_eq!(fixture.text(), "# TYPE x_total untyped\nx_total -6\n");
}

#[test]
fn an_update_changes_existing_families_only() {
    let fixture = Fixture::new();
    let body = |value: &str| format!("{{\"name\":\"hits_total\",\"metrics\":[{{{value}}}]}}");
    assert_eq!(fixture.update(&body("\"value\":3")), "");
    assert_eq!(fixture.text(), "");
    fixture.create(COUNTER);
    for (value, total) in [
        ("\"value\":3", "5"),
        ("\"value\":\"0.25\"", "5.25"),
        ("\"value\":0", "6.25"),
        ("\"value\":-7", "7.25"),
        ("", "8.25"),
    ] {
        assert_eq!(
            fixture.update(&body(value)),
            format!("hits_total{{}} {total}\n")
        );
    }
    let other = fixture.update("hits_total{z=\"new\"} 4 1700000000000\nnobody_knows 1\n");
    assert_eq!(other, "hits_total{z=\"new\"} 4\n");
    assert!(!fixture.text().contains("nobody_knows"));
}

#[test]
fn each_kind_is_added_as_in_pushes() {
    let fixture = Fixture::new();
    let json = r#"[{"name":"g","type":"GAUGE","metrics":[{"value":-2}]},
        {"name":"h","type":"HISTOGRAM","metrics":[{"labels":{"a":"1"},"buckets":{"1":"1","+Inf":"3"},"count":"3","sum":"4"}]},
        {"name":"s","type":"SUMMARY","metrics":[{"quantiles":{"0.5":"1"},"count":"3","sum":"4"}]},
        {"name":"u","metrics":[{"value":-1}]}]"#;
    assert_eq!(
        fixture.create(json),
        "created metric...\ng{} -2\n\ncreated metric...\nh_count{a=\"1\"} 3\n\n\
         created metric...\ns_count{} 3\n\ncreated metric...\nu{} -1\n\n"
    );
    let text = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 0\nh_bucket{a=\"1\",le=\"+Inf\"} 1\nh_sum{a=\"1\"} 1\nh_count{a=\"1\"} 1\n\
                # TYPE s summary\ns_sum 1\ns_count 1\ng 5\nu 2\n";
    assert_eq!(
        fixture.update(text),
        "h_count{a=\"1\"} 4\ns_count{} 4\ng{} 5\nu{} 1\n"
    );
    assert_eq!(
        fixture.text(),
        "# TYPE g gauge\ng 5\n# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 1\nh_bucket{a=\"1\",le=\"+Inf\"} 4\nh_sum{a=\"1\"} 5\nh_count{a=\"1\"} 4\n\
         # TYPE s summary\ns_sum 5\ns_count 4\n# TYPE u untyped\nu 1\n"
    );
}

#[test]
fn a_family_can_be_sent_in_parts() {
    let fixture = Fixture::new();
    let report = fixture.create(
        r#"[{"name":"m_total","metrics":[{"value":1}]},{"name":"o","metrics":[{"value":1}]},
            {"name":"m_total","type":"counter","help":"M.","metrics":[{"value":2},{"labels":{"a":""},"value":4}]}]"#,
    );
    assert_eq!(
        report,
        "created metric...\nm_total{} 1\nm_total{} 2\nm_total{} 4\n\ncreated metric...\no{} 1\n\n"
    );
    assert!(
        fixture
            .text()
            .starts_with("# HELP m_total M.\n# TYPE m_total counter\nm_total 7\n")
    );
}

#[test]
fn names_are_quoted_if_needed() {
    let fixture = Fixture::new();
    let report = fixture.create(r#"{"name":"my.hits","type":"COUNTER","metrics":[{"value":1},{"labels":{"a.b":"c"},"value":2}]}"#);
    assert_eq!(
        report,
        "created metric...\n{\"my.hits\"} 1\n{\"my.hits\",\"a.b\"=\"c\"} 2\n\n"
    );
}

#[test]
fn a_rejected_body_changes_nothing() {
    let fixture = Fixture::new();
    fixture.create(COUNTER);
    let before = fixture.text();
    for (rest, reason, words) in [
        (
            r#"{"name":"n_total","type":"COUNTER","metrics":[{"value":1},{"value":-1}]}"#,
            Reason::BadValue,
            "[1].metrics[1] of n_total: its value is -1",
        ),
        (
            r#"{"name":"n","type":"GAUGE","metrics":[{"value":"NaN"}]}"#,
            Reason::BadValue,
            "NaN",
        ),
        (
            r#"{"name":"n_total","type":"COUNTER","metrics":[{"value":"+Inf"}]}"#,
            Reason::BadValue,
            "infinite",
        ),
        (
            r#"{"name":"n","type":"GAUGE","metrics":[{}]}"#,
            Reason::BadValue,
            "no value",
        ),
        (
            r#"{"name":"n","type":"HISTOGRAM","metrics":[{"value":1}]}"#,
            Reason::BadValue,
            "single value",
        ),
        (
            r#"{"name":"n","type":"GAUGE","metrics":[{"buckets":{},"count":1}]}"#,
            Reason::BadValue,
            "is a histogram",
        ),
        (
            r#"{"name":"n","type":"HISTOGRAM","metrics":[{"buckets":{"1":2,"2":1},"count":2}]}"#,
            Reason::BadValue,
            "series n",
        ),
        (
            r#"{"name":"n","metrics":[{"labels":{"":"x"},"value":1}]}"#,
            Reason::BadValue,
            "no name",
        ),
        (
            r#"{"name":"n","metrics":[{"labels":{"a":"1","a":"2"},"value":1}]}"#,
            Reason::BadValue,
            "given twice",
        ),
        (
            r#"{"name":"n","type":"HISTOGRAM","metrics":[{"labels":{"le":"1"},"count":1}]}"#,
            Reason::BadLabels,
            "label le",
        ),
        (
            r#"{"name":"hits_total","type":"GAUGE","metrics":[{"value":1}]}"#,
            Reason::KindConflict,
            "a gauge here, and a counter before",
        ),
        (
            r#"{"name":"","metrics":[{"value":1}]}"#,
            Reason::BadName,
            "not a valid family name",
        ),
        (
            r#"{"name":"a\u0000b","metrics":[{"value":1}]}"#,
            Reason::BadName,
            "not a valid family name",
        ),
        (
            r#"{"name":"n","metrics":[{"labels":{"a\u0000b":"1"},"value":1}]}"#,
            Reason::BadValue,
            "has NUL in its name",
        ),
        (
            r#"{"name":"exporter_proxy_x","metrics":[{"value":1}]}"#,
            Reason::ReservedName,
            "proxy's own",
        ),
        (
            r#"{"name":"n","metrics":[{"value":"1,5"}]}"#,
            Reason::Malformed,
            "is not a number",
        ),
    ] {
        let body = format!("{},{rest}]", COUNTER.strip_suffix(']').unwrap());
        let rejection = fixture
            .send(Action::Create, BodyFormat::Json, &body)
            .unwrap_err();
        assert_eq!(rejection.reason, reason, "{rejection}");
        assert!(rejection.message.contains(words), "{rejection}");
        assert_eq!(fixture.text(), before, "{rest}");
    }
    for (text, words) in [
        (
            "ok 1\n# TYPE n_total counter\nn_total{a=\"1\"} -1\n",
            "family n_total, line 3, {a=\"1\"}: its value is -1",
        ),
        ("ok 1\nn NaN\n", "NaN"),
        ("ok 1\nbad{a=\"1\" 2\n", "line 2, column"),
        (
            "ok 1\n# TYPE hits_total gauge\nhits_total 1\n",
            "a gauge here, and a counter already",
        ),
        (
            "ok 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1.0\"} 1\n",
            "one bound twice",
        ),
    ] {
        let rejection = fixture
            .send(Action::Create, BodyFormat::Text, text)
            .unwrap_err();
        assert!(rejection.message.contains(words), "{rejection}");
        assert_eq!(fixture.text(), before, "{text}");
    }
    let nan = fixture.send(Action::Update, BodyFormat::Text, "hits_total NaN\n");
    assert_eq!(nan.unwrap_err().reason, Reason::BadValue);
    assert_eq!(fixture.text(), before);
}

/// As docs/pushing.md describes rejected values.
#[test]
fn an_update_rejects_invalid_numbers_of_unknown_families_too() {
    let fixture = Fixture::new();
    fixture.create(COUNTER);
    let mut before = fixture.text();
    for name in ["hits_total", "nobody_knows"] {
        for (rest, reason) in [
            ("\"metrics\":[{\"value\":\"NaN\"}]", Some(Reason::BadValue)),
            (
                "\"metrics\":[{\"value\":\"many\"}]",
                Some(Reason::Malformed),
            ),
            ("\"metrics\":[{\"value\":-1},{}]", None),
        ] {
            let body = format!("{{\"name\":\"{name}\",{rest}}}");
            let sent = fixture.send(Action::Update, BodyFormat::Json, &body);
            assert_eq!(
                sent.as_ref().err().map(|rejection| rejection.reason),
                reason
            );
        }
        let counted = fixture.text() != before;
        assert_eq!(counted, name == "hits_total");
        before = fixture.text();
    }
    let gauge = r#"{"name":"nobody_knows","type":"GAUGE","metrics":[{}]}"#;
    let rejection = fixture
        .send(Action::Update, BodyFormat::Json, gauge)
        .unwrap_err();
    assert_eq!(rejection.reason, Reason::BadValue);
}

#[test]
fn labels_are_limited() {
    let fixture = Fixture::with(|config| {
        config.exposition.max_labels = 1;
        config.exposition.max_label_length = 3;
    });
    for (labels, words) in [
        (
            r#"{"a":"1","b":"2"}"#,
            "more than 1 label (exposition.max_labels)",
        ),
        (
            r#"{"a":"1234"}"#,
            "more than 3 bytes (exposition.max_label_length)",
        ),
    ] {
        let body = format!("{{\"name\":\"m\",\"metrics\":[{{\"value\":1,\"labels\":{labels}}}]}}");
        let rejection = fixture
            .send(Action::Create, BodyFormat::Json, &body)
            .unwrap_err();
        assert_eq!(rejection.reason, Reason::TooManySamples, "{rejection}");
        assert!(rejection.message.contains(words), "{rejection}");
    }
}

#[test]
fn reports_are_limited() {
    let fixture = Fixture::new();
    let name = "n".repeat(16 << 10);
    let body = |items: usize| {
        let items = vec!["{\"value\":1}"; items].join(",");
        format!("{{\"name\":\"{name}\",\"metrics\":[{items}]}}")
    };
    let rejection = fixture.send(Action::Create, BodyFormat::Json, &body(1100));
    let rejection = rejection.unwrap_err();
    assert_eq!(rejection.reason, Reason::TooLarge);
    assert!(
        rejection
            .message
            .contains("send the values in several parts")
    );
    assert_eq!(fixture.text(), "", "nothing is changed");
    assert!(fixture.create(&body(1000)).len() <= MAX_REPORT);
    // An update reports a series once.
    assert_eq!(fixture.update(&body(1100)), format!("{name}{{}} 2100\n"));
}

#[test]
fn reports_are_within_their_upper_bound() {
    for (name, labels) in [
        ("m", ""),
        ("my.hits", ""),
        ("my.hits", "a=\"b\""),
        ("m", "a=\"b\""),
    ] {
        let pairs = crate::exposition::label_pairs(labels);
        let pairs = pairs.map(|label| (label.name, label.value));
        let numbers = [f64::MIN, -f64::MIN_POSITIVE, -1e20 / 3.0, f64::NEG_INFINITY];
        let rows = numbers.map(|sent| ReportLine {
            labels: LabelText::from_escaped(pairs.clone()).unwrap(),
            sent,
            suffix: "_count",
        });
        let changed = FamilyReport {
            name: name.into(),
            rows: rows.into(),
        };
        let longest = changed.max_bytes();
        let report = created_text(&[changed]);
        assert!(report.len() <= longest, "{report}");
    }
}

#[test]
fn an_update_reports_each_series_once() {
    let fixture = Fixture::new();
    fixture.create("b_total 1\n# TYPE h histogram\nh_count 1\nh_bucket{le=\"+Inf\"} 1\nz 1\n");
    let report = fixture.update(
        r#"[{"name":"nobody","metrics":[{"value":1},{"value":1,"labels":{"a":"1"}}]},
            {"name":"z","metrics":[{"value":2,"labels":{"a":"1"}},{"value":2}]},
            {"name":"none","metrics":[{"value":1}]},
            {"name":"h","metrics":[{"count":2,"labels":{"clearmode":"replace"}},{"count":3}]},
            {"name":"b_total","metrics":[{"value":1},{"value":5,"labels":{"a":"1"}},{"value":1}]},
            {"name":"z","metrics":[{"value":7,"labels":{"a":"1"}}]}]"#,
    );
    assert_eq!(
        report,
        "z{a=\"1\"} 9\nz{} 3\nh_count{} 5\nb_total{} 3\nb_total{a=\"1\"} 5\n"
    );
}

#[test]
fn the_content_type_decides_the_format() {
    for (name, format) in [
        ("application/json", Some(BodyFormat::Json)),
        ("Application/JSON ; charset=utf-8", Some(BodyFormat::Json)),
        ("text/plain; version=0.0.4", Some(BodyFormat::Text)),
        ("application/x-www-form-urlencoded", Some(BodyFormat::Text)),
        ("", None),
        ("text/html", None),
        ("application/json,text/plain", None),
    ] {
        assert_eq!(BodyFormat::of(name).ok(), format, "{name}");
    }
    assert_eq!(
        BodyFormat::of(" ;x").unwrap_err().reason,
        Reason::BadParameter
    );
    assert_eq!(
        BodyFormat::of("text/html").unwrap_err().reason,
        Reason::UnsupportedMedia
    );
}

/// Text as JSON, with all characters that are special in a text of metrics.
fn strange() -> impl Strategy<Value = String> {
    let text = "[ab_.é \"\\\\\n\r\t\0#{}=,0]{0,4}";
    text.prop_map(|text| serde_json::to_string(&text).unwrap())
}

/// A family whose words may all contain special characters.
fn strange_family() -> impl Strategy<Value = String> {
    let kind = prop_oneof![
        Just(("COUNTER", "\"value\":1")),
        Just(("GAUGE", "\"value\":\"NaN\"")),
        Just(("GAUGE", "\"value\":\"-Inf\"")),
        Just(("UNTYPED", "\"value\":-0.5")),
        Just(("SUMMARY", "\"quantiles\":{\"0.5\":1},\"sum\":1,\"count\":2")),
        Just(("HISTOGRAM", "\"buckets\":{\"1\":1,\"2.5\":1},\"count\":2")),
    ];
    let labels = prop::collection::vec((strange(), strange()), 0..3);
    let words = (strange(), "[a-c][ab_.]{0,2}", any::<bool>(), strange());
    (words, labels, kind).prop_map(|((name, plain, is_plain, help), labels, (kind, value))| {
        let name = if is_plain { format!("{plain:?}") } else { name };
        let labels = labels.iter().map(|(name, value)| format!("{name}:{value}"));
        let labels = labels.collect::<Vec<_>>().join(",");
        format!(
            "{{\"name\":{name},\"help\":{help},\"type\":\"{kind}\",\"metrics\":[{{\"labels\":{{{labels}}},{value}}}]}}"
        )
    })
}

/// A piece of JSON that is a family or resembles one.
fn family() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        4 => "[0-9]{1,3}",
        1 => "-[0-9]",
        1 => Just("\"NaN\"".to_owned()),
        1 => Just("\"1e308\"".to_owned()),
        1 => Just("{}".to_owned()),
    ];
    let item = prop_oneof![
        6 => (value, "[ab]?").prop_map(|(value, label)| format!("{{\"value\":{value},\"labels\":{{\"{label}\":\"x\"}}}}")),
        1 => Just("{}".to_owned()),
        1 => Just("{\"count\":2,\"buckets\":{\"1\":1}}".to_owned()),
        1 => Just("{\"count\":1,\"buckets\":{\"1\":2}}".to_owned()),
    ];
    let kind = prop_oneof![Just("COUNTER"), Just("GAUGE"), Just("HISTOGRAM"), Just("")];
    let items = prop::collection::vec(item, 0..3);
    ("[mn](_count)?", kind, items).prop_map(|(name, kind, items)| {
        format!(
            "{{\"name\":\"{name}\",\"type\":\"{kind}\",\"metrics\":[{}]}}",
            items.join(",")
        )
    })
}

proptest! {
    #[test]
    fn a_body_is_applied_completely_or_not_at_all(
        bodies in prop::collection::vec((any::<bool>(), prop::collection::vec(family(), 1..4)), 1..6)
    ) {
        let fixture = Fixture::new();
        for (update, families) in bodies {
            let action = if update { Action::Update } else { Action::Create };
            let before = fixture.text();
            let body = format!("[{}]", families.join(","));
            match fixture.send(action, BodyFormat::Json, &body) {
                Err(rejection) => {
                    prop_assert!(!rejection.message.is_empty());
                    prop_assert_eq!(fixture.text(), before);
                }
                Ok(report) => {
                    let after = fixture.text();
                    let created = report.lines().filter(|line| *line == "created metric...").count();
                    let types = |text: &str| text.matches("# TYPE ").count();
                    let new = types(&after) - types(&before);
                    prop_assert!(new <= created && (created > 0) == (action == Action::Create));
                    prop_assert!(!after.contains("NaN"));
                }
            }
        }
    }

    #[test]
    fn accepted_values_give_valid_text(bodies in prop::collection::vec(strange_family(), 1..8)) {
        let fixture = Fixture::new();
        for body in &bodies {
            let _ = fixture.send(Action::Create, BodyFormat::Json, body);
            let text = fixture.text();
            let options = CanonicalOptions {
                limits: crate::exposition::TextLimits::default(),
                added: &[],
                timestamps: TimestampPolicy::Refuse,
                hash: &std::hash::RandomState::new(),
            };
            let read = canonicalize(&text, &options);
            prop_assert!(read.is_ok(), "{:?}: {:?}", read, text);
        }
    }

    #[test]
    fn no_text_causes_a_panic(text in "(m|n_total|# TYPE m counter\n|[{}=,\"]|a=\"1\"| |-?[0-9]|NaN|\n){0,30}") {
        let fixture = Fixture::new();
        for action in [Action::Create, Action::Update] {
            if fixture.send(action, BodyFormat::Text, &text).is_err() {
                prop_assert_eq!(fixture.text(), "");
            }
        }
    }
}
