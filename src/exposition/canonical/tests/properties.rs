//! Tests with random texts.

use proptest::prelude::*;

use super::*;

fn any_line() -> impl Strategy<Value = String> {
    let name = prop_oneof!["[am]_?[ab.]?(_total|_sum|_count|_bucket)?", "[a.é _]{1,3}"];
    let quoted = name.prop_map(|name| {
        if is_plain_name(&name) {
            name
        } else {
            format!("\"{name}\"")
        }
    });
    let name = quoted.boxed();
    let value = prop_oneof![
        "[0-9]{1,3}",
        Just("NaN".to_owned()),
        Just("+Inf".to_owned()),
        "-1.5e3"
    ];
    let kind = prop_oneof![
        Just("counter"),
        Just("gauge"),
        Just("histogram"),
        Just("summary"),
        Just("info"),
        Just("unknown"),
        Just("untyped"),
        Just("gaugehistogram"),
        Just("stateset")
    ];
    let label = (name.clone(), "[a,\"{} ]{0,3}");
    let labels = proptest::collection::vec(label, 0..3);
    prop_oneof![
        1 => (name.clone(), kind).prop_map(|(name, kind)| format!("# TYPE {name} {kind}")),
        1 => (name.clone(), "[a\\\\\"n ]{0,5}").prop_map(|(name, help)| format!("# HELP {name} {help}")),
        4 => (name, labels, value, prop_oneof![Just(String::new()), "-?[0-9]{1,4}(\\.[0-9])?"]).prop_map(|(name, labels, value, time)| {
            let mut pairs: Vec<String> = labels
                .iter()
                .map(|(label, value)| format!("{label}=\"{}\"", value.replace('"', "\\\"")))
                .collect();
            let start = if name.starts_with('"') {
                pairs.insert(0, name);
                String::new()
            } else {
                name
            };
            let time = if time.is_empty() { time } else { format!(" {time}") };
            format!("{start}{{{}}} {value}{time}", pairs.join(","))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Accepted text is canonical, and can be parsed in every format in which it is shown.
    #[test]
    fn accepted_text_is_canonical_and_parses_in_every_output_format(
        lines in proptest::collection::vec(any_line(), 0..5),
        open in any::<bool>(),
        label in any::<bool>(),
    ) {
        let end = if open { "# EOF\n" } else { "" };
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>() + end;
        let label = label.then_some(("app", "a\\\"b"));
        let added = renaming(label);
        let Ok(families) = canonicalize(&text, &options(&added, true)) else {
            return Ok(());
        };
        fuzzing::check_accepted(&families);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Series have the same hashes when the lines of a family are read again.
    #[test]
    fn lines_that_are_read_again_have_the_same_hashes(
        lines in proptest::collection::vec(any_line(), 0..8),
        open in any::<bool>(),
    ) {
        let end = if open { "# EOF\n" } else { "" };
        let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>() + end;
        let added = renaming(None);
        let options = options(&added, true);
        for family in canonicalize(&text, &options).unwrap_or_default() {
            let again = SeriesHashes::of_lines(family.samples.as_str(), options.hash);
            prop_assert_eq!(again, family.series, "{}", family.samples.as_str());
        }
    }
}

/// Usual texts: few families, similar lines, with an occasional mistake.
pub(super) fn any_plain_text() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        6 => "[ab]",
        2 => "[ab](_sum|_count|_bucket)",
        1 => "c_[a-z]{0,2}",
    ];
    let kind = prop_oneof!["counter", "gauge", "histogram", "summary", "untyped"];
    let label = prop_oneof![
        4 => Just("a"), 4 => Just("b"), 2 => Just("le"), 2 => Just("zone"), 1 => Just("job"),
        1 => Just("instance"), 1 => Just("quantile"), 1 => Just("\"d\""), 1 => Just("\"d.e\""),
    ];
    let value = prop_oneof![
        6 => "[012]{1,2}", 2 => "[0-9a-zé]{0,12}", 1 => Just(String::new()),
        1 => Just("x\\\"y\\\\".to_owned()), 1 => Just("\\x".to_owned()),
    ];
    let number =
        prop_oneof![8 => "-?[0-9]{1,3}", 1 => Just("NaN".to_owned()), 1 => "[0-9]{1,3}(x| 5| |\r)"];
    let labels = proptest::collection::vec((label, value), 0..4);
    let blank = prop_oneof![9 => Just(""), 1 => Just(" "), 1 => Just("\t")];
    let sample = (name, labels, number, blank).prop_map(|(name, labels, number, blank)| {
        let pairs: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}{blank}=\"{value}\""))
            .collect();
        let pairs = pairs.join(",");
        match (pairs.is_empty(), blank) {
            (true, "") => format!("{name} {number}\n"),
            _ => format!("{blank}{name}{blank}{{{pairs}}} {blank}{number}\n"),
        }
    });
    let head = ("[ab](_sum)?", kind, any::<bool>()).prop_map(|(name, kind, help)| match help {
        true => format!("# HELP {name} of {kind}\n"),
        false => format!("# TYPE {name} {kind}\n"),
    });
    let other = prop_oneof![
        Just("\n"),
        Just("# a comment\n"),
        Just("  \n"),
        Just("# HELP a\n"),
        Just("# HELP a x\r\n"),
        Just("# HELP b  x\\y\n"),
        Just("# HELP b \\\\ \0\n"),
        Just("# TYPE b gauge\r\n"),
        Just(" # TYPE a gauge\n")
    ];
    let line = prop_oneof![
        9 => sample,
        2 => head,
        1 => other.prop_map(str::to_owned),
    ];
    // Most lines repeat the one before with another digit.
    let again = (
        line,
        proptest::collection::vec(("[0-2]", "[0-9]{1,2}"), 0..4),
    );
    let lines = again.prop_map(|(line, others)| {
        let mut text = line.clone();
        for (old, new) in others {
            text += &line.replacen(&old, &new, 1);
        }
        text
    });
    proptest::collection::vec(lines, 0..6).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    /// The fast path gives the result of the general one, or none.
    #[test]
    fn fast_path_equals_general_path(
        text in prop_oneof![
            4 => any_plain_text(),
            1 => proptest::collection::vec(any_line(), 0..6).prop_map(|lines| lines.join("\n")),
        ],
        conflict in prop_oneof![Just(LabelConflict::Rename), Just(LabelConflict::Override), Just(LabelConflict::Keep)],
        (labels, limit) in (0..4_usize, prop_oneof![Just(usize::MAX), Just(3)]),
        timestamps in prop_oneof![Just(TimestampPolicy::Keep), Just(TimestampPolicy::Strip), Just(TimestampPolicy::Refuse)],
        longest_shared in prop_oneof![2 => Just(usize::MAX), 1 => 0..60_usize],
    ) {
        let added = [
            AddedLabel { name: "job", value: "j\\\\", conflict },
            AddedLabel { name: "instance", value: "", conflict: LabelConflict::Keep },
            AddedLabel { name: "app", value: "", conflict },
        ];
        let mut settings = options(&added[..labels], true);
        settings.timestamps = timestamps;
        settings.limits.labels = limit;
        settings.limits.label_value = limit;
        let other = general_path(&text, InputFormat::Text, &settings);
        if let Some((short, _)) = fast_path::read_sharing(&text, &settings, longest_shared, None) {
            prop_assert_eq!(Ok(short), other);
        }
    }
}
