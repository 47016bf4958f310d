//! Properties of protobuf, for tests and `fuzz/`.

use super::decode::{DecodeLimits, DecodedNative, decode};
use super::encode::{NativeHistograms, encode};
use super::measure::measure;
use crate::exposition::{
    Escaping, Families, InputFormat, Labels, NativeHistogram, ParseProblem, ParsedLine, Parser,
    TextLimits,
};

const LIMITS: DecodeLimits = DecodeLimits {
    families: 100,
    text: 1 << 20,
};

/// A body of delimited families.
///
/// Decoded text parses, except for repeated series. Encoded and decoded again, it is the
/// same, and so are native histograms.
pub fn protobuf(body: &[u8]) {
    measure(body);
    let Ok(before) = decode(body, &LIMITS) else {
        return;
    };
    let text = &before.text;
    if let Err(error) = Families::parse(text, InputFormat::Text, &TextLimits::default()) {
        let twice = matches!(error.problem, ParseProblem::DuplicateSeries { .. });
        assert!(twice, "{error}\n{text}");
        return;
    }
    let natives: Vec<(String, [NativeHistogram; 1])> = before
        .natives
        .iter()
        .map(|it| (it.family.clone(), [it.native.clone()]))
        .collect();
    let mut by_family = NativeHistograms::default();
    for (family, native) in &natives {
        by_family.add(family, native);
    }
    let again = |text: &str| {
        let body = encode(text, &by_family, Escaping::AllowUtf8);
        decode(&body, &LIMITS).unwrap_or_else(|error| panic!("{error}\n{text}"))
    };
    let once = again(text);
    // One gauge histogram without a native part makes all of its family ordinary ones.
    let native = |natives: &[DecodedNative]| {
        let natives = natives.iter().filter(|it| !it.native.histogram.is_empty());
        let natives = natives.map(|it| (it.family.clone(), it.native.histogram.clone()));
        natives.collect::<Vec<_>>()
    };
    assert_eq!(native(&once.natives), native(&before.natives));
    // Encoding sorts buckets; after that, nothing changes.
    assert_eq!(once, again(&once.text));
    assert_eq!(sorted(&once.text), sorted(text));
}

/// The lines in order, with the labels of each in order.
fn sorted(text: &str) -> Vec<String> {
    let mut labels = Labels::new();
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let mut parser = Parser::new(line, InputFormat::Text);
            match parser.next(&mut labels) {
                Ok(Some(ParsedLine::Sample(sample))) => {
                    labels.sort();
                    let (name, value) = (sample.name, sample.value_text);
                    let labels = labels.as_slice();
                    format!("{name} {labels:?} {value} {:?}", sample.timestamp)
                }
                // Text cannot show white space before a help.
                Ok(Some(ParsedLine::Help { name, help })) => format!("HELP {name} {help}"),
                _ => line.to_owned(),
            }
        })
        .collect();
    lines.sort();
    lines
}
