use std::hash::RandomState;

use proptest::prelude::*;

use super::*;
use crate::exposition::{
    CanonicalOptions, InputFormat, NativeHistogram, TextLimits, TimestampPolicy, canonicalize_as,
};

fn families(text: &str, hash: &RandomState) -> Vec<FamilyText> {
    let options = CanonicalOptions {
        limits: TextLimits::default(),
        added: &[],
        timestamps: TimestampPolicy::Refuse,
        hash,
    };
    canonicalize_as(text, InputFormat::Text, &options).expect("the text is valid")
}

/// The first family of a text, completed.
fn completed(text: &str, hash: &RandomState) -> Result<FamilyText, (Reason, String)> {
    let mut family = families(text, hash).swap_remove(0);
    complete(&mut family, hash).map(|()| family)
}

#[track_caller]
fn assert_completed(text: &str, lines: &[&str]) -> FamilyText {
    let hash = RandomState::new();
    let family = completed(text, &hash).expect("the family is valid");
    let samples: Vec<_> = family.samples.as_str().lines().collect();
    assert_eq!(samples, lines);
    // Parsing the completed text gives the same series in the same order.
    let kind = family.kind.as_str();
    let again = format!("# TYPE {} {kind}\n{}", family.name, family.samples.as_str());
    let again = families(&again, &hash).swap_remove(0);
    assert_eq!(family.series, again.series);
    assert_eq!(family.samples.as_str(), again.samples.as_str());
    family
}

#[track_caller]
fn assert_rejected(text: &str, expected: Reason, words: &str) {
    let (reason, problem) = completed(text, &RandomState::new()).expect_err("it is rejected");
    assert_eq!(reason, expected);
    assert!(problem.contains(words), "{problem}");
}

#[test]
fn missing_components_of_histograms_are_filled_in() {
    for (text, lines) in [
        (
            "h_bucket{le=\"1.0\"} 2\nh_sum 4.5\nh_count 3\n",
            [
                "h_bucket{le=\"1\"} 2",
                "h_bucket{le=\"+Inf\"} 3",
                "h_sum 4.5",
                "h_count 3",
            ]
            .as_slice(),
        ),
        (
            "h_bucket{le=\"+Inf\"} 3\n",
            &["h_bucket{le=\"+Inf\"} 3", "h_sum 0", "h_count 3"],
        ),
        (
            "h_sum 4.5\n",
            &["h_bucket{le=\"+Inf\"} 0", "h_sum 4.5", "h_count 0"],
        ),
        (
            "h_bucket{le=\"5\"} 1.5\nh_bucket{le=\"1e6\"} 2\nh_bucket{le=\"0.1\"} 1\n",
            &[
                "h_bucket{le=\"0.1\"} 1",
                "h_bucket{le=\"5\"} 1.5",
                "h_bucket{le=\"1e+06\"} 2",
                "h_bucket{le=\"+Inf\"} 0",
                "h_sum 0",
                "h_count 0",
            ],
        ),
    ] {
        assert_completed(&format!("# TYPE h histogram\n{text}"), lines);
    }
}

#[test]
fn missing_components_of_summaries_are_filled_in() {
    for (text, lines) in [
        (
            "s{quantile=\"0.50\"} NaN\ns_count 3\n",
            ["s{quantile=\"0.5\"} NaN", "s_sum 0", "s_count 3"].as_slice(),
        ),
        ("s_sum 2\n", &["s_sum 2", "s_count 0"]),
    ] {
        assert_completed(&format!("# TYPE s summary\n{text}"), lines);
    }
}

#[test]
fn each_set_of_labels_is_completed() {
    assert_completed(
        "# TYPE h histogram\nh_count{z=\"1\",a=\"\"} 1\nh_bucket{z=\"2\",le=\"1.0\",a=\"b\\\\\"} 2\nh_sum{a=\"\",z=\"1\"} 7\n",
        &[
            "h_bucket{a=\"\",le=\"+Inf\",z=\"1\"} 1",
            "h_sum{a=\"\",z=\"1\"} 7",
            "h_count{a=\"\",z=\"1\"} 1",
            "h_bucket{a=\"b\\\\\",le=\"1\",z=\"2\"} 2",
            "h_bucket{a=\"b\\\\\",le=\"+Inf\",z=\"2\"} 0",
            "h_sum{a=\"b\\\\\",z=\"2\"} 0",
            "h_count{a=\"b\\\\\",z=\"2\"} 0",
        ],
    );
}

#[test]
fn quoted_names_stay_quoted() {
    let hash = RandomState::new();
    let text =
        "# TYPE \"my.h\" histogram\n{\"my.h_count\",\"a.b\"=\"1\",\"l\\\"\"=\"2\",z=\"3\"} 1\n";
    let family = completed(text, &hash).expect("the family is valid");
    assert_eq!(
        family.samples.as_str(),
        "{\"my.h_bucket\",\"a.b\"=\"1\",\"l\\\"\"=\"2\",le=\"+Inf\",z=\"3\"} 1\n\
         {\"my.h_sum\",\"a.b\"=\"1\",\"l\\\"\"=\"2\",z=\"3\"} 0\n\
         {\"my.h_count\",\"a.b\"=\"1\",\"l\\\"\"=\"2\",z=\"3\"} 1\n"
    );
    let again = format!(
        "# TYPE \"my.h\" histogram\n{text}",
        text = family.samples.as_str()
    );
    assert_eq!(family.series, families(&again, &hash)[0].series);
}

