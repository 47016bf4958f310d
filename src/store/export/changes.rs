//! Takes what has changed.

use std::collections::btree_map::IntoIter;
use std::sync::Arc;

use crate::clock::Now;
use crate::record::Record;
use crate::registry::export::changes::FamilyHeadCopy;
use crate::registry::export::{BlockParts, BlockRecord, ClockRecord, RegistryCopy};
use crate::store::export::copies::{HeadCopy, SectionCopies, SectionCopy};
use crate::store::export::key::RecordKey;
use crate::store::export::records::{written, written_in};
use crate::store::sections::notes::SectionNotes;
use crate::store::sections::section_id::SectionId;
use crate::store::store::Store;

/// About the number of families or blocks that are copied under one lock, so that no
/// writer waits long.
const SOME: usize = 1024;

/// The most families or blocks that are copied under both locks at the end.
const FEW: usize = 64;

/// Maximum number of rounds that leave at least as many notes as they found: writers then note
/// changes as fast as they are copied.
const MOST_IDLE_ROUNDS: usize = 16;

/// What has changed, as records: an iterator that encodes one at a time.
///
/// Until then it holds copies of what has changed, whose texts are shared with the
/// output. So it takes little memory, unless the output changes in the meantime.
#[derive(Debug)]
pub struct Changes {
    is_full: bool,
    clock: Option<ClockRecord>,
    heads: IntoIter<Arc<str>, Option<HeadCopy>>,
    sections: IntoIter<SectionId, Option<SectionCopy>>,
    families: IntoIter<Arc<str>, Option<FamilyHeadCopy>>,
    blocks: IntoIter<(Arc<str>, u32), Option<BlockParts>>,
}

impl Changes {
    /// Whether these are the records of all that exists. If so, all other records that were taken
    /// before are void, even those that no record removes.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    fn of(clock: Option<ClockRecord>, registry: RegistryCopy, sections: SectionCopies) -> Self {
        let mut changes = Changes {
            is_full: registry.is_full,
            clock: None,
            heads: sections.heads.into_iter(),
            sections: sections.sections.into_iter(),
            families: registry.families.into_iter(),
            blocks: registry.blocks.into_iter(),
        };
        if changes.len() > 0 {
            changes.clock = clock;
        }
        changes
    }
}

impl Iterator for Changes {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let (key, value) = if let Some(clock) = self.clock.take() {
            (RecordKey::Clock, Some(written(&clock)))
        } else if let Some((name, head)) = self.heads.next() {
            let value = head.map(|head| written(&head.record()));
            (RecordKey::Head(name), value)
        } else if let Some((id, section)) = self.sections.next() {
            let value = section.map(|section| written_in(section.about(), &section.record()));
            (RecordKey::Section(id), value)
        } else if let Some((name, family)) = self.families.next() {
            let value = family.map(|family| written(&family.record()));
            (RecordKey::Aggregated(name), value)
        } else {
            let ((name, number), block) = self.blocks.next()?;
            let value = block.map(|block| written(&BlockRecord::of(&block)));
            (RecordKey::Block(name, number), value)
        };
        let key = key.encode();
        Some(Record { key, value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = usize::from(self.clock.is_some())
            + self.heads.len()
            + self.sections.len()
            + self.families.len()
            + self.blocks.len();
        (len, Some(len))
    }
}

impl ExactSizeIterator for Changes {}

impl Store {
    /// Notes changes from now on, for [`take_changes`](Self::take_changes). Everything that exists
    /// counts as changed. Until this is called, nothing is noted, and writes cost no more than
    /// without storage.
    pub fn track_changes(&self) {
        let mut registry = self.registry();
        registry.track_changes();
        let _turn = self.turn();
        let mut sections = self.write();
        let is_any = sections.by_id.keys().any(|id| id.producer.is_kept());
        sections.notes = Some(SectionNotes {
            everything: is_any,
            ..SectionNotes::default()
        });
    }

    /// Takes what has changed since the last call, in the state of one moment during the call.
    /// Everything that was applied before the call is included. Empty unless changes are
    /// [tracked](Self::track_changes).
    ///
    /// The locks are held for some sections and blocks at a time. In the end, both are held for
    /// those that changed in the meantime.
    pub fn take_changes(&self, now: Now) -> Changes {
        let mut copies = SectionCopies::default();
        let mut blocks = RegistryCopy::default();
        self.agree_on_everything();
        let (mut left, mut idle) = (usize::MAX, 0);
        while left > FEW && idle < MOST_IDLE_ROUNDS {
            let before = left;
            left = {
                let mut registry = self.registry();
                registry.copy_changes(SOME, &mut blocks);
                registry.noted()
            };
            left += self.copy_some(&mut copies);
            idle += usize::from(left >= before);
        }
        if self.is_busy() {
            // Wait for a large write without the registry, which others need.
            drop(self.turn());
        }
        let mut registry = self.registry();
        let _turn = self.turn();
        let mut sections = self.write();
        registry.copy_changes(usize::MAX, &mut blocks);
        sections.copy_changes(usize::MAX, &mut copies);
        // Notes of one part were dropped in the meantime.
        if blocks.is_full && !copies.is_full {
            sections.note_everything();
            sections.copy_changes(usize::MAX, &mut copies);
        } else if copies.is_full && !blocks.is_full {
            registry.note_everything();
            registry.copy_changes(usize::MAX, &mut blocks);
        }
        Changes::of(registry.clock(now), blocks, copies)
    }

    /// Makes the next [`take_changes`](Self::take_changes) return all that exists.
    pub fn note_everything(&self) {
        self.registry().note_everything();
        self.write().note_everything();
    }

    /// Makes the next [`take_changes`](Self::take_changes) return these records again,
    /// as they are then: for records that could not be written. Other keys than the
    /// store's are ignored.
    pub fn note_again<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) {
        let keys = keys.into_iter().filter_map(RecordKey::decode);
        let mut registry = self.registry();
        let mut sections = self.write();
        let Some(notes) = &mut sections.notes else {
            return;
        };
        for key in keys {
            match key {
                RecordKey::Clock => {}
                RecordKey::Head(name) => notes.note_family(&name),
                RecordKey::Section(id) => notes.note_id(&id),
                RecordKey::Aggregated(name) => registry.note_again(&name, None),
                RecordKey::Block(name, number) => registry.note_again(&name, Some(number)),
            }
        }
    }

    /// Makes sure that both parts return all that exists, or neither.
    fn agree_on_everything(&self) {
        let mut registry = self.registry();
        let mut sections = self.write();
        let of_sections = sections.notes.as_ref().is_some_and(|it| it.everything);
        if registry.has_everything_noted() || of_sections {
            registry.note_everything();
            sections.note_everything();
        }
    }

    /// Copies some of the noted sections. Returns the number of notes that are left.
    fn copy_some(&self, copies: &mut SectionCopies) -> usize {
        let mut sections = self.write();
        if sections.series_during_large_write.is_some() {
            // A large write in progress has the family index, so wait for it without the lock.
            drop(sections);
            drop(self.turn());
            sections = self.write();
        }
        if sections.series_during_large_write.is_none() {
            sections.copy_changes(SOME, copies);
        }
        sections.noted()
    }
}
