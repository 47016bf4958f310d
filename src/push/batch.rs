//! Several groups in one body, taken whole or not at all.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use serde::Deserialize;

use super::{Body, Fault, Group, Intake, Method, Sender};
use crate::config::duration_of;
use crate::store::{Change, Now, Origin, Write};
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
    pub fn batch(&self, json: &[u8], origin: &Origin, now: Now) -> Result<(Write, usize), Fault> {
        let batch: Batch = serde_json::from_slice(json)
            .map_err(|problem| Fault::of_json("JSON of a batch expected", &problem))?;
        if batch.groups.len() > MOST_GROUPS {
            let message = format!("a batch has at most {MOST_GROUPS} groups");
            return Err(Fault::new(Reason::TooLarge, &message));
        }
        let count = batch.groups.len();
        let mut seen = HashSet::new();
        let mut changes = Vec::with_capacity(count);
        let mut bytes = 0;
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
                .change(method, &group, body, &sender, now)
                .map_err(|fault| {
                    let told = at(fault.reason, &fault.message);
                    Fault {
                        line: fault.line,
                        column: fault.column,
                        ..told
                    }
                })?;
            if let Change::Update { families, .. } = &change {
                bytes += families.iter().map(|it| it.samples.len()).sum::<usize>();
            }
            // What could never be held need not be made.
            if bytes > self.exposition.max_total {
                let problem = "with this group the batch has more text than may be held (exposition.max_total)";
                return Err(at(Reason::TooLarge, problem));
            }
            changes.push(change);
        }
        Ok((Write { changes }, count))
    }
}

/// What to say of a `ttl` that is no duration.
pub fn wrong_ttl(ttl: &str) -> String {
    format!("ttl must be a number of seconds or text such as \"10m\", not {ttl:?}")
}
