use proptest::prelude::*;

use super::*;
use crate::registry::ValueChange;

#[track_caller]
fn parsed(line: &str) -> StatsdLine<'_> {
    parse(line.as_bytes(), TagStyles::ALL).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn changes(line: &str) -> Result<Vec<ValueChange>, Rejection> {
    let line = parsed(line);
    let reader = line.reader(1.0).unwrap();
    line.values().map(|text| reader.read(text)).collect()
}

fn observations(values: &[f64]) -> Vec<ValueChange> {
    let observed = |value: &f64| ValueChange::Observe {
        value: *value,
        times: 1.0,
    };
    values.iter().map(observed).collect()
}

#[test]
fn all_types_are_parsed() {
    for (line, kind) in [
        ("a:1|c", MetricType::Counter),
        ("a:1|g", MetricType::Gauge),
        ("a:1|ms", MetricType::Timer),
        ("a:1|h", MetricType::Histogram),
        ("a:1|d", MetricType::Histogram),
        ("a:1|s", MetricType::Set),
    ] {
        assert_eq!(parsed(line).metric_type, kind, "{line}");
        assert_eq!(parsed(line).rate, 1.0);
    }
    let seconds = observations(&[0.0015, 0.002, 1.0]);
    assert_eq!(changes("a:1.5:2:1e3|ms").unwrap(), seconds);
    assert_eq!(parsed("a:x:y|s").member(), Ok("x:y"));
}

#[test]
fn a_gauge_value_with_a_sign_is_added() {
    let expected = [
        ValueChange::Set(3.0),
        ValueChange::Add(1.0),
        ValueChange::Add(-2.5),
    ];
    assert_eq!(changes("a:3:+1:-2.5|g").unwrap(), expected);
}

#[test]
fn rates_and_tags_may_have_any_order() {
    for line in [
        "a:1|c|@0.1|#k:v,flag,k8s.io/x:y:z,9:1,",
        "a:1|c|#k:v,flag,k8s.io/x:y:z,9:1|@0.1|c:abc|T1656581400|e:x",
    ] {
        let line = parsed(line);
        assert_eq!(line.rate, 0.1);
        let tags: Vec<_> = line.tags().collect();
        let expected = [
            ("k", "v"),
            ("flag", "true"),
            ("k8s_io_x", "y:z"),
            ("_9", "1"),
        ];
        assert_eq!(tags.len(), expected.len());
        for ((name, value), expected) in tags.iter().zip(expected) {
            assert_eq!((&**name, &**value), expected);
        }
    }
}

#[track_caller]
fn split(line: &str) -> Vec<(&str, &str, &str)> {
    let values = split_typed_values(line.as_bytes()).unwrap_or_default();
    let fields = values.iter().map(|it| (it.name, it.text, it.tags));
    fields.collect()
}

#[test]
fn a_colon_after_a_type_or_a_rate_begins_another_value() {
    let cases: [(&str, &[&str], &str); 9] = [
        ("a:1|c:2|c", &["1|c", "2|c"], ""),
        (
            "a:200|ms:300|ms:5|c|@0.1:6|g",
            &["200|ms", "300|ms", "5|c|@0.1", "6|g"],
            "",
        ),
        ("a:1:2|c:3:4|ms", &["1:2|c", "3:4|ms"], ""),
        ("a:1|c:", &["1|c", ""], ""),
        ("a:1|c:2", &["1|c", "2"], ""),
        ("a:1|x:2|c", &["1|x", "2|c"], ""),
        ("a:1|c|y:2|c", &["1|c|y", "2|c"], ""),
        ("a:1|c:2|c|#k:v,t \n", &["1|c", "2|c|#k:v,t"], "k:v,t"),
        (
            "a:1|c|#k:v|@0.5:2|c|c:x:y",
            &["1|c|#k:v|@0.5", "2|c|c:x:y"],
            "k:v",
        ),
    ];
    for (line, texts, tags) in cases {
        let expected: Vec<_> = texts.iter().map(|text| ("a", *text, tags)).collect();
        assert_eq!(split(line), expected, "{line}");
    }
}

