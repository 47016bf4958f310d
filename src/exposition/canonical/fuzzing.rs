//! Properties of exposition text, for tests and `fuzz/`.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::{
    AddedLabel, CanonicalOptions, FamilyText, InputFormat, Kind, Labels, TextLimits,
    TimestampPolicy, canonicalize_as, fast_path, general_path, is_plain_label, is_plain_name,
};
use crate::exposition::family::OPEN_METRICS_LINE;
use crate::exposition::{Escaping, LabelConflict, OutputFormat, ParsedLine, Parser, unescape};

const HASH: &BuildHasherDefault<DefaultHasher> = &BuildHasherDefault::new();

/// Text 0.0.4. The first byte chooses the options, the rest is the text.
///
/// The fast path gives the result of the general one, or none. An accepted text becomes canonical:
/// parsed again, it stays the same, and it parses in each output format.
pub fn text(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    for_options(*choice, |options| {
        let general = general_path(text, InputFormat::Text, options);
        if let Some(fast) = fast_path::read(text, options) {
            assert_eq!(
                Ok(&fast),
                general.as_ref(),
                "the fast path differs:\n{text}"
            );
        }
        if let Ok(families) = general {
            check_accepted(&families);
        }
    });
}

/// OpenMetrics: accepted texts have the properties of an accepted [`text`].
pub fn open_metrics(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    for_options(*choice, |options| {
        if let Ok(families) = canonicalize_as(text, InputFormat::OpenMetrics, options) {
            check_accepted(&families);
        }
    });
}

/// Calls `check` with the options that the bits of `choice` encode.
fn for_options(
    choice: u8,
    check: impl FnOnce(&CanonicalOptions<'_, BuildHasherDefault<DefaultHasher>>),
) {
    let conflict = match choice & 3 {
        0 => LabelConflict::Rename,
        1 => LabelConflict::Override,
        _ => LabelConflict::Keep,
    };
    let label = |name, value| AddedLabel {
        name,
        value,
        conflict,
    };
    let added = [
        label("job", "j\\\\"),
        label("instance", ""),
        label("app", "a\\\"b"),
    ];
    let mut limits = TextLimits::default();
    if choice & 64 != 0 {
        (limits.labels, limits.label_value) = (3, 3);
    }
    check(&CanonicalOptions {
        limits,
        added: &added[..usize::from(choice >> 2 & 3)],
        timestamps: match choice >> 4 & 3 {
            0 => TimestampPolicy::Strip,
            1 => TimestampPolicy::Refuse,
            _ => TimestampPolicy::Keep,
        },
        hash: HASH,
    });
}

/// Accepted families as text.
fn shown(families: &[FamilyText]) -> String {
    let mut shown = String::new();
    for family in families {
        shown.push_str(&String::from_utf8_lossy(&family.head()));
        shown.push_str(family.samples.as_str());
    }
    shown
}

/// The text without OpenMetrics' own metadata, which is not read back.
fn without_open_metrics(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    let lines = lines.filter(|line| !line.starts_with(OPEN_METRICS_LINE));
    lines.collect()
}

/// Checks the canonical form of a text.
pub(super) fn check_accepted(families: &[FamilyText]) {
    let shown = shown(families);
    let limits = TextLimits {
        text: usize::MAX,
        ..TextLimits::default()
    };
    let options = CanonicalOptions {
        limits,
        added: &[],
        timestamps: TimestampPolicy::Keep,
        hash: HASH,
    };
    // Text has no gauge histograms: their parts are read back as families of their own.
    let has_gauge_histogram = families.iter().any(|family| {
        let open = family.open.as_ref().and_then(|open| open.kind);
        [family.kind, open.unwrap_or(family.kind)].contains(&Kind::GaugeHistogram)
    });
    match canonicalize_as(&shown, InputFormat::Text, &options) {
        Ok(_) if has_gauge_histogram => {}
        Ok(again) => {
            let again = self::shown(&again);
            assert_eq!(again, without_open_metrics(&shown), "it is not canonical");
        }
        Err(problem) => panic!("canonical text is rejected: {problem}\n{shown}"),
    }
    for escaping in Escaping::ALL {
        // Families that a scheme gives one name are kept apart by the store, which knows
        // all of them.
        let names: HashSet<_> = families
            .iter()
            .map(|family| escaping.metric(&unescape(&family.name)).into_owned())
            .collect();
        if names.len() == families.len() {
            for format in [
                OutputFormat::Text(escaping),
                OutputFormat::OpenMetrics(escaping),
            ] {
                check_output(&shown, format, escaping);
            }
        }
    }
}

/// Checks that the output in a format parses, with names that the scheme allows.
fn check_output(shown: &str, output: OutputFormat, escaping: Escaping) {
    let mut out = output
        .convert(shown, None)
        .unwrap_or_else(|| shown.to_owned());
    let mut format = InputFormat::Text;
    if output.is_open_metrics() {
        out.push_str("# EOF\n");
        format = InputFormat::OpenMetrics;
    }
    let mut parser = Parser::new(&out, format);
    let mut labels = Labels::new();
    loop {
        let (name, labels) = match parser.next(&mut labels) {
            Ok(None) => break,
            Ok(Some(ParsedLine::Help { name, .. } | ParsedLine::Type { name, .. })) => (name, None),
            Ok(Some(ParsedLine::Sample(sample))) => (sample.name, Some(&labels)),
            Ok(Some(_)) => continue,
            Err(error) => panic!("{error} in {output:?}:\n{out}"),
        };
        if escaping != Escaping::AllowUtf8 {
            let mut labels = labels.into_iter().flat_map(|labels| labels.iter());
            assert!(is_plain_name(name), "{output:?}:\n{out}");
            assert!(
                labels.all(|it| is_plain_label(it.name)),
                "{output:?}:\n{out}"
            );
        }
    }
}
