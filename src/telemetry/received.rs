//! Messages and bytes that came in, by format and result.

use super::Results;
use crate::reason::Reason;

/// What a connection turned out to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireFormat {
    Capnp,
    Json,
    /// The connection failed before its first bytes could tell.
    Unknown,
}

impl WireFormat {
    const ALL: [WireFormat; 3] = [WireFormat::Capnp, WireFormat::Json, WireFormat::Unknown];

    pub fn as_str(self) -> &'static str {
        match self {
            WireFormat::Capnp => "capnp",
            WireFormat::Json => "json",
            WireFormat::Unknown => "unknown",
        }
    }
}

/// Counts of one receiver.
#[derive(Debug, Default)]
pub struct Received {
    rows: [Row; WireFormat::ALL.len()],
}

#[derive(Debug, Default)]
struct Row {
    messages: Results,
    bytes: Results,
}

/// Format, result and count.
pub type ReceivedCount = (&'static str, &'static str, u64);

impl Received {
    /// Counts messages of `bytes` in all that were stored, or a message of
    /// which so much had arrived when it failed.
    pub fn count(&self, format: WireFormat, result: Result<u64, Reason>, bytes: usize) {
        let row = &self.rows[format as usize];
        let (result, messages) = match result {
            Ok(messages) => (Ok(()), messages),
            Err(reason) => (Err(reason), 1),
        };
        row.messages.count(result, messages);
        row.bytes.count(result, bytes as u64);
    }

    /// Format, result and messages.
    pub fn messages(&self) -> Vec<ReceivedCount> {
        self.counts(|row| &row.messages)
    }

    /// Format, result and bytes.
    pub fn bytes(&self) -> Vec<ReceivedCount> {
        self.counts(|row| &row.bytes)
    }

    /// The counts of a column. A connection of unknown format stores nothing.
    fn counts(&self, column: fn(&Row) -> &Results) -> Vec<ReceivedCount> {
        let rows = WireFormat::ALL.into_iter().zip(&self.rows);
        rows.flat_map(|(format, row)| {
            let counts = column(row).counts().into_iter();
            counts
                .filter(move |(_, count)| format != WireFormat::Unknown || *count > 0)
                .map(move |(result, count)| (format.as_str(), result, count))
        })
        .collect()
    }
}
