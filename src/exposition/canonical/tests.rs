use std::hash::{BuildHasherDefault, DefaultHasher};

use super::*;
use crate::exposition::LabelConflict;
use crate::exposition::{Escaping, OutputFormat, ParsedLine, is_plain, unescape};

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
fn families_are_brought_together_and_labels_sorted() {
    let text = "# HELP m A help\n# TYPE m gauge\nm{b=\"2\",a=\"1\"} 1 5\nn 2\nm 3\n";
    assert_eq!(
        shown(text, None, true),
        "# HELP m A help\n# TYPE m gauge\nm{a=\"1\",b=\"2\"} 1 5\nm 3\n# TYPE n untyped\nn 2\n"
    );
    assert!(shown(text, None, false).contains("m{a=\"1\",b=\"2\"} 1\n"));
}

#[test]
fn a_label_is_added_in_order_and_the_senders_own_is_kept_apart() {
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
fn labels_that_are_added_override_or_give_way() {
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
    // Series that become equal have the same hash.
    let twice = families("m{job=\"a\"} 1\nm{job=\"b\"} 2\n");
    assert_eq!(twice[0].series[0], twice[0].series[1]);
}

#[test]
fn a_label_without_a_value_is_none_to_readers() {
    let series = |text: &str| canonicalize(text, &options(&[], true)).unwrap()[0].series[0];
    assert_eq!(series("m{a=\"\",b=\"1\"} 1\n"), series("m{b=\"1\"} 1\n"));
    assert_eq!(series("m{a=\"\"} 1\n"), series("m 1\n"));
    assert_ne!(series("m{a=\"\"} 1\n"), series("m{a=\" \"} 1\n"));
}

#[test]
fn timestamps_are_refused_where_they_are_unwelcome() {
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
fn open_metrics_is_shown_as_text() {
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
fn a_unit_that_a_kind_cannot_have_is_left_out() {
    let text = "# TYPE i_seconds info\n# UNIT i_seconds seconds\ni_seconds_info 1\n\
                # TYPE s_seconds stateset\n# UNIT s_seconds seconds\ns_seconds{s_seconds=\"a\"} 1\n# EOF\n";
    let kept = shown(text, None, true);
    let open = OutputFormat::OpenMetrics(Escaping::AllowUtf8).convert(&kept, None);
    let expected = "# TYPE i_seconds info\ni_seconds_info 1\n\
                    # TYPE s_seconds stateset\ns_seconds{s_seconds=\"a\"} 1\n";
    assert_eq!(open.as_deref(), Some(expected));
}

#[test]
fn points_of_a_series_are_brought_together_in_order_of_time() {
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
fn points_of_a_series_at_one_time_or_at_none_are_refused() {
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
            let fault = canonicalize(text, &options(&[], keep)).unwrap_err();
            let expected = format!("line {line}, column 1: expected each series once");
            assert!(
                fault
                    .to_string()
                    .replace(" column", ", column")
                    .replace(",,", ",")
                    .starts_with(&expected),
                "{text:?}: {fault}"
            );
            assert!(
                fault.to_string().contains(&format!("line {first} ")),
                "{text:?}: {fault}"
            );
        }
    }
}

#[test]
fn names_that_need_quotes_keep_them() {
    let text = "# TYPE \"my.metric\" gauge\n{\"my.metric\",\"label with space\"=\"1\",b=\"2\"} 1\n";
    assert_eq!(
        shown(text, None, true),
        "# TYPE \"my.metric\" gauge\n{\"my.metric\",b=\"2\",\"label with space\"=\"1\"} 1\n"
    );
}

#[test]
fn the_same_series_has_the_same_hash_however_it_is_written() {
    let one = canonicalize("m{a=\"1\",b=\"2\"} 1\n", &options(&[], true)).unwrap();
    let other = canonicalize("m{b=\"2\", a=\"1\"} 7 9\n", &options(&[], true)).unwrap();
    assert_eq!(one[0].series, other[0].series);
}

#[test]
fn what_text_or_old_readers_could_not_take_is_refused() {
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

use proptest::prelude::*;

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

    /// Every accepted text can be parsed in every format in which it is shown.
    #[test]
    fn what_is_let_in_can_be_read_in_every_form(
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
        let mut shown = String::new();
        for family in &families {
            shown.push_str(std::str::from_utf8(&family.head()).unwrap());
            shown.push_str(family.samples.as_str());
        }
        for escaping in Escaping::ALL {
            // Families that a scheme gives one name are kept apart by the
            // store, which knows all of them.
            let names: HashSet<_> = families.iter().map(|family| {
                escaping.metric(&unescape(&family.name)).into_owned()
            }).collect();
            if names.len() < families.len() {
                continue;
            }
            for form in [OutputFormat::Text(escaping), OutputFormat::OpenMetrics(escaping)] {
                let mut out = form.convert(&shown, None).unwrap_or_else(|| shown.clone());
                let mut format = InputFormat::Text;
                if form.is_open_metrics() {
                    out.push_str("# EOF\n");
                    format = InputFormat::OpenMetrics;
                }
                let mut parser = crate::exposition::Parser::new(&out, format);
                let mut labels = Labels::new();
                loop {
                    let entry = parser.next(&mut labels).map_err(|fault| {
                        TestCaseError::fail(format!("{fault} in {form:?}:\n{out}"))
                    })?;
                    let (name, labels) = match entry {
                        None => break,
                        Some(ParsedLine::Help { name, .. } | ParsedLine::Type { name, .. }) => (name, None),
                        Some(ParsedLine::Sample(sample)) => (sample.name, Some(&labels)),
                        Some(_) => continue,
                    };
                    if escaping != Escaping::AllowUtf8 {
                        let mut labels = labels.into_iter().flatten();
                        prop_assert!(is_plain_name(name), "{form:?}:\n{out}");
                        prop_assert!(labels.all(|it| is_plain_label(it.name)), "{form:?}:\n{out}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_last_line_tells_open_metrics() {
    assert_eq!(detect_format("m 1\n# EOF\n"), InputFormat::OpenMetrics);
    assert_eq!(detect_format("m 1\n# EOF"), InputFormat::OpenMetrics);
    assert_eq!(detect_format("# EOF\nm 1\n"), InputFormat::Text);
    assert_eq!(detect_format(""), InputFormat::Text);
}

#[test]
fn labels_that_would_make_too_much_of_a_text_are_refused_before_it_is_made() {
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
    let told = canonicalize(&text(200), &settings).unwrap_err().to_string();
    assert!(told.contains("1048576 bytes"), "{told}");
    settings.limits.text = usize::MAX - 1;
    settings.added = &[];
    assert!(canonicalize(&text(1), &settings).is_ok());
}

/// Usual texts: few families, similar lines, with an occasional mistake.
fn any_plain_text() -> impl Strategy<Value = String> {
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
    fn the_short_cut_makes_no_difference(
        text in prop_oneof![
            4 => any_plain_text(),
            1 => proptest::collection::vec(any_line(), 0..6).prop_map(|lines| lines.join("\n")),
        ],
        conflict in prop_oneof![Just(LabelConflict::Rename), Just(LabelConflict::Override), Just(LabelConflict::Keep)],
        (labels, limit) in (0..4_usize, prop_oneof![Just(usize::MAX), Just(3)]),
        timestamps in prop_oneof![Just(TimestampPolicy::Keep), Just(TimestampPolicy::Strip), Just(TimestampPolicy::Refuse)],
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
        if let Some(short) = fast_path::read(&text, &settings) {
            prop_assert_eq!(Ok(short), other);
        }
    }
}

#[test]
fn the_short_cut_is_taken_where_it_is_meant_to_be() {
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
fn a_single_sample_is_as_its_text_would_be() {
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
        let single = single(head, added, 1_795_000_000.25, settings.hash).unwrap();
        assert_eq!([FamilyText { line: 3, ..single }], expected[..]);
    }
    let merged = [keep("a.b", "1"), keep("a_b", "2")];
    let hash = options(&[], true).hash;
    assert_eq!(single(("m", Kind::Gauge, ""), &merged, 1.0, hash), None);
}

#[test]
fn a_family_holds_on_to_no_more_than_twice_its_text() {
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
        assert_ne!(next, places[pair + 1], "they lie in one allocation");
    }
    let alone = canonicalize(&(family("a", 100) + "b 1\n"), &options(&[], true)).unwrap();
    let next = alone[0].samples.as_str().as_ptr() as usize + alone[0].samples.len();
    assert_eq!(
        next,
        alone[1].samples.as_str().as_ptr() as usize,
        "that would be a copy more"
    );
}
