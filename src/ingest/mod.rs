//! Admission: the one way into the store. What inputs receive is checked alone,
//! at the cost of its own size, and brought into the form that the store keeps.
//! Whether it fits beside the rest is the store's decision, under its lock.
//!
//! - [`text`]: the text of an app or target, verbatim or as families.
//! - [`body`]: a pushed body of any media type ([`media`]) as the families of a
//!   [`group`]; [`points`] completes their histograms and summaries.
//! - [`aggregation`]: families as additions to aggregated ones, by policy, by
//!   [rule](rules), or by the sender's `clearmode`.
//! - [`idempotency`]: pushes that are sent twice and count once.
//! - [`selector`]: selectors of groups and series; [`remove`] removes aggregated
//!   series by them.
//! - [`rejection`]: the error of this layer.
//!
//! Nothing here does I/O.

pub mod aggregation;
pub mod body;
mod clearmode;
pub mod config;

pub mod group;
pub mod idempotency;
pub mod media;
pub mod points;
pub mod rejection;
pub mod remove;
pub mod rules;
pub mod selector;
pub mod text;

use std::hash::RandomState;
use std::time::Duration;

pub use aggregation::Addition;
pub use body::Body;
pub use group::{Group, PathError};
use idempotency::Keys;
pub use idempotency::{LONGEST_KEY, Once};
pub use rejection::Rejection;
pub use remove::{Meant, Removed, remove_series};

use crate::settings::duration_of;
use config::{Aggregation, Exposition};

/// The one way into the store: checks what inputs receive and brings it into the
/// form that the store keeps.
#[derive(Debug)]
pub struct Admission {
    /// `[exposition]`: the mode, and limits on texts.
    pub exposition: Exposition,
    /// The part of `[push]` that says how values are added up.
    pub aggregation: Aggregation,
    /// Whether the names of the proxy's own metrics are reserved.
    pub own_metrics: bool,
    /// Hasher for series identity, shared with the store.
    pub hash: RandomState,
    /// Idempotency keys of recent pushes.
    keys: Keys,
}

impl Admission {
    /// `hash` is the store's hasher, so that every input identifies a series the
    /// same way.
    pub fn new(
        exposition: Exposition,
        aggregation: Aggregation,
        own_metrics: bool,
        hash: RandomState,
    ) -> Self {
        Admission {
            keys: Keys::new(aggregation.idempotency_keys, aggregation.idempotency_time),
            exposition,
            aggregation,
            own_metrics,
            hash,
        }
    }

    /// The number of idempotency keys that are remembered, and of those forgotten
    /// early because the limit was reached.
    pub fn key_counts(&self) -> (usize, u64) {
        self.keys.counts()
    }
}

/// Reads how long a push is kept: seconds, or text such as `10m`.
///
/// # Errors
///
/// What is wrong with the text, for the sender.
pub fn parse_ttl(ttl: &str) -> Result<Duration, String> {
    duration_of(ttl).ok_or_else(|| {
        format!("ttl must be a number of seconds or text such as \"10m\", not {ttl:?}")
    })
}
