mod known;
mod properties;

use std::hash::{BuildHasherDefault, DefaultHasher};

use super::*;
use crate::exposition::LabelConflict;
use crate::exposition::{Escaping, OutputFormat, is_plain};

fn options<'a>(
    added: &'a [AddedLabel<'a>],
    keep: bool,
) -> CanonicalOptions<'a, BuildHasherDefault<DefaultHasher>> {
    const HASH: &BuildHasherDefault<DefaultHasher> = &BuildHasherDefault::new();
    CanonicalOptions {
        limits: TextLimits::default(),
        added,
        timestamps: if keep {
            TimestampPolicy::Keep
        } else {
            TimestampPolicy::Strip
        },
        hash: HASH,
    }
}

fn renaming<'a>(label: Option<(&'a str, &'a str)>) -> Vec<AddedLabel<'a>> {
    let conflict = LabelConflict::Rename;
    label
        .map(|(name, value)| AddedLabel {
            name,
            value,
            conflict,
        })
        .into_iter()
        .collect()
}

/// The heads and samples of all families.
fn shown(text: &str, label: Option<(&str, &str)>, keep: bool) -> String {
    let added = renaming(label);
    let families = canonicalize(text, &options(&added, keep)).unwrap_or_else(|e| panic!("{e}"));
    let mut out = String::new();
    for family in families {
        let lines = family.samples.as_str().lines();
        let mut series: Vec<&str> = lines.map(crate::exposition::series::series_of).collect();
        series.dedup();
        assert_eq!(series.len(), family.series.len());
        out.push_str(std::str::from_utf8(&family.head()).unwrap());
        out.push_str(std::str::from_utf8(family.samples.bytes()).unwrap());
    }
    out
}

#[test]
fn a_help_has_no_leading_blanks() {
    for (help, kept) in [("  a b ", "# HELP m a b \n"), (" \t", ""), ("", "")] {
        let text = format!("# TYPE m gauge\n# HELP m {help}\nm 1\n# EOF\n");
        let expected = format!("{kept}# TYPE m gauge\nm 1\n");
        assert_eq!(shown(&text, None, true), expected, "{help:?}");
    }
}

#[test]
fn labels_without_values_make_no_other_series() {
    for (text, first, line) in [
        ("m{a=\"\"} 1\nm 1\n", 1, 2),
        ("m{a=\"x\"} 1\nm{b=\"\",a=\"x\"} 2\n", 1, 2),
        ("m 1 5\nm{a=\"\"} 1 5\n", 1, 2),
        ("m 1 5\nm{a=\"\"} 1 6\nm{b=\"\"} 1\n", 1, 3),
    ] {
        let added = renaming(None);
        let error = canonicalize(text, &options(&added, true)).unwrap_err();
        let problem = ParseProblem::DuplicateSeries { first_line: first };
        assert_eq!((error.line, error.problem), (line, problem), "{text}");
    }
    let points = "m{a=\"\"} 2 6\nm 1 5\n";
    let ordered = "# TYPE m untyped\nm 1 5\nm{a=\"\"} 2 6\n";
    let added = renaming(None);
    let families = canonicalize(points, &options(&added, true)).unwrap();
    assert_eq!(families[0].series.len(), 1);
    assert!(ordered.ends_with(families[0].samples.as_str()));
}

#[test]
fn families_are_grouped_and_labels_sorted() {
    let text = "# HELP m A help\n# TYPE m gauge\nm{b=\"2\",a=\"1\"} 1 5\nn 2\nm 3\n";
    assert_eq!(
        shown(text, None, true),
        "# HELP m A help\n# TYPE m gauge\nm{a=\"1\",b=\"2\"} 1 5\nm 3\n# TYPE n untyped\nn 2\n"
    );
    assert!(shown(text, None, false).contains("m{a=\"1\",b=\"2\"} 1\n"));
}

#[test]
fn an_added_label_renames_the_senders_own() {
    let label = Some(("app", "x\\\"y"));
    assert_eq!(
        shown("m 1\n", label, true),
        "# TYPE m untyped\nm{app=\"x\\\"y\"} 1\n"
    );
    assert_eq!(
        shown("m{zone=\"z\",aa=\"1\",app=\"mine\"} 1\n", label, true),
        "# TYPE m untyped\nm{aa=\"1\",app=\"x\\\"y\",exported_app=\"mine\",zone=\"z\"} 1\n"
    );
    assert_eq!(
        shown("m{app=\"mine\",exported_app=\"theirs\"} 1\n", label, true),
        "# TYPE m untyped\nm{app=\"x\\\"y\",exported_app=\"theirs\",exported_exported_app=\"mine\"} 1\n"
    );
}

