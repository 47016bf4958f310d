//! Apps that push JSON: texts are served as sent, and errors are reported.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::harness::{Proxy, capnp_message, eventually};
use crate::support::{Sender, in_time, logged, names, received, rejected, text_of};

#[test]
fn both_formats_are_detected_on_both_sockets() {
    let proxy = Proxy::start("");
    assert_eq!(proxy.push_tcp(b"{\"json_tcp\":\"a 1\"}"), "");
    assert_eq!(proxy.push_unix(b"{\"json_unix\":[\"b 1\",\"c 2\"]}"), "");
    assert_eq!(proxy.push_tcp(&capnp_message("capnp_tcp", "d 1")), "");
    assert_eq!(proxy.push_unix(&capnp_message("capnp_unix", "e 1\n")), "");
    let metrics = proxy.metrics();
    assert!(
        metrics.ends_with("\nd 1\ne 1\na 1\nb 1\nc 2\n"),
        "{metrics}"
    );
    for receiver in ["tcp", "unix"] {
        for format in ["capnp", "json"] {
            assert_eq!(received(&proxy, receiver, format, "ok"), 1.0);
        }
    }
    assert_eq!(rejected(&proxy), []);
}

#[test]
fn every_key_of_a_document_with_texts_and_lists_mixed_is_stored() {
    let proxy = Proxy::start("");
    let document = br##"{
        "list": ["# TYPE l gauge", "l 1", "l{a=\"b\"} 2"],
        "text": "t 1\nt{a=\"}{\"} 2\n",
        "another list": ["x 1"],
        "another text": "y 1"
    }"##;
    assert_eq!(proxy.push_tcp(document), "");
    assert_eq!(
        names(&proxy),
        ["another list", "another text", "list", "text"]
    );
    for (name, text) in [
        ("list", "# TYPE l gauge\nl 1\nl{a=\"b\"} 2\n"),
        ("text", "t 1\nt{a=\"}{\"} 2\n"),
        ("another list", "x 1\n"),
        ("another text", "y 1\n"),
    ] {
        assert_eq!(text_of(&proxy, name).as_deref(), Some(text), "{name}");
    }
    // One document is one message, however many apps it names.
    assert_eq!(received(&proxy, "tcp", "json", "ok"), 1.0);
}

#[test]
fn each_of_several_documents_is_visible_before_the_end_of_input() {
    let proxy = Proxy::start("");
    let mut sender = Sender::connect(&proxy);
    let documents = [
        "{\"app\":\"m 1\"}",
        "{\"app\":\"m 2\"}\n",
        "{\"app\":\"m 3\"}\r\n \t\n",
        "{\n  \"app\" : [\n    \"m 4\"\n  ]\n}\n",
        "{\"other\":\"o 1\"}{\"app\":\"m 5\"}",
    ];
    for (count, document) in documents.iter().enumerate() {
        sender.send(document.as_bytes());
        let text = format!("m {}\n", count + 1);
        eventually(
            || text_of(&proxy, "app"),
            |seen| seen.as_deref() == Some(&text),
        );
    }
    assert_eq!(names(&proxy), ["app", "other"]);
    sender.half_close();
    assert_eq!(sender.read_to_end(), "");
    assert_eq!(received(&proxy, "tcp", "json", "ok"), 6.0);
    assert_eq!(rejected(&proxy), []);
}

#[test]
fn a_document_sent_byte_by_byte_is_stored_once_it_is_whole() {
    let proxy = Proxy::start("");
    let mut sender = Sender::connect(&proxy);
    let document = "{\"a\\\"b\":[\"x{y=\\\"é\\\\\\\"} 1\"]}";
    for byte in document.as_bytes() {
        assert_eq!(text_of(&proxy, "a\"b"), None);
        sender.send(&[*byte]);
    }
    let text = eventually(|| text_of(&proxy, "a\"b"), Option::is_some);
    assert_eq!(text.as_deref(), Some("x{y=\"é\\\"} 1\n"));
}

/// An invalid document and the expected error: (document, reason, position, words of the line).
type Wrong = (Vec<u8>, &'static str, Option<(u32, u32)>, &'static str);

