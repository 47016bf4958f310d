//! What is under the store's lock: sections, the output they make, deadlines.

mod aside;
mod listing;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::expiry::Deadlines;
use super::family::FamilyIndex;
use super::family_name::FamilyName;
use super::inspect::Uninspected;
use super::natives::NativeIndex;
use super::pages::page_list::{FragmentKey, PageList};
use super::plan::{SectionPlan, plan};
use super::write::Elsewhere;
use super::{Change, Limits, Others, Problem, Producer, Refused, Section, SectionId, State, Write};
use crate::clock::Now;
use crate::exposition::{Content, FamilyText, Kind, NativeHistogram, Text, write_label_value};

#[derive(Debug)]
pub struct Sections {
    pub(super) by_id: HashMap<SectionId, Section>,
    pub page_list: PageList<Key>,
    pub(super) families: FamilyIndex,
    pub(super) natives: NativeIndex,
    deadlines: Deadlines,
    /// Verbatim texts that wait for an inspection.
    pub(super) uninspected: Uninspected,
    /// The family of update times, where they are exposed.
    stamps: Option<FamilyName>,
    apps: usize,
    /// Targets by state, in the order of [`State::ALL`].
    targets: [usize; State::ALL.len()],
    /// The names of all groups, in order.
    groups: BTreeSet<Arc<str>>,
    /// Apps and targets, in order.
    others: BTreeSet<SectionId>,
    pub(super) bytes: usize,
    /// Memory held for all sections but the proxy's own, and for the registry.
    pub(super) weight: usize,
    next_serial: u32,
    /// Serial numbers of sections that are gone, to be used again.
    free_serials: Vec<u32>,
    /// How many series there are, while the index of families is elsewhere.
    series_aside: Option<usize>,
}

/// Where a fragment stands in the output: families by name first, each with
/// its head before its samples, then verbatim texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Family(FamilyName, Part),
    Verbatim(SectionId),
}

/// A part of a family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Head,
    Samples(SectionId),
    /// Some series of a living family, in a block of that number.
    Block(u32),
}

/// What a section exposes of one family.
#[derive(Debug, Clone)]
pub struct ShownFamily {
    /// As it stands in the text, escaped.
    pub name: Arc<str>,
    /// When it came, in milliseconds since 1970.
    pub came: u64,
    pub head: Bytes,
    pub samples: Bytes,
    /// What text cannot show of its histograms.
    pub natives: Option<Arc<Vec<NativeHistogram>>>,
}

impl FragmentKey for Key {
    fn is_verbatim(&self) -> bool {
        matches!(self, Key::Verbatim(_))
    }
}

/// When each app was last heard from. Its samples change with every push, so
/// the store keeps them like any other fragment.
const STAMPS: &str = "exporter_proxy_app_last_update_timestamp_seconds";
const STAMPS_HELP: &str = "When the app's text was last replaced, in seconds since 1970.";

impl Sections {
    pub fn new(stamps: bool) -> Self {
        let mut sections = Sections {
            by_id: HashMap::new(),
            page_list: PageList::default(),
            families: FamilyIndex::default(),
            natives: NativeIndex::default(),
            deadlines: Deadlines::default(),
            uninspected: Uninspected::default(),
            stamps: None,
            apps: 0,
            targets: Default::default(),
            groups: BTreeSet::new(),
            others: BTreeSet::new(),
            bytes: 0,
            weight: 0,
            next_serial: 0,
            free_serials: Vec::new(),
            series_aside: None,
        };
        if stamps {
            let family = FamilyText {
                name: Arc::from(STAMPS),
                kind: Kind::Gauge,
                help: Some(STAMPS_HELP.to_owned()),
                line: 0,
                samples: Text::default(),
                series: Default::default(),
                natives: Vec::new(),
                open: None,
            };
            let (name, head) = sections.families.join(&family, false);
            if let Some(head) = head {
                let key = Key::Family(name.clone(), Part::Head);
                sections.page_list.set(key, head);
            }
            sections.stamps = Some(name);
        }
        sections
    }

