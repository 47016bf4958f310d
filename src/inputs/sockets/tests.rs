//! Tests of the inbox: any split of a stream gives the same messages as the whole
//! stream, and no bytes make it panic, hang or exceed its limits.

use std::sync::Arc;

use capnp::message::{Builder, HeapAllocator};
use proptest::collection::vec;
use proptest::prelude::*;

use super::config::Format;
use super::fuzzing::{MAX_PAYLOAD, Outcome, limits, receive};
use super::{Inbox, InboxLimits, Next};
use crate::metric_data_capnp::inbound_metrics;
use crate::net::MemoryBudget;
use crate::reason::Reason;
use crate::telemetry::WireFormat;

fn whole(format: Format, bytes: &[u8]) -> Outcome {
    receive(format, [bytes])
}

/// The names and texts of stored apps.
fn stored(outcome: &Outcome) -> Vec<(&str, &str)> {
    outcome
        .messages
        .iter()
        .flat_map(|message| &message.apps)
        .map(|(name, text)| (name.as_str(), std::str::from_utf8(text.bytes()).unwrap()))
        .collect()
}

fn capnp(name: &str, data: &str) -> Vec<u8> {
    let mut message = Builder::new_default();
    let mut metrics: inbound_metrics::Builder<'_> = message.init_root();
    metrics.set_app_name(name);
    metrics.set_data(data);
    capnp::serialize::write_message_to_words(&message)
}

/// Like [`capnp`], but in many small segments, so that its pointers are far pointers.
fn capnp_in_segments(name: &str, data: &str) -> Vec<u8> {
    let allocator = HeapAllocator::new()
        .first_segment_words(1)
        .allocation_strategy(capnp::message::AllocationStrategy::FixedSize);
    let mut message = Builder::new(allocator);
    let mut metrics: inbound_metrics::Builder<'_> = message.init_root();
    metrics.set_app_name(name);
    metrics.set_data(data);
    assert!(message.get_segments_for_output().len() > 1);
    capnp::serialize::write_message_to_words(&message)
}

#[test]
fn the_example_of_the_wire_format_is_read() {
    let bytes = [
        0, 0, 0, 0, 5, 0, 0, 0, // one segment of five words
        0, 0, 0, 0, 0, 0, 2, 0, // a struct of two pointers
        5, 0, 0, 0, 0x2a, 0, 0, 0, // five bytes, one word on
        5, 0, 0, 0, 0x2a, 0, 0, 0, // five bytes, one word on
        b'a', b'p', b'p', b'1', 0, 0, 0, 0, //
        b'm', b' ', b'1', b'\n', 0, 0, 0, 0,
    ];
    for format in [Format::Auto, Format::Capnp] {
        let outcome = whole(format, &bytes);
        assert_eq!(stored(&outcome), [("app1", "m 1\n")]);
        assert_eq!(outcome.result, Ok(()));
    }
}

#[test]
fn documents_can_have_any_white_space_between_them() {
    let bytes = b" \n{\"a\":\"1\"}{ \"b\" : [ \"2\" , \"3\" ],\n \"c\":\"4\\n\" }\r\n\t{}\n";
    let outcome = whole(Format::Auto, bytes);
    assert_eq!(
        stored(&outcome),
        [("a", "1\n"), ("b", "2\n3\n"), ("c", "4\n")]
    );
    assert_eq!(outcome.result, Ok(()));
}

#[test]
fn brackets_and_escapes_in_strings_do_not_end_a_document() {
    let bytes = br#"{"a{\"}":"}\\","\\\"":["]{[","\u00e9\ud83d\ude00"]}"#;
    let outcome = whole(Format::Json, bytes);
    assert_eq!(
        stored(&outcome),
        [("a{\"}", "}\\\n"), ("\\\"", "]{[\n\u{e9}\u{1f600}\n")]
    );
}

#[test]
fn a_document_is_stored_when_its_last_byte_arrives() {
    let mut inbox = Inbox::new(Format::Auto, limits());
    let document = b"{\"a\":\"1\"}";
    let mut seen = 0;
    for (at, byte) in document.iter().enumerate() {
        inbox
            .feed(&[*byte], |_, length| {
                assert_eq!(length, document.len());
                seen += 1;
                Ok(Next::Message)
            })
            .unwrap();
        assert_eq!(seen, usize::from(at + 1 == document.len()));
        assert_eq!(inbox.is_midway(), at + 1 < document.len());
    }
}

