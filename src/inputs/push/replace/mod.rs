//! Pushes that replace what was pushed before, as with Pushgateway.

use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use crate::clock::Now;
use crate::exposition::{FamilyText, Kind, TimestampPolicy, counted, single_sample_family};
use crate::ingest::body::{Body, EscapedLabels, PUSH_TIME_FAMILIES, check_family_size};
use crate::ingest::{Admission, Group, Rejection};
use crate::peer::Origin;
use crate::reason::Reason;
use crate::store::{self, Change, MemoryBudget, OtherFamilies, Producer, SectionId, Store, Write};
use crate::telemetry::PushMethod;

/// What the families of [`PUSH_TIME_FAMILIES`] are.
const WHEN_FAILED: &str =
    "When a push to this group last failed, in seconds since 1970; 0 if none did.";
const WHEN_SUCCEEDED: &str =
    "When a push to this group last succeeded, in seconds since 1970; 0 if none did.";

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
    /// What it is counted as.
    pub fn counted(self) -> PushMethod {
        match self {
            Method::Put => PushMethod::Put,
            Method::Post => PushMethod::Post,
            Method::Delete => PushMethod::Delete,
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

/// BlockingPool pushes into changes of groups.
#[derive(Debug)]
pub struct Groups {
    /// Checks the pushed families.
    pub admission: Arc<Admission>,
    /// Settings of groups.
    pub config: Config,
}

impl Groups {
    /// Applies a push to the store, whole or not at all. What could be read
    /// and is not taken is is_recorded with the group: its time of failure is shown,
    /// and its reason is listed.
    pub fn push(
        &self,
        store: &Store,
        (method, group): (Method, &Group),
        body: Body<'_>,
        sender: &Sender,
        now: Now,
    ) -> Result<(), Rejection> {
        let pushed = self
            .change(method, group, body, sender, now, |id| {
                store.memory_budget(id)
            })
            .and_then(|change| {
                store
                    .apply(Write::one(change), now)
                    .map_err(Rejection::from)
            });
        if let Err(fault) = &pushed
            && fault.is_recorded
        {
            let note = self.failure(group, sender, fault, now);
            if let Err(refused) = note.and_then(|change| {
                store
                    .apply(Write::one(change), now)
                    .map_err(Rejection::from)
            }) {
                log::debug!("that a push failed cannot be is_recorded: {refused}");
            }
        }
        pushed
    }

    /// The change that a push makes. `room` tells what memory there is for it.
    pub(crate) fn change(
        &self,
        method: Method,
        group: &Group,
        body: Body<'_>,
        sender: &Sender,
        now: Now,
        room: impl FnOnce(&SectionId) -> MemoryBudget,
    ) -> Result<Change, Rejection> {
        self.hold(group)?;
        let id = SectionId::new(&group.key(), Producer::Group);
        let others = match method {
            Method::Put => OtherFamilies::Drop,
            Method::Post => OtherFamilies::Keep,
            Method::Delete => {
                return Ok(Change::Remove {
                    id,
                    unless_since: None,
                });
            }
        };
        let mut families =
            self.admission
                .families_with(group, body, TimestampPolicy::Refuse, || room(&id))?;
        for family in &mut families {
            self.admission.check_family(group, family)?;
            self.admission.complete_family(group, family)?;
            check_family_size(group, family)?;
        }
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

    /// Whether a group's labels keep to the limits on labels of samples, since
    /// they are put on each.
    fn hold(&self, group: &Group) -> Result<(), Rejection> {
        let config = &self.admission.exposition;
        let told = |problem: &str| Err(Rejection::new(Reason::BadLabels, problem));
        if group.labels().len() > config.max_labels {
            let most = counted(config.max_labels, "label", "labels");
            return told(&format!(
                "{group}: it has more than {most} (exposition.max_labels)"
            ));
        }
        let most = config.max_label_length;
        let long = |(name, value): &(&String, &String)| name.len() > most || value.len() > most;
        match group.labels().iter().find(long) {
            Some((name, _)) => told(&format!(
                "a label of the group has more than {} (exposition.max_label_length): {name:?}",
                counted(most, "byte", "bytes")
            )),
            None => Ok(()),
        }
    }

    /// The change that tells of a push that was refused.
    fn failure(
        &self,
        group: &Group,
        sender: &Sender,
        fault: &Rejection,
        now: Now,
    ) -> Result<Change, Rejection> {
        let [failure, success] = self.times(group, now.unix_seconds(), 0.0)?;
        Ok(Change::Update {
            id: SectionId::new(&group.key(), Producer::Group),
            families: vec![failure],
            defaults: vec![success],
            others: OtherFamilies::Keep,
            origin: sender.origin.clone(),
            lifetime: self.lifetime(sender),
            problem: Some(format!("{}: {}", fault.reason, fault.message)),
        })
    }

    fn lifetime(&self, sender: &Sender) -> Option<Duration> {
        let ttl = sender.ttl.unwrap_or(self.config.group_ttl);
        (!ttl.is_zero()).then_some(ttl)
    }

    /// The two families of times, in the order of [`PUSH_TIME_FAMILIES`].
    fn times(
        &self,
        group: &Group,
        failure: f64,
        success: f64,
    ) -> Result<[FamilyText; 2], Rejection> {
        let escaped = EscapedLabels::of(group);
        let added = escaped.added();
        let family = |name, help, value| {
            single_sample_family(
                (name, Kind::Gauge, help),
                &added,
                value,
                &self.admission.hash,
            )
            .ok_or_else(|| {
                let message = format!(
                    "{group}: two of its labels have the same name once UTF-8 characters are replaced"
                );
                Rejection::new(Reason::BadLabels, &message)
            })
        };
        let [failed, succeeded] = PUSH_TIME_FAMILIES;
        Ok([
            family(failed, WHEN_FAILED, failure)?,
            family(succeeded, WHEN_SUCCEEDED, success)?,
        ])
    }

    /// What a push would come to: how many families and series it brings, or
    /// why it would be refused. Nothing is changed.
    ///
    /// Without labels, what a group would put on its series is not known, so
    /// they are not looked for among those of others.
    pub fn validate(
        &self,
        store: &Store,
        group: &Group,
        body: Body<'_>,
        now: Now,
    ) -> Result<(usize, usize), Rejection> {
        let sender = Sender {
            origin: Origin::default(),
            ttl: None,
        };
        let mut change = self.change(Method::Put, group, body, &sender, now, |id| {
            store.memory_budget(id)
        })?;
        let counts = match &mut change {
            Change::Update {
                families, defaults, ..
            } => {
                let pushed = families
                    .iter()
                    .filter(|family| !PUSH_TIME_FAMILIES.contains(&&*family.name));
                let counts = pushed.fold((0, 0), |(families, series), family| {
                    (families + 1, series + family.series.len())
                });
                if group.labels().is_empty() {
                    for family in families.iter_mut().chain(defaults) {
                        family.series = Default::default();
                    }
                }
                counts
            }
            _ => (0, 0),
        };
        match store.check(Write::one(change)) {
            // Whether there is place for it later is another question.
            Ok(()) | Err(store::Rejection::TooManyGroups { .. }) => Ok(counts),
            Err(refused) => Err(refused.into()),
        }
    }
}

#[cfg(test)]
mod tests;