#[test]
fn added_labels_override_or_give_way() {
    let label = |name, value, conflict| AddedLabel {
        name,
        value,
        conflict,
    };
    let added = [
        label("job", "j", LabelConflict::Override),
        label("instance", "", LabelConflict::Keep),
    ];
    let families = |text: &str| canonicalize(text, &options(&added, false)).unwrap();
    let text = "m{job=\"mine\",a=\"1\"} 1\nm{instance=\"i\",z=\"2\"} 2\n";
    assert_eq!(
        families(text)[0].samples.as_str(),
        "m{a=\"1\",instance=\"\",job=\"j\"} 1\nm{instance=\"i\",job=\"j\",z=\"2\"} 2\n"
    );
    // Series that become equal are one.
    let twice = "m{job=\"a\"} 1\nm{job=\"b\"} 2\n";
    let error = canonicalize(twice, &options(&added, false)).unwrap_err();
    let problem = ParseProblem::DuplicateSeries { first_line: 1 };
    assert_eq!((error.line, error.problem), (2, problem));
}

#[test]
fn empty_labels_do_not_change_the_identity() {
    let series = |text: &str| canonicalize(text, &options(&[], true)).unwrap()[0].series[0];
    assert_eq!(series("m{a=\"\",b=\"1\"} 1\n"), series("m{b=\"1\"} 1\n"));
    assert_eq!(series("m{a=\"\"} 1\n"), series("m 1\n"));
    assert_ne!(series("m{a=\"\"} 1\n"), series("m{a=\" \"} 1\n"));
}

#[test]
fn timestamps_are_rejected_by_policy() {
    let mut settings = options(&[], true);
    settings.timestamps = TimestampPolicy::Refuse;
    assert!(canonicalize("m 1\n", &settings).is_ok());
    assert_eq!(
        canonicalize("m 1\nn 12 345\n", &settings)
            .unwrap_err()
            .to_string(),
        "line 2, column 6: expected no timestamp, found 345"
    );
}

/// Metadata that only OpenMetrics has, as sent and as shown again.
const OPEN: &str = "# HELP c_seconds Say \\\"hi\\\"\n# TYPE c_seconds counter\n# UNIT c_seconds seconds\nc_seconds_total{a=\"1\"} 5 1.500\n\
    # TYPE i info\ni_info{v=\"1\"} 1\n# TYPE s stateset\ns{s=\"a\"} 1\ns{s=\"b\"} 0\n\
    # TYPE u_bytes unknown\n# UNIT u_bytes bytes\nu_bytes 1\n\
    # TYPE g_volts gaugehistogram\n# UNIT g_volts volts\ng_volts_bucket{le=\"+Inf\"} 1\ng_volts_gcount 1\ng_volts_gsum 2\n\
    # TYPE \"my.m_ratio\" gauge\n# UNIT \"my.m_ratio\" ratio\n{\"my.m_ratio\"} 1\n";

#[test]
fn open_metrics_becomes_canonical_text() {
    let end = "# EOF\n";
    let with_more = OPEN.replace("1.500\n", "1.5 # {t=\"x\"} 1\nc_seconds_created 3\n");
    let kept = shown(&(with_more + end), None, true);
    let text = "# HELP c_seconds_total Say \"hi\"\n# TYPE c_seconds_total counter\nc_seconds_total{a=\"1\"} 5 1500\n\
        # TYPE i_info gauge\ni_info{v=\"1\"} 1\n# TYPE s gauge\ns{s=\"a\"} 1\ns{s=\"b\"} 0\n\
        # TYPE u_bytes untyped\nu_bytes 1\n\
        # TYPE g_volts untyped\ng_volts_bucket{le=\"+Inf\"} 1\ng_volts_gcount 1\ng_volts_gsum 2\n\
        # TYPE \"my.m_ratio\" gauge\n{\"my.m_ratio\"} 1\n";
    let show = |form: OutputFormat| form.convert(&kept, None).expect("another text");
    assert_eq!(show(OutputFormat::Text(Escaping::AllowUtf8)), text);
    let plain = text
        .replace("{\"my.m_ratio\"}", "my_m_ratio")
        .replace("\"my.m_ratio\"", "my_m_ratio");
    assert_eq!(show(OutputFormat::UNDERSCORES), plain);
    assert!(is_plain(plain.as_bytes()) && !is_plain(kept.as_bytes()));
    assert_eq!(show(OutputFormat::OpenMetrics(Escaping::AllowUtf8)), OPEN);
    let dots = OPEN
        .replace("{\"my.m_ratio\"}", "my_dot_m__ratio")
        .replace("\"my.m_ratio\"", "my_dot_m__ratio");
    assert_eq!(show(OutputFormat::OpenMetrics(Escaping::Dots)), dots);
    let volts = ["g_volts".to_owned()];
    let open = OutputFormat::OpenMetrics(Escaping::AllowUtf8);
    let one = open.convert(&crate::exposition::keep_families(&kept, &volts), None);
    assert!(
        OPEN.contains(&one.clone().expect("another text")),
        "{one:?}"
    );
}

