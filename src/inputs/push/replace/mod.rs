//! Replacing pushes: a push replaces earlier families of its group, as in Pushgateway.

use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use crate::clock::Now;
use crate::exposition::{FamilyText, Kind, counted, single_sample_family};
use crate::ingest::body::{Body, EscapedLabels, PUSH_TIME_FAMILIES, check_family_size};
use crate::ingest::{Admission, Group, Rejection};
use crate::peer::Origin;
use crate::reason::Reason;
use crate::store::{self, Change, MemoryLeft, OtherFamilies, Producer, SectionId, Store, Write};
use crate::telemetry::PushMethod;

/// The help texts of the [`PUSH_TIME_FAMILIES`].
const WHEN_FAILED: &str =
    "When a push to this group last failed, in seconds since 1970; 0 if none did.";
const WHEN_SUCCEEDED: &str =
    "When a push to this group last succeeded, in seconds since 1970; 0 if none did.";

/// How a push changes its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Replaces all families.
    Put,
    /// Replaces the pushed families and keeps others.
    Post,
    /// Removes the group.
    Delete,
}

impl Method {
    /// The value of the `method` label in metrics.
    pub fn counted(self) -> PushMethod {
        match self {
            Method::Put => PushMethod::Put,
            Method::Post => PushMethod::Post,
            Method::Delete => PushMethod::Delete,
        }
    }
}

/// The sender of a push, and the lifetime that it asks for.
#[derive(Debug, Clone)]
pub struct PushSender {
    /// Where the push came from.
    pub origin: Origin,
    /// How long the group is kept, if the push sets it; zero keeps it forever.
    pub ttl: Option<Duration>,
}

/// Turns pushes into changes of groups.
#[derive(Debug)]
pub struct Groups {
    /// Checks the pushed families.
    pub admission: Arc<Admission>,
    /// Settings of groups.
    pub config: Config,
}

impl Groups {
    /// Applies a push to the store, as a whole or not at all. If the body can be parsed but
    /// is rejected, the group records the time and reason of the failure.
    ///
    /// # Errors
    ///
    /// The body or a label is not valid, or the store rejects the families.
    pub fn push(
        &self,
        store: &Store,
        (method, group): (Method, &Group),
        body: Body<'_>,
        sender: &PushSender,
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
        if let Err(rejection) = &pushed
            && rejection.is_recorded
        {
            let record = self.failure(group, sender, rejection, now);
            if let Err(error) = record.and_then(|change| {
                store
                    .apply(Write::one(change), now)
                    .map_err(Rejection::from)
            }) {
                log::debug!("the failure of a push cannot be recorded: {error}");
            }
        }
        pushed
    }

    /// Returns the change that a push makes. `budget` returns the memory left for it.
    ///
    /// # Errors
    ///
    /// The body or a label is not valid.
    pub fn change(
        &self,
        method: Method,
        group: &Group,
        body: Body<'_>,
        sender: &PushSender,
        now: Now,
        budget: impl FnOnce(&SectionId) -> MemoryLeft,
    ) -> Result<Change, Rejection> {
        self.check_labels(group)?;
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
        let listener = Some(&*sender.origin.source);
        let mut families = self
            .admission
            .group_families(group, body, listener, || budget(&id))?;
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

    /// Checks the labels of a group against the limits on labels of samples, since each of
    /// its samples gets them.
    fn check_labels(&self, group: &Group) -> Result<(), Rejection> {
        let config = &self.admission.exposition;
        let reject = |problem: &str| Err(Rejection::new(Reason::BadLabels, problem));
        if group.labels().len() > config.max_labels {
            let limit = counted(config.max_labels, "label", "labels");
            return reject(&format!(
                "{group}: it has more than {limit} (exposition.max_labels)"
            ));
        }
        let limit = config.max_label_length;
        let is_too_long =
            |(name, value): &(&String, &String)| name.len() > limit || value.len() > limit;
        match group.labels().iter().find(is_too_long) {
            Some((name, _)) => reject(&format!(
                "a label of the group has more than {} (exposition.max_label_length): {name:?}",
                counted(limit, "byte", "bytes")
            )),
            None => Ok(()),
        }
    }

    /// Returns the change that records a rejected push with its group.
    fn failure(
        &self,
        group: &Group,
        sender: &PushSender,
        rejection: &Rejection,
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
            problem: Some(format!("{}: {}", rejection.reason, rejection.message)),
        })
    }

    fn lifetime(&self, sender: &PushSender) -> Option<Duration> {
        let ttl = sender.ttl.unwrap_or(self.config.group_ttl);
        (!ttl.is_zero()).then_some(ttl)
    }

    /// Returns the two [`PUSH_TIME_FAMILIES`], in that order.
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

    /// Checks a push as [`Groups::push`] would, and returns the numbers of its families and
    /// series. Nothing is changed.
    ///
    /// For an empty group, series are not compared with those of other groups, since the
    /// labels that a group would add are unknown.
    ///
    /// # Errors
    ///
    /// The push would be rejected.
    pub fn validate(
        &self,
        store: &Store,
        group: &Group,
        body: Body<'_>,
        sender: &PushSender,
        now: Now,
    ) -> Result<(usize, usize), Rejection> {
        let mut change = self.change(Method::Put, group, body, sender, now, |id| {
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
            // The number of groups may drop below the limit before the push is sent.
            Ok(()) | Err(store::Rejection::TooManyGroups { .. }) => Ok(counts),
            Err(rejection) => Err(rejection.into()),
        }
    }
}

#[cfg(test)]
mod tests;
