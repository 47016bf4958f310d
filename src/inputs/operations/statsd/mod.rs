//! Parses StatsD lines, with DogStatsD's extensions and the tags of other servers.
//!
//! ```text
//! name:value|type|@rate|#tag:value,tag
//! name:value:value|type                     packed values, DogStatsD
//! name:value|type:value|type|@rate          typed values, etsy's StatsD
//! name,tag=value:value|type                 tags of InfluxDB
//! name#tag=value:value|type                 tags of Librato
//! name[tag=value]:value|type                tags of SignalFx, anywhere in the name
//! ```
//!
//! Packed values share the type that follows them. A colon after a type or a rate begins
//! another value with its own type; each typed value counts as a message, see
//! [`split_typed_values`]. Tags apply to the whole line.
//!
//! Sources: <https://github.com/statsd/statsd/blob/master/docs/metric_types.md>
//! and <https://docs.datadoghq.com/developers/dogstatsd/datagram_shell>.

pub(super) mod events;
mod value;

use std::borrow::Cow;
use std::str;

use memchr::memchr;

pub(super) use value::ValueReader;

use super::rejection::Rejection;
use crate::reason::Reason;

/// A name with values of one type.
#[derive(Debug, PartialEq)]
pub(super) struct StatsdLine<'a> {
    /// As sent, without tags.
    pub(super) name: Cow<'a, str>,
    /// The tags within the name.
    name_tags: &'a str,
    pub(super) metric_type: MetricType,
    /// One value, or several separated by colons.
    values: &'a str,
    /// The sampling rate: above 0, and at most 1.
    pub(super) rate: f64,
    tags: &'a str,
    /// The texts of DogStatsD's fields, in the order of [`Field::ALL`].
    fields: [&'a str; Field::ALL.len()],
}

/// Fields that DogStatsD clients add to a line besides its tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `c:`, the container that sent the line.
    ContainerId,
    /// `e:`, from which an agent finds the container.
    ExternalData,
    /// `card:`, how many tags an agent should add.
    Cardinality,
    /// `T`, a time in seconds since 1970.
    Timestamp,
}

impl Field {
    pub(super) const ALL: [Field; 4] = [
        Field::ContainerId,
        Field::ExternalData,
        Field::Cardinality,
        Field::Timestamp,
    ];

    /// The word in settings, which is also the name of the label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Field::ContainerId => "container_id",
            Field::ExternalData => "external_data",
            Field::Cardinality => "cardinality",
            Field::Timestamp => "timestamp",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Field::ContainerId => "c:",
            Field::ExternalData => "e:",
            Field::Cardinality => "card:",
            Field::Timestamp => "T",
        }
    }
}

/// The tag styles that are parsed. Tags in other styles stay part of the name, or are
/// ignored if they follow a `#`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagStyles {
    pub(super) dogstatsd: bool,
    pub(super) influxdb: bool,
    pub(super) librato: bool,
    pub(super) signalfx: bool,
}

impl TagStyles {
    /// All styles.
    pub(super) const ALL: Self = TagStyles {
        dogstatsd: true,
        influxdb: true,
        librato: true,
        signalfx: true,
    };
}

/// The type of a line's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricType {
    Counter,
    Gauge,
    /// Durations in milliseconds.
    Timer,
    /// A histogram or a distribution, of any unit.
    Histogram,
    Set,
}

/// One of several typed values of a line, not yet parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypedValue<'a> {
    name: &'a str,
    /// `value|type|@rate`
    text: &'a str,
    /// The tags of the whole line.
    tags: &'a str,
}

impl<'a> TypedValue<'a> {
    /// Appends the value as a separate line.
    pub(super) fn write(&self, line: &mut Vec<u8>) {
        for text in [self.name, ":", self.text] {
            line.extend_from_slice(text.as_bytes());
        }
        // The text of the last value already contains the tags.
        if !self.tags.is_empty() && !self.text.ends_with(self.tags) {
            line.extend_from_slice(b"|#");
            line.extend_from_slice(self.tags.as_bytes());
        }
    }

    pub(super) fn parse(&self, styles: TagStyles) -> Result<StatsdLine<'a>, Rejection> {
        let mut line = parse_sections(self.name, self.text, styles)?;
        line.tags = self.tags;
        line.check_tags(styles)
    }
}

