//! Admission: checks metrics before they are stored, one message at a time and at the
//! cost of that message's size, and brings them into the form that the store keeps. The
//! input then writes them with [`Store::apply`](crate::store::Store::apply) or
//! [`Store::operate`](crate::store::Store::operate), and the store decides, under its
//! lock, whether they fit beside the others. Removals need no admission.
//!
//! - [`text`]: the text of an app or a target, kept verbatim or as families.
//! - [`body`]: a pushed body of any [media type](media) as the families of a [`group`];
//!   [`completion`] fills in missing parts of their histograms and summaries.
//! - [`aggregation`]: pushed families as updates of aggregated ones. A policy, a
//!   [rule](rules) or the sender's `clearmode` label says how values combine.
//! - [`idempotency`]: pushes that are sent twice but count once.
//! - [`shaping`]: labels and rules of `[[shape]]`; [`reading`] applies them, and [`tool`] shows
//!   what they do.
//! - [`added_labels`]: labels that settings add to samples.
//! - [`selector`]: label selectors for groups and series; [`removal`] removes the
//!   aggregated series that they select.
//! - [`bounds`]: what a sender may write.
//! - [`rejection`]: the error of this layer.
//! - [`config`]: the settings of all of the above.
//!
//! Nothing here does I/O.

pub mod added_labels;
pub mod aggregation;
pub mod body;
pub mod bounds;
mod clearmode;
pub mod completion;
pub mod config;
pub mod group;
pub mod idempotency;
pub mod media;
pub mod reading;
pub mod rejection;
pub mod removal;
pub mod rules;
pub mod selector;
pub mod shaping;
pub mod text;
pub mod tool;

use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

pub use aggregation::Addition;
pub use body::Body;
pub use group::Group;
pub use idempotency::{IdempotencyKeys, KeyOutcome, MAX_KEY_LENGTH, READABLE_KEYS};
pub use rejection::Rejection;
pub use removal::{Removal, SeriesSelection, remove_series};

use crate::exposition::{FamilyText, TextLimits, plain_name};
use crate::reason::Reason;
use crate::settings::duration_of;
use crate::telemetry::OWN_PREFIX;
use config::{Aggregation, Exposition};
use shaping::Shapes;

/// Maximum bytes of one family in one section, with added labels. A page of the store cannot hold a
/// longer piece.
const MAX_FAMILY_BYTES: usize = 1 << 30;

/// Checks what inputs receive and brings it into the form that the store keeps.
#[derive(Debug)]
pub struct Admission {
    /// `[exposition]`: the mode, and limits of texts.
    pub exposition: Exposition,
    /// The part of `[push]` about aggregated families.
    pub aggregation: Aggregation,
    /// Whether the names of the proxy's own metrics are reserved.
    pub own_metrics: bool,
    /// Hasher for series identity, shared with the store.
    pub hash: RandomState,
    /// The `[[shape]]` entries, applied before all checks.
    pub shapes: Arc<Shapes>,
    /// Idempotency keys of recent pushes.
    keys: Arc<IdempotencyKeys>,
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
        let keys = IdempotencyKeys::new(aggregation.idempotency_keys, aggregation.idempotency_time);
        let keys = Arc::new(keys);
        Admission {
            exposition,
            aggregation,
            own_metrics,
            hash,
            shapes: Arc::default(),
            keys,
        }
    }

    /// Adds the `[[shape]]` entries.
    #[must_use]
    pub fn with_shapes(self, shapes: Shapes) -> Self {
        Admission {
            shapes: Arc::new(shapes),
            ..self
        }
    }

    /// Admission with other settings and without shapes. It shares the idempotency keys.
    #[must_use]
    pub fn with_settings(&self, exposition: Exposition, aggregation: Aggregation) -> Self {
        Admission {
            exposition,
            aggregation,
            own_metrics: self.own_metrics,
            hash: self.hash.clone(),
            shapes: Arc::default(),
            keys: Arc::clone(&self.keys),
        }
    }

    /// The idempotency keys, to be stored.
    pub fn keys(&self) -> &Arc<IdempotencyKeys> {
        &self.keys
    }

    /// The number of remembered idempotency keys, and of keys forgotten early
    /// because the limit was reached.
    pub fn key_counts(&self) -> (usize, u64) {
        self.keys.counts()
    }

    /// Checks that the name of a family is not reserved for the proxy's own metrics.
    ///
    /// # Errors
    ///
    /// The name is reserved. The rejection has no position.
    pub fn check_name(&self, name: &str) -> Result<(), Rejection> {
        match self.is_reserved(name) {
            false => Ok(()),
            true => Err(Rejection::new(Reason::ReservedName, &reserved_name(name))),
        }
    }

    fn is_reserved(&self, name: &str) -> bool {
        // `plain_name` replaces characters with underscores only, so a reserved name
        // begins with the first character of the prefix.
        self.own_metrics
            && name.starts_with(&OWN_PREFIX[..1])
            && plain_name(name).starts_with(OWN_PREFIX)
    }

    /// The limits of one text.
    fn text_limits(&self) -> TextLimits {
        text_limits(&self.exposition)
    }
}

/// The limits of one text (`[exposition]`).
fn text_limits(config: &Exposition) -> TextLimits {
    TextLimits {
        families: config.max_families,
        samples: config.max_samples,
        labels: config.max_labels,
        label_name: config.max_label_length,
        label_value: config.max_label_length,
        text: config.max_text,
    }
}

/// The message for a reserved name.
fn reserved_name(name: &str) -> String {
    format!("{name} is reserved for the proxy's own metrics (exporter.own_metrics)")
}

/// The rejection of a family that can be parsed but not stored in its group.
fn reject_family(group: &Group, family: &FamilyText, reason: Reason, problem: &str) -> Rejection {
    let line = family.line;
    let rejection = match line {
        // The family was decoded from protobuf.
        0 => Rejection::new(reason, &format!("{group}: {problem}")),
        _ => Rejection::new(reason, &format!("{group}, line {line}: {problem}")).at(line, None),
    };
    rejection.recorded()
}

/// Parses how long a push is kept: seconds, or text such as `10m`.
///
/// # Errors
///
/// A message for the sender.
pub fn parse_ttl(ttl: &str) -> Result<Duration, String> {
    duration_of(ttl).ok_or_else(|| {
        format!(
            "ttl must be a number of seconds or text such as \"10m\" (at most \"100y\"), not {ttl:?}"
        )
    })
}
