//! Batches: several groups in one body, stored all or none.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::replace::Groups;
use super::{Method, PushSender};
use crate::clock::Now;
use crate::exposition::FamilyText;
use crate::ingest::bounds::check_group;
use crate::ingest::config::Exposition;
use crate::ingest::{Body, Group, Rejection, parse_ttl};
use crate::peer::Origin;
use crate::reason::Reason;
use crate::security::Scope;
use crate::store::{Change, SectionId, Store, Write};

/// The limit on groups of one batch.
const MAX_GROUPS: usize = 100_000;

/// The limit on families of a batch, as a multiple of the one of a push.
const FAMILIES_FACTOR: usize = 4;

/// One push of a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with labels and metrics")]
struct Entry {
    #[serde(deserialize_with = "labels_once")]
    labels: BTreeMap<String, String>,
    /// `PUT` if missing.
    #[serde(default)]
    method: Option<String>,
    /// Text 0.0.4 or OpenMetrics.
    #[serde(default)]
    metrics: String,
    #[serde(default)]
    ttl: Option<String>,
}

/// Reads the labels of a group. A label given twice is an error, because it would be
/// unclear which value counts.
fn labels_once<'de, D: Deserializer<'de>>(json: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Labels;

    impl<'de> Visitor<'de> for Labels {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of label names and values")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut labels = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, String>()? {
                if labels.contains_key(&name) {
                    return Err(de::Error::custom(format_args!(
                        "label {name:?} is given twice"
                    )));
                }
                labels.insert(name, value);
            }
            Ok(labels)
        }
    }

    json.deserialize_map(Labels)
}

impl Groups {
    /// Reads `{"groups":[{"labels":{"job":"x"},"method":"PUT","metrics":"m 1\n","ttl":"10m"}]}`
    /// into one write, and returns the number of groups. A group cannot be given twice,
    /// since the groups of one write have no order. `scope` limits what the sender writes.
    ///
    /// Groups are read one by one, up to the first invalid one.
    ///
    /// # Errors
    ///
    /// The JSON or a group in it is not valid, or a limit is exceeded. The message names
    /// the group.
    pub fn batch(
        &self,
        store: &Store,
        json: &[u8],
        (origin, scope): (&Origin, &Scope),
        now: Now,
    ) -> Result<(Write, usize), Rejection> {
        let mut batch = BatchReader {
            groups: self,
            store,
            origin,
            scope,
            now,
            seen: HashSet::new(),
            changes: Vec::new(),
            budget: BatchBudget::new(&self.admission.exposition),
            rejection: None,
        };
        let mut parser = serde_json::Deserializer::from_slice(json);
        let read = BatchSeed(&mut batch).deserialize(&mut parser);
        let read = read.and_then(|()| parser.end());
        if let Err(error) = read {
            let malformed = || Rejection::invalid_json("JSON of a batch expected", &error);
            return Err(batch.rejection.unwrap_or_else(malformed));
        }
        let count = batch.changes.len();
        let changes = batch.changes;
        Ok((Write { changes }, count))
    }
}

/// Reads a batch group by group.
struct BatchReader<'i> {
    groups: &'i Groups,
    store: &'i Store,
    origin: &'i Origin,
    scope: &'i Scope,
    now: Now,
    seen: HashSet<String>,
    changes: Vec<Change>,
    budget: BatchBudget,
    /// The rejection of the last group, if that group is not valid.
    rejection: Option<Rejection>,
}