/// Errors are reported as soon as the wrong byte arrives, with their position.
#[test]
fn errors_are_reported_when_they_arrive() {
    type Case = (&'static [u8], Reason, (usize, usize), &'static str);
    let cases: [Case; 16] = [
        (b"hello", Reason::Malformed, (1, 1), "not `h`"),
        (b"[1]", Reason::Malformed, (1, 1), "not `[`"),
        (
            b"\xEF\xBB\xBF{}",
            Reason::Malformed,
            (1, 1),
            "byte order mark",
        ),
        (
            b"GET / HTTP/1.1\r\n",
            Reason::Malformed,
            (1, 1),
            "not an HTTP port",
        ),
        (b"{\"a\":\"1\"} x", Reason::Malformed, (1, 1), "not `x`"),
        (b"{\"a\":1", Reason::Malformed, (1, 6), "integer `1`"),
        (b"{\"a\":-", Reason::Malformed, (1, 6), "not `-`"),
        (b"{\"a\":\n n", Reason::Malformed, (2, 2), "not `n`"),
        (b"{\"a\":{", Reason::Malformed, (1, 6), "app \"a\""),
        (b"{\"a\":[[", Reason::Malformed, (1, 7), "line of text"),
        (
            b"{\"a\":[\"x\",1",
            Reason::Malformed,
            (1, 11),
            "integer `1`",
        ),
        (b"{\"a\" \"b\"}", Reason::Malformed, (1, 6), "expected `:`"),
        (
            b"{\"a\":\"1\",}",
            Reason::Malformed,
            (1, 10),
            "trailing comma",
        ),
        (
            b"{\"a\":\"\n\"}",
            Reason::Malformed,
            (2, 0),
            "control character",
        ),
        (b"{\"a\":\"\\ud800\"}", Reason::Malformed, (1, 13), "escape"),
        (
            b"{\"a\":\"\xff\"}",
            Reason::InvalidUtf8,
            (1, 7),
            "not UTF-8",
        ),
    ];
    for (bytes, reason, position, words) in cases {
        let shown = String::from_utf8_lossy(bytes);
        let error = whole(Format::Auto, bytes).result.expect_err(&shown);
        assert_eq!(error.reason, reason, "{shown}: {error}");
        assert_eq!(error.position, Some(position), "{shown}: {error}");
        assert!(error.to_string().contains(words), "{shown}: {error}");
    }
}

#[test]
fn a_document_with_too_many_apps_is_rejected() {
    let pairs = (0..101).map(|app| format!("\"{app}\":\"\""));
    let document = format!("{{{}}}", pairs.collect::<Vec<_>>().join(","));
    let error = whole(Format::Json, document.as_bytes()).result.unwrap_err();
    assert_eq!(error.reason, Reason::TooManyApps, "{error}");
}

#[test]
fn a_misplaced_non_ascii_character_is_not_reported_as_invalid_utf8() {
    let error = whole(Format::Json, "{\"a\": é".as_bytes())
        .result
        .unwrap_err();
    assert_eq!(error.reason, Reason::Malformed, "{error}");
}

#[test]
fn a_stream_that_ends_inside_a_message_is_truncated() {
    let capnp = capnp("app", "m 1\n");
    for (bytes, reason) in [
        (&b"{"[..], Reason::Truncated),
        (b"{\"a\":\"1\"", Reason::Truncated),
        (b"{\"a\":\"1\\", Reason::Truncated),
        (b"{\"a\" \"b\"", Reason::Malformed),
        (&capnp[..2], Reason::Truncated),
        (&capnp[..capnp.len() - 1], Reason::Truncated),
    ] {
        let error = whole(Format::Auto, bytes).result.unwrap_err();
        assert_eq!(error.reason, reason, "{bytes:?}: {error}");
    }
    for nothing in [&b""[..], b" ", b"\n\n  \r\n"] {
        assert_eq!(whole(Format::Auto, nothing).result, Ok(()), "{nothing:?}");
    }
}

#[test]
fn the_format_is_detected_from_two_bytes() {
    let format_of = |bytes: &[u8]| {
        let mut inbox = Inbox::new(Format::Auto, limits());
        let _ = inbox.feed(bytes, |_, _| Ok(Next::Message));
        inbox.format()
    };
    assert_eq!(format_of(b"{"), WireFormat::Unknown);
    assert_eq!(format_of(b"{\""), WireFormat::Json);
    assert_eq!(format_of(b"\n{"), WireFormat::Json);
    // 0x7b + 1 segments, and 0x100 more: their first byte is that of `{`.
    assert_eq!(format_of(b"{\0"), WireFormat::Capnp);
    assert_eq!(format_of(b"{\x01"), WireFormat::Capnp);
    assert_eq!(format_of(b"\0\0\0\0"), WireFormat::Capnp);
}

