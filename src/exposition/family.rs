//! A family as one sender exposes it: the unit in which texts are merged.

use std::sync::Arc;

use bytes::Bytes;

use super::normal::is_plain_name;
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
    /// A line for each sample.
    pub samples: Text,
    /// A hash for each sample's name and labels, in the order of the lines.
    pub series: SeriesHashes,
    /// What text cannot show of the family's histograms; most have none.
    pub natives: Vec<Native>,
}

/// A native histogram. The samples show its classic part; the whole of it is
/// for readers that take protobuf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Native {
    /// The labels as its samples have them, but for `le`: sorted, escaped,
    /// without braces, such as `a="b",c="d"`.
    pub labels: Box<str>,
    /// A message `io.prometheus.client.Histogram`, encoded.
    pub histogram: Bytes,
}

impl FamilyText {
    /// The lines that go before the samples of all who expose the family.
    pub fn head(&self) -> Bytes {
        FamilyText::head_of(&self.name, self.kind, self.help.as_deref())
    }

    /// The same for a family whose parts are kept apart. The help is escaped.
    pub fn head_of(name: &str, kind: Kind, help: Option<&str>) -> Bytes {
        let mut head = String::with_capacity(64);
        let quote = if is_plain_name(name) { "" } else { "\"" };
        if let Some(help) = help {
            for piece in ["# HELP ", quote, name, quote, " ", help, "\n"] {
                head.push_str(piece);
            }
        }
        let kind = kind.as_str();
        for piece in ["# TYPE ", quote, name, quote, " ", kind, "\n"] {
            head.push_str(piece);
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
        self.name.len() + self.kind.as_str().len() + 9 + help
    }

    /// Name and labels of the sample in that place.
    pub fn series_text(&self, place: usize) -> String {
        let line = self.samples.as_str().lines().nth(place).unwrap_or_default();
        let end = line
            .rfind('}')
            .map_or_else(|| line.find(' '), |brace| Some(brace + 1));
        line[..end.unwrap_or(line.len())].to_owned()
    }
}
