//! One sender's text in normal form: parsed, each family once, labels sorted,
//! in text format 0.0.4, ready to stand among the families of others.
//!
//! Here is the way for every text, over its [`Families`]. `fast_path` takes a short
//! cut through those that are written as nearly all are, with what `label_cache`
//! knows of the line before.

mod fast_path;
mod label_cache;
mod times;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use self::times::Point;
use super::added::{AddedLabel, put_on};
use super::escaping::shared_label;
use super::parse::{LineError, ParseProblem, bare_label, bare_name, offset};
use super::series::{SeriesHashes, hash_series};
use super::{
    Families, FamilyText, FamilyView, InputFormat, Kind, Labels, OpenMetricsHead, ParseError, Text,
    TextLimits,
};

/// How a text is brought into normal form.
#[derive(Debug)]
pub struct CanonicalOptions<'a, H> {
    pub limits: TextLimits,
    /// Labels put on every sample.
    pub added: &'a [AddedLabel<'a>],
    pub timestamps: TimestampPolicy,
    /// Hashes series, so that they can be found again.
    pub hash: &'a H,
}

/// What becomes of a sample's timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampPolicy {
    Keep,
    Strip,
    Refuse,
}

/// The format of a text: OpenMetrics says so itself, in its last line.
pub fn detect_format(text: &str) -> InputFormat {
    let last = text.trim_end_matches('\n').rsplit('\n').next();
    if last == Some("# EOF") {
        InputFormat::OpenMetrics
    } else {
        InputFormat::Text
    }
}

/// Reads a text and returns its families.
///
/// What OpenMetrics has and text has not is shown as nearly as can be: info
/// and state sets as gauges, gauge histograms as untyped families, times in
/// milliseconds. What they are in OpenMetrics is kept beside it, units too.
/// Exemplars and `_created` are left out: the one cannot be shown, and the
/// other would be a series of its own.
pub fn canonicalize<H: BuildHasher>(
    text: &str,
    normal: &CanonicalOptions<'_, H>,
) -> Result<Vec<FamilyText>, ParseError> {
    canonicalize_as(text, detect_format(text), normal)
}

/// The same for a text whose format is told.
pub fn canonicalize_as<H: BuildHasher>(
    text: &str,
    format: InputFormat,
    normal: &CanonicalOptions<'_, H>,
) -> Result<Vec<FamilyText>, ParseError> {
    let short = (format == InputFormat::Text).then(|| fast_path::read(text, normal));
    match short.flatten() {
        Some(families) => Ok(families),
        None => by_families(text, format, normal),
    }
}

/// The same for any text, in two passes.
fn by_families<H: BuildHasher>(
    text: &str,
    format: InputFormat,
    normal: &CanonicalOptions<'_, H>,
) -> Result<Vec<FamilyText>, ParseError> {
    let families = Families::parse_with(text, format, &normal.limits, normal.hash)?;
    let added: usize = normal.added.iter().map(AddedLabel::len).sum();
    let bytes = added.saturating_mul(families.samples());
    let bytes = bytes.saturating_add(text.len());
    let allowed = normal.limits.text;
    if bytes > allowed {
        return Err(ParseError {
            line: 1,
            column: 1,
            reason: ParseProblem::TooLong { bytes, allowed },
        });
    }
    let mut out = Drafts {
        text: String::with_capacity(bytes),
        drafts: Vec::new(),
        names: HashSet::new(),
    };
    for family in families.iter() {
        write_family(&mut out, &family, format, normal)?;
    }
    Ok(out.finish())
}

/// A family of one sample that has no labels but those that are `added`, as
/// [`canonicalize`] would come to it. `help` is escaped. `None` where the labels
/// cannot stand beside one another.
pub fn single<H: BuildHasher>(
    (name, kind, help): (&str, Kind, &str),
    added: &[AddedLabel<'_>],
    value: f64,
    hash: &H,
) -> Option<FamilyText> {
    let mut shown = Vec::with_capacity(added.len());
    put_on(&mut shown, &Labels::new(), added);
    let plain_labels = shown.iter().all(|(name, _)| is_plain_label(name));
    if !plain_labels && shared_label(&names_of(&shown)).is_some() {
        return None;
    }
    let (mut text, mut full) = (String::new(), String::new());
    let plain = plain_labels && is_plain_name(name);
    let series = write_hashed((&mut text, &mut full), (name, &shown), plain, hash);
    let _ = writeln!(text, " {value}");
    Some(FamilyText {
        name: Arc::from(name),
        kind,
        help: Some(help.to_owned()),
        line: 0,
        samples: Text::new(&text),
        series: SeriesHashes::One(series),
        natives: Vec::new(),
        open: None,
    })
}

/// Families being written.
struct Drafts<'t> {
    /// The samples of families that are written one after the other.
    text: String,
    drafts: Vec<Draft<'t>>,
    /// Names in text of what OpenMetrics holds apart.
    names: HashSet<&'t str>,
}

