//! A family as one sender exposes it: the unit in which texts are merged.

use std::sync::Arc;

use bytes::Bytes;

use super::normal::is_plain_name;
use super::{Kind, Text};

/// What a producer exposes, in the form it is kept in.
#[derive(Debug, Clone)]
pub enum Content {
    /// Passed through as it came.
    Verbatim(Text),
    /// Taken apart, each family once.
    Families(Vec<FamilyText>),
}

/// The samples of one family, ready to be exposed.
#[derive(Debug, Clone)]
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
    pub series: Vec<u64>,
}

impl FamilyText {
    /// The lines that go before the samples of all who expose the family.
    pub fn head(&self) -> Bytes {
        let mut head = String::with_capacity(64);
        let quote = if is_plain_name(&self.name) { "" } else { "\"" };
        if let Some(help) = &self.help {
            for piece in ["# HELP ", quote, &*self.name, quote, " ", help, "\n"] {
                head.push_str(piece);
            }
        }
        let kind = self.kind.as_str();
        for piece in ["# TYPE ", quote, &*self.name, quote, " ", kind, "\n"] {
            head.push_str(piece);
        }
        Bytes::from(head)
    }

    /// Name and labels of the sample in that place.
    pub fn series_text(&self, place: usize) -> String {
        let text = String::from_utf8_lossy(self.samples.bytes());
        let line = text.lines().nth(place).unwrap_or_default();
        let end = line
            .rfind('}')
            .map_or_else(|| line.find(' '), |brace| Some(brace + 1));
        line[..end.unwrap_or(line.len())].to_owned()
    }
}
