use proptest::prelude::*;

use super::*;

const MAX_VALUES: usize = 100;

const MAX_FAMILIES: usize = 50;

const LIMITS: JsonLimits = JsonLimits {
    families: MAX_FAMILIES,
    values: MAX_VALUES,
    labels: 3,
    length: 8,
};

fn read(json: &str) -> Result<Vec<Family<'_>>, Rejection> {
    decode(json.as_bytes(), LIMITS).map(|(families, _)| families)
}

#[track_caller]
fn assert_rejected(json: &str, reason: Reason, words: &str) {
    let rejection = read(json).unwrap_err();
    assert_eq!(rejection.reason, reason, "{rejection}");
    assert!(rejection.message.contains(words), "{rejection}");
    assert!(rejection.line.is_some(), "{rejection}");
}

#[test]
fn every_kind_is_read_in_prom2json_s_shape() {
    let families = read(
        r#"[{"name":"c_total","help":"A \"c\".","type":"COUNTER","metrics":[
              {"labels":{"a":"1","b":"\u00e9"},"timestamp_ms":"1700000000000","value":"1.5e+06"}]},
            {"name":"h","type":"Histogram","metrics":[
              {"buckets":{"+Inf":"4","1e-05":1},"count":"4","sum":"0.5"}]},
            {"name":"s","type":"SUMMARY","metrics":[{"quantiles":{"0.5":"NaN"},"count":2},{"sum":1}]},
            {"name":"u","help":null,"metrics":[{"value":-1},{},{"labels":null,"value":null,"x":[{}]}]}]"#,
    )
    .unwrap();
    let shown: Vec<_> = families.iter().map(|it| (&*it.name, it.kind)).collect();
    assert_eq!(
        shown,
        [
            ("c_total", Kind::Counter),
            ("h", Kind::Histogram),
            ("s", Kind::Summary),
            ("u", Kind::Untyped)
        ]
    );
    assert_eq!(families[0].help.as_deref(), Some("A \"c\"."));
    let counter = &families[0].items[0];
    assert_eq!(
        counter.labels,
        [("a".into(), "1".into()), ("b".into(), "é".into())]
    );
    assert_eq!(counter.value, Some(MetricValue::Untyped(1.5e6)));
    assert_eq!(
        families[1].items[0].value,
        Some(MetricValue::Histogram {
            buckets: vec![(1e-5, 1.0), (f64::INFINITY, 4.0)],
            sum: Some(0.5),
            count: Some(4.0),
        })
    );
    assert!(matches!(
        families[2].items[0].value,
        Some(MetricValue::Summary {
            count: Some(2.0),
            ..
        })
    ));
    assert_eq!(
        families[2].items[1].value,
        Some(MetricValue::Summary {
            quantiles: Vec::new(),
            sum: Some(1.0),
            count: None
        })
    );
    let values: Vec<_> = families[3].items.iter().map(|item| &item.value).collect();
    assert_eq!(values, [&Some(MetricValue::Untyped(-1.0)), &None, &None]);
}

#[test]
fn a_single_family_needs_no_list() {
    let json = r#" {"name":"m","metrics":[{"value":1}]} "#.as_bytes();
    let (families, alone) = decode(json, LIMITS).unwrap();
    assert!(alone && families.len() == 1);
    let (families, alone) = decode(b"[]", LIMITS).unwrap();
    assert!(!alone && families.is_empty());
}

