//! Counts of messages at the receivers, by format and result.

use super::ResultCounts;
use crate::reason::Reason;

/// The wire format of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireFormat {
    /// Cap'n Proto.
    Capnp,
    /// JSON.
    Json,
    /// The connection failed before its format was known.
    Unknown,
}

impl WireFormat {
    const ALL: [WireFormat; 3] = [WireFormat::Capnp, WireFormat::Json, WireFormat::Unknown];

    /// The format as a label value and in the log.
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
pub struct MessageStats {
    rows: [Row; WireFormat::ALL.len()],
}

#[derive(Debug, Default)]
struct Row {
    messages: ResultCounts,
    bytes: ResultCounts,
}

/// Format, result and count.
pub type MessageCount = (&'static str, &'static str, u64);

impl MessageStats {
    /// Counts stored messages and their bytes, or one rejected message and the bytes of it that
    /// were received.
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
    pub fn messages(&self) -> Vec<MessageCount> {
        self.counts(|row| &row.messages)
    }

    /// Format, result and bytes.
    pub fn bytes(&self) -> Vec<MessageCount> {
        self.counts(|row| &row.bytes)
    }

    /// The counts of one column. Connections of unknown format store nothing, so
    /// their zero is left out.
    fn counts(&self, column: fn(&Row) -> &ResultCounts) -> Vec<MessageCount> {
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
