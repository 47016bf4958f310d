use super::*;

fn parse(text: &str) -> Result<Families<'_>, ParseError> {
    Families::parse(text, InputFormat::Text, &TextLimits::default())
}

/// The families as `name kind: lines`.
fn outline(families: &Families<'_>) -> Vec<String> {
    let mut labels = Labels::new();
    families
        .iter()
        .map(|family| {
            let mut samples = family.samples();
            let mut lines = Vec::new();
            while samples.next(&mut labels).is_some() {
                lines.push(samples.line());
            }
            assert_eq!(lines.len(), family.sample_count());
            format!("{} {}: {lines:?}", family.name(), family.kind().as_str())
        })
        .collect()
}

fn error(text: &str) -> String {
    parse(text).map_or_else(
        |error| error.to_string(),
        |families| format!("{families:?}"),
    )
}

#[test]
fn scattered_lines_of_a_family_are_grouped() {
    let families = parse("b 1\na 1\n# HELP b late\nb{x=\"1\"} 2\n").expect("valid");
    assert_eq!(outline(&families), ["b untyped: [1, 4]", "a untyped: [2]"]);
    let helps: Vec<_> = families.iter().map(|family| family.help()).collect();
    assert_eq!(helps, [Some("late"), None]);
    assert_eq!(families.samples(), 3);
}

#[test]
fn histograms_and_summaries_include_their_components() {
    let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\nh_created 1\n\
                # TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 1\ns_count 1\ns_bucket 1\n";
    let families = parse(text).expect("valid");
    assert_eq!(
        outline(&families),
        [
            "h histogram: [2, 3, 4]",
            "h_created untyped: [5]",
            "s summary: [7, 8, 9]",
            "s_bucket untyped: [10]"
        ]
    );
}

#[test]
fn open_metrics_suffixes_belong_to_their_family() {
    let text = "# TYPE c counter\nc_total 1\nc_created 1\n# TYPE i info\ni_info 1\n\
                # TYPE g gaugehistogram\ng_bucket{le=\"1\"} 1\ng_gsum -1\ng_gcount 1\n\
                # TYPE u_seconds gauge\n# UNIT u_seconds seconds\nu_seconds 1\n# EOF\n";
    let families =
        Families::parse(text, InputFormat::OpenMetrics, &TextLimits::default()).expect("valid");
    assert_eq!(
        outline(&families),
        [
            "c counter: [2, 3]",
            "i info: [5]",
            "g gaugehistogram: [7, 8, 9]",
            "u_seconds gauge: [12]"
        ]
    );
    let units: Vec<_> = families.iter().filter_map(|family| family.unit()).collect();
    assert_eq!(units, ["seconds"]);
}

#[test]
fn an_earlier_name_keeps_its_own_family() {
    let families =
        parse("m_sum 1\n# TYPE m summary\nm_sum{a=\"b\"} 2\nm_count 3\n").expect("valid");
    assert_eq!(
        outline(&families),
        ["m_sum untyped: [1, 3]", "m summary: [4]"]
    );
}

#[test]
fn metadata_without_samples_makes_no_family() {
    let families = parse("# HELP a b\n# TYPE a gauge\n").expect("valid");
    assert_eq!(families.iter().count(), 0);
}

#[test]
fn metadata_comes_once_and_types_before_samples() {
    for (text, expected) in [
        (
            "# TYPE a gauge\n# TYPE a gauge\n",
            "line 2, column 1: expected one TYPE for \"a\", found a second",
        ),
        (
            "a 1\n# TYPE a gauge\n",
            "line 2, column 1: expected the TYPE of \"a\" before its samples, found it after",
        ),
        (
            "# HELP a x\na 1\n# HELP a y\n",
            "line 3, column 1: expected one HELP for \"a\", found a second",
        ),
        (
            "# TYPE a summary\n# TYPE a_sum counter\n",
            "line 2, column 1: expected one TYPE for \"a\", found a second",
        ),
    ] {
        assert_eq!(error(text), expected);
    }
}

