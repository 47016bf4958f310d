//! Counts of pushes over HTTP, by method and result.

use std::sync::Arc;

use super::{Counter, Gauge, ResultCounts, UsageGauge};
use crate::reason::Reason;

/// The kind of a request that takes a body or changes something, by which pushes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushMethod {
    /// A push that is aggregated: `/metrics{/<label>/<value>}`.
    Aggregate,
    /// Several groups in one body.
    Batch,
    /// `/create`: values to create.
    Create,
    /// The deletion of a group.
    Delete,
    /// The deletion of an app.
    DeleteApp,
    /// The deletion of groups by selector.
    DeleteGroups,
    /// The deletion of aggregated series by selector.
    DeleteSeries,
    /// `/echo`.
    Echo,
    /// `/ping` with parameters.
    Ping,
    /// `POST` of a group, as Pushgateway has it.
    Post,
    /// `PUT` of a group, as Pushgateway has it.
    Put,
    /// A request to stop the program.
    Quit,
    /// `/update`: values to update.
    Update,
    /// A check of a body that is not stored.
    Validate,
    /// The deletion of all groups.
    Wipe,
}

impl PushMethod {
    /// Sorted by label.
    const ALL: [PushMethod; 15] = [
        PushMethod::Aggregate,
        PushMethod::Batch,
        PushMethod::Create,
        PushMethod::Delete,
        PushMethod::DeleteApp,
        PushMethod::DeleteGroups,
        PushMethod::DeleteSeries,
        PushMethod::Echo,
        PushMethod::Ping,
        PushMethod::Post,
        PushMethod::Put,
        PushMethod::Quit,
        PushMethod::Update,
        PushMethod::Validate,
        PushMethod::Wipe,
    ];

    /// The method as a label value and in the log.
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
            PushMethod::Ping => "ping",
            PushMethod::Post => "post",
            PushMethod::Put => "put",
            PushMethod::Quit => "quit",
            PushMethod::Update => "update",
            PushMethod::Validate => "validate",
            PushMethod::Wipe => "wipe",
        }
    }
}

/// Counts of pushes over HTTP, and the memory that they take.
#[derive(Debug, Default)]
pub struct PushStats {
    rows: [Row; PushMethod::ALL.len()],
    /// Bytes of HTTP bodies being received.
    pub buffered: Arc<UsageGauge>,
    /// Repeats of successful pushes, which are not counted as pushes.
    pub repeated: Counter,
    /// Idempotency keys that are remembered.
    pub keys: Gauge,
    /// Idempotency keys that were forgotten before their time.
    pub forgotten_keys: Counter,
}

#[derive(Debug, Default)]
struct Row {
    results: ResultCounts,
    bytes: Counter,
}

impl PushStats {
    /// Counts a push. `bytes` is the size of its body as far as it was received,
    /// before decompression.
    pub fn count(&self, method: PushMethod, result: Result<(), Reason>, bytes: usize) {
        let row = &self.rows[method as usize];
        row.results.count(result, 1);
        row.bytes.add(bytes as u64);
    }

    /// Method, result and count, sorted by both.
    pub fn counts(&self) -> Vec<(&'static str, &'static str, u64)> {
        let rows = PushMethod::ALL.into_iter().zip(&self.rows);
        rows.flat_map(|(method, row)| {
            let counts = row.results.counts().into_iter();
            counts.map(move |(result, count)| (method.as_str(), result, count))
        })
        .collect()
    }

    /// Method and bytes of bodies.
    pub fn bytes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let rows = PushMethod::ALL.into_iter().zip(&self.rows);
        rows.map(|(method, row)| (method.as_str(), row.bytes.value()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_sorted_by_label_and_index_their_own_row() {
        let labels = PushMethod::ALL.map(PushMethod::as_str);
        assert!(labels.is_sorted(), "{labels:?}");
        for (index, method) in PushMethod::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index, "{}", method.as_str());
        }
    }
}
