//! Pushes over HTTP, by method and result.

use std::sync::Arc;

use super::{Counter, Gauge, Level, Results};
use crate::reason::Reason;

/// What a request asks for that takes a body or changes something. All that
/// are refused are counted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushMethod {
    Aggregate,
    Batch,
    Create,
    Delete,
    DeleteApp,
    DeleteGroups,
    DeleteSeries,
    Echo,
    Post,
    Put,
    Quit,
    Update,
    Validate,
    Wipe,
}

impl PushMethod {
    /// In the order of their words.
    const ALL: [PushMethod; 14] = [
        PushMethod::Aggregate,
        PushMethod::Batch,
        PushMethod::Create,
        PushMethod::Delete,
        PushMethod::DeleteApp,
        PushMethod::DeleteGroups,
        PushMethod::DeleteSeries,
        PushMethod::Echo,
        PushMethod::Post,
        PushMethod::Put,
        PushMethod::Quit,
        PushMethod::Update,
        PushMethod::Validate,
        PushMethod::Wipe,
    ];

    /// The word for the log and for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            PushMethod::Aggregate => "aggregate",
            PushMethod::Batch => "batch",
            PushMethod::Create => "create",
            PushMethod::Delete => "delete",
            PushMethod::DeleteApp => "delete_app",
            PushMethod::DeleteGroups => "delete_groups",
            PushMethod::DeleteSeries => "delete_series",
            PushMethod::Echo => "echo",
            PushMethod::Post => "post",
            PushMethod::Put => "put",
            PushMethod::Quit => "quit",
            PushMethod::Update => "update",
            PushMethod::Validate => "validate",
            PushMethod::Wipe => "wipe",
        }
    }
}

#[derive(Debug, Default)]
pub struct Pushes {
    rows: [Row; PushMethod::ALL.len()],
    /// Bytes of HTTP bodies being received.
    pub buffered: Arc<Level>,
    /// Successful pushes that came again, and did not count again.
    pub repeated: Counter,
    /// Idempotency keys that are remembered, and that were forgotten before
    /// their time.
    pub keys: Gauge,
    pub forgotten_keys: Counter,
}

#[derive(Debug, Default)]
struct Row {
    results: Results,
    bytes: Counter,
}

impl Pushes {
    /// Counts a push, of whose body so many bytes came, before they were
    /// decompressed.
    pub fn count(&self, method: PushMethod, result: Result<(), Reason>, bytes: usize) {
        let row = &self.rows[method as usize];
        row.results.count(result, 1);
        row.bytes.add(bytes as u64);
    }

    /// Method, result and count, sorted.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let rows = PushMethod::ALL.into_iter().zip(&self.rows);
        rows.flat_map(|(method, row)| {
            let counts = row.results.counts().into_iter();
            counts.map(move |(result, count)| (method.as_str(), result, count))
        })
        .collect()
    }

    /// Method, and bytes of bodies.
    pub fn bytes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let rows = PushMethod::ALL.into_iter().zip(&self.rows);
        rows.map(|(method, row)| (method.as_str(), row.bytes.value()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_stands_at_its_own_place_in_the_order_of_their_words() {
        let words = PushMethod::ALL.map(PushMethod::as_str);
        assert!(words.is_sorted(), "{words:?}");
        for (place, method) in PushMethod::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, place, "{}", method.as_str());
        }
    }
}