/// Splits a line with several typed values. `None` for any other line, which [`parse`]
/// handles whole.
pub(super) fn split_typed_values(line: &[u8]) -> Option<Vec<TypedValue<'_>>> {
    let (bar, colon) = (memchr(b'|', line)?, memchr(b':', line)?);
    if bar < colon || !has_another_value(&line[bar + 1..]) || is_event_or_check(line) {
        return None;
    }
    let line = str::from_utf8(line).ok()?.trim_end();
    let (name, rest) = (&line[..colon], &line[colon + 1..]);
    let mut values = Vec::new();
    let (mut tags, mut start, mut at) = ("", 0, bar - colon);
    let mut is_type = true;
    for section in rest[at..].split('|') {
        match next_value(section.as_bytes(), is_type) {
            // A value follows the colon, and the next section is its type.
            Some(next) => {
                values.push(&rest[start..at + next]);
                start = at + next + 1;
                is_type = true;
            }
            None => {
                if !is_type && let Some(section) = section.strip_prefix('#') {
                    tags = section;
                }
                is_type = false;
            }
        }
        at += section.len() + 1;
    }
    values.push(&rest[start..]);
    let typed = |text| TypedValue { name, text, tags };
    Some(values.into_iter().map(typed).collect())
}

/// Whether another value begins in the sections that follow a value.
fn has_another_value(mut sections: &[u8]) -> bool {
    let mut is_type = true;
    // Most lines have no further colon.
    while memchr(b':', sections).is_some() {
        let end = memchr(b'|', sections);
        let section = &sections[..end.unwrap_or(sections.len())];
        if next_value(section, is_type).is_some() {
            return true;
        }
        let Some(end) = end else { return false };
        sections = &sections[end + 1..];
        is_type = false;
    }
    false
}

/// The position of a colon in a section that begins another value.
fn next_value(section: &[u8], is_type: bool) -> Option<usize> {
    match section.first() {
        // In tags, container, time and external data, colons are text.
        Some(b'#' | b'c' | b'T' | b'e') if !is_type => None,
        _ => memchr(b':', section),
    }
}

/// Whether a line is a DogStatsD event or service check.
fn is_event_or_check(line: &[u8]) -> bool {
    line.starts_with(b"_e{") || line.starts_with(b"_sc|")
}

/// Parses a line whose values have one type.
///
/// # Errors
///
/// The line is not UTF-8, or it has an unknown type, an invalid name or rate, or no metric.
pub(super) fn parse(line: &[u8], styles: TagStyles) -> Result<StatsdLine<'_>, Rejection> {
    if is_event_or_check(line) {
        return Err(Rejection::new(
            Reason::Unsupported,
            "DogStatsD events and service checks are not metrics (operations.statsd_events counts them)",
        ));
    }
    let line = str::from_utf8(line)
        .map_err(|_| Rejection::new(Reason::InvalidUtf8, "the line is not UTF-8"))?
        .trim_end();
    let Some((name, rest)) = line.split_once(':') else {
        return Err(malformed(format!(
            "expected a JSON object or a line such as name:1|c, not {line:?}"
        )));
    };
    parse_sections(name, rest, styles)?.check_tags(styles)
}

/// Parses `values|type|@rate|#tags`.
fn parse_sections<'a>(
    name: &'a str,
    rest: &'a str,
    styles: TagStyles,
) -> Result<StatsdLine<'a>, Rejection> {
    let mut sections = rest.split('|');
    let values = sections.next().unwrap_or_default();
    let metric_type = match sections.next() {
        Some("c") => MetricType::Counter,
        Some("g") => MetricType::Gauge,
        Some("ms") => MetricType::Timer,
        Some("h" | "d") => MetricType::Histogram,
        Some("s") => MetricType::Set,
        Some(other) => {
            return Err(Rejection::new(
                Reason::BadOperation,
                format!("the type must be one of c, g, ms, h, d, s, not {other:?}"),
            ));
        }
        None => {
            let line = format!("{name}:{rest}");
            return Err(malformed(format!("expected `|` and a type in {line:?}")));
        }
    };
    let (name, name_tags) = split_tags(name, styles);
    if name.is_empty() {
        return Err(Rejection::new(Reason::BadName, "the name is empty"));
    }
    let mut line = StatsdLine {
        name,
        name_tags,
        metric_type,
        values,
        rate: 1.0,
        tags: "",
        fields: [""; Field::ALL.len()],
    };
    for section in sections {
        match section.as_bytes().first() {
            Some(b'@') => {
                line.rate = number(&section[1..])
                    .filter(|rate| *rate > 0.0 && *rate <= 1.0)
                    .ok_or_else(|| {
                        let problem =
                            format!("the rate must be above 0 and at most 1, not {section:?}");
                        Rejection::new(Reason::BadValue, problem)
                    })?;
            }
            Some(b'#') => line.tags = &section[1..],
            Some(b'c' | b'T' | b'e') => {
                for field in Field::ALL {
                    if let Some(text) = section.strip_prefix(field.prefix()) {
                        line.fields[field as usize] = text;
                    }
                }
            }
            None => {}
            Some(_) => return Err(malformed(format!("unexpected {section:?} after the type"))),
        }
    }
    Ok(line)
}