#[test]
fn a_repeated_series_is_an_error_in_any_label_order() {
    let text = "m{a=\"1\",b=\"2\"} 1\nm{a=\"12\",b=\"\"} 1\nm{ b=\"2\", \"a\"=\"1\" } 2\n";
    assert_eq!(
        error(text),
        "line 3, column 1: expected each series once, found that of line 1 again"
    );
    assert!(parse("m 1\nm{a=\"\"} 1\nn 1\n").is_ok());
}

#[test]
fn colliding_hashes_lose_no_series() {
    #[derive(Default)]
    struct Same;
    impl std::hash::Hasher for Same {
        fn finish(&self) -> u64 {
            63
        }
        fn write(&mut self, _: &[u8]) {}
    }
    let hash = std::hash::BuildHasherDefault::<Same>::default();
    let mut text: String = (0..200).map(|n| format!("m{{n=\"{n}\"}} 1\n")).collect();
    let parse = |text: &str| {
        Families::parse_with(text, InputFormat::Text, &TextLimits::default(), &hash)
            .map(|families| families.samples())
    };
    assert_eq!(parse(&text), Ok(200));
    text.push_str("m{n=\"7\"} 1\n");
    let error = parse(&text).expect_err("a series twice");
    assert_eq!(
        error.problem,
        ParseProblem::DuplicateSeries { first_line: 8 }
    );
}

#[test]
fn bounds_and_quantiles_are_numbers_and_counts_are_not_negative() {
    for (text, expected) in [
        (
            "# TYPE h histogram\nh_bucket{le=\"x\"} 1\n",
            "line 2, column 14: expected a number in a histogram's le, found \"x\"",
        ),
        (
            "# TYPE h histogram\nh_bucket{le=\"1\"} -1\n",
            "line 2, column 18: expected a histogram's count of 0 or more, found -1",
        ),
        (
            "# TYPE s summary\ns_sum{quantile=\"\"} 1\n",
            "line 2, column 17: expected a number in a summary's quantile, found \"\"",
        ),
    ] {
        assert_eq!(error(text), expected);
    }
    assert!(parse("# TYPE h histogram\nh_bucket -1\nh_sum -1\nh_bucket{le=\"NaN\"} -1\n").is_ok());
}

#[test]
fn exceeded_limits_are_named_with_their_position() {
    let limits = TextLimits {
        families: 3,
        samples: 2,
        text: usize::MAX,
        labels: 1,
        label_name: 3,
        label_value: 4,
    };
    for (text, expected) in [
        (
            "a 1\nb 1\nc 1\n",
            "line 3, column 1: expected at most 2 samples in a text (exposition.max_samples), found more",
        ),
        (
            "# TYPE a gauge\n# HELP b b\nc 1\n# TYPE d gauge\n",
            "line 4, column 1: expected at most 3 families in a text (exposition.max_families), found more",
        ),
        (
            "a{b=\"1\",c=\"2\"} 1\n",
            "line 1, column 9: expected at most 1 label on a sample (exposition.max_labels), found more",
        ),
        (
            "a{bcde=\"1\"} 1\n",
            "line 1, column 3: expected at most 3 bytes in a label name (exposition.max_label_length), found more",
        ),
        (
            "a{b=\"12345\"} 1\n",
            "line 1, column 6: expected at most 4 bytes in a label value (exposition.max_label_length), found more",
        ),
        (
            "abcde 1\n",
            "line 1, column 1: expected at most 4 bytes in a label value (exposition.max_label_length), found more",
        ),
    ] {
        let error = Families::parse(text, InputFormat::Text, &limits).expect_err(text);
        assert_eq!(error.to_string(), expected);
    }
    assert!(Families::parse("abcd{bcd=\"1234\"} 1\nb 1\n", InputFormat::Text, &limits).is_ok());
}