struct Draft<'t> {
    name: &'t str,
    kind: Kind,
    help: Option<String>,
    line: usize,
    lines: Lines,
    series: SeriesHashes,
    open: Option<Box<OpenMetricsHead>>,
}

/// Where the samples of a family are.
enum Lines {
    /// In the text of all families.
    Shared(Range<usize>),
    /// Apart, since samples of several families came in turns.
    Own(String),
}

/// Families of a text up to this size share one allocation, ...
const LONGEST_SHARED: usize = 64 * 1024;

/// ... where each is no longer than this, for then the store copies what it
/// keeps, or is nearly all of it. Any other would hold on to too much if it
/// stayed longer than the rest.
const LONGEST_PART: usize = 1024;

/// The samples of all families of a text.
enum Written {
    Shared(Bytes),
    Long(String),
}

impl Written {
    fn new(mut text: String) -> Self {
        if text.len() > LONGEST_SHARED {
            return Written::Long(text);
        }
        text.shrink_to_fit();
        Written::Shared(Bytes::from(text))
    }

    fn lines(&self, range: Range<usize>) -> Text {
        match self {
            Written::Shared(text)
                if range.len() <= LONGEST_PART || 2 * range.len() >= text.len() =>
            {
                Text::of_lines(text.slice(range))
            }
            Written::Shared(text) => Text::of_lines(Bytes::copy_from_slice(&text[range])),
            Written::Long(text) => Text::new(&text[range]),
        }
    }
}

impl Drafts<'_> {
    fn finish(self) -> Vec<FamilyText> {
        let written = Written::new(self.text);
        let samples = |lines| match lines {
            Lines::Own(lines) => Text::new(&lines),
            Lines::Shared(range) => written.lines(range),
        };
        let drafts = self.drafts.into_iter();
        drafts
            .map(|draft| FamilyText {
                name: Arc::from(draft.name),
                kind: draft.kind,
                help: draft.help,
                line: draft.line,
                samples: samples(draft.lines),
                series: draft.series,
                natives: Vec::new(),
                open: draft.open,
            })
            .collect()
    }
}