    /// Whether all of `write` can be applied.
    pub fn check(&self, write: &Write, limits: &Limits) -> Result<(), Refused> {
        let plans = self.plans(write);
        self.check_room(&plans, limits)?;
        let checked = self.families.check(&plans);
        checked.map_err(|refused| self.explained(refused, &plans))
    }

    /// Whether `write` brings the series that its section has now.
    pub fn is_the_same(&self, write: &Write) -> bool {
        self.families.is_the_same(&self.plans(write))
    }

    fn plans<'a>(&'a self, write: &'a Write) -> Vec<SectionPlan<'a>> {
        let changes = write.changes.iter();
        let plans = changes.filter_map(|change| plan(change, self.by_id.get(change.id())));
        plans.collect()
    }

    /// Whether there is place and memory for what comes.
    pub fn check_room(&self, plans: &[SectionPlan<'_>], limits: &Limits) -> Result<(), Refused> {
        self.check_places(plans, limits)?;
        self.check_bytes(plans, limits)
    }

    /// The same refusal with who is in the way.
    pub fn explained(&self, mut refused: Refused, plans: &[SectionPlan<'_>]) -> Refused {
        if let Some((family, holder)) = refused.in_the_way() {
            let changed: Vec<&SectionId> = plans.iter().map(|plan| plan.id).collect();
            *holder = self.exposer(family, &changed);
        }
        refused
    }

    /// One of those who expose a family, but for these sections.
    pub(super) fn exposer(&self, family: &str, but: &[&SectionId]) -> Elsewhere {
        /// Sections that are looked at: this is for a message.
        const MOST: usize = 64;
        let head = Key::Family(FamilyName::from(Arc::from(family)), Part::Head);
        for key in self.page_list.keys_after(&head).take(MOST) {
            match key {
                Key::Family(name, _) if **name != *family => break,
                Key::Family(_, Part::Samples(id)) if !but.contains(&id) => {
                    return Elsewhere::Section(id.clone());
                }
                Key::Family(_, Part::Block(_)) => return Elsewhere::Aggregated,
                Key::Family(..) => {}
                Key::Verbatim(_) => break,
            }
        }
        Elsewhere::Unknown
    }

    /// Whether there is place for what is new.
    fn check_places(&self, plans: &[SectionPlan<'_>], limits: &Limits) -> Result<(), Refused> {
        let news = |producer| {
            let is_new = move |plan: &&SectionPlan<'_>| {
                plan.old.is_none() && plan.id.producer == producer && !plan.is_removal
            };
            let mut new = plans.iter().filter(is_new).map(|plan| plan.id);
            let first = new.next();
            (first, new.count() + usize::from(first.is_some()))
        };
        if let (Some(first), count) = news(Producer::App)
            && self.apps + count > limits.apps
        {
            return Err(Refused::TooManyApps {
                section: first.clone(),
                limit: limits.apps,
            });
        }
        let removed = |plan: &&SectionPlan<'_>| {
            plan.is_removal && plan.id.producer == Producer::Group && plan.old.is_some()
        };
        if let (Some(first), count) = news(Producer::Group)
            && self.groups.len() + count > limits.groups + plans.iter().filter(removed).count()
        {
            return Err(Refused::TooManyGroups {
                section: first.clone(),
                limit: limits.groups,
            });
        }
        Ok(())
    }

    /// Whether there is memory for it. What makes it less is taken even where
    /// it is too much still.
    fn check_bytes(&self, plans: &[SectionPlan<'_>], limits: &Limits) -> Result<(), Refused> {
        let others = || {
            plans
                .iter()
                .filter(|plan| plan.id.producer != Producer::Own)
        };
        let coming: usize = others().map(|plan| plan.weight).sum();
        let freed: usize = others().map(|plan| plan.freed).sum();
        let weight = self.weight + coming - freed;
        match others().rfind(|plan| !plan.is_removal) {
            Some(last) if weight > limits.bytes && weight > self.weight => {
                Err(Refused::TooManyBytes {
                    section: last.id.clone(),
                    size: weight,
                    limit: limits.bytes,
                })
            }
            _ => Ok(()),
        }
    }

    /// Applies a write that has been checked. Returns what is to be freed.
    pub fn apply(&mut self, write: Write, now: Now) -> Vec<Bytes> {
        let mut freed = Vec::new();
        if write.changes.len() > 1 {
            for change in &write.changes {
                self.let_go(change, &mut freed);
            }
        }
        for change in write.changes {
            match change {
                Change::Replace {
                    id,
                    content,
                    origin,
                    lifetime,
                } => {
                    let id = self.stored(id);
                    let (mut section, known) = self.take(&id);
                    self.apps += usize::from(!known && id.producer == Producer::App);
                    self.expose(&id, &mut section, content, now, &mut freed);
                    section.origin = origin;
                    section.updated = Some(now);
                    section.state = State::Fresh;
                    section.deadline = lifetime.map(|lifetime| now.tick + lifetime);
                    self.deadlines.note(&id, &mut section);
                    self.stamp(&id, now, &mut freed);
                    self.put_back(id, section, known);
                }
                Change::Update {
                    id,
                    families,
                    defaults,
                    others,
                    origin,
                    lifetime,
                    problem,
                } => {
                    let id = self.stored(id);
                    let (mut section, known) = self.take(&id);
                    self.apps += usize::from(!known && id.producer == Producer::App);
                    self.update(
                        &id,
                        &mut section,
                        (families, defaults, others),
                        now,
                        &mut freed,
                    );
                    if problem.is_none() || !known {
                        section.origin = origin;
                        section.deadline = lifetime.map(|lifetime| now.tick + lifetime);
                        self.deadlines.note(&id, &mut section);
                    }
                    if let Some(reason) = problem {
                        section.problem = Some(Problem { reason, at: now });
                        section.state = section.state.after_failure();
                    } else {
                        section.updated = Some(now);
                        section.state = State::Fresh;
                    }
                    self.put_back(id, section, known);
                }
                Change::Remove { id, unless_since } => {
                    let section = self.by_id.get(&id);
                    if section.is_some_and(|section| section.is_removed(unless_since)) {
                        self.forget(&id, &mut freed);
                    }
                }
                Change::Expect { id, origin, url } => {
                    let (mut section, known) = self.take(&id);
                    if !known {
                        section.origin = origin;
                    }
                    section.url = Some(url);
                    self.put_back(id, section, known);
                }
                Change::Fail {
                    id,
                    origin,
                    problem,
                    keep,
                } => {
                    // A bad push does not make a section of its own.
                    if id.producer != Producer::Target && !self.by_id.contains_key(&id) {
                        continue;
                    }
                    let (mut section, known) = self.take(&id);
                    if section.updated.is_none() {
                        section.origin = origin;
                    }
                    section.problem = Some(Problem {
                        reason: problem,
                        at: now,
                    });
                    let before = section.state;
                    section.state = before.after_failure();
                    // The last text is kept for so long after the first failure.
                    if before == State::Fresh {
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

    /// Takes away the families that a section has no more after `change`.
    fn let_go(&mut self, change: &Change, freed: &mut Vec<Bytes>) {
        let no_families: &[FamilyText] = &[];
        let (families, defaults) = match change {
            Change::Replace {
                content: Content::Families(families),
                ..
            } => (&families[..], no_families),
            Change::Update {
                families,
                defaults,
                others: Others::Drop,
                ..
            } => (&families[..], &defaults[..]),
            Change::Remove { id, unless_since } => {
                let section = self.by_id.get(id);
                if !section.is_some_and(|section| section.is_removed(*unless_since)) {
                    return;
                }
                (no_families, no_families)
            }
            Change::Replace { .. } => (no_families, no_families),
            Change::Update { .. } | Change::Expect { .. } | Change::Fail { .. } => return,
        };
        let id = change.id();
        if !self.by_id.contains_key(id) {
            return;
        }
        let (mut section, _) = self.take(id);
        let names = families.iter().chain(defaults);
        self.keep_only(id, &mut section, names.map(|family| &*family.name), freed);
        self.put_back(id.clone(), section, true);
    }

    pub fn is_any_due(&self, now: Now) -> bool {
        self.deadlines.are_due(now.tick)
    }

    /// The same id with the name that keys share, where there are any: that
    /// two names are one is then seen without reading them.
    fn stored(&self, id: SectionId) -> SectionId {
        let stored = self.by_id.get_key_value(&id);
        stored.map_or(id, |(stored, _)| stored.clone())
    }

    /// The section, to be put back once it is changed, and whether it was
    /// there: else it is a new one.
    fn take(&mut self, id: &SectionId) -> (Section, bool) {
        if let Some(section) = self.by_id.get_mut(id) {
            let section = std::mem::take(section);
            if id.producer == Producer::Target {
                self.targets[section.state as usize] -= 1;
            }
            return (section, true);
        }
        let serial = self.free_serials.pop().unwrap_or_else(|| {
            self.next_serial += 1;
            self.next_serial
        });
        let section = Section {
            serial,
            ..Section::default()
        };
        (section, false)
    }

    fn put_back(&mut self, id: SectionId, section: Section, known: bool) {
        if id.producer == Producer::Target {
            self.targets[section.state as usize] += 1;
        }
        match self.by_id.get_mut(&id).filter(|_| known) {
            Some(place) => *place = section,
            None => {
                match id.producer {
                    Producer::Group => {
                        self.groups.insert(Arc::clone(&id.name));
                    }
                    Producer::App | Producer::Target => {
                        self.others.insert(id.clone());
                    }
                    Producer::Own => {}
                }
                self.by_id.insert(id, section);
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
        freed.push(
            self.page_list
                .set(samples_key(family, id), Bytes::from(line)),
        );
    }

    /// Takes the next section whose time is up.
    pub fn next_due(&mut self, now: Instant) -> Option<SectionId> {
        while let Some((due, id)) = self.deadlines.pop_due(now) {
            let section = self.by_id.get_mut(&id);
            let Some(section) = section.filter(|section| section.queued == Some(due)) else {
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

    /// Takes away what a section exposes. Targets stay listed.
    pub fn withdraw(&mut self, id: &SectionId, freed: &mut Vec<Bytes>) {
        if id.producer != Producer::Target {
            return self.forget(id, freed);
        }
        let (mut section, _) = self.take(id);
        self.clear(id, &mut section, freed);
        section.deadline = None;
        section.state = State::Withdrawn;
        self.put_back(id.clone(), section, true);
    }

    /// Removes a section and all that it exposes.
    fn forget(&mut self, id: &SectionId, freed: &mut Vec<Bytes>) {
        let Some(mut section) = self.by_id.remove(id) else {
            return;
        };
        self.clear(id, &mut section, freed);
        self.free_serials.push(section.serial);
        self.unlist(id);
        let by_id = &self.by_id;
        self.deadlines.tidy(by_id.len(), |due, id| {
            let section = by_id.get(id);
            section.is_some_and(|section| section.queued == Some(due))
        });
        match id.producer {
            Producer::App => {
                self.apps -= 1;
                if let Some(family) = &self.stamps {
                    freed.push(self.page_list.remove(&samples_key(family, id)));
                }
            }
            Producer::Target => self.targets[section.state as usize] -= 1,
            Producer::Group | Producer::Own => {}
        }
    }

    /// Takes a section out of the lists of those that there are.
    fn unlist(&mut self, id: &SectionId) {
        match id.producer {
            Producer::Group => drop(self.groups.remove(&id.name)),
            Producer::App | Producer::Target => drop(self.others.remove(id)),
            Producer::Own => {}
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

pub(super) fn samples_key(family: &FamilyName, id: &SectionId) -> Key {
    Key::Family(family.clone(), Part::Samples(id.clone()))
}
