//! What an inspection finds in a verbatim text.

use std::fmt;
use std::sync::Arc;

use crate::exposition::{Kind, ParseError};
use crate::reason::Reason;
use crate::store::sections::holder::Holder;

/// What is wrong with a section's verbatim text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Why the text as a whole is suspect.
    pub suspect: Option<Suspect>,
    /// The families that clash with those of other producers.
    pub conflicts: Vec<Conflict>,
}

/// Why a text is suspect. The message has the line at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspect {
    /// Prometheus, or another reader of the format, would reject the text.
    Text(ParseError),
    /// A family has a name that is reserved for the proxy's own metrics.
    Reserved {
        /// The line of the family, from 1.
        line: usize,
        /// The family's name.
        family: Arc<str>,
    },
    /// The limit of memory is reached, so the text is not compared with others.
    NoMemory {
        /// The limit, in bytes.
        limit: usize,
    },
}

impl Suspect {
    /// The line at fault in the text, from 1.
    pub fn line(&self) -> Option<usize> {
        match self {
            Suspect::Text(fault) => Some(fault.line),
            Suspect::Reserved { line, .. } => Some(*line),
            Suspect::NoMemory { .. } => None,
        }
    }
}

impl fmt::Display for Suspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Suspect::Text(fault) => fault.fmt(f),
            Suspect::Reserved { line, family } => write!(
                f,
                "line {line}: {family} is reserved for the proxy's own metrics (exporter.own_metrics)"
            ),
            Suspect::NoMemory { limit } => write!(
                f,
                "not compared with other texts: the memory for comparisons has reached {limit} \
                 bytes (exposition.max_total)"
            ),
        }
    }
}

/// A family that clashes with a family of another producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The family's name.
    pub family: Arc<str>,
    /// How the two families clash.
    pub clash: Clash,
    /// The producer of the other family.
    pub with: Holder,
}

/// How two families clash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clash {
    /// Both expose this series. Prometheus keeps one of its values.
    Series(String),
    /// The kinds differ.
    Kind {
        /// The kind in this text.
        kind: Kind,
        /// The kind of the other family.
        held: Kind,
    },
    /// One family would expose series of the other's name.
    Name {
        /// The other family's name.
        other: Arc<str>,
    },
}

impl Conflict {
    /// The family whose change may resolve the conflict.
    pub(in crate::store) fn blocker(&self) -> &Arc<str> {
        match &self.clash {
            Clash::Name { other } => other,
            _ => &self.family,
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conflict {
            family,
            clash,
            with,
        } = self;
        match clash {
            Clash::Series(series) => write!(f, "family {family}: {series} is exposed {with} too"),
            Clash::Kind { kind, held } => {
                let (kind, held) = (kind.as_str(), held.as_str());
                write!(
                    f,
                    "family {family} has the kind {kind} here, and {held} {with}"
                )
            }
            Clash::Name { other } => {
                write!(
                    f,
                    "family {family} shares names of series with {other} {with}"
                )
            }
        }
    }
}

impl From<&Suspect> for Reason {
    fn from(suspect: &Suspect) -> Self {
        match suspect {
            Suspect::Text(fault) => Reason::from(fault),
            Suspect::Reserved { .. } => Reason::ReservedName,
            Suspect::NoMemory { .. } => Reason::TooManyBytes,
        }
    }
}
