//! Verbatim texts that wait for inspection.

use crate::store::sections::section::Section;
use crate::store::sections::section_id::{Producer, SectionId};

/// Sections whose verbatim text was set or removed since its last inspection, each once.
#[derive(Debug, Default)]
pub struct InspectionQueue {
    ids: Vec<SectionId>,
    /// Whether entries were dropped, so that all sections must be looked at.
    overflowed: bool,
}

/// Maximum number of waiting sections. A removed section leaves its entry behind, so there may be
/// more entries than sections.
const MAX_LEN: usize = 256 * 1024;

impl InspectionQueue {
    /// Notes that the text of a section was set or removed.
    pub fn note(&mut self, id: &SectionId, section: &mut Section) {
        let inspected = matches!(id.producer, Producer::App | Producer::Target);
        if section.uninspected || !inspected {
            return;
        }
        section.uninspected = true;
        if self.ids.len() == MAX_LEN {
            self.ids.clear();
            self.overflowed = true;
        }
        self.ids.push(id.clone());
    }

    /// Whether no text waits.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && !self.overflowed
    }

    /// The number of waiting sections; not meaningful after an overflow.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Takes all entries. `None` after an overflow, when any section may wait.
    pub fn take(&mut self) -> Option<Vec<SectionId>> {
        let ids = std::mem::take(&mut self.ids);
        (!std::mem::take(&mut self.overflowed)).then_some(ids)
    }
}
