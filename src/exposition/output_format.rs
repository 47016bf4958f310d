//! Text formats that readers ask for, converted from canonical text.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::canonical::{is_plain_label, is_plain_name, write_sample_start};
use super::family::OPEN_METRICS_LINE;
use super::{Escaping, InputFormat, Kind, Labels, ParsedLine, Parser, unescape, unescape_help};

/// The format of text that a reader gets. Text is stored in canonical form,
/// text 0.0.4 with quotes around names that need them; the other formats are
/// converted from it line by line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// Canonical text, as it is stored.
    #[default]
    Canonical,
    /// Text 0.0.4 with escaped names.
    Text(Escaping),
    /// OpenMetrics 1.0 with escaped names, without the final `# EOF`.
    OpenMetrics(Escaping),
}

impl OutputFormat {
    /// Text 0.0.4 for readers that know the legacy characters only.
    pub const UNDERSCORES: OutputFormat = OutputFormat::Text(Escaping::Underscores);

    /// The index of the format among those that are converted; `None` for
    /// [`OutputFormat::Canonical`].
    pub fn variant(self) -> Option<usize> {
        match self {
            OutputFormat::Canonical => None,
            OutputFormat::Text(escaping) => Some(escaping as usize),
            OutputFormat::OpenMetrics(escaping) => Some(Escaping::ALL.len() + escaping as usize),
        }
    }

    /// Number of formats other than [`OutputFormat::Canonical`].
    pub const VARIANTS: usize = 2 * Escaping::ALL.len();

    /// Whether it is OpenMetrics.
    pub fn is_open_metrics(self) -> bool {
        matches!(self, OutputFormat::OpenMetrics(_))
    }

    fn escaping(self) -> Escaping {
        match self {
            OutputFormat::Canonical => Escaping::AllowUtf8,
            OutputFormat::Text(escaping) | OutputFormat::OpenMetrics(escaping) => escaping,
        }
    }

    /// Whether [`convert`](Self::convert) needs the family of sample lines:
    /// these schemes escape the family's name and keep the suffix after it.
    pub fn needs_family(self) -> bool {
        matches!(self.escaping(), Escaping::Dots | Escaping::Values)
    }

    /// Converts whole lines of canonical text. `None` if they are the same in
    /// this format. `family` is the family of samples that come before the
    /// first metadata line.
    pub fn convert(self, text: &str, family: Option<&str>) -> Option<String> {
        let text = match escaped(text, family, self.escaping()) {
            Some(text) => Cow::Owned(text),
            None => Cow::Borrowed(text),
        };
        let shown = match self {
            OutputFormat::Canonical => None,
            OutputFormat::Text(_) => without_open_metrics_lines(&text),
            OutputFormat::OpenMetrics(_) => open_metrics(&text),
        };
        match shown {
            Some(text) => Some(text),
            None => match text {
                Cow::Owned(text) => Some(text),
                Cow::Borrowed(_) => None,
            },
        }
    }
}

/// Whether whole lines of canonical text are the same in every format of text:
/// all names consist of legacy characters, and no metadata is OpenMetrics' own.
/// This takes one search for most texts, which have no quoted names.
pub fn is_plain(text: &[u8]) -> bool {
    if !may_have_quoted_names(text) {
        return true;
    }
    let text = std::str::from_utf8(text);
    text.is_ok_and(|text| OutputFormat::UNDERSCORES.convert(text, None).is_none())
}

/// Whether a text may have quoted names or lines of [`OPEN_METRICS_LINE`]. A
/// quoted name begins the braces, or follows a comma or the keyword of a
/// metadata line.
fn may_have_quoted_names(text: &[u8]) -> bool {
    static HINTS: LazyLock<[Finder; 3]> = LazyLock::new(|| ["{\"", ",\"", " \""].map(Finder::new));
    HINTS.iter().any(|hint| hint.find(text).is_some())
}

/// The text without lines of [`OPEN_METRICS_LINE`]; `None` if it has none.
fn without_open_metrics_lines(text: &str) -> Option<String> {
    if !may_have_quoted_names(text.as_bytes()) {
        return None;
    }
    let is_kept = |line: &&str| !line.starts_with(OPEN_METRICS_LINE);
    let mut lines = text.split_inclusive('\n');
    (!lines.clone().all(|line| is_kept(&line))).then(|| lines.by_ref().filter(is_kept).collect())
}

