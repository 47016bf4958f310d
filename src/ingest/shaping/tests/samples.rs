//! Shaping samples while they are parsed gives the same result as shaping the text first.

use std::hash::RandomState;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::exposition::{
    AddedLabel, CanonicalOptions, FamilyText, LabelConflict, TextLimits, TimestampPolicy,
    canonicalize_as, canonicalize_shaped,
};

/// Entries that change, drop, rename and add, alone and combined.
static ENTRIES: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    let rules = [
        "action = \"drop\", source_labels = [\"__name__\"], regex = \"a|go_.*\"",
        "action = \"drop\", source_labels = [\"x\"], regex = \"1\"",
        "action = \"keep\", source_labels = [\"__name__\", \"x\"], regex = \".*;.+\"",
        "action = \"keep\", source_labels = [\"x\"], regex = \"1?\"",
        "action = \"labeldrop\", regex = \"y\"",
        "action = \"labeldrop\", regex = \"ex.*\"",
        "action = \"labelkeep\", regex = \"__name__|le|x|quantile\"",
        "action = \"labelmap\", regex = \"(x)\", replacement = \"y\"",
        "action = \"labelmap\", regex = \"(.+)\", replacement = \"${1}_2\"",
        "action = \"hashmod\", source_labels = [\"y\"], target_label = \"x\", modulus = 2",
        "action = \"lowercase\", source_labels = [\"x\"], target_label = \"x\"",
        "action = \"keepequal\", source_labels = [\"x\"], target_label = \"y\"",
        "action = \"dropequal\", source_labels = [\"x\"], target_label = \"y\"",
        "target_label = \"y\", replacement = \"1\"",
        "target_label = \"x\", replacement = \"\"",
        "target_label = \"env\", replacement = \"a\\\\\\\\b\\\"\"",
        "source_labels = [\"x\"], regex = \"(.+)\", target_label = \"$1\", replacement = \"1\"",
        "source_labels = [\"x\", \"job\"], target_label = \"y\"",
        "source_labels = [\"x\"], regex = \"1\", target_label = \"job\", replacement = \"own\"",
        "source_labels = [\"__name__\"], regex = \"([abh])(_.*)?\", target_label = \"__name__\", replacement = \"new_$1$2\"",
        "source_labels = [\"__name__\"], regex = \"a\", target_label = \"__name__\", replacement = \"h_sum\"",
        "source_labels = [\"__name__\"], regex = \"h.*\", target_label = \"__name__\", replacement = \"b\"",
        "source_labels = [\"x\"], regex = \"1\", target_label = \"__name__\", replacement = \"one\"",
        "source_labels = [\"x\"], regex = \"2\", target_label = \"__name__\", replacement = \"\"",
        "source_labels = [\"__name__\"], target_label = \"metric\"",
        "source_labels = [\"le\"], regex = \"1\", target_label = \"le\", replacement = \"2\"",
        "action = \"drop\", source_labels = [\"le\"], regex = \"1\"",
        "action = \"labelmap\", regex = \"__name__\", replacement = \"was\"",
        "source_labels = [\"x\"], regex = \"A\", target_label = \"not.plain\", replacement = \"1\"",
    ];
    let mut text = String::new();
    for rule in rules {
        text += &format!("[[shape]]\nmetric_relabel = [{{ {rule} }}]\n");
    }
    for pair in rules.windows(2) {
        text += &format!(
            "[[shape]]\nmetric_relabel = [{{ {} }}, {{ {} }}]\n",
            pair[0], pair[1]
        );
    }
    for more in [
        "labels = { env = \"eu\", x = \"0\" }",
        "labels = { env = \"eu\", exported_env = \"e\" }\nhonor_labels = true",
        "labels = { y = \"a\\\"\" }\ndrop = [\"a*\"]",
        "keep = [\"h\", \"new_*\"]",
        "drop = [\"h\", \"b*\"]",
    ] {
        text += &format!("[[shape]]\n{more}\n");
    }
    parse(&text).unwrap()
});

