//! The stored form of sections, and the encoding of values.
//!
//! The records of aggregated families are in
//! [`registry::export`](crate::registry::export). The fields of a record are its format:
//! a change to them raises [`VERSION`], and earlier versions stay readable.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::exposition::Kind;
use crate::peer::Peer;
use crate::registry::export::{AggregatedRecord, BlockRecord, ClockRecord};
use crate::store::export::key::RecordKey;
use crate::store::sections::section::SectionState;

/// The version of all values: their first byte.
pub const VERSION: u8 = 1;

/// An app or a group. Times are wall time in nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SectionRecord<'r> {
    /// How the last attempt to update it ended.
    pub state: SectionState,
    /// The listener of its last update.
    #[serde(borrow)]
    pub source: Cow<'r, str>,
    /// The sender of its last update.
    pub peer: PeerRecord,
    /// When it was updated last; `None` if it never was.
    pub updated: Option<u64>,
    /// How long it is exposed after that, in nanoseconds. If it was never updated, the time counts
    /// from its last failure.
    pub lifetime: Option<u64>,
    /// The last failure.
    #[serde(borrow)]
    pub problem: Option<ProblemRecord<'r>>,
    /// What it exposes.
    #[serde(borrow)]
    pub content: ContentRecord<'r>,
}

/// A sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerRecord {
    /// A remote address.
    Tcp(SocketAddr),
    /// A process on this machine.
    Unix {
        /// Its process id, if known.
        pid: Option<i32>,
        /// The user that it ran as.
        uid: u32,
    },
    /// Not known.
    Unknown,
    /// A client that a reverse proxy named.
    Forwarded(IpAddr),
}

/// A failure of a section's producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemRecord<'r> {
    /// The message for people.
    #[serde(borrow)]
    pub reason: Cow<'r, str>,
    /// When it happened.
    pub at: u64,
}

/// What a section exposes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentRecord<'r> {
    /// A text that is passed through.
    Verbatim(#[serde(borrow)] Cow<'r, str>),
    /// Families in the order of their names.
    Families(#[serde(borrow)] Vec<FamilyRecord<'r>>),
}

/// What a section exposes of one family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FamilyRecord<'r> {
    /// The name, escaped, without quotes.
    #[serde(borrow)]
    pub name: Cow<'r, str>,
    /// The kind.
    pub kind: Kind,
    /// When it was received, in milliseconds since 1970.
    pub updated_ms: u64,
    /// Bytes of its text with the head that its sender gave.
    pub bytes: u32,
    /// Its lines in canonical form.
    #[serde(borrow)]
    pub samples: Cow<'r, str>,
    /// Native histograms, which the lines do not show.
    #[serde(borrow)]
    pub natives: Vec<NativeRecord<'r>>,
}

/// A native histogram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeRecord<'r> {
    /// The labels of its samples without `le`.
    #[serde(borrow)]
    pub labels: Cow<'r, str>,
    /// Whether it is a gauge histogram.
    pub gauge: bool,
    /// An encoded message `io.prometheus.client.Histogram`.
    #[serde(borrow)]
    pub histogram: Cow<'r, [u8]>,
}

/// What all sections of a family share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRecord<'r> {
    /// The help, escaped.
    #[serde(borrow)]
    pub help: Option<Cow<'r, str>>,
    /// The kind in OpenMetrics, if text has another.
    pub open_kind: Option<Kind>,
    /// The unit in OpenMetrics, escaped.
    #[serde(borrow)]
    pub unit: Option<Cow<'r, str>>,
}

/// A value of any kind. As JSON, it names its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stored<'r> {
    /// The registry's time.
    Clock(ClockRecord),
    /// The head of a family.
    Head(#[serde(borrow)] HeadRecord<'r>),
    /// A section.
    Section(#[serde(borrow)] SectionRecord<'r>),
    /// An aggregated family.
    Aggregated(#[serde(borrow)] AggregatedRecord<'r>),
    /// Some series of an aggregated family.
    Block(#[serde(borrow)] BlockRecord<'r>),
}

/// Why a value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A newer program wrote it.
    #[error("it has format {0}, and this program reads formats up to {VERSION}")]
    Newer(u8),
    /// It breaks the format.
    #[error("it is damaged: {0}")]
    Damaged(postcard::Error),
    /// It is longer than its record.
    #[error("it is damaged: {0} bytes follow its end")]
    TooLong(usize),
}

impl<'r> Stored<'r> {
    /// The value under a key.
    ///
    /// # Errors
    ///
    /// Why the value cannot be read.
    pub fn decode(key: &RecordKey, value: &'r [u8]) -> Result<Self, ValueError> {
        Ok(match key {
            RecordKey::Clock => Stored::Clock(read(value)?),
            RecordKey::Head(_) => Stored::Head(read(value)?),
            RecordKey::Section(_) => Stored::Section(read(value)?),
            RecordKey::Aggregated(_) => Stored::Aggregated(read(value)?),
            RecordKey::Block(..) => Stored::Block(read(value)?),
        })
    }

    /// The value as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Stored::Clock(record) => written(record),
            Stored::Head(record) => written(record),
            Stored::Section(record) => written(record),
            Stored::Aggregated(record) => written(record),
            Stored::Block(record) => written(record),
        }
    }

    /// Whether a record under this key has such a value.
    pub fn fits(&self, key: &RecordKey) -> bool {
        matches!(
            (self, key),
            (Stored::Clock(_), RecordKey::Clock)
                | (Stored::Head(_), RecordKey::Head(_))
                | (Stored::Section(_), RecordKey::Section(_))
                | (Stored::Aggregated(_), RecordKey::Aggregated(_))
                | (Stored::Block(_), RecordKey::Block(..))
        )
    }
}

/// Reads a value.
pub(super) fn read<'r, T: Deserialize<'r>>(value: &'r [u8]) -> Result<T, ValueError> {
    let (version, record) = value.split_first().unwrap_or((&VERSION, &[]));
    match *version {
        VERSION => {}
        newer if newer > VERSION => return Err(ValueError::Newer(newer)),
        _ => return Err(ValueError::Damaged(postcard::Error::DeserializeBadEncoding)),
    }
    let read = postcard::take_from_bytes(record);
    let (record, rest) = read.map_err(ValueError::Damaged)?;
    match rest.len() {
        0 => Ok(record),
        more => Err(ValueError::TooLong(more)),
    }
}

/// Writes a value.
pub(super) fn written(record: &impl Serialize) -> Vec<u8> {
    written_in(0, record)
}

/// Writes a value whose size is about `capacity`.
pub(super) fn written_in(capacity: usize, record: &impl Serialize) -> Vec<u8> {
    let mut value = Vec::with_capacity(capacity);
    value.push(VERSION);
    // Writing to memory fails only for sequences of unknown length, which no record has.
    postcard::to_extend(record, value).unwrap_or_default()
}

impl From<Peer> for PeerRecord {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Tcp(address) => PeerRecord::Tcp(address),
            Peer::Unix { pid, uid } => PeerRecord::Unix { pid, uid },
            Peer::Forwarded(address) => PeerRecord::Forwarded(address),
            Peer::Unknown => PeerRecord::Unknown,
        }
    }
}

impl From<PeerRecord> for Peer {
    fn from(peer: PeerRecord) -> Self {
        match peer {
            PeerRecord::Tcp(address) => Peer::Tcp(address),
            PeerRecord::Unix { pid, uid } => Peer::Unix { pid, uid },
            PeerRecord::Forwarded(address) => Peer::Forwarded(address),
            PeerRecord::Unknown => Peer::Unknown,
        }
    }
}
