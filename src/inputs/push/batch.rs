//! Several groups in one body, taken whole or not at all.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::replace::Groups;
use super::{Method, Sender};
use crate::clock::Now;
use crate::exposition::FamilyText;
use crate::ingest::config::Exposition;
use crate::ingest::{Body, Group, Rejection, parse_ttl};
use crate::peer::Origin;
use crate::reason::Reason;
use crate::store::{Change, SectionId, Store, Write};

/// Groups in one batch.
const MOST_GROUPS: usize = 100_000;

/// One push of a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with labels and metrics")]
struct Entry {
    #[serde(deserialize_with = "labels_once")]
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

/// Reads the labels of a group. A label given twice is an error: which value is
/// meant is unknown.
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
    /// into one write, and says of how many groups. An error names the group.
    /// No group may be there twice: which of two pushes is later, one write
    /// does not know.
    ///
    /// Groups are read one by one, so the first faulty or surplus group ends it.
    pub fn batch(
        &self,
        store: &Store,
        json: &[u8],
        origin: &Origin,
        now: Now,
    ) -> Result<(Write, usize), Rejection> {
        let mut batch = Reading {
            groups: self,
            store,
            origin,
            now,
            seen: HashSet::new(),
            changes: Vec::new(),
            left: Left::of(&self.admission.exposition),
            wrong: None,
        };
        let mut parser = serde_json::Deserializer::from_slice(json);
        let read = BatchSeed(&mut batch).deserialize(&mut parser);
        let read = read.and_then(|()| parser.end());
        if let Err(problem) = read {
            let malformed = || Rejection::invalid_json("JSON of a batch expected", &problem);
            return Err(batch.wrong.unwrap_or_else(malformed));
        }
        let count = batch.changes.len();
        let changes = batch.changes;
        Ok((Write { changes }, count))
    }
}

/// A batch as far as it is read.
struct Reading<'i> {
    groups: &'i Groups,
    store: &'i Store,
    origin: &'i Origin,
    now: Now,
    seen: HashSet<String>,
    changes: Vec<Change>,
    left: Left,
    /// What is wrong with the group that was read last.
    wrong: Option<Rejection>,
}

impl Reading<'_> {
    /// Takes the next group.
    fn take(&mut self, entry: Entry) -> Result<(), Rejection> {
        let place = self.changes.len();
        if place == MOST_GROUPS {
            let message = format!("a batch has at most {MOST_GROUPS} groups");
            return Err(Rejection::new(Reason::TooLarge, &message));
        }
        let groups = self.groups;
        let at =
            |reason, problem: &str| Rejection::new(reason, &format!("groups[{place}]: {problem}"));
        let group = Group::from_labels(entry.labels, groups.config.enable_utf8_names)
            .map_err(|rejection| at(rejection.reason, &rejection.message))?;
        if !self.seen.insert(group.key()) {
            let problem = format!("group {} is there twice", group.key());
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
        let ttl = entry
            .ttl
            .map(|ttl| parse_ttl(&ttl).map_err(|it| at(Reason::BadParameter, &it)));
        let sender = Sender {
            origin: self.origin.clone(),
            ttl: ttl.transpose()?,
        };
        let body = Body {
            content_type: "",
            bytes: &Bytes::from(entry.metrics),
        };
        let room = |id: &SectionId| self.store.memory_budget(id);
        let change = groups
            .change(method, &group, body, &sender, self.now, room)
            .map_err(|fault| {
                let told = at(fault.reason, &fault.message);
                Rejection {
                    line: fault.line,
                    column: fault.column,
                    ..told
                }
            })?;
        if let Change::Update { families, .. } = &change {
            self.left
                .take(families, &groups.admission.exposition)
                .map_err(|fault| at(fault.reason, &fault.message))?;
        }
        self.changes.push(change);
        Ok(())
    }
}

/// Reads a batch.
struct BatchSeed<'r, 'i>(&'r mut Reading<'i>);

/// Reads its groups.
struct GroupsSeed<'r, 'i>(&'r mut Reading<'i>);

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
            if let Err(fault) = self.0.take(entry) {
                self.0.wrong = Some(fault);
                return Err(de::Error::custom("a group is wrong"));
            }
        }
        Ok(())
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
    fn take(&mut self, families: &[FamilyText], config: &Exposition) -> Result<(), Rejection> {
        let bytes = families.iter().map(|family| family.samples.len()).sum();
        let Some(text) = self.text.checked_sub(bytes) else {
            let most = config.max_text;
            let message = format!(
                "with this group the batch has more than {most} bytes of text \
                 (exposition.max_text): send it as several"
            );
            return Err(Rejection::new(Reason::TooLarge, &message));
        };
        // One of them tells when the group was pushed.
        let Some(left) = self.families.checked_sub(families.len() - 1) else {
            let message = format!(
                "with this group the batch has more than {} families \
                 ({FAMILIES_OF_BATCH} times exposition.max_families): send it as several",
                config.max_families.saturating_mul(FAMILIES_OF_BATCH)
            );
            return Err(Rejection::new(Reason::TooManySamples, &message));
        };
        *self = Left {
            text,
            families: left,
        };
        Ok(())
    }
}

/// A batch may have this many times the families of one push.
const FAMILIES_OF_BATCH: usize = 4;