/// Where possible, the documents name the app `wrong` first, so that a partly stored document would
/// be noticed.
fn wrong_documents() -> Vec<Wrong> {
    const MALFORMED: &str = "malformed";
    let with = |text: &str| text.as_bytes().to_vec();
    let long = "n".repeat(257);
    vec![
        (with("[\"wrong\"]"), MALFORMED, Some((1, 1)), "not `[`"),
        (with("\"wrong\""), MALFORMED, Some((1, 1)), "not `\"`"),
        (with("17"), MALFORMED, Some((1, 1)), "not `1`"),
        (with("null"), MALFORMED, Some((1, 1)), "not `n`"),
        (
            with("{\"wrong\":\"w 1\",\"x\":1}"),
            MALFORMED,
            Some((1, 20)),
            "invalid type: integer `1`, expected text or a list of lines for app \"x\"",
        ),
        (
            with("{\"wrong\":\"w 1\",\"x\":-1}"),
            MALFORMED,
            Some((1, 20)),
            "expected text or a list of lines, not `-`",
        ),
        (
            with("{\"wrong\":\"w 1\",\n\"x\":{\"y\":\"z\"}}"),
            MALFORMED,
            Some((2, 5)),
            "expected text or a list of lines for app \"x\"",
        ),
        (
            with("{\"wrong\":\"w 1\",\"x\":null}"),
            MALFORMED,
            Some((1, 20)),
            "expected text or a list of lines, not `n`",
        ),
        (
            with("{\"wrong\":\"w 1\",\"x\":true}"),
            MALFORMED,
            Some((1, 20)),
            "expected text or a list of lines, not `t`",
        ),
        (
            with("{\"wrong\":\"w 1\",\"x\":[\"y\",[\"z\"]]}"),
            MALFORMED,
            Some((1, 25)),
            "expected a line of text for app \"x\"",
        ),
        (
            with("{\"wrong\":\"w 1\",\"x\":[\"y\",2]}"),
            MALFORMED,
            Some((1, 25)),
            "expected a line of text for app \"x\"",
        ),
        (
            with("{\"wrong\":\"w 1\",}"),
            MALFORMED,
            Some((1, 16)),
            "trailing comma",
        ),
        (
            with("{\"wrong\":\"w 1\" \"x\":\"y\"}"),
            MALFORMED,
            Some((1, 16)),
            "expected `,` or `}`",
        ),
        (
            with("{\"wrong\" \"w 1\"}"),
            MALFORMED,
            Some((1, 10)),
            "expected `:`",
        ),
        (
            with("{'wrong':'w 1'}"),
            MALFORMED,
            Some((1, 2)),
            "key must be a string",
        ),
        (
            with("{{\"wrong\":\"w 1\"}}"),
            MALFORMED,
            Some((1, 2)),
            "key must be a string",
        ),
        (
            with("{\"wrong\":\"w\t1\"}"),
            MALFORMED,
            Some((1, 12)),
            "control character",
        ),
        (
            with("{\"wrong\":\"w \\x\"}"),
            MALFORMED,
            Some((1, 14)),
            "invalid escape",
        ),
        (
            with("{\"wrong\":\"w \\ud800 1\"}"),
            MALFORMED,
            Some((1, 19)),
            "unexpected end of hex escape",
        ),
        (
            with("{\"wrong\":\"w \\udc00 1\"}"),
            MALFORMED,
            Some((1, 18)),
            "surrogate",
        ),
        (
            b"\xEF\xBB\xBF{\"wrong\":\"w 1\"}".to_vec(),
            MALFORMED,
            Some((1, 1)),
            "byte order mark",
        ),
        (
            b"{\"wrong\":\n\"w \xff1\"}".to_vec(),
            "invalid_utf8",
            Some((2, 4)),
            "not UTF-8",
        ),
        (
            b"{\"wrong\":\"w \xed\xa0\x801\"}".to_vec(),
            "invalid_utf8",
            Some((1, 13)),
            "not UTF-8",
        ),
        (
            with("{\"wrong\":\"w 1\",\n \"x"),
            "truncated",
            Some((2, 4)),
            "ends too early",
        ),
        (
            with("{\"wrong\":\"w 1\""),
            "truncated",
            Some((1, 15)),
            "ends too early",
        ),
        (
            with("{\"wrong\":\"w 1\",\"\":\"x\"}"),
            "bad_name",
            None,
            "may not be empty",
        ),
        (
            with(&format!("{{\"wrong\":\"w 1\",\"{long}\":\"x\"}}")),
            "bad_name",
            None,
            "257 bytes exceeds the limit of 256 bytes (receiver.max_app_name)",
        ),
        (
            with("{\"wrong\":\"w 1\",\"a\\u0007b\":\"x\"}"),
            "bad_name",
            None,
            "control characters: \"a\\u{7}b\"",
        ),
        (
            with("{\"wrong\":\"w 1\",\"a\\u0085b\":\"x\"}"),
            "bad_name",
            None,
            "control characters",
        ),
    ]
}

