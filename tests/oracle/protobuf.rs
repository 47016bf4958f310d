//! Compares protobuf with the reference: each side must read the other's messages as the text from
//! which they were made.

use std::collections::hash_map::RandomState;

use exporter_proxy::exposition::protobuf::{self, NativeHistograms, decode, encode};
use exporter_proxy::exposition::{
    CanonicalOptions, Escaping, Families, InputFormat, Kind, Metric, MetricValue, Metrics,
    NativeHistogram, TextLimits, TimestampPolicy, canonicalize, unescape_help,
};
use serde::Deserialize;

use crate::{Verdict, ask, oracle, texts};

const LIMITS: protobuf::DecodeLimits = protobuf::DecodeLimits {
    families: 10_000,
    text: 1 << 24,
};

#[derive(Debug, Deserialize)]
struct Converted {
    scrape: Verdict,
    expfmt: Verdict,
    #[serde(default)]
    text: String,
    /// Hexadecimal.
    #[serde(default)]
    messages: String,
    #[serde(default)]
    natives: Vec<String>,
}

/// Texts of the corpus and mutants of them, in canonical form.
fn normal_texts() -> Vec<String> {
    let normal = CanonicalOptions {
        limits: TextLimits::default(),
        added: &[],
        timestamps: TimestampPolicy::Keep,
        hash: &RandomState::new(),
    };
    let families = texts()
        .into_iter()
        .filter_map(|(_, text)| canonicalize(&text, &normal).ok())
        // The store lets no family have the name of a part of another one.
        .filter(|families| {
            let named = |name: &str| families.iter().any(|family| *family.name == *name);
            let mut bases = families.iter().filter_map(|family| {
                let base = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|part| family.name.strip_suffix(part));
                base.filter(|base| named(base))
            });
            bases.next().is_none()
        });
    let shown = families.map(|families| {
        let pieces = families.iter().map(|family| {
            let head = String::from_utf8(family.head().to_vec()).expect("text");
            head + family.samples.as_str()
        });
        pieces.collect::<String>()
    });
    let mut shown: Vec<String> = shown.collect();
    shown.sort();
    shown.dedup();
    shown
}

/// All metrics of a text, one on each line, sorted. Missing parts get the defaults of the schema.
fn metrics(text: &str) -> Vec<String> {
    let families = Families::parse(text, InputFormat::Text, &TextLimits::default())
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut all = Vec::new();
    for family in families.iter() {
        for metric in &Metrics::of(&family).metrics {
            all.push(shown(family.name(), family.kind(), family.help(), metric));
        }
    }
    all.sort();
    all
}

fn shown(name: &str, kind: Kind, help: Option<&str>, metric: &Metric<'_>) -> String {
    let mut value = metric.value.clone();
    match &mut value {
        MetricValue::Histogram {
            buckets,
            sum,
            count,
        } => {
            let highest = buckets.last().map(|(_, count)| *count).unwrap_or_default();
            let all = *count.get_or_insert(highest);
            sum.get_or_insert(0.0);
            if buckets.last().is_none_or(|(at, _)| *at != f64::INFINITY) {
                buckets.push((f64::INFINITY, all));
            }
        }
        MetricValue::Summary { sum, count, .. } => {
            sum.get_or_insert(0.0);
            *count = Some(count.map_or(0.0, |count| count as u64 as f64));
        }
        _ => {}
    }
    let labels = metric.labels_text();
    // The reference's two parsers differ about `\"` in a help text.
    let help = unescape_help(help.unwrap_or_default(), InputFormat::Text).replace("\\\"", "\"");
    let help = help.trim();
    // The reference writes no sign before a 0.
    let value = format!("{value:?}").replace("-0.0", "0.0");
    let timestamp = metric.timestamp;
    format!("{name} {kind:?} {help:?} {{{labels}}} {value} {timestamp:?}")
}

#[test]
fn the_reference_reads_our_messages_as_the_text_they_were() {
    let Some(oracle) = oracle() else { return };
    let texts = normal_texts();
    let bodies: Vec<Vec<u8>> = texts
        .iter()
        .map(|text| encode(text, &NativeHistograms::default(), Escaping::AllowUtf8))
        .collect();
    let requests: Vec<_> = bodies.iter().map(|body| ("messages", &**body)).collect();
    let answers: Vec<Converted> = ask(&oracle, &requests);
    assert_eq!(answers.len(), texts.len());
    for (text, answer) in texts.iter().zip(&answers) {
        assert_eq!(answer.expfmt.error, "", "{text:?}");
        assert_eq!(answer.scrape.error, "", "{text:?}");
        assert_eq!(metrics(&answer.text), metrics(text), "{text:?}");
    }
}