impl BatchReader<'_> {
    /// Adds the next group.
    fn add(&mut self, entry: Entry) -> Result<(), Rejection> {
        let index = self.changes.len();
        if index == MAX_GROUPS {
            let message = format!("a batch has at most {MAX_GROUPS} groups");
            return Err(Rejection::new(Reason::TooLarge, &message));
        }
        let groups = self.groups;
        let at =
            |reason, problem: &str| Rejection::new(reason, &format!("groups[{index}]: {problem}"));
        let group = Group::from_labels(entry.labels, groups.config.enable_utf8_names)
            .map_err(|rejection| rejection.within(&format!("groups[{index}]")))?;
        check_group(self.scope, &group)
            .map_err(|rejection| rejection.within(&format!("groups[{index}]")))?;
        if !self.seen.insert(group.key()) {
            let problem = format!("group {} is given twice", group.key());
            return Err(at(Reason::BadLabels, &problem));
        }
        let method = entry.method.map(|method| method.to_ascii_uppercase());
        let method = match method.as_deref() {
            None | Some("PUT") => Method::Put,
            Some("POST") => Method::Post,
            Some("DELETE") => Method::Delete,
            Some(other) => {
                let problem = format!("the method must be PUT, POST or DELETE, not {other:?}");
                return Err(at(Reason::BadParameter, &problem));
            }
        };
        if method == Method::Delete && !entry.metrics.is_empty() {
            let problem = "DELETE removes the whole group, so it has no metrics";
            return Err(at(Reason::BadParameter, problem));
        }
        let ttl = entry
            .ttl
            .map(|ttl| parse_ttl(&ttl).map_err(|it| at(Reason::BadParameter, &it)));
        let sender = PushSender {
            origin: self.origin.clone(),
            ttl: ttl.transpose()?,
        };
        let body = Body {
            content_type: "",
            bytes: &Bytes::from(entry.metrics),
        };
        let budget = |id: &SectionId| self.store.memory_budget(id);
        let change = groups
            .change(method, &group, body, &sender, self.now, budget)
            .map_err(|rejection| rejection.within(&format!("groups[{index}]")))?;
        if let Change::Update { families, .. } = &change {
            self.budget
                .take(families, &groups.admission.exposition)
                .map_err(|rejection| rejection.within(&format!("groups[{index}]")))?;
        }
        self.changes.push(change);
        Ok(())
    }
}

/// Deserializes a batch.
struct BatchSeed<'r, 'i>(&'r mut BatchReader<'i>);

/// Deserializes the groups of a batch.
struct GroupsSeed<'r, 'i>(&'r mut BatchReader<'i>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum BatchKey {
    Groups,
}

impl<'de> DeserializeSeed<'de> for BatchSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for BatchSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with groups")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(BatchKey::Groups) = map.next_key()? {
            if found {
                return Err(de::Error::duplicate_field("groups"));
            }
            found = true;
            map.next_value_seed(GroupsSeed(&mut *self.0))?;
        }
        match found {
            true => Ok(()),
            false => Err(de::Error::missing_field("groups")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for GroupsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for GroupsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of groups")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(entry) = list.next_element()? {
            if let Err(rejection) = self.0.add(entry) {
                self.0.rejection = Some(rejection);
                return Err(de::Error::custom("a group is not valid"));
            }
        }
        Ok(())
    }
}

/// The text and families that the remaining groups of a batch may have.
#[derive(Debug)]
struct BatchBudget {
    /// Bytes of text.
    text: usize,
    families: usize,
}

impl BatchBudget {
    /// A batch may have the text of a single push and several times its families, since the
    /// groups of a batch share most families.
    fn new(config: &Exposition) -> Self {
        BatchBudget {
            text: config.max_text,
            families: config.max_families.saturating_mul(FAMILIES_FACTOR),
        }
    }

    /// Subtracts the families of one more group.
    fn take(&mut self, families: &[FamilyText], config: &Exposition) -> Result<(), Rejection> {
        let bytes = families.iter().map(|family| family.samples.len()).sum();
        let Some(text) = self.text.checked_sub(bytes) else {
            let limit = config.max_text;
            let message = format!(
                "with this group the batch has more than {limit} bytes of text \
                 (exposition.max_text): send several batches"
            );
            return Err(Rejection::new(Reason::TooLarge, &message));
        };
        // One of the families is the time of the push.
        let Some(remaining) = self.families.checked_sub(families.len() - 1) else {
            let message = format!(
                "with this group the batch has more than {} families \
                 ({FAMILIES_FACTOR} times exposition.max_families): send several batches",
                config.max_families.saturating_mul(FAMILIES_FACTOR)
            );
            return Err(Rejection::new(Reason::TooManySamples, &message));
        };
        *self = BatchBudget {
            text,
            families: remaining,
        };
        Ok(())
    }
}
