mod natives;
mod random;

use std::hash::RandomState;
use std::slice::from_ref;

use super::wire::{put_bytes, put_double, put_unsigned, put_varint};
use super::*;
use crate::exposition::{
    AddedLabel, CanonicalOptions, Escaping, LabelConflict, Metrics, NativeHistogram,
    TimestampPolicy, canonicalize,
};

const LIMITS: DecodeLimits = DecodeLimits {
    families: 1000,
    text: 1 << 20,
};

/// A message while it is written.
#[derive(Debug, Clone, Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(mut self, field: u32, value: u64) -> Self {
        put_unsigned(&mut self.0, field, value);
        self
    }

    fn signed(self, field: u32, value: i64) -> Self {
        self.number(field, ((value << 1) ^ (value >> 63)) as u64)
    }

    fn double(mut self, field: u32, value: f64) -> Self {
        put_double(&mut self.0, field, value);
        self
    }

    fn text(mut self, field: u32, text: &str) -> Self {
        put_bytes(&mut self.0, field, text.as_bytes());
        self
    }

    fn with(mut self, field: u32, message: Message) -> Self {
        put_varint(&mut self.0, u64::from(field) << 3 | 2);
        put_varint(&mut self.0, message.0.len() as u64);
        self.0.extend(message.0);
        self
    }
}

fn message() -> Message {
    Message::default()
}

fn labelled(labels: &[(&str, &str)]) -> Message {
    labels.iter().fold(message(), |metric, (name, value)| {
        metric.with(1, message().text(1, name).text(2, value))
    })
}

