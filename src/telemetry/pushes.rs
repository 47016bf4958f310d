//! Pushes over HTTP, by method and result.

use std::sync::Arc;

use super::{Counter, Level, Reason, Results};

/// How a group is pushed, as far as it is counted apart.
const METHODS: [&str; 7] = [
    "aggregate",
    "batch",
    "create",
    "delete",
    "post",
    "put",
    "update",
];

#[derive(Debug, Default)]
pub struct Pushes {
    rows: [Row; METHODS.len()],
    /// Bytes of bodies that are being taken in.
    pub buffered: Arc<Level>,
    /// Successful pushes that came again, and did not count again.
    pub repeated: Counter,
    /// Idempotency keys that were forgotten before their time.
    pub forgotten_keys: Counter,
}

#[derive(Debug, Default)]
struct Row {
    results: Results,
    bytes: Counter,
}

impl Pushes {
    /// Counts a push, of whose body so many bytes came, before they were
    /// decompressed. `method` is one of [`METHODS`].
    pub fn count(&self, method: &str, result: Result<(), Reason>, bytes: usize) {
        let Some(row) = METHODS.iter().position(|known| *known == method) else {
            return;
        };
        let row = &self.rows[row];
        row.results.count(result, 1);
        row.bytes.add(bytes as u64);
    }

    /// Method, result and count, sorted.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let rows = METHODS.iter().zip(&self.rows);
        rows.flat_map(|(method, row)| {
            let counts = row.results.counts().into_iter();
            counts.map(|(result, count)| (*method, result, count))
        })
        .collect()
    }

    /// Method, and bytes of bodies.
    pub fn bytes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let rows = METHODS.iter().zip(&self.rows);
        rows.map(|(method, row)| (*method, row.bytes.value()))
    }
}