#[test]
fn the_references_messages_are_read_as_the_text_they_were() {
    let Some(oracle) = oracle() else { return };
    // The reference completes histograms with missing parts with zeros.
    let whole = |text: &str| {
        let families = Families::parse(text, InputFormat::Text, &TextLimits::default());
        families.is_ok_and(|families| {
            families.iter().all(|family| {
                let metrics = Metrics::of(&family);
                let complete = |metric: &Metric<'_>| match &metric.value {
                    MetricValue::Histogram {
                        sum,
                        count,
                        buckets,
                    } => {
                        let counts = buckets.iter().map(|(_, count)| *count).chain(*count);
                        // The reference has only whole counts.
                        let mut counts = counts.map(|count| count.fract() == 0.0);
                        sum.is_some() && count.is_some() && counts.all(|whole| whole)
                    }
                    MetricValue::Summary { sum, count, .. } => sum.is_some() && count.is_some(),
                    _ => true,
                };
                metrics.unmatched == 0 && metrics.metrics.iter().all(complete)
            })
        })
    };
    let mut texts = normal_texts();
    let before = texts.len();
    texts.retain(|text| whole(text));
    assert!(texts.len() > before / 2, "{} of {before}", texts.len());
    let requests: Vec<_> = texts
        .iter()
        .map(|text| ("encode", text.as_bytes()))
        .collect();
    let answers: Vec<Converted> = ask(&oracle, &requests);
    assert_eq!(answers.len(), texts.len());
    for (text, answer) in texts.iter().zip(&answers) {
        assert_eq!(answer.expfmt.error, "", "{text:?}");
        let decoded = decode(&bytes(&answer.messages), &LIMITS)
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(metrics(&decoded.text), metrics(text), "{text:?}");
    }
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = str::from_utf8(pair).expect("digits");
            u8::from_str_radix(pair, 16).expect("two digits")
        })
        .collect()
}

/// Fields 1 to 15, which have tags of one byte, of short messages.
fn field(number: u8, wire_type: u8, payload: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | wire_type];
    if wire_type == 2 {
        field.push(u8::try_from(payload.len()).expect("a short message"));
    }
    field.extend_from_slice(payload);
    field
}

#[test]
fn the_scraper_reads_native_histograms_as_they_were_pushed() {
    let Some(oracle) = oracle() else { return };
    let double = |number, value: f64| field(number, 1, &value.to_le_bytes());
    let whole = [
        field(1, 0, &[6]),
        double(2, 9.5),
        // Schema 1 and offset 1, encoded as signed numbers.
        field(5, 0, &[2]),
        double(6, 0.25),
        field(7, 0, &[1]),
        field(12, 2, &[8, 2, 16, 2]),
        field(13, 0, &[4]),
        field(13, 0, &[2]),
    ]
    .concat();
    let float = [
        double(4, 2.5),
        double(2, -1.0),
        double(6, 0.25),
        field(9, 2, &[16, 1]),
        double(11, 2.5),
    ]
    .concat();
    let label = field(1, 2, &[field(1, 2, b"a"), field(2, 2, b"x")].concat());
    let family = [
        field(1, 2, b"n"),
        field(3, 0, &[4]),
        field(4, 2, &[label, field(7, 2, &whole)].concat()),
        field(4, 2, &field(7, 2, &float)),
    ]
    .concat();
    let mut body = vec![
        0x80 | (family.len() as u8 & 0x7f),
        (family.len() >> 7) as u8,
    ];
    body.extend_from_slice(&family);

    let decoded = decode(&body, &LIMITS).expect("it is sound");
    let natives: Vec<NativeHistogram> =
        decoded.natives.iter().map(|it| it.native.clone()).collect();
    let mut index = NativeHistograms::default();
    index.add("n", &natives);
    let again = encode(&decoded.text, &index, Escaping::AllowUtf8);
    let answers: Vec<Converted> = ask(&oracle, &[("messages", &body), ("messages", &again)]);
    for answer in &answers {
        assert_eq!(answer.scrape.error, "");
        assert_eq!(
            answer.natives,
            [
                "{__name__=\"n\", a=\"x\"} {count:6, sum:9.5, [-0.25,0.25]:1, (1,1.414213562373095]:2, (1.414213562373095,2]:3}",
                "{__name__=\"n\"} {count:2.5, sum:-1, [-1,-0.5):2.5}"
            ]
        );
    }
    assert_eq!(metrics(&answers[1].text), metrics(&decoded.text));
}
