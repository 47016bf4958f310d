//! Turns what a section exposes into fragments of the output.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Now;
use crate::exposition::{Content, FamilyText};
use crate::store::families::member::{Member, sizes_of};
use crate::store::pages::page_list::FragmentHint;
use crate::store::sections::key::{FamilyPart, OutputKey, samples_key};
use crate::store::sections::section::{Section, place_near};
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::sections::table::SectionTable;
use crate::store::write::change::OtherFamilies;

/// The families, defaults and treatment of other families of a
/// [`Change::Update`](crate::store::Change::Update).
type Update = (Vec<FamilyText>, Vec<FamilyText>, OtherFamilies);

impl SectionTable {
    /// Replaces everything that the section exposes by `content`.
    pub(in crate::store) fn expose(
        &mut self,
        id: &SectionId,
        section: &mut Section,
        content: Content,
        now: Now,
        freed: &mut Vec<Bytes>,
    ) {
        let before = (section.bytes, section.weight);
        match content {
            Content::Verbatim(text) => {
                self.replace(id, section, (Vec::new(), Vec::new()), 0, freed);
                section.bytes = text.len();
                section.weight = text.len();
                freed.push(
                    self.page_list
                        .set(OutputKey::Verbatim(id.clone()), text.into_bytes()),
                );
                self.inspection_queue.note(id, section);
            }
            Content::Families(families) => {
                if section.members.is_empty() {
                    freed.push(self.page_list.remove(&OutputKey::Verbatim(id.clone())));
                    (section.bytes, section.weight) = (0, 0);
                }
                let updated_ms = now.unix_millis() as u64;
                self.replace(id, section, (families, Vec::new()), updated_ms, freed);
            }
        }
        self.count(id, before, section);
    }

    /// Replaces some families of the section.
    pub(in crate::store) fn update(
        &mut self,
        id: &SectionId,
        section: &mut Section,
        (families, defaults, others): Update,
        now: Now,
        freed: &mut Vec<Bytes>,
    ) {
        let before = (section.bytes, section.weight);
        let updated_ms = now.unix_millis() as u64;
        match others {
            OtherFamilies::Keep => {
                let mut near = 0;
                for (family, default) in families
                    .into_iter()
                    .map(|family| (family, false))
                    .chain(defaults.into_iter().map(|family| (family, true)))
                {
                    let place = place_near(&section.members, &family.name, &mut near);
                    if default && place.is_ok() {
                        continue;
                    }
                    // A listing of sections may still share the members.
                    let members = Arc::make_mut(&mut section.members);
                    let old = place.ok().map(|at| std::mem::take(&mut members[at]));
                    let member =
                        self.put(id, section.serial, family, old.as_ref(), updated_ms, freed);
                    section.account(old.as_ref(), Some(&member));
                    let members = Arc::make_mut(&mut section.members);
                    match place {
                        Ok(at) => members[at] = member,
                        Err(at) => members.insert(at, member),
                    }
                }
            }
            OtherFamilies::Drop => {
                self.replace(id, section, (families, defaults), updated_ms, freed);
            }
        }
        self.count(id, before, section);
    }

    /// Replaces all families of the section. Existing families named by `defaults`
    /// stay.
    fn replace(
        &mut self,
        id: &SectionId,
        section: &mut Section,
        (families, defaults): (Vec<FamilyText>, Vec<FamilyText>),
        updated_ms: u64,
        freed: &mut Vec<Bytes>,
    ) {
        if families.is_empty() && defaults.is_empty() && section.members.is_empty() {
            return;
        }
        let old = Arc::unwrap_or_clone(std::mem::take(&mut section.members));
        let coming = families.iter().chain(&defaults);
        let places = places(&old, coming.map(|family| &*family.name));
        freed.reserve(places.len());
        if are_all(&places, old.len()) {
            return self.renew(id, section, (families, old), &places, updated_ms, freed);
        }
        // Removals come first, since an added family may have the plain name of a
        // removed one.
        self.leave_others(id, section, &old, &places, freed);
        let mut members = Vec::with_capacity(places.len());
        for ((family, default), place) in families
            .into_iter()
            .map(|family| (family, false))
            .chain(defaults.into_iter().map(|family| (family, true)))
            .zip(places)
        {
            let before = place.map(|at| &old[at]);
            if let Some(member) = before.filter(|_| default) {
                members.push(member.clone());
                continue;
            }
            let member = self.put(id, section.serial, family, before, updated_ms, freed);
            section.account(before, Some(&member));
            members.push(member);
        }
        members.sort_unstable_by(|a, b| a.family.cmp(&b.family));
        section.members = Arc::new(members);
    }