fn malformed(problem: String) -> Rejection {
    Rejection::new(Reason::Malformed, problem)
}

/// Splits a name from the tags within it.
fn split_tags(name: &str, styles: TagStyles) -> (Cow<'_, str>, &str) {
    if styles.signalfx
        && let (Some(start), Some(end)) =
            (memchr(b'[', name.as_bytes()), memchr(b']', name.as_bytes()))
        && start < end
    {
        let rest = &name[end + 1..];
        let without = match rest {
            "" => Cow::Borrowed(&name[..start]),
            rest => Cow::Owned(format!("{}{rest}", &name[..start])),
        };
        return (without, &name[start + 1..end]);
    }
    let begins = |c: char| (c == ',' && styles.influxdb) || (c == '#' && styles.librato);
    match name.split_once(begins) {
        Some((name, tags)) => (Cow::Borrowed(name), tags),
        None => (Cow::Borrowed(name), ""),
    }
}

impl<'a> StatsdLine<'a> {
    /// Rejects tags of two styles in one line, and ignores DogStatsD tags if they are off.
    fn check_tags(mut self, styles: TagStyles) -> Result<Self, Rejection> {
        if !self.name_tags.is_empty() && !self.tags.is_empty() {
            return Err(malformed(
                "the line has tags in the name and after `#`: use one of the two".to_owned(),
            ));
        }
        if !styles.dogstatsd {
            self.tags = "";
        }
        Ok(self)
    }

    /// The name of the family. Characters that Prometheus does not allow become underscores.
    ///
    /// # Errors
    ///
    /// The text is not StatsD, or has tags in a style that is off.
    pub(super) fn family_name(&self) -> Result<Cow<'_, str>, Rejection> {
        metric_name(&self.name)
    }

    /// The value to add to a set: any text, including colons.
    pub(super) fn member(&self) -> Result<&'a str, Rejection> {
        if self.values.is_empty() {
            return Err(Rejection::new(
                Reason::BadValue,
                "the value of the set is empty",
            ));
        }
        Ok(self.values)
    }

    /// The names and values of the tags. A tag without a value has the value `true`.
    ///
    /// PHP clients write `#` before each tag instead of only the first; others write a
    /// blank after each comma. Neither is part of a name.
    pub(super) fn tags(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        let (tags, separator) = match self.name_tags {
            "" => (self.tags, ':'),
            tags => (tags, '='),
        };
        self::tags(tags, separator)
    }

    /// A DogStatsD field; empty if the line does not have it.
    pub(super) fn field(&self, field: Field) -> &'a str {
        self.fields[field as usize]
    }
}

/// The names and values of tags separated by commas.
fn tags(text: &str, separator: char) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    text.split(',')
        .map(|tag| tag.trim_start_matches([' ', '#']))
        .filter(|tag| !tag.is_empty())
        .map(move |tag| match tag.split_once(separator) {
            Some((name, value)) => (sanitize(name, false), Cow::Borrowed(value)),
            None => (sanitize(tag, false), Cow::Borrowed("true")),
        })
}

/// Parses a finite number. Blanks around it are ignored.
fn number(text: &str) -> Option<f64> {
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

fn not_a_number(text: &str) -> Rejection {
    Rejection::new(Reason::BadValue, format!("{text:?} is not a finite number"))
}

/// The name of a family. Characters that Prometheus does not allow become underscores.
fn metric_name(name: &str) -> Result<Cow<'_, str>, Rejection> {
    // Other dialects use these for tags, or the text is not StatsD at all.
    let odd = |c: char| c.is_control() || ",;=#\"'[]{}<>()".contains(c);
    if name.contains(odd) {
        let problem = format!("the name has invalid characters: {name:?}");
        return Err(Rejection::new(Reason::BadName, problem));
    }
    Ok(sanitize(name, true))
}

/// Replaces characters that are not allowed in names. `colons` allows colons, for names of
/// metrics, but not of labels.
fn sanitize(name: &str, colons: bool) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    if !digit && name.chars().all(fits) {
        return Cow::Borrowed(name);
    }
    let mut sanitized = String::with_capacity(name.len() + 1);
    if digit {
        sanitized.push('_');
    }
    sanitized.extend(name.chars().map(|c| if fits(c) { c } else { '_' }));
    Cow::Owned(sanitized)
}

#[cfg(test)]
mod tests;
