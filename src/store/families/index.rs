//! The index of families that sections share: their heads, and the sections that expose
//! them.
//!
//! Families and series are identified by their plain names, in the legacy character set. Names that
//! differ only in other characters are the same to a reader that supports no others.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::exposition::{FamilyText, Kind, OpenMetricsHead, aliases, plain_name};
use crate::store::families::family_name::FamilyName;
use crate::store::families::series_owners::SeriesOwners;

/// All exposed families, and the owners of their series.
#[derive(Debug, Default)]
pub struct FamilyIndex {
    /// Slots of families, by every plain name under which they are shown: escaped with
    /// underscores, and those of [`aliases`].
    pub by_name: HashMap<Box<str>, usize>,
    pub slots: Vec<IndexEntry>,
    /// Empty slots.
    pub free: Vec<usize>,
    /// The owners of series.
    pub owners: SeriesOwners,
}

/// A family that at least one section exposes.
#[derive(Debug)]
pub struct IndexEntry {
    /// The full name.
    pub name: FamilyName,
    pub kind: Kind,
    pub help: Option<String>,
    pub open: Option<Box<OpenMetricsHead>>,
    /// The number of sections that expose it. The registry counts as one.
    pub sections: usize,
    /// The number of these that storage keeps.
    pub kept: usize,
}

impl FamilyIndex {
    /// The shared name of a family.
    pub fn name(&self, family: &Arc<str>) -> FamilyName {
        let held = self.entry(&plain_name(family));
        let held = held.filter(|held| *held.name == **family);
        held.map_or_else(|| Arc::clone(family).into(), |held| held.name.clone())
    }

    /// The family that has a plain name.
    pub fn entry(&self, name: &str) -> Option<&IndexEntry> {
        Some(&self.slots[*self.by_name.get(name)?])
    }

    /// Adds what a section exposes of a family. `member` tells whether the section
    /// exposed the family before, and `kept` whether storage keeps the section.
    /// Returns the family's shared name, and its head if that changes.
    ///
    /// If help texts differ, the first one stays while another section exposes the
    /// family.
    pub fn join(
        &mut self,
        family: &FamilyText,
        member: bool,
        kept: bool,
    ) -> (FamilyName, Option<Bytes>) {
        let plain = plain_name(&family.name);
        if let Some(slot) = self.by_name.get(&*plain) {
            let held = &mut self.slots[*slot];
            held.sections += usize::from(!member);
            held.kept += usize::from(!member && kept);
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
            kept: usize::from(kept),
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

    /// Like [`join`](Self::join), for a family whose shared name is known.
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

    /// Whether storage keeps a section that exposes the family.
    pub fn is_kept(&self, name: &FamilyName) -> bool {
        let held = self.slots.get(name.slot());
        held.is_some_and(|held| held.kept > 0)
    }

    /// Removes a section from a family; `kept` as in [`join`](Self::join). Returns
    /// whether it was the last one.
    pub fn leave(&mut self, family: &str, kept: bool) -> bool {
        let name = plain_name(family);
        let Some(slot) = self.by_name.get(&*name).copied() else {
            return false;
        };
        let held = &mut self.slots[slot];
        held.sections -= 1;
        held.kept -= usize::from(kept);
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

    /// The family that has a plain name: its full name, its kind, and the number of
    /// sections that expose it.
    pub fn holder(&self, name: &str) -> Option<(&str, Kind, usize)> {
        let held = self.entry(name)?;
        Some((&held.name, held.kind, held.sections))
    }

    /// The serial number of the section that exposes a series.
    pub fn owner(&self, series: u64) -> Option<u32> {
        self.owners.get(series)
    }

    /// Makes a section the owner of these series.
    pub fn own_series(&mut self, section: u32, series: &[u64]) {
        for hash in series {
            self.owners.set(*hash, section);
        }
    }

    /// Removes a section as the owner of these series.
    pub fn disown_series(&mut self, section: u32, series: &[u64]) {
        for hash in series {
            // Another section of the same write may own it now.
            if self.owners.get(*hash) == Some(section) {
                self.owners.remove(*hash);
            }
        }
    }

    /// Whether a section exposes a family with this plain name.
    #[cfg(test)]
    pub fn is_exposed(&self, family: &str) -> bool {
        self.by_name.contains_key(family)
    }

    /// The number of exposed series.
    pub fn series(&self) -> usize {
        self.owners.len()
    }

    /// Whether a series is exposed.
    pub fn owns(&self, series: u64) -> bool {
        self.owners.get(series).is_some()
    }
}