/// A family in usual form: its name, its kind, whether it has help, and its samples.
fn any_family() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        4 => Just("a"), 4 => Just("b"), 4 => Just("h"), 1 => Just("h_sum"), 1 => Just("new_a"),
        1 => Just("go_x"), 1 => Just("one"),
    ];
    let kind = prop_oneof![
        Just(""),
        Just("gauge"),
        Just("counter"),
        Just("histogram"),
        Just("summary")
    ];
    let sample = (0..5_usize, any_labels(), "[0-9]{1,2}", 0..12_u8);
    let samples = proptest::collection::vec(sample, 0..6);
    (name, kind, any::<bool>(), samples).prop_map(|(name, kind, has_help, samples)| {
        let mut text = String::new();
        if has_help {
            text += &format!("# HELP {name} About {name}.\n");
        }
        if !kind.is_empty() {
            text += &format!("# TYPE {name} {kind}\n");
        }
        for (part, labels, value, time) in samples {
            let (suffix, bound) = match (kind, part) {
                ("histogram", 0..3) => ("_bucket", format!("le=\"{part}\",")),
                ("summary", 0..3) => ("", format!("quantile=\"0.{part}\",")),
                ("histogram" | "summary", 3) => ("_sum", String::new()),
                ("histogram" | "summary", _) => ("_count", String::new()),
                _ => ("", String::new()),
            };
            let labels = format!("{bound}{labels}");
            let labels = match labels.trim_end_matches(',') {
                "" => String::new(),
                labels => format!("{{{labels}}}"),
            };
            let time = if time == 0 { " 1000" } else { "" };
            text += &format!("{name}{suffix}{labels} {value}{time}\n");
        }
        text
    })
}

fn any_labels() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("x"),
        Just("y"),
        Just("env"),
        Just("exported_env"),
        Just("job"),
        Just("n")
    ];
    let value = prop_oneof![
        8 => "[12]".prop_map(String::from),
        4 => "[0-9]{1,3}".prop_map(String::from),
        1 => Just(String::new()),
        1 => Just("A".to_owned()),
        1 => Just("a\\\\b".to_owned()),
    ];
    proptest::collection::btree_map(name, value, 0..4).prop_map(|labels| {
        let pairs = labels.into_iter();
        pairs
            .map(|(name, value)| format!("{name}=\"{value}\","))
            .collect()
    })
}

/// Families, whose lines are sometimes out of order.
fn any_text() -> impl Strategy<Value = String> {
    let swaps = prop_oneof![
        3 => Just(Vec::new()),
        1 => proptest::collection::vec((0..30_usize, 0..30_usize), 1..3),
    ];
    let families = proptest::collection::vec(any_family(), 1..6);
    (families, swaps).prop_map(|(families, swaps)| {
        let text = families.concat();
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        for (one, other) in swaps {
            if one.max(other) < lines.len() {
                lines.swap(one, other);
            }
        }
        lines.concat()
    })
}

fn sorted(mut families: Vec<FamilyText>) -> Vec<FamilyText> {
    families.sort_by(|a, b| a.name.cmp(&b.name));
    families
}

