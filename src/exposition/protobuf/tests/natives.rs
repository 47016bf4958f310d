//! Native histograms.

use super::*;

#[test]
fn gauge_histograms_are_marked_beside_their_text() {
    let histogram = message().number(1, 2).double(2, -3.0);
    let families = [family(
        "g",
        5,
        &[labelled(&[("a", "b")]).with(7, histogram)],
    )];
    let shown = decoded(&families);
    assert_eq!(
        shown.text,
        "# TYPE g histogram\ng_bucket{a=\"b\",le=\"+Inf\"} 2\ng_sum{a=\"b\"} -3\ng_count{a=\"b\"} 2\n"
    );
    assert!(shown.natives[0].native.gauge && shown.natives[0].native.histogram.is_empty());
    // One classic histogram makes a family one of ordinary histograms.
    let gauges = [family("g", 5, &[labelled(&[("a", "b")]).with(7, native())])];
    let gauge = decoded(&gauges);
    let mut natives = NativeHistograms::default();
    natives.add("g", from_ref(&gauge.natives[0].native));
    let text = gauge.text.clone() + "g_bucket{le=\"+Inf\"} 1\ng_sum 1\ng_count 1\n";
    let messages = encode(&text, &natives, Escaping::AllowUtf8);
    let histogram = message().number(1, 1).double(2, 1.0);
    let histogram = histogram.with(3, message().number(1, 1).double(2, f64::INFINITY));
    let both = [
        labelled(&[("a", "b")]).with(7, native()),
        message().with(7, histogram),
    ];
    let expected = [family("g", 4, &both)];
    assert_eq!(
        encode(&gauge.text, &natives, Escaping::AllowUtf8),
        body(&gauges)
    );
    assert_eq!(messages, body(&expected));
}

#[test]
fn empty_float_histograms_stay_native() {
    let spans = |of: Message| of.with(12, message_span(0, 2)).with(9, message_span(1, 1));
    let floats = || {
        let empty = message().double(2, 0.0).double(4, 0.0).signed(5, 3);
        let empty = spans(empty.double(6, 0.5));
        empty.double(14, 0.0).double(14, 0.0).double(11, 0.0)
    };
    let shown = decoded(&[family("n", 4, &[message().with(7, floats())])]);
    let kept = spans(message().double(2, 0.0).signed(5, 3).double(6, 0.5));
    let kept = kept
        .with(10, Message(vec![0]))
        .with(13, Message(vec![0, 0]));
    assert_eq!(shown.natives[0].native.histogram, kept.0);
    // If the buckets have observations, readers do not agree on the histogram,
    // so it has no native part.
    let other = floats().double(14, 1.0).with(12, message_span(0, 1));
    let other = decoded(&[family("n", 4, &[message().with(7, other)])]);
    assert_eq!(other.natives, []);
    // The number of buckets must match the spans all the same.
    let more = floats().with(12, message_span(0, 1));
    let message = refused(&[family("n", 4, &[message().with(7, more)])]);
    assert!(message.contains("expected 3 positive buckets"), "{message}");
}

#[test]
fn native_part_is_kept_beside_the_classic_one() {
    // The field is newer than the schema here, so it is left out.
    let newer = native().text(99, "new");
    let metric = labelled(&[("b", "2"), ("a", "\"")]).with(7, newer);
    let decoded = decoded(&[family("n", 4, &[metric])]);
    assert_eq!(
        decoded.text,
        "# TYPE n histogram\nn_bucket{a=\"\\\"\",b=\"2\",le=\"+Inf\"} 6\n\
         n_sum{a=\"\\\"\",b=\"2\"} 9.5\nn_count{a=\"\\\"\",b=\"2\"} 6\n"
    );
    assert_eq!(
        decoded.natives,
        [DecodedNative {
            family: "n".to_owned(),
            native: NativeHistogram {
                labels: "a=\"\\\"\",b=\"2\"".into(),
                histogram: native().0.into(),
                gauge: false,
            }
        }]
    );
}

