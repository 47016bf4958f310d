//! Queued items as records.
//!
//! A record is a chunk: some neighbouring items of one queue. Its key is
//! `sink/<type>/<name>/<number>`, with a number in 16 hexadecimal digits, so that the order
//! of keys is that of the items. Its value is a version byte, then for each item: the time
//! in nanoseconds since 1970 at which it was queued (8 bytes), its length (4 bytes), and the
//! item; numbers are big-endian.

use std::fmt;

use bytes::{Buf, Bytes};

/// The beginning of all keys.
pub const PREFIX: &str = "sink/";

/// The first byte of a value.
const VERSION: u8 = 1;

/// The type and the name of a sink. Types have different items, so a sink with another type is
/// another sink.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueName {
    /// The value of `type`.
    pub kind: String,
    /// The name.
    pub name: String,
}

impl QueueName {
    /// The name of a queue.
    pub fn new(kind: &str, name: &str) -> Self {
        QueueName {
            kind: kind.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The beginning of the keys of its records.
    pub fn prefix(&self) -> String {
        format!("{PREFIX}{}/{}/", self.kind, self.name)
    }

    /// The key of a chunk.
    pub fn key(&self, number: u64) -> Vec<u8> {
        format!("{}{number:016x}", self.prefix()).into_bytes()
    }

    /// The queue and the number of the chunk with this key.
    pub fn of_key(key: &[u8]) -> Option<(Self, u64)> {
        let mut parts = str::from_utf8(key).ok()?.strip_prefix(PREFIX)?.split('/');
        let (kind, name, number) = (parts.next()?, parts.next()?, parts.next()?);
        let number = u64::from_str_radix(number, 16).ok()?;
        let queue = QueueName::new(kind, name);
        (queue.key(number) == key).then_some((queue, number))
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (type {})", self.name, self.kind)
    }
}

/// A chunk that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChunk {
    /// Its number.
    pub number: u64,
    /// The items with the times at which they were queued, in nanoseconds since 1970.
    pub items: Vec<(u64, Bytes)>,
}

impl StoredChunk {
    /// Reads the value of a chunk. `None` if it is invalid.
    pub fn decode(number: u64, value: Vec<u8>) -> Option<Self> {
        let mut rest = Bytes::from(value);
        if rest.try_get_u8().ok()? != VERSION {
            return None;
        }
        let mut items = Vec::new();
        while rest.has_remaining() {
            let at = rest.try_get_u64().ok()?;
            let length = rest.try_get_u32().ok()? as usize;
            if length > rest.len() {
                return None;
            }
            items.push((at, rest.split_to(length)));
        }
        Some(StoredChunk { number, items })
    }
}

/// The value of a chunk under construction.
#[derive(Debug)]
pub struct ChunkBuilder(Vec<u8>);

impl Default for ChunkBuilder {
    /// A chunk without items.
    fn default() -> Self {
        ChunkBuilder(vec![VERSION])
    }
}

impl ChunkBuilder {
    /// Adds an item that was queued at a time in nanoseconds since 1970.
    pub fn add(&mut self, at: u64, item: &[u8]) {
        let length = u32::try_from(item.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&at.to_be_bytes());
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(&item[..length as usize]);
    }

    /// The bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the chunk has no items.
    pub fn is_empty(&self) -> bool {
        self.0.len() == 1
    }

    /// The value.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_read_back_as_it_was_written() {
        let mut builder = ChunkBuilder::default();
        assert!(builder.is_empty());
        builder.add(7, b"one");
        builder.add(u64::MAX, b"");
        assert_eq!(builder.len(), 1 + 2 * 12 + 3);
        let value = builder.finish();
        let chunk = StoredChunk::decode(9, value.clone()).unwrap();
        assert_eq!(chunk.number, 9);
        let expected = [
            (7, Bytes::from_static(b"one")),
            (u64::MAX, Bytes::from_static(b"")),
        ];
        assert_eq!(chunk.items, expected);
        for cut in [0, 5, 12, 15, value.len() - 1] {
            assert_eq!(StoredChunk::decode(9, value[..cut].to_vec()), None, "{cut}");
        }
        let newer = [&[VERSION + 1], &value[1..]].concat();
        assert_eq!(StoredChunk::decode(9, newer), None);
    }

    #[test]
    fn keys_name_the_queue_and_are_in_the_order_of_the_numbers() {
        let queue = QueueName::new("loki", "a-b_1");
        let key = queue.key(0x1f);
        assert_eq!(key, b"sink/loki/a-b_1/000000000000001f");
        assert_eq!(QueueName::of_key(&key), Some((queue.clone(), 0x1f)));
        assert!(queue.key(0xff) < queue.key(0x100));
        for wrong in [
            "sink/loki/a/1f",
            "sink/loki/a",
            "sink/loki/a/000000000000001f/x",
            "sink/loki/a/000000000000001F",
            "hook/loki/a/000000000000001f",
        ] {
            assert_eq!(QueueName::of_key(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