#[test]
fn stray_samples_are_dropped_beside_others() {
    let text = "# TYPE h histogram\nh_bucket 1\nh_sum 1\nh_count 1\n";
    assert_completed(text, &["h_bucket{le=\"+Inf\"} 1", "h_sum 1", "h_count 1"]);
    let text = "# TYPE h histogram\nh_bucket 1\n";
    assert_rejected(
        text,
        Reason::InvalidText,
        "h_bucket is not part of a histogram",
    );
}

#[test]
fn lines_that_become_one_series_are_rejected() {
    assert_rejected(
        "# TYPE h histogram\nh_bucket{a=\"b\",le=\"1\"} 1\nh_bucket{a=\"b\",le=\"1.0\"} 1\n",
        Reason::DuplicateSeries,
        "h{a=\"b\"} has one le twice",
    );
    assert_rejected(
        "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns{quantile=\".5\"} 1\n",
        Reason::DuplicateSeries,
        "s{} has one quantile twice",
    );
    assert_rejected(
        "# TYPE h histogram\nh_sum 1\nh_count{a=\"\"} 1\n",
        Reason::DuplicateSeries,
        "h_bucket{a=\"\",le=\"+Inf\"} is given twice",
    );
}

#[test]
fn other_families_are_unchanged() {
    let hash = RandomState::new();
    for text in [
        "# TYPE m gauge\nm{le=\"1.0\"} 1.0\n",
        "m_bucket{le=\"1.0\"} 1\n",
    ] {
        let before = families(text, &hash).swap_remove(0);
        let after = completed(text, &hash).expect("the family is valid");
        assert_eq!(after.samples.as_str(), before.samples.as_str());
        assert_eq!(after.series, before.series);
    }
}

#[test]
fn native_histograms_stay_with_their_family() {
    let hash = RandomState::new();
    let mut family = families("# TYPE h histogram\nh_count{a=\"b\"} 1\n", &hash).swap_remove(0);
    let native = NativeHistogram {
        labels: "a=\"b\"".into(),
        histogram: bytes::Bytes::from_static(b"\x08\x01"),
        gauge: false,
    };
    family.natives.push(native.clone());
    complete(&mut family, &hash).expect("the family is valid");
    assert_eq!(family.natives, [native]);
}

fn samples() -> impl Strategy<Value = String> {
    let labels = prop::sample::select(vec![
        "",
        "a=\"\",",
        "a=\"1\",",
        "z=\"2\",",
        "\"l.e\"=\"3\",",
    ]);
    let bounds = prop::sample::select(vec!["", "1", "1.0", "-0", "0", "1e6", "+Inf", "NaN"]);
    let line = (0..4_usize, labels, bounds).prop_map(|(component, labels, bound)| {
        let (suffix, label) = match component {
            0 => ("_bucket", "le"),
            1 => ("", "quantile"),
            2 => ("_sum", ""),
            _ => ("_count", ""),
        };
        match (label, bound) {
            ("", _) | (_, "") => format!("m{suffix}{{{labels}}} 2.50\n"),
            _ => format!("m{suffix}{{{labels}{label}=\"{bound}\"}} 3\n"),
        }
    });
    prop::collection::vec(line, 1..12).prop_map(|lines| lines.concat())
}

proptest! {
    /// A completed family parses again, has each series once, and is not changed by
    /// completing it again.
    #[test]
    fn completion_is_idempotent(histogram: bool, lines in samples()) {
        let hash = RandomState::new();
        let options = CanonicalOptions {
            limits: TextLimits::default(),
            added: &[],
            timestamps: TimestampPolicy::Refuse,
            hash: &hash,
        };
        let kind = if histogram { "histogram" } else { "summary" };
        let text = format!("# TYPE m {kind}\n{lines}");
        // Some texts have a series twice, or a component of another kind.
        let Ok(mut read) = canonicalize_as(&text, InputFormat::Text, &options) else {
            return Ok(());
        };
        for family in &mut read {
            if complete(family, &hash).is_err() {
                continue;
            }
            let text = format!("# TYPE {} {}\n{}", family.name, family.kind.as_str(), family.samples.as_str());
            let again = families(&text, &hash).swap_remove(0);
            prop_assert_eq!(&again.series, &family.series);
            prop_assert_eq!(again.samples.as_str(), family.samples.as_str());
            let before = family.samples.clone();
            prop_assert_eq!(complete(family, &hash), Ok(()));
            prop_assert_eq!(before.as_str(), family.samples.as_str());
        }
    }
}