#[test]
fn a_message_beyond_the_limit_is_rejected_before_it_is_complete() {
    let long = "x".repeat(MAX_PAYLOAD);
    let document = format!("{{\"a\":\"{long}\"}}");
    let fits = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_PAYLOAD - 8));
    assert_eq!(fits.len(), MAX_PAYLOAD);
    assert_eq!(whole(Format::Auto, fits.as_bytes()).result, Ok(()));
    for refused in [
        document.as_bytes(),
        &document.as_bytes()[..MAX_PAYLOAD + 1],
        &capnp("a", &long)[..8],
    ] {
        let error = whole(Format::Auto, refused).result.unwrap_err();
        assert_eq!(error.reason, Reason::TooLarge, "{error}");
    }
}

#[test]
fn large_messages_are_returned_complete_and_in_order() {
    let json = |name: &str, text: &str| format!("{{\"{name}\":\"{text}\"}}").into_bytes();
    let stream = [
        json("a", "1"),
        json("b", &"x".repeat(100)),
        json("c", "2"),
        json("d", &"y".repeat(200)),
        json("e", &"z".repeat(200)),
        b"  {\"f\":\"3".to_vec(),
    ]
    .concat();
    for size in [1, 7, 64, stream.len()] {
        let limits = InboxLimits {
            max_inline: 50,
            ..limits()
        };
        let budget = Arc::clone(&limits.budget);
        let mut inbox = Inbox::new(Format::Auto, limits);
        let mut names = Vec::new();
        for chunk in stream.chunks(size) {
            let mut chunk = chunk;
            loop {
                let fed = inbox.feed(chunk, |message, length| {
                    assert!(length <= 50);
                    names.push(message.apps[0].0.clone());
                    Ok(Next::Message)
                });
                fed.unwrap();
                let Some(large) = inbox.take_large() else {
                    break;
                };
                assert!(large.len() > 50 && budget.used() >= large.len());
                names.push(large.decode().unwrap().apps[0].0.clone());
                inbox.note_stored();
                chunk = &[];
            }
        }
        assert_eq!(names, ["a", "b", "c", "d", "e"], "{size}");
        assert_eq!(inbox.messages(), 5);
        assert!(inbox.is_midway() && inbox.finish().is_err());
        assert_eq!(budget.used(), 0);
    }
}

#[test]
fn incomplete_messages_share_one_budget() {
    let limits = InboxLimits {
        max_payload: MAX_PAYLOAD,
        max_inline: usize::MAX,
        max_apps: 100,
        budget: Arc::new(MemoryBudget::new(100, Arc::default())),
    };
    let begin = format!("{{\"a\":\"{}", "x".repeat(50));
    let mut first = Inbox::new(Format::Json, limits.clone());
    first
        .feed(begin.as_bytes(), |_, _| Ok(Next::Message))
        .unwrap();
    let mut second = Inbox::new(Format::Json, limits.clone());
    let error = second
        .feed(begin.as_bytes(), |_, _| Ok(Next::Message))
        .unwrap_err();
    assert_eq!(error.reason, Reason::NoBuffer);
    drop(second);
    // A complete message takes no memory, and released memory is available again.
    let mut third = Inbox::new(Format::Json, limits.clone());
    third
        .feed(b"{\"a\":\"1\"}", |_, _| Ok(Next::Message))
        .unwrap();
    drop(first);
    third
        .feed(begin.as_bytes(), |_, _| Ok(Next::Message))
        .unwrap();
}

#[test]
fn messages_in_many_segments_are_read() {
    let data = "m{a=\"b\"} 1\n".repeat(100);
    let mut bytes = capnp_in_segments("app", &data);
    bytes.extend(capnp("other", "n 1\n"));
    let outcome = whole(Format::Auto, &bytes);
    assert_eq!(
        stored(&outcome),
        [("app", data.as_str()), ("other", "n 1\n")]
    );
}

/// Cuts bytes into chunks at any offsets.
fn split(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.push(0);
    places.push(bytes.len());
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| bytes[pair[0]..pair[1]].to_vec())
        .collect()
}

fn chunks(chunks: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    chunks
        .iter()
        .filter(|chunk| !chunk.is_empty())
        .map(Vec::as_slice)
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-z{}\\[\\]\"\\\\\n :,]{0,40}"]
}