#[test]
fn units_of_kinds_without_units_are_left_out() {
    let text = "# TYPE i_seconds info\n# UNIT i_seconds seconds\ni_seconds_info 1\n\
                # TYPE s_seconds stateset\n# UNIT s_seconds seconds\ns_seconds{s_seconds=\"a\"} 1\n# EOF\n";
    let kept = shown(text, None, true);
    let open = OutputFormat::OpenMetrics(Escaping::AllowUtf8).convert(&kept, None);
    let expected = "# TYPE i_seconds info\ni_seconds_info 1\n\
                    # TYPE s_seconds stateset\ns_seconds{s_seconds=\"a\"} 1\n";
    assert_eq!(open.as_deref(), Some(expected));
}

#[test]
fn points_of_a_series_are_ordered_by_time() {
    let text = "a{x=\"1\"} 3 3\na{x=\"2\"} 9 1\nb 1\na{x=\"1\"} 1 1\na{x=\"1\"} 2 2\n";
    let expected = "# TYPE a untyped\na{x=\"1\"} 1 1\na{x=\"1\"} 2 2\na{x=\"1\"} 3 3\na{x=\"2\"} 9 1\n\
                    # TYPE b untyped\nb 1\n";
    assert_eq!(shown(text, None, true), expected);
    let newest = "# TYPE a untyped\na{x=\"1\"} 3\na{x=\"2\"} 9\n# TYPE b untyped\nb 1\n";
    assert_eq!(shown(text, None, false), newest);
    let families = canonicalize(text, &options(&[], true)).unwrap();
    assert_eq!(families[0].series.len(), 2);
    assert_eq!(families[0].series_text(1), "a{x=\"2\"}");

    let open = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1 1\nh_count 1 1\nh_sum 1 1\n\
                h_bucket{le=\"+Inf\"} 2 2.5\nh_count 2 2.5\nh_sum 2 2.5\n# EOF\n";
    let expected = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1 1000\nh_bucket{le=\"+Inf\"} 2 2500\n\
                    h_count 1 1000\nh_count 2 2500\nh_sum 1 1000\nh_sum 2 2500\n";
    assert_eq!(shown(open, None, true), expected);
}

#[test]
fn repeated_points_are_rejected() {
    for (text, line, first) in [
        ("a 1\na 2\n", 2, 1),
        ("a 1 5\nb 1\na 2 5\n", 3, 1),
        ("a 1 5\na 2 6\na 3 5\n", 3, 1),
        ("a 1 5\na 2\n", 2, 1),
        ("a 1\na 2 5\n", 2, 1),
        ("a 1 5\na 2 6\na 3\n", 3, 1),
        ("# TYPE a gauge\na 1 5\na 2 5.000\n# EOF\n", 3, 2),
    ] {
        for keep in [false, true] {
            let error = canonicalize(text, &options(&[], keep)).unwrap_err();
            let expected = format!("line {line}, column 1: expected each series once");
            assert!(
                error
                    .to_string()
                    .replace(" column", ", column")
                    .replace(",,", ",")
                    .starts_with(&expected),
                "{text:?}: {error}"
            );
            assert!(
                error.to_string().contains(&format!("line {first} ")),
                "{text:?}: {error}"
            );
        }
    }
}

#[test]
fn quoted_names_stay_quoted() {
    let text = "# TYPE \"my.metric\" gauge\n{\"my.metric\",\"label with space\"=\"1\",b=\"2\"} 1\n";
    assert_eq!(
        shown(text, None, true),
        "# TYPE \"my.metric\" gauge\n{\"my.metric\",b=\"2\",\"label with space\"=\"1\"} 1\n"
    );
}

#[test]
fn equal_series_have_equal_hashes() {
    let one = canonicalize("m{a=\"1\",b=\"2\"} 1\n", &options(&[], true)).unwrap();
    let other = canonicalize("m{b=\"2\", a=\"1\"} 7 9\n", &options(&[], true)).unwrap();
    assert_eq!(one[0].series, other[0].series);
}

#[test]
fn text_that_some_reader_cannot_accept_is_rejected() {
    let refused = |text: &str| {
        canonicalize(text, &options(&[], true))
            .unwrap_err()
            .to_string()
    };
    assert!(refused("{\"uu\",\"a.b\"=\"1\",\"a_b\"=\"2\"} 1\n").contains("a second \"a_b\""));
    assert!(refused("{\"uu\",\"..name..\"=\"1\"} 1\n").contains("a second \"__name__\""));
    let early = "# TYPE neg gauge\nneg 1 -1.5\n# EOF\n";
    assert!(refused(early).contains("line 2, column 1: expected a time from 1970 on"));
    assert!(canonicalize(early, &options(&[], false)).is_ok());
    let dotted = canonicalize("{\"my.m\"} 1\n", &options(&[], true)).unwrap();
    let plain = canonicalize("my_m 1\n", &options(&[], true)).unwrap();
    assert_eq!(dotted[0].series, plain[0].series);
}

#[test]
fn the_last_line_identifies_open_metrics() {
    assert_eq!(detect_format("m 1\n# EOF\n"), InputFormat::OpenMetrics);
    assert_eq!(detect_format("m 1\n# EOF"), InputFormat::OpenMetrics);
    assert_eq!(detect_format("# EOF\nm 1\n"), InputFormat::Text);
    assert_eq!(detect_format(""), InputFormat::Text);
}

#[test]
fn added_labels_count_against_the_text_limit() {
    let long = "x".repeat(10_000);
    let added = [AddedLabel {
        name: "job",
        value: &long,
        conflict: LabelConflict::Override,
    }];
    let mut settings = options(&added, true);
    settings.limits.text = 1 << 20;
    let text = |lines: usize| {
        (0..lines)
            .map(|n| format!("a{{b=\"{n}\"}} 1\n"))
            .collect::<String>()
    };
    assert_eq!(
        canonicalize(&text(100), &settings).unwrap()[0].series.len(),
        100
    );
    let message = canonicalize(&text(200), &settings).unwrap_err().to_string();
    assert!(message.contains("1048576 bytes"), "{message}");
    settings.limits.text = usize::MAX - 1;
    settings.added = &[];
    assert!(canonicalize(&text(1), &settings).is_ok());
}

#[test]
fn usual_texts_take_the_fast_path() {
    let added = [
        AddedLabel {
            name: "job",
            value: "j",
            conflict: LabelConflict::Override,
        },
        AddedLabel {
            name: "instance",
            value: "",
            conflict: LabelConflict::Keep,
        },
    ];
    for text in [
        "",
        "m 1\nn 2\n",
        "# HELP m a\n# TYPE m gauge\nm{z=\"1\",a=\"2\"} 1\nm{z=\"2\",a=\"2\"} 1\n\n# HELP n b\nn{b=\"\"} 1\n",
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
        "b{q=\"\\\"\"} 1\nb{q=\"1\"} 1\na 1\nc 1\n",
    ] {
        assert!(
            fast_path::read(text, &options(&added, true)).is_some(),
            "{text}"
        );
    }
}

#[test]
fn a_single_sample_equals_its_parsed_text() {
    let keep = |name, value| AddedLabel {
        name,
        value,
        conflict: LabelConflict::Keep,
    };
    for added in [
        &[][..],
        &[keep("job", "j"), keep("instance", "")],
        &[keep("job", "j"), keep("a.b", "\\\\"), keep("c", "")],
    ] {
        let settings = options(added, true);
        let text = "# HELP m A help.\n# TYPE m gauge\nm 1795000000.25\n";
        let expected = general_path(text, InputFormat::Text, &settings).unwrap();
        let head = ("m", Kind::Gauge, "A help.");
        let single = single_sample_family(head, added, 1_795_000_000.25, settings.hash).unwrap();
        assert_eq!([FamilyText { line: 3, ..single }], expected[..]);
    }
    let merged = [keep("a.b", "1"), keep("a_b", "2")];
    let hash = options(&[], true).hash;
    assert_eq!(
        single_sample_family(("m", Kind::Gauge, ""), &merged, 1.0, hash),
        None
    );
}

#[test]
fn a_family_keeps_at_most_twice_its_text_alive() {
    let family = |name: &str, series: usize| -> String {
        (0..series)
            .map(|number| format!("{name}{{number=\"{number:03}\"}} 1\n"))
            .collect()
    };
    let text = family("a", 100) + &family("b", 100) + &family("c", 100) + &family("d", 1);
    let families = canonicalize(&text, &options(&[], true)).unwrap();
    let places: Vec<usize> = families
        .iter()
        .map(|family| family.samples.as_str().as_ptr() as usize)
        .collect();
    for pair in 0..2 {
        let next = places[pair] + families[pair].samples.len();
        assert_ne!(next, places[pair + 1], "they share an allocation");
    }
    let alone = canonicalize(&(family("a", 100) + "b 1\n"), &options(&[], true)).unwrap();
    let next = alone[0].samples.as_str().as_ptr() as usize + alone[0].samples.len();
    assert_eq!(
        next,
        alone[1].samples.as_str().as_ptr() as usize,
        "that would be a copy more"
    );
}
