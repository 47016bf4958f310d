//! Several groups in one body, taken whole or not at all.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use serde::Deserialize;

use super::{Body, Fault, Group, Intake, Method, Sender};
use crate::config::{Exposition, duration_of};
use crate::exposition::FamilyText;
use crate::store::{Change, Now, Origin, Store, Write};
use crate::telemetry::Reason;

/// Groups in one batch.
const MOST_GROUPS: usize = 100_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    groups: Vec<Entry>,
}

/// One push of a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    labels: BTreeMap<String, String>,
    /// `PUT` where it is not said.
    #[serde(default)]
    method: Option<String>,
    /// Text 0.0.4 or OpenMetrics.
    #[serde(default)]
    metrics: String,
    #[serde(default)]
    ttl: Option<String>,
}

impl Intake {
    /// Reads `{"groups":[{"labels":{"job":"x"},"method":"PUT","metrics":"m 1\n","ttl":"10m"}]}`
    /// into one write, and says of how many groups. An error names the group.
    /// No group may be there twice: which of two pushes is later, one write
    /// does not know.
    pub fn batch(
        &self,
        store: &Store,
        json: &[u8],
        origin: &Origin,
        now: Now,
    ) -> Result<(Write, usize), Fault> {
        let batch: Batch = serde_json::from_slice(json)
            .map_err(|problem| Fault::of_json("JSON of a batch expected", &problem))?;
        if batch.groups.len() > MOST_GROUPS {
            let message = format!("a batch has at most {MOST_GROUPS} groups");
            return Err(Fault::new(Reason::TooLarge, &message));
        }
        let count = batch.groups.len();
        let mut seen = HashSet::new();
        let mut changes = Vec::with_capacity(count);
        let mut left = Left::of(&self.exposition);
        for (place, entry) in batch.groups.into_iter().enumerate() {
            let at =
                |reason, problem: &str| Fault::new(reason, &format!("groups[{place}]: {problem}"));
            let group = Group::of_labels(entry.labels, self.config.enable_utf8_names)
                .map_err(|problem| at(Reason::BadLabels, &problem))?;
            if !seen.insert(group.key()) {
                let problem = format!("group {} is there twice", group.key());
                return Err(at(Reason::BadLabels, &problem));
            }
            let method = match entry
                .method
                .as_deref()
                .map(str::to_ascii_uppercase)
                .as_deref()
            {
                None | Some("PUT") => Method::Put,
                Some("POST") => Method::Post,
                Some("DELETE") => Method::Delete,
                Some(other) => {
                    let problem = format!("the method must be PUT, POST or DELETE, not {other:?}");
                    return Err(at(Reason::BadParameter, &problem));
                }
            };
            let ttl = entry.ttl.map(|ttl| {
                let problem = || at(Reason::BadParameter, &wrong_ttl(&ttl));
                duration_of(&ttl).ok_or_else(problem)
            });
            let sender = Sender {
                origin: origin.clone(),
                ttl: ttl.transpose()?,
            };
            let body = Body {
                content_type: "",
                content_encoding: "",
                bytes: &Bytes::from(entry.metrics),
            };
            let change = self
                .change(method, &group, body, &sender, now, |id| store.room(id))
                .map_err(|fault| {
                    let told = at(fault.reason, &fault.message);
                    Fault {
                        line: fault.line,
                        column: fault.column,
                        ..told
                    }
                })?;
            if let Change::Update { families, .. } = &change {
                left.take(families, &self.exposition)
                    .map_err(|fault| at(fault.reason, &fault.message))?;
            }
            changes.push(change);
        }
        Ok((Write { changes }, count))
    }
}

/// What the groups of a batch may still bring together.
#[derive(Debug)]
struct Left {
    text: usize,
    families: usize,
}

impl Left {
    /// A batch may have the text of a single push, and several times its
    /// families: few of a batch's groups have families of their own.
    fn of(config: &Exposition) -> Self {
        Left {
            text: config.max_text,
            families: config.max_families.saturating_mul(FAMILIES_OF_BATCH),
        }
    }

    /// Counts the families of one more group, or says what there is too much of.
    fn take(&mut self, families: &[FamilyText], config: &Exposition) -> Result<(), Fault> {
        let bytes = families.iter().map(|family| family.samples.len()).sum();
        let Some(text) = self.text.checked_sub(bytes) else {
            let most = config.max_text;
            let message = format!(
                "with this group the batch has more than {most} bytes of text \
                 (exposition.max_text): send it as several"
            );
            return Err(Fault::new(Reason::TooLarge, &message));
        };
        // One of them tells when the group was pushed.
        let Some(left) = self.families.checked_sub(families.len() - 1) else {
            let message = format!(
                "with this group the batch has more than {} families \
                 ({FAMILIES_OF_BATCH} times exposition.max_families): send it as several",
                config.max_families.saturating_mul(FAMILIES_OF_BATCH)
            );
            return Err(Fault::new(Reason::TooManySamples, &message));
        };
        *self = Left {
            text,
            families: left,
        };
        Ok(())
    }
}

/// Families of a batch: so many times those of a push.
const FAMILIES_OF_BATCH: usize = 4;

/// What to say of a `ttl` that is no duration.
pub fn wrong_ttl(ttl: &str) -> String {
    format!("ttl must be a number of seconds or text such as \"10m\", not {ttl:?}")
}
