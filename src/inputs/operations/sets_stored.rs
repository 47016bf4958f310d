//! Sets as records, and back. A set is stored with its series: both are taken while the
//! lock of sets is held, under which the number of values is set.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sets::{SeriesKey, Set, Sets};
use crate::clock::Now;
use crate::exposition::{Label, LabelText};
use crate::record::Record;
use crate::storage::{Changes, Layer, Persistent, ReadError, StoredRecords};

/// The beginning of the stored keys. The family and the labels follow.
const PREFIX: &str = "set/";

/// The first byte of a stored value.
const VERSION: u8 = 1;

/// A stored set.
#[derive(Debug, Serialize, Deserialize)]
struct SetRecord {
    family: String,
    /// Names and values, escaped.
    labels: Vec<(String, String)>,
    /// When a value was added, in nanoseconds since 1970.
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
        let mut all = self.lock();
        all.changed = Some(HashSet::new());
        let mut count = 0;
        stored.each(&mut |key, value| {
            let (series, set) = decode(&value, now).ok_or_else(|| ReadError::of_key(&key))?;
            match !self.is_expired(&set, now) && all.put(series.clone(), set) {
                true => count += 1,
                false => all.note(&series),
            }
            Ok(())
        })?;
        Ok(count)
    }

    fn take_changes(&self, _now: Now, beneath: &mut dyn FnMut()) -> Changes {
        let mut all = self.lock();
        let changed = all.changed.as_mut().map(mem::take).unwrap_or_default();
        let sets: Vec<(SeriesKey, Option<Set>)> = changed
            .into_iter()
            .map(|key| {
                let set = all.sets.get(&key).cloned();
                (key, set)
            })
            .collect();
        // No series of a set is set while the lock is held.
        beneath();
        drop(all);
        let record = |(series, set): (SeriesKey, Option<Set>)| Record {
            key: key_of(&series),
            value: set.map(|set| encode(&series, &set)),
        };
        Changes {
            is_full: false,
            records: Box::new(sets.into_iter().map(record)),
        }
    }

    fn note_everything(&self) {
        let all = &mut *self.lock();
        if let Some(changed) = &mut all.changed {
            changed.extend(all.sets.keys().cloned());
        }
    }
}

fn key_of((family, labels): &SeriesKey) -> Vec<u8> {
    format!("{PREFIX}{family}/{labels}").into_bytes()
}

fn encode((family, labels): &SeriesKey, set: &Set) -> Vec<u8> {
    let pair = |label: Label<'_>| (label.name.to_owned(), label.value.to_owned());
    let mut values: Vec<u64> = set.values.iter().copied().collect();
    values.sort_unstable();
    let record = SetRecord {
        family: family.to_string(),
        labels: labels.iter().map(pair).collect(),
        updated: set.updated.unix_nanos(),
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
        updated: now.earlier(record.updated),
    };
    Some(((Arc::from(record.family), labels), set))
}