/// Shapes a text both ways. Returns whether it needs to be parsed only once.
fn check(
    text: &str,
    shaping: &Shaping<'_>,
    sender: SenderLabels<'_>,
    options: &CanonicalOptions<'_, RandomState>,
) -> bool {
    let mut samples = shaping.samples(sender);
    let Some((families, counts)) = canonicalize_shaped(text, options, &mut samples) else {
        return false;
    };
    let limits = (Layout::Lines, options.limits.text);
    let shaped = shaping.apply(text, InputFormat::Text, sender, limits);
    let shaped = shaped.unwrap();
    let expected = canonicalize_as(&shaped.text, InputFormat::Text, options);
    let expected = expected.unwrap_or_else(|error| panic!("{error} in {}", shaped.text));
    assert_eq!(
        sorted(families),
        sorted(expected),
        "{text}\n{}",
        shaped.text
    );
    assert_eq!(counts, shaped.counts, "{text}");
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6_000))]

    #[test]
    fn samples_are_shaped_like_their_text(
        text in any_text(),
        chosen in proptest::collection::vec(0..1000_usize, 1..4),
        sender in 0..3_u8,
        timestamps in prop_oneof![Just(TimestampPolicy::Keep), Just(TimestampPolicy::Strip)],
        most_labels in prop_oneof![4 => Just(usize::MAX), 1 => Just(3)],
    ) {
        let shapes = chosen.iter().map(|at| &ENTRIES[at % ENTRIES.len()]).collect();
        let shaping = Shaping { shapes, ..Shaping::default() };
        let hash = RandomState::new();
        let added = [
            AddedLabel { name: "job", value: "j", conflict: LabelConflict::Override },
            AddedLabel { name: "instance", value: "", conflict: LabelConflict::Keep },
        ];
        let of_target = LabelText::from_plain([("env", "t"), ("n", "7")]).unwrap();
        let of_target = SampleLabels::new(of_target, false);
        let none = SampleLabels::default();
        let (sender, added) = match sender {
            0 => (SenderLabels::Group(&[("job", "j")]), &added[..]),
            1 => (SenderLabels::Target(&of_target), &[][..]),
            _ => (SenderLabels::Target(&none), &added[1..]),
        };
        let options = CanonicalOptions {
            limits: TextLimits { labels: most_labels, ..TextLimits::default() },
            added,
            timestamps,
            hash: &hash,
        };
        check(&text, &shaping, sender, &options);
    }
}

/// Usual texts are parsed once, with any rules.
#[test]
fn usual_texts_are_not_parsed_again() {
    let text = "# HELP a Of a.\n# TYPE a counter\na{x=\"1\",y=\"u\"} 1\na{x=\"2\",y=\"v\"} 2\na{x=\"1\",y=\"w\"} 3\n\
                # TYPE h histogram\nh_bucket{le=\"1\",y=\"u\"} 1\nh_bucket{le=\"+Inf\",y=\"u\"} 2\nh_sum{y=\"u\"} 3\n\
                h_count{y=\"u\"} 2\nc 1\n";
    let hash = RandomState::new();
    let options = CanonicalOptions {
        limits: TextLimits::default(),
        added: &[],
        timestamps: TimestampPolicy::Keep,
        hash: &hash,
    };
    let rule = |rule: &str| format!("metric_relabel = [{{ {rule} }}]");
    let renaming = "source_labels = [\"__name__\"], regex = \"([ah])(_.*)?\", target_label = \"__name__\", replacement = \"new_$1$2\"";
    for (setting, is_usual) in [
        (
            rule("action = \"drop\", source_labels = [\"__name__\"], regex = \"go_.*\""),
            true,
        ),
        (
            rule("action = \"drop\", source_labels = [\"x\"], regex = \"1\""),
            true,
        ),
        (rule("action = \"labeldrop\", regex = \"x\""), true),
        (
            rule("source_labels = [\"x\"], regex = \"(.)\", target_label = \"z\""),
            true,
        ),
        (rule(renaming), true),
        ("labels = { env = \"eu\", y = \"own\" }".to_owned(), true),
        ("drop = [\"h\"]".to_owned(), true),
        // Two series become one.
        (
            rule("action = \"labelkeep\", regex = \"__name__|le|x\""),
            false,
        ),
        // The metadata must be repeated.
        (
            rule(
                "source_labels = [\"x\"], regex = \"1\", target_label = \"__name__\", replacement = \"one\"",
            ),
            false,
        ),
        // A component gets another bound.
        (
            rule(
                "source_labels = [\"le\"], regex = \"1\", target_label = \"le\", replacement = \"2\"",
            ),
            false,
        ),
        (
            rule(
                "source_labels = [\"y\"], regex = \"w\", target_label = \"__name__\", replacement = \"\"",
            ),
            false,
        ),
    ] {
        let shapes = shapes(&setting);
        let shaping = Shaping::of_input(&shapes, Input::Groups, None);
        let labels = SenderLabels::Group(&[]);
        assert_eq!(
            check(text, &shaping, labels, &options),
            is_usual,
            "{setting}"
        );
    }
}
