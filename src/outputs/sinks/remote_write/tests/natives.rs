use bytes::Bytes;

use super::decoded::{Count, Histogram, Span, ZeroCount};
use super::*;
use crate::exposition::protobuf::{put_bytes, put_double, put_unsigned};
use crate::exposition::{FamilyText, Kind, NativeHistogram};

fn timestamp(seconds: u64, nanos: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_unsigned(&mut out, 1, seconds);
    put_unsigned(&mut out, 2, nanos);
    out
}

/// An exemplar with the label `trace_id`.
fn exemplar(trace: &str, value: f64) -> Vec<u8> {
    let (mut label, mut out) = (Vec::new(), Vec::new());
    put_bytes(&mut label, 1, b"trace_id");
    put_bytes(&mut label, 2, trace.as_bytes());
    put_bytes(&mut out, 1, &label);
    put_double(&mut out, 2, value);
    put_bytes(&mut out, 3, &timestamp(1000, 2_000_000));
    out
}

/// A stored histogram of `count` observations.
fn stored(count: u64, float: bool) -> Bytes {
    let mut out = Vec::new();
    match float {
        true => put_double(&mut out, 4, count as f64),
        false => put_unsigned(&mut out, 1, count),
    }
    put_double(&mut out, 2, 9.5);
    // Schema 3, in the encoding of signed numbers.
    put_unsigned(&mut out, 5, 6);
    put_double(&mut out, 6, 1e-128);
    match float {
        true => put_double(&mut out, 8, 1.5),
        false => put_unsigned(&mut out, 7, 1),
    }
    // Offset -2 and length 2; the deltas 2 and 1, one packed and one not.
    let mut span = Vec::new();
    put_unsigned(&mut span, 1, 3);
    put_unsigned(&mut span, 2, 2);
    put_bytes(&mut out, 12, &span);
    match float {
        true => {
            put_double(&mut out, 14, 2.0);
            put_bytes(&mut out, 14, &3.0_f64.to_le_bytes());
        }
        false => {
            put_unsigned(&mut out, 13, 4);
            put_bytes(&mut out, 13, &[2]);
        }
    }
    put_bytes(&mut out, 15, &timestamp(990, 500_000_000));
    put_bytes(&mut out, 16, &exemplar("t1", 0.5));
    Bytes::from(out)
}

fn set(bench: &Bench, natives: Vec<(&str, Bytes, bool)>) {
    let samples: String = natives
        .iter()
        .map(|(labels, ..)| {
            format!(
                "h_bucket{{{labels},le=\"+Inf\"}} 6\nh_sum{{{labels}}} 9.5\nh_count{{{labels}}} 6\n"
            )
        })
        .collect();
    let natives = natives
        .into_iter()
        .map(|(labels, histogram, gauge)| NativeHistogram {
            labels: labels.into(),
            histogram,
            gauge,
        });
    let family = FamilyText {
        name: "h".into(),
        kind: Kind::Histogram,
        help: Some("Sizes.".to_owned()),
        line: 1,
        samples: Text::new(&samples),
        series: Default::default(),
        natives: natives.collect(),
        open: None,
    };
    bench.replace("n", Content::Families(vec![family]));
}

/// The native histograms of a collection.
fn natives(bench: &mut Bench, after: u64) -> Vec<Sent> {
    let mut sent = bench.collect(after);
    sent.retain(|it| !it.histograms.is_empty());
    sent
}

#[test]
fn native_histograms_are_sent_with_their_exemplars_and_start() {
    let mut bench = Bench::new("protocol = \"2.0\"\nexternal_labels = { x = \"y\" }\n");
    set(&bench, vec![("a=\"1\"", stored(6, false), false)]);
    let expected = Histogram {
        count: Some(Count::Whole(6)),
        sum: 9.5,
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: Some(ZeroCount::Whole(1)),
        negative_spans: vec![],
        negative_deltas: vec![],
        negative_counts: vec![],
        positive_spans: vec![Span {
            offset: -2,
            length: 2,
        }],
        positive_deltas: vec![2, 1],
        positive_counts: vec![],
        reset_hint: 0,
        timestamp: 1_000_001,
        start_timestamp: 990_500,
    };
    let sent = natives(&mut bench, 1);
    assert_eq!(
        sent,
        [Sent {
            series: "h{a=\"1\",x=\"y\"}".to_owned(),
            samples: vec![],
            histograms: vec![expected.clone()],
            exemplars: vec![("trace_id=\"t1\"".to_owned(), 0.5, 1_000_002)],
            metadata: Some((3, "Sizes.".to_owned(), String::new())),
        }]
    );
    // The exemplar is sent once.
    let again = natives(&mut bench, 1);
    assert_eq!(again[0].exemplars, []);
    assert_eq!(again[0].histograms[0].timestamp, 1_000_002);
    set(&bench, vec![("a=\"1\"", stored(7, true), true)]);
    let changed = natives(&mut bench, 1);
    let floats = Histogram {
        count: Some(Count::Float(7.0)),
        zero_count: Some(ZeroCount::Float(1.5)),
        positive_deltas: vec![],
        positive_counts: vec![2.0, 3.0],
        reset_hint: 3,
        timestamp: 1_000_003,
        ..expected
    };
    assert_eq!(changed[0].histograms, [floats]);
    assert_eq!(changed[0].exemplars.len(), 1);
}

#[test]
fn a_native_histogram_that_goes_is_marked() {
    let mut bench = Bench::new("protocol = \"2.0\"\n");
    let both = vec![
        ("a=\"1\"", stored(6, false), false),
        ("a=\"2\"", stored(6, false), false),
    ];
    set(&bench, both);
    assert_eq!(natives(&mut bench, 1).len(), 2);
    set(&bench, vec![("a=\"2\"", stored(6, false), false)]);
    let sent = natives(&mut bench, 1);
    let of = |series: &str| sent.iter().find(|it| it.series == series).unwrap();
    assert_eq!(of("h{a=\"1\"}").histograms[0].sum.to_bits(), STALE);
    assert_eq!(of("h{a=\"2\"}").histograms[0].sum, 9.5);
    assert_eq!(natives(&mut bench, 1).len(), 1);
    // A histogram without a native part has none to send.
    set(&bench, vec![("a=\"2\"", Bytes::new(), true)]);
    assert_eq!(natives(&mut bench, 1), []);
}

#[test]
fn protocol_1_has_native_histograms_only_if_asked() {
    let one = vec![("a=\"1\"", stored(6, false), false)];
    let mut bench = Bench::new("");
    set(&bench, one.clone());
    assert_eq!(natives(&mut bench, 1), []);
    let mut asked = Bench::new("native_histograms = true\n");
    let mut two = Bench::new("protocol = \"2.0\"\n");
    for bench in [&asked, &two] {
        set(bench, one.clone());
    }
    let sent = natives(&mut asked, 1);
    assert_eq!(sent[0].histograms[0].start_timestamp, 0);
    assert_eq!(sent[0].exemplars.len(), 1);
    // Converted requests are the same.
    let items = two.collect_items(1);
    for (histograms, expected) in [(true, &sent[..]), (false, &[])] {
        let converted = items.iter().filter_map(|it| it.to_v1(histograms));
        let converted: Vec<Sent> = converted.flat_map(|it| decode(&it).0).collect();
        let kept: Vec<Sent> = converted
            .iter()
            .filter(|it| !it.histograms.is_empty())
            .cloned()
            .collect();
        assert_eq!(kept, expected);
        assert_eq!(samples(&converted).len(), 3);
    }
}
