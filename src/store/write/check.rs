//! Checks a write against the limits and against what other producers expose.

use std::sync::Arc;

use crate::store::families::family_name::FamilyName;
use crate::store::limits::StoreLimits;
use crate::store::rejection::Rejection;
use crate::store::sections::holder::Holder;
use crate::store::sections::key::{FamilyPart, OutputKey};
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::sections::table::SectionTable;
use crate::store::write::change::Write;
use crate::store::write::changeset::SectionChangeset;

impl SectionTable {
    /// Checks whether `write` can be applied.
    pub fn check(&self, write: &Write, limits: &StoreLimits) -> Result<(), Rejection> {
        let changesets = self.changesets(write);
        self.check_limits(&changesets, limits)?;
        let checked = self.families.check(&changesets);
        checked.map_err(|rejection| self.with_holder(rejection, &changesets))
    }

    /// Whether `write` has the series that its section has now.
    pub fn has_same_series(&self, write: &Write) -> bool {
        self.families.has_same_series(&self.changesets(write))
    }

    fn changesets<'a>(&'a self, write: &'a Write) -> Vec<SectionChangeset<'a>> {
        let changes = write.changes.iter();
        let changesets = changes.filter_map(|change| {
            SectionChangeset::of(change, self.by_id.get(change.id()).map(Box::as_ref))
        });
        changesets.collect()
    }

    /// Checks the limits of sections and memory.
    pub fn check_limits(
        &self,
        changesets: &[SectionChangeset<'_>],
        limits: &StoreLimits,
    ) -> Result<(), Rejection> {
        self.check_counts(changesets, limits)?;
        self.check_bytes(changesets, limits)?;
        match &self.shares {
            Some(shares) => shares.check(changesets),
            None => Ok(()),
        }
    }

    /// The rejection with the holder of the existing family.
    pub fn with_holder(
        &self,
        mut rejection: Rejection,
        changesets: &[SectionChangeset<'_>],
    ) -> Rejection {
        let section = rejection.section().clone();
        if let Some((family, holder)) = rejection.blocking_family() {
            let changed: Vec<&SectionId> =
                changesets.iter().map(|changeset| changeset.id).collect();
            *holder = self.holder_of(family, &changed);
            // The write itself can have the family in another section.
            let has_family = |changeset: &&SectionChangeset<'_>| {
                let mut added = changeset.added.iter();
                *changeset.id != section && added.any(|it| *it.name == *family)
            };
            if *holder == Holder::Unknown
                && let Some(other) = changesets.iter().find(has_family)
            {
                *holder = Holder::Section(other.id.clone());
            }
        }
        rejection
    }

    /// A producer that exposes a family, other than these sections.
    pub(in crate::store) fn holder_of(&self, family: &str, but: &[&SectionId]) -> Holder {
        /// Maximum number of keys that are looked at, since the result is only for a message.
        const MAX_KEYS: usize = 64;
        let head = OutputKey::Family(FamilyName::from(Arc::from(family)), FamilyPart::Head);
        for key in self.page_list.keys_after(&head).take(MAX_KEYS) {
            match key {
                OutputKey::Family(name, _) if **name != *family => break,
                OutputKey::Family(_, FamilyPart::Samples(id)) if !but.contains(&id) => {
                    return Holder::Section(id.clone());
                }
                OutputKey::Family(_, FamilyPart::Block(_)) => return Holder::Aggregated,
                OutputKey::Family(..) => {}
                OutputKey::Verbatim(_) => break,
            }
        }
        Holder::Unknown
    }

    /// Checks the limits of apps and groups.
    fn check_counts(
        &self,
        changesets: &[SectionChangeset<'_>],
        limits: &StoreLimits,
    ) -> Result<(), Rejection> {
        let news = |producer| {
            let is_new = move |changeset: &&SectionChangeset<'_>| {
                changeset.old.is_none()
                    && changeset.id.producer == producer
                    && !changeset.is_removal
            };
            let mut new = changesets
                .iter()
                .filter(is_new)
                .map(|changeset| changeset.id);
            let first = new.next();
            (first, new.count() + usize::from(first.is_some()))
        };
        if let (Some(first), count) = news(Producer::App)
            && self.apps + count > limits.apps
        {
            return Err(Rejection::TooManyApps {
                section: first.clone(),
                new: count,
                limit: limits.apps,
            });
        }
        let removed = |changeset: &&SectionChangeset<'_>| {
            changeset.is_removal
                && changeset.id.producer == Producer::Group
                && changeset.old.is_some()
        };
        if let (Some(first), count) = news(Producer::Group)
            && self.groups.len() + count > limits.groups + changesets.iter().filter(removed).count()
        {
            return Err(Rejection::TooManyGroups {
                section: first.clone(),
                new: count,
                limit: limits.groups,
            });
        }
        Ok(())
    }

    /// Checks the limit of memory. A write that frees memory is accepted even if the limit is
    /// still exceeded.
    fn check_bytes(
        &self,
        changesets: &[SectionChangeset<'_>],
        limits: &StoreLimits,
    ) -> Result<(), Rejection> {
        let others = || {
            changesets
                .iter()
                .filter(|changeset| changeset.id.producer != Producer::Own)
        };
        let coming: usize = others().map(|changeset| changeset.added_bytes).sum();
        let freed: usize = others().map(|changeset| changeset.removed_bytes).sum();
        let weight = self.weight + coming - freed;
        match others().rfind(|changeset| !changeset.is_removal) {
            Some(last) if weight > limits.bytes && weight > self.weight => {
                Err(Rejection::TooManyBytes {
                    section: last.id.clone(),
                    sections: others().filter(|changeset| !changeset.is_removal).count(),
                    size: weight,
                    limit: limits.bytes,
                })
            }
            _ => Ok(()),
        }
    }
}
