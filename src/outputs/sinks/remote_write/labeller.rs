//! Which series are sent, and with which labels.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::exposition::{InputFormat, Labels, ParsedLine, Parser, unescape};
use crate::ingest::selector::Selectors;
use crate::relabel::{LabelSet, NAME_LABEL, Rules};

/// Chooses series and changes their labels, as the settings say.
#[derive(Debug, Clone)]
pub struct Labeller {
    /// Selectors of series, one of which must match; empty for all series.
    pub selectors: Vec<Selectors>,
    /// Labels for series that do not have them.
    pub external_labels: BTreeMap<String, String>,
    /// Rules that are applied after the external labels.
    pub relabel: Rules,
}

/// The decision about a series.
#[derive(Debug)]
pub enum Labelled<'l> {
    /// It is sent with these labels, sorted by name.
    Send(LabelSet<'l>),
    /// The settings leave it out.
    Omit,
    /// It cannot be sent, because it has no name.
    Nameless,
}

impl Labeller {
    /// Decides about a series, given as its name and labels in canonical text; `suffix` is the rest
    /// of the line.
    pub fn label<'l>(&self, line: &'l str) -> Labelled<'l> {
        let mut labels = Labels::new();
        let mut parser = Parser::new(line, InputFormat::Text);
        let Ok(Some(ParsedLine::Sample(sample))) = parser.next(&mut labels) else {
            return Labelled::Omit;
        };
        let pairs = labels.iter().map(|label| (label.name, label.value));
        let pairs = [(NAME_LABEL, sample.name)].into_iter().chain(pairs);
        self.relabel(
            pairs
                .map(|(name, value)| (unescape(name), unescape(value)))
                .collect(),
        )
    }

    fn relabel<'l>(&self, mut set: LabelSet<'l>) -> Labelled<'l> {
        let value = |name: &str| Cow::Owned(set.get(name).to_owned());
        let matches = |selector: &Selectors| selector.match_values(value);
        if !self.selectors.is_empty() && !self.selectors.iter().any(matches) {
            return Labelled::Omit;
        }
        for (name, value) in &self.external_labels {
            if set.get(name).is_empty() {
                set.set(name.clone(), value.clone());
            }
        }
        if !self.relabel.apply(&mut set) {
            return Labelled::Omit;
        }
        if set.get(NAME_LABEL).is_empty() {
            return Labelled::Nameless;
        }
        set.sort();
        Labelled::Send(set)
    }
}
