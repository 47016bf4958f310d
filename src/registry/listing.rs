//! Looking through living series, some at a time: which there are is asked
//! while the registry is locked, and what is made of it is not.

use std::hash::BuildHasher;
use std::sync::Arc;

use super::labels::LabelTexts;
use super::{BlockId, Registry};

/// Series of one family, as they were at one moment. Their labels are shared
/// with the registry and not copied.
#[derive(Debug, Clone)]
pub struct BlockSeries {
    /// As in [`Update`](super::Update).
    pub family: Arc<str>,
    labels: LabelTexts,
}

impl BlockSeries {
    /// The labels of each series, as in [`LabelText`](crate::exposition::LabelText).
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|(_, labels)| labels)
    }
}

impl Registry {
    /// The series of at most `most` blocks from `from` on, and the block to go on
    /// with unless that was the end. A series that exists during a whole round of
    /// calls is seen exactly once.
    pub fn series_from(&self, from: BlockId, most: usize) -> (Vec<BlockSeries>, Option<BlockId>) {
        let mut found = Vec::new();
        let (first, mut number) = from;
        for id in first..self.families.len() as u32 {
            if let Some(family) = self.family(id) {
                for number in number..family.blocks() {
                    if found.len() == most {
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

    /// Whether a series lives.
    pub fn has_series(&self, family: &str, labels: &str) -> bool {
        let id = self.find_family(self.hasher.hash_one(family), family);
        let family = id.and_then(|id| self.family(id));
        let slot = family.and_then(|family| family.find(self.hasher.hash_one(labels), labels));
        slot.is_some()
    }
}
