//! FamilyIndex that several sections share: their heads, and who may join them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::write::{Change, Refused, Write};
use super::{Section, SectionId};
use crate::exposition::{FamilyText, Kind};

/// All families that are exposed, and the series in them.
#[derive(Debug, Default)]
pub struct FamilyIndex {
    by_name: BTreeMap<Arc<str>, Held>,
    /// Which section exposes a series, by the series' hash.
    owners: HashMap<u64, u64, PlainHash>,
}

/// Hashes of series are spread already.
type PlainHash = std::hash::BuildHasherDefault<Identity>;

#[derive(Debug, Default)]
pub struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole hashes are keys");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A family that at least one section exposes.
#[derive(Debug)]
struct Held {
    kind: Kind,
    sections: usize,
}

/// What a section exposes of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub family: Arc<str>,
    pub series: Vec<u64>,
}

/// Suffixes under which a family of several numbers exposes them: no other
/// family may have such a name.
fn suffixes(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Histogram => &["_bucket", "_count", "_sum"],
        Kind::Summary => &["_count", "_sum"],
        _ => &[],
    }
}

impl FamilyIndex {
    /// Checks a write against what other sections expose, and its parts
    /// against one another: one kind to a family, every series once, no name
    /// within another family. Costs what is written, not what is held.
    pub fn check<'s>(
        &self,
        write: &Write,
        section: impl Fn(&SectionId) -> Option<&'s Section>,
    ) -> Result<(), Refused> {
        let families = |change| Change::families(change).is_some_and(|(_, it)| !it.is_empty());
        if !write.changes.iter().any(families) {
            return Ok(());
        }
        let mut leaving: HashMap<&str, usize> = HashMap::new();
        let mut replaced: Vec<u64> = Vec::new();
        let mut ids: HashSet<&SectionId> = HashSet::new();
        // Of several texts for one section the last one holds.
        let newest: Vec<_> = write
            .changes
            .iter()
            .rev()
            .filter_map(Change::families)
            .filter(|(id, _)| ids.insert(id))
            .collect();
        for old in ids.iter().filter_map(|id| section(id)) {
            replaced.push(old.serial);
            for member in &old.members {
                *leaving.entry(&*member.family).or_default() += 1;
            }
        }

        let mut claims: HashMap<&str, Kind> = HashMap::new();
        let mut series: HashSet<u64> = HashSet::new();
        for (id, families) in newest.into_iter().rev() {
            for family in families {
                let kind_of = |name: &str| {
                    let stays = |held: &&Held| {
                        held.sections > leaving.get(name).copied().unwrap_or_default()
                    };
                    let held = self.by_name.get(name).filter(stays).map(|held| held.kind);
                    held.or_else(|| claims.get(name).copied())
                };
                check_name(id, family, kind_of)?;
                claims.insert(&family.name, family.kind);
                for (place, hash) in family.series.iter().enumerate() {
                    let elsewhere = self
                        .owners
                        .get(hash)
                        .is_some_and(|owner| !replaced.contains(owner));
                    if elsewhere || !series.insert(*hash) {
                        return Err(Refused::DuplicateSeries {
                            app: id.name.to_string(),
                            line: family.line,
                            series: family.series_text(place),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes note of what a section exposes of a family from now on. Returns
    /// whether the family's head is to be written.
    pub fn join(&mut self, family: &FamilyText, member: bool) -> bool {
        match self.by_name.get_mut(&family.name) {
            Some(held) => {
                held.sections += usize::from(!member);
                let changed = held.kind != family.kind;
                held.kind = family.kind;
                changed
            }
            None => {
                let held = Held {
                    kind: family.kind,
                    sections: 1,
                };
                self.by_name.insert(Arc::clone(&family.name), held);
                true
            }
        }
    }

    /// Notes that a section exposes the family no longer. Returns whether it
    /// was the last one that did.
    pub fn leave(&mut self, family: &str) -> bool {
        let Some(held) = self.by_name.get_mut(family) else {
            return false;
        };
        held.sections -= 1;
        if held.sections > 0 {
            return false;
        }
        self.by_name.remove(family);
        true
    }

    pub fn own_series(&mut self, section: u64, series: &[u64]) {
        for hash in series {
            self.owners.insert(*hash, section);
        }
    }

    pub fn disown_series(&mut self, section: u64, series: &[u64]) {
        for hash in series {
            // Another section of the same write may have taken it over.
            if self.owners.get(hash) == Some(&section) {
                self.owners.remove(hash);
            }
        }
    }

    /// Whether a section exposes this family.
    #[cfg(test)]
    pub fn is_held(&self, family: &str) -> bool {
        self.by_name.contains_key(family)
    }

    #[cfg(test)]
    pub fn series(&self) -> usize {
        self.owners.len()
    }
}

/// Checks a family's name and kind against the families that stay.
fn check_name(
    id: &SectionId,
    family: &FamilyText,
    kind_of: impl Fn(&str) -> Option<Kind>,
) -> Result<(), Refused> {
    if let Some(held) = kind_of(&family.name).filter(|held| *held != family.kind) {
        return Err(Refused::KindConflict {
            app: id.name.to_string(),
            line: family.line,
            family: family.name.to_string(),
            kind: family.kind.as_str(),
            held: held.as_str(),
        });
    }
    let collision = |other: String| Refused::NameCollision {
        app: id.name.to_string(),
        line: family.line,
        family: family.name.to_string(),
        other,
    };
    for suffix in suffixes(family.kind) {
        let part = format!("{}{suffix}", family.name);
        if kind_of(&part).is_some() {
            return Err(collision(part));
        }
    }
    for suffix in ["_bucket", "_count", "_sum"] {
        let Some(base) = family.name.strip_suffix(suffix) else {
            continue;
        };
        if kind_of(base).is_some_and(|kind| suffixes(kind).contains(&suffix)) {
            return Err(collision(base.to_owned()));
        }
    }
    Ok(())
}
