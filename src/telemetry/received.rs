//! Messages and bytes that came in, by format and result.

use std::array::from_fn;

use super::{Counter, Reason};

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
#[derive(Debug)]
pub struct Received {
    cells: [[Cell; Reason::ALL.len() + 1]; WireFormat::ALL.len()],
}

impl Default for Received {
    fn default() -> Self {
        Received {
            cells: from_fn(|_| from_fn(|_| Cell::default())),
        }
    }
}

#[derive(Debug, Default)]
struct Cell {
    messages: Counter,
    bytes: Counter,
}

/// One line of the table.
#[derive(Debug)]
pub struct ReceivedCount {
    pub format: &'static str,
    pub result: &'static str,
    pub messages: u64,
    pub bytes: u64,
}

/// The place after the reasons: a message that was stored.
const STORED: usize = Reason::ALL.len();

impl Received {
    /// Counts messages of `bytes` in all that were stored, or a message of
    /// which so much had arrived when it failed.
    pub fn count(&self, format: WireFormat, result: Result<u64, Reason>, bytes: usize) {
        let (column, messages) = match result {
            Ok(messages) => (STORED, messages),
            Err(reason) => (reason as usize, 1),
        };
        let cell = &self.cells[format as usize][column];
        cell.messages.add(messages);
        cell.bytes.add(bytes as u64);
    }

    /// What has been counted. Stored messages are told from the start, so
    /// that their rate is right from the first one; a failure once it is seen.
    pub fn counts(&self) -> Vec<ReceivedCount> {
        let mut counts = Vec::new();
        for format in WireFormat::ALL {
            for (column, cell) in self.cells[format as usize].iter().enumerate() {
                let stored = column == STORED;
                let seen = cell.messages.value() > 0;
                if seen || (stored && format != WireFormat::Unknown) {
                    counts.push(ReceivedCount {
                        format: format.as_str(),
                        result: if stored {
                            "stored"
                        } else {
                            Reason::ALL[column].as_str()
                        },
                        messages: cell.messages.value(),
                        bytes: cell.bytes.value(),
                    });
                }
            }
        }
        counts.sort_by_key(|count| (count.format, count.result));
        counts
    }
}
