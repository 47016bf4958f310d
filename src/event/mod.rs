//! Events: messages that other systems keep, such as log entries and documents.
//!
//! They are metrics-server's operations `event`, `index` and `raw`. An input makes a
//! [`Draft`] of a message, stamps it with an identity and the time of its arrival, and
//! hands it to sinks as a [`StoredEvent`]: one block of bytes, which waits in a queue and
//! is the same in memory and on a disk. A sink decodes it into an [`Event`].

mod json;
mod stamp;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use json::write_string;
pub use stamp::{Stamp, Stamper};

/// What kind of system an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventKind {
    /// A log entry, as Loki keeps it.
    Event,
    /// A document, as OpenSearch keeps it.
    Index,
    /// A value, as a table of Cassandra or ScyllaDB keeps it.
    Raw,
}

impl EventKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [EventKind; 3] = [EventKind::Event, EventKind::Index, EventKind::Raw];

    /// The value of `op` in a message.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Event => "event",
            EventKind::Index => "index",
            EventKind::Raw => "raw",
        }
    }

    /// The kind with that value of `op`.
    pub fn of(op: &str) -> Option<Self> {
        EventKind::ALL.into_iter().find(|kind| kind.as_str() == op)
    }
}

/// An event as a sink reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'e> {
    /// Which event it is, and when it arrived.
    pub stamp: Stamp,
    /// What its sender wrote, with the labels that were added.
    pub content: Content<'e>,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content<'e> {
    /// The kind.
    pub kind: EventKind,
    /// The name of the metric; it can be empty.
    pub name: &'e str,
    /// Labels, sorted by name, without duplicates. Names can have any characters.
    #[serde(borrow)]
    pub labels: Vec<(&'e str, &'e str)>,
    /// The help; empty for none.
    pub help: &'e str,
    /// The name of an index, without a date; empty for none.
    pub index: &'e str,
    /// The value.
    pub value: f64,
    /// The time that the sender gave, in nanoseconds since 1970.
    pub timestamp: Option<i64>,
    /// Fields for the buckets of a histogram, which sinks pass on.
    pub buckets: Option<Buckets>,
}

/// The fields for buckets of a message; zero or empty for a missing one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the message")]
pub struct Buckets {
    pub count: i64,
    pub custom: Vec<f64>,
    pub width: f64,
    pub factor: f64,
    pub min: f64,
    pub max: f64,
    pub start: f64,
}

impl Event<'_> {
    /// The time of the event, in nanoseconds since 1970: the sender's, or else that of its
    /// arrival.
    pub fn time(&self) -> i64 {
        self.content.timestamp.unwrap_or(self.stamp.arrived)
    }
}

/// Approximate bytes of a content beside its texts: value, time, lengths.
const NUMBERS: usize = 32;

/// An encoded event without its stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The kind.
    pub kind: EventKind,
    /// Room for the stamp, and the content.
    bytes: Vec<u8>,
}

impl Draft {
    /// Encodes the content of an event.
    pub fn new(content: &Content<'_>) -> Self {
        let labels = content.labels.iter();
        let labels: usize = labels
            .map(|(name, value)| name.len() + value.len() + 2)
            .sum();
        let texts = content.name.len() + content.help.len() + content.index.len() + labels;
        let mut bytes = Vec::with_capacity(Stamp::SIZE + texts + NUMBERS);
        bytes.resize(Stamp::SIZE, 0);
        // Writing to memory fails only for sequences of unknown length.
        let bytes = postcard::to_extend(content, bytes).unwrap_or_default();
        Draft {
            kind: content.kind,
            bytes,
        }
    }

    /// What the event says.
    pub fn content(&self) -> Option<Content<'_>> {
        postcard::from_bytes(self.bytes.get(Stamp::SIZE..)?).ok()
    }

    /// Completes the event.
    pub fn stamp(mut self, stamp: Stamp) -> StoredEvent {
        if let Some(room) = self.bytes.first_chunk_mut() {
            *room = stamp.to_bytes();
        }
        // It may wait for long, so it keeps no spare capacity.
        StoredEvent(Bytes::from(self.bytes.into_boxed_slice()))
    }
}

/// An encoded event. Clones share its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent(Bytes);

impl StoredEvent {
    /// The event with these bytes, which [`StoredEvent::bytes`] returned.
    pub fn from_bytes(bytes: Bytes) -> Self {
        StoredEvent(bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Reads the event. `None` if the bytes are not those of an event.
    pub fn decode(&self) -> Option<Event<'_>> {
        let (stamp, content) = self.0.split_first_chunk()?;
        Some(Event {
            stamp: Stamp::from_bytes(*stamp),
            content: postcard::from_bytes(content).ok()?,
        })
    }
}
