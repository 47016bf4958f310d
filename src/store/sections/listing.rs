//! Queries of the section table: sections in order, what they expose, sums.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::exposition::NativeHistogram;
use crate::store::sections::key::{FamilyPart, OutputKey, samples_key};
use crate::store::sections::section::Section;
use crate::store::sections::section_id::{Producer, SectionId};
use crate::store::sections::state_counts::StateCounts;
use crate::store::sections::table::SectionTable;

/// What a section exposes of one family.
#[derive(Debug, Clone)]
pub struct ShownFamily {
    /// The family's name, escaped as in the text.
    pub name: Arc<str>,
    /// When it was received, in milliseconds since 1970.
    pub updated_ms: u64,
    /// The `HELP` and `TYPE` lines.
    pub head: Bytes,
    /// The section's sample lines.
    pub samples: Bytes,
    /// The native histograms, which text cannot show.
    pub natives: Option<Arc<Vec<NativeHistogram>>>,
}

/// Sums over the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreTotals {
    /// The number of apps.
    pub apps: usize,
    /// The number of pushed groups.
    pub groups: usize,
    /// The number of sections by producer and state.
    pub states: StateCounts,
    /// Bytes of text that apps, groups and targets expose.
    pub bytes: usize,
    /// Memory in bytes of sections and aggregated families, as it counts against the
    /// limit.
    pub held: usize,
    /// The number of series, including aggregated ones. Series of verbatim texts are not known.
    pub series: usize,
}

