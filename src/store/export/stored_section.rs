//! A section as it was stored, on its way into a store.

use std::borrow::Cow;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Now;
use crate::exposition::{FamilyText, NativeHistogram, SeriesHashes, Text, is_family_name};
use crate::peer::{Origin, Peer};
use crate::store::export::records::{ContentRecord, FamilyRecord, SectionRecord};
use crate::store::sections::section::{LastFailure, SectionState};
use crate::store::sections::section_id::SectionId;

/// A stored section. Times are wall time in nanoseconds since 1970.
#[derive(Debug)]
pub struct StoredSection {
    pub id: SectionId,
    pub state: SectionState,
    pub origin: Origin,
    updated: Option<u64>,
    lifetime: Option<Duration>,
    problem: Option<(String, u64)>,
    pub content: StoredContent,
}

#[derive(Debug)]
pub enum StoredContent {
    Verbatim(Text),
    /// In the order of their names.
    Families(Vec<StoredFamilyText>),
}

/// A family of a section. Its help is in the record of its head.
#[derive(Debug)]
pub struct StoredFamilyText {
    pub family: FamilyText,
    pub updated_ms: u64,
    pub bytes: u32,
}

/// The times of a section, relative to the present.
#[derive(Debug)]
pub struct SectionTimes {
    pub updated: Option<Now>,
    pub problem: Option<LastFailure>,
    /// How long it is still exposed; zero if its lifetime is over.
    pub left: Option<Duration>,
}

impl StoredSection {
    /// Reads the section of a record. `value` is the memory that holds the record; texts of the
    /// section may share it. `source` returns a shared text of the listener.
    ///
    /// # Errors
    ///
    /// What is wrong with the record.
    pub fn of(
        id: SectionId,
        record: SectionRecord<'_>,
        value: &Bytes,
        source: impl FnOnce(&str) -> Arc<str>,
        hasher: &RandomState,
    ) -> Result<Self, &'static str> {
        let content = match record.content {
            ContentRecord::Verbatim(text) => StoredContent::Verbatim(shared_text(text, value)?),
            ContentRecord::Families(families) => {
                if !families.is_sorted_by(|a, b| a.name < b.name) {
                    return Err("its families are not in the order of their names");
                }
                let families = families.into_iter();
                let families = families.map(|family| stored_family(family, value, hasher));
                StoredContent::Families(families.collect::<Result<_, _>>()?)
            }
        };
        Ok(StoredSection {
            id,
            state: record.state,
            origin: Origin {
                source: source(&record.source),
                peer: Peer::from(record.peer),
                user: None,
            },
            updated: record.updated,
            lifetime: record.lifetime.map(Duration::from_nanos),
            problem: record
                .problem
                .map(|problem| (problem.reason.into_owned(), problem.at)),
            content,
        })
    }

    /// The section's times at `now`. A lifetime continues while the program does not run. If the
    /// wall clock was set back, no time has passed.
    pub fn times(&self, now: Now) -> SectionTimes {
        let since = self.updated.or(self.problem.as_ref().map(|(_, at)| *at));
        let passed = since.map_or(0, |since| now.unix_nanos().saturating_sub(since));
        SectionTimes {
            updated: self.updated.map(|at| now.at_unix_nanos(at)),
            problem: self.problem.as_ref().map(|(reason, at)| LastFailure {
                reason: reason.clone(),
                at: now.at_unix_nanos(*at),
            }),
            left: self
                .lifetime
                .map(|lifetime| lifetime.saturating_sub(Duration::from_nanos(passed))),
        }
    }
}

fn stored_family(
    record: FamilyRecord<'_>,
    value: &Bytes,
    hasher: &RandomState,
) -> Result<StoredFamilyText, &'static str> {
    if !is_family_name(&record.name) {
        return Err("a family has an impossible name");
    }
    let series = SeriesHashes::of_lines(&record.samples, hasher);
    let natives = record.natives.into_iter().map(|native| NativeHistogram {
        labels: Box::from(&*native.labels),
        gauge: native.gauge,
        histogram: Bytes::copy_from_slice(&native.histogram),
    });
    Ok(StoredFamilyText {
        family: FamilyText {
            name: Arc::from(&*record.name),
            kind: record.kind,
            help: None,
            line: 0,
            samples: shared_text(record.samples, value)?,
            series,
            natives: natives.collect(),
            open: None,
        },
        updated_ms: record.updated_ms,
        bytes: record.bytes,
    })
}

/// A text of a record, as a slice of the memory that holds the record.
fn shared_text(text: Cow<'_, str>, value: &Bytes) -> Result<Text, &'static str> {
    let bytes = match text {
        Cow::Borrowed("") => Bytes::new(),
        Cow::Borrowed(text) => value.slice_ref(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    Text::from_bytes(bytes).ok_or("a text does not end in a line feed")
}