fn any_document() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        any_text().prop_map(serde_json::Value::from),
        vec(any_text(), 0..4).prop_map(serde_json::Value::from),
    ];
    let pairs = vec((any_text(), value), 0..4);
    (pairs, any::<bool>(), "[ \t\r\n]{0,3}").prop_map(|(pairs, pretty, blanks)| {
        let document: serde_json::Map<_, _> = pairs.into_iter().collect();
        let text = if pretty {
            serde_json::to_string_pretty(&document)
        } else {
            serde_json::to_string(&document)
        };
        (blanks + &text.unwrap()).into_bytes()
    })
}

fn any_capnp() -> impl Strategy<Value = Vec<u8>> {
    (any_text(), any_text(), any::<bool>()).prop_map(|(name, data, many)| {
        if many {
            capnp_in_segments(&name, &data)
        } else {
            capnp(&name, &data)
        }
    })
}

/// Streams of complete messages, some with a changed byte or cut off.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let messages = prop_oneof![
        vec(any_document(), 0..5).prop_map(|documents| documents.concat()),
        vec(any_capnp(), 0..5).prop_map(|messages| messages.concat()),
        vec(any::<u8>(), 0..200),
    ];
    (messages, any::<prop::sample::Index>(), any::<u8>(), 0..3_u8).prop_map(
        |(mut bytes, at, byte, damage)| {
            if !bytes.is_empty() && damage == 1 {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            } else if damage == 2 {
                bytes.truncate(at.index(bytes.len() + 1));
            }
            bytes
        },
    )
}

fn any_format() -> impl Strategy<Value = Format> {
    prop_oneof![Just(Format::Auto), Just(Format::Json), Just(Format::Capnp)]
}

#[test]
fn a_handshake_shows_however_it_arrives() {
    for format in [Format::Auto, Format::Json, Format::Capnp] {
        let outcome = whole(format, &[22, 3, 1]);
        assert_eq!(outcome.result.as_ref().unwrap_err().reason, Reason::Tls);
        assert_eq!(receive(format, [22, 3, 1].chunks(1)), outcome);
        // Only the first bytes of a connection can be one.
        let later = whole(format, &[b' ', 22, 3, 1]);
        assert_ne!(later.result.as_ref().unwrap_err().reason, Reason::Tls);
        assert_eq!(receive(format, [b' ', 22, 3, 1].chunks(1)), later);
        let begun = whole(format, &[22]);
        assert_eq!(receive(format, [22].chunks(1)), begun);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_split_gives_the_same_as_the_whole(
        stream in any_stream(),
        format in any_format(),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let parts = split(&stream, &cuts);
        prop_assert_eq!(receive(format, chunks(&parts)), whole(format, &stream));
    }

    #[test]
    fn byte_by_byte_gives_the_same_as_the_whole(stream in any_stream(), format in any_format()) {
        prop_assert_eq!(receive(format, stream.chunks(1)), whole(format, &stream));
    }

    #[test]
    fn sent_texts_are_stored(pairs in vec((any_text(), any_text()), 0..5)) {
        let capnp: Vec<u8> = pairs.iter().flat_map(|(name, data)| capnp(name, data)).collect();
        let json: Vec<u8> = pairs
            .iter()
            .flat_map(|(name, data)| serde_json::to_vec(&serde_json::json!({ name: data })).unwrap())
            .collect();
        let expected: Vec<(String, String)> = pairs
            .into_iter()
            .map(|(name, mut data)| {
                if !data.is_empty() && !data.ends_with('\n') {
                    data.push('\n');
                }
                (name, data)
            })
            .collect();
        for bytes in [capnp, json] {
            let outcome = whole(Format::Auto, &bytes);
            prop_assert_eq!(&outcome.result, &Ok(()));
            let stored: Vec<(String, String)> = stored(&outcome)
                .into_iter()
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .collect();
            prop_assert_eq!(&stored, &expected);
        }
    }
}

#[test]
fn an_inbox_stops_after_a_message_and_goes_on_later() {
    let stream = b"{\"a\":\"1\"}{\"b\":\"2\"} {\"c\":\"3\"}{\"d\":";
    let mut inbox = Inbox::new(Format::Auto, limits());
    let mut names = Vec::new();
    let mut bytes: &[u8] = stream;
    for stored in 1..=3 {
        let fed = inbox.feed(bytes, |message, _| {
            names.push(message.apps[0].0.clone());
            Ok(Next::Stop)
        });
        fed.unwrap();
        assert_eq!((names.len(), inbox.messages()), (stored, stored as u64));
        bytes = &[];
    }
    assert_eq!(names, ["a", "b", "c"]);
    inbox
        .feed(b"\"4\"}", |message, _| {
            names.push(message.apps[0].0.clone());
            Ok(Next::Message)
        })
        .unwrap();
    assert_eq!(names.last().unwrap(), "d");
    assert!(!inbox.is_midway());
}
