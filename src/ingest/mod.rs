//! Pushes over HTTP, made into what the store takes. Pure: no I/O.
//!
//! - [`group`]: the labels of a group, as a path gives them.
//! - `aggregate`: families as additions to living ones; `clearmode` says
//!   how, where the sender wants to.
//! - `idempotency`: pushes that are sent again.
//! - `create`: values are created and updated, as with pingpong;
//!   `families_json` is how they may come.
//! - `body`: bodies of every type become families; `media` tells the types.
//! - `points`: histograms and summaries are made whole.
//! - `replace`: families become a write that replaces those of a group.
//! - [`batch`]: several groups in one body.
//! - [`selector`]: which groups or series are meant; `pattern`, their
//!   regular expressions.
//! - `remove`: aggregated series are removed.
//!
//! [`Intake`] is what all of it is asked through. How requests are read and
//! answered is the business of `http`.

pub mod aggregation;
pub mod body;
mod clearmode;
pub mod config;
pub mod fault;
pub mod group;
pub mod idempotency;
pub mod media;
pub mod points;
pub mod remove;
pub mod rules;
pub mod selector;
pub mod text;

use std::hash::RandomState;

pub use aggregation::Addition;
pub use body::Body;
pub use fault::Fault;
pub use group::{Group, PathError};
use idempotency::Keys;
pub use idempotency::{LONGEST_KEY, Once};
pub use remove::{Meant, Removed, remove_series};

use crate::inputs::push::config::Config as PushConfig;
use config::Exposition;

/// Makes pushes into writes.
#[derive(Debug)]
pub struct Intake {
    pub config: PushConfig,
    pub exposition: Exposition,
    /// Whether the proxy shows metrics of its own, whose names are taken then.
    pub own_metrics: bool,
    /// Shared with the other inputs, so that a series is known again whoever
    /// exposes it.
    pub hash: RandomState,
    /// Pushes that were added, by the keys they came with.
    pub keys: Keys,
}

impl Intake {
    pub fn new(
        config: PushConfig,
        exposition: Exposition,
        own_metrics: bool,
        hash: RandomState,
    ) -> Self {
        Intake {
            keys: Keys::new(config.idempotency_keys, config.idempotency_time),
            config,
            exposition,
            own_metrics,
            hash,
        }
    }

    /// Idempotency keys remembered now, and those that were forgotten before
    /// their time, since there were too many.
    pub fn key_counts(&self) -> (usize, u64) {
        self.keys.counts()
    }
}
