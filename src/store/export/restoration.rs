//! Fills an empty store from records.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Now;
use crate::record::Record;
use crate::registry::export::{BlockParts, ClockRecord, RestoredFamily, StoredFamily};
use crate::registry::family_text;
use crate::store::export::filler::{FamilyHead, Filler, Restored};
use crate::store::export::key::{KeyError, RecordKey};
use crate::store::export::records::{Stored, ValueError};
use crate::store::export::stored_section::StoredSection;
use crate::store::limits::StoreLimits;
use crate::store::store::Store;

/// Why a store cannot be restored. The store then shows no change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A key begins like one of the store's, but is not valid.
    #[error("record {0:?}: its key is not one that this program writes")]
    Key(String),
    /// A newer program wrote a value.
    #[error("record {key:?}: {error}: use a newer program")]
    Newer {
        /// The key.
        key: String,
        /// The format of the value, and those that this program reads.
        error: ValueError,
    },
    /// A value cannot be read.
    #[error("record {key:?}: {problem}")]
    Damaged {
        /// The key.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// An aggregated family cannot be made from its records.
    #[error("{0}")]
    Family(String),
    /// A record that others need is missing.
    #[error("there are aggregated series, but record {0:?} is missing")]
    Missing(String),
    /// The store has sections or aggregated families.
    #[error("only an empty store can be restored")]
    NotEmpty,
}

/// Records on their way into an empty store.
///
/// Limits that were lowered meanwhile reject only what comes later. A section or an aggregated
/// family is skipped if its lifetime is over, or if its names are reserved now or clash with the
/// proxy's own. If changes were tracked before, the next [`Store::take_changes`] removes the
/// records of what was skipped.
#[derive(Debug)]
pub struct Restoration<'s> {
    store: &'s Store,
    clock: Option<ClockRecord>,
    heads: HashMap<Arc<str>, FamilyHead>,
    sections: Vec<StoredSection>,
    families: HashMap<Arc<str>, StoredFamily>,
    blocks: Vec<(Arc<str>, u32, BlockParts)>,
    /// Bounds that histograms share.
    bounds: Vec<Arc<[f64]>>,
    /// Listeners, which sections share.
    sources: HashSet<Arc<str>>,
}

impl<'s> Restoration<'s> {
    /// Begins to restore an empty store.
    pub fn new(store: &'s Store) -> Self {
        Restoration {
            store,
            clock: None,
            heads: HashMap::new(),
            sections: Vec::new(),
            families: HashMap::new(),
            blocks: Vec::new(),
            bounds: Vec::new(),
            sources: HashSet::new(),
        }
    }

    /// Reads a record, in any order, each key once. Returns whether it is one of the store's;
    /// others are ignored, as are removals.
    ///
    /// # Errors
    ///
    /// Why the record cannot be read.
    pub fn add(&mut self, record: Record) -> Result<bool, RestoreError> {
        let key = match RecordKey::read(&record.key) {
            Ok(key) => key,
            Err(KeyError::Foreign) => return Ok(false),
            Err(KeyError::Invalid) => return Err(RestoreError::Key(key_text(&record.key))),
        };
        let Some(value) = record.value.map(Bytes::from) else {
            return Ok(true);
        };
        let stored = Stored::decode(&key, &value).map_err(|error| match error {
            ValueError::Newer(_) => RestoreError::Newer {
                key: key_text(&record.key),
                error,
            },
            error => damaged(&record.key, error.to_string()),
        })?;
        self.add_stored(key, stored, &value)
            .map_err(|problem| damaged(&record.key, problem.to_owned()))?;
        Ok(true)
    }

