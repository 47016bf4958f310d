//! Native histograms of all sections. Text cannot show them, so they are kept beside
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::exposition::NativeHistogram;
use crate::store::sections::section_id::SectionId;

/// A family's name and the native histograms that one section has in it.
pub type FamilyNatives = (Arc<str>, Arc<Vec<NativeHistogram>>);

/// Native histograms by family and section, in the order of the output. An empty index
/// costs nothing.
#[derive(Debug, Default)]
pub struct NativeIndex {
    by_place: BTreeMap<(Arc<str>, SectionId), Arc<Vec<NativeHistogram>>>,
    /// In an index that only notes changes: the changes.
    noted: Option<Noted>,
}

#[derive(Debug)]
struct Noted {
    changes: Vec<NativeChange>,
    /// Whether the noted index is empty, so that removals can be skipped.
    none: bool,
}

/// A change of what a section has in a family. An empty list removes it.
pub type NativeChange = (Arc<str>, SectionId, Vec<NativeHistogram>);

impl NativeIndex {
    /// Sets what a section has in a family. An empty list removes it. Returns memory
    /// for the caller to free, after it has released its lock.
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
        // If a reader still has them, the reader frees them.
        let old = old.and_then(Arc::into_inner).unwrap_or_default();
        old.into_iter().map(|native| native.histogram)
    }

    /// The native histograms of one section in a family.
    pub fn get(&self, family: &Arc<str>, id: &SectionId) -> Option<Arc<Vec<NativeHistogram>>> {
        if self.by_place.is_empty() {
            return None;
        }
        let place = (Arc::clone(family), id.clone());
        self.by_place.get(&place).cloned()
    }

    /// An index that only notes changes to be made to this one.
    pub fn noting(&self) -> Self {
        NativeIndex {
            by_place: BTreeMap::new(),
            noted: Some(Noted {
                changes: Vec::new(),
                none: self.by_place.is_empty(),
            }),
        }
    }

    /// The noted changes, in order.
    pub fn into_noted(self) -> Vec<NativeChange> {
        self.noted.map_or_else(Vec::new, |noted| noted.changes)
    }

    /// All native histograms, by family.
    pub fn all(&self) -> Vec<FamilyNatives> {
        self.by_place
            .iter()
            .map(|((family, _), natives)| (Arc::clone(family), Arc::clone(natives)))
            .collect()
    }
}
