//! The forms in which normal text is shown to readers.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::canonical::{is_plain_label, is_plain_name, write_sample_start};
use super::family::OPEN_HEAD;
use super::{Escaping, InputFormat, Kind, Labels, ParsedLine, Parser, unescape, unescape_help};

/// How normal text is shown. It is kept as text 0.0.4 in which names that need
/// quotes have them; the other forms are made from it line by line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// As it is kept.
    #[default]
    Canonical,
    Text(Escaping),
    OpenMetrics(Escaping),
}

impl OutputFormat {
    /// Text for readers that know the old character set only.
    pub const UNDERSCORES: OutputFormat = OutputFormat::Text(Escaping::Underscores);

    /// Its place among the forms other than [`OutputFormat::Canonical`].
    pub fn variant(self) -> Option<usize> {
        match self {
            OutputFormat::Canonical => None,
            OutputFormat::Text(escaping) => Some(escaping as usize),
            OutputFormat::OpenMetrics(escaping) => Some(Escaping::ALL.len() + escaping as usize),
        }
    }

    /// How many forms there are beside [`OutputFormat::Canonical`].
    pub const VARIANTS: usize = 2 * Escaping::ALL.len();

    pub fn is_open_metrics(self) -> bool {
        matches!(self, OutputFormat::OpenMetrics(_))
    }

    fn escaping(self) -> Escaping {
        match self {
            OutputFormat::Canonical => Escaping::AllowUtf8,
            OutputFormat::Text(escaping) | OutputFormat::OpenMetrics(escaping) => escaping,
        }
    }

    /// Whether sample lines need their family's name: these schemes escape it, and
    /// not the suffix after it.
    pub fn needs_family(self) -> bool {
        matches!(self.escaping(), Escaping::Dots | Escaping::Values)
    }

    /// Whole lines of normal text in this form; `None` where it is the same.
    /// `family` names the family of the samples before the first head.
    pub fn convert(self, text: &str, family: Option<&str>) -> Option<String> {
        let text = match escaped(text, family, self.escaping()) {
            Some(text) => Cow::Owned(text),
            None => Cow::Borrowed(text),
        };
        let shown = match self {
            OutputFormat::Canonical => None,
            OutputFormat::Text(_) => without_open_heads(&text),
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

/// Whether whole lines of normal text are the same in every form of text: all
/// names are within the old character set, and no head says more than text can.
/// That is said quickly of text without quoted names, which is nearly all of it.
pub fn is_plain(text: &[u8]) -> bool {
    if !may_have_quoted_names(text) {
        return true;
    }
    let text = std::str::from_utf8(text);
    text.is_ok_and(|text| OutputFormat::UNDERSCORES.convert(text, None).is_none())
}

/// A quoted name begins the braces, or follows a comma or the word of a head.
/// Where none of these is, there is none, nor the line of [`OPEN_HEAD`].
fn may_have_quoted_names(text: &[u8]) -> bool {
    static HINTS: LazyLock<[Finder; 3]> = LazyLock::new(|| ["{\"", ",\"", " \""].map(Finder::new));
    HINTS.iter().any(|hint| hint.find(text).is_some())
}

/// The same without what only OpenMetrics says.
fn without_open_heads(text: &str) -> Option<String> {
    if !may_have_quoted_names(text.as_bytes()) {
        return None;
    }
    let is_kept = |line: &&str| !line.starts_with(OPEN_HEAD);
    let mut lines = text.split_inclusive('\n');
    (!lines.clone().all(|line| is_kept(&line))).then(|| lines.by_ref().filter(is_kept).collect())
}

/// The same with every name within the old character set.
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
                let meant = unescape(name);
                if is_plain_name(name) {
                    out.push_str(line);
                } else {
                    let name = escaping.metric(&meant);
                    let _ = writeln!(out, "# TYPE {name} {}", kind.as_str());
                }
                family = Some(meant);
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

/// A metric's name, still escaped, with underscores for all that needs quotes:
/// what families are known by.
pub fn plain_name(escaped: &str) -> Cow<'_, str> {
    if is_plain_name(escaped) {
        return Cow::Borrowed(escaped);
    }
    let meant = unescape(escaped);
    Cow::Owned(Escaping::Underscores.metric(&meant).into_owned())
}

/// Canonical text as OpenMetrics: heads differ, and times are in seconds. The
/// names of series are never changed, so that a series is the same whichever
/// form is scraped: a counter whose name lacks `_total` is of unknown kind
/// there.
fn open_metrics(text: &str) -> Option<String> {
    let mut out = String::new();
    // What has been written is the text up to here.
    let mut written = 0;
    let mut at = 0;
    let mut help = None;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let content = line.strip_suffix('\n').unwrap_or(line);
        if content.starts_with('#') {
            match head(content) {
                // It goes with the type, which is on the next line.
                Some(ParsedLine::Help { name, help: text }) => help = Some((start, name, text)),
                Some(ParsedLine::Type { name, kind }) => {
                    let begin = help.filter(|(_, of, _)| *of == name);
                    out.push_str(&text[written..begin.map_or(start, |(begin, _, _)| begin)]);
                    let open = open_head(&text[at..]);
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

/// The kind, unit and length of a line of [`OPEN_HEAD`] at the beginning.
fn open_head(text: &str) -> Option<(Kind, &str, usize)> {
    let line = text.split_inclusive('\n').next()?;
    let rest = line.strip_prefix(OPEN_HEAD)?.trim_end_matches('\n');
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
        let meant = unescape_help(help, InputFormat::Text);
        let help = meant
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
    // A scheme may have changed what the name ends in.
    let has_unit = name.strip_suffix(unit).is_some_and(|it| it.ends_with('_'));
    if !unit.is_empty() && has_unit {
        let _ = writeln!(out, "# UNIT {quote}{name}{quote} {unit}");
    }
}

/// A sample's line up to its timestamp, and the timestamp, if it has one.
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
    fn open_metrics_has_other_heads_and_seconds() {
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
    fn what_needs_no_change_is_not_copied() {
        let samples = "m{a=\"b\"} 1\nm{a=\"c\"} 2\n";
        assert_eq!(shown(OPEN, samples), None);
        assert_eq!(
            shown(UNDERSCORES, "# TYPE m gauge\nm{a=\",\\\"x\"} 1\n"),
            None
        );
        assert_eq!(shown(UNDERSCORES, samples), None);
    }

    #[test]
    fn names_are_kept_within_the_old_characters() {
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