    /// Replaces families, none of which is new or removed. The indices in `places`
    /// after those of `families` belong to defaults, which stay.
    fn renew(
        &mut self,
        id: &SectionId,
        section: &mut Section,
        (families, mut members): (Vec<FamilyText>, Vec<Member>),
        places: &[Option<usize>],
        updated_ms: u64,
        freed: &mut Vec<Bytes>,
    ) {
        for (family, at) in families.into_iter().zip(places.iter().flatten().copied()) {
            let before = &members[at];
            let member = self.put(id, section.serial, family, Some(before), updated_ms, freed);
            section.account(Some(before), Some(&member));
            members[at] = member;
        }
        section.members = Arc::new(members);
    }

    /// Removes the families of the section that have other names than these. A write
    /// with several changes does this first in all sections, since one may add what
    /// another removes.
    pub(in crate::store) fn keep_only<'n>(
        &mut self,
        id: &SectionId,
        section: &mut Section,
        names: impl Iterator<Item = &'n str>,
        freed: &mut Vec<Bytes>,
    ) {
        if section.members.is_empty() {
            return;
        }
        let before = (section.bytes, section.weight);
        let old = std::mem::take(&mut section.members);
        let mut places = places(&old, names);
        places.sort_unstable();
        places.dedup();
        let kept = places.iter().flatten();
        if kept.clone().count() == old.len() {
            section.members = old;
            return;
        }
        self.leave_others(id, section, &old, &places, freed);
        section.members = Arc::new(kept.map(|at| old[*at].clone()).collect());
        self.count(id, before, section);
    }

    /// Removes the members whose index is not in `places`.
    fn leave_others(
        &mut self,
        id: &SectionId,
        section: &mut Section,
        members: &[Member],
        places: &[Option<usize>],
        freed: &mut Vec<Bytes>,
    ) {
        let mut kept = vec![false; members.len()];
        for at in places.iter().flatten() {
            kept[*at] = true;
        }
        for (member, _) in members.iter().zip(kept).filter(|(_, kept)| !kept) {
            section.account(Some(member), None);
            self.families.disown_series(section.serial, &member.series);
            freed.push(self.page_list.remove(&samples_key(&member.family, id)));
            freed.extend(self.natives.set(member.family.shared(), id, Vec::new()));
            let is_kept = id.producer.is_kept();
            if is_kept {
                self.note_head(&member.family);
            }
            if self.families.leave(&member.family, is_kept) {
                let head = OutputKey::Family(member.family.clone(), FamilyPart::Head);
                freed.push(self.page_list.remove(&head));
            }
        }
    }

    /// Exposes a family of a section, which replaces the member `before`.
    fn put(
        &mut self,
        id: &SectionId,
        serial: u32,
        family: FamilyText,
        before: Option<&Member>,
        updated_ms: u64,
        freed: &mut Vec<Bytes>,
    ) -> Member {
        let (name, head) = match before {
            None => self.families.join(&family, false, id.producer.is_kept()),
            Some(member) => {
                let head = self.families.join_again(&member.family, &family, true);
                (member.family.clone(), head)
            }
        };
        if self.notes.is_some()
            && (head.is_some() || before.is_none())
            && self.families.is_kept(&name)
        {
            self.note_head(&name);
        }
        if let Some(head) = head {
            let key = OutputKey::Family(name.clone(), FamilyPart::Head);
            freed.push(self.page_list.set(key, head));
        }
        let series = before.map_or(&[][..], |member| &*member.series);
        if *series != *family.series {
            self.families.disown_series(serial, series);
            self.families.own_series(serial, &family.series);
        }
        let (bytes, natives) = sizes_of(&family);
        let mut hint = before.map_or_else(FragmentHint::default, |member| member.hint);
        let key = samples_key(&name, id);
        let text = family.samples.into_bytes();
        freed.push(self.page_list.set_near(key, text, &mut hint));
        freed.extend(self.natives.set(name.shared(), id, family.natives));
        Member {
            family: name,
            series: family.series,
            bytes,
            natives,
            updated_ms,
            hint,
        }
    }

    /// Removes everything that the section exposes.
    pub(in crate::store) fn clear(
        &mut self,
        id: &SectionId,
        section: &mut Section,
        freed: &mut Vec<Bytes>,
    ) {
        let before = (section.bytes, section.weight);
        if section.members.is_empty() {
            freed.push(self.page_list.remove(&OutputKey::Verbatim(id.clone())));
            self.inspection_queue.note(id, section);
        } else {
            self.replace(id, section, (Vec::new(), Vec::new()), 0, freed);
        }
        section.bytes = 0;
        section.weight = 0;
        self.count(id, before, section);
    }

    /// Sets when each family of the section was received, in milliseconds since 1970,
    /// and its bytes, the head of its sender included. They are in the order of the
    /// families' names.
    pub(in crate::store) fn set_received(
        &mut self,
        id: &SectionId,
        section: &mut Section,
        received: impl Iterator<Item = (u64, u32)>,
    ) {
        let before = (section.bytes, section.weight);
        let mut members = Arc::unwrap_or_clone(std::mem::take(&mut section.members));
        for (member, (updated_ms, bytes)) in members.iter_mut().zip(received) {
            let old = member.clone();
            member.updated_ms = updated_ms;
            member.bytes = bytes;
            section.account(Some(&old), Some(member));
        }
        section.members = Arc::new(members);
        self.count(id, before, section);
    }

    /// Updates the sums of all sections after a section changed.
    fn count(&mut self, id: &SectionId, before: (usize, usize), section: &Section) {
        if id.producer != Producer::Own {
            self.bytes = self.bytes + section.bytes - before.0;
            self.weight = self.weight + section.weight - before.1;
        }
    }
}

