//! One sender's text in normal form: parsed, each family once, labels sorted,
//! in text format 0.0.4, ready to stand among the families of others.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::added::{Added, put_on};
use super::form::plain;
use super::parse::{Fault, Reason, offset};
use super::series::hash_series;
use super::{Families, FamilyText, FamilyView, Format, Kind, Labels, Limits, ParseError, Text};

/// How a text is brought into normal form.
#[derive(Debug)]
pub struct Normal<'a, H> {
    pub limits: Limits,
    /// Labels put on every sample.
    pub added: &'a [Added<'a>],
    pub timestamps: Timestamps,
    /// Hashes series, so that they can be found again.
    pub hash: &'a H,
}

/// What becomes of a sample's timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamps {
    Keep,
    Strip,
    Refuse,
}

/// The format of a text: OpenMetrics says so itself, in its last line.
pub fn format_of(text: &str) -> Format {
    let last = text.trim_end_matches('\n').rsplit('\n').next();
    if last == Some("# EOF") {
        Format::OpenMetrics
    } else {
        Format::Text
    }
}

/// Reads a text and returns its families.
///
/// What OpenMetrics has and text has not is shown as nearly as can be: info
/// and state sets as gauges, the parts of a gauge histogram as families of
/// their own, times in milliseconds. Exemplars and `_created` are left out:
/// the one cannot be shown, and the other would be a series of its own.
pub fn normalize<H: BuildHasher>(
    text: &str,
    normal: &Normal<'_, H>,
) -> Result<Vec<FamilyText>, ParseError> {
    normalize_as(text, format_of(text), normal)
}

/// The same for a text whose format is told.
pub fn normalize_as<H: BuildHasher>(
    text: &str,
    format: Format,
    normal: &Normal<'_, H>,
) -> Result<Vec<FamilyText>, ParseError> {
    let families = Families::parse_with(text, format, &normal.limits, normal.hash)?;
    let mut out: Vec<Draft> = Vec::new();
    let mut names = HashSet::new();
    for family in families.iter() {
        write_family(&mut out, &mut names, &family, format, normal)?;
    }
    Ok(out.into_iter().map(Draft::finish).collect())
}

/// A family being written.
struct Draft {
    name: String,
    kind: Kind,
    help: Option<String>,
    line: usize,
    samples: String,
    series: Vec<u64>,
}

impl Draft {
    fn finish(self) -> FamilyText {
        FamilyText {
            name: Arc::from(self.name),
            kind: self.kind,
            help: self.help,
            line: self.line,
            samples: Text::new(&self.samples),
            series: self.series,
            natives: Vec::new(),
        }
    }
}

