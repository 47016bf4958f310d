use prost::Message;

use super::*;
use crate::event::{Content, Draft, EventKind, Stamp};
use crate::outputs::sinks::testing;

/// `logproto.PushRequest`, decoded by another library.
#[derive(Clone, PartialEq, Message)]
struct PushRequest {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

fn parse(text: &str) -> Result<Settings, String> {
    testing::parse(read, &format!("url = \"http://loki/\"\n{text}"))
}

/// Labels, value, and the time in nanoseconds.
type Written = (&'static [(&'static str, &'static str)], f64, i64);

/// A request with these events.
fn request(settings: &Settings, events: &[Written]) -> Vec<u8> {
    let mut builder = RequestBuilder::new(settings);
    for (labels, value, time) in events {
        let content = Content {
            kind: EventKind::Event,
            name: "m",
            labels: labels.to_vec(),
            help: "",
            index: "",
            value: *value,
            timestamp: None,
            buckets: None,
        };
        let stamp = Stamp {
            id: 1,
            arrived: *time,
        };
        let stored = Draft::new(&content).stamp(stamp);
        builder.add(&stored.decode().unwrap());
    }
    builder.finish().1
}

const EVENTS: [Written; 3] = [
    (
        &[("a-b", "x\"\n\u{1}é"), ("host", "one")],
        1.0,
        1_000_000_002,
    ),
    (&[("host", "two")], 2.5, 3),
    (&[("a_b", "x\"\n\u{1}é"), ("host", "one")], 3.0, 4),
];

#[test]
fn events_with_equal_labels_are_one_stream_in_their_order() {
    let settings = parse("line = \"value\"").unwrap();
    let body = snap::raw::Decoder::new()
        .decompress_vec(&request(&settings, &EVENTS))
        .unwrap();
    let request = PushRequest::decode(&*body).unwrap();
    let streams: Vec<_> = request
        .streams
        .iter()
        .map(|stream| {
            let lines = stream.entries.iter().map(|entry| &*entry.line);
            (&*stream.labels, lines.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(
        streams,
        [
            (r#"{a_b="x\"\n\x01é", host="one"}"#, vec!["1", "3"]),
            (r#"{host="two"}"#, vec!["2.5"]),
        ]
    );
    let time = request.streams[0].entries[0].timestamp.clone().unwrap();
    assert_eq!((time.seconds, time.nanos), (1, 2));
}

#[test]
fn json_says_the_same() {
    let settings = parse("encoding = \"json\"").unwrap();
    let text = String::from_utf8(request(&settings, &EVENTS)).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let streams = value["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 2);
    assert_eq!(streams[0]["stream"]["a_b"], "x\"\n\u{1}é");
    assert_eq!(streams[0]["values"][0][0], "1000000002");
    assert_eq!(
        streams[0]["values"][1][1],
        r#"{"name":"m","labels":{"a_b":"x\"\n\u0001é","host":"one"},"op":"event","value":3}"#
    );
    assert_eq!(streams[1]["values"][0].as_array().unwrap().len(), 2);
}

#[test]
fn fields_can_be_structured_metadata() {
    let text = "labels = [\"host\"]\nstructured_metadata = true\nline = \"{name} on {labels.host}{labels.none}\"";
    let settings = parse(text).unwrap();
    let body = request(&settings, &EVENTS);
    let body = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    let streams = PushRequest::decode(&*body).unwrap().streams;
    assert_eq!(streams[0].labels, "{host=\"one\"}");
    let entry = &streams[0].entries[0];
    assert_eq!(entry.line, "m on one");
    let metadata = entry.metadata.iter();
    let metadata: Vec<_> = metadata.map(|it| (&*it.name, &*it.value)).collect();
    let expected = [("name", "m"), ("value", "1"), ("a_b", "x\"\n\u{1}é")];
    assert_eq!(metadata, expected);

    let settings = Settings {
        encoding: Encoding::Json,
        ..settings
    };
    let json: serde_json::Value = serde_json::from_slice(&request(&settings, &EVENTS)).unwrap();
    assert_eq!(json["streams"][1]["values"][0][2]["value"], "2.5");
}

#[test]
fn names_become_valid_and_the_last_of_equal_names_stays() {
    let events: [Written; 1] = [(
        &[("", "none"), ("1", "digit"), ("a-b", "x"), ("a_b", "y")],
        1.0,
        1,
    )];
    let expected = serde_json::json!({ "_": "none", "_1": "digit", "a_b": "y" });
    let settings = parse("encoding = \"json\"").unwrap();
    let json: serde_json::Value = serde_json::from_slice(&request(&settings, &events)).unwrap();
    assert_eq!(json["streams"][0]["stream"], expected);

    let settings = parse("labels = [\"none\"]\nstructured_metadata = true").unwrap();
    let body = request(&settings, &events);
    let body = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    let streams = PushRequest::decode(&*body).unwrap().streams;
    let metadata = streams[0].entries[0].metadata.iter();
    let metadata: Vec<_> = metadata.map(|it| (&*it.name, &*it.value)).collect();
    let fields = [("name", "m"), ("value", "1")];
    let labels = [("_", "none"), ("_1", "digit"), ("a_b", "y")];
    assert_eq!(metadata, [&fields[..], &labels].concat());
}

#[test]
fn a_stream_without_labels_gets_one() {
    let settings = parse("encoding = \"json\"\nlabels = [\"none\"]").unwrap();
    let json: serde_json::Value = serde_json::from_slice(&request(&settings, &EVENTS)).unwrap();
    assert_eq!(json["streams"].as_array().unwrap().len(), 1);
    assert_eq!(json["streams"][0]["stream"]["job"], "exporter-proxy");
}

#[test]
fn settings_are_checked() {
    let settings = parse("").unwrap();
    assert_eq!(settings.server.url.0.path(), "/loki/api/v1/push");
    for text in [
        "basic_auth = { username = \"u\", password = \"\" }",
        "proxy_url = \"https://proxy:3128\"\ntls = {}",
    ] {
        assert!(parse(text).is_ok(), "{text}");
    }
    for line in ["json", "value", "{name}: {value}, {help} {labels.a-b}!"] {
        let settings = parse(&format!("line = {line:?}")).unwrap();
        assert_eq!(settings.line.to_string(), line);
    }
    for (text, words) in [
        ("line = \"x\"", "a template with names in braces"),
        ("line = \"{x\"", "without \"}\""),
        ("line = \"{x}\"", "not \"{x}\""),
        ("tenant = \"a\\nb\"", "valid in an HTTP header"),
        ("encoding = \"xml\"", "protobuf"),
        ("batch_bytes = \"1GiB\"", "more than"),
        ("batch_size = 1", "did you mean"),
        ("tls = {}", "tls` has no effect with an http:// URL"),
        (
            "basic_auth = { username = \"u\" }",
            "basic_auth` needs a `password` or `password_file`",
        ),
        (
            "basic_auth = { password = \"p\" }",
            "basic_auth` needs a `username`",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
