//! What is under the store's lock: sections, the output they make, deadlines.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::expiry::Deadlines;
use super::family::{FamilyIndex, Member};
use super::natives::NativeIndex;
use super::rope::Rope;
use super::{
    Change, Limits, Now, Problem, Producer, Refused, Section, SectionId, State, Totals, Write,
};
use crate::exposition::{Content, FamilyText, Kind, Text, write_label_value};

#[derive(Debug)]
pub struct Sections {
    by_id: HashMap<SectionId, Section>,
    pub rope: Rope<Key>,
    families: FamilyIndex,
    pub natives: NativeIndex,
    deadlines: Deadlines,
    /// The family of update times, where they are exposed.
    stamps: Option<Arc<str>>,
    apps: usize,
    bytes: usize,
    weight: usize,
    next_serial: u64,
}

/// Where a fragment stands in the output: families by name first, each with
/// its head before its samples, then verbatim texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Family(Arc<str>, Part),
    Verbatim(SectionId),
}

/// A part of a family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Head,
    Samples(SectionId),
}

/// When each app was last heard from. Its samples change with every push, so
/// the store keeps them like any other fragment.
const STAMPS: &str = "exporter_proxy_app_last_update_timestamp_seconds";
const STAMPS_HELP: &str = "When the app's text was last replaced, in seconds since 1970.";

impl Sections {
    pub fn new(stamps: bool) -> Self {
        let mut sections = Sections {
            by_id: HashMap::new(),
            rope: Rope::default(),
            families: FamilyIndex::default(),
            natives: NativeIndex::default(),
            deadlines: Deadlines::default(),
            stamps: None,
            apps: 0,
            bytes: 0,
            weight: 0,
            next_serial: 0,
        };
        if stamps {
            let family = FamilyText {
                name: Arc::from(STAMPS),
                kind: Kind::Gauge,
                help: Some(STAMPS_HELP.to_owned()),
                line: 0,
                samples: Text::default(),
                series: Vec::new(),
                natives: Vec::new(),
            };
            if let Some(head) = sections.families.join(&family, false) {
                let key = Key::Family(Arc::clone(&family.name), Part::Head);
                sections.rope.set(key, head);
            }
            sections.stamps = Some(family.name);
        }
        sections
    }

    /// Whether all of `write` can be applied.
    pub fn check(&self, write: &Write, limits: &Limits) -> Result<(), Refused> {
        let mut first_new = None;
        let mut last = None;
        let mut apps = self.apps;
        let mut weight = self.weight;
        for change in &write.changes {
            let Change::Replace { id, content, .. } = change else {
                continue;
            };
            if id.producer == Producer::Own {
                continue;
            }
            let old = self.by_id.get(id);
            if old.is_none() && id.producer == Producer::App {
                apps += 1;
                first_new.get_or_insert(id);
            }
            weight = weight + weight_of(content) - old.map_or(0, |section| section.weight);
            last = Some(id);
        }
        if let Some(first) = first_new
            && apps > limits.apps
        {
            return Err(Refused::TooManyApps {
                app: first.name.to_string(),
                limit: limits.apps,
            });
        }
        // What makes it less is taken even where it is too much still.
        if let Some(id) = last
            && weight > limits.bytes
            && weight > self.weight
        {
            return Err(Refused::TooManyBytes {
                app: id.name.to_string(),
                size: weight,
                limit: limits.bytes,
            });
        }
        self.families.check(write, |id| self.by_id.get(id))
    }

    /// Applies a write that has been checked. Returns what is to be freed.
    pub fn apply(&mut self, write: Write, now: Now) -> Vec<Bytes> {
        let mut freed = Vec::new();
        for change in write.changes {
            match change {
                Change::Replace {
                    id,
                    content,
                    origin,
                    lifetime,
                } => {
                    let (mut section, known) = self.take(&id);
                    self.apps += usize::from(!known && id.producer == Producer::App);
                    self.expose(&id, &mut section, content, &mut freed);
                    section.origin = origin;
                    section.updated = Some(now);
                    section.state = State::Fresh;
                    section.deadline = lifetime.map(|lifetime| now.tick + lifetime);
                    self.deadlines.note(&id, &mut section);
                    self.stamp(&id, now, &mut freed);
                    self.put_back(id, section, known);
                }
                Change::Fail {
                    id,
                    origin,
                    problem,
                    keep,
                } => {
                    // A bad push does not make a section of its own; a target
                    // is listed from its first failure on.
                    let (mut section, known) = self.take(&id);
                    if id.producer == Producer::App && !known {
                        continue;
                    }
                    if section.state == State::Pending {
                        section.origin = origin;
                    }
                    section.problem = Some(Problem {
                        reason: problem,
                        at: now,
                    });
                    // The last text is kept for so long after the first failure.
                    if section.state == State::Fresh {
                        section.state = State::Stale;
                        if let Some(keep) = keep {
                            section.deadline = Some(now.tick + keep);
                        }
                        self.deadlines.note(&id, &mut section);
                    }
                    self.put_back(id, section, known);
                }
            }
        }
        freed
    }

