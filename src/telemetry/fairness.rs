//! Counts of senders that exceed their rates.

use std::time::Duration;

use super::{Counter, UsageGauge};

/// The kind of sender that a limit applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// An address, or a user of this machine.
    Address,
    /// An app.
    App,
    /// A user, a token or a client certificate.
    User,
}

impl Limited {
    /// Sorted by label.
    pub const ALL: [Limited; 3] = [Limited::Address, Limited::App, Limited::User];

    /// The label value, and the name of the table of settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Limited::Address => "address",
            Limited::App => "app",
            Limited::User => "user",
        }
    }
}

/// The resource that a rate limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes.
    Bytes,
    /// Messages.
    Messages,
    /// Aggregated series that did not exist before.
    NewSeries,
}

impl Resource {
    /// Sorted by label.
    pub const ALL: [Resource; 3] = [Resource::Bytes, Resource::Messages, Resource::NewSeries];

    /// The label value, and the start of the setting.
    pub fn as_str(self) -> &'static str {
        match self {
            Resource::Bytes => "bytes",
            Resource::Messages => "messages",
            Resource::NewSeries => "new_series",
        }
    }
}

/// Counts of senders that exceed their rates, and of paused connections.
#[derive(Debug, Default)]
pub struct FairnessStats {
    /// By [`Limited`] and [`Resource`].
    exceeded: [[Counter; Resource::ALL.len()]; Limited::ALL.len()],
    /// Milliseconds for which connections were not read.
    paused: Counter,
    senders: UsageGauge,
}

impl FairnessStats {
    /// Counts that a sender exceeded a rate.
    pub fn count(&self, limited: Limited, resource: Resource) {
        self.exceeded[limited as usize][resource as usize].add(1);
    }

    /// How often senders exceeded each rate.
    pub fn exceeded(&self) -> impl Iterator<Item = (Limited, Resource, u64)> {
        let rows = Limited::ALL.into_iter().zip(&self.exceeded);
        rows.flat_map(|(limited, row)| {
            let cells = Resource::ALL.into_iter().zip(row);
            cells.map(move |(resource, count)| (limited, resource, count.value()))
        })
    }

    /// Counts time for which a connection was not read.
    pub fn count_pause(&self, pause: Duration) {
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.paused.add(millis);
    }

    /// The time for which connections were not read, in seconds.
    pub fn paused(&self) -> f64 {
        self.paused.value() as f64 / 1000.0
    }

    /// Records that a part of the table of senders has grown or shrunk.
    pub fn senders_changed(&self, before: usize, after: usize) {
        match after >= before {
            true => drop(self.senders.try_add(after - before, usize::MAX)),
            false => self.senders.subtract(before - after),
        }
    }

    /// The senders whose rates are remembered.
    pub fn senders(&self) -> usize {
        self.senders.value()
    }
}