fn write_family<'t, H: BuildHasher>(
    out: &mut Vec<Draft>,
    names: &mut HashSet<&'t str>,
    family: &FamilyView<'_, 't>,
    format: Format,
    normal: &Normal<'_, H>,
) -> Result<(), ParseError> {
    let first_of_family = out.len();
    let mut labels = Labels::new();
    let mut shown = Vec::new();
    let mut full = String::new();
    let mut samples = family.samples();
    while let Some(sample) = samples.next(&mut labels) {
        let Some((name, kind)) = in_text(family, sample.name, format) else {
            continue;
        };
        let drafts = &out[first_of_family..];
        let place = match drafts.iter().position(|draft| draft.name == name) {
            Some(place) => first_of_family + place,
            None => {
                // What OpenMetrics holds apart may have one name in text.
                if !names.insert(name) {
                    let family = name.to_owned();
                    return Err(ParseError {
                        line: samples.line(),
                        column: 1,
                        reason: Reason::SecondType { family },
                    });
                }
                out.push(Draft {
                    name: name.to_owned(),
                    kind,
                    help: family.help().map(|help| help_in_text(help, format)),
                    line: samples.line(),
                    samples: String::new(),
                    series: Vec::new(),
                });
                out.len() - 1
            }
        };
        let fault = |reason| ParseError {
            line: samples.line(),
            column: 1,
            reason,
        };
        labels.sort();
        put_on(&mut shown, &labels, normal.added);
        let plain_labels = shown.iter().all(|(name, _)| is_plain_label(name));
        if !plain_labels && let Some(name) = merged_by_underscores(&shown) {
            return Err(fault(Reason::DuplicateLabel { name }));
        }
        let timestamp = match normal.timestamps {
            Timestamps::Keep => sample.timestamp,
            Timestamps::Strip => None,
            Timestamps::Refuse => {
                if let Some(timestamp) = sample.timestamp {
                    let at = offset(sample.raw, timestamp.text);
                    let found = timestamp.text.to_owned();
                    let fault = Fault::new(at, Reason::Timestamp { found });
                    return Err(fault.on(sample.raw, samples.line()));
                }
                None
            }
        };
        if timestamp.is_some_and(|timestamp| timestamp.milliseconds < 0) {
            let expected = "a time from 1970 on, since text has no other";
            return Err(fault(Reason::unexpected(expected, "an earlier one")));
        }
        let draft = &mut out[place];
        let start = draft.samples.len();
        let pairs = || shown.iter().map(|(name, value)| (&**name, *value));
        write_sample_start(&mut draft.samples, sample.name, pairs());
        let mut series = &draft.samples[start..];
        // To a reader, a label without a value is none.
        if shown.iter().any(|(_, value)| value.is_empty()) {
            full.clear();
            let pairs = pairs().filter(|(_, value)| !value.is_empty());
            write_sample_start(&mut full, sample.name, pairs);
            series = &full;
        }
        let plain = plain_labels && is_plain_name(sample.name);
        draft.series.push(hash_series(normal.hash, series, plain));
        draft.samples.push(' ');
        draft.samples.push_str(sample.value_text);
        if let Some(timestamp) = timestamp {
            draft.samples.push(' ');
            draft.samples.push_str(&timestamp.milliseconds.to_string());
        }
        draft.samples.push('\n');
    }
    Ok(())
}

/// A label name that two labels would share where characters outside the old
/// set become underscores, or that would then be the metric's.
fn merged_by_underscores(labels: &[(Cow<'_, str>, &str)]) -> Option<String> {
    let mut names: Vec<String> = labels.iter().map(|(name, _)| plain(name, '_')).collect();
    names.push("__name__".to_owned());
    names.sort_unstable();
    let pair = names.windows(2).find(|pair| pair[0] == pair[1])?;
    Some(pair[0].clone())
}

/// The family that a sample is of in text, and what that is; `None` for a
/// sample that is not shown.
fn in_text<'n>(
    family: &FamilyView<'_, 'n>,
    sample: &'n str,
    format: Format,
) -> Option<(&'n str, Kind)> {
    if format == Format::Text {
        return Some((family.name(), family.kind()));
    }
    let suffix = sample.strip_prefix(family.name());
    match (family.kind(), suffix) {
        (Kind::Counter | Kind::Histogram | Kind::Summary, Some("_created")) => None,
        (kind @ (Kind::Counter | Kind::Info | Kind::GaugeHistogram), _) => {
            Some((sample, kind.in_text()))
        }
        (kind, _) => Some((family.name(), kind.in_text())),
    }
}

/// A help as text has it: OpenMetrics escapes quotes as well.
fn help_in_text(help: &str, format: Format) -> String {
    match format {
        Format::Text => help.to_owned(),
        Format::OpenMetrics => {
            let meant = super::unescape_help(help, format);
            meant.replace('\\', "\\\\").replace('\n', "\\n")
        }
    }
}

/// Writes `name{a="b"}`, or `{"name",a="b"}` where the name needs quotes.
/// Values are escaped already.
pub(super) fn write_sample_start<'l>(
    out: &mut String,
    name: &str,
    labels: impl Iterator<Item = (&'l str, &'l str)>,
) {
    let quoted = !is_plain_name(name);
    if quoted {
        out.push_str("{\"");
        out.push_str(name);
        out.push('"');
    } else {
        out.push_str(name);
    }
    let mut before = if quoted { ',' } else { '{' };
    for (name, value) in labels {
        out.push(before);
        if is_plain_label(name) {
            out.push_str(name);
        } else {
            out.push('"');
            out.push_str(name);
            out.push('"');
        }
        out.push_str("=\"");
        out.push_str(value);
        out.push('"');
        before = ',';
    }
    if quoted || before == ',' {
        out.push('}');
    }
}

