//! One sender's text, family by family.
//!
//! A text is read once, which finds everything that is wrong with it. What is
//! kept of a sample is where its line stands; whoever wants its labels reads
//! that line again, which costs less than keeping them. The cost of it all is
//! linear in the text, whatever the text is.

mod limits;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use self::limits::passed;
use self::seen::Seen;
use super::Kind;
use super::parse::{
    self, InputFormat, Labels, LimitKind, LineError, ParseError, ParseProblem, ParsedLine, Parser,
    Sample,
};

pub use self::limits::TextLimits;

/// The families of one text, in the order in which the text first names them.
#[derive(Debug)]
pub struct Families<'t> {
    text: &'t str,
    format: InputFormat,
    heads: Vec<Head<'t>>,
    lines: Vec<Line>,
    unfit: Option<ParseError>,
}

/// What a family is, and the first and last of its samples in `lines`.
#[derive(Debug)]
struct Head<'t> {
    name: &'t str,
    kind: Option<Kind>,
    /// `None` until a line says so; a line may say that it is empty.
    help: Option<&'t str>,
    unit: Option<&'t str>,
    samples: usize,
    first: u32,
    last: u32,
}

/// Where a sample stands. Texts are shorter than 4 GiB, so 32 bits reach.
#[derive(Debug)]
struct Line {
    start: u32,
    length: u32,
    /// From 1.
    number: u32,
    /// The family's next sample, in `lines`.
    next: u32,
}

/// The end of a family's samples.
const END: u32 = u32::MAX;

impl<'t> Families<'t> {
    pub fn parse(
        text: &'t str,
        format: InputFormat,
        limits: &TextLimits,
    ) -> Result<Self, ParseError> {
        Self::parse_with(text, format, limits, &RandomState::new())
    }

    /// With a hash of the caller's choice, for finding series again. It should
    /// be keyed at random where senders are not to be trusted.
    pub fn parse_with(
        text: &'t str,
        format: InputFormat,
        limits: &TextLimits,
        hash: &impl BuildHasher,
    ) -> Result<Self, ParseError> {
        let mut parser = Parser::new(text, format);
        if u32::try_from(text.len()).is_err() {
            return Err(parser.error(&passed(0, LimitKind::TextBytes, u32::MAX as usize)));
        }
        let mut grouping = Grouping {
            families: Families {
                text,
                format,
                heads: Vec::new(),
                lines: Vec::new(),
                unfit: None,
            },
            by_name: HashMap::new(),
            last: None,
            seen: Seen::new(hash),
            limits,
        };
        let mut labels = Labels::new();
        while let Some(entry) = parser.next(&mut labels)? {
            grouping
                .take(&entry, &mut labels, &parser)
                .map_err(|fault| parser.error(&fault))?;
        }
        Ok(grouping.families)
    }

    /// Families that have samples: a head alone makes none.
    pub fn iter(&self) -> impl Iterator<Item = FamilyView<'_, 't>> {
        self.heads
            .iter()
            .filter(|head| head.samples > 0)
            .map(|head| FamilyView {
                families: self,
                head,
            })
    }

    /// Why the text cannot be passed on as it is, though its families can be
    /// read: one of the reference's two readers would refuse it.
    pub fn verbatim_problem(&self) -> Option<&ParseError> {
        self.unfit.as_ref()
    }

    /// Samples in all families.
    pub fn samples(&self) -> usize {
        self.lines.len()
    }
}

/// One family of a text.
#[derive(Debug, Clone, Copy)]
pub struct FamilyView<'f, 't> {
    families: &'f Families<'t>,
    head: &'f Head<'t>,
}

impl<'f, 't> FamilyView<'f, 't> {
    /// As written, without the quotes but still escaped. In OpenMetrics, the
    /// name of a counter lacks its samples' `_total`.
    pub fn name(&self) -> &'t str {
        self.head.name
    }

    /// [`Kind::Untyped`] where the text tells none.
    pub fn kind(&self) -> Kind {
        self.head.kind.unwrap_or(Kind::Untyped)
    }

    /// Still escaped. None that is empty.
    pub fn help(&self) -> Option<&'t str> {
        self.head.help.filter(|help| !help.is_empty())
    }

    pub fn unit(&self) -> Option<&'t str> {
        self.head.unit.filter(|unit| !unit.is_empty())
    }

    pub fn sample_count(&self) -> usize {
        self.head.samples
    }

    pub fn samples(&self) -> Samples<'f, 't> {
        Samples {
            families: self.families,
            next: self.head.first,
            number: 0,
        }
    }
}

