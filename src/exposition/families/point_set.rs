//! A set of the points of one text, which finds those that come twice. A series
//! may come again with another timestamp.

use std::hash::{BuildHasher, Hasher};

use crate::exposition::Labels;

/// Ends each name and value in the key of a point. It is not part of any UTF-8
/// text.
const SEPARATOR: u8 = 0xff;

/// An open-addressed hash set of points. Entries with equal hashes are compared
/// in full, so a collision costs time but never a series.
#[derive(Debug)]
pub(super) struct PointSet<'a, H> {
    hash: &'a H,
    /// The number of a point plus 1, or 0 for a free slot. The length is a
    /// power of two.
    slots: Vec<u32>,
    /// The hash of each point, by number.
    hashes: Vec<u64>,
    key: Vec<u8>,
    other: Vec<u8>,
}

impl<'a, H: BuildHasher> PointSet<'a, H> {
    pub(super) fn new(hash: &'a H) -> Self {
        PointSet {
            hash,
            slots: vec![0; 64],
            hashes: Vec::new(),
            key: Vec::new(),
            other: Vec::new(),
        }
    }

    /// Adds point number `number`, from 0: a name, sorted labels and a time in
    /// milliseconds. If the set has the point, returns the number it has there.
    /// `point` returns the point with a number.
    pub(super) fn insert<'t>(
        &mut self,
        (name, labels, time): (&str, &Labels<'_>, Option<i64>),
        number: u32,
        point: impl Fn(u32) -> (&'t str, Labels<'t>, Option<i64>),
    ) -> Option<u32> {
        if self.slots.len() < (self.hashes.len() + 1) * 2 {
            self.grow();
        }
        write_key(&mut self.key, name, labels, time);
        let mut hasher = self.hash.build_hasher();
        hasher.write(&self.key);
        let hash = hasher.finish();
        let mut at = hash as usize & (self.slots.len() - 1);
        while let Some(other) = self.slots[at].checked_sub(1) {
            if self.hashes[other as usize] == hash {
                let (name, labels, time) = point(other);
                write_key(&mut self.other, name, &labels, time);
                if self.other == self.key {
                    return Some(other);
                }
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = number + 1;
        self.hashes.push(hash);
        None
    }

    fn grow(&mut self) {
        let size = self.slots.len() * 2;
        self.slots.clear();
        self.slots.resize(size, 0);
        for (number, hash) in self.hashes.iter().enumerate() {
            let mut at = *hash as usize & (size - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = number as u32 + 1;
        }
    }
}

fn write_key(key: &mut Vec<u8>, name: &str, labels: &Labels<'_>, time: Option<i64>) {
    key.clear();
    key.extend_from_slice(name.as_bytes());
    for label in labels {
        key.push(SEPARATOR);
        key.extend_from_slice(label.name.as_bytes());
        key.push(SEPARATOR);
        key.extend_from_slice(label.value.as_bytes());
    }
    if let Some(time) = time {
        key.extend([SEPARATOR; 2]);
        key.extend(time.to_le_bytes());
    }
}
