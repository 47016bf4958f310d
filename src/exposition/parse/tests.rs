use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// All parsed lines of a text, with the labels of samples, or the error.
fn entries(
    text: &str,
    format: InputFormat,
) -> Result<Vec<(ParsedLine<'_>, Vec<Label<'_>>)>, ParseError> {
    let mut parser = Parser::new(text, format);
    let mut labels = Labels::new();
    let mut entries = Vec::new();
    while let Some(entry) = parser.next(&mut labels)? {
        let labels = match entry {
            ParsedLine::Sample(_) => labels.as_slice().to_vec(),
            _ => Vec::new(),
        };
        entries.push((entry, labels));
    }
    Ok(entries)
}

fn error(text: &str, format: InputFormat) -> String {
    entries(text, format).map_or_else(|error| error.to_string(), |it| format!("{it:?}"))
}

#[test]
fn a_sample_is_parsed_in_place() {
    let text = "  m{ a = \"x\\\"y\" , \"l b\"=\"\" , }\t+1.50 1795000000000";
    let mut entries = entries(text, InputFormat::Text).expect("valid");
    let (entry, labels) = entries.remove(0);
    assert_eq!(
        entry,
        ParsedLine::Sample(Sample {
            name: "m",
            value: 1.5,
            value_text: "+1.50",
            timestamp: Some(Timestamp {
                milliseconds: 1_795_000_000_000,
                text: "1795000000000"
            }),
            exemplar: None,
            raw: text,
        })
    );
    let label = |name, value| Label { name, value };
    assert_eq!(labels, [label("a", r#"x\"y"#), label("l b", "")]);
}

#[test]
fn open_metrics_has_units_exemplars_and_an_end() {
    let text = "# UNIT m_s s\nm_s_total 1 2.5 # {id=\"x\"} 3 4\n{\"m.n\",a=\"b\"} 1\n# EOF\n";
    let read = entries(text, InputFormat::OpenMetrics).expect("valid");
    let (name, unit) = ("m_s", "s");
    assert_eq!(read[0].0, ParsedLine::Unit { name, unit });
    let ParsedLine::Sample(sample) = read[1].0 else {
        panic!("{read:?}")
    };
    assert_eq!(sample.exemplar, Some("{id=\"x\"} 3 4"));
    assert_eq!(sample.timestamp.map(|it| it.milliseconds), Some(2500));
    let ParsedLine::Sample(sample) = read[2].0 else {
        panic!("{read:?}")
    };
    assert_eq!((sample.name, read[2].1.len()), ("m.n", 1));
    assert_eq!(read[3].0, ParsedLine::Eof);
}

#[test]
fn metadata_and_comments_are_distinguished() {
    let text = "# TYPE a gauge\n# HELP  \"b.c\"\t x\\n\n# HELP a\n# EOF\n#\n# UNIT a b\n\n";
    let read = entries(text, InputFormat::Text).expect("valid");
    let read: Vec<_> = read.into_iter().map(|(entry, _)| entry).collect();
    let kind = Kind::Gauge;
    let (name, help) = ("b.c", "x\\n");
    let expected = [
        ParsedLine::Type { name: "a", kind },
        ParsedLine::Help { name, help },
    ];
    assert_eq!(read, expected);
}

#[test]
fn errors_name_position_and_expectation() {
    for (text, expected) in [
        (
            "a 1\nb 1\né{a=\"b\",c} 1\n",
            "line 3, column 1: expected a metric name, found 'é'",
        ),
        (
            "m{l=\"é\",c} 1\n",
            "line 1, column 10: expected '=', found '}'",
        ),
        (
            "m{a=\"b\" c=\"d\"} 1\n",
            "line 1, column 9: expected ',' or '}' after a label, found 'c'",
        ),
        (
            "m{a=\"b} 1\n",
            "line 1, column 10: expected a closing '\"', found the end of the line",
        ),
        (
            "m{a=\"\\d\"} 1",
            "line 1, column 6: expected \\\\, \\\" or \\n, the only escapes, found '\\\\'",
        ),
        (
            "m{a=\"1\",b=\"2\",a=\"3\"} 1\n",
            "line 1, column 15: expected each label once, found a second \"a\"",
        ),
        (
            "m{__name__=\"n\"} 1\n",
            "line 1, column 3: expected a label other than the reserved __name__, found \"__name__=\\\"n\\\"}\"",
        ),
        (
            "m one\n",
            "line 1, column 3: expected a number as the value, found \"one\"",
        ),
        (
            "m\n",
            "line 1, column 2: expected a number as the value, found the end of the line",
        ),
        (
            "m 1 \n",
            "line 1, column 4: expected the line to end right after the value, found a blank",
        ),
        (
            "m 1 -5\n",
            "line 1, column 5: expected a timestamp: milliseconds in plain digits, found \"-5\"",
        ),
        (
            "m 1 5 6\n",
            "line 1, column 6: expected the line to end right after the timestamp, found a blank",
        ),
        (
            "m 1\r\n",
            "line 1, column 4: expected the line to end in LF, found CR LF: write \"\\n\" alone",
        ),
        (
            "# TYPE m unknown\n",
            "line 1, column 10: expected \"counter\", \"gauge\", \"histogram\", \"summary\" or \"untyped\" alone, found \"unknown\"",
        ),
        (
            "{a=\"b\"} 1\n",
            "line 1, column 2: expected the metric's name in quotes, found 'a'",
        ),
    ] {
        assert_eq!(error(text, InputFormat::Text), expected, "{text:?}");
    }
    for (text, expected) in [
        (
            "m 1\n",
            "line 1, column 4: expected \"# EOF\", found the end of the text",
        ),
        (
            "",
            "line 1, column 1: expected \"# EOF\", found the end of the text",
        ),
        (
            "# EOF\nm 1\n",
            "line 2, column 1: expected the end of the text after \"# EOF\", found more",
        ),
        (
            "m  1\n",
            "line 1, column 3: expected a number as the value, found a blank",
        ),
        (
            "# UNIT m seconds\n",
            "line 1, column 10: expected a unit that the metric's name ends in, after a '_', found \"seconds\"",
        ),
        (
            "m 1 # x\n",
            "line 1, column 5: expected a timestamp in seconds, or an exemplar, found \"#\"",
        ),
    ] {
        assert_eq!(error(text, InputFormat::OpenMetrics), expected, "{text:?}");
    }
}

#[test]
fn parsing_continues_after_an_error() {
    let mut parser = Parser::new("m x\nm 1\n", InputFormat::Text);
    let mut labels = Labels::new();
    assert!(parser.next(&mut labels).is_err());
    assert!(matches!(
        parser.next(&mut labels),
        Ok(Some(ParsedLine::Sample(_)))
    ));
    assert_eq!((parser.line(), parser.next(&mut labels)), (2, Ok(None)));
}

/// A sample without escapes, and whether it is written with extra blanks.
#[derive(Debug, Clone)]
struct Model {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
    milliseconds: Option<u32>,
    blanks: bool,
}

fn models() -> impl Strategy<Value = Vec<Model>> {
    let name = prop_oneof!["[a-zA-Z_:][a-zA-Z0-9_:]{0,9}", "[ -~é☃\n]{1,6}"];
    let label = prop_oneof!["[a-zA-Z_][a-zA-Z0-9_]{0,9}", "[ -~é☃\n]{1,6}"];
    let labels = prop::collection::btree_map(label, "[ -~é🦀\n\t]{0,60}", 0..6);
    let model = (
        name,
        labels,
        prop::num::f64::ANY,
        prop::option::of(any::<u32>()),
        any::<bool>(),
    );
    let model = model.prop_map(|(name, labels, value, milliseconds, blanks)| Model {
        name,
        labels: labels
            .into_iter()
            .filter(|(name, _)| name != "__name__")
            .collect(),
        value,
        milliseconds,
        blanks,
    });
    prop::collection::vec(model, 0..8)
}

fn quoted(text: &str) -> String {
    let text = text.replace('\\', r"\\").replace('"', r#"\""#);
    format!("\"{}\"", text.replace('\n', r"\n"))
}

/// The name as it is, or in quotes if it needs them.
fn named(name: &str, colons: bool) -> String {
    let plain = |(at, c): (usize, char)| {
        c == '_'
            || c.is_ascii_alphabetic()
            || (at > 0 && c.is_ascii_digit())
            || (colons && c == ':')
    };
    if name.chars().enumerate().all(plain) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

fn written(models: &[Model], format: InputFormat) -> String {
    let mut text = String::new();
    for model in models {
        let blank = if model.blanks && format == InputFormat::Text {
            " \t"
        } else {
            ""
        };
        let mut pairs: Vec<String> = Vec::new();
        let name = named(&model.name, true);
        if name.starts_with('"') {
            pairs.push(name);
        } else {
            text.push_str(&name);
        }
        for (name, value) in &model.labels {
            let (name, value) = (named(name, false), quoted(value));
            pairs.push(format!("{name}{blank}={blank}{value}"));
        }
        if !pairs.is_empty() || model.blanks {
            let pairs = pairs.join(&format!("{blank},{blank}"));
            write!(text, "{{{blank}{pairs}{blank}}}").expect("a String");
        }
        write!(text, " {}", model.value).expect("a String");
        if let Some(milliseconds) = model.milliseconds {
            let seconds = f64::from(milliseconds) / 1000.0;
            match format {
                InputFormat::Text => write!(text, " {milliseconds}"),
                InputFormat::OpenMetrics => write!(text, " {seconds}"),
            }
            .expect("a String");
        }
        text.push('\n');
    }
    if format == InputFormat::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// Whether two times are equal up to a truncated fraction of a millisecond.
fn near(read: Option<i64>, meant: Option<u32>) -> bool {
    match (read, meant) {
        (Some(read), Some(meant)) => (i64::from(meant) - 1..=i64::from(meant)).contains(&read),
        (None, None) => true,
        _ => false,
    }
}

fn formats() -> impl Strategy<Value = InputFormat> {
    prop_oneof![Just(InputFormat::Text), Just(InputFormat::OpenMetrics)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn written_samples_are_parsed_back(models in models(), format in formats()) {
        let text = written(&models, format);
        let read = entries(&text, format).map_err(|error| {
            TestCaseError::fail(format!("{error} in {text:?}"))
        })?;
        let samples: Vec<_> = read
            .iter()
            .filter_map(|(entry, labels)| match entry {
                ParsedLine::Sample(sample) => Some((sample, labels)),
                _ => None,
            })
            .collect();
        prop_assert_eq!(samples.len(), models.len());
        for ((sample, labels), model) in samples.into_iter().zip(&models) {
            prop_assert_eq!(unescape(sample.name), model.name.as_str());
            let labels: Vec<_> = labels
                .iter()
                .map(|label| (unescape(label.name).into_owned(), unescape(label.value).into_owned()))
                .collect();
            prop_assert_eq!(&labels, &model.labels);
            let same = sample.value == model.value || (sample.value.is_nan() && model.value.is_nan());
            prop_assert!(same, "{} is not {}", sample.value, model.value);
            let read = sample.timestamp.map(|it| it.milliseconds);
            prop_assert!(near(read, model.milliseconds), "{:?} {:?}", read, model.milliseconds);
        }
    }

    #[test]
    fn any_text_is_parsed_to_its_end(
        text in prop_oneof![
            ".*",
            "([#{}=,\"\\\\ \\t\\n\r\0a1.é_-]|# TYPE |# HELP |# EOF\n| 1\n|le=\"1\"){0,40}",
        ],
        format in formats(),
    ) {
        let mut parser = Parser::new(&text, format);
        let mut labels = Labels::new();
        let lines: Vec<&str> = text.split('\n').collect();
        let mut steps = 0;
        loop {
            steps += 1;
            prop_assert!(steps <= lines.len() + 2, "it never ends");
            match parser.next(&mut labels) {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(error) => {
                    let line = lines.get(error.line - 1).expect("a line of the text");
                    prop_assert!((1..=line.chars().count() + 1).contains(&error.column));
                    let text = error.to_string();
                    prop_assert!(text.contains("expected") && text.contains("found"), "{}", text);
                }
            }
        }
        let families = crate::exposition::Families::parse(&text, format, &Default::default());
        if let Err(error) = families {
            prop_assert!(error.line <= lines.len());
        }
    }
}