/// Whether a metric's name can stand without quotes.
pub fn is_plain_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && !bytes[0].is_ascii_digit()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
}

/// Whether a label's name can stand without quotes.
pub fn is_plain_label(name: &str) -> bool {
    is_plain_name(name) && !name.contains(':')
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use super::*;
    use crate::exposition::Clash;
    use crate::exposition::Form;

    fn normal<'a>(
        added: &'a [Added<'a>],
        keep: bool,
    ) -> Normal<'a, BuildHasherDefault<DefaultHasher>> {
        const HASH: &BuildHasherDefault<DefaultHasher> = &BuildHasherDefault::new();
        Normal {
            limits: Limits::default(),
            added,
            timestamps: if keep {
                Timestamps::Keep
            } else {
                Timestamps::Strip
            },
            hash: HASH,
        }
    }

    fn renaming<'a>(label: Option<(&'a str, &'a str)>) -> Vec<Added<'a>> {
        let clash = Clash::Rename;
        label
            .map(|(name, value)| Added { name, value, clash })
            .into_iter()
            .collect()
    }

    /// Heads and samples of all families, one after the other.
    fn shown(text: &str, label: Option<(&str, &str)>, keep: bool) -> String {
        let added = renaming(label);
        let families = normalize(text, &normal(&added, keep)).unwrap_or_else(|e| panic!("{e}"));
        let mut out = String::new();
        for family in families {
            assert_eq!(
                family
                    .samples
                    .bytes()
                    .iter()
                    .filter(|b| **b == b'\n')
                    .count(),
                family.series.len()
            );
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
        let label = |name, value, clash| Added { name, value, clash };
        let added = [
            label("job", "j", Clash::Override),
            label("instance", "", Clash::Keep),
        ];
        let families = |text: &str| normalize(text, &normal(&added, false)).unwrap();
        let text = "m{job=\"mine\",a=\"1\"} 1\nm{instance=\"i\",z=\"2\"} 2\n";
        assert_eq!(
            families(text)[0].samples.as_str(),
            "m{a=\"1\",instance=\"\",job=\"j\"} 1\nm{instance=\"i\",job=\"j\",z=\"2\"} 2\n"
        );
        // What becomes the same is known as the same.
        let twice = families("m{job=\"a\"} 1\nm{job=\"b\"} 2\n");
        assert_eq!(twice[0].series[0], twice[0].series[1]);
    }

    #[test]
    fn a_label_without_a_value_is_none_to_readers() {
        let series = |text: &str| normalize(text, &normal(&[], true)).unwrap()[0].series[0];
        assert_eq!(series("m{a=\"\",b=\"1\"} 1\n"), series("m{b=\"1\"} 1\n"));
        assert_eq!(series("m{a=\"\"} 1\n"), series("m 1\n"));
        assert_ne!(series("m{a=\"\"} 1\n"), series("m{a=\" \"} 1\n"));
    }

    #[test]
    fn timestamps_are_refused_where_they_are_unwelcome() {
        let mut normal = normal(&[], true);
        normal.timestamps = Timestamps::Refuse;
        assert!(normalize("m 1\n", &normal).is_ok());
        assert_eq!(
            normalize("m 1\nn 12 345\n", &normal)
                .unwrap_err()
                .to_string(),
            "line 2 column 6: expected no timestamp, found 345"
        );
    }

    #[test]
    fn open_metrics_is_shown_as_text() {
        let text = "# TYPE c counter\n# HELP c Say \\\"hi\\\"\nc_total{a=\"1\"} 5 1.5 # {t=\"x\"} 1\nc_created 3\n\
                    # TYPE i info\ni_info{v=\"1\"} 1\n# TYPE s stateset\ns{s=\"a\"} 1\n\
                    # TYPE u unknown\nu 1\n# TYPE g gaugehistogram\ng_bucket{le=\"+Inf\"} 1\ng_gcount 1\ng_gsum 2\n# EOF\n";
        assert_eq!(
            shown(text, None, true),
            "# HELP c_total Say \"hi\"\n# TYPE c_total counter\nc_total{a=\"1\"} 5 1500\n\
             # TYPE i_info gauge\ni_info{v=\"1\"} 1\n# TYPE s gauge\ns{s=\"a\"} 1\n\
             # TYPE u untyped\nu 1\n# TYPE g_bucket untyped\ng_bucket{le=\"+Inf\"} 1\n\
             # TYPE g_gcount untyped\ng_gcount 1\n# TYPE g_gsum untyped\ng_gsum 2\n"
        );
    }

    #[test]
    fn names_that_need_quotes_keep_them() {
        let text =
            "# TYPE \"my.metric\" gauge\n{\"my.metric\",\"label with space\"=\"1\",b=\"2\"} 1\n";
        assert_eq!(
            shown(text, None, true),
            "# TYPE \"my.metric\" gauge\n{\"my.metric\",b=\"2\",\"label with space\"=\"1\"} 1\n"
        );
    }

    #[test]
    fn the_same_series_has_the_same_hash_however_it_is_written() {
        let one = normalize("m{a=\"1\",b=\"2\"} 1\n", &normal(&[], true)).unwrap();
        let other = normalize("m{b=\"2\", a=\"1\"} 7 9\n", &normal(&[], true)).unwrap();
        assert_eq!(one[0].series, other[0].series);
    }

    #[test]
    fn what_text_or_old_readers_could_not_take_is_refused() {
        let refused = |text: &str| normalize(text, &normal(&[], true)).unwrap_err().to_string();
        assert!(refused("{\"uu\",\"a.b\"=\"1\",\"a_b\"=\"2\"} 1\n").contains("a second \"a_b\""));
        assert!(refused("{\"uu\",\"..name..\"=\"1\"} 1\n").contains("a second \"__name__\""));
        let early = "# TYPE neg gauge\nneg 1 -1.5\n# EOF\n";
        assert!(refused(early).contains("line 2 column 1: expected a time from 1970 on"));
        assert!(normalize(early, &normal(&[], false)).is_ok());
        let dotted = normalize("{\"my.m\"} 1\n", &normal(&[], true)).unwrap();
        let plain = normalize("my_m 1\n", &normal(&[], true)).unwrap();
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

        /// Whatever is let in can be read in every form it is shown in.
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
            let Ok(families) = normalize(&text, &normal(&added, true)) else {
                return Ok(());
            };
            let mut shown = String::new();
            for family in &families {
                shown.push_str(std::str::from_utf8(&family.head()).unwrap());
                shown.push_str(family.samples.as_str());
            }
            for open_metrics in [false, true] {
                for underscores in [false, true] {
                    // Families that underscores make the same are for the
                    // store to hold apart, which knows all of them.
                    let names: HashSet<_> = families.iter().map(|family| super::super::plain_name(&family.name)).collect();
                    if underscores && names.len() < families.len() {
                        continue;
                    }
                    let form = Form { open_metrics, underscores };
                    let mut out = form.show(&shown).unwrap_or_else(|| shown.clone());
                    let mut format = Format::Text;
                    if open_metrics {
                        out.push_str("# EOF\n");
                        format = Format::OpenMetrics;
                    }
                    let mut parser = crate::exposition::Parser::new(&out, format);
                    let mut labels = Labels::new();
                    while parser.next(&mut labels).map_err(|fault| TestCaseError::fail(format!("{fault} in {form:?}:\n{out}")))?.is_some() {}
                }
            }
        }
    }

    #[test]
    fn the_last_line_tells_open_metrics() {
        assert_eq!(format_of("m 1\n# EOF\n"), Format::OpenMetrics);
        assert_eq!(format_of("m 1\n# EOF"), Format::OpenMetrics);
        assert_eq!(format_of("# EOF\nm 1\n"), Format::Text);
        assert_eq!(format_of(""), Format::Text);
    }
}
