//! Checks the families of a write against those of other sections.

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
    /// Checks a write against what other sections expose, and its parts
    /// against one another: one kind to a family, every series once, no name
    /// within another family. Costs what is written, not what is held.
    ///
    /// No section may be changed twice: see `Write::deduplicated`.
    pub fn check(&self, plans: &[SectionChangeset<'_>]) -> Result<(), Rejection> {
        if plans.iter().all(|plan| plan.coming.is_empty()) || self.is_the_same(plans) {
            return Ok(());
        }
        let mut leaving: HashMap<&str, usize> = HashMap::new();
        for member in plans.iter().flat_map(|plan| &plan.leaving) {
            *leaving.entry(&*member.family).or_default() += 1;
        }
        // Few writes bring what another section exposes.
        let let_go = LazyCell::new(|| {
            let members = plans.iter().flat_map(|plan| &plan.leaving);
            let series = members.flat_map(|member| member.series.iter().copied());
            series.collect::<HashSet<u64, PlainHash>>()
        });

        let mut reservation: HashMap<Cow<'_, str>, (&str, Kind)> = HashMap::new();
        let mut series: HashSet<u64, PlainHash> = HashSet::default();
        let alone = plans.len() == 1;
        for plan in plans {
            let serial = plan.old.map(|section| section.serial);
            for family in &plan.coming {
                // Who has a name once this write is done, as far as is known.
                let holder = |name: &str| {
                    let stays = |held: &&IndexEntry| {
                        held.sections > leaving.get(&*held.name).copied().unwrap_or_default()
                    };
                    let held = self.held(name).filter(stays);
                    held.map(|held| (&*held.name, held.kind))
                        .or_else(|| reservation.get(name).copied())
                        .or_else(|| reserved(name))
                };
                check_name(plan.id, family, holder)?;
                for alias in aliases(&family.name) {
                    reservation.insert(Cow::Owned(alias), (&family.name, family.kind));
                }
                reservation.insert(plain_name(&family.name), (&family.name, family.kind));
                for (place, hash) in family.series.iter().enumerate() {
                    // A series of a family that stays is none of another
                    // family of its section: their names are held apart. What
                    // another section exposes must be let go by this write.
                    let owner = self.owners.get(*hash);
                    let other = owner.filter(|owner| Some(*owner) != serial);
                    let elsewhere = other.is_some() && (alone || !let_go.contains(hash));
                    if elsewhere || !series.insert(*hash) {
                        return Err(Rejection::DuplicateSeries {
                            section: plan.id.clone(),
                            line: family.line,
                            series: family.series_text(place),
                            twice: !elsewhere,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a write brings the same series of the same families as the one
    /// section that it is about has now. Most pushes are so, and then there is
    /// nothing that it could meet: not even its own parts, which are known to
    /// differ.
    pub fn is_the_same(&self, plans: &[SectionChangeset<'_>]) -> bool {
        let [plan] = plans else { return false };
        let Some(old) = plan.old else { return false };
        let mut near = 0;
        plan.coming.iter().all(|family| {
            let member = old.member_near(&family.name, &mut near);
            member.is_some_and(|member| {
                *member.series == *family.series
                    && self.slots[member.family.slot()].kind == family.kind
            })
        })
    }
}

/// Checks a family's name and kind against the families that stay.
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
