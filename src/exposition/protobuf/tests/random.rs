//! Tests with random bodies, valid and invalid.

use proptest::prelude::*;

use super::super::wire::Reader;
use super::*;
use crate::exposition::{Families, InputFormat, ParseProblem};

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), (-3..9_i32).prop_map(f64::from)]
}

fn any_labels() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![4 => "[a-d]", 1 => "[a.\"\\\\é\n]{1,3}"];
    let labels = proptest::collection::btree_map(name, "[a\"\\\\\né]{0,3}", 0..3);
    labels.prop_map(|labels| labels.into_iter().collect())
}

fn any_metric(kind: u64) -> impl Strategy<Value = Message> {
    let counts = proptest::collection::vec((any::<u16>(), 0..40_i32), 0..4);
    (
        any_labels(),
        any_value(),
        any::<u32>(),
        counts,
        any::<bool>(),
    )
        .prop_map(move |(labels, value, count, points, native_too)| {
            let pairs: Vec<(&str, &str)> = labels
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            let metric = labelled(&pairs);
            let single = message().double(1, value);
            match kind {
                0 => metric.with(3, single),
                1 => metric.with(2, single),
                2 => {
                    let summary = message().number(1, count.into()).double(2, value);
                    let points = points.iter().fold(summary, |summary, (value, at)| {
                        let at = f64::from(*at) / 40.0;
                        summary.with(3, message().double(1, at).double(2, f64::from(*value)))
                    });
                    metric.with(4, points)
                }
                3 => metric.with(5, single),
                _ => {
                    let histogram = if native_too {
                        native()
                    } else {
                        message().number(1, count.into()).double(2, value)
                    };
                    let buckets = points.iter().fold(histogram, |histogram, (count, at)| {
                        let bucket = message().number(1, (*count).into());
                        histogram.with(3, bucket.double(2, f64::from(*at) / 8.0))
                    });
                    metric.with(7, buckets)
                }
            }
        })
}

fn any_family() -> impl Strategy<Value = Message> {
    (0..6_u64, "[a-c]", "[a\\\\\n\"]{0,4}").prop_flat_map(|(kind, name, help)| {
        // No family is named like a component of another.
        let name = format!("{name}{kind}");
        proptest::collection::vec(any_metric(kind), 0..4).prop_map(move |metrics| {
            let family = family(&name, kind, &metrics);
            if help.is_empty() {
                family
            } else {
                family.text(2, &help)
            }
        })
    })
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any_family(), 0..4).prop_map(|families| body(&families))
}

/// Number of families in the text, if no family comes twice.
fn count_of_families_with_metrics(body: &[u8]) -> usize {
    let mut heads = 0;
    let mut messages = Reader::new(body, 0);
    while let Ok((message, start)) = messages.delimited("a family") {
        let mut fields = Reader::new(message, start);
        let mut metrics = 0;
        while let Ok(Some(field)) = fields.next() {
            metrics += usize::from(field.number == 4);
        }
        heads += usize::from(metrics > 0);
        if messages.is_empty() {
            break;
        }
    }
    heads
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Decoded text parses, except for repeated series, and comes back
    /// unchanged in canonical form.
    #[test]
    fn decoded_text_is_valid_and_round_trips(body in any_body()) {
        fuzzing::protobuf(&body);
    }

    /// The measured length never exceeds the actual one.
    #[test]
    fn measured_length_is_a_lower_bound(body in any_body()) {
        let Ok(decoded) = decode(&body, &LIMITS) else { return Ok(()) };
        // Of a family that comes twice, one is left out.
        let heads = decoded.text.lines().filter(|line| line.starts_with("# TYPE")).count();
        let measured = measure(&body);
        if heads == count_of_families_with_metrics(&body) {
            prop_assert!(measured.bytes <= decoded.text.len(), "{:?}\n{}", measured, decoded.text);
            let samples = decoded.text.lines().filter(|line| !line.starts_with('#')).count();
            prop_assert!(measured.samples <= samples, "{:?}\n{}", measured, decoded.text);
        }
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &LIMITS);
        measure(&bytes);
    }

    /// A valid body with a few bytes changed, inserted or removed.
    #[test]
    fn mutated_bodies_do_not_panic(
        mut body in any_body(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        for (place, byte, how) in changes {
            if body.is_empty() {
                break;
            }
            let place = place.index(body.len());
            match how {
                0 => body[place] = byte,
                1 => body.insert(place, byte),
                _ => drop(body.remove(place)),
            }
        }
        measure(&body);
        if let Ok(decoded) = decode(&body, &LIMITS) {
            let families = Families::parse(&decoded.text, InputFormat::Text, &crate::exposition::TextLimits::default());
            if let Err(error) = families {
                let twice = matches!(error.problem, ParseProblem::DuplicateSeries { .. });
                prop_assert!(twice, "{}\n{}", error, decoded.text);
            }
        }
    }

    #[test]
    fn random_text_does_not_panic_the_encoder(text in "[a-c{}\"=,# HELPTYP\\\\\n0-9.]{0,80}") {
        let _ = encode(&text, &NativeHistograms::default(), Escaping::Underscores);
    }
}
