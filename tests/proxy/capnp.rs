//! Cap'n Proto messages, valid and invalid ones, built word by word after
//! <https://capnproto.org/encoding.html>.

use crate::harness::{Proxy, capnp_message, eventually};
use crate::support::{Sender, logged, names, received, rejected, text_of};

/// List element sizes.
const BYTES: u64 = 2;
const TWO_BYTES: u64 = 3;

fn structure(offset: i32, data_words: u64, pointers: u64) -> u64 {
    u64::from((offset << 2) as u32) | data_words << 32 | pointers << 48
}

fn list(offset: i32, element: u64, count: u64) -> u64 {
    u64::from((offset << 2 | 1) as u32) | element << 32 | count << 35
}

/// A pointer to a landing pad of one word in another segment.
fn far(offset: u64, segment: u64) -> u64 {
    offset << 3 | 2 | segment << 32
}

/// A pointer to a landing pad of two words: a far pointer to the content, and a tag that
/// describes it.
fn double_far(offset: u64, segment: u64) -> u64 {
    offset << 3 | 4 | 2 | segment << 32
}

/// Bytes as words, padded.
fn words(bytes: &[u8]) -> Vec<u64> {
    bytes
        .chunks(8)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        })
        .collect()
}

/// The words of a text with its NUL.
fn text(text: &str) -> Vec<u64> {
    words(&[text.as_bytes(), &[0]].concat())
}

/// A pointer to a text of the given length.
fn text_pointer(offset: i32, text: &str) -> u64 {
    list(offset, BYTES, text.len() as u64 + 1)
}

/// The frame: segment table and segments.
fn message(segments: &[Vec<u64>]) -> Vec<u8> {
    let mut bytes = (segments.len() as u32 - 1).to_le_bytes().to_vec();
    for segment in segments {
        bytes.extend((segment.len() as u32).to_le_bytes());
    }
    if segments.len().is_multiple_of(2) {
        bytes.extend([0; 4]);
    }
    for word in segments.iter().flatten() {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

/// A message of one segment.
fn single(parts: &[&[u64]]) -> Vec<u8> {
    message(&[parts.concat()])
}

const NAME: &str = "far and wide";
const DATA: &str = "m{a=\"b\"} 1\n";

#[test]
fn messages_of_one_segment_and_of_many_are_read_wherever_their_parts_lie() {
    let (name, data) = (text(NAME), text(DATA));
    let name_words = name.len() as i32;
    let mut many = vec![vec![]; 511];
    many[0] = vec![structure(0, 0, 2), far(0, 1), far(0, 510)];
    many[1] = [&[text_pointer(0, NAME)], &*name].concat();
    many[510] = [&[text_pointer(0, DATA)], &*data].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "one segment, in order",
            single(&[
                &[
                    structure(0, 0, 2),
                    text_pointer(1, NAME),
                    text_pointer(name_words, DATA),
                ],
                &name,
                &data,
            ]),
        ),
        (
            "texts before the struct, with a gap",
            single(&[
                &[structure(2 + name_words + data.len() as i32, 0, 2), !0],
                &name,
                &data,
                &[!0],
                &[
                    text_pointer(-2 - name_words - data.len() as i32, NAME),
                    text_pointer(-3 - data.len() as i32, DATA),
                ],
            ]),
        ),
        (
            "a far pointer for each text",
            message(&[
                vec![structure(0, 0, 2), far(0, 1), far(1, 2)],
                [&[text_pointer(0, NAME)], &*name].concat(),
                [&[!0, text_pointer(0, DATA)], &*data].concat(),
            ]),
        ),
        (
            "a far root",
            message(&[
                vec![far(1, 1)],
                [
                    &[
                        !0,
                        structure(0, 0, 2),
                        text_pointer(1, NAME),
                        text_pointer(name_words, DATA),
                    ],
                    &*name,
                    &data,
                ]
                .concat(),
            ]),
        ),
        (
            "a double-far text",
            message(&[
                [
                    &[structure(0, 0, 2), double_far(0, 1), text_pointer(0, DATA)],
                    &*data,
                ]
                .concat(),
                vec![far(1, 2), text_pointer(0, NAME)],
                [&[!0], &*name].concat(),
            ]),
        ),
        (
            "a double-far root",
            message(&[
                vec![double_far(0, 1)],
                vec![far(0, 2), structure(0, 0, 2)],
                [
                    &[text_pointer(1, NAME), text_pointer(name_words, DATA)],
                    &*name,
                    &data,
                ]
                .concat(),
            ]),
        ),
        (
            "a newer schema with more of both",
            single(&[
                &[structure(0, 3, 4), !0, !0, !0],
                &[text_pointer(3, NAME), text_pointer(2 + name_words, DATA)],
                &[structure(-1, 0, 0), list(1 << 20, TWO_BYTES, 1 << 20)],
                &name,
                &data,
            ]),
        ),
        ("as many segments as there may be", message(&many)),
    ];
    let proxy = Proxy::start("");
    for (number, (case, bytes)) in cases.iter().enumerate() {
        // An empty text in between, so that each case has to store its own.
        proxy.push_tcp(&capnp_message(NAME, ""));
        assert_eq!(text_of(&proxy, NAME).as_deref(), Some(""), "{case}");
        assert_eq!(proxy.push_tcp(bytes), "", "{case}");
        assert_eq!(
            text_of(&proxy, NAME).as_deref(),
            Some(DATA),
            "{case}: {}",
            proxy.log()
        );
        let stored = received(&proxy, "tcp", "capnp", "ok");
        assert_eq!(stored, 2.0 * (number as f64 + 1.0), "{case}");
    }
    assert_eq!(names(&proxy), [NAME]);
    assert_eq!(rejected(&proxy), []);
}

