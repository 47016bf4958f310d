use proptest::prelude::*;

use super::properties::any_plain_text;
use super::{options, renaming};
use crate::exposition::canonical::{KnownText, canonicalize_as};
use crate::exposition::{AddedLabel, FamilyText, InputFormat, LabelConflict, TimestampPolicy};

const USUAL: &str = "# HELP a Of  a.\n# TYPE a counter\na{x=\"1\",y=\"2\"} 1\na{x=\"1\"} 2\n\
    # comment\n\n# TYPE b histogram\nb_bucket{le=\"1\"} 3\nb_bucket{le=\"+Inf\"} 4\nb_sum 5.5\n\
    b_count 4\nc  6\n";

#[test]
fn a_text_with_other_values_needs_no_parser() {
    let added = renaming(Some(("job", "j")));
    let options = options(&added, true);
    let long: String = (0..3000)
        .map(|n| format!("long{{n=\"{n}\"}} {n}\n"))
        .collect();
    for text in [USUAL, &format!("{USUAL}{long}")] {
        let mut known = KnownText::default();
        assert!(!known.knows(text, &options));
        let families = known.canonicalize(text, InputFormat::Text, &options);
        let expected = canonicalize_as(text, InputFormat::Text, &options);
        assert_eq!(families, expected);
        let later = text
            .replace("} 1\n", "} 12345\n")
            .replace("c  6", "c \t NaN");
        assert!(known.knows(&later, &options));
        let families = known.canonicalize(&later, InputFormat::Text, &options);
        assert_eq!(
            families,
            canonicalize_as(&later, InputFormat::Text, &options)
        );
        for (from, to) in [
            ("x=\"1\"} 2", "x=\"2\"} 2"),
            ("} 1\n", "} 1 5\n"),
            ("} 1\n", "}1\n"),
            ("} 1\n", "} 1 \n"),
            ("} 1\n", "} one\n"),
            ("} 3\n", "} -3\n"),
            ("Of  a.", "Of a."),
            ("b histogram", "b summary"),
            ("# comment\n", ""),
            ("c  6\n", ""),
            ("c  6\n", "c  6\nd 1\n"),
        ] {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text);
            assert!(!known.knows(&other, &options), "{to:?}");
        }
    }
}

#[test]
fn lines_are_known_only_with_the_same_options() {
    let added = renaming(Some(("job", "j")));
    let options = |added, keep| options(added, keep);
    let mut known = KnownText::default();
    let with = options(&added, true);
    known.canonicalize(USUAL, InputFormat::Text, &with).unwrap();
    assert!(known.knows(USUAL, &with));
    let other = renaming(Some(("job", "k")));
    assert!(!known.knows(USUAL, &options(&other, true)));
    assert!(!known.knows(USUAL, &options(&[], true)));
    assert!(!known.knows(USUAL, &options(&added, false)));
    let mut limited = options(&added, true);
    limited.limits.text = USUAL.len();
    assert!(!known.knows(USUAL, &limited));
    known
        .canonicalize(USUAL, InputFormat::Text, &limited)
        .unwrap_err();
    assert!(known.knows(USUAL, &with), "a bad text changes nothing");
}

#[test]
fn lines_that_change_again_and_again_are_seldom_remembered() {
    let options = options(&[], true);
    let mut known = KnownText::default();
    let remembered = (0..64).filter(|n| {
        let text = format!("m{{n=\"{n}\"}} 1\n");
        known
            .canonicalize(&text, InputFormat::Text, &options)
            .unwrap();
        known.knows(&text, &options)
    });
    let remembered: Vec<i32> = remembered.collect();
    assert_eq!(remembered, [0, 1, 2, 3, 15, 31, 47, 63]);
    known
        .canonicalize("m{n=\"63\"} 2\n", InputFormat::Text, &options)
        .unwrap();
    known
        .canonicalize("m 2\n", InputFormat::Text, &options)
        .unwrap();
    assert!(
        known.knows("m 3\n", &options),
        "a known text resets the count"
    );
}

/// A long text in two families.
fn long_text(value: u32) -> String {
    let line = |n: u32| format!("long_{}{{n=\"{n}\"}} {value}\n", n / 2000);
    (0..4000).map(line).collect()
}