    pub fn is_any_due(&self, now: Now) -> bool {
        self.deadlines.are_due(now.tick)
    }

    /// Withdraws all whose time is up. Returns them, and what is to be freed.
    pub fn expire(&mut self, now: Now) -> (Vec<SectionId>, Vec<Bytes>) {
        let mut gone = Vec::new();
        let mut freed = Vec::new();
        while let Some(id) = self.next_due(now.tick) {
            self.withdraw(&id, &mut freed);
            gone.push(id);
        }
        (gone, freed)
    }

    pub fn list(&self) -> Vec<(SectionId, Section)> {
        self.by_id
            .iter()
            .filter(|(id, _)| id.producer != Producer::Own)
            .map(|(id, section)| (id.clone(), section.clone()))
            .collect()
    }

    pub fn find(&self, name: &str) -> Option<(SectionId, Section)> {
        [Producer::App, Producer::Target]
            .into_iter()
            .find_map(|producer| {
                let id = SectionId::new(name, producer);
                let section = self.by_id.get(&id)?.clone();
                Some((id, section))
            })
    }

    /// What is exposed for a section: families with their heads, or its text.
    pub fn pieces(&self, id: &SectionId) -> Vec<Bytes> {
        self.gather(self.by_id.get_key_value(id).into_iter())
    }

    /// The same for all apps and targets of these names together.
    pub fn pieces_of_all(&self, names: &[String]) -> Vec<Bytes> {
        let ids = names.iter().flat_map(|name| {
            [Producer::App, Producer::Target].map(|producer| SectionId::new(name, producer))
        });
        let ids: BTreeSet<SectionId> = ids.collect();
        self.gather(ids.iter().filter_map(|id| self.by_id.get_key_value(id)))
    }

