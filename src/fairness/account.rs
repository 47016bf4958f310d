//! The account of one sender: its usage, and the limits that apply.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{Limits, SenderLimits};
use super::table::Usage;
use crate::clock;
use crate::telemetry::{Limited, Resource};

/// The usages that a sender is charged to. If no limits apply to it, the account is empty
/// and costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Account(Option<Charged>);

#[derive(Debug, Clone)]
struct Charged {
    start: Instant,
    version: u64,
    limits: Arc<Limits>,
    /// Indexed by [`Limited`].
    usages: [Option<Arc<Usage>>; Limited::ALL.len()],
}

/// A sender has exceeded a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// Whose usage the limit counts.
    pub limited: Limited,
    /// What was sent or created.
    pub resource: Resource,
    /// The amount allowed each second.
    pub rate: u64,
    /// How long the sender has to wait.
    pub wait: Duration,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (who, resource) = (self.limited.as_str(), self.resource.as_str());
        let rate = self.rate;
        let what = match self.resource {
            Resource::Bytes | Resource::Messages => resource,
            Resource::NewSeries => "new series",
        };
        write!(
            f,
            "this {who} sends more than {rate} {what} each second \
             (limits.{who}.{resource}_per_second): try again in {} s",
            self.seconds()
        )
    }
}

impl Excess {
    /// How long the sender has to wait, in whole seconds.
    pub fn seconds(&self) -> u64 {
        clock::whole_seconds(self.wait)
    }
}

impl Account {
    /// The account of the usages of an address and a user.
    pub(super) fn new(
        start: Instant,
        version: u64,
        limits: Arc<Limits>,
        [address, user]: [Option<Arc<Usage>>; 2],
    ) -> Self {
        Account(Some(Charged {
            start,
            version,
            limits,
            usages: [address, None, user],
        }))
    }

    /// The account of an app.
    pub(super) fn of_app(
        start: Instant,
        version: u64,
        limits: Arc<Limits>,
        usage: Arc<Usage>,
    ) -> Self {
        Account(Some(Charged {
            start,
            version,
            limits,
            usages: [None, Some(usage), None],
        }))
    }

    /// The version of the limits that it was made from; 0 for no limits.
    pub(super) fn version(&self) -> u64 {
        self.0.as_ref().map_or(0, |charged| charged.version)
    }

    /// Whether limits apply to the sender.
    pub fn is_limited(&self) -> bool {
        let charged = self.0.as_ref();
        charged.is_some_and(|charged| charged.usages.iter().any(Option::is_some))
    }

    /// Charges messages and bytes.
    pub fn charge(&self, messages: u64, bytes: usize, now: Instant) {
        let Some(charged) = &self.0 else { return };
        let at = charged.nanos(now);
        for (usage, limits, _) in charged.usages() {
            if let Some(rate) = limits.messages_per_second
                && messages > 0
            {
                usage.messages.take(messages, rate as u64, at);
            }
            if let Some(rate) = limits.bytes_per_second
                && bytes > 0
            {
                usage.bytes.take(bytes as u64, rate as u64, at);
            }
        }
    }

    /// Charges aggregated series that the sender created.
    pub fn charge_series(&self, series: usize, now: Instant) {
        let Some(charged) = self.0.as_ref().filter(|_| series > 0) else {
            return;
        };
        let at = charged.nanos(now);
        for (usage, limits, _) in charged.usages() {
            if let Some(rate) = limits.new_series_per_second {
                usage.new_series.take(series as u64, rate as u64, at);
            }
        }
    }

    /// Whether both accounts charge series to the same senders, or to none.
    pub fn charges_series_like(&self, other: &Account) -> bool {
        self.charged_for_series().eq(other.charged_for_series())
    }

    /// The usages that series are charged to, as pointers, for comparison.
    fn charged_for_series(&self) -> impl Iterator<Item = *const Usage> {
        let usages = self.0.iter().flat_map(Charged::usages);
        usages
            .filter(|(_, limits, _)| limits.new_series_per_second.is_some())
            .map(|(usage, ..)| std::ptr::from_ref(usage))
    }

    /// Checks that no limit is overdrawn.
    ///
    /// # Errors
    ///
    /// The overdrawn limit with the longest wait.
    pub fn check(&self, now: Instant) -> Result<(), Excess> {
        let Some(charged) = &self.0 else {
            return Ok(());
        };
        let at = charged.nanos(now);
        let burst = charged.limits.burst;
        let excesses = charged.usages().flat_map(|(usage, limits, limited)| {
            let buckets = [
                (
                    &usage.messages,
                    limits.messages_per_second,
                    Resource::Messages,
                ),
                (&usage.bytes, limits.bytes_per_second, Resource::Bytes),
                (
                    &usage.new_series,
                    limits.new_series_per_second,
                    Resource::NewSeries,
                ),
            ];
            buckets
                .into_iter()
                .filter_map(move |(bucket, rate, resource)| {
                    Some(Excess {
                        limited,
                        resource,
                        rate: rate? as u64,
                        wait: bucket.wait(burst, at)?,
                    })
                })
        });
        match excesses.max_by_key(|excess| excess.wait) {
            Some(excess) => Err(excess),
            None => Ok(()),
        }
    }
}

impl Charged {
    fn nanos(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.start);
        u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The usages of the sender, with their limits.
    fn usages(&self) -> impl Iterator<Item = (&Usage, &SenderLimits, Limited)> {
        let all = Limited::ALL.into_iter().zip(&self.usages);
        all.filter_map(|(limited, usage)| {
            Some((&**usage.as_ref()?, self.limits.of(limited), limited))
        })
    }
}
