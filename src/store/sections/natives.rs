//! Native histograms of all sections, which lie beside the text they cannot
//! stand in.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::exposition::NativeHistogram;
use crate::store::sections::section_id::SectionId;

/// Those of one section in one family, and the family's name.
pub type FamilyNatives = (Arc<str>, Arc<Vec<NativeHistogram>>);

/// By family and section, in the order of the output. Without any it costs
/// nothing.
#[derive(Debug, Default)]
pub struct NativeIndex {
    by_place: BTreeMap<(Arc<str>, SectionId), Arc<Vec<NativeHistogram>>>,
    /// What is set and removed, where it is only noted.
    noted: Option<Noted>,
}

#[derive(Debug)]
struct Noted {
    changes: Vec<NativeChange>,
    /// Whether there are none that could be removed.
    none: bool,
}

/// What a section has in a family from now on; none where they are removed.
pub type NativeChange = (Arc<str>, SectionId, Vec<NativeHistogram>);

impl NativeIndex {
    /// Sets what a section has in a family; none removes it. Returns what is
    /// to be freed, which is for the caller to do without a lock.
    pub fn set(
        &mut self,
        family: &Arc<str>,
        id: &SectionId,
        natives: Vec<NativeHistogram>,
    ) -> impl Iterator<Item = Bytes> + use<> {
        let old = if let Some(noted) = &mut self.noted {
            if !(natives.is_empty() && noted.none) {
                noted
                    .changes
                    .push((Arc::clone(family), id.clone(), natives));
            }
            None
        } else if natives.is_empty() && self.by_place.is_empty() {
            None
        } else {
            let place = (Arc::clone(family), id.clone());
            if natives.is_empty() {
                self.by_place.remove(&place)
            } else {
                self.by_place.insert(place, Arc::new(natives))
            }
        };
        // Where a reader still has them, they are the reader's to free.
        let old = old.and_then(Arc::into_inner).unwrap_or_default();
        old.into_iter().map(|native| native.histogram)
    }

    /// Those of one section in a family.
    pub fn get(&self, family: &Arc<str>, id: &SectionId) -> Option<Arc<Vec<NativeHistogram>>> {
        if self.by_place.is_empty() {
            return None;
        }
        let place = (Arc::clone(family), id.clone());
        self.by_place.get(&place).cloned()
    }

    /// An index that only notes what is to be done to this one.
    pub fn noting(&self) -> Self {
        NativeIndex {
            by_place: BTreeMap::new(),
            noted: Some(Noted {
                changes: Vec::new(),
                none: self.by_place.is_empty(),
            }),
        }
    }

    pub fn into_noted(self) -> Vec<NativeChange> {
        self.noted.map_or_else(Vec::new, |noted| noted.changes)
    }

    /// All of them, by family.
    pub fn all(&self) -> Vec<FamilyNatives> {
        self.by_place
            .iter()
            .map(|((family, _), natives)| (Arc::clone(family), Arc::clone(natives)))
            .collect()
    }
}
