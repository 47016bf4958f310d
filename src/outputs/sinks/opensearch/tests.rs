use super::bulk::{body, judge};
use super::index::{IndexPattern, is_index_name};
use super::*;
use crate::event::{Content, Draft, EventKind, Stamp};
use crate::outputs::sinks::{Verdict, testing};
use crate::reason::Reason;

fn parse(text: &str) -> Result<Settings, String> {
    testing::parse(read, &format!("url = \"http://search:9200/base\"\n{text}"))
}

/// 2026-01-31 12:00:00 UTC, in nanoseconds since 1970.
const NOON: i64 = 1_769_860_800_000_000_000;

fn event(index: &str, timestamp: Option<i64>) -> StoredEvent {
    let content = Content {
        kind: EventKind::Index,
        name: "m",
        labels: vec![("a", "b")],
        help: "",
        index,
        value: 1.5,
        timestamp,
        buckets: None,
    };
    Draft::new(&content).stamp(Stamp {
        id: 0xab,
        arrived: NOON,
    })
}

#[test]
fn a_document_has_an_index_by_its_date_and_an_identity() {
    let settings = parse("").unwrap();
    let day = 24 * 60 * 60 * 1_000_000_000;
    let events = [event("", None), event("views", Some(NOON - day))];
    let events = read_events(&events).unwrap();
    let body = String::from_utf8(body(&settings, &events)).unwrap();
    let lines: Vec<&str> = body.lines().collect();
    let id = "000000000000000000000000000000ab";
    assert_eq!(
        lines,
        [
            &format!(r#"{{"create":{{"_index":"metric-events-2026-01-31","_id":"{id}"}}}}"#),
            r#"{"name":"m","labels":{"a":"b"},"op":"index","value":1.5,"timestamp":"2026-01-31T12:00:00Z"}"#,
            &format!(r#"{{"create":{{"_index":"views-2026-01-30","_id":"{id}"}}}}"#),
            r#"{"name":"m","labels":{"a":"b"},"op":"index","index":"views","value":1.5,"timestamp":"2026-01-30T12:00:00Z"}"#,
        ]
    );
    assert!(body.ends_with('\n'));
}

#[test]
fn each_document_gets_its_own_verdict() {
    let answer = br#"{"errors":true,"items":[
        {"create":{"status":201}},
        {"create":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"failed to parse 'x'"}}},
        {"create":{"status":429,"error":{"type":"rejected_execution_exception","reason":"full"}}},
        {"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"exists"}}}]}"#;
    let report = judge(answer, 4);
    assert_eq!(
        report.verdicts,
        [
            Verdict::Taken,
            Verdict::Refused(Reason::Refused),
            Verdict::Again,
            Verdict::Taken
        ]
    );
    let refusal = report.refusal.unwrap();
    assert!(refusal.message.contains("mapper_parsing_exception"));
    assert!(!refusal.message.contains("'x'"));
    assert_eq!(refusal.answer, "failed to parse 'x'");
    let failure = report.failure.unwrap();
    assert!(failure.contains("429 (rejected"), "{failure}");

    // A full disk can be mended while documents wait; a missing permission cannot.
    for (kind, expected) in [
        ("index_create_block_exception", Verdict::Again),
        ("cluster_block_exception", Verdict::Again),
        ("security_exception", Verdict::Refused(Reason::Refused)),
    ] {
        let item = format!(r#"{{"create":{{"status":403,"error":{{"type":"{kind}"}}}}}}"#);
        let answer = format!(r#"{{"errors":true,"items":[{item}]}}"#);
        assert_eq!(judge(answer.as_bytes(), 1).verdicts, [expected]);
    }

    assert_eq!(judge(br#"{"errors":false}"#, 2).verdicts.len(), 2);
    for (answer, words) in [
        (&b"OK"[..], "not that of _bulk"),
        (
            br#"{"errors":true,"items":[]}"#,
            "0 results for 3 documents",
        ),
    ] {
        let report = judge(answer, 3);
        assert_eq!(report.verdicts, []);
        assert!(report.failure.unwrap().contains(words));
    }
}

#[test]
fn damaged_items_are_refused_alone() {
    let damaged = StoredEvent::from_bytes(Bytes::from_static(b"damaged"));
    let report = read_events(&[event("", None), damaged, event("", None)]).unwrap_err();
    let refused = Verdict::Refused(Reason::Malformed);
    assert_eq!(report.verdicts, [Verdict::Again, refused, Verdict::Again]);
    let refusal = report.refusal.unwrap();
    assert_eq!(refusal.message, "an item is damaged");
    assert!(!refusal.whole);
}

#[test]
fn patterns_have_names_and_dates() {
    for (pattern, name) in [
        ("{index}-%Y-%m-%d", "i-2026-01-31"),
        ("fixed", "fixed"),
        ("a.{index}_%G.%V-%H%j%y", "a.i_2026.05-1203126"),
    ] {
        let pattern = IndexPattern::parse(pattern).unwrap();
        let mut written = String::new();
        pattern.write("i", NOON, &mut written);
        assert_eq!(written, name);
    }
    let default = IndexPattern::default();
    assert_eq!(IndexPattern::parse(&default.to_string()), Ok(default));
    let long = "a".repeat(200);
    for wrong in ["", "%s", "Big", "a b", "{indexx}", "-a", "é", "%", &long] {
        assert!(IndexPattern::parse(wrong).is_err(), "{wrong}");
    }
    for (name, valid) in [
        ("a-b_c.1", true),
        ("", false),
        ("A", false),
        ("_a", false),
        ("a/b", false),
    ] {
        assert_eq!(is_index_name(name), valid, "{name}");
    }
}

#[test]
fn settings_are_checked() {
    let settings = parse("index = \"x-%Y\"\ntemplate = { shards = 1, replicas = 0 }").unwrap();
    let template = settings.template.unwrap();
    assert_eq!((template.shards, template.replicas), (1, 0));
    assert_eq!(template.patterns, ["x-*"]);
    assert_eq!(template.name, "metric-events");
    let settings = parse("template = {}").unwrap();
    let template = settings.template.unwrap();
    assert_eq!(template.patterns, ["*-*-*-*"], "for every {{index}}");
    for (text, words) in [
        ("index = \"%x\"", "`index` can only have {index}"),
        (
            "index = \"Foo-%Y\"",
            "`index` can only have {index}, lower-case",
        ),
        (
            "index = \"-%Y\"",
            "`index` must begin with a letter, a digit, {index}, or a part of",
        ),
        ("default_index = \"A\"", "can only have lower-case"),
        (
            "template = { name = \"A\" }",
            "name` can only have lower-case",
        ),
        (
            "template = { shard = 1 }",
            "did you mean `template.shards`?",
        ),
        ("bulk = 1", "unknown key `bulk`"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