#[test]
fn a_wrong_document_gets_one_line_is_counted_and_leaves_no_trace() {
    let proxy = Proxy::start("");
    for (number, (document, reason, position, words)) in wrong_documents().into_iter().enumerate() {
        let shown = String::from_utf8_lossy(&document).into_owned();
        let earlier = format!("{{\"earlier\":\"e {number}\"}}\n");
        let before = rejected(&proxy);

        let answer = proxy.push_tcp(&[earlier.as_bytes(), &document].concat());
        let place = position.map_or_else(
            || "error: document 2, ".to_owned(),
            |(line, column)| format!("error: document 2, line {line}, column {column}: "),
        );
        assert!(answer.starts_with(&place), "{shown}: {answer}");
        assert!(answer.contains(words), "{shown}: {answer}");
        assert!(answer.ends_with('\n'), "{shown}: {answer:?}");
        assert_eq!(answer.lines().count(), 1, "{shown}: {answer}");

        let new: Vec<_> = rejected(&proxy)
            .into_iter()
            .filter(|count| !before.contains(count))
            .collect();
        let earlier = before
            .iter()
            .find(|(_, other, _)| other == reason)
            .map_or(0, |(.., count)| *count);
        assert_eq!(
            new,
            [("json".to_owned(), reason.to_owned(), earlier + 1)],
            "{shown}"
        );
        assert_eq!(names(&proxy), ["earlier"], "{shown}");
        assert_eq!(
            text_of(&proxy, "earlier").unwrap(),
            format!("e {number}\n"),
            "{shown}"
        );
    }
}

#[test]
fn a_wrong_first_document_gets_the_same_line_without_a_number_on_both_sockets() {
    let proxy = Proxy::start("");
    let wrong = b"{\"wrong\":\"w 1\",\"x\":7}";
    let expected = "error: line 1, column 20: invalid type: integer `7`, \
                    expected text or a list of lines for app \"x\"\n";
    assert_eq!(proxy.push_tcp(wrong), expected);
    assert_eq!(proxy.push_unix(wrong), expected);
    for receiver in ["tcp", "unix"] {
        assert_eq!(received(&proxy, receiver, "json", "malformed"), 1.0);
    }
    assert_eq!(names(&proxy), [""; 0]);
    let log = logged(&proxy, "rejected (malformed)", 2);
    assert_eq!(log.matches("rejected (").count(), 2, "{log}");
}

#[test]
fn garbage_after_a_document_is_reported_and_the_document_stays() {
    let proxy = Proxy::start("");
    for (garbage, said) in [
        ("x", "not `x`"),
        ("}", "not `}`"),
        (",{\"wrong\":\"w 1\"}", "not `,`"),
        ("\0", "not byte 0x00"),
    ] {
        let answer = proxy.push_tcp(format!("{{\"app\":\"m 1\"}}{garbage}").as_bytes());
        assert!(answer.starts_with("error: document 2, line 1, column 1: "));
        assert!(answer.contains(said), "{garbage:?}: {answer}");
        assert_eq!(names(&proxy), ["app"]);
    }
    assert_eq!(received(&proxy, "tcp", "json", "ok"), 4.0);
    assert_eq!(received(&proxy, "tcp", "json", "malformed"), 4.0);
}

#[test]
fn the_error_comes_at_once_and_arrives_though_the_sender_sends_a_mebibyte_more() {
    let proxy = Proxy::start("[receiver]\nmessage_timeout = \"1h\"\n");
    // The proxy reads for one second.
    let read = in_time(Duration::from_millis(900), || {
        let mut sender = Sender::connect(&proxy);
        sender.send(b"{\"wrong\":\"w 1\",\"x\":7,");
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            sender.0.read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        let line = String::from_utf8(line).unwrap();
        assert!(
            line.starts_with("error: line 1, column 20: invalid type"),
            "{line}"
        );
        // It reads what is still sent, and the connection ends without a reset: a reset could
        // cost a slow sender the line. The requests in between give it time to get past the line.
        for _ in 0..4 {
            proxy.get("/ping");
            sender.0.write_all(&[b' '; 256 << 10])?;
        }
        sender.0.shutdown(Shutdown::Write)?;
        sender.0.read(&mut [0])
    });
    assert_eq!(read, 0);

    // The document is unfinished, and nothing more comes.
    let mut sender = Sender::connect(&proxy);
    sender.send(b"{\"wrong\":{");
    let answer = sender.read_to_end();
    assert!(answer.starts_with("error: line 1, column 10: "), "{answer}");
    let mut sender = Sender::connect(&proxy);
    sender.send(b"{\"wrong\":1");
    let answer = sender.read_to_end();
    assert!(
        answer.contains("expected text or a list of lines"),
        "{answer}"
    );
    assert_eq!(names(&proxy), [""; 0]);
}

