//! The canonical form of a text: parsed, each family once, labels sorted, in
//! text format 0.0.4, ready to be merged with the families of other producers.
//!
//! This file handles every text, by way of [`Families`]. `fast_path` handles most texts in one
//! pass, with the labels of the previous line from `label_cache`. `known` handles texts that differ
//! from the one before only in values.

mod fast_path;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod known;
mod label_cache;
mod series_set;
mod shaped;
mod times;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

pub use self::known::KnownText;
pub use self::shaped::{SampleShaper, ShapedCounts, ShapedSample, ShapedSeries};
use self::times::Point;
use super::added::{AddedLabel, merge_added};
use super::escaping::shared_label;
use super::parse::{LineError, ParseProblem, bare_label, bare_name, offset};
use super::series::{SeriesHashes, hash_series};
use super::{
    Families, FamilyText, FamilyView, InputFormat, Kind, Labels, OpenMetricsHead, ParseError, Text,
    TextLimits,
};

/// How a text is brought into canonical form.
#[derive(Debug)]
pub struct CanonicalOptions<'a, H> {
    /// Limits on the text.
    pub limits: TextLimits,
    /// Labels that are added to every sample.
    pub added: &'a [AddedLabel<'a>],
    /// What happens to timestamps.
    pub timestamps: TimestampPolicy,
    /// Hasher for series identity, shared by all producers of a store.
    pub hash: &'a H,
}

/// What happens to the timestamps of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampPolicy {
    /// Keep timestamps.
    Keep,
    /// Remove timestamps; of a series at several times, keep the latest point.
    Strip,
    /// Reject a text that has timestamps.
    Refuse,
}

/// The format of a text whose sender does not declare it: OpenMetrics ends in
/// `# EOF`.
pub fn detect_format(text: &str) -> InputFormat {
    let last = text.trim_end_matches('\n').rsplit('\n').next();
    if last == Some("# EOF") {
        InputFormat::OpenMetrics
    } else {
        InputFormat::Text
    }
}

/// Parses a text of a detected format and returns its families.
///
/// What text 0.0.4 lacks is shown as nearly as possible: info and state sets as
/// gauges, gauge histograms as untyped families, times in milliseconds. The
/// OpenMetrics kind and the unit are kept beside it. Exemplars and `_created`
/// are left out: the former cannot be shown, and the latter would be a series
/// of its own.
///
/// # Errors
///
/// The first mistake in the text, or the limit that it exceeds.
pub fn canonicalize<H: BuildHasher>(
    text: &str,
    options: &CanonicalOptions<'_, H>,
) -> Result<Vec<FamilyText>, ParseError> {
    canonicalize_as(text, detect_format(text), options)
}

/// Like [`canonicalize`], with an explicit format.
///
/// # Errors
///
/// As for [`canonicalize`].
pub fn canonicalize_as<H: BuildHasher>(
    text: &str,
    format: InputFormat,
    options: &CanonicalOptions<'_, H>,
) -> Result<Vec<FamilyText>, ParseError> {
    let short = (format == InputFormat::Text).then(|| fast_path::read(text, options));
    match short.flatten() {
        Some(families) => Ok(families),
        None => general_path(text, format, options),
    }
}

/// Like [`canonicalize_as`] for text 0.0.4 whose samples are changed or dropped by `shaper`. `None`
/// for an unusual text, or one with a mistake: shape it first, then parse it.
pub fn canonicalize_shaped<H: BuildHasher>(
    text: &str,
    options: &CanonicalOptions<'_, H>,
    shaper: &mut dyn SampleShaper,
) -> Option<(Vec<FamilyText>, ShapedCounts)> {
    fast_path::read_sharing(text, options, LONGEST_SHARED, Some(shaper))
}

/// Like [`canonicalize_as`], in two passes, for any text.
fn general_path<H: BuildHasher>(
    text: &str,
    format: InputFormat,
    options: &CanonicalOptions<'_, H>,
) -> Result<Vec<FamilyText>, ParseError> {
    let families = Families::parse_with(text, format, &options.limits, options.hash)?;
    let added: usize = options.added.iter().map(AddedLabel::len).sum();
    let bytes = added.saturating_mul(families.samples());
    let bytes = bytes.saturating_add(text.len());
    let allowed = options.limits.text;
    if bytes > allowed {
        return Err(ParseError {
            line: 1,
            column: 1,
            problem: ParseProblem::TooLong { bytes, allowed },
        });
    }
    let mut out = Drafts {
        text: String::with_capacity(bytes),
        drafts: Vec::new(),
        names: HashSet::new(),
    };
    for family in families.iter() {
        write_family(&mut out, &family, format, options)?;
    }
    Ok(out.finish())
}

