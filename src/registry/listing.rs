//! Lists existing series, a few blocks at a time. The caller filters them without holding the
//! registry's lock.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Instant;

use super::labels::LabelTexts;
use super::{BlockId, Registry};
use crate::exposition::Kind;

/// The series of one block at one time. Their labels are shared with the
/// registry, not copied.
#[derive(Debug, Clone)]
pub struct BlockSeries {
    /// Name of the family, escaped as in [`Update::family`](super::Update::family).
    pub family: Arc<str>,
    labels: LabelTexts,
}

impl BlockSeries {
    /// The labels of each series, as in
    /// [`LabelText`](crate::exposition::LabelText).
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|(_, labels)| labels)
    }
}

/// A family as lists show it.
#[derive(Debug, Clone)]
pub struct FamilySummary {
    /// Name of the family, escaped as in [`Update::family`](super::Update::family).
    pub name: Arc<str>,
    /// Its type.
    pub kind: Kind,
    /// Its help text.
    pub help: Option<Arc<str>>,
    /// Number of series.
    pub series: usize,
    /// When a batch last changed it; `None` if none has since the start.
    pub changed: Option<Instant>,
}

impl Registry {
    /// The families with ids from `from` on, in no order. Looks at up to `limit` ids, and also
    /// returns the id to continue with, unless the end is reached.
    pub fn families_from(&self, from: u32, limit: usize) -> (Vec<FamilySummary>, Option<u32>) {
        let ids = self.families.iter().skip(from as usize).take(limit);
        let found = ids.flatten().map(|family| FamilySummary {
            name: Arc::clone(&family.name),
            kind: family.kind,
            help: family.help.clone(),
            series: family.len(),
            changed: family.changed,
        });
        let next = from as usize + limit;
        let more = (next < self.families.len()).then_some(next as u32);
        (found.collect(), more)
    }

    /// The series of at most `max_blocks` blocks, starting with block `from`, and
    /// the block to continue with, unless the end is reached.
    ///
    /// Calls that start with block `(0, 0)` and continue to the end return each
    /// series that exists throughout exactly once.
    pub fn series_from(
        &self,
        from: BlockId,
        max_blocks: usize,
    ) -> (Vec<BlockSeries>, Option<BlockId>) {
        let mut found = Vec::new();
        let (first, mut number) = from;
        for id in first..self.families.len() as u32 {
            if let Some(family) = self.family(id) {
                for number in number..family.blocks() {
                    if found.len() == max_blocks {
                        return (found, Some((id, number)));
                    }
                    found.extend(family.block(number).map(|block| BlockSeries {
                        family: Arc::clone(&family.name),
                        labels: block.labels().clone(),
                    }));
                }
            }
            number = 0;
        }
        (found, None)
    }

    /// Whether a series exists, given by the name of its family and its labels,
    /// both escaped as in [`Update`](super::Update).
    pub fn has_series(&self, family: &str, labels: &str) -> bool {
        let id = self.find_family(self.hasher.hash_one(family), family);
        let family = id.and_then(|id| self.family(id));
        let found = family.and_then(|family| family.find(self.hasher.hash_one(labels), labels));
        found.is_some()
    }
}
