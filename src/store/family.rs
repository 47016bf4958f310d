//! Families that several sections share: their heads, and who may join them.
//!
//! Families and series are known by their names within the old character set:
//! two that differ only in characters outside of it are the same to a reader
//! that cannot take those.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use super::family_name::FamilyName;
use super::living::BatchRefused;
use super::owners::Owners;
use super::pages::page_list::FragmentHint;
use super::plan::SectionPlan;
use super::write::Elsewhere;
use super::{Refused, SectionId};
use crate::exposition::{
    FamilyText, Kind, OpenMetricsHead, SeriesHashes, Text, aliases, plain_name,
};
use crate::registry::{self, FamilyHead, Reservation, family_text};

/// All families that are exposed, and the series in them.
#[derive(Debug, Default)]
pub struct FamilyIndex {
    /// Slots of families, by every name within the old character set under
    /// which they are shown: with underscores, and those of [`aliases`].
    by_name: HashMap<Box<str>, usize>,
    slots: Vec<Held>,
    /// Slots that no family is in.
    free: Vec<usize>,
    /// Which section exposes a series, by the series' hash.
    owners: Owners,
}

/// For keys that are spread already: hashes of series.
type PlainHash = BuildHasherDefault<PlainHasher>;

#[derive(Debug, Default)]
pub struct PlainHasher(u64);

impl Hasher for PlainHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole numbers are keys");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A family that at least one section exposes.
#[derive(Debug)]
struct Held {
    /// With all its characters.
    name: FamilyName,
    kind: Kind,
    help: Option<String>,
    open: Option<Box<OpenMetricsHead>>,
    sections: usize,
}

/// What a section exposes of a family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    pub family: FamilyName,
    pub series: SeriesHashes,
    /// Bytes of its text, a head included.
    pub bytes: u32,
    /// Bytes of its native histograms.
    pub natives: u32,
    /// When it came, in milliseconds since 1970.
    pub came: u64,
    /// Where its text is, unless it was moved since.
    pub place: FragmentHint,
}

impl Member {
    /// About the memory that it takes, in bytes.
    pub fn weight(&self) -> usize {
        weight(self.bytes, self.natives, &self.family, self.series.len())
    }
}

/// Families that the store's users write for groups, whatever else is there:
/// who exposes them must expose gauges. They are never living families, which
/// could own a group's series.
const RESERVED_GAUGES: [&str; 2] = ["push_failure_time_seconds", "push_time_seconds"];

/// All suffixes of [`suffixes`].
pub(super) const ALL_SUFFIXES: [&str; 5] = ["_bucket", "_count", "_sum", "_gcount", "_gsum"];

/// Suffixes under which a family of several numbers exposes them: no other
/// family may have such a name.
pub(super) fn suffixes(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Histogram => &["_bucket", "_count", "_sum"],
        Kind::Summary => &["_count", "_sum"],
        Kind::GaugeHistogram => &["_bucket", "_gcount", "_gsum"],
        _ => &[],
    }
}

