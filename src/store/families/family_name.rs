//! The name of a family, as fragment keys hold it.

use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;

/// A shared name in 8 bytes, half of what an `Arc<str>` takes. Most comparisons are of
/// a name with itself, which is found without reading it.
#[derive(Debug, Clone, Default)]
pub struct FamilyName(Arc<Named>);

#[derive(Debug, Default)]
struct Named {
    name: Arc<str>,
    slot: usize,
}

impl FamilyName {
    /// The name of the family in `slot` of the [family index](super::index).
    pub fn at(slot: usize, name: Arc<str>) -> Self {
        FamilyName(Arc::new(Named { name, slot }))
    }

    /// The family's slot in the index, while the family exists.
    pub fn slot(&self) -> usize {
        self.0.slot
    }

    /// The name as text.
    pub fn shared(&self) -> &Arc<str> {
        &self.0.name
    }
}

/// A name for looking up a key. It has no slot in the index.
impl From<Arc<str>> for FamilyName {
    fn from(name: Arc<str>) -> Self {
        FamilyName::at(usize::MAX, name)
    }
}

impl Deref for FamilyName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.name
    }
}

impl PartialEq for FamilyName {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl Eq for FamilyName {}

impl PartialOrd for FamilyName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for FamilyName {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        str::cmp(self, other)
    }
}
