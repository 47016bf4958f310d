//! Native histograms of all sections and aggregated families. Text cannot show them, so
//! they are kept beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::exposition::NativeHistogram;
use crate::store::sections::section_id::SectionId;

/// A family's name and native histograms that one section, or one block of aggregated
/// series, has in it.
pub type FamilyNatives = (Arc<str>, Arc<Vec<NativeHistogram>>);

/// Native histograms by family and owner. An empty index costs nothing.
#[derive(Debug, Default)]
pub struct NativeIndex {
    by_place: BTreeMap<(Arc<str>, Owner), Arc<Vec<NativeHistogram>>>,
    /// In an index that only notes changes: the changes.
    noted: Option<Noted>,
}

/// Who has native histograms in a family.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Section(SectionId),
    /// A block of aggregated series.
    Block(u32),
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
        } else {
            self.set_owned(family, || Owner::Section(id.clone()), natives)
        };
        freed(old)
    }

    /// Sets what a block of aggregated series has in a family, in the same way.
    pub fn set_block(
        &mut self,
        family: &Arc<str>,
        number: u32,
        natives: Vec<NativeHistogram>,
    ) -> impl Iterator<Item = Bytes> + use<> {
        freed(self.set_owned(family, || Owner::Block(number), natives))
    }

    fn set_owned(
        &mut self,
        family: &Arc<str>,
        owner: impl FnOnce() -> Owner,
        natives: Vec<NativeHistogram>,
    ) -> Option<Arc<Vec<NativeHistogram>>> {
        if natives.is_empty() && self.by_place.is_empty() {
            return None;
        }
        let place = (Arc::clone(family), owner());
        if natives.is_empty() {
            self.by_place.remove(&place)
        } else {
            self.by_place.insert(place, Arc::new(natives))
        }
    }

    /// The native histograms of one section in a family.
    pub fn get(&self, family: &Arc<str>, id: &SectionId) -> Option<Arc<Vec<NativeHistogram>>> {
        if self.by_place.is_empty() {
            return None;
        }
        let place = (Arc::clone(family), Owner::Section(id.clone()));
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
        self.chosen(|_| true)
    }

    /// The native histograms of sections, by family. Those of aggregated series are left out,
    /// since they are current only while a snapshot with native histograms is taken.
    pub fn of_sections(&self) -> Vec<FamilyNatives> {
        self.chosen(|owner| matches!(owner, Owner::Section(_)))
    }

    fn chosen(&self, is_chosen: impl Fn(&Owner) -> bool) -> Vec<FamilyNatives> {
        let natives = self.by_place.iter();
        natives
            .filter(|((_, owner), _)| is_chosen(owner))
            .map(|((family, _), natives)| (Arc::clone(family), Arc::clone(natives)))
            .collect()
    }
}

/// Memory of replaced histograms. If a reader still has them, the reader frees them.
fn freed(old: Option<Arc<Vec<NativeHistogram>>>) -> impl Iterator<Item = Bytes> {
    let old = old.and_then(Arc::into_inner).unwrap_or_default();
    old.into_iter().map(|native| native.histogram)
}
