//! The queue of sections to withdraw.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::store::sections::section::Section;
use crate::store::sections::section_id::SectionId;

/// Sections by deadline, earliest first.
///
/// A section has one entry, however often it is written. The entry may be earlier than
/// the section's deadline, never later: when it is due, the section's own deadline
/// decides, and the section is queued again if there is time left. So a write costs
/// nothing here, and memory is about one entry per section.
#[derive(Debug, Default)]
pub struct Deadlines {
    queue: BinaryHeap<Reverse<(Instant, SectionId)>>,
}

impl Deadlines {
    /// Queues `section` for its deadline, unless it has an entry that comes up no later.
    pub fn note(&mut self, id: &SectionId, section: &mut Section) {
        let Some(deadline) = section.deadline else {
            return;
        };
        if section.queued.is_none_or(|queued| deadline < queued) {
            self.queue.push(Reverse((deadline, id.clone())));
            section.queued = Some(deadline);
        }
    }

    /// Moves all entries of `others` here.
    pub fn append(&mut self, others: &mut Deadlines) {
        self.queue.append(&mut others.queue);
    }

    /// Whether an entry is due.
    pub fn are_due(&self, now: Instant) -> bool {
        self.queue
            .peek()
            .is_some_and(|Reverse((due, _))| *due <= now)
    }

    /// Takes the earliest entry, if it is due. It is stale unless the section is queued for
    /// that time.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, SectionId)> {
        if !self.are_due(now) {
            return None;
        }
        self.queue.pop().map(|Reverse(entry)| entry)
    }

    /// Drops stale entries, which removed sections leave behind, once there are far more
    /// entries than `sections`.
    pub fn drop_stale(
        &mut self,
        sections: usize,
        is_current: impl Fn(Instant, &SectionId) -> bool,
    ) {
        const TOLERATED: usize = 1000;
        if self.queue.len() > 2 * sections + TOLERATED {
            self.queue.retain(|Reverse((due, id))| is_current(*due, id));
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}
