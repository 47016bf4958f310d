//! One sender's text, grouped by family.
//!
//! The text is parsed once, which finds every mistake in it. Only the place of a sample's line is
//! kept; its labels are parsed again when they are needed, which costs less than keeping them. The
//! cost is linear in the size of the text, for any text.

mod mistakes;
mod point_set;
#[cfg(test)]
mod tests;
mod text_limits;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use self::point_set::PointSet;
use self::text_limits::exceeded;
use super::Kind;
use super::parse::{
    self, InputFormat, Labels, LimitKind, LineError, ParseError, ParseProblem, ParsedLine, Parser,
    Sample,
};

pub use self::mistakes::Mistakes;
pub use self::text_limits::TextLimits;

/// The families of one text, in the order in which the text first names them.
#[derive(Debug)]
pub struct Families<'t> {
    text: &'t str,
    format: InputFormat,
    entries: Vec<FamilyEntry<'t>>,
    lines: Vec<SampleLine>,
    verbatim_problem: Option<ParseError>,
}

/// A family's metadata, and its first and last sample as indexes into `lines`.
#[derive(Debug)]
struct FamilyEntry<'t> {
    name: &'t str,
    kind: Option<Kind>,
    /// `None` until a `HELP` line is found, which may be empty.
    help: Option<&'t str>,
    unit: Option<&'t str>,
    samples: usize,
    first: u32,
    last: u32,
}

/// The place of a sample's line. Texts are shorter than 4 GiB, so 32 bits are
/// enough.
#[derive(Debug)]
struct SampleLine {
    start: u32,
    length: u32,
    /// Line number, from 1.
    number: u32,
    /// Index of the family's next sample in `lines`.
    next: u32,
}

/// Marks the end of a family's list of samples.
const END: u32 = u32::MAX;

impl<'t> Families<'t> {
    /// Parses a text and checks it against limits.
    ///
    /// # Errors
    ///
    /// The first mistake in the text, with its line and column: a line that is
    /// not of the format, metadata given twice or too late, a series given
    /// twice, or a limit that is exceeded.
    pub fn parse(
        text: &'t str,
        format: InputFormat,
        limits: &TextLimits,
    ) -> Result<Self, ParseError> {
        Self::parse_with(text, format, limits, &RandomState::new())
    }

    /// Like [`parse`](Self::parse), with the hasher for series identity. It
    /// should be randomly keyed if senders are not trusted.
    ///
    /// # Errors
    ///
    /// As for [`parse`](Self::parse).
    pub fn parse_with(
        text: &'t str,
        format: InputFormat,
        limits: &TextLimits,
        hash: &impl BuildHasher,
    ) -> Result<Self, ParseError> {
        let mut parser = Parser::new(text, format);
        let mut collector = FamilyCollector::new(text, format, limits, hash)?;
        let mut labels = Labels::new();
        while let Some(entry) = parser.next(&mut labels)? {
            collector
                .add(&entry, &mut labels, &parser)
                .map_err(|error| parser.error(&error))?;
        }
        Ok(collector.families)
    }

    /// The families that have samples. A family with metadata alone is left
    /// out.
    pub fn iter(&self) -> impl Iterator<Item = FamilyView<'_, 't>> {
        self.entries
            .iter()
            .filter(|entry| entry.samples > 0)
            .map(|entry| FamilyView {
                families: self,
                entry,
            })
    }

    /// Why the text cannot be passed on verbatim although its families can be
    /// read: Prometheus' scrape parser or `expfmt` would refuse it.
    pub fn verbatim_problem(&self) -> Option<&ParseError> {
        self.verbatim_problem.as_ref()
    }

    /// Number of samples in all families.
    pub fn samples(&self) -> usize {
        self.lines.len()
    }
}

/// One family of a text.
#[derive(Debug, Clone, Copy)]
pub struct FamilyView<'f, 't> {
    families: &'f Families<'t>,
    entry: &'f FamilyEntry<'t>,
}