impl FamilyIndex {
    /// Checks a write against what other sections expose, and its parts
    /// against one another: one kind to a family, every series once, no name
    /// within another family. Costs what is written, not what is held.
    ///
    /// No section may be changed twice: see `Write::settled`.
    pub fn check(&self, plans: &[SectionPlan<'_>]) -> Result<(), Refused> {
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
                    let stays = |held: &&Held| {
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
                        return Err(Refused::DuplicateSeries {
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
    pub fn is_the_same(&self, plans: &[SectionPlan<'_>]) -> bool {
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

    /// The name of a family as those who expose it share it.
    pub fn name(&self, family: &Arc<str>) -> FamilyName {
        let held = self.held(&plain_name(family));
        let held = held.filter(|held| *held.name == **family);
        held.map_or_else(|| Arc::clone(family).into(), |held| held.name.clone())
    }

    /// The family of a name within the old character set.
    fn held(&self, name: &str) -> Option<&Held> {
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
        let held = Held {
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

/// A family that is kept for groups, by its name within the old character set.
pub(super) fn reserved(name: &str) -> Option<(&'static str, Kind)> {
    let name = RESERVED_GAUGES.iter().find(|reserved| **reserved == name)?;
    Some((name, Kind::Gauge))
}

/// About the memory that a family takes once it is stored, in bytes.
pub fn weight_of(family: &FamilyText) -> usize {
    let (bytes, natives) = sizes_of(family);
    weight(bytes, natives, &family.name, family.series.len())
}

/// Bytes of a family's text, its head included, and of its native histograms.
/// The store's pages take no more in one piece than 32 bits can say.
pub fn sizes_of(family: &FamilyText) -> (u32, u32) {
    const NATIVE: usize = 64;
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let natives = family.natives.iter();
    let natives = natives.map(|it| NATIVE + it.labels.len() + it.histogram.len());
    let text = family.samples.len() + family.head_len();
    (size(text), size(natives.sum()))
}

/// Text, native histograms, the entries of keys and fragments, and those of
/// each series.
fn weight(bytes: u32, natives: u32, name: &str, series: usize) -> usize {
    const FAMILY: usize = 256;
    const SERIES: usize = 40;
    bytes as usize + natives as usize + FAMILY + name.len() + series * SERIES
}

/// Checks a family's name and kind against the families that stay.
fn check_name<'n>(
    id: &SectionId,
    family: &FamilyText,
    holder: impl Fn(&str) -> Option<(&'n str, Kind)>,
) -> Result<(), Refused> {
    match name_fault(&family.name, family.kind, holder) {
        None => Ok(()),
        Some(NameFault::Collision(other)) => Err(Refused::NameCollision {
            section: id.clone(),
            line: family.line,
            family: family.name.to_string(),
            other: other.to_owned(),
            holder: Elsewhere::default(),
        }),
        Some(NameFault::Kind(held)) => Err(Refused::KindConflict {
            section: id.clone(),
            line: family.line,
            family: family.name.to_string(),
            kind: family.kind.with_article(),
            held: held.with_article(),
            holder: Elsewhere::default(),
        }),
    }
}

/// Why a family cannot stand among the others.
#[derive(Debug, PartialEq)]
pub(super) enum NameFault<'n> {
    /// It is there, and of another kind.
    Kind(Kind),
    /// One of them would expose series of the other's name.
    Collision(&'n str),
}

/// `holder` tells which family has a name within the old character set.
pub(super) fn name_fault<'n>(
    family: &str,
    kind: Kind,
    holder: impl Fn(&str) -> Option<(&'n str, Kind)>,
) -> Option<NameFault<'n>> {
    let name = plain_name(family);
    if let Some((held, held_kind)) = holder(&name) {
        if held != family {
            return Some(NameFault::Collision(held));
        }
        if held_kind != kind {
            return Some(NameFault::Kind(held_kind));
        }
    }
    let other = |name: &str| holder(name).filter(|(held, _)| *held != family);
    let aliases = aliases(family);
    for name in aliases.iter().map(String::as_str).chain([&*name]) {
        if let Some((held, _)) = other(name) {
            return Some(NameFault::Collision(held));
        }
        for suffix in suffixes(kind) {
            if let Some((held, _)) = holder(&format!("{name}{suffix}")) {
                return Some(NameFault::Collision(held));
            }
        }
        for suffix in ALL_SUFFIXES {
            let base = name.strip_suffix(suffix).and_then(&holder);
            if let Some((held, _)) = base.filter(|(_, kind)| suffixes(*kind).contains(&suffix)) {
                return Some(NameFault::Collision(held));
            }
        }
    }
    None
}

/// Stands for the registry among the sections that own series.
const LIVING: u32 = u32::MAX;

/// Living families have a part in this like one more section.
impl FamilyIndex {
    /// Checks what the registry takes against what sections expose, and its
    /// parts against one another.
    pub fn check_reservation(&self, plan: &registry::Changeset) -> Result<(), BatchRefused> {
        let reservation = plan.reservation();
        let left: HashSet<&str> = reservation
            .removed_families
            .iter()
            .map(|family| &**family)
            .collect();
        let mut joined: HashMap<String, (&str, Kind)> = HashMap::new();
        for FamilyHead { family, kind, .. } in &reservation.added_families {
            if let Some((kept, _)) = reserved(&plain_name(family)) {
                return Err(BatchRefused::NameCollision {
                    family: family_text(family),
                    other: kept.to_owned(),
                });
            }
            let holder = |name: &str| {
                let stays = |held: &&Held| held.sections > usize::from(left.contains(&*held.name));
                let held = self.held(name).filter(stays);
                held.map(|held| (&*held.name, held.kind))
                    .or_else(|| joined.get(name).copied())
            };
            match name_fault(family, *kind, holder) {
                None => {}
                Some(NameFault::Collision(other)) => {
                    return Err(BatchRefused::NameCollision {
                        family: family_text(family),
                        other: family_text(other),
                    });
                }
                Some(NameFault::Kind(held)) => {
                    return Err(BatchRefused::KindConflict {
                        family: family_text(family),
                        kind: kind.with_article(),
                        held: held.with_article(),
                        holder: Elsewhere::default(),
                    });
                }
            }
            for name in aliases(family)
                .into_iter()
                .chain([plain_name(family).into_owned()])
            {
                joined.insert(name, (&**family, *kind));
            }
        }
        for FamilyHead { family, kind, .. } in &reservation.changed_families {
            // What others expose of the family has the type that they told.
            let held = self.held(&plain_name(family));
            let other = held.filter(|held| held.sections > 1 && held.kind != *kind);
            if let Some(held) = other {
                return Err(BatchRefused::KindConflict {
                    family: family_text(family),
                    kind: kind.with_article(),
                    held: held.kind.with_article(),
                    holder: Elsewhere::default(),
                });
            }
        }
        let released: HashSet<u64, PlainHash> =
            reservation.released_series.iter().copied().collect();
        let mut series: HashSet<u64, PlainHash> = HashSet::default();
        for (hash, place) in &reservation.reserved_series {
            let free = match self.owners.get(*hash) {
                None => true,
                Some(owner) => owner == LIVING && released.contains(hash),
            };
            if !free || !series.insert(*hash) {
                return Err(BatchRefused::DuplicateSeries {
                    series: plan.series_name(*place),
                });
            }
        }
        Ok(())
    }

    /// Takes what the registry reservation, which has been checked, and lets go what
    /// it releases. Returns the heads that change, by family; one that goes is
    /// empty.
    pub fn take_reservation(&mut self, reservation: &Reservation) -> Vec<(FamilyName, Bytes)> {
        let mut heads = Vec::new();
        for family in &reservation.removed_families {
            if self.leave(family) {
                heads.push((Arc::clone(family).into(), Bytes::new()));
            }
        }
        let joined = reservation.added_families.iter().map(|head| (head, false));
        for (head, member) in
            joined.chain(reservation.changed_families.iter().map(|head| (head, true)))
        {
            let family = FamilyText {
                name: Arc::clone(&head.family),
                kind: head.kind,
                help: head.help.as_deref().map(str::to_owned),
                line: 0,
                samples: Text::default(),
                series: SeriesHashes::default(),
                natives: Vec::new(),
                open: None,
            };
            if let (name, Some(text)) = self.join(&family, member) {
                heads.push((name, text));
            }
        }
        self.disown_series(LIVING, &reservation.released_series);
        for (hash, _) in &reservation.reserved_series {
            self.owners.set(*hash, LIVING);
        }
        heads
    }
}