/// The text with every name escaped to legacy characters; `None` if nothing
/// changes.
fn escaped(text: &str, family: Option<&str>, escaping: Escaping) -> Option<String> {
    if escaping == Escaping::AllowUtf8 || !may_have_quoted_names(text.as_bytes()) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut changed = false;
    let mut family = family.map(unescape);
    let mut labels = Labels::new();
    for line in text.split_inclusive('\n') {
        let mut parser = Parser::new(line, InputFormat::Text);
        let before = out.len();
        match parser.next(&mut labels) {
            Ok(Some(ParsedLine::Help { name, help })) if !is_plain_name(name) => {
                let _ = writeln!(out, "# HELP {} {help}", escaping.metric(&unescape(name)));
            }
            Ok(Some(ParsedLine::Type { name, kind })) => {
                let unescaped = unescape(name);
                if is_plain_name(name) {
                    out.push_str(line);
                } else {
                    let name = escaping.metric(&unescaped);
                    let _ = writeln!(out, "# TYPE {name} {}", kind.as_str());
                }
                family = Some(unescaped);
            }
            Ok(Some(ParsedLine::Sample(sample)))
                if !is_plain_name(sample.name)
                    || labels.iter().any(|label| !is_plain_label(label.name)) =>
            {
                let mut pairs: Vec<(Cow<'_, str>, &str)> = labels
                    .iter()
                    .map(|label| (shown_label(escaping, label.name), label.value))
                    .collect();
                pairs.sort_unstable();
                let pairs = pairs.iter().map(|(name, value)| (&**name, *value));
                let name = match is_plain_name(sample.name) {
                    true => sample.name.to_owned(),
                    false => escaping.sample(family.as_deref(), &unescape(sample.name)),
                };
                write_sample_start(&mut out, &name, pairs);
                let _ = write!(out, " {}", sample.value_text);
                if let Some(timestamp) = sample.timestamp {
                    let _ = write!(out, " {}", timestamp.text);
                }
                out.push('\n');
            }
            _ => out.push_str(line),
        }
        changed |= out[before..] != *line;
    }
    changed.then_some(out)
}

fn shown_label(escaping: Escaping, escaped: &str) -> Cow<'_, str> {
    match is_plain_label(escaped) {
        true => Cow::Borrowed(escaped),
        false => Cow::Owned(escaping.label(&unescape(escaped)).into_owned()),
    }
}

/// A metric's name, escaped as in text, with underscores for characters that
/// need quotes: the name by which families are compared.
pub fn plain_name(escaped: &str) -> Cow<'_, str> {
    if is_plain_name(escaped) {
        return Cow::Borrowed(escaped);
    }
    let unescaped = unescape(escaped);
    Cow::Owned(Escaping::Underscores.metric(&unescaped).into_owned())
}

/// Converts canonical text to OpenMetrics: metadata differs, and timestamps are
/// in seconds. The names of series are never changed, so that a series is the
/// same in every format. A counter whose name lacks `_total` is therefore shown
/// as unknown.
fn open_metrics(text: &str) -> Option<String> {
    let mut out = String::new();
    // Bytes of the text that are converted.
    let mut written = 0;
    let mut at = 0;
    let mut help = None;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let content = line.strip_suffix('\n').unwrap_or(line);
        if content.starts_with('#') {
            match head(content) {
                // It is written with the type, which is on the next line.
                Some(ParsedLine::Help { name, help: text }) => help = Some((start, name, text)),
                Some(ParsedLine::Type { name, kind }) => {
                    let begin = help.filter(|(_, of, _)| *of == name);
                    out.push_str(&text[written..begin.map_or(start, |(begin, _, _)| begin)]);
                    let open = read_open_metrics_line(&text[at..]);
                    let (kind, unit, length) = open.unwrap_or((kind, "", 0));
                    let help_text = begin.map(|(_, _, help)| help);
                    write_head(&mut out, (name, kind, unit), help_text);
                    written = at + length;
                    help = None;
                }
                _ => {}
            }
        } else if let Some((before, millis)) = timestamp(content) {
            out.push_str(&text[written..start]);
            out.push_str(before);
            write_seconds(&mut out, millis);
            written = at;
        }
    }
    if written == 0 {
        return None;
    }
    out.push_str(&text[written..]);
    Some(out)
}

fn head(line: &str) -> Option<ParsedLine<'_>> {
    Parser::new(line, InputFormat::Text)
        .next(&mut Labels::new())
        .ok()?
}

/// The kind, unit and length of a line of [`OPEN_METRICS_LINE`] that begins the
/// text.
pub(super) fn read_open_metrics_line(text: &str) -> Option<(Kind, &str, usize)> {
    let line = text.split_inclusive('\n').next()?;
    let rest = line.strip_prefix(OPEN_METRICS_LINE)?.trim_end_matches('\n');
    let (word, unit) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((Kind::of_open_metrics(word)?, unit, line.len()))
}