/// A family of one sample whose labels are the `added` ones. It equals what
/// [`canonicalize`] makes of the same sample as text. `help` is escaped. `None`
/// if two of the labels have the same name under some escaping scheme.
pub fn single_sample_family<H: BuildHasher>(
    (name, kind, help): (&str, Kind, &str),
    added: &[AddedLabel<'_>],
    value: f64,
    hash: &H,
) -> Option<FamilyText> {
    let mut shown = Vec::with_capacity(added.len());
    merge_added(&mut shown, &Labels::new(), added);
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

/// Families while they are written.
struct Drafts<'t> {
    /// The samples of families that are written one after the other.
    text: String,
    drafts: Vec<Draft<'t>>,
    /// Names in text, which families with different names in OpenMetrics can share.
    names: HashSet<&'t str>,
}

struct Draft<'t> {
    name: &'t str,
    kind: Kind,
    help: Option<String>,
    line: usize,
    lines: DraftLines,
    series: SeriesHashes,
    open: Option<Box<OpenMetricsHead>>,
}

/// Where the samples of a draft are.
enum DraftLines {
    /// A range of the text of all drafts.
    Shared(Range<usize>),
    /// A text of its own, since samples of several families alternate.
    Own(String),
}

/// The largest text, in bytes, whose families share one allocation. Each family must
/// also be at most [`LONGEST_PART`] long, or most of the text.
const LONGEST_SHARED: usize = 64 * 1024;

/// The longest family, in bytes, that shares an allocation with others. The store copies
/// what it keeps of such a family. A longer one would keep too much memory alive if it
/// outlived the others.
const LONGEST_PART: usize = 1024;

/// The samples of all families of a text.
enum SampleText {
    Shared(Bytes),
    Long(String),
}

impl SampleText {
    fn new(mut text: String) -> Self {
        if text.len() > LONGEST_SHARED {
            return SampleText::Long(text);
        }
        text.shrink_to_fit();
        SampleText::Shared(Bytes::from(text))
    }

    fn lines(&self, range: Range<usize>) -> Text {
        match self {
            SampleText::Shared(text)
                if range.len() <= LONGEST_PART || 2 * range.len() >= text.len() =>
            {
                Text::of_lines(text.slice(range))
            }
            SampleText::Shared(text) => Text::of_lines(Bytes::copy_from_slice(&text[range])),
            SampleText::Long(text) => Text::new(&text[range]),
        }
    }
}