impl SectionTable {
    /// Up to `limit` sections in order, those after `after`, without the proxy's own.
    pub fn page(&self, after: Option<&SectionId>, limit: usize) -> Vec<(SectionId, Section)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let others = self.others.range::<SectionId, _>((from, Bound::Unbounded));
        let groups = self
            .groups
            .range::<str, _>((groups_after(after), Bound::Unbounded));
        let groups = groups.map(group_id);
        let mut page: Vec<SectionId> = others.take(limit).cloned().collect();
        page.extend(groups.take(limit));
        page.sort_unstable();
        page.truncate(limit);
        let found = page.into_iter().filter_map(|id| {
            let section = self.by_id.get(&id)?.as_ref().clone();
            Some((id, section))
        });
        found.collect()
    }

    /// Calls `visit` with up to `limit` sections in order, those after `after`, without the
    /// proxy's own. Returns the last one; `None` after the end.
    pub fn visit(
        &self,
        after: Option<&SectionId>,
        limit: usize,
        mut visit: impl FnMut(&SectionId, &Section),
    ) -> Option<SectionId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let others = self.others.range::<SectionId, _>((from, Bound::Unbounded));
        let groups = self
            .groups
            .range::<str, _>((groups_after(after), Bound::Unbounded));
        let (mut others, mut groups) = (others.peekable(), groups.map(group_id).peekable());
        let mut last = None;
        for _ in 0..limit {
            let is_group = match (others.peek(), groups.peek()) {
                (Some(other), Some(group)) => group < *other,
                (other, _) => other.is_none(),
            };
            let id = match is_group {
                true => groups.next()?,
                false => others.next()?.clone(),
            };
            if let Some(section) = self.by_id.get(&id) {
                visit(&id, section);
            }
            last = Some(id);
        }
        last
    }

    pub fn section(&self, id: &SectionId) -> Option<Section> {
        self.by_id.get(id).map(|section| section.as_ref().clone())
    }

    /// The memory of a section, in bytes.
    pub fn weight_of(&self, id: &SectionId) -> usize {
        self.by_id.get(id).map_or(0, |section| section.weight)
    }

    pub fn find(&self, name: &str) -> Option<(SectionId, Section)> {
        [Producer::App, Producer::Target, Producer::Group]
            .into_iter()
            .find_map(|producer| {
                let id = SectionId::new(name, producer);
                let section = self.by_id.get(&id)?.as_ref().clone();
                Some((id, section))
            })
    }

    /// Up to `limit` groups in the order of their names, those after `after`.
    pub fn groups(&self, after: Option<&str>, limit: usize) -> Vec<(SectionId, Section)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.groups.range::<str, _>((from, Bound::Unbounded));
        names
            .take(limit)
            .filter_map(|name| {
                let id = group_id(name);
                let section = self.by_id.get(&id)?.as_ref().clone();
                Some((id, section))
            })
            .collect()
    }

    /// The text that a section exposes: families with their heads, or its verbatim
    /// text.
    pub fn pieces(&self, id: &SectionId) -> Vec<Bytes> {
        self.gather(self.by_id.get_key_value(id).into_iter())
    }

    /// Families of a section in order, those after `after`, until they have about
    /// `bytes` bytes together. Costs what is returned.
    pub fn families_of(
        &self,
        id: &SectionId,
        after: Option<&str>,
        bytes: usize,
    ) -> Vec<ShownFamily> {
        let Some(section) = self.by_id.get(id) else {
            return Vec::new();
        };
        let members = &section.members;
        let start = after.map_or(0, |after| {
            members.partition_point(|member| *member.family <= *after)
        });
        let mut left = Some(bytes);
        let mut found = Vec::new();
        for member in &members[start..] {
            let Some(room) = left else { break };
            left = room.checked_sub(member.bytes as usize + member.natives as usize + 1);
            let text = |key| self.page_list.get(&key).unwrap_or_default();
            found.push(ShownFamily {
                name: Arc::clone(member.family.shared()),
                updated_ms: member.updated_ms,
                head: text(OutputKey::Family(member.family.clone(), FamilyPart::Head)),
                samples: text(samples_key(&member.family, id)),
                natives: self.natives.get(member.family.shared(), id),
            });
        }
        found
    }

    /// The text that these sections expose together.
    pub fn pieces_of_all(&self, ids: &[SectionId]) -> Vec<Bytes> {
        let ids: BTreeSet<&SectionId> = ids.iter().collect();
        self.gather(ids.iter().filter_map(|id| self.by_id.get_key_value(id)))
    }

    /// The fragments of these sections in the order of the output.
    pub(in crate::store) fn gather<'s>(
        &self,
        sections: impl Iterator<Item = (&'s SectionId, &'s Box<Section>)>,
    ) -> Vec<Bytes> {
        let mut keys = BTreeSet::new();
        for (id, section) in sections {
            for member in section.members.iter() {
                keys.insert(OutputKey::Family(member.family.clone(), FamilyPart::Head));
                keys.insert(samples_key(&member.family, id));
            }
            if section.members.is_empty() {
                keys.insert(OutputKey::Verbatim(id.clone()));
            }
        }
        keys.iter()
            .filter_map(|key| self.page_list.get(key))
            .collect()
    }

    /// Whether all of the output is families. Verbatim texts come last, so the last key
    /// tells.
    pub fn is_merged(&self) -> bool {
        !matches!(self.page_list.last_key(), Some(OutputKey::Verbatim(_)))
    }

    pub fn totals(&self) -> StoreTotals {
        StoreTotals {
            apps: self.apps,
            groups: self.groups.len(),
            states: self.states,
            bytes: self.bytes,
            held: self.weight,
            series: match self.series_during_large_write {
                Some(series) => series,
                None => self.families.series(),
            },
        }
    }
}

/// Where the groups after `after` begin: a group follows an app and a target of the same
/// name.
fn groups_after(after: Option<&SectionId>) -> Bound<&str> {
    match after {
        None => Bound::Unbounded,
        Some(after) if after.producer < Producer::Group => Bound::Included(&*after.name),
        Some(after) => Bound::Excluded(&*after.name),
    }
}

fn group_id(name: &Arc<str>) -> SectionId {
    SectionId {
        name: Arc::clone(name),
        producer: Producer::Group,
    }
}
