//! A family as one sender exposes it: the unit in which texts are merged.

use std::sync::Arc;

use bytes::Bytes;

use super::canonical::is_plain_name;
use super::series::series_of;
use super::{Kind, SeriesHashes, Text};

/// What a producer exposes, in the form it is kept in.
#[derive(Debug, Clone)]
pub enum Content {
    /// Passed through as it came.
    Verbatim(Text),
    /// Taken apart, each family once.
    Families(Vec<FamilyText>),
}

/// The samples of one family, ready to be exposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyText {
    pub name: Arc<str>,
    pub kind: Kind,
    /// Help as it stands in a text, escaped.
    pub help: Option<String>,
    /// Where the family begins in the sender's text, from 1.
    pub line: usize,
    /// A line for each sample; those of one series at several times follow one
    /// another.
    pub samples: Text,
    /// A hash for each series' name and labels, in the order of the lines.
    pub series: SeriesHashes,
    /// What text cannot show of the family's histograms; most have none.
    pub natives: Vec<NativeHistogram>,
    /// What text has no words for in the family's head; most have none.
    pub open: Option<Box<OpenMetricsHead>>,
}

/// What only OpenMetrics says of a family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenMetricsHead {
    /// The kind there, where text has another.
    pub kind: Option<Kind>,
    /// Still escaped.
    pub unit: Option<Box<str>>,
}

impl OpenMetricsHead {
    /// What a family keeps that another producer shows as well: a kind that both
    /// give it, and the unit of either, which the name ends in.
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

/// Begins the line after a family's `TYPE` that holds what only OpenMetrics
/// says: the word for the kind there, and the unit. It is a comment of text
/// 0.0.4, and shown in no form.
pub(super) const OPEN_HEAD: &str = "# \"OpenMetrics\" ";

/// A native histogram. The samples show its classic part; the whole of it is
/// for readers that take protobuf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeHistogram {
    /// The labels as its samples have them, but for `le`: sorted, escaped,
    /// without braces, such as `a="b",c="d"`.
    pub labels: Box<str>,
    /// A message `io.prometheus.client.Histogram`, encoded. Empty for a gauge
    /// histogram that has no native part.
    pub histogram: Bytes,
    /// Whether it is a gauge histogram, whose counts may fall. In text it is like
    /// any other.
    pub gauge: bool,
}

impl FamilyText {
    /// The lines that go before the samples of all who expose the family.
    pub fn head(&self) -> Bytes {
        let help = self.help.as_deref();
        FamilyText::head_of(&self.name, self.kind, help, self.open.as_deref())
    }

    /// The same for a family whose parts are kept apart. The help is escaped.
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
            for piece in [OPEN_HEAD, word, " ", unit.unwrap_or_default(), "\n"] {
                head.push_str(piece);
            }
        }
        Bytes::from(head)
    }

    /// Bytes of the head.
    pub fn head_len(&self) -> usize {
        // "# TYPE ", two blanks or line feeds, and the same for the help.
        let help = self
            .help
            .as_ref()
            .map_or(0, |help| self.name.len() + help.len() + 9);
        let open = match (&self.open, self.kind) {
            (Some(open), _) => {
                let unit = open.unit.as_ref().map_or(0, |unit| unit.len());
                OPEN_HEAD.len() + LONGEST_KIND + unit
            }
            (None, Kind::GaugeHistogram) => OPEN_HEAD.len() + LONGEST_KIND,
            (None, _) => 0,
        };
        self.name.len() + self.kind.in_text().as_str().len() + 9 + help + open
    }

    /// Name and labels of the sample in that place.
    pub fn series_text(&self, place: usize) -> String {
        let mut series: Vec<&str> = self.samples.as_str().lines().map(series_of).collect();
        // Points of one series follow one another.
        series.dedup();
        series.get(place).copied().unwrap_or_default().to_owned()
    }
}

/// More than the word for any kind takes, with a blank and a line feed.
const LONGEST_KIND: usize = 16;