#[test]
fn text_in_neither_format_gets_an_error_that_names_both() {
    let proxy = Proxy::start("");
    let answer = proxy.push_tcp(b"GET /metrics HTTP/1.1\r\n\r\n");
    let advice = "not an HTTP port: read metrics at exporter.scrape_expose_endpoint";
    assert!(answer.contains(advice), "{answer}");
    let answer = proxy.push_tcp(b"POST /metrics/job/x HTTP/1.1\r\n\r\n");
    let advice = "not an HTTP port: push over HTTP to push.listen";
    assert!(answer.contains(advice), "{answer}");
    let answer = proxy.push_tcp(b"m 1\n");
    assert!(answer.contains("expected `{`"), "{answer}");
    assert_eq!(received(&proxy, "tcp", "json", "malformed"), 3.0);
}

#[test]
fn an_empty_object_and_white_space_store_nothing_and_are_no_error() {
    let proxy = Proxy::start("");
    for nothing in ["", "{}", " { \n } ", "\n", "{}{}\n{}", " "] {
        assert_eq!(proxy.push_tcp(nothing.as_bytes()), "", "{nothing:?}");
    }
    assert_eq!(names(&proxy), [""; 0]);
    assert_eq!(rejected(&proxy), []);
    assert_eq!(received(&proxy, "tcp", "json", "ok"), 5.0);
}

#[test]
fn texts_are_stored_as_sent_with_a_missing_last_newline_added() {
    let proxy = Proxy::start("");
    for (value, text) in [
        ("\"m 1\"", "m 1\n"),
        ("\"m 1\\n\"", "m 1\n"),
        ("\"\\nm 1\\n\\n\"", "\nm 1\n\n"),
        ("\"\"", ""),
        ("[]", "\n"),
        ("[\"\"]", "\n"),
        ("[\"m 1\", \"\", \"n 2\"]", "m 1\n\nn 2\n"),
        ("\"m{a=\\\"\\\\n\\\"} 1\"", "m{a=\"\\n\"} 1\n"),
    ] {
        assert_eq!(
            proxy.push_tcp(format!("{{\"app\":{value}}}").as_bytes()),
            ""
        );
        assert_eq!(text_of(&proxy, "app").as_deref(), Some(text), "{value}");
    }
}

#[test]
fn a_later_text_replaces_an_earlier_one_whichever_socket_it_comes_by() {
    let proxy = Proxy::start("");
    proxy.push_tcp(b"{\"app\":\"m 1\"}");
    proxy.push_unix(b"{\"app\":\"m 2\"}");
    assert_eq!(text_of(&proxy, "app").as_deref(), Some("m 2\n"));
    proxy.push_tcp(&capnp_message("app", "m 3"));
    assert_eq!(text_of(&proxy, "app").as_deref(), Some("m 3\n"));
    // If a document has a name twice, the last text wins.
    proxy.push_tcp(b"{\"app\":\"m 4\",\"app\":\"m 5\"}");
    assert_eq!(text_of(&proxy, "app").as_deref(), Some("m 5\n"));
    assert_eq!(names(&proxy), ["app"]);
}

#[test]
fn names_and_texts_may_have_any_characters_plain_or_escaped() {
    let proxy = Proxy::start("");
    let document = "{\"é\":\"a{x=\\\"ü\\\"} 1\",\
                    \"\\u0065\\u0301\":\"b 1\",\
                    \"\\ud83d\\ude00 \\\"\\\\/\":\"c{x=\\\"\\ud83d\\ude00\\\"} 1\",\
                    \"日本 語\":[\"d \\u00e9\"]}";
    assert_eq!(proxy.push_tcp(document.as_bytes()), "");
    for (name, text) in [
        ("é", "a{x=\"ü\"} 1\n"),
        ("e\u{301}", "b 1\n"),
        ("😀 \"\\/", "c{x=\"😀\"} 1\n"),
        ("日本 語", "d é\n"),
    ] {
        assert_eq!(text_of(&proxy, name).as_deref(), Some(text), "{name}");
    }
    // As a label value, the name is escaped.
    let metrics = proxy.metrics();
    assert!(
        metrics.contains("last_update_timestamp_seconds{app=\"😀 \\\"\\\\/\"} "),
        "{metrics}"
    );
}
