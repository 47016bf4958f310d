//! Pushes that replace what was pushed before, as with Pushgateway.

use std::time::Duration;

use super::body::{Body, Escaped, TIMES, shown};
use super::{Fault, Group, Intake};
use crate::exposition::{FamilyText, Format};
use crate::store::{Change, Now, Origin, Others, Producer, Refused, SectionId, Store, Write};

/// What a push does with its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// All of its families are replaced.
    Put,
    /// The pushed families are replaced, others stay.
    Post,
    /// The group is removed.
    Delete,
}

impl Method {
    pub const ALL: [Method; 3] = [Method::Put, Method::Post, Method::Delete];

    /// The word for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Put => "put",
            Method::Post => "post",
            Method::Delete => "delete",
        }
    }
}

/// Who pushes, and for how long it holds.
#[derive(Debug, Clone)]
pub struct Sender {
    pub origin: Origin,
    /// Where the push says so itself; zero is for ever.
    pub ttl: Option<Duration>,
}

impl Intake {
    /// Applies a push to the store, whole or not at all. What could be read
    /// and is not taken is noted with the group: its time of failure is shown,
    /// and its reason is listed.
    pub fn push(
        &self,
        store: &Store,
        (method, group): (Method, &Group),
        body: Body<'_>,
        sender: &Sender,
        now: Now,
    ) -> Result<(), Fault> {
        let pushed = self
            .change(method, group, body, sender, now)
            .and_then(|change| store.apply(Write::one(change), now).map_err(Fault::from));
        if let Err(fault) = &pushed
            && fault.noted
        {
            let note = self.failure(group, sender, fault, now);
            if let Err(refused) =
                note.and_then(|change| store.apply(Write::one(change), now).map_err(Fault::from))
            {
                log::debug!("that a push failed cannot be noted: {refused}");
            }
        }
        pushed
    }

    /// The change that a push makes.
    pub(super) fn change(
        &self,
        method: Method,
        group: &Group,
        body: Body<'_>,
        sender: &Sender,
        now: Now,
    ) -> Result<Change, Fault> {
        let id = SectionId::new(&group.key(), Producer::Group);
        let others = match method {
            Method::Put => Others::Drop,
            Method::Post => Others::Keep,
            Method::Delete => {
                return Ok(Change::Remove {
                    id,
                    unless_since: None,
                });
            }
        };
        let mut families = self.families(group, body)?;
        let [failure, success] = self.times(group, 0.0, now.unix_seconds())?;
        families.push(success);
        Ok(Change::Update {
            id,
            families,
            defaults: vec![failure],
            others,
            origin: sender.origin.clone(),
            lifetime: self.lifetime(sender),
            problem: None,
        })
    }

    /// The change that tells of a push that was refused.
    fn failure(
        &self,
        group: &Group,
        sender: &Sender,
        fault: &Fault,
        now: Now,
    ) -> Result<Change, Fault> {
        let [failure, success] = self.times(group, now.unix_seconds(), 0.0)?;
        Ok(Change::Update {
            id: SectionId::new(&group.key(), Producer::Group),
            families: vec![failure],
            defaults: vec![success],
            others: Others::Keep,
            origin: sender.origin.clone(),
            lifetime: self.lifetime(sender),
            problem: Some(fault.message.clone()),
        })
    }

    fn lifetime(&self, sender: &Sender) -> Option<Duration> {
        let ttl = sender.ttl.unwrap_or(self.config.group_ttl);
        (!ttl.is_zero()).then_some(ttl)
    }

    /// The two families of times, in the order of [`TIMES`].
    fn times(&self, group: &Group, failure: f64, success: f64) -> Result<[FamilyText; 2], Fault> {
        let [failed, succeeded] = TIMES;
        let text = format!(
            "# HELP {failed} When a push to this group last failed, in seconds since 1970; 0 if none did.\n\
             # TYPE {failed} gauge\n{failed} {failure}\n\
             # HELP {succeeded} When a push to this group last succeeded, in seconds since 1970; 0 if none did.\n\
             # TYPE {succeeded} gauge\n{succeeded} {success}\n"
        );
        let families = self.normalize(&Escaped::of(group), &text, Format::Text);
        let families = families.ok().and_then(|families| families.try_into().ok());
        // Only labels past a limit stand in the way.
        families.ok_or_else(|| {
            let message = format!("{}: its labels are too many or too long (exposition.max_labels, exposition.max_label_length)", shown(group));
            Fault::new(crate::telemetry::Reason::TooManySamples, &message)
        })
    }

    /// What a push would come to: how many families and series it brings, or
    /// why it would be refused. Nothing is changed.
    pub fn validate(
        &self,
        store: &Store,
        group: &Group,
        body: Body<'_>,
        now: Now,
    ) -> Result<(usize, usize), Fault> {
        let sender = Sender {
            origin: Origin::default(),
            ttl: None,
        };
        let change = self.change(Method::Put, group, body, &sender, now)?;
        let counts = match &change {
            Change::Update { families, .. } => {
                let pushed = families
                    .iter()
                    .filter(|family| !TIMES.contains(&&*family.name));
                pushed.fold((0, 0), |(families, series), family| {
                    (families + 1, series + family.series.len())
                })
            }
            _ => (0, 0),
        };
        match store.check(Write::one(change)) {
            // Whether there is place for it later is another question.
            Ok(()) | Err(Refused::TooManyGroups { .. }) => Ok(counts),
            Err(refused) => Err(refused.into()),
        }
    }
}

#[cfg(test)]
mod tests;
