//! Checks a reservation of the registry against all sections, and enters it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::exposition::{FamilyText, Kind, SeriesHashes, Text, aliases, plain_name};
use crate::registry::{Changeset, FamilyHead, Reservation, family_text};
use crate::store::families::family_name::FamilyName;
use crate::store::families::index::{FamilyIndex, IndexEntry};
use crate::store::families::names::{NameClash, name_clash, reserved};
use crate::store::families::plain_hash::PlainHash;
use crate::store::families::series_owners::REGISTRY_SERIAL;
use crate::store::rejection::BatchRejection;
use crate::store::sections::holder::Holder;
use crate::store::sections::key::{FamilyPart, OutputKey};
use crate::store::sections::table::SectionTable;

impl SectionTable {
    /// Checks a reservation against the limit of memory and the family index.
    pub(in crate::store) fn check_reservation(
        &self,
        changeset: &Changeset,
        limit: usize,
    ) -> Result<(), BatchRejection> {
        let reservation = changeset.reservation();
        let series_name = |index| changeset.series_name(index);
        let size = self.weight + reservation.reserved_bytes - reservation.released_bytes;
        // A batch that frees memory is accepted even if the limit is still exceeded.
        if size > limit && size > self.weight {
            return Err(BatchRejection::TooManyBytes { size, limit });
        }
        self.families
            .check_reservation(reservation, series_name)
            .map_err(|mut rejection| {
                if let BatchRejection::KindConflict { family, holder, .. } = &mut rejection {
                    *holder = self.holder_of(family, &[]);
                }
                rejection
            })
    }

    /// Enters a reservation. Heads are set here, blocks before the next snapshot.
    /// Returns memory for the caller to free.
    pub(in crate::store) fn take_reservation(&mut self, reservation: &Reservation) -> Vec<Bytes> {
        self.weight = self.weight + reservation.reserved_bytes - reservation.released_bytes;
        let heads = self.families.take_reservation(reservation);
        if let Some(notes) = &mut self.notes {
            let added = reservation.added_families.iter();
            let heads = added.chain(&reservation.changed_families);
            let names = heads.map(|head| &head.family);
            names
                .chain(&reservation.removed_families)
                .for_each(|name| notes.note_family(name));
        }
        heads
            .into_iter()
            .map(|(family, head)| {
                self.page_list
                    .set(OutputKey::Family(family, FamilyPart::Head), head)
            })
            .collect()
    }
}

/// In the index the registry is like one more section.
impl FamilyIndex {
    /// Checks a reservation against what sections expose, and its parts against each
    /// other. `series_name` shows a reserved series for messages.
    pub fn check_reservation(
        &self,
        reservation: &Reservation,
        series_name: impl Fn(u32) -> String,
    ) -> Result<(), BatchRejection> {
        let left: HashSet<&str> = reservation
            .removed_families
            .iter()
            .map(|family| &**family)
            .collect();
        let mut joined: HashMap<String, (&str, Kind)> = HashMap::new();
        for FamilyHead { family, kind, .. } in &reservation.added_families {
            if let Some((kept, _)) = reserved(&plain_name(family)) {
                return Err(BatchRejection::NameCollision {
                    family: family_text(family),
                    other: kept.to_owned(),
                });
            }
            let holder = |name: &str| {
                let stays =
                    |held: &&IndexEntry| held.sections > usize::from(left.contains(&*held.name));
                let held = self.entry(name).filter(stays);
                held.map(|held| (&*held.name, held.kind))
                    .or_else(|| joined.get(name).copied())
            };
            match name_clash(family, *kind, holder) {
                None => {}
                Some(NameClash::Collision(other)) => {
                    return Err(BatchRejection::NameCollision {
                        family: family_text(family),
                        other: family_text(other),
                    });
                }
                Some(NameClash::Kind(held)) => {
                    return Err(BatchRejection::KindConflict {
                        family: family_text(family),
                        kind: kind.with_article(),
                        held: held.with_article(),
                        holder: Holder::default(),
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
            // Sections that expose the family gave it this kind.
            let held = self.entry(&plain_name(family));
            let other = held.filter(|held| held.sections > 1 && held.kind != *kind);
            if let Some(held) = other {
                return Err(BatchRejection::KindConflict {
                    family: family_text(family),
                    kind: kind.with_article(),
                    held: held.kind.with_article(),
                    holder: Holder::default(),
                });
            }
        }
        let released: HashSet<u64, PlainHash> =
            reservation.released_series.iter().copied().collect();
        let mut series: HashSet<u64, PlainHash> = HashSet::default();
        for (hash, place) in &reservation.reserved_series {
            let free = match self.owners.get(*hash) {
                None => true,
                Some(owner) => owner == REGISTRY_SERIAL && released.contains(hash),
            };
            if !free || !series.insert(*hash) {
                return Err(BatchRejection::DuplicateSeries {
                    series: series_name(*place),
                });
            }
        }
        Ok(())
    }

    /// Enters a checked reservation. Returns the heads that change, by family. A
    /// removed head is empty.
    pub fn take_reservation(&mut self, reservation: &Reservation) -> Vec<(FamilyName, Bytes)> {
        let mut heads = Vec::new();
        for family in &reservation.removed_families {
            if self.leave(family, true) {
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
            if let (name, Some(text)) = self.join(&family, member, true) {
                heads.push((name, text));
            }
        }
        self.disown_series(REGISTRY_SERIAL, &reservation.released_series);
        for (hash, _) in &reservation.reserved_series {
            self.owners.set(*hash, REGISTRY_SERIAL);
        }
        heads
    }
}
