//! Checks the families of a write against those of other producers.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};

use crate::exposition::{FamilyText, Kind, aliases, plain_name};
use crate::store::families::index::{FamilyIndex, IndexEntry};
use crate::store::families::names::{NameClash, name_clash, reserved};
use crate::store::families::plain_hash::PlainHash;
use crate::store::rejection::Rejection;
use crate::store::sections::holder::Holder;
use crate::store::sections::section_id::SectionId;
use crate::store::write::changeset::SectionChangeset;

impl FamilyIndex {
    /// Checks the changes of a write against what other producers expose, and against each
    /// other: a family has one kind, a series is exposed once, and no family has a name under
    /// which another exposes series. Costs what is written, not what is stored.
    ///
    /// Each section is changed at most once; see `Write::deduplicated`.
    pub fn check(&self, changesets: &[SectionChangeset<'_>]) -> Result<(), Rejection> {
        if changesets
            .iter()
            .all(|changeset| changeset.added.is_empty())
            || self.has_same_series(changesets)
        {
            return Ok(());
        }
        let mut leaving: HashMap<&str, usize> = HashMap::new();
        for member in changesets.iter().flat_map(|changeset| &changeset.removed) {
            *leaving.entry(&*member.family).or_default() += 1;
        }
        // Computed only if another section exposes a series of the write, which is rare.
        let let_go = LazyCell::new(|| {
            let members = changesets.iter().flat_map(|changeset| &changeset.removed);
            let series = members.flat_map(|member| member.series.iter().copied());
            series.collect::<HashSet<u64, PlainHash>>()
        });

        let mut reservation: HashMap<Cow<'_, str>, (&str, Kind)> = HashMap::new();
        let mut series: HashSet<u64, PlainHash> = HashSet::default();
        let alone = changesets.len() == 1;
        for changeset in changesets {
            let serial = changeset.old.map(|section| section.serial);
            for family in &changeset.added {
                // The family that has a name once the write is applied.
                let holder = |name: &str| {
                    let stays = |held: &&IndexEntry| {
                        held.sections > leaving.get(&*held.name).copied().unwrap_or_default()
                    };
                    let held = self.entry(name).filter(stays);
                    held.map(|held| (&*held.name, held.kind))
                        .or_else(|| reservation.get(name).copied())
                        .or_else(|| reserved(name))
                };
                check_name(changeset.id, family, holder)?;
                for alias in aliases(&family.name) {
                    reservation.insert(Cow::Owned(alias), (&family.name, family.kind));
                }
                reservation.insert(plain_name(&family.name), (&family.name, family.kind));
                for (place, hash) in family.series.iter().enumerate() {
                    // Families of one section cannot share a series, since their names do
                    // not clash. A series of another section must be removed by this write.
                    let owner = self.owners.get(*hash);
                    let other = owner.filter(|owner| Some(*owner) != serial);
                    let elsewhere = other.is_some() && (alone || !let_go.contains(hash));
                    if elsewhere || !series.insert(*hash) {
                        return Err(Rejection::DuplicateSeries {
                            section: changeset.id.clone(),
                            line: family.line,
                            series: family.series_text(place),
                            within: (!elsewhere)
                                .then(|| first_with(changesets, *hash))
                                .flatten(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a write of one section has the series that the section has now. Most pushes do,
    /// and need no further check.
    pub fn has_same_series(&self, changesets: &[SectionChangeset<'_>]) -> bool {
        let [changeset] = changesets else {
            return false;
        };
        let Some(old) = changeset.old else {
            return false;
        };
        let mut near = 0;
        changeset.added.iter().all(|family| {
            let member = old.member_near(&family.name, &mut near);
            member.is_some_and(|member| {
                *member.series == *family.series
                    && self.slots[member.family.slot()].kind == family.kind
            })
        })
    }
}

/// The first section of a write that has a series.
fn first_with(changesets: &[SectionChangeset<'_>], hash: u64) -> Option<SectionId> {
    let has = |family: &&FamilyText| family.series.contains(&hash);
    let mut all = changesets.iter();
    let found = all.find(|changeset| changeset.added.iter().any(has));
    found.map(|changeset| changeset.id.clone())
}

/// Checks a family's name and kind against the families that are exposed afterwards.
fn check_name<'n>(
    id: &SectionId,
    family: &FamilyText,
    holder: impl Fn(&str) -> Option<(&'n str, Kind)>,
) -> Result<(), Rejection> {
    match name_clash(&family.name, family.kind, holder) {
        None => Ok(()),
        Some(NameClash::Collision(other)) => Err(Rejection::NameCollision {
            section: id.clone(),
            line: family.line,
            family: family.name.to_string(),
            other: other.to_owned(),
            holder: Holder::default(),
        }),
        Some(NameClash::Kind(held)) => Err(Rejection::KindConflict {
            section: id.clone(),
            line: family.line,
            family: family.name.to_string(),
            kind: family.kind.with_article(),
            held: held.with_article(),
            holder: Holder::default(),
        }),
    }
}