    /// The fragments of some sections, in the order of the output.
    fn gather<'s>(
        &self,
        sections: impl Iterator<Item = (&'s SectionId, &'s Section)>,
    ) -> Vec<Bytes> {
        let mut keys = BTreeSet::new();
        for (id, section) in sections {
            for member in section.members.iter() {
                keys.insert(Key::Family(Arc::clone(&member.family), Part::Head));
                keys.insert(samples_key(&member.family, id));
            }
            if section.members.is_empty() {
                keys.insert(Key::Verbatim(id.clone()));
            }
        }
        keys.iter().filter_map(|key| self.rope.get(key)).collect()
    }

    /// Whether all of the output is families: verbatim texts come last.
    pub fn is_merged(&self) -> bool {
        !matches!(self.rope.last_key(), Some(Key::Verbatim(_)))
    }

    pub fn totals(&self) -> Totals {
        let own = SectionId::own();
        let others = usize::from(self.by_id.contains_key(&own)) + self.apps;
        Totals {
            apps: self.apps,
            targets: self.by_id.len() - others,
            bytes: self.bytes,
        }
    }

    /// The section, to be put back once it is changed, and whether it was
    /// there: else it is a new one.
    fn take(&mut self, id: &SectionId) -> (Section, bool) {
        if let Some(section) = self.by_id.get_mut(id) {
            return (std::mem::take(section), true);
        }
        self.next_serial += 1;
        let section = Section {
            serial: self.next_serial,
            ..Section::default()
        };
        (section, false)
    }

    fn put_back(&mut self, id: SectionId, section: Section, known: bool) {
        match self.by_id.get_mut(&id).filter(|_| known) {
            Some(place) => *place = section,
            None => {
                self.by_id.insert(id, section);
            }
        }
    }

    /// Makes `content` all that the section exposes.
    fn expose(
        &mut self,
        id: &SectionId,
        section: &mut Section,
        content: Content,
        freed: &mut Vec<Bytes>,
    ) {
        let (bytes, weight) = (bytes_of(&content), weight_of(&content));
        if id.producer != Producer::Own {
            self.bytes = self.bytes + bytes - section.bytes;
            self.weight = self.weight + weight - section.weight;
        }
        section.bytes = bytes;
        section.weight = weight;
        match content {
            Content::Verbatim(text) => {
                self.expose_families(id, section, Vec::new(), freed);
                freed.push(self.rope.set(Key::Verbatim(id.clone()), text.into_bytes()));
            }
            Content::Families(families) => {
                if section.members.is_empty() {
                    freed.push(self.rope.remove(&Key::Verbatim(id.clone())));
                }
                self.expose_families(id, section, families, freed);
            }
        }
    }

    fn expose_families(
        &mut self,
        id: &SectionId,
        section: &mut Section,
        families: Vec<FamilyText>,
        freed: &mut Vec<Bytes>,
    ) {
        if families.is_empty() && section.members.is_empty() {
            return;
        }
        // A list of sections that is being made may still hold these.
        let members = Arc::unwrap_or_clone(std::mem::take(&mut section.members));
        let mut old: BTreeMap<Arc<str>, Vec<u64>> = members
            .into_iter()
            .map(|member| (member.family, member.series))
            .collect();
        let mut members = Vec::with_capacity(families.len());
        for family in families {
            let before = old.remove(&family.name);
            if let Some(head) = self.families.join(&family, before.is_some()) {
                let key = Key::Family(Arc::clone(&family.name), Part::Head);
                freed.push(self.rope.set(key, head));
            }
            let before = before.unwrap_or_default();
            if before != family.series {
                self.families.disown_series(section.serial, &before);
                self.families.own_series(section.serial, &family.series);
            }
            let key = samples_key(&family.name, id);
            freed.push(self.rope.set(key, family.samples.into_bytes()));
            freed.extend(self.natives.set(&family.name, id, family.natives));
            members.push(Member {
                family: family.name,
                series: family.series,
            });
        }
        section.members = Arc::new(members);
        for (family, series) in old {
            self.families.disown_series(section.serial, &series);
            freed.push(self.rope.remove(&samples_key(&family, id)));
            freed.extend(self.natives.set(&family, id, Vec::new()));
            if self.families.leave(&family) {
                freed.push(self.rope.remove(&Key::Family(family, Part::Head)));
            }
        }
    }

    /// Notes the time of an app's update in the output.
    fn stamp(&mut self, id: &SectionId, now: Now, freed: &mut Vec<Bytes>) {
        let Some(family) = self
            .stamps
            .as_ref()
            .filter(|_| id.producer == Producer::App)
        else {
            return;
        };
        let mut line = String::with_capacity(STAMPS.len() + id.name.len() + 32);
        line.push_str(STAMPS);
        line.push_str("{app=\"");
        write_label_value(&mut line, &id.name);
        line.push_str("\"} ");
        let millis = now.unix_millis();
        let written = writeln!(line, "{}.{:03}", millis / 1000, millis % 1000);
        written.expect("writing to a String cannot fail");
        freed.push(self.rope.set(samples_key(family, id), Bytes::from(line)));
    }

    /// Takes the next section whose time is up.
    fn next_due(&mut self, now: Instant) -> Option<SectionId> {
        while let Some(id) = self.deadlines.pop_due(now) {
            let Some(section) = self.by_id.get_mut(&id) else {
                continue;
            };
            section.queued = None;
            match section.deadline {
                Some(deadline) if deadline <= now => return Some(id),
                Some(_) => self.deadlines.note(&id, section),
                None => {}
            }
        }
        None
    }

    fn withdraw(&mut self, id: &SectionId, freed: &mut Vec<Bytes>) {
        let (mut section, _) = self.take(id);
        self.expose(id, &mut section, Content::Verbatim(Text::default()), freed);
        if id.producer == Producer::App {
            self.apps -= 1;
            self.by_id.remove(id);
            if let Some(family) = &self.stamps {
                freed.push(self.rope.remove(&samples_key(family, id)));
            }
        } else {
            section.deadline = None;
            section.state = State::Withdrawn;
            self.by_id.insert(id.clone(), section);
        }
    }

    #[cfg(test)]
    pub fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    #[cfg(test)]
    pub fn families(&self) -> &FamilyIndex {
        &self.families
    }
}

fn samples_key(family: &Arc<str>, id: &SectionId) -> Key {
    Key::Family(Arc::clone(family), Part::Samples(id.clone()))
}

/// Bytes of text, heads included.
fn bytes_of(content: &Content) -> usize {
    match content {
        Content::Verbatim(text) => text.len(),
        Content::Families(families) => families
            .iter()
            .map(|family| family.samples.len() + family.head_len())
            .sum(),
    }
}

/// About the memory that a content takes: its text, the entries of each
/// family's keys and fragments, those of each series, and native histograms.
fn weight_of(content: &Content) -> usize {
    const FAMILY: usize = 256;
    const SERIES: usize = 40;
    const NATIVE: usize = 64;
    let index = match content {
        Content::Verbatim(_) => 0,
        Content::Families(families) => families
            .iter()
            .map(|family| {
                let natives: usize = family
                    .natives
                    .iter()
                    .map(|native| NATIVE + native.labels.len() + native.histogram.len())
                    .sum();
                FAMILY + family.name.len() + family.series.len() * SERIES + natives
            })
            .sum(),
    };
    bytes_of(content) + index
}