fn write_family<'t, H: BuildHasher>(
    out: &mut Drafts<'t>,
    family: &FamilyView<'_, 't>,
    format: InputFormat,
    normal: &CanonicalOptions<'_, H>,
) -> Result<(), ParseError> {
    let first_of_family = out.drafts.len();
    let mut labels = Labels::new();
    let mut shown = Vec::new();
    let mut full = String::new();
    // Of each of its drafts.
    let mut points: Vec<Vec<Point>> = Vec::new();
    let mut samples = family.samples();
    while let Some(sample) = samples.next(&mut labels) {
        let Some((name, kind, open)) = in_text(family, sample.name, format) else {
            continue;
        };
        let drafts = &out.drafts[first_of_family..];
        let place = match drafts.iter().position(|draft| draft.name == name) {
            Some(place) => first_of_family + place,
            None => {
                // What OpenMetrics holds apart may have one name in text.
                if format == InputFormat::OpenMetrics && !out.names.insert(name) {
                    let family = name.to_owned();
                    return Err(ParseError {
                        line: samples.line(),
                        column: 1,
                        reason: ParseProblem::SecondType { family },
                    });
                }
                let end = out.text.len();
                out.drafts.push(Draft {
                    name,
                    kind,
                    help: family.help().map(|help| help_in_text(help, format)),
                    line: samples.line(),
                    lines: match format {
                        InputFormat::Text => Lines::Shared(end..end),
                        InputFormat::OpenMetrics => Lines::Own(String::new()),
                    },
                    series: SeriesHashes::default(),
                    open,
                });
                points.push(Vec::with_capacity(family.sample_count()));
                out.drafts.len() - 1
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
        if !plain_labels && let Some(name) = shared_label(&names_of(&shown)) {
            return Err(fault(ParseProblem::DuplicateLabel { name }));
        }
        let timestamp = match normal.timestamps {
            TimestampPolicy::Keep => sample.timestamp,
            TimestampPolicy::Strip => None,
            TimestampPolicy::Refuse => {
                if let Some(timestamp) = sample.timestamp {
                    let at = offset(sample.raw, timestamp.text);
                    let found = timestamp.text.to_owned();
                    let fault = LineError::new(at, ParseProblem::Timestamp { found });
                    return Err(fault.on(sample.raw, samples.line()));
                }
                None
            }
        };
        if timestamp.is_some_and(|timestamp| timestamp.milliseconds < 0) {
            let expected = "a time from 1970 on, since text has no other";
            return Err(fault(ParseProblem::unexpected(expected, "an earlier one")));
        }
        let draft = &mut out.drafts[place];
        let lines = match &mut draft.lines {
            Lines::Shared(_) => &mut out.text,
            Lines::Own(lines) => lines,
        };
        let plain = plain_labels && is_plain_name(sample.name);
        let series = (sample.name, &*shown);
        let hash = write_hashed((lines, &mut full), series, plain, normal.hash);
        points[place - first_of_family].push(Point {
            hash,
            time: sample.timestamp.map(|timestamp| timestamp.milliseconds),
            line: samples.line(),
        });
        lines.push(' ');
        lines.push_str(sample.value_text);
        if let Some(timestamp) = timestamp {
            lines.push(' ');
            lines.push_str(&timestamp.milliseconds.to_string());
        }
        lines.push('\n');
        if let Lines::Shared(range) = &mut draft.lines {
            range.end = out.text.len();
        }
    }
    let newest = normal.timestamps == TimestampPolicy::Strip;
    for (draft, points) in out.drafts[first_of_family..].iter_mut().zip(points) {
        let lines = match &draft.lines {
            Lines::Shared(range) => &out.text[range.clone()],
            Lines::Own(lines) => lines,
        };
        let ordered = times::order(lines, &points, newest).map_err(|twice| ParseError {
            line: twice.line,
            column: 1,
            reason: ParseProblem::DuplicateSeries {
                first_line: twice.first,
            },
        })?;
        let Some((lines, hashes)) = ordered else {
            let hashes: Vec<u64> = points.iter().map(|point| point.hash).collect();
            draft.series = hashes.into();
            continue;
        };
        draft.series = hashes.into();
        match &mut draft.lines {
            // It is the last of them.
            Lines::Shared(range) => {
                out.text.truncate(range.start);
                out.text.push_str(&lines);
                range.end = out.text.len();
            }
            Lines::Own(own) => *own = lines,
        }
    }
    Ok(())
}

/// Writes a series, and returns what it is known by. `full` is there to write
/// in what differs. `plain` says that no name needs quotes.
fn write_hashed<H: BuildHasher>(
    (out, full): (&mut String, &mut String),
    (name, labels): (&str, &[(Cow<'_, str>, &str)]),
    plain: bool,
    hash: &H,
) -> u64 {
    let start = out.len();
    let pairs = || labels.iter().map(|(name, value)| (&**name, *value));
    write_sample_start(out, name, pairs());
    let mut series = &out[start..];
    // To a reader, a label without a value is none.
    if labels.iter().any(|(_, value)| value.is_empty()) {
        full.clear();
        let pairs = pairs().filter(|(_, value)| !value.is_empty());
        write_sample_start(full, name, pairs);
        series = full;
    }
    hash_series(hash, series, plain)
}

fn names_of<'l>(labels: &'l [(Cow<'_, str>, &str)]) -> impl Iterator<Item = &'l str> + Clone {
    labels.iter().map(|(name, _)| &**name)
}

/// The family that a sample is of in text, what that is, and what OpenMetrics
/// says of it; `None` for a sample that is not shown.
fn in_text<'n>(
    family: &FamilyView<'_, 'n>,
    sample: &'n str,
    format: InputFormat,
) -> Option<(&'n str, Kind, Option<Box<OpenMetricsHead>>)> {
    if format == InputFormat::Text {
        return Some((family.name(), family.kind(), None));
    }
    let suffix = sample.strip_prefix(family.name());
    let open = |kind: Option<Kind>, unit: Option<&str>| {
        let says = kind.is_some() || unit.is_some();
        let unit = unit.map(Box::from);
        says.then(|| Box::new(OpenMetricsHead { kind, unit }))
    };
    let unit = family.unit();
    Some(match (family.kind(), suffix) {
        (Kind::Counter | Kind::Histogram | Kind::Summary, Some("_created")) => return None,
        (Kind::Counter, _) => (sample, Kind::Counter, open(None, unit)),
        // These have no unit.
        (Kind::Info, Some("_info")) => (sample, Kind::Gauge, open(Some(Kind::Info), None)),
        (Kind::Info, _) => (sample, Kind::Gauge, None),
        (Kind::StateSet, _) => (family.name(), Kind::Gauge, open(Some(Kind::StateSet), None)),
        (kind, _) => (family.name(), kind, open(None, unit)),
    })
}

/// A help as text has it: OpenMetrics escapes quotes as well.
fn help_in_text(help: &str, format: InputFormat) -> String {
    match format {
        InputFormat::Text => help.to_owned(),
        InputFormat::OpenMetrics => {
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
    bare_name(name).is_some_and(|bare| bare.len() == name.len())
}

/// Whether a label's name can stand without quotes.
pub fn is_plain_label(name: &str) -> bool {
    bare_label(name).is_some_and(|bare| bare.len() == name.len())
}

#[cfg(test)]
mod tests;