#[test]
fn a_long_text_is_written_over_the_one_before_the_last() {
    let added = renaming(Some(("job", "j")));
    let options = options(&added, true);
    let mut known = KnownText::default();
    let mut read = |value| {
        let families = known.canonicalize(&long_text(value), InputFormat::Text, &options);
        (families.unwrap(), known.kept_memory())
    };
    let places = |families: &[FamilyText]| -> Vec<*const u8> {
        let texts = families.iter().map(|it| it.samples.bytes());
        texts.map(|text| text.as_ptr()).collect()
    };
    let expected = |value| canonicalize_as(&long_text(value), InputFormat::Text, &options).unwrap();
    assert_eq!(read(1).1, 0, "lines are only remembered");
    let (second, memory) = read(2);
    let bytes: usize = second.iter().map(|family| family.samples.len()).sum();
    assert_eq!(memory, bytes);
    let written_over = places(&second);
    let (third, _) = read(3);
    drop(second);
    // Each value is two bytes longer.
    let (fourth, _) = read(444);
    assert_eq!(places(&fourth), written_over);
    assert_eq!(fourth, expected(444));
    // The third is still in use.
    let (fifth, _) = read(5);
    assert_eq!((third, fifth), (expected(3), expected(5)));
    known.free_memory();
    assert_eq!(known.kept_memory(), 0);
}

#[test]
fn memory_of_short_texts_and_of_other_lines_is_freed() {
    let options = options(&[], true);
    let small_families: String = (0..8000).map(|n| format!("m_{n} 1\n")).collect();
    for (text, keeps) in [
        (long_text(1), true),
        (USUAL.to_owned(), false),
        (small_families, false),
    ] {
        let mut known = KnownText::default();
        let mut read = |text: &str| {
            known
                .canonicalize(text, InputFormat::Text, &options)
                .unwrap();
            known.kept_memory() > 0
        };
        read(&text);
        assert_eq!(read(&text), keeps);
        assert!(!read("other 1\n"));
    }
}

/// A text, and changes of it: another digit somewhere, or a line that is left out or repeated.
fn any_texts() -> impl Strategy<Value = Vec<String>> {
    let change = ("[0-9]", "-?[0-9]{1,3}", 0..12_usize, 0..8_u8);
    let changes = proptest::collection::vec(change, 1..4);
    (any_plain_text(), changes).prop_map(|(text, changes)| {
        let mut texts = vec![text.clone()];
        for (old, new, at, how) in changes {
            let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
            let at = at % lines.len().max(1);
            match (how, lines.get(at).cloned()) {
                (0, Some(_)) => drop(lines.remove(at)),
                (1, Some(line)) => lines.insert(at, line),
                (2, Some(line)) => lines[at] = line.replacen(&old, &new, 1),
                (_, _) => {
                    for line in &mut lines {
                        if let Some((series, _)) = line.rsplit_once(' ')
                            && !line.starts_with('#')
                        {
                            *line = format!("{series} {new}\n");
                        }
                    }
                }
            }
            texts.push(lines.concat());
        }
        texts
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    /// Earlier texts make no difference to the result.
    #[test]
    fn known_lines_equal_parsed_ones(
        texts in any_texts(),
        conflict in prop_oneof![Just(LabelConflict::Rename), Just(LabelConflict::Override), Just(LabelConflict::Keep)],
        (labels, limit) in (0..3_usize, prop_oneof![Just(usize::MAX), Just(60)]),
        timestamps in prop_oneof![Just(TimestampPolicy::Keep), Just(TimestampPolicy::Strip)],
    ) {
        let added = [("b", "0"), ("zone", "")].map(|(name, value)| AddedLabel { name, value, conflict });
        let mut options = options(&added[..labels.min(added.len())], true);
        options.timestamps = timestamps;
        options.limits.text = limit;
        let mut known = KnownText::default();
        for text in &texts {
            let found = known.canonicalize(text, InputFormat::Text, &options);
            prop_assert_eq!(found, canonicalize_as(text, InputFormat::Text, &options));
        }
    }
}
