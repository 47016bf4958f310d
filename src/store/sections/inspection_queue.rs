//! Which texts wait for an inspection.

use crate::store::sections::section::Section;
use crate::store::sections::section_id::{Producer, SectionId};

/// Sections whose verbatim text came or went since they were last inspected,
/// each once.
#[derive(Debug, Default)]
pub struct InspectionQueue {
    ids: Vec<SectionId>,
    /// Whether some were dropped, so that all sections are to be looked at.
    overflowed: bool,
}

/// Sections that wait at most. Sections that are removed leave an entry behind,
/// so there may be more of them than there are sections.
const LONGEST: usize = 256 * 1024;

impl InspectionQueue {
    /// Notes that the text of a section came or went.
    pub fn note(&mut self, id: &SectionId, section: &mut Section) {
        let inspected = matches!(id.producer, Producer::App | Producer::Target);
        if section.uninspected || !inspected {
            return;
        }
        section.uninspected = true;
        if self.ids.len() == LONGEST {
            self.ids.clear();
            self.overflowed = true;
        }
        self.ids.push(id.clone());
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && !self.overflowed
    }

    /// How many sections are listed as waiting; not meaningful after an overflow.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Takes all of them; `None` after an overflow, when any section may wait.
    pub fn take(&mut self) -> Option<Vec<SectionId>> {
        let ids = std::mem::take(&mut self.ids);
        (!std::mem::take(&mut self.overflowed)).then_some(ids)
    }
}