#[test]
fn missing_fields_are_empty_texts() {
    let proxy = Proxy::start("");
    let name = text("bare");
    let short = single(&[&[structure(0, 0, 1), text_pointer(0, "bare")], &name]);
    let null = single(&[&[structure(0, 0, 2), text_pointer(1, "bare"), 0], &name]);
    let shared = single(&[
        &[structure(0, 0, 2), text_pointer(1, "bare")],
        &[text_pointer(0, "bare")],
        &name,
    ]);
    for (bytes, text) in [(short, ""), (shared, "bare\n"), (null, "")] {
        assert_eq!(proxy.push_tcp(&bytes), "");
        assert_eq!(text_of(&proxy, "bare").as_deref(), Some(text));
    }
    assert_eq!(rejected(&proxy), []);
}

/// (error, bytes, counted reason)
fn wrong_messages() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let name = text("wrong");
    let data = text("w 1");
    let with_name = |pointer: u64, rest: &[u64]| {
        single(&[
            &[structure(0, 0, 2), pointer, text_pointer(1, "w 1")],
            &data,
            rest,
        ])
    };
    let with_data = |pointer: u64, rest: &[u64]| {
        single(&[
            &[structure(0, 0, 2), text_pointer(1, "wrong"), pointer],
            &name,
            rest,
        ])
    };
    let mut cut = capnp_message("wrong", "w 1");
    cut.truncate(cut.len() - 1);
    let table = |count: u32, words: u32| {
        [count.to_le_bytes(), words.to_le_bytes(), [0; 4], [0; 4]].concat()
    };
    vec![
        ("a null root", single(&[&[0]]), "bad_name"),
        ("no pointers", single(&[&[structure(-1, 0, 0)]]), "bad_name"),
        (
            "a null name",
            single(&[&[structure(0, 0, 2), 0, text_pointer(0, "w 1")], &data]),
            "bad_name",
        ),
        ("a segment without a root", message(&[vec![]]), "malformed"),
        ("segment count 0", vec![0xff; 4], "malformed"),
        ("512 segments", table(511, 1), "malformed"),
        ("65,792 segments", table(65_791, 1), "malformed"),
        ("a huge segment", table(0, u32::MAX), "too_large"),
        ("16 MiB and a word", table(0, (16 << 20) / 8), "too_large"),
        (
            "many segments, too large together",
            [
                2u32.to_le_bytes(),
                (1u32 << 20).to_le_bytes(),
                (1u32 << 20).to_le_bytes(),
                (1u32 << 20).to_le_bytes(),
            ]
            .concat(),
            "too_large",
        ),
        (
            "a name without NUL",
            with_name(list(2, BYTES, 5), &words(b"wrong")),
            "malformed",
        ),
        (
            "a text without NUL",
            with_data(list(1, BYTES, 3), &words(b"w 1")),
            "malformed",
        ),
        (
            "a text of no bytes",
            with_data(list(1, BYTES, 0), &data),
            "malformed",
        ),
        (
            "a name that is not UTF-8",
            with_name(list(1, BYTES, 4), &words(b"wr\xff\0")),
            "invalid_utf8",
        ),
        (
            "a text that is not UTF-8",
            with_data(list(1, BYTES, 4), &words(b"w \xff\0")),
            "invalid_utf8",
        ),
        (
            "a list of two-byte elements",
            with_data(list(0, TWO_BYTES, 2), &data),
            "malformed",
        ),
        (
            "a list of structs",
            with_data(list(0, 7, 1), &[structure(1, 1, 0), 0]),
            "malformed",
        ),
        (
            "a struct for a text",
            with_data(structure(0, 1, 0), &data),
            "malformed",
        ),
        ("a capability for a text", with_data(3, &data), "malformed"),
        (
            "a text past the end",
            with_data(list(0, BYTES, 9), &data),
            "malformed",
        ),
        (
            "a text far past the end",
            with_data(list(1 << 28, BYTES, 4), &data),
            "malformed",
        ),
        (
            "a text before the beginning",
            with_data(list(-1000, BYTES, 4), &data),
            "malformed",
        ),
        (
            "the longest text there could be",
            with_data(list(0, BYTES, (1 << 29) - 1), &data),
            "malformed",
        ),
        (
            "a list for a root",
            single(&[&[list(0, BYTES, 4)], &data]),
            "malformed",
        ),
        (
            "a root past the end",
            single(&[&[structure(0, 0, 2), 0]]),
            "malformed",
        ),
        (
            "a far pointer to no segment",
            with_data(far(0, 1), &data),
            "malformed",
        ),
        (
            "a far pointer past its segment",
            with_data(far(99, 0), &data),
            "malformed",
        ),
        (
            "a far root that is its own pad",
            single(&[&[far(0, 0)]]),
            "malformed",
        ),
        (
            "far pointers in a circle",
            message(&[vec![far(0, 1)], vec![far(0, 0)]]),
            "malformed",
        ),
        (
            "double-far pointers in a circle",
            message(&[
                vec![double_far(0, 1)],
                vec![double_far(0, 1), double_far(0, 1)],
            ]),
            "malformed",
        ),
        (
            "a root whose name is the root",
            single(&[&[structure(-1, 0, 1)]]),
            "malformed",
        ),
        ("a message cut short", cut, "truncated"),
        ("a table cut short", vec![0, 0, 0, 0, 5], "truncated"),
    ]
}