    fn add_stored(
        &mut self,
        key: RecordKey,
        stored: Stored<'_>,
        value: &Bytes,
    ) -> Result<(), &'static str> {
        match (key, stored) {
            (RecordKey::Clock, Stored::Clock(clock)) => self.clock = Some(clock),
            (RecordKey::Head(name), Stored::Head(head)) => {
                self.heads.insert(name, head.into());
            }
            (RecordKey::Section(id), Stored::Section(record)) => {
                let sources = &mut self.sources;
                let source = |source: &str| {
                    let known = sources.get(source).map(Arc::clone);
                    known.unwrap_or_else(|| {
                        let new: Arc<str> = Arc::from(source);
                        sources.insert(Arc::clone(&new));
                        new
                    })
                };
                let section = StoredSection::of(id, record, value, source, &self.store.hasher)?;
                self.sections.push(section);
            }
            (RecordKey::Aggregated(name), Stored::Aggregated(record)) => {
                let family = StoredFamily::new(Arc::clone(&name), &record, &mut self.bounds)?;
                self.families.insert(name, family);
            }
            (RecordKey::Block(name, number), Stored::Block(record)) => {
                let parts = record.to_parts(&mut self.bounds)?;
                self.blocks.push((name, number, parts));
            }
            // The key decides how a value is decoded.
            _ => return Err("its value is not of the kind that its key says"),
        }
        Ok(())
    }

    /// Puts everything into the store, as of `now`.
    ///
    /// # Errors
    ///
    /// Why the store cannot be restored.
    pub fn finish(mut self, now: Now) -> Result<Restored, RestoreError> {
        let reserved = self.store.inspection().rules.reserved;
        let mut registry = self.store.registry();
        let _turn = self.store.turn();
        let totals = self.store.read().totals();
        if totals.apps + totals.groups + registry.series() > 0 {
            return Err(RestoreError::NotEmpty);
        }
        let is_time_known = self.clock.is_some() || self.blocks.is_empty();
        if let Some(clock) = self.clock {
            registry.restore_clock(clock, now);
        }
        if !is_time_known {
            return Err(missing(&RecordKey::Clock));
        }
        for (name, number, parts) in self.blocks.drain(..) {
            let Some(family) = self.families.get_mut(&name) else {
                return Err(missing(&RecordKey::Aggregated(name)));
            };
            family.add(number, parts);
        }
        let mut families: Vec<(Arc<str>, StoredFamily)> = self.families.drain().collect();
        families.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let families = families.into_iter().map(|(name, family)| {
            let restored = registry.restored(family).map_err(RestoreError::Family)?;
            Ok((name, restored))
        });
        let families: Vec<(Arc<str>, RestoredFamily)> = families.collect::<Result<_, _>>()?;

        // Storage has what is restored, so only differences are noted.
        let registry_notes = registry.stop_notes();
        let section_notes = self.store.write().notes.take();
        let mut filler = Filler::new(self.store, self.heads, reserved, now);
        self.sections.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        for section in self.sections {
            filler.section(section);
        }
        let mut registry_changes = Vec::new();
        for (name, family) in families {
            filler.restored.expired_series += family.expired;
            let shortened = family.shortened.iter();
            registry_changes.extend(shortened.map(|number| (Arc::clone(&name), Some(*number))));
            if filler.takes(&name, &family) {
                filler.restored.series += family.series();
                registry.add_restored(family);
            } else {
                let numbers = family.numbers().map(Some);
                let parts = numbers.chain([None]);
                registry_changes.extend(parts.map(|part| (Arc::clone(&name), part)));
            }
        }
        let (mut restored, notes) = filler.finish();
        registry.resume_notes(registry_notes);
        for (name, part) in registry_changes {
            registry.note_again(&name, part);
        }
        let mut sections = self.store.write();
        sections.notes = section_notes;
        if let Some(own) = &mut sections.notes {
            notes.ids.iter().for_each(|id| own.note_id(id));
            notes.families.iter().for_each(|name| own.note_family(name));
        }
        drop(sections);
        let series = registry.series();
        let families = registry.families();
        drop(registry);
        let totals = self.store.read().totals();
        let counts = [totals.apps, totals.groups, totals.held, families, series];
        restored.exceeded = exceeded(counts, &self.store.limits());
        Ok(restored)
    }
}

impl Store {
    /// Fills the empty store from records; see [`Restoration`].
    ///
    /// # Errors
    ///
    /// Why it cannot be restored.
    pub fn restore(
        &self,
        records: impl IntoIterator<Item = Record>,
        now: Now,
    ) -> Result<Restored, RestoreError> {
        let mut restoration = Restoration::new(self);
        for record in records {
            restoration.add(record)?;
        }
        restoration.finish(now)
    }
}

/// Messages for exceeded limits. `counts` are apps, groups, bytes, aggregated families and series.
fn exceeded(counts: [usize; 5], limits: &StoreLimits) -> Vec<String> {
    let limits = [
        ("apps", "receiver.max_apps", limits.apps),
        ("groups", "push.max_groups", limits.groups),
        ("bytes", "exposition.max_total", limits.bytes),
        ("families", "push.max_families", limits.registry.families),
        ("series", "push.max_series", limits.registry.series),
    ];
    let pairs = counts.into_iter().zip(limits);
    let over = pairs.filter(|(count, (_, _, limit))| count > limit);
    let messages = over.map(|(count, (what, setting, limit))| {
        format!(
            "{count} {what} are stored, and the limit is {limit} ({setting}): new ones are \
             rejected until there are fewer"
        )
    });
    messages.collect()
}

fn missing(key: &RecordKey) -> RestoreError {
    RestoreError::Missing(key_text(&key.encode()))
}

fn damaged(key: &[u8], problem: String) -> RestoreError {
    let key = key_text(key);
    RestoreError::Damaged { key, problem }
}

/// A key for messages: shortened, and without control characters.
fn key_text(key: &[u8]) -> String {
    family_text(&String::from_utf8_lossy(key))
}
