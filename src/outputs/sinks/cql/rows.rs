//! Events as rows, and the rows of one partition as a request.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use scylla::cluster::metadata::ColumnType;
use scylla::errors::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellWriter, RowWriter, WrittenCellProof};
use scylla::value::CqlTimestamp;

use super::slots::Slots;
use super::table::{Layout, Shape};
use crate::event::{Event, StoredEvent};

/// Limits of the rows of one request. A partition is written by one thread of a node, so
/// larger requests are no faster; ScyllaDB warns of those above 128 KiB.
pub const MAX_ROWS: usize = 100;
const MAX_BYTES: usize = 64 << 10;

/// Bytes of a row beside its texts: lengths, time, value, identity.
const ROW_BYTES: usize = 64;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// A row of an event.
#[derive(Debug, Clone, Copy)]
pub struct Row<'e> {
    /// The place of the event in its batch.
    pub item: usize,
    event: &'e Event<'e>,
    /// The time in milliseconds since 1970.
    milli: i64,
    has_id: bool,
}

/// What becomes of a batch.
#[derive(Debug, Default)]
pub struct Plan<'e> {
    /// The requests, each with rows of one partition.
    pub requests: Vec<Vec<Row<'e>>>,
    /// Items that are no events.
    pub unreadable: Vec<usize>,
    /// Events for which there is no millisecond left.
    pub crowded: Vec<usize>,
}

/// Makes rows of events, for a table of one shape.
#[derive(Debug, Default)]
pub struct Planner {
    slots: Slots,
    hasher: RandomState,
}

impl Planner {
    /// The requests for a batch; `None` stands for an item that is no event.
    pub fn plan<'e>(&mut self, events: &'e [Option<Event<'e>>], shape: Shape) -> Plan<'e> {
        let mut plan = Plan::default();
        self.slots.remember(events.len());
        // The request of each partition that still has room, and its bytes.
        let mut open: HashMap<_, (usize, usize)> = HashMap::new();
        for (item, event) in events.iter().enumerate() {
            let Some(event) = event else {
                plan.unreadable.push(item);
                continue;
            };
            let Some(milli) = self.milli(event, shape) else {
                plan.crowded.push(item);
                continue;
            };
            let row = Row {
                item,
                event,
                milli,
                has_id: shape.has_id,
            };
            let name = event.content.name;
            let labels = (shape.layout == Layout::Series).then_some(&event.content.labels);
            let bytes = size(event);
            let end = plan.requests.len();
            let (request, used) = open.entry((name, labels)).or_insert((end, 0));
            let is_full = plan
                .requests
                .get(*request)
                .is_some_and(|rows| rows.len() >= MAX_ROWS || *used + bytes > MAX_BYTES);
            if is_full {
                (*request, *used) = (end, 0);
            }
            *used += bytes;
            match plan.requests.get_mut(*request) {
                Some(rows) => rows.push(row),
                None => plan.requests.push(vec![row]),
            }
        }
        plan
    }

    /// The millisecond of a row.
    fn milli(&mut self, event: &Event<'_>, shape: Shape) -> Option<i64> {
        let milli = event.time().div_euclid(NANOS_PER_MILLI);
        if shape.has_id {
            return Some(milli);
        }
        let labels = shape.has_labels_in_key.then_some(&event.content.labels);
        let key = self.hasher.hash_one((event.content.name, labels));
        self.slots.take(key, milli, event.stamp.id)
    }
}

/// Reads the events of a batch.
pub fn decode(batch: &[StoredEvent]) -> Vec<Option<Event<'_>>> {
    batch.iter().map(StoredEvent::decode).collect()
}

/// About the bytes of a row in a request.
fn size(event: &Event<'_>) -> usize {
    let labels = event.content.labels.iter();
    let labels: usize = labels
        .map(|(name, value)| name.len() + value.len() + 8)
        .sum();
    event.content.name.len() + labels + ROW_BYTES
}

impl SerializeRow for Row<'_> {
    fn serialize(
        &self,
        columns: &RowSerializationContext<'_>,
        to: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        let content = &self.event.content;
        let labels = Labels(&content.labels);
        let time = CqlTimestamp(self.milli);
        match self.has_id {
            true => {
                let id = Id(self.event.stamp.id);
                let row = (content.name, labels, time, content.value, id);
                SerializeRow::serialize(&row, columns, to)
            }
            false => {
                let row = (content.name, labels, time, content.value);
                SerializeRow::serialize(&row, columns, to)
            }
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// Labels as a map. They are sorted by name, as the server sorts a frozen map.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'e>(pub &'e [(&'e str, &'e str)]);

impl SerializeValue for Labels<'_> {
    fn serialize<'b>(
        &self,
        _: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        let mut map = writer.into_value_builder();
        let count = i32::try_from(self.0.len()).map_err(SerializationError::new)?;
        map.append_bytes(&count.to_be_bytes());
        for (name, value) in self.0 {
            for text in [name, value] {
                let written = map.make_sub_writer().set_value(text.as_bytes());
                written.map_err(SerializationError::new)?;
            }
        }
        map.finish().map_err(SerializationError::new)
    }
}

/// The identity of an event as a UUID.
struct Id(u128);

impl SerializeValue for Id {
    fn serialize<'b>(
        &self,
        _: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        let written = writer.set_value(&self.0.to_be_bytes());
        written.map_err(SerializationError::new)
    }
}