#[test]
fn a_wrong_message_closes_the_connection_without_a_word_and_leaves_no_trace() {
    let proxy = Proxy::start_with("", &[("RECEIVER_FORMAT", "capnp")]);
    for (number, (case, bytes, reason)) in wrong_messages().into_iter().enumerate() {
        let before = received(&proxy, "tcp", "capnp", reason);
        let mut sender = Sender::connect(&proxy);
        let earlier = format!("e {number}\n");
        sender.send(&[capnp_message("earlier", &earlier), bytes].concat());
        // Only a message that could still be completed gets an error.
        if reason == "truncated" {
            sender.half_close();
        }
        assert_eq!(sender.read_to_end(), "", "{case}");
        assert_eq!(
            received(&proxy, "tcp", "capnp", reason),
            before + 1.0,
            "{case}: {:?} {}",
            rejected(&proxy),
            proxy.log()
        );
        assert_eq!(names(&proxy), ["earlier"], "{case}");
        assert_eq!(text_of(&proxy, "earlier"), Some(earlier), "{case}");
    }
    let total: u64 = rejected(&proxy).iter().map(|(.., count)| count).sum();
    assert_eq!(total, wrong_messages().len() as u64);
}

#[test]
fn what_follows_a_wrong_message_is_not_read() {
    let proxy = Proxy::start("");
    let bytes = [
        capnp_message("first", "a 1"),
        capnp_message("second", "b 1"),
        single(&[&[0]]),
        capnp_message("third", "c 1"),
    ]
    .concat();
    assert_eq!(proxy.push_tcp(&bytes), "");
    assert_eq!(names(&proxy), ["first", "second"]);
    assert_eq!(received(&proxy, "tcp", "capnp", "ok"), 2.0);
    assert_eq!(rejected(&proxy), [("capnp".into(), "bad_name".into(), 1)]);
    logged(&proxy, "capnp message 3 from 127.0.0.1:", 1);
}

#[test]
fn messages_sent_byte_by_byte_are_each_stored_when_they_are_whole() {
    let proxy = Proxy::start("");
    let mut sender = Sender::connect(&proxy);
    for number in 1..=3 {
        let bytes = capnp_message("app", &format!("m {number}"));
        let (last, others) = bytes.split_last().unwrap();
        for byte in others {
            sender.send(&[*byte]);
        }
        let before = (number > 1).then(|| format!("m {}\n", number - 1));
        assert_eq!(text_of(&proxy, "app"), before);
        sender.send(&[*last]);
        eventually(
            || text_of(&proxy, "app"),
            |seen| *seen == Some(format!("m {number}\n")),
        );
    }
    sender.half_close();
    assert_eq!(sender.read_to_end(), "");
    assert_eq!(received(&proxy, "tcp", "capnp", "ok"), 3.0);
    assert_eq!(rejected(&proxy), []);
}

#[test]
fn a_receiver_of_one_format_rejects_the_other() {
    let capnp = capnp_message("app", "m 1");
    let json = b"{\"app\":\"m 1\"}";

    let proxy = Proxy::start("[receiver]\nformat = \"capnp\"\n");
    assert_eq!(proxy.push_tcp(json), "");
    assert_eq!(proxy.push_unix(json), "");
    assert_eq!(names(&proxy), [""; 0]);
    for receiver in ["tcp", "unix"] {
        assert_eq!(received(&proxy, receiver, "capnp", "malformed"), 1.0);
    }
    assert_eq!(proxy.push_tcp(&capnp), "");
    assert_eq!(names(&proxy), ["app"]);

    let proxy = Proxy::start("[receiver]\nformat = \"json\"\n");
    for answer in [proxy.push_tcp(&capnp), proxy.push_unix(&capnp)] {
        assert!(
            answer.starts_with("error: line 1, column 1: expected `{`"),
            "{answer}"
        );
    }
    assert_eq!(names(&proxy), [""; 0]);
    for receiver in ["tcp", "unix"] {
        assert_eq!(received(&proxy, receiver, "json", "malformed"), 1.0);
    }
    assert_eq!(proxy.push_unix(json), "");
    assert_eq!(names(&proxy), ["app"]);
}
