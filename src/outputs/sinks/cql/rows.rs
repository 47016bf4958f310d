//! Events as rows, and the rows of one partition as a request.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use scylla::errors::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;

use super::slots::Slots;
use super::table::{Layout, Shape};
use crate::event::{Event, StoredEvent};

/// Limits of one request. One thread of a node writes a partition, so larger requests are no
/// faster; ScyllaDB warns of requests above 128 KiB.
pub const MAX_ROWS: usize = 100;
const MAX_BYTES: usize = 64 << 10;

/// Initial memory of a request: some rows of usual length.
const FIRST_BYTES: usize = 1 << 10;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Rows of one partition, ready to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The cells of all rows.
    cells: Vec<u8>,
    /// For each row, the index of its event in the batch, and the end of its cells.
    rows: Vec<(usize, usize)>,
}

impl Request {
    /// The indices of the events in their batch.
    pub fn items(&self) -> impl ExactSizeIterator<Item = usize> {
        self.rows.iter().map(|(item, _)| *item)
    }

    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let starts = std::iter::once(0).chain(self.rows.iter().map(|(_, end)| *end));
        let ends = starts.zip(&self.rows);
        ends.map(|(start, (_, end))| Row(&self.cells[start..*end]))
    }

    /// Splits this into a request for each row.
    pub fn split(&self) -> impl Iterator<Item = Request> {
        self.items().zip(self.rows()).map(|(item, row)| Request {
            cells: row.0.to_vec(),
            rows: vec![(item, row.0.len())],
        })
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.rows.len() < MAX_ROWS && self.cells.len() + bytes <= MAX_BYTES
    }

    fn push(&mut self, item: usize, row: &[u8]) {
        self.cells.extend_from_slice(row);
        self.rows.push((item, self.cells.len()));
    }
}

/// The cells of a row, each after its length.
#[derive(Debug, Clone, Copy)]
pub struct Row<'r>(&'r [u8]);

impl SerializeRow for Row<'_> {
    fn serialize(
        &self,
        _: &RowSerializationContext<'_>,
        to: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        let mut rest = self.0;
        while let Some((length, cells)) = rest.split_first_chunk() {
            let (cell, cells) = cells.split_at(u32::from_be_bytes(*length) as usize);
            let written = to.make_cell_writer().set_value(cell);
            written.map_err(SerializationError::new)?;
            rest = cells;
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// The requests for a batch, and the events that none of them has.
#[derive(Debug, Default)]
pub struct Plan {
    /// The requests.
    pub requests: Vec<Request>,
    /// Items that cannot be decoded.
    pub unreadable: Vec<usize>,
    /// Events without a free millisecond.
    pub crowded: Vec<usize>,
}

/// Turns events into rows for a table of one shape.
#[derive(Debug, Default)]
pub struct Planner {
    slots: Slots,
    hasher: RandomState,
}

impl Planner {
    /// The requests for a batch.
    pub fn plan(&mut self, batch: &[StoredEvent], shape: Shape) -> Plan {
        let mut plan = Plan::default();
        // This batch and the previous one can be sent again.
        self.slots.remember(2 * batch.len());
        // The request of each partition that still has room, by a hash of the partition.
        let mut open: HashTable<(u64, usize)> = HashTable::new();
        let mut row = Vec::new();
        for (item, event) in batch.iter().enumerate() {
            let Some(event) = event.decode() else {
                plan.unreadable.push(item);
                continue;
            };
            row.clear();
            write_cell(event.content.name.as_bytes(), &mut row);
            let name = row.len();
            write_labels(&event.content.labels, &mut row);
            let partition = match shape.layout {
                Layout::Series => row.len(),
                Layout::Name => name,
            };
            let Some(milli) = self.milli(&event, &row, name, shape) else {
                plan.crowded.push(item);
                continue;
            };
            write_cell(&milli.to_be_bytes(), &mut row);
            write_cell(&event.content.value.to_be_bytes(), &mut row);
            if shape.has_id {
                write_cell(&event.stamp.id.to_be_bytes(), &mut row);
            }
            let partition = &row[..partition];
            let hash = self.hasher.hash_one(partition);
            let requests = &mut plan.requests;
            let is_same = |(other, request): &(u64, usize)| {
                *other == hash && requests[*request].cells.starts_with(partition)
            };
            let end = requests.len();
            let (_, request) = open
                .entry(hash, is_same, |(hash, _)| *hash)
                .or_insert((hash, end))
                .into_mut();
            if *request < end && !requests[*request].has_room(row.len()) {
                *request = end;
            }
            if *request == end {
                requests.push(Request {
                    cells: Vec::with_capacity(FIRST_BYTES.max(row.len())),
                    rows: Vec::new(),
                });
            }
            requests[*request].push(item, &row);
        }
        plan
    }

    /// The millisecond of a row that begins with a name of `name` bytes and its labels.
    fn milli(&mut self, event: &Event<'_>, row: &[u8], name: usize, shape: Shape) -> Option<i64> {
        let milli = event.time().div_euclid(NANOS_PER_MILLI);
        if shape.has_id {
            return Some(milli);
        }
        let key = match shape.has_labels_in_key {
            true => row,
            false => &row[..name],
        };
        let key = self.hasher.hash_one(key);
        self.slots.take(key, milli, event.stamp.id)
    }
}

/// Appends a cell with its length. An event is far smaller than the largest cell, 2 GiB.
fn write_cell(bytes: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(&length(bytes.len()));
    to.extend_from_slice(bytes);
}

/// Appends labels as a map. They are sorted by name, as the server sorts a frozen map.
fn write_labels(labels: &[(&str, &str)], to: &mut Vec<u8>) {
    let start = to.len();
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(&length(labels.len()));
    for (name, value) in labels {
        write_cell(name.as_bytes(), to);
        write_cell(value.as_bytes(), to);
    }
    let cell = length(to.len() - start - 4);
    to[start..start + 4].copy_from_slice(&cell);
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}