/// A family's samples, in the order in which the text has them.
#[derive(Debug, Clone)]
pub struct Samples<'f, 't> {
    families: &'f Families<'t>,
    next: u32,
    number: u32,
}

impl<'t> Samples<'_, 't> {
    /// The next sample, its labels put into `labels` as they were written.
    pub fn next(&mut self, labels: &mut Labels<'t>) -> Option<Sample<'t>> {
        let families = self.families;
        let line = families.lines.get(self.next as usize)?;
        self.next = line.next;
        self.number = line.number;
        parse::sample(families.raw(line), families.format, labels)
    }

    /// The line of the sample that came last, from 1.
    pub fn line(&self) -> usize {
        self.number as usize
    }
}

impl<'t> Families<'t> {
    fn raw(&self, line: &Line) -> &'t str {
        let start = line.start as usize;
        &self.text[start..start + line.length as usize]
    }
}

/// What a sample is to its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Named like the family, or a bucket.
    Value,
    Count,
    /// A sum, and what readers do not look into.
    Other,
}

/// The families, while they grow.
#[derive(Debug)]
struct Grouping<'t, 'a, H> {
    families: Families<'t>,
    by_name: HashMap<&'t str, usize>,
    /// The name of the sample before, and what it resolved to. No other
    /// family's head came between.
    last: Option<(&'t str, usize, Part)>,
    seen: Seen<'a, H>,
    limits: &'a TextLimits,
}

impl<'t, H: BuildHasher> Grouping<'t, '_, H> {
    fn take(
        &mut self,
        entry: &ParsedLine<'t>,
        labels: &mut Labels<'t>,
        parser: &Parser<'t>,
    ) -> Result<(), Box<LineError>> {
        match *entry {
            ParsedLine::Sample(ref sample) => return self.sample(sample, labels, parser),
            ParsedLine::Eof => {}
            ParsedLine::Help { name, help } => {
                // In text, an empty help is none, however often it comes.
                let counts = self.families.format == InputFormat::OpenMetrics || !help.is_empty();
                let head = self.head(name);
                if counts && head.help.replace(help).is_some() {
                    let family = head.name.to_owned();
                    return Err(at_start(ParseProblem::SecondHelp { family }));
                }
            }
            ParsedLine::Type { name, kind } => {
                let head = self.head(name);
                if head.kind.is_some() {
                    let family = head.name.to_owned();
                    return Err(at_start(if head.samples > 0 {
                        ParseProblem::TypeAfterSamples { family }
                    } else {
                        ParseProblem::SecondType { family }
                    }));
                }
                head.kind = Some(kind);
            }
            ParsedLine::Unit { name, unit } => {
                let head = self.head(name);
                if head.unit.replace(unit).is_some() {
                    let family = head.name.to_owned();
                    return Err(at_start(ParseProblem::SecondUnit { family }));
                }
            }
            ParsedLine::Incomplete { expected, at } => {
                let unfit = &mut self.families.unfit;
                unfit.get_or_insert_with(|| parser.incomplete(expected, at));
            }
        }
        self.last = None;
        self.count_families()
    }

    /// Whether the family that was named last is one too many.
    fn count_families(&self) -> Result<(), Box<LineError>> {
        let most = self.limits.families;
        if self.families.heads.len() > most {
            return Err(passed(0, LimitKind::FamiliesPerText, most));
        }
        Ok(())
    }