impl<'f, 't> FamilyView<'f, 't> {
    /// The name as written: escaped, without quotes. In OpenMetrics, the name
    /// of a counter lacks the `_total` of its samples.
    pub fn name(&self) -> &'t str {
        self.entry.name
    }

    /// The kind; [`Kind::Untyped`] if the text gives none.
    pub fn kind(&self) -> Kind {
        self.entry.kind.unwrap_or(Kind::Untyped)
    }

    /// The help, escaped. It has no leading blanks, since text 0.0.4 cannot express them. An
    /// empty help is none.
    pub fn help(&self) -> Option<&'t str> {
        let help = self.entry.help?.trim_start_matches([' ', '\t']);
        (!help.is_empty()).then_some(help)
    }

    /// The unit, escaped. An empty unit is none.
    pub fn unit(&self) -> Option<&'t str> {
        self.entry.unit.filter(|unit| !unit.is_empty())
    }

    /// Number of samples.
    pub fn sample_count(&self) -> usize {
        self.entry.samples
    }

    /// The samples of the family.
    pub fn samples(&self) -> Samples<'f, 't> {
        Samples {
            families: self.families,
            next: self.entry.first,
            number: 0,
        }
    }
}

/// A family's samples, in the order of the text.
#[derive(Debug, Clone)]
pub struct Samples<'f, 't> {
    families: &'f Families<'t>,
    next: u32,
    number: u32,
}

impl<'t> Samples<'_, 't> {
    /// The next sample. Its labels are put into `labels` as written.
    pub fn next(&mut self, labels: &mut Labels<'t>) -> Option<Sample<'t>> {
        let families = self.families;
        let line = families.lines.get(self.next as usize)?;
        self.next = line.next;
        self.number = line.number;
        parse::sample(families.raw(line), families.format, labels)
    }

    /// Line number of the last sample returned, from 1.
    pub fn line(&self) -> usize {
        self.number as usize
    }
}

impl<'t> Families<'t> {
    fn raw(&self, line: &SampleLine) -> &'t str {
        let start = line.start as usize;
        &self.text[start..start + line.length as usize]
    }
}

/// The role of a sample in its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SampleRole {
    /// A sample named like the family, or a bucket.
    Value,
    /// A `_count`.
    Count,
    /// A sum, or a sample whose value readers do not check.
    Other,
}

/// Families while the text is parsed.
#[derive(Debug)]
struct FamilyCollector<'t, 'a, H> {
    families: Families<'t>,
    by_name: HashMap<&'t str, usize>,
    /// The name of the previous sample and what it resolved to, unless metadata
    /// of a family came after it.
    last: Option<(&'t str, usize, SampleRole)>,
    seen: PointSet<'a, H>,
    limits: &'a TextLimits,
}

impl<'t, 'a, H: BuildHasher> FamilyCollector<'t, 'a, H> {
    /// A collector without families. The text must be shorter than 4 GiB.
    fn new(
        text: &'t str,
        format: InputFormat,
        limits: &'a TextLimits,
        hash: &'a H,
    ) -> Result<Self, ParseError> {
        if u32::try_from(text.len()).is_err() {
            let limit = exceeded(0, LimitKind::TextBytes, u32::MAX as usize);
            return Err(Parser::new(text, format).error(&limit));
        }
        Ok(FamilyCollector {
            families: Families {
                text,
                format,
                entries: Vec::new(),
                lines: Vec::new(),
                verbatim_problem: None,
            },
            by_name: HashMap::new(),
            last: None,
            seen: PointSet::new(hash),
            limits,
        })
    }

    fn add(
        &mut self,
        entry: &ParsedLine<'t>,
        labels: &mut Labels<'t>,
        parser: &Parser<'t>,
    ) -> Result<(), Box<LineError>> {
        match *entry {
            ParsedLine::Sample(ref sample) => return self.sample(sample, labels, parser),
            ParsedLine::Eof => {}
            ParsedLine::Help { name, help } => {
                // In text 0.0.4 an empty help counts as none, however often it
                // comes.
                let counts = self.families.format == InputFormat::OpenMetrics || !help.is_empty();
                let entry = self.entry_of(name);
                if counts && entry.help.replace(help).is_some() {
                    let family = entry.name.to_owned();
                    return Err(at_start(ParseProblem::SecondHelp { family }));
                }
            }
            ParsedLine::Type { name, kind } => {
                let entry = self.entry_of(name);
                if entry.kind.is_some() {
                    let family = entry.name.to_owned();
                    return Err(at_start(if entry.samples > 0 {
                        ParseProblem::TypeAfterSamples { family }
                    } else {
                        ParseProblem::SecondType { family }
                    }));
                }
                entry.kind = Some(kind);
            }
            ParsedLine::Unit { name, unit } => {
                let entry = self.entry_of(name);
                if entry.unit.replace(unit).is_some() {
                    let family = entry.name.to_owned();
                    return Err(at_start(ParseProblem::SecondUnit { family }));
                }
            }
            ParsedLine::Incomplete { expected, at } => {
                let verbatim_problem = &mut self.families.verbatim_problem;
                verbatim_problem.get_or_insert_with(|| parser.incomplete(expected, at));
            }
        }
        self.last = None;
        self.count_families()
    }

