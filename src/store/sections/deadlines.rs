//! Which sections are to be withdrawn, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::store::sections::section::Section;
use crate::store::sections::section_id::SectionId;

/// Sections by deadline, earliest first.
///
/// A section stands here once however often it is written: an entry may be
/// earlier than the section's deadline, never later. When an entry comes due
/// the section says what holds, and is queued again if there is time left. So
/// a write costs nothing here, and memory is about an entry a section.
#[derive(Debug, Default)]
pub struct Deadlines {
    queue: BinaryHeap<Reverse<(Instant, SectionId)>>,
}

impl Deadlines {
    /// Sees to it that `section` comes up by its deadline.
    pub fn note(&mut self, id: &SectionId, section: &mut Section) {
        let Some(deadline) = section.deadline else {
            return;
        };
        if section.queued.is_none_or(|queued| deadline < queued) {
            self.queue.push(Reverse((deadline, id.clone())));
            section.queued = Some(deadline);
        }
    }

    /// Takes the entries of others.
    pub fn append(&mut self, others: &mut Deadlines) {
        self.queue.append(&mut others.queue);
    }

    pub fn are_due(&self, now: Instant) -> bool {
        self.queue
            .peek()
            .is_some_and(|Reverse((due, _))| *due <= now)
    }

    /// Takes the earliest entry, if it is due. It is the section's own if the
    /// section is queued for that moment, and left over otherwise.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, SectionId)> {
        if !self.are_due(now) {
            return None;
        }
        self.queue.pop().map(|Reverse(entry)| entry)
    }

    /// Drops entries that are left over, once they are more than those of
    /// `sections` can be: sections that are removed leave theirs behind.
    pub fn tidy(&mut self, sections: usize, is_own: impl Fn(Instant, &SectionId) -> bool) {
        const SPARE: usize = 1000;
        if self.queue.len() > 2 * sections + SPARE {
            self.queue.retain(|Reverse((due, id))| is_own(*due, id));
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}
