//! Notes changes of sections for storage.

use std::sync::Arc;

use crate::store::sections::section::Section;
use crate::store::sections::section_id::SectionId;

/// Maximum number of notes. Beyond it, everything counts as changed. There are more notes than
/// sections only if sections come and go while nobody takes the changes. Tests reach the limit.
const MAX_NOTES: usize = if cfg!(test) { 40 } else { 1 << 20 };

/// What has changed since the last copy.
#[derive(Debug, Default)]
pub struct SectionNotes {
    /// Sections that have changed, each once while it exists: see
    /// [`Section::is_noted`]. Those that are gone are among them.
    pub ids: Vec<SectionId>,
    /// Names of families whose head may have changed.
    pub families: Vec<Arc<str>>,
    /// Whether notes were dropped.
    pub everything: bool,
}

impl SectionNotes {
    /// Notes a change of a section.
    pub fn note(&mut self, id: &SectionId, section: &mut Section) {
        if !section.is_noted {
            section.is_noted = true;
            self.note_id(id);
        }
    }

    /// Notes a section that perhaps no longer exists.
    pub fn note_id(&mut self, id: &SectionId) {
        if self.has_room() {
            self.ids.push(id.clone());
        }
    }

    pub fn note_family(&mut self, name: &Arc<str>) {
        if self.has_room() {
            self.families.push(Arc::clone(name));
        }
    }

    pub fn len(&self) -> usize {
        self.ids.len() + self.families.len()
    }

    fn has_room(&mut self) -> bool {
        if self.len() >= MAX_NOTES {
            *self = SectionNotes::default();
            self.everything = true;
        }
        !self.everything
    }
}
