//! Pushes over HTTP, by method and result.

use std::array::from_fn;
use std::sync::Arc;

use super::{Counter, Level, Reason};

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

/// The place after the reasons: a push that was taken.
const OK: usize = Reason::ALL.len();

#[derive(Debug, Default)]
pub struct Pushes {
    rows: [Row; METHODS.len()],
    /// Bytes of bodies that are being taken in.
    pub buffered: Arc<Level>,
    /// Pushes that came again, and did not count again.
    pub repeated: Counter,
    /// Idempotency keys that were forgotten before their time.
    pub forgotten_keys: Counter,
}

#[derive(Debug)]
struct Row {
    results: [Counter; OK + 1],
    bytes: Counter,
}

impl Default for Row {
    fn default() -> Self {
        Row {
            results: from_fn(|_| Counter::default()),
            bytes: Counter::default(),
        }
    }
}

impl Pushes {
    /// Counts a push, of whose body so many bytes came, before they were
    /// decompressed. `method` is one of [`METHODS`].
    pub fn count(&self, method: &str, result: Result<(), Reason>, bytes: usize) {
        let Some(row) = METHODS.iter().position(|known| *known == method) else {
            return;
        };
        let row = &self.rows[row];
        row.results[result.err().map_or(OK, |reason| reason as usize)].add(1);
        row.bytes.add(bytes as u64);
    }

    /// Method, result and count. Pushes that were taken are told from the
    /// start, so that their rate is right from the first one.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut counts = Vec::new();
        for (method, row) in METHODS.iter().zip(&self.rows) {
            for (place, counter) in row.results.iter().enumerate() {
                let word = Reason::ALL
                    .get(place)
                    .map_or("ok", |reason| reason.as_str());
                if counter.value() > 0 || place == OK {
                    counts.push((*method, word, counter.value()));
                }
            }
        }
        counts.push(("aggregate", "repeated", self.repeated.value()));
        counts.sort_unstable();
        counts
    }

    /// Method, and bytes of bodies.
    pub fn bytes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let rows = METHODS.iter().zip(&self.rows);
        rows.map(|(method, row)| (*method, row.bytes.value()))
    }
}
