//! Methods of the section table for inspections.

use std::sync::Arc;

use bytes::Bytes;

use crate::store::sections::findings::Findings;
use crate::store::sections::key::OutputKey;
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::sections::table::SectionTable;

impl SectionTable {
    /// The fragments of these sections together, in the order of the output.
    pub(in crate::store) fn pieces_of_ids(&self, ids: &[SectionId]) -> Vec<Bytes> {
        self.gather(ids.iter().filter_map(|id| self.by_id.get_key_value(id)))
    }

    /// The ids of all sections that are verbatim or withdrawn.
    pub(in crate::store) fn without_families(&self) -> Vec<SectionId> {
        let sections = self.by_id.iter();
        sections
            .filter(|(id, _)| matches!(id.producer, Producer::App | Producer::Target))
            .filter(|(_, section)| section.members.is_empty())
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Takes a section off the queue. Returns its verbatim text, if it has one, and the
    /// findings in the text before.
    pub(in crate::store) fn take_uninspected(
        &mut self,
        id: &SectionId,
    ) -> (Option<Bytes>, Option<Arc<Findings>>) {
        let Some(section) = self.by_id.get_mut(id) else {
            return (None, None);
        };
        section.uninspected = false;
        let findings = section.findings.clone();
        (
            self.page_list.get(&OutputKey::Verbatim(id.clone())),
            findings,
        )
    }

    /// Sets the findings in a section's text, if the section still exists.
    pub(in crate::store) fn set_findings(
        &mut self,
        id: &SectionId,
        findings: Option<Arc<Findings>>,
    ) {
        if let Some(section) = self.by_id.get_mut(id) {
            section.findings = findings;
        }
    }
}
