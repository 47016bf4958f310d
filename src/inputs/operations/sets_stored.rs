//! Converts sets to records and back. A set is stored together with its series: both are taken
//! under the lock of the sets, which is also held when the exposed size of a set changes.
//!
//! A small set is one record. A large one is a record without values, plus one for each of
//! its parts.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sets::{ChangedSet, PARTS, SeriesKey, Set, Sets, part_of};
use crate::clock::Now;
use crate::exposition::{Label, LabelText};
use crate::record::Record;
use crate::storage::{Changes, Layer, Persistent, ReadError, ReadableForm, StoredRecords};

/// The prefix of the stored keys. The family and the labels follow.
const PREFIX: &str = "set/";

/// The first byte of a stored value.
const VERSION: u8 = 1;

/// Stored sets as JSON.
pub const READABLE: ReadableForm = ReadableForm::of_record::<SetRecord, VERSION>(PREFIX);

/// A stored set.
#[derive(Debug, Serialize, Deserialize)]
struct SetRecord {
    family: String,
    /// Names and values, escaped.
    labels: Vec<(String, String)>,
    /// When the last value was added, in nanoseconds since 1970.
    updated: u64,
    /// The hashes of the values.
    values: Vec<u64>,
}

impl Persistent for Sets {
    fn prefixes(&self) -> &'static [&'static str] {
        &[PREFIX]
    }

    fn layer(&self) -> Layer {
        Layer::Sets
    }

    fn restore(&self, stored: &StoredRecords<'_>, now: Now) -> Result<usize, ReadError> {
        let mut found: HashMap<SeriesKey, Set> = HashMap::new();
        stored.each(&mut |key, value| {
            let (series, set) = decode(&value, now).ok_or_else(|| ReadError::of_key(&key))?;
            match found.get_mut(&series) {
                None => drop(found.insert(series, set)),
                Some(before) => {
                    before.values.extend(set.values);
                    if set.updated.tick > before.updated.tick {
                        before.updated = set.updated;
                    }
                }
            }
            Ok(())
        })?;
        let mut all = self.lock();
        all.changed = Some(HashMap::new());
        let mut count = 0;
        for (series, set) in found {
            let had_parts = set.has_parts();
            match !all.is_expired(&set, now) && all.put(series.clone(), set) {
                true => count += 1,
                false => all.note(&series, 0, had_parts),
            }
        }
        Ok(count)
    }

    fn take_changes(&self, _now: Now, beneath: &mut dyn FnMut()) -> Changes {
        let mut all = self.lock();
        let changed = all.changed.as_mut().map(mem::take).unwrap_or_default();
        let sets: Vec<(SeriesKey, ChangedSet, Option<Taken>)> = changed
            .into_iter()
            .map(|(key, changed)| {
                let set = all.sets.get(&key).map(|set| Taken::of(set, changed.parts));
                (key, changed, set)
            })
            .collect();
        // The exposed size of a set changes only under this lock.
        beneath();
        drop(all);
        let records = sets
            .into_iter()
            .flat_map(|(series, changed, set)| records(&series, changed, set));
        Changes::some(records)
    }

    fn note_everything(&self) {
        let all = &mut *self.lock();
        if let Some(changed) = &mut all.changed {
            let every = ChangedSet {
                parts: u64::MAX,
                had_parts: false,
            };
            changed.extend(all.sets.keys().map(|key| (key.clone(), every)));
        }
    }
}

/// The content of a set that will be stored.
#[derive(Debug)]
struct Taken {
    updated: Now,
    has_parts: bool,
    /// The values of the changed parts, or all values of a set without parts.
    values: Vec<u64>,
}

impl Taken {
    fn of(set: &Set, parts: u64) -> Self {
        let has_parts = set.has_parts();
        let is_taken = |value: &u64| !has_parts || parts >> part_of(*value) & 1 == 1;
        let mut values: Vec<u64> = set.values.iter().copied().filter(is_taken).collect();
        values.sort_unstable();
        Taken {
            updated: set.updated,
            has_parts,
            values,
        }
    }
}

/// The records for the changes of a set; `set` is `None` if the set is gone.
fn records(series: &SeriesKey, changed: ChangedSet, set: Option<Taken>) -> Vec<Record> {
    let (updated, has_parts, values) = match set {
        Some(set) => (Some(set.updated), set.has_parts, set.values),
        None => (None, false, Vec::new()),
    };
    let whole = match has_parts {
        true => Vec::new(),
        false => values.clone(),
    };
    let mut records = vec![Record {
        key: key_of(series, None),
        value: updated.map(|updated| encode(series, updated, whole)),
    }];
    for part in 0..PARTS {
        let is_changed = has_parts && changed.parts >> part & 1 == 1;
        if is_changed || changed.had_parts {
            let of_part = values.iter().copied().filter(|it| part_of(*it) == part);
            let of_part: Vec<u64> = of_part.collect();
            let updated = updated.filter(|_| has_parts && !of_part.is_empty());
            records.push(Record {
                key: key_of(series, Some(part)),
                value: updated.map(|updated| encode(series, updated, of_part)),
            });
        }
    }
    records
}

fn key_of((family, labels): &SeriesKey, part: Option<u32>) -> Vec<u8> {
    let part = part.map_or_else(String::new, |part| format!("#{part:02}"));
    format!("{PREFIX}{family}/{labels}{part}").into_bytes()
}

fn encode((family, labels): &SeriesKey, updated: Now, values: Vec<u64>) -> Vec<u8> {
    let pair = |label: Label<'_>| (label.name.to_owned(), label.value.to_owned());
    let record = SetRecord {
        family: family.to_string(),
        labels: labels.iter().map(pair).collect(),
        updated: updated.unix_nanos(),
        values,
    };
    // Writing to memory fails only for sequences of unknown length.
    postcard::to_extend(&record, vec![VERSION]).unwrap_or_default()
}

fn decode(value: &[u8], now: Now) -> Option<(SeriesKey, Set)> {
    let (version, rest) = value.split_first()?;
    let record: SetRecord = postcard::from_bytes(rest).ok()?;
    if *version != VERSION {
        return None;
    }
    let pairs = record.labels.iter();
    let pairs = pairs.map(|(name, value)| (name.as_str(), value.as_str()));
    let labels = LabelText::from_escaped(pairs).ok()?;
    let set = Set {
        values: record.values.into_iter().collect(),
        updated: now.at_unix_nanos(record.updated),
    };
    Some(((Arc::from(record.family), labels), set))
}