impl Drafts<'_> {
    fn finish(self) -> Vec<FamilyText> {
        let written = SampleText::new(self.text);
        let samples = |lines| match lines {
            DraftLines::Own(lines) => Text::new(&lines),
            DraftLines::Shared(range) => written.lines(range),
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
    options: &CanonicalOptions<'_, H>,
) -> Result<(), ParseError> {
    let first_of_family = out.drafts.len();
    let mut labels = Labels::new();
    let mut shown = Vec::new();
    let mut full = String::new();
    // The points of each draft of the family.
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
                // Families with different names in OpenMetrics can have the same name in text.
                if format == InputFormat::OpenMetrics && !out.names.insert(name) {
                    let family = name.to_owned();
                    return Err(ParseError {
                        line: samples.line(),
                        column: 1,
                        problem: ParseProblem::SecondType { family },
                    });
                }
                let end = out.text.len();
                out.drafts.push(Draft {
                    name,
                    kind,
                    help: family.help().map(|help| help_in_text(help, format)),
                    line: samples.line(),
                    lines: match format {
                        InputFormat::Text => DraftLines::Shared(end..end),
                        InputFormat::OpenMetrics => DraftLines::Own(String::new()),
                    },
                    series: SeriesHashes::default(),
                    open,
                });
                points.push(Vec::with_capacity(family.sample_count()));
                out.drafts.len() - 1
            }
        };
        let error = |problem| ParseError {
            line: samples.line(),
            column: 1,
            problem,
        };
        labels.sort();
        merge_added(&mut shown, &labels, options.added);
        let plain_labels = shown.iter().all(|(name, _)| is_plain_label(name));
        if !plain_labels && let Some(name) = shared_label(&names_of(&shown)) {
            return Err(error(ParseProblem::DuplicateLabel { name }));
        }
        let timestamp = match options.timestamps {
            TimestampPolicy::Keep => sample.timestamp,
            TimestampPolicy::Strip => None,
            TimestampPolicy::Refuse => {
                if let Some(timestamp) = sample.timestamp {
                    let at = offset(sample.raw, timestamp.text);
                    let found = timestamp.text.to_owned();
                    let error = LineError::new(at, ParseProblem::Timestamp { found });
                    return Err(error.on(sample.raw, samples.line()));
                }
                None
            }
        };
        if timestamp.is_some_and(|timestamp| timestamp.milliseconds < 0) {
            let expected = "a time from 1970 on, since text cannot show earlier ones";
            return Err(error(ParseProblem::unexpected(expected, "an earlier one")));
        }
        let draft = &mut out.drafts[place];
        let lines = match &mut draft.lines {
            DraftLines::Shared(_) => &mut out.text,
            DraftLines::Own(lines) => lines,
        };
        let plain = plain_labels && is_plain_name(sample.name);
        let series = (sample.name, &*shown);
        let hash = write_hashed((lines, &mut full), series, plain, options.hash);
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
        if let DraftLines::Shared(range) = &mut draft.lines {
            range.end = out.text.len();
        }
    }
    let newest = options.timestamps == TimestampPolicy::Strip;
    for (draft, points) in out.drafts[first_of_family..].iter_mut().zip(points) {
        let lines = match &draft.lines {
            DraftLines::Shared(range) => &out.text[range.clone()],
            DraftLines::Own(lines) => lines,
        };
        let ordered = times::order(lines, &points, newest).map_err(|conflict| ParseError {
            line: conflict.line,
            column: 1,
            problem: ParseProblem::DuplicateSeries {
                first_line: conflict.first,
            },
        })?;
        let Some((lines, hashes)) = ordered else {
            let hashes: Vec<u64> = points.iter().map(|point| point.hash).collect();
            draft.series = hashes.into();
            continue;
        };
        draft.series = hashes.into();
        match &mut draft.lines {
            // This is the last draft in the text.
            DraftLines::Shared(range) => {
                out.text.truncate(range.start);
                out.text.push_str(&lines);
                range.end = out.text.len();
            }
            DraftLines::Own(own) => *own = lines,
        }
    }
    Ok(())
}

/// Writes a series and returns the hash of its identity. `full` is a buffer. With `plain`, no name
/// needs quotes.
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
    // Readers treat a label without a value as absent.
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

/// The family of a sample in text, its kind, and its metadata in OpenMetrics;
/// `None` for a sample that is not shown.
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
        // Infos have no unit.
        (Kind::Info, Some("_info")) => (sample, Kind::Gauge, open(Some(Kind::Info), None)),
        (Kind::Info, _) => (sample, Kind::Gauge, None),
        (Kind::StateSet, _) => (family.name(), Kind::Gauge, open(Some(Kind::StateSet), None)),
        (kind, _) => (family.name(), kind, open(None, unit)),
    })
}

/// A help as escaped in text 0.0.4; OpenMetrics escapes quotes too.
fn help_in_text(help: &str, format: InputFormat) -> String {
    match format {
        InputFormat::Text => help.to_owned(),
        InputFormat::OpenMetrics => {
            let unescaped = super::unescape_help(help, format);
            unescaped.replace('\\', "\\\\").replace('\n', "\\n")
        }
    }
}

/// Writes `name{a="b"}`, or `{"name",a="b"}` if the name needs quotes. Names
/// and values are escaped.
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

/// Whether a metric's name needs no quotes.
pub fn is_plain_name(name: &str) -> bool {
    bare_name(name).is_some_and(|bare| bare.len() == name.len())
}

/// Whether a label's name needs no quotes.
pub fn is_plain_label(name: &str) -> bool {
    bare_label(name).is_some_and(|bare| bare.len() == name.len())
}

#[cfg(test)]
mod tests;