#[test]
fn other_lines_are_one_message() {
    for line in [
        "a:1|c",
        "a:1:2:3|c|@0.5",
        "a:x:y|s",
        "a:1|c|#k:v,k8s.io/x:y:z",
        "a:1|c|@0.5|#k:v|c:ci-83:4|T1656581400|e:it-false,cn-x:y",
        "a:1|c|c:2|c",
        "a:1",
        "a",
        "|:1|c:2|c",
        "",
        "_e{5,4}:title|text|t:info|#k:v",
        "_sc|a|0|m:it is: fine",
    ] {
        assert_eq!(split_typed_values(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn a_hash_before_each_tag_is_no_part_of_its_name() {
    let tags = |line: &str| -> Vec<(String, String)> {
        let line = parsed(line);
        let tags = line.tags();
        tags.map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect()
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let both = [pair("tag1", "bar"), pair("tag2", "baz")];
    for line in [
        "foo:100|c|#tag1:bar,#tag2:baz",
        "foo:100|c|##tag1:bar,#tag2:baz",
        "foo:100|c|#tag1:bar, tag2:baz",
        "foo:100|c|#,tag1:bar,#,tag2:baz,",
        "foo:100|c|#tag1:bar,tag2:baz|@1",
    ] {
        assert_eq!(tags(line), both, "{line}");
    }
    assert_eq!(
        tags("foo:1|c|#color:#fff,c#:1,#flag,a:b#c"),
        [
            pair("color", "#fff"),
            pair("c_", "1"),
            pair("flag", "true"),
            pair("a", "b#c")
        ]
    );
}

#[test]
fn durations_are_not_negative() {
    let error = changes("a:1:-2|ms").unwrap_err();
    assert_eq!(error.reason, Reason::BadValue);
    assert_eq!(changes("a:1:-2|h").unwrap(), observations(&[1.0, -2.0]));
}

proptest! {
    /// Joined by colons, the typed values give the line again, and none of them can be
    /// split further.
    #[test]
    fn typed_values_join_to_their_line(line in "a:[1:|c#@Te,sg. ]{0,40}") {
        if let Some(values) = split_typed_values(line.as_bytes()) {
            let texts: Vec<&str> = values.iter().map(|value| value.text).collect();
            prop_assert!(texts.len() > 1);
            prop_assert_eq!(texts.join(":"), line.trim_end()["a:".len()..].to_owned());
            for text in texts {
                let value = format!("a:{text}");
                prop_assert_eq!(split_typed_values(value.as_bytes()), None);
            }
        }
    }
}

#[test]
fn characters_that_prometheus_does_not_allow_become_underscores() {
    for (line, name) in [
        ("a.b-c/d e:1|c", "a_b_c_d_e"),
        ("1st:1|c", "_1st"),
        ("\u{e9}t\u{e9}:1|c", "_t_"),
    ] {
        assert_eq!(parsed(line).family_name().unwrap(), name);
    }
}

#[test]
fn invalid_lines_are_rejected_with_a_reason() {
    for (line, reason) in [
        ("", Reason::Malformed),
        ("a", Reason::Malformed),
        ("a:1", Reason::Malformed),
        ("a:1|c|x", Reason::Malformed),
        (":1|c", Reason::BadName),
        (",b=c:1|c", Reason::BadName),
        ("a,b=c:1|c|#d:e", Reason::Malformed),
        ("\"a\": \"b\",", Reason::Malformed),
        ("a:1|x", Reason::BadOperation),
        ("a:1|", Reason::BadOperation),
        ("a:1|c|@0", Reason::BadValue),
        ("a:1|c|@2", Reason::BadValue),
        ("a:1|c|@NaN", Reason::BadValue),
        ("_e{1,1}:a|b", Reason::Unsupported),
        ("_sc|a|0", Reason::Unsupported),
    ] {
        let rejection = parse(line.as_bytes(), TagStyles::ALL).unwrap_err();
        assert_eq!(rejection.reason, reason, "{line}");
    }
    assert!(parse(b"a\xff:1|c", TagStyles::ALL).is_err());
    for line in ["a:|c", "a:x|c", "a:NaN|c", "a:inf|c", "a:1:|c"] {
        assert!(changes(line).is_err(), "{line}");
    }
    assert!(parsed("a:|s").member().is_err());
}

/// The name and the tags of a line.
fn tagged(line: &str, styles: TagStyles) -> String {
    let line = parse(line.as_bytes(), styles).unwrap();
    let tags = line.tags().map(|(name, value)| format!("{name}={value}"));
    format!("{} {}", line.name, tags.collect::<Vec<_>>().join(","))
}

#[test]
fn tags_of_each_style_are_read_unless_they_are_off() {
    let none = TagStyles {
        dogstatsd: false,
        influxdb: false,
        librato: false,
        signalfx: false,
    };
    for (line, on, off) in [
        ("a.b,k=v,l.m=x:1|c", "a.b k=v,l_m=x", "a.b,k=v,l.m=x "),
        ("a.b#k=v,flag:1|c", "a.b k=v,flag=true", "a.b#k=v,flag "),
        ("a.b[k=v,l=a:1|c", "a.b[k=v,l=a ", "a.b[k=v,l=a "),
        ("a.[k=v]b:1|c", "a.b k=v", "a.[k=v]b "),
        ("a.b[k=v,l=w=x]:1|c", "a.b k=v,l=w=x", "a.b[k=v,l=w=x] "),
        ("a]b[:1|c", "a]b[ ", "a]b[ "),
        ("a.b,:1|c", "a.b ", "a.b, "),
        ("a.b:1|c|#k:v,l:x:y", "a.b k=v,l=x:y", "a.b "),
        ("a.b:1|c|@0.5|#k:v", "a.b k=v", "a.b "),
    ] {
        let styles = TagStyles::ALL;
        let signalfx = TagStyles {
            signalfx: true,
            ..none
        };
        let on_styles = match line.contains('[') {
            true => signalfx,
            false => styles,
        };
        assert_eq!(tagged(line, on_styles), on, "{line}");
        assert_eq!(tagged(line, none), off, "{line}");
    }
}

#[test]
fn tags_of_two_styles_exclude_one_another() {
    let both = parse(b"a,k=v:1|c|#l:w", TagStyles::ALL).unwrap_err();
    assert!(both.message.contains("use one of the two"), "{both}");
    let values = split_typed_values(b"a,k=v:1|c:2|c|#l:w").unwrap();
    let both = values[0].parse(TagStyles::ALL).unwrap_err();
    assert!(both.message.contains("use one of the two"), "{both}");
}

#[test]
fn names_with_characters_of_other_dialects_are_rejected() {
    for line in ["a b=c:1|c", "a]b[:1|c", "a\"b:1|c"] {
        let name = parsed(line).family_name().map(Cow::into_owned);
        assert_eq!(name.unwrap_err().reason, Reason::BadName, "{line}");
    }
}
