//! Copies of what was noted, made under the lock of the sections.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Now;
use crate::exposition::{Kind, NativeHistogram, OpenMetricsHead, plain_name};
use crate::store::export::records::{
    ContentRecord, FamilyRecord, HeadRecord, NativeRecord, ProblemRecord, SectionRecord,
};
use crate::store::families::index::FamilyIndex;
use crate::store::sections::key::{OutputKey, samples_key};
use crate::store::sections::notes::SectionNotes;
use crate::store::sections::section::Section;
use crate::store::sections::section_id::SectionId;
use crate::store::sections::table::SectionTable;

/// Copies of what has changed: the newest of each, and `None` for what is gone.
#[derive(Debug, Default)]
pub struct SectionCopies {
    pub sections: BTreeMap<SectionId, Option<SectionCopy>>,
    pub heads: BTreeMap<Arc<str>, Option<HeadCopy>>,
    /// Whether this is all that exists, rather than what has changed.
    pub is_full: bool,
}

/// A copy of a section. Its texts are shared with the output.
#[derive(Debug)]
pub struct SectionCopy {
    section: Section,
    content: ContentCopy,
}

#[derive(Debug)]
enum ContentCopy {
    Verbatim(Bytes),
    /// In the order of the section's members.
    Families(Vec<FamilyCopy>),
}

#[derive(Debug)]
struct FamilyCopy {
    kind: Kind,
    samples: Bytes,
    natives: Option<Arc<Vec<NativeHistogram>>>,
}

/// A copy of what all sections of a family share.
#[derive(Debug)]
pub struct HeadCopy {
    help: Option<String>,
    open: Option<Box<OpenMetricsHead>>,
}

impl SectionTable {
    /// The number of notes; meaningless after notes were dropped.
    pub fn noted(&self) -> usize {
        self.notes.as_ref().map_or(0, SectionNotes::len)
    }

    /// Copies noted sections and heads as they are now, until about `most` families are
    /// copied. The table has the family index.
    pub fn copy_changes(&mut self, most: usize, copies: &mut SectionCopies) {
        if self.notes.as_ref().is_some_and(|notes| notes.everything) {
            self.note_all();
            *copies = SectionCopies {
                is_full: true,
                ..SectionCopies::default()
            };
        }
        let Some(mut notes) = self.notes.take() else {
            return;
        };
        let mut copied = 0;
        while copied < most {
            copied += 1;
            if let Some(id) = notes.ids.pop() {
                if let Some(section) = self.by_id.get_mut(&id) {
                    section.is_noted = false;
                    copied += section.members.len();
                }
                let copy = self.copy_of(&id);
                copies.sections.insert(id, copy);
            } else if let Some(name) = notes.families.pop() {
                let copy = self.families.copy_of(&name);
                copies.heads.insert(name, copy);
            } else {
                break;
            }
        }
        self.notes = Some(notes);
    }

    fn copy_of(&self, id: &SectionId) -> Option<SectionCopy> {
        let section = self.by_id.get(id)?.as_ref().clone();
        let verbatim = match section.members.is_empty() {
            true => self.page_list.get(&OutputKey::Verbatim(id.clone())),
            false => None,
        };
        let content = verbatim.map_or_else(
            || {
                let members = section.members.iter();
                let families = members.map(|member| FamilyCopy {
                    kind: self.families.slots[member.family.slot()].kind,
                    samples: self
                        .page_list
                        .get_near(&samples_key(&member.family, id), member.hint)
                        .unwrap_or_default(),
                    natives: self.natives.get(member.family.shared(), id),
                });
                ContentCopy::Families(families.collect())
            },
            ContentCopy::Verbatim,
        );
        Some(SectionCopy { section, content })
    }

    /// Replaces the notes by notes of all that exists.
    fn note_all(&mut self) {
        let mut notes = Default::default();
        std::mem::swap(self.notes.get_or_insert_default(), &mut notes);
        notes.ids.clear();
        notes.families.clear();
        notes.everything = false;
        for (id, section) in &mut self.by_id {
            if id.producer.is_kept() {
                section.is_noted = true;
                notes.ids.push(id.clone());
            }
        }
        let kept = self.families.slots.iter().filter(|held| held.kept > 0);
        let names = kept.map(|held| Arc::clone(held.name.shared()));
        notes.families.extend(names);
        self.notes = Some(notes);
    }
}

impl FamilyIndex {
    fn copy_of(&self, name: &str) -> Option<HeadCopy> {
        let held = self.entry(&plain_name(name))?;
        let is_it = *held.name == *name && held.kept > 0;
        is_it.then(|| HeadCopy {
            help: held.help.clone(),
            open: held.open.clone(),
        })
    }
}

impl SectionCopy {
    /// The approximate size of its record.
    pub fn about(&self) -> usize {
        /// More than the other fields of a section, or of a family, usually take.
        const FIELDS: usize = 64;
        FIELDS
            + match &self.content {
                ContentCopy::Verbatim(text) => text.len(),
                ContentCopy::Families(families) => {
                    let sizes = families.iter().map(|family| FIELDS + family.samples.len());
                    sizes.sum()
                }
            }
    }

    /// The record of the section.
    pub fn record(&self) -> SectionRecord<'_> {
        let section = &self.section;
        let since = section.updated;
        let since = since.or_else(|| section.problem.as_ref().map(|problem| problem.at));
        let lifetime = since.and_then(|since| {
            let lifetime = section.deadline?.saturating_duration_since(since.tick);
            Some(u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX))
        });
        SectionRecord {
            state: section.state,
            source: Cow::Borrowed(&*section.origin.source),
            peer: section.origin.peer.into(),
            updated: section.updated.map(Now::unix_nanos),
            lifetime,
            problem: section.problem.as_ref().map(|problem| ProblemRecord {
                reason: Cow::Borrowed(&*problem.reason),
                at: problem.at.unix_nanos(),
            }),
            content: self.content(),
        }
    }

    fn content(&self) -> ContentRecord<'_> {
        let families = match &self.content {
            ContentCopy::Verbatim(text) => return ContentRecord::Verbatim(text_of(text)),
            ContentCopy::Families(families) => families,
        };
        let members = self.section.members.iter().zip(families);
        let families = members.map(|(member, copy)| FamilyRecord {
            name: Cow::Borrowed(&*member.family),
            kind: copy.kind,
            updated_ms: member.updated_ms,
            bytes: member.bytes,
            samples: text_of(&copy.samples),
            natives: copy
                .natives
                .iter()
                .flat_map(|natives| natives.iter())
                .map(|native| NativeRecord {
                    labels: Cow::Borrowed(&*native.labels),
                    gauge: native.gauge,
                    histogram: Cow::Borrowed(&*native.histogram),
                })
                .collect(),
        });
        ContentRecord::Families(families.collect())
    }
}

impl HeadCopy {
    /// The record of the head.
    pub fn record(&self) -> HeadRecord<'_> {
        let open = self.open.as_deref();
        HeadRecord {
            help: self.help.as_deref().map(Cow::Borrowed),
            open_kind: open.and_then(|open| open.kind),
            unit: open.and_then(|open| open.unit.as_deref().map(Cow::Borrowed)),
        }
    }
}

/// A fragment of the output, which is UTF-8.
fn text_of(fragment: &Bytes) -> Cow<'_, str> {
    // Faster than `from_utf8_lossy`, which goes through the text byte by byte.
    match str::from_utf8(fragment) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(fragment),
    }
}