/// Each bucket repeats all labels in text.
#[test]
fn long_histogram_labels_are_measured() {
    let long = "v".repeat(16 << 10);
    let names: Vec<String> = (0..6).map(|n| format!("l{n}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*long)).collect();
    let histogram = (0..250).fold(message().number(1, 1), |histogram, at| {
        histogram.with(3, message().number(1, 1).double(2, f64::from(at)))
    });
    let metric = labelled(&pairs).with(7, histogram);
    let body = body(&[family("h", 4, &[metric])]);
    assert!(body.len() < 200_000);
    let measured = measure(&body);
    assert_eq!(measured.samples, 252);
    let roomy = DecodeLimits {
        families: 1,
        text: usize::MAX,
    };
    let text = decode(&body, &roomy).unwrap().text;
    assert!(text.len() > 24_000_000);
    assert!(measured.bytes <= text.len() && text.len() - measured.bytes < text.len() / 50);
    let fault = decode(
        &body,
        &DecodeLimits {
            text: 1 << 20,
            ..roomy
        },
    )
    .unwrap_err();
    assert!(
        fault.is_limit && fault.to_string().contains("(exposition.max_text)"),
        "{fault}"
    );
}

#[test]
fn a_family_that_comes_twice_has_one_type() {
    let gauge = message().with(2, message().double(1, 1.0));
    let counter = message().with(3, message().double(1, 2.0));
    let again = message().with(2, message().double(1, 3.0));
    let text = |families: &[Message]| decode(&body(families), &LIMITS).map(|it| it.text);
    let first = family("m", 1, &[gauge]);
    assert_eq!(
        text(&[first.clone(), family("m", 1, &[again])]).unwrap(),
        "# TYPE m gauge\nm 3\n"
    );
    let error = text(&[first, family("m", 0, &[counter])]).unwrap_err();
    let problem = "expected the type of family 1 of this name, 1, found 0";
    assert!(
        error.to_string().starts_with("family 2 (\"m\"), byte ")
            && error.to_string().ends_with(problem),
        "{error}"
    );
}

fn message_span(offset: i64, length: u64) -> Message {
    message().signed(1, offset).number(2, length)
}

fn family(name: &str, kind: u64, metrics: &[Message]) -> Message {
    let family = message().text(1, name).number(3, kind);
    metrics
        .iter()
        .fold(family, |family, metric| family.with(4, metric.clone()))
}

fn body(families: &[Message]) -> Vec<u8> {
    let mut body = Vec::new();
    for family in families {
        put_varint(&mut body, family.0.len() as u64);
        body.extend_from_slice(&family.0);
    }
    body
}

fn decoded(families: &[Message]) -> DecodedBody {
    decode(&body(families), &LIMITS).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(families: &[Message]) -> String {
    match decode(&body(families), &LIMITS) {
        Ok(decoded) => panic!("taken: {decoded:?}"),
        Err(error) => error.to_string(),
    }
}

fn counter(labels: &[(&str, &str)], value: f64) -> Message {
    labelled(labels).with(3, message().double(1, value))
}

/// A sound native histogram of 6 observations: 1 at zero, 2 and 3 above.
fn native() -> Message {
    message()
        .number(1, 6)
        .double(2, 9.5)
        .signed(5, 3)
        .double(6, 1e-128)
        .number(7, 1)
        .with(12, message().signed(1, -2).number(2, 2))
        .signed(13, 2)
        .signed(13, 1)
}

#[test]
fn every_kind_is_decoded_to_text() {
    let bucket = |count, bound| message().number(1, count).double(2, bound);
    let histogram = message()
        .with(3, bucket(2, 0.5))
        .with(3, message().double(4, 2.5).double(2, 1e6))
        .number(1, 3)
        .double(2, -0.25);
    let summary = message()
        .number(1, 7)
        .double(2, 1.5)
        .with(3, message().double(1, 0.99).double(2, f64::NAN));
    let families = [
        family(
            "c_total",
            0,
            &[counter(&[("b", "x\"\\\n"), ("a", "é")], 3.0)],
        ),
        message()
            .text(1, "g")
            .text(2, "back\\slash\nand \"quotes\"\r")
            .number(3, 1)
            .with(
                4,
                message()
                    .with(2, message().double(1, f64::INFINITY))
                    .number(6, 0),
            ),
        family("s", 2, &[labelled(&[("x", "")]).with(4, summary)]),
        family("u", 3, &[message().with(5, message())]),
        family(
            "h",
            4,
            &[labelled(&[("a", "1")]).with(7, histogram).number(6, 17)],
        ),
    ];
    assert_eq!(
        decoded(&families).text,
        "# TYPE c_total counter\nc_total{a=\"é\",b=\"x\\\"\\\\\\n\"} 3\n\
         # HELP g back\\\\slash\\nand \"quotes\"\n# TYPE g gauge\ng +Inf 0\n\
         # TYPE s summary\ns{x=\"\",quantile=\"0.99\"} NaN\ns_sum{x=\"\"} 1.5\ns_count{x=\"\"} 7\n\
         # TYPE u untyped\nu 0\n\
         # TYPE h histogram\nh_bucket{a=\"1\",le=\"0.5\"} 2 17\nh_bucket{a=\"1\",le=\"1e+06\"} 2.5 17\n\
         h_bucket{a=\"1\",le=\"+Inf\"} 3 17\nh_sum{a=\"1\"} -0.25 17\nh_count{a=\"1\"} 3 17\n"
    );
}

#[test]
fn non_legacy_names_are_quoted() {
    let histogram = labelled(&[("my label", "v")]).with(7, message().number(1, 1));
    let families = [
        family("my.name", 1, &[message().with(2, message().double(1, 1.0))]),
        family("my.\"h", 4, &[histogram]),
    ];
    assert_eq!(
        decoded(&families).text,
        "# TYPE \"my.name\" gauge\n{\"my.name\"} 1\n# TYPE \"my.\\\"h\" histogram\n\
         {\"my.\\\"h_bucket\",\"my label\"=\"v\",le=\"+Inf\"} 1\n\
         {\"my.\\\"h_sum\",\"my label\"=\"v\"} 0\n{\"my.\\\"h_count\",\"my label\"=\"v\"} 1\n"
    );
}

#[test]
fn missing_type_is_counter_and_the_last_family_counts() {
    let untyped = message().text(1, "c").with(4, counter(&[], 1.0));
    assert_eq!(decoded(from_ref(&untyped)).text, "# TYPE c counter\nc 1\n");
    let histogram = family("n", 4, &[message().with(7, native())]);
    let classic = message().with(7, message().number(1, 2).double(2, 3.0));
    let families = [
        untyped,
        histogram,
        family("n", 4, &[classic]),
        family("c", 0, &[]),
    ];
    let decoded = decoded(&families);
    assert_eq!(
        decoded.text,
        "# TYPE n histogram\nn_bucket{le=\"+Inf\"} 2\nn_sum 3\nn_count 2\n"
    );
    assert_eq!(decoded.natives, []);
}

#[test]
fn pieces_of_a_message_are_merged() {
    let metric = message()
        .with(7, message().number(1, 5).double(6, 1.0))
        .with(7, message().number(1, 1).number(7, 1));
    let decoded = decoded(&[family("n", 4, &[metric])]);
    assert!(decoded.text.ends_with("n_count 1\n"), "{}", decoded.text);
    let whole = message()
        .number(1, 5)
        .double(6, 1.0)
        .number(1, 1)
        .number(7, 1);
    assert_eq!(decoded.natives[0].native.histogram, whole.0);
}

#[test]
fn packed_and_single_numbers_are_equal() {
    let mut packed = message().number(1, 5).with(12, message().number(2, 2));
    put_bytes(&mut packed.0, 13, &[4, 2]);
    let decoded = decoded(&[family("n", 4, &[message().with(7, packed)])]);
    assert_eq!(decoded.natives.len(), 1);
}

#[test]
fn errors_name_family_and_byte() {
    let one = counter(&[], 1.0);
    for (families, expected) in [
        (
            vec![message()],
            "family 1, byte 1: expected a family's name, found none",
        ),
        (
            vec![family("ok", 0, from_ref(&one)), family("x\0", 0, &[])],
            "family 2 (\"x\\0\"), byte 21: expected a family's name, found NUL in it",
        ),
        (
            vec![family("g", 1, from_ref(&one))],
            "family 1 (\"g\"), byte 6: expected a gauge, by the family's type, found a counter",
        ),
        (
            vec![family("g", 6, &[])],
            "family 1 (\"g\"), byte 4: expected a family's type from 0 to 5, found 6",
        ),
        (
            vec![family("c", 0, &[counter(&[("a", "1"), ("a", "2")], 1.0)])],
            "expected each label once, found a second \"a\"",
        ),
        (
            vec![family("c", 0, &[counter(&[("__name__", "1")], 1.0)])],
            "expected a label's name, found the reserved __name__",
        ),
        (
            vec![family(
                "h",
                4,
                &[labelled(&[("le", "1")]).with(7, message())],
            )],
            "expected a label's name, found the label of its components",
        ),
        (
            vec![family(
                "h",
                4,
                &[message().with(7, message().with(3, message().double(2, f64::NAN)))],
            )],
            "expected a bucket's upper bound, found NaN",
        ),
        (
            vec![family("c", 0, &[one.clone().number(6, u64::MAX)])],
            "expected a time from 1970 on, since text cannot show earlier ones, found -1",
        ),
        (
            vec![
                family("h_sum", 0, from_ref(&one)),
                family("h", 4, &[message().with(7, message())]),
            ],
            "family 2 (\"h\"), byte 24: expected no other family named like a component of this one, found family 1",
        ),
        (
            vec![message().text(1, "c").double(3, 1.0)],
            "expected a family's type in field 3, found 8 bytes of a number",
        ),
    ] {
        let error = refused(&families);
        assert!(error.contains(expected), "{error}");
    }
    let invalid = {
        let mut name = message();
        put_bytes(&mut name.0, 1, b"ab\xff");
        name
    };
    assert_eq!(
        refused(&[invalid]),
        "family 1, byte 5: expected a family's name in UTF-8, found other bytes"
    );
}

#[test]
fn truncated_and_oversized_bodies_are_rejected() {
    let whole = body(&[family("c", 0, &[counter(&[("a", "b")], 1.0)])]);
    for end in 1..whole.len() {
        let error = decode(&whole[..end], &LIMITS).expect_err("it is cut");
        assert_eq!(error.family, Some(1), "{error}");
    }
    let error = decode(&[0xff; 11], &LIMITS).expect_err("no length");
    assert_eq!(
        error.to_string(),
        "family 1, byte 0: expected the length of a family, found one of more than 64 bits"
    );
    let families = vec![family("c", 0, &[]); 3];
    let limits = DecodeLimits {
        families: 2,
        ..LIMITS
    };
    let error = decode(&body(&families), &limits).expect_err("too many");
    assert_eq!(
        error.to_string(),
        "byte 12: expected at most 2 families (exposition.max_families), found more"
    );
    let limits = DecodeLimits {
        text: 100,
        ..LIMITS
    };
    let error = decode(&whole, &limits).expect_err("too long a text");
    assert!(
        error.to_string().contains("at most 100 bytes as text"),
        "{error}"
    );
}

#[test]
fn groups_are_skipped() {
    let mut family = family("c", 0, &[counter(&[], 1.0)]);
    // Field 50: a group with a group and a number in it.
    family
        .0
        .extend_from_slice(&[0x93, 3, 0x9b, 3, 8, 1, 0x9c, 3, 0x94, 3]);
    assert_eq!(decoded(&[family]).text, "# TYPE c counter\nc 1\n");
}

/// Encodes text and decodes the result.
fn round(text: &str, escaping: Escaping) -> String {
    let body = encode(text, &NativeHistograms::default(), escaping);
    decode(&body, &LIMITS)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .text
}

#[test]
fn text_round_trips_through_messages() {
    let text = "# HELP c_total Say \\\\ and \\n \"hi\"\n# TYPE c_total counter\nc_total{a=\"x\\\"\\\\\\n\"} 5 1500\n\
                c_total 1\n# TYPE g gauge\ng NaN\n# TYPE h histogram\nh_bucket{a=\"1\",le=\"0.5\"} 1.5\n\
                h_bucket{a=\"1\",le=\"+Inf\"} 2\nh_sum{a=\"1\"} 3\nh_count{a=\"1\"} 2\n\
                # TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 2\ns_count 3\n# TYPE u untyped\nu -1e-9\n\
                # TYPE \"x.y\" gauge\n{\"x.y\",\"é\"=\"1\"} 1\n";
    assert_eq!(round(text, Escaping::AllowUtf8), text);
    let plain = text
        .replace("\"x.y\" gauge", "x_y gauge")
        .replace("{\"x.y\",\"é\"=", "x_y{_=");
    assert_eq!(round(text, Escaping::Underscores), plain);
}

#[test]
fn incomplete_histograms_are_completed() {
    let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 4\nh 7\n# TYPE s summary\ns_count 1.5\n# TYPE e histogram\ne 1\n";
    assert_eq!(
        round(text, Escaping::AllowUtf8),
        "# TYPE h histogram\nh_bucket{le=\"1\"} 4\nh_bucket{le=\"+Inf\"} 4\nh_sum 0\nh_count 4\n\
         # TYPE s summary\ns_sum 0\ns_count 1\n"
    );
}
