use super::*;

#[track_caller]
fn read(text: &str) -> Message<'_> {
    parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn every_key_is_read() {
    let message = read(
        r#"{"name":"n","labels":{"a":"1","b":"\u00e9\n"},"op":"obs","help":"H","value":-1.5,
            "buckets":3,"bucket_width":1,"bucket_start":2.5,"bucket_min":3,"bucket_max":4e3,
            "bucket_factor":5,"bucket_custom":[1,2.5],"index":"i",
            "timestamp":"2024-01-01T00:00:00Z","hops":2}"#,
    );
    assert_eq!((&*message.name, &*message.op), ("n", "obs"));
    let labels: Vec<(&str, &str)> = message.labels.iter().map(|(n, v)| (&**n, &**v)).collect();
    assert_eq!(labels, [("a", "1"), ("b", "\u{e9}\n")]);
    assert_eq!(message.help.as_deref(), Some("H"));
    assert_eq!((message.value, message.hops), (-1.5, 2));
    let expected = BucketSpec {
        count: 3,
        width: 1.0,
        start: 2.5,
        min: 3.0,
        max: 4000.0,
        factor: 5.0,
        custom: vec![1.0, 2.5],
    };
    assert_eq!(message.buckets, expected);
    assert!(
        matches!(message.name, Cow::Borrowed(_)),
        "nothing is copied"
    );
}

#[test]
fn keys_match_in_any_case_and_the_last_one_counts() {
    let message = read(r#"{"NAME":"a","Name":"b","oP":"inc","x":{"name":["c"]},"value":2}"#);
    assert_eq!(
        (&*message.name, &*message.op, message.value),
        ("b", "inc", 2.0)
    );
}

#[test]
fn null_counts_as_missing() {
    let message = read(
        r#"{"name":"a","name":null,"labels":null,"help":null,"value":null,"buckets":null,
            "bucket_width":null,"bucket_custom":null}"#,
    );
    let expected = Message {
        name: "a".into(),
        ..Message::default()
    };
    assert_eq!(message, expected);
    assert_eq!(
        read(r#"{"labels":{"a":null}}"#).labels,
        [("a".into(), "".into())]
    );
    assert_eq!(read("{}"), Message::default());
    assert_eq!(read(r#"{"buckets":10.0}"#).buckets.count, 10);
}

#[test]
fn numbers_are_read_exactly() {
    for (text, value) in [
        ("0.1", 0.1),
        ("123456789.123456789", 123_456_789.123_456_79),
        ("18446744073709551616", 18_446_744_073_709_551_616.0),
        ("2.2250738585072014e-308", f64::MIN_POSITIVE),
    ] {
        assert_eq!(read(&format!("{{\"value\":{text}}}")).value, value);
    }
}

#[test]
fn values_of_a_wrong_type_are_rejected_by_name() {
    for (text, words) in [
        (r#"{"name":1}"#, "text as `name`"),
        (r#"{"op":[]}"#, "text as `op`"),
        (r#"{"help":{}}"#, "text as `help`"),
        (r#"{"value":"1"}"#, "a number as `value`"),
        (r#"{"value":true}"#, "a number as `value`"),
        (r#"{"value":1e999}"#, "out of range"),
        (r#"{"labels":[]}"#, "an object of texts as `labels`"),
        (r#"{"labels":"a"}"#, "an object of texts as `labels`"),
        (r#"{"labels":{"a":1}}"#, "the value of a label"),
        (r#"{"buckets":10.5}"#, "a whole number as `buckets`"),
        (r#"{"buckets":"3"}"#, "a whole number as `buckets`"),
        (r#"{"bucket_width":"1"}"#, "`bucket_width`"),
        (r#"{"bucket_custom":1}"#, "a list of numbers"),
        (
            r#"{"bucket_custom":[1,null]}"#,
            "a number in `bucket_custom`",
        ),
        (r#"{"bucket_custom":["1"]}"#, "a bound of `bucket_custom`"),
        ("[]", "an object"),
        ("{} {}", "trailing"),
        (r#"{"name":"a",}"#, "trailing comma"),
        ("{\"name\":\"\x01\"}", "control character"),
    ] {
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.reason, Reason::Malformed);
        assert!(error.message.contains(words), "{text}: {error}");
    }
    let error = parse(b"{\"name\":\"\xff\"}").unwrap_err();
    assert_eq!(error.reason, Reason::InvalidUtf8);
}
