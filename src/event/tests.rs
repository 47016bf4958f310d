use std::time::{Duration, SystemTime};

use super::*;
use crate::clock::Now;

fn content<'e>() -> Content<'e> {
    Content {
        kind: EventKind::Event,
        name: "page views",
        labels: vec![("a-b", "x\"y\n"), ("data_source", ":9999")],
        help: "",
        index: "",
        value: 1.0,
        timestamp: None,
        buckets: None,
    }
}

fn json(content: &Content<'_>) -> String {
    let mut out = Vec::new();
    content.write_json(None, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_message_is_written_as_metrics_server_writes_it() {
    assert_eq!(
        json(&content()),
        r#"{"name":"page views","labels":{"a-b":"x\"y\n","data_source":":9999"},"op":"event","value":1}"#
    );
    let full = Content {
        kind: EventKind::Index,
        labels: Vec::new(),
        help: "h",
        index: "views",
        value: -0.25,
        timestamp: Some(1_769_860_800_500_000_000),
        buckets: Some(Buckets {
            count: 3,
            custom: vec![1.0, 2.5],
            width: 1.0,
            factor: 2.0,
            min: 0.1,
            max: 9.0,
            start: 4.0,
        }),
        ..content()
    };
    assert_eq!(
        json(&full),
        "{\"name\":\"page views\",\"op\":\"index\",\"help\":\"h\",\"index\":\"views\",\"buckets\":3,\
         \"bucket_custom\":[1,2.5],\"bucket_width\":1,\"bucket_factor\":2,\"bucket_min\":0.1,\
         \"bucket_max\":9,\"bucket_start\":4,\"value\":-0.25,\"timestamp\":\"2026-01-31T12:00:00.500Z\"}"
    );
    serde_json::from_str::<serde_json::Value>(&json(&full)).unwrap();
}

#[test]
fn numbers_are_written_as_go_writes_them() {
    for (value, shown) in [
        (0.0, "0"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (-2.5e30, "-2.5e+30"),
        (1e-6, "0.000001"),
        (1.5e-7, "1.5e-7"),
        (f64::INFINITY, "0"),
    ] {
        let text = json(&Content { value, ..content() });
        assert!(text.ends_with(&format!("\"value\":{shown}}}")), "{text}");
    }
}

#[test]
fn a_stored_event_is_read_back_the_same() {
    let stamper = Stamper::new(7);
    let now = Now::read();
    let stamp = stamper.next(now);
    let stored = Draft::new(&content()).stamp(stamp);
    let again = StoredEvent::from_bytes(stored.bytes().clone());
    let event = again.decode().unwrap();
    assert_eq!((event.stamp, &event.content), (stamp, &content()));
    assert_eq!(event.time(), stamp.arrived);
    let dated = Content {
        timestamp: Some(5),
        ..content()
    };
    let stored = Draft::new(&dated).stamp(stamp);
    assert_eq!(stored.decode().unwrap().time(), 5);
    for broken in [&b""[..], b"short", &[255; 40]] {
        let broken = StoredEvent::from_bytes(Bytes::copy_from_slice(broken));
        assert_eq!(broken.decode(), None);
    }
}

#[test]
fn events_differ_in_identity_and_time() {
    let stamper = Stamper::new(7);
    let read = Now::read();
    let at = |seconds| Now {
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        ..read
    };
    let times = [5, 5, 4, 9].map(|seconds| stamper.next(at(seconds)).arrived);
    let second = 1_000_000_000;
    assert_eq!(
        times,
        [5 * second, 5 * second + 1, 5 * second + 2, 9 * second]
    );
    let (one, other) = (stamper.next(read), Stamper::new(8).next(read));
    assert_ne!(one.id, other.id);
    assert_ne!(one.id, stamper.next(read).id);
    assert_eq!(EventKind::of("raw"), Some(EventKind::Raw));
    assert_eq!(EventKind::of("inc"), None);
}
