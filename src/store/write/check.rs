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
    /// Whether all of `write` can be applied.
    pub fn check(&self, write: &Write, limits: &StoreLimits) -> Result<(), Rejection> {
        let plans = self.plans(write);
        self.check_room(&plans, limits)?;
        let checked = self.families.check(&plans);
        checked.map_err(|refused| self.with_holder(refused, &plans))
    }

    /// Whether `write` brings the series that its section has now.
    pub fn is_the_same(&self, write: &Write) -> bool {
        self.families.is_the_same(&self.plans(write))
    }

    fn plans<'a>(&'a self, write: &'a Write) -> Vec<SectionChangeset<'a>> {
        let changes = write.changes.iter();
        let plans =
            changes.filter_map(|change| SectionChangeset::of(change, self.by_id.get(change.id())));
        plans.collect()
    }

    /// Whether there is place and memory for what comes.
    pub fn check_room(
        &self,
        plans: &[SectionChangeset<'_>],
        limits: &StoreLimits,
    ) -> Result<(), Rejection> {
        self.check_counts(plans, limits)?;
        self.check_bytes(plans, limits)
    }

    /// The same refusal with who is in the way.
    pub fn with_holder(&self, mut refused: Rejection, plans: &[SectionChangeset<'_>]) -> Rejection {
        if let Some((family, holder)) = refused.blocking_family() {
            let changed: Vec<&SectionId> = plans.iter().map(|plan| plan.id).collect();
            *holder = self.holder_of(family, &changed);
        }
        refused
    }

    /// One of those who expose a family, but for these sections.
    pub(in crate::store) fn holder_of(&self, family: &str, but: &[&SectionId]) -> Holder {
        /// Sections that are looked at: this is for a message.
        const MOST: usize = 64;
        let head = OutputKey::Family(FamilyName::from(Arc::from(family)), FamilyPart::Head);
        for key in self.page_list.keys_after(&head).take(MOST) {
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

    /// Whether there is place for what is new.
    fn check_counts(
        &self,
        plans: &[SectionChangeset<'_>],
        limits: &StoreLimits,
    ) -> Result<(), Rejection> {
        let news = |producer| {
            let is_new = move |plan: &&SectionChangeset<'_>| {
                plan.old.is_none() && plan.id.producer == producer && !plan.is_removal
            };
            let mut new = plans.iter().filter(is_new).map(|plan| plan.id);
            let first = new.next();
            (first, new.count() + usize::from(first.is_some()))
        };
        if let (Some(first), count) = news(Producer::App)
            && self.apps + count > limits.apps
        {
            return Err(Rejection::TooManyApps {
                section: first.clone(),
                limit: limits.apps,
            });
        }
        let removed = |plan: &&SectionChangeset<'_>| {
            plan.is_removal && plan.id.producer == Producer::Group && plan.old.is_some()
        };
        if let (Some(first), count) = news(Producer::Group)
            && self.groups.len() + count > limits.groups + plans.iter().filter(removed).count()
        {
            return Err(Rejection::TooManyGroups {
                section: first.clone(),
                limit: limits.groups,
            });
        }
        Ok(())
    }

    /// Whether there is memory for it. What makes it less is taken even where
    /// it is too much still.
    fn check_bytes(
        &self,
        plans: &[SectionChangeset<'_>],
        limits: &StoreLimits,
    ) -> Result<(), Rejection> {
        let others = || {
            plans
                .iter()
                .filter(|plan| plan.id.producer != Producer::Own)
        };
        let coming: usize = others().map(|plan| plan.weight).sum();
        let freed: usize = others().map(|plan| plan.freed).sum();
        let weight = self.weight + coming - freed;
        match others().rfind(|plan| !plan.is_removal) {
            Some(last) if weight > limits.bytes && weight > self.weight => {
                Err(Rejection::TooManyBytes {
                    section: last.id.clone(),
                    size: weight,
                    limit: limits.bytes,
                })
            }
            _ => Ok(()),
        }
    }
}