    /// Checks the limit on families.
    fn count_families(&self) -> Result<(), Box<LineError>> {
        let most = self.limits.families;
        if self.families.entries.len() > most {
            return Err(exceeded(0, LimitKind::FamiliesPerText, most));
        }
        Ok(())
    }

    /// The family that a line of metadata describes.
    fn entry_of(&mut self, name: &'t str) -> &mut FamilyEntry<'t> {
        let (family, _) = self.family(name);
        &mut self.families.entries[family]
    }

    /// The family of that name, or the family that the name is a component of:
    /// `m_sum` belongs to a summary `m`, unless there is a family `m_sum`.
    fn family(&mut self, name: &'t str) -> (usize, SampleRole) {
        if let Some(family) = self.by_name.get(name) {
            return (*family, SampleRole::Value);
        }
        let whole = name.rfind('_').filter(|at| *at > 0).and_then(|at| {
            let (base, suffix) = name.split_at(at);
            let family = *self.by_name.get(base)?;
            let kind = self.families.entries[family].kind?;
            Some((family, role_of(self.families.format, kind, suffix)?))
        });
        whole.unwrap_or_else(|| {
            let family = self.families.entries.len();
            self.families.entries.push(FamilyEntry {
                name,
                kind: None,
                help: None,
                unit: None,
                samples: 0,
                first: END,
                last: END,
            });
            self.by_name.insert(name, family);
            (family, SampleRole::Value)
        })
    }

    fn sample(
        &mut self,
        sample: &Sample<'t>,
        labels: &mut Labels<'t>,
        parser: &Parser<'t>,
    ) -> Result<(), Box<LineError>> {
        self.limits.check(sample, labels)?;
        let (family, role) = match self.last {
            Some((name, family, role)) if name == sample.name => (family, role),
            _ => {
                let resolved = self.family(sample.name);
                self.count_families()?;
                resolved
            }
        };
        self.last = Some((sample.name, family, role));
        let entry = &mut self.families.entries[family];
        let kind = *entry.kind.get_or_insert(Kind::Untyped);
        check_component(kind, role, sample, labels)?;

        labels.sort();
        let lines = &mut self.families.lines;
        let index = lines.len();
        if index >= self.limits.samples {
            return Err(exceeded(0, LimitKind::SamplesPerText, self.limits.samples));
        }
        // A text below 4 GiB has fewer lines than 32 bits count.
        let index = index as u32;
        lines.push(SampleLine {
            start: parser.line_start() as u32,
            length: sample.raw.len() as u32,
            number: parser.line() as u32,
            next: END,
        });
        match entry.last {
            END => entry.first = index,
            last => lines[last as usize].next = index,
        }
        entry.last = index;
        entry.samples += 1;

        let families = &self.families;
        let time = |sample: &Sample<'_>| sample.timestamp.map(|it| it.milliseconds);
        let point = (sample.name, &*labels, time(sample));
        let before = self.seen.insert(point, index, |other| {
            let mut labels = Labels::new();
            let raw = families.raw(&families.lines[other as usize]);
            let sample = parse::sample(raw, families.format, &mut labels);
            labels.sort();
            let name = sample.map_or("", |sample| sample.name);
            (name, labels, sample.as_ref().and_then(time))
        });
        match before {
            None => Ok(()),
            Some(first) => Err(at_start(ParseProblem::DuplicateSeries {
                first_line: self.families.lines[first as usize].number as usize,
            })),
        }
    }
}

/// The role of a sample with that suffix in a family of that kind, if it
/// belongs to the family.
pub(super) fn role_of(format: InputFormat, kind: Kind, suffix: &str) -> Option<SampleRole> {
    let open_metrics = format == InputFormat::OpenMetrics;
    match (kind, suffix) {
        (Kind::Histogram, "_bucket") => Some(SampleRole::Value),
        (Kind::Histogram | Kind::Summary, "_count") => Some(SampleRole::Count),
        (Kind::Histogram | Kind::Summary, "_sum") => Some(SampleRole::Other),
        (Kind::Counter | Kind::Histogram | Kind::Summary, "_created")
        | (Kind::Counter, "_total")
        | (Kind::Info, "_info")
        | (Kind::GaugeHistogram, "_bucket" | "_gcount" | "_gsum")
            if open_metrics =>
        {
            Some(SampleRole::Other)
        }
        _ => None,
    }
}

/// Whether a sample named like a family of that kind with `suffix` belongs to the family, such
/// as `m_sum` to a summary `m`.
pub fn is_component(format: InputFormat, kind: Kind, suffix: &str) -> bool {
    role_of(format, kind, suffix).is_some()
}

/// The names by which a family is known, unescaped.
#[derive(Debug, Clone, Copy)]
pub struct FamilyNames<'n> {
    name: &'n str,
    /// What text 0.0.4 appends to the name.
    text_suffix: &'static str,
}

impl<'n> FamilyNames<'n> {
    /// The names of a family of a kind, if known, in a text of a format. A counter `m` of
    /// OpenMetrics is `m_total` in text 0.0.4, and an info `m` is `m_info`.
    pub fn new(format: InputFormat, kind: Option<Kind>, name: &'n str) -> Self {
        let text_suffix = match (format, kind) {
            (InputFormat::OpenMetrics, Some(Kind::Counter)) => "_total",
            (InputFormat::OpenMetrics, Some(Kind::Info)) => "_info",
            _ => "",
        };
        FamilyNames { name, text_suffix }
    }