fn write_head(out: &mut String, (name, kind, unit): (&str, Kind, &str), help: Option<&str>) {
    let whole = |suffix| name.strip_suffix(suffix).filter(|name| !name.is_empty());
    let (name, kind) = match kind {
        Kind::Counter => whole("_total").map_or((name, Kind::Untyped), |name| (name, kind)),
        Kind::Info => whole("_info").map_or((name, Kind::Gauge), |name| (name, kind)),
        kind => (name, kind),
    };
    let quote = if is_plain_name(name) { "" } else { "\"" };
    if let Some(help) = help {
        let unescaped = unescape_help(help, InputFormat::Text);
        let help = unescaped
            .replace('\\', "\\\\")
            .replace('\n', "\\n")
            .replace('"', "\\\"");
        let _ = writeln!(out, "# HELP {quote}{name}{quote} {help}");
    }
    let _ = writeln!(
        out,
        "# TYPE {quote}{name}{quote} {}",
        kind.in_open_metrics()
    );
    // An escaping scheme may have changed the end of the name.
    let has_unit = name.strip_suffix(unit).is_some_and(|it| it.ends_with('_'));
    if !unit.is_empty() && has_unit {
        let _ = writeln!(out, "# UNIT {quote}{name}{quote} {unit}");
    }
}

/// Splits a sample's line before its timestamp, if it has one.
fn timestamp(line: &str) -> Option<(&str, i64)> {
    // Nothing after the labels has a brace.
    let labels_end = memchr::memrchr(b'}', line.as_bytes()).map_or(0, |brace| brace + 1);
    let value_start = labels_end + line[labels_end..].find(' ')? + 1;
    let blank = value_start + line[value_start..].find(' ')?;
    let millis = line[blank + 1..].parse().ok()?;
    Some((&line[..=blank], millis))
}

fn write_seconds(out: &mut String, millis: i64) {
    let sign = if millis < 0 { "-" } else { "" };
    let millis = millis.unsigned_abs();
    let _ = writeln!(out, "{sign}{}.{:03}", millis / 1000, millis % 1000);
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: OutputFormat = OutputFormat::OpenMetrics(Escaping::AllowUtf8);
    const UNDERSCORES: OutputFormat = OutputFormat::UNDERSCORES;

    fn shown(form: OutputFormat, text: &str) -> Option<String> {
        form.convert(text, None)
    }

    #[test]
    fn open_metrics_has_its_own_metadata_and_seconds() {
        let text = "# HELP c_total Say \"a\\\\b\"\n# TYPE c_total counter\nc_total{x=\"} 1 2\"} 5\n\
                    # TYPE old counter\nold 1 1500\nold{a=\"b\"} 1 -1\n# TYPE u untyped\nu 1\n# TYPE g gauge\ng 2\n";
        let shown = shown(OPEN, text).unwrap();
        assert_eq!(
            shown,
            "# HELP c Say \\\"a\\\\b\\\"\n# TYPE c counter\nc_total{x=\"} 1 2\"} 5\n\
             # TYPE old unknown\nold 1 1.500\nold{a=\"b\"} 1 -0.001\n# TYPE u unknown\nu 1\n# TYPE g gauge\ng 2\n"
        );
        let mut parser = Parser::new(&shown, InputFormat::Text);
        assert!(parser.next(&mut Labels::new()).is_ok());
    }

    #[test]
    fn unchanged_text_is_not_copied() {
        let samples = "m{a=\"b\"} 1\nm{a=\"c\"} 2\n";
        assert_eq!(shown(OPEN, samples), None);
        assert_eq!(
            shown(UNDERSCORES, "# TYPE m gauge\nm{a=\",\\\"x\"} 1\n"),
            None
        );
        assert_eq!(shown(UNDERSCORES, samples), None);
    }

    #[test]
    fn names_are_escaped_to_legacy_characters() {
        let text = "# HELP \"my.m\" h \"q\"\n# TYPE \"my.m\" gauge\n{\"my.m\",b=\"2\",\"é x\"=\"1\"} 1 7\n{\"9m\"} 2\n";
        assert_eq!(
            shown(UNDERSCORES, text).unwrap(),
            "# HELP my_m h \"q\"\n# TYPE my_m gauge\nmy_m{__x=\"1\",b=\"2\"} 1 7\n_m 2\n"
        );
        let both = OutputFormat::OpenMetrics(Escaping::Underscores);
        assert_eq!(
            shown(both, text).unwrap(),
            "# HELP my_m h \\\"q\\\"\n# TYPE my_m gauge\nmy_m{__x=\"1\",b=\"2\"} 1 0.007\n_m 2\n"
        );
        assert!(
            shown(OPEN, text)
                .unwrap()
                .contains("# TYPE \"my.m\" gauge\n{\"my.m\",b=\"2\",\"é x\"=\"1\"} 1 0.007\n")
        );
    }
}
