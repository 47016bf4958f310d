//! Properties of stored records, for tests and `fuzz/`.

use std::collections::HashSet;
use std::sync::Arc;

use super::tool::record_of;
use crate::clock::Now;
use crate::record::Record;
use crate::store::export::{RecordKey, Restoration, Stored};
use crate::store::{Store, StoreLimits};

/// Ends the lines of the input; triples of bytes follow. Each changes one byte of a record:
/// number of the record, position in it, and the byte to combine by XOR.
const END_OF_LINES: u8 = 0xff;

/// Records as `storage export` writes them, with bytes changed.
///
/// A value that can be read is written back the same. A store takes the records or returns
/// an error; if it takes them, a store restored from its own records exposes the same text.
/// Texts are not parsed again: the engine's checksums protect them.
pub fn records(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == END_OF_LINES);
    let (lines, changes) = data.split_at(end.unwrap_or(data.len()));
    let Ok(lines) = std::str::from_utf8(lines) else {
        return;
    };
    let mut records: Vec<Record> = lines
        .lines()
        .filter_map(|line| record_of(line, &[]).ok())
        .collect();
    // As in an engine, keys are unique.
    let mut keys = HashSet::new();
    records.retain(|record| keys.insert(record.key.clone()));
    for change in changes.get(1..).unwrap_or_default().chunks_exact(3) {
        let number = usize::from(change[0]);
        if let Some(Record { value, .. }) = records.get_mut(number)
            && let Some(value) = value
            && let Some(byte) = value.get_mut(usize::from(change[1]))
        {
            *byte ^= change[2];
        }
    }
    for Record { key, value } in &records {
        let Some(known) = RecordKey::decode(key) else {
            continue;
        };
        assert_eq!(RecordKey::decode(&known.encode()).as_ref(), Some(&known));
        let value = value.as_deref().unwrap_or_default();
        if let Ok(stored) = Stored::decode(&known, value) {
            let written = stored.encode();
            let again = Stored::decode(&known, &written).expect("it was just written");
            assert_eq!(again.encode(), written);
        }
    }
    let now = Now::read();
    let Some((store, text)) = restored(records, now) else {
        return;
    };
    store.note_everything();
    let everything: Vec<Record> = store.take_changes(now).collect();
    let (_, again) = restored(everything, now).expect("they are its own records");
    assert_eq!(again, text);
}

/// A store restored from records, and its text.
fn restored(records: Vec<Record>, now: Now) -> Option<(Arc<Store>, String)> {
    let limits = StoreLimits {
        apps: 20,
        groups: 20,
        bytes: 1 << 20,
        registry: Default::default(),
    };
    let store = Arc::new(Store::new(limits, false));
    store.track_changes();
    let mut restoration = Restoration::new(&store);
    for record in records {
        restoration.add(record).ok()?;
    }
    restoration.finish(now).ok()?;
    let text = String::from_utf8(store.snapshot().text()).expect("the output is UTF-8");
    Some((store, text))
}