#[test]
fn rejections_have_a_position() {
    for (json, words) in [
        ("", "EOF"),
        ("7", "expected a family or a list of families"),
        (
            "[{}]",
            "line 1, column 3: JSON of families expected: missing field `name`",
        ),
        (
            r#"[{"name":"m"}] {"#,
            "line 1, column 16: JSON of families expected: trailing characters",
        ),
        (r#"{"name":"m"}{"name":"n"}"#, "trailing characters"),
        (r#"{"name":1}"#, "expected a string"),
        (r#"{"name":"m","name":"n"}"#, "twice"),
        (
            r#"{"name":"m","metrics":[{"value":1,"value":1}]}"#,
            "a key of the metric is given twice",
        ),
        (
            r#"{"name":"m","type":"BLUE"}"#,
            "\"BLUE\" is none of COUNTER",
        ),
        (r#"{"name":"m","type":1}"#, "invalid type"),
        (r#"{"name":"m","metrics":{}}"#, "expected a list of metrics"),
        (
            "{\"name\":\"m\",\"metrics\":[\n{\"value\":\"x\"}]}",
            "line 2, column",
        ),
        (
            r#"{"name":"m","metrics":[{"value":true}]}"#,
            "expected a number, or a string with one",
        ),
        (
            r#"{"name":"m","metrics":[{"value":1e999}]}"#,
            "number out of range",
        ),
        (
            r#"{"name":"m","metrics":[{"labels":{"a":1}}]}"#,
            "expected a string",
        ),
        (
            r#"{"name":"m","metrics":[{"labels":[]}]}"#,
            "labels, whose values are text",
        ),
        (
            r#"{"name":"m","metrics":[{"buckets":{"x":1}}]}"#,
            "\"x\" is not a bound",
        ),
        (
            r#"{"name":"m","metrics":[{"buckets":{"NaN":1}}]}"#,
            "\"NaN\" is not a bound",
        ),
        (
            r#"{"name":"m","metrics":[{"buckets":[[0,1,2]]}]}"#,
            "an object of bounds",
        ),
        (
            r#"{"name":"m","metrics":[{},{"buckets":{"1":1,"1.0":1}}]}"#,
            "metrics[1] of \"m\" has one bound twice",
        ),
        (
            r#"{"name":"m","metrics":[{"buckets":{},"quantiles":{}}]}"#,
            "send only one",
        ),
        (
            r#"{"name":"m","metrics":[{"value":1,"sum":1}]}"#,
            "send a value alone, or a count and a sum",
        ),
    ] {
        assert_rejected(json, Reason::Malformed, words);
    }
}

#[test]
fn values_are_limited() {
    let items = |count| {
        format!(
            "{{\"name\":\"m\",\"metrics\":[{}{{}}]}}",
            "{},".repeat(count - 1)
        )
    };
    assert!(read(&items(MAX_VALUES)).is_ok());
    let words = "more than 100 values (exposition.max_samples)";
    assert_rejected(&items(MAX_VALUES + 1), Reason::TooManySamples, words);
    let buckets: Vec<String> = (0..MAX_VALUES).map(|at| format!("\"{at}\":1")).collect();
    let buckets = format!(
        "{{\"name\":\"m\",\"metrics\":[{{\"buckets\":{{{}}}}}]}}",
        buckets.join(",")
    );
    assert_rejected(&buckets, Reason::TooManySamples, words);
}

#[test]
fn families_are_limited() {
    let list = |count: usize| {
        let families: Vec<String> = (0..count)
            .map(|n| format!("{{\"name\":\"m{n}\"}}"))
            .collect();
        format!("[{}]", families.join(","))
    };
    assert!(read(&list(MAX_FAMILIES)).is_ok());
    let words = "line 1, column 756: there are more than 50 families (exposition.max_families)";
    assert_rejected(&list(MAX_FAMILIES + 1), Reason::TooManySamples, words);
}

#[test]
fn parsing_stops_at_an_exceeded_limit() {
    // None of these bodies is a complete document.
    let item = |rest: &str| format!("{{\"name\":\"m\",\"metrics\":[{{{rest}");
    let labels: String = (0..4).map(|n| format!("\"l{n}\":\"\",")).collect();
    for (text, words) in [
        (
            item(&format!("\"labels\":{{{labels}")),
            "a metric has more than 3 labels (exposition.max_labels)",
        ),
        (
            item("\"labels\":{\"a23456789\":"),
            "the name of a label has more than 8 bytes (exposition.max_label_length)",
        ),
        (
            item("\"labels\":{\"a\":\"123456789\","),
            "the value of a label has more than 8 bytes",
        ),
        (
            "{\"name\":\"m23456789\",".to_owned(),
            "the name of a family has more than 8 bytes",
        ),
    ] {
        assert_rejected(&text, Reason::TooManySamples, words);
    }
    for part in ["buckets", "quantiles"] {
        let points: String = (0..MAX_VALUES).map(|at| format!("\"{at}\":1,")).collect();
        let words = "more than 100 values (exposition.max_samples)";
        let text = item(&format!("\"{part}\":{{{points}"));
        assert_rejected(&text, Reason::TooManySamples, words);
    }
    let just = item("\"labels\":{\"a2345678\":\"12345678\",\"b\":\"\",\"c\":\"\"}}]}");
    assert!(read(&just).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, LIMITS);
    }

    #[test]
    fn no_json_causes_a_panic(
        json in r#"(\[|\]|\{|\}|,|:|"name":|"metrics":\[|"labels":\{|"value":|"buckets":\{|"1"|"m"|-?[0-9]e?|null){0,40}"#
    ) {
        let _ = read(&json);
    }
}