    /// The names after a sample was renamed. If it keeps its suffix, the rest is the new name of its
    /// family; otherwise it no longer belongs to the family.
    pub fn after_renaming<'r>(&self, sample: &str, new: &'r str) -> FamilyNames<'r> {
        let suffix = sample.strip_prefix(self.name).unwrap_or_default();
        let whole = new.strip_suffix(suffix).filter(|whole| !whole.is_empty());
        match whole {
            Some(name) => FamilyNames {
                name,
                text_suffix: self.text_suffix,
            },
            None => new.into(),
        }
    }

    /// Whether the family has a name that meets a condition.
    pub fn any(&self, is_met: impl Fn(&str) -> bool) -> bool {
        let suffix = self.text_suffix;
        is_met(self.name) || !suffix.is_empty() && is_met(&[self.name, suffix].concat())
    }
}

/// A family with the same name in each format.
impl<'n> From<&'n str> for FamilyNames<'n> {
    fn from(name: &'n str) -> Self {
        FamilyNames::new(InputFormat::Text, None, name)
    }
}

/// Checks what Prometheus requires of each sample of a histogram or summary.
fn check_component(
    kind: Kind,
    role: SampleRole,
    sample: &Sample<'_>,
    labels: &Labels<'_>,
) -> Result<(), Box<LineError>> {
    let Some((label, expected)) = component_label(kind) else {
        return Ok(());
    };
    let written = labels.value(label);
    let (at, expected, found) = match misfit(kind, role, written, sample.value) {
        None => return Ok(()),
        Some(Misfit::Bound(written)) => (written, expected, format!("{written:?}")),
        Some(Misfit::Count) => (
            sample.value_text,
            "a histogram's count of 0 or more",
            sample.value_text.to_owned(),
        ),
    };
    Err(LineError::new(
        parse::offset(sample.raw, at),
        ParseProblem::unexpected(expected, found),
    ))
}

/// The label that tells the components of a histogram or summary apart, and
/// what it must hold.
pub(super) fn component_label(kind: Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::Histogram => Some(("le", "a number in a histogram's le")),
        Kind::Summary => Some(("quantile", "a number in a summary's quantile")),
        _ => None,
    }
}

/// Why a sample cannot be a component of a histogram or summary.
#[derive(Debug)]
pub(super) enum Misfit<'t> {
    /// The label `le` or `quantile` is not a number.
    Bound(&'t str),
    /// A count is below zero.
    Count,
}

/// Checks one sample of a histogram or summary. `written` is the value of the
/// label from [`component_label`].
pub(super) fn misfit<'t>(
    kind: Kind,
    role: SampleRole,
    written: Option<&'t str>,
    value: f64,
) -> Option<Misfit<'t>> {
    let mut bucket = false;
    if let Some(written) = written {
        let Some(bound) = parse::float(written) else {
            return Some(Misfit::Bound(written));
        };
        bucket = role == SampleRole::Value && !bound.is_nan();
    }
    let counts = kind == Kind::Histogram && (bucket || role == SampleRole::Count);
    (counts && value < 0.0).then_some(Misfit::Count)
}

fn at_start(problem: ParseProblem) -> Box<LineError> {
    LineError::new(0, problem)
}