#[test]
fn unsound_native_parts_are_rejected() {
    let of = |histogram: Message| refused(&[family("n", 4, &[message().with(7, histogram)])]);
    for (histogram, expected) in [
        (
            native().signed(13, 1),
            "expected 2 positive buckets to match the spans, found 3",
        ),
        (
            native().with(9, message().number(2, 1)),
            "expected 1 negative buckets to match the spans, found 0",
        ),
        (
            native().signed(5, 9),
            "expected a schema from -4 to 8, found 9",
        ),
        (
            native().number(1, 7),
            "expected native buckets of 7 observations in all, found 6",
        ),
        (
            native().with(12, message().signed(1, -1)),
            "expected a span that begins after the one before, found offset -1",
        ),
        (
            native().with(12, message().signed(1, i64::from(i32::MAX)).number(2, 5)),
            "expected spans up to bucket 2147483647",
        ),
        (
            message()
                .double(6, 1.0)
                .with(12, message().number(2, 1))
                .signed(13, -1),
            "expected a bucket's count of 0 or more, found 0 and a delta of -1",
        ),
        (
            message()
                .double(4, 1.0)
                .double(6, 1.0)
                .with(12, message().number(2, 1))
                .double(14, -1.0),
            "expected a count of 0 or more, found -1",
        ),
        (
            native().with(16, message().number(1, 1)),
            "expected an exemplar's label in field 1, found a varint",
        ),
        (
            native().with(16, message().number(9, 1)),
            "expected a field of an exemplar, found number 9",
        ),
    ] {
        let error = of(histogram);
        assert!(error.contains(expected), "{error}");
    }
    // Observations that are not a number are in no bucket.
    let unseen = native().number(1, 7).double(2, f64::NAN);
    assert_eq!(
        decoded(&[family("n", 4, &[message().with(7, unseen)])])
            .natives
            .len(),
        1
    );
}

#[test]
fn native_histograms_replace_classic_ones() {
    let native = native().with(3, message().number(1, 6).double(2, 8.0));
    let family = family("n", 4, &[labelled(&[("a", "1")]).with(7, native)]);
    let before = decoded(from_ref(&family));
    let natives: Vec<NativeHistogram> = before.natives.iter().map(|it| it.native.clone()).collect();
    let mut index = NativeHistograms::default();
    index.add("n", &natives);
    let text = format!(
        "{}# TYPE o histogram\no_bucket{{a=\"1\",le=\"+Inf\"}} 1\n",
        before.text
    );
    let body = encode(&text, &index, Escaping::AllowUtf8);
    let after = decode(&body, &LIMITS).expect("sound");
    assert_eq!(after.natives, before.natives);
    assert!(after.text.starts_with(&before.text), "{}", after.text);
    assert!(
        after.text.contains("n_bucket{a=\"1\",le=\"8\"} 6\n"),
        "{}",
        after.text
    );
}

#[test]
fn native_histograms_are_attached_to_families() {
    let metric = |value| labelled(&[("a.b", value), ("job", "mine")]).with(7, native());
    let body = [
        family("n.x", 4, &[metric("1"), metric("2")]),
        family("o", 4, &[message().with(7, native())]),
        family("p", 0, &[counter(&[], 1.0)]),
    ];
    let decoded = decoded(&body);
    let options = CanonicalOptions {
        limits: crate::exposition::TextLimits::default(),
        added: &[AddedLabel {
            name: "instance",
            value: "",
            conflict: LabelConflict::Override,
        }],
        timestamps: TimestampPolicy::Keep,
        hash: &RandomState::new(),
    };
    let mut families = canonicalize(&decoded.text, &options).expect("it is text");
    attach_native_histograms(&mut families, decoded.natives, |labels| {
        labels.push(("instance".to_owned(), String::new()));
    });
    let labels: Vec<Vec<&str>> = families
        .iter()
        .map(|family| family.natives.iter().map(|it| &*it.labels).collect())
        .collect();
    assert_eq!(
        labels,
        [
            vec![
                "\"a.b\"=\"1\",instance=\"\",job=\"mine\"",
                "\"a.b\"=\"2\",instance=\"\",job=\"mine\""
            ],
            vec!["instance=\"\""],
            vec![]
        ]
    );
    // The samples have the same labels, so they are found again.
    for family in &families {
        let metrics = Metrics::of_text(family);
        for (metric, native) in metrics.metrics.iter().zip(&family.natives) {
            assert_eq!(metric.labels_text(), *native.labels);
        }
    }
}

#[test]
fn buckets_of_one_histogram_are_bounded() {
    let mut histogram = message();
    for _ in 0..20_000 {
        histogram.0.extend_from_slice(&[0x1a, 0]);
    }
    let error = refused(&[family("h", 4, &[message().with(7, histogram)])]);
    assert!(
        error.contains("expected at most 16384 buckets, found more"),
        "{error}"
    );
}
