//! Families that several sections share: their heads, and who may join them.
//!
//! Families and series are known by their names within the old character set:
//! two that differ only in characters outside of it are the same to a reader
//! that cannot take those.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::exposition::{FamilyText, Kind, OpenMetricsHead, aliases, plain_name};
use crate::store::families::family_name::FamilyName;
use crate::store::families::series_owners::SeriesOwners;

/// All families that are exposed, and the series in them.
#[derive(Debug, Default)]
pub struct FamilyIndex {
    /// Slots of families, by every name within the old character set under
    /// which they are shown: with underscores, and those of [`aliases`].
    pub by_name: HashMap<Box<str>, usize>,
    pub slots: Vec<IndexEntry>,
    /// Slots that no family is in.
    pub free: Vec<usize>,
    /// Which section exposes a series, by the series' hash.
    pub owners: SeriesOwners,
}

/// A family that at least one section exposes.
#[derive(Debug)]
pub struct IndexEntry {
    /// With all its characters.
    pub name: FamilyName,
    pub kind: Kind,
    pub help: Option<String>,
    pub open: Option<Box<OpenMetricsHead>>,
    pub sections: usize,
}

impl FamilyIndex {
    /// The name of a family as those who expose it share it.
    pub fn name(&self, family: &Arc<str>) -> FamilyName {
        let held = self.held(&plain_name(family));
        let held = held.filter(|held| *held.name == **family);
        held.map_or_else(|| Arc::clone(family).into(), |held| held.name.clone())
    }

    /// The family of a name within the old character set.
    pub fn held(&self, name: &str) -> Option<&IndexEntry> {
        Some(&self.slots[*self.by_name.get(name)?])
    }

    /// Takes note of what a section exposes of a family from now on, and
    /// whether it did before. Returns the family's head if that changes.
    ///
    /// Of differing helps the first is kept, for as long as another section
    /// has a part in the family.
    ///
    /// Also returns the name that all who expose the family share.
    pub fn join(&mut self, family: &FamilyText, member: bool) -> (FamilyName, Option<Bytes>) {
        let plain = plain_name(&family.name);
        if let Some(slot) = self.by_name.get(&*plain) {
            let held = &mut self.slots[*slot];
            held.sections += usize::from(!member);
            let name = held.name.clone();
            let head = self.join_again(&name, family, member);
            return (name, head);
        }
        let slot = self.free.pop().unwrap_or(self.slots.len());
        let name = FamilyName::at(slot, Arc::clone(&family.name));
        let held = IndexEntry {
            name: name.clone(),
            kind: family.kind,
            help: family.help.clone(),
            open: family.open.clone(),
            sections: 1,
        };
        match self.slots.get_mut(slot) {
            Some(place) => *place = held,
            None => self.slots.push(held),
        }
        for alias in aliases(&family.name) {
            self.by_name.insert(alias.into(), slot);
        }
        self.by_name.insert(plain.into_owned().into(), slot);
        (name, Some(family.head()))
    }

    /// The same for a family of a name that it is known by already.
    pub fn join_again(
        &mut self,
        name: &FamilyName,
        family: &FamilyText,
        member: bool,
    ) -> Option<Bytes> {
        let held = &mut self.slots[name.slot()];
        let alone = member && held.sections == 1;
        let helped = family.help != held.help && (alone || held.help.is_none());
        let open = match alone {
            true => family.open.clone(),
            false => OpenMetricsHead::shared(held.open.as_deref(), family.open.as_deref()),
        };
        let changed = held.kind != family.kind || helped || held.open != open;
        held.open = open;
        held.kind = family.kind;
        if helped {
            held.help.clone_from(&family.help);
        }
        changed.then(|| {
            let help = held.help.as_deref();
            FamilyText::head_of(&held.name, held.kind, help, held.open.as_deref())
        })
    }

    /// Notes that a section exposes the family no longer. Returns whether it
    /// was the last one that did.
    pub fn leave(&mut self, family: &str) -> bool {
        let name = plain_name(family);
        let Some(slot) = self.by_name.get(&*name).copied() else {
            return false;
        };
        let held = &mut self.slots[slot];
        held.sections -= 1;
        if held.sections > 0 {
            return false;
        }
        held.help = None;
        for alias in aliases(family) {
            if self.by_name.get(&*alias) == Some(&slot) {
                self.by_name.remove(&*alias);
            }
        }
        self.by_name.remove(&*name);
        self.free.push(slot);
        true
    }

    /// The family of a name within the old character set: its name with all its
    /// characters, its kind, and how many sections expose it.
    pub fn holder(&self, name: &str) -> Option<(&str, Kind, usize)> {
        let held = self.held(name)?;
        Some((&held.name, held.kind, held.sections))
    }

    /// The section that exposes a series, by its serial number.
    pub fn owner(&self, series: u64) -> Option<u32> {
        self.owners.get(series)
    }

    pub fn own_series(&mut self, section: u32, series: &[u64]) {
        for hash in series {
            self.owners.set(*hash, section);
        }
    }

    pub fn disown_series(&mut self, section: u32, series: &[u64]) {
        for hash in series {
            // Another section of the same write may have taken it over.
            if self.owners.get(*hash) == Some(section) {
                self.owners.remove(*hash);
            }
        }
    }

    /// Whether a section exposes this family.
    #[cfg(test)]
    pub fn is_held(&self, family: &str) -> bool {
        self.by_name.contains_key(family)
    }

    /// Series that are exposed, but for those of the proxy's own families.
    pub fn series(&self) -> usize {
        self.owners.len()
    }

    /// Whether somebody exposes the series.
    pub fn owns(&self, series: u64) -> bool {
        self.owners.get(series).is_some()
    }
}
