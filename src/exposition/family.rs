//! A family as one producer exposes it: the unit in which texts are merged.

use std::sync::Arc;

use bytes::Bytes;

use super::canonical::is_plain_name;
use super::series::series_of;
use super::{Kind, SeriesHashes, Text};

/// What a producer exposes, as it is stored.
#[derive(Debug, Clone)]
pub enum Content {
    /// A text that is passed through unchanged.
    Verbatim(Text),
    /// Parsed families, each once.
    Families(Vec<FamilyText>),
}

/// One family of one producer in canonical text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyText {
    /// The name, escaped, without quotes.
    pub name: Arc<str>,
    /// The kind. Info and state sets are gauges here; see
    /// [`OpenMetricsHead::kind`].
    pub kind: Kind,
    /// The help, escaped.
    pub help: Option<String>,
    /// Line on which the family begins in the sender's text, from 1; 0 if it
    /// was not read from text.
    pub line: usize,
    /// One line for each sample. The points of one series at several times
    /// follow one another.
    pub samples: Text,
    /// A hash of each series' name and labels, in the order of the lines.
    pub series: SeriesHashes,
    /// Native histograms, which text cannot show. Most families have none.
    pub natives: Vec<NativeHistogram>,
    /// Metadata that only OpenMetrics has. Most families have none.
    pub open: Option<Box<OpenMetricsHead>>,
}

/// Metadata that only OpenMetrics has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenMetricsHead {
    /// The kind in OpenMetrics, if text has another.
    pub kind: Option<Kind>,
    /// The unit, escaped.
    pub unit: Option<Box<str>>,
}

impl OpenMetricsHead {
    /// The metadata of a family that two producers expose: the kind if both
    /// give the same, and the unit that either gives, since the family's name
    /// ends in it.
    pub fn shared(mine: Option<&Self>, other: Option<&Self>) -> Option<Box<Self>> {
        let kind = |head: Option<&Self>| head.and_then(|head| head.kind);
        let unit = |head: Option<&Self>| head.and_then(|head| head.unit.clone());
        let shared = OpenMetricsHead {
            kind: kind(mine).filter(|mine| kind(other) == Some(*mine)),
            unit: unit(mine).or_else(|| unit(other)),
        };
        (shared != OpenMetricsHead::default()).then(|| Box::new(shared))
    }
}

/// Prefix of the line after a family's `TYPE` that holds what only OpenMetrics
/// has: the keyword of the kind and the unit. It is a comment of text 0.0.4 and
/// is removed from every output.
pub(super) const OPEN_METRICS_LINE: &str = "# \"OpenMetrics\" ";

/// A native histogram. The samples hold its classic part; the whole of it is
/// for readers that take protobuf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeHistogram {
    /// The labels of its samples without `le`: sorted, escaped, without braces,
    /// such as `a="b",c="d"`.
    pub labels: Box<str>,
    /// An encoded message `io.prometheus.client.Histogram`. Empty for a gauge
    /// histogram without a native part.
    pub histogram: Bytes,
    /// Whether it is a gauge histogram, whose counts may fall. Text shows it
    /// like any other.
    pub gauge: bool,
}

impl FamilyText {
    /// The metadata lines that come before the samples of all producers of the
    /// family.
    pub fn head(&self) -> Bytes {
        let help = self.help.as_deref();
        FamilyText::head_of(&self.name, self.kind, help, self.open.as_deref())
    }

    /// Like [`head`](Self::head), from the family's parts. `help` is escaped.
    pub fn head_of(
        name: &str,
        kind: Kind,
        help: Option<&str>,
        open: Option<&OpenMetricsHead>,
    ) -> Bytes {
        let mut head = String::with_capacity(64);
        let quote = if is_plain_name(name) { "" } else { "\"" };
        if let Some(help) = help {
            for piece in ["# HELP ", quote, name, quote, " ", help, "\n"] {
                head.push_str(piece);
            }
        }
        let word = kind.in_text().as_str();
        for piece in ["# TYPE ", quote, name, quote, " ", word, "\n"] {
            head.push_str(piece);
        }
        let kind_there = open.and_then(|open| open.kind).unwrap_or(kind);
        if open.is_some() || kind_there != kind.in_text() {
            let unit = open.and_then(|open| open.unit.as_deref());
            let word = kind_there.in_open_metrics();
            for piece in [OPEN_METRICS_LINE, word, " ", unit.unwrap_or_default(), "\n"] {
                head.push_str(piece);
            }
        }
        Bytes::from(head)
    }

    /// An upper bound of the length of the head, in bytes.
    pub fn head_len(&self) -> usize {
        // "# TYPE ", two blanks or line feeds, and the same for the help.
        let help = self
            .help
            .as_ref()
            .map_or(0, |help| self.name.len() + help.len() + 9);
        let open = match (&self.open, self.kind) {
            (Some(open), _) => {
                let unit = open.unit.as_ref().map_or(0, |unit| unit.len());
                OPEN_METRICS_LINE.len() + LONGEST_KIND + unit
            }
            (None, Kind::GaugeHistogram) => OPEN_METRICS_LINE.len() + LONGEST_KIND,
            (None, _) => 0,
        };
        self.name.len() + self.kind.in_text().as_str().len() + 9 + help + open
    }

    /// Name and labels of series number `place`, from 0.
    pub fn series_text(&self, place: usize) -> String {
        let mut series: Vec<&str> = self.samples.as_str().lines().map(series_of).collect();
        // The points of one series follow one another.
        series.dedup();
        series.get(place).copied().unwrap_or_default().to_owned()
    }
}

/// An upper bound of the length of a kind's keyword with a blank and a line
/// feed.
const LONGEST_KIND: usize = 16;