/// The indices of families with these names among the members.
fn places<'n>(members: &[Member], names: impl Iterator<Item = &'n str>) -> Vec<Option<usize>> {
    let mut near = 0;
    names
        .map(|name| place_near(members, name, &mut near).ok())
        .collect()
}

/// Whether `places` has the index of each of `members` members exactly once.
fn are_all(places: &[Option<usize>], members: usize) -> bool {
    let mut seen = vec![false; members];
    let mut places_once = places
        .iter()
        .map(|place| place.is_some_and(|at| !std::mem::replace(&mut seen[at], true)));
    places.len() == members && places_once.all(|once| once)
}

impl Section {
    /// Updates the section's sums after a member changed.
    fn account(&mut self, before: Option<&Member>, after: Option<&Member>) {
        let of = |member: Option<&Member>| {
            member.map_or((0, 0), |member| (member.bytes as usize, member.weight()))
        };
        let (before, after) = (of(before), of(after));
        self.bytes = self.bytes + after.0 - before.0;
        self.weight = self.weight + after.1 - before.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_has_the_index_of_each_member_once() {
        assert!(are_all(&[Some(1), Some(0)], 2) && are_all(&[], 0));
        for places in [
            &[Some(0)][..],
            &[Some(0), None],
            &[Some(0), Some(0)],
            &[Some(0), Some(1), Some(0)],
        ] {
            assert!(!are_all(places, 2), "{places:?}");
        }
    }
}