    /// The family that a head line is of.
    fn head(&mut self, name: &'t str) -> &mut Head<'t> {
        let (family, _) = self.family(name);
        &mut self.families.heads[family]
    }

    /// The family of that name, or the one it is a part of: `m_sum` belongs
    /// to a summary `m`, unless there is an `m_sum` already.
    fn family(&mut self, name: &'t str) -> (usize, Part) {
        if let Some(family) = self.by_name.get(name) {
            return (*family, Part::Value);
        }
        let whole = name.rfind('_').filter(|at| *at > 0).and_then(|at| {
            let (base, suffix) = name.split_at(at);
            let family = *self.by_name.get(base)?;
            let kind = self.families.heads[family].kind?;
            Some((family, part(self.families.format, kind, suffix)?))
        });
        whole.unwrap_or_else(|| {
            let family = self.families.heads.len();
            self.families.heads.push(Head {
                name,
                kind: None,
                help: None,
                unit: None,
                samples: 0,
                first: END,
                last: END,
            });
            self.by_name.insert(name, family);
            (family, Part::Value)
        })
    }

    fn sample(
        &mut self,
        sample: &Sample<'t>,
        labels: &mut Labels<'t>,
        parser: &Parser<'t>,
    ) -> Result<(), Box<LineError>> {
        self.limits.hold(sample, labels)?;
        let (family, part) = match self.last {
            Some((name, family, part)) if name == sample.name => (family, part),
            _ => {
                let resolved = self.family(sample.name);
                self.count_families()?;
                resolved
            }
        };
        self.last = Some((sample.name, family, part));
        let head = &mut self.families.heads[family];
        let kind = *head.kind.get_or_insert(Kind::Untyped);
        fits(kind, part, sample, labels)?;

        labels.sort();
        let lines = &mut self.families.lines;
        let index = lines.len();
        if index >= self.limits.samples {
            return Err(passed(0, LimitKind::SamplesPerText, self.limits.samples));
        }
        // A text below 4 GiB has fewer lines than 32 bits count.
        let index = index as u32;
        lines.push(Line {
            start: parser.line_start() as u32,
            length: sample.raw.len() as u32,
            number: parser.line() as u32,
            next: END,
        });
        match head.last {
            END => head.first = index,
            last => lines[last as usize].next = index,
        }
        head.last = index;
        head.samples += 1;

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

/// What a sample of that suffix is to a family of that kind, if anything.
pub(super) fn part(format: InputFormat, kind: Kind, suffix: &str) -> Option<Part> {
    let open_metrics = format == InputFormat::OpenMetrics;
    match (kind, suffix) {
        (Kind::Histogram, "_bucket") => Some(Part::Value),
        (Kind::Histogram | Kind::Summary, "_count") => Some(Part::Count),
        (Kind::Histogram | Kind::Summary, "_sum") => Some(Part::Other),
        (Kind::Counter | Kind::Histogram | Kind::Summary, "_created")
        | (Kind::Counter, "_total")
        | (Kind::Info, "_info")
        | (Kind::GaugeHistogram, "_bucket" | "_gcount" | "_gsum")
            if open_metrics =>
        {
            Some(Part::Other)
        }
        _ => None,
    }
}

/// What the reference wants of histograms and summaries, sample by sample.
fn fits(
    kind: Kind,
    part: Part,
    sample: &Sample<'_>,
    labels: &Labels<'_>,
) -> Result<(), Box<LineError>> {
    let Some((label, expected)) = parts_label(kind) else {
        return Ok(());
    };
    let written = labels.value(label);
    let (at, expected, found) = match misfit(kind, part, written, sample.value) {
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

/// The label that tells the parts of such a family apart, and what it holds.
pub(super) fn parts_label(kind: Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::Histogram => Some(("le", "a number in a histogram's le")),
        Kind::Summary => Some(("quantile", "a number in a summary's quantile")),
        _ => None,
    }
}

/// Why a sample can be no part of a histogram or summary.
#[derive(Debug)]
pub(super) enum Misfit<'t> {
    /// What is written in the label that tells parts apart is no number.
    Bound(&'t str),
    /// It counts, and is below zero.
    Count,
}

/// `written` is what stands in the label of [`parts_label`].
pub(super) fn misfit<'t>(
    kind: Kind,
    part: Part,
    written: Option<&'t str>,
    value: f64,
) -> Option<Misfit<'t>> {
    let mut bucket = false;
    if let Some(written) = written {
        let Some(bound) = parse::float(written) else {
            return Some(Misfit::Bound(written));
        };
        bucket = part == Part::Value && !bound.is_nan();
    }
    let counts = kind == Kind::Histogram && (bucket || part == Part::Count);
    (counts && value < 0.0).then_some(Misfit::Count)
}

fn at_start(reason: ParseProblem) -> Box<LineError> {
    LineError::new(0, reason)
}
